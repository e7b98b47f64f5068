//! A reverse proxy: every request goes to `UPSTREAM`, a variable such as `https://example.com`, and the answer comes back as it
//! streams. The host must allow it, with `[outbound] allow = ["https://example.com"]` or `--allow-outbound`.
//!
//! Answers that say how long they may be kept (`cache-control: max-age`) are kept in memory, and answered from there: as long
//! as this instance lives, so it is worth having it used more than once.
//!
//! In wasi:http 0.3 body and trailers are values. What is not kept is taken out of the one message and put into the other, so
//! it streams both ways without this guest.
#![cfg(target_arch = "wasm32")] // only a guest can do this: natively the crate is empty

#[path = "../../fetch/src/cache.rs"]
mod cache;

use cache::Kept;
use std::time::Instant;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, Response, Scheme};
use wasip3::{spawn_local, wit_future, wit_stream};

struct Fetch;

wasip3::http::service::export!(Fetch);

impl Guest for Fetch {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let is_get =
            matches!(request.get_method(), Method::Get) && is_for_everybody(&request.get_headers());
        if let Some(kept) = cache::find(&target).filter(|_| is_get) {
            return answer(&kept, "hit");
        }
        let upstream = std::env::var("UPSTREAM").unwrap_or_default();
        // Nobody has said where to go.
        let (scheme, authority) = split(&upstream).ok_or(ErrorCode::ConfigurationError)?;
        // What the host refuses is an error here.
        let received = client::send(sent(&scheme, authority, &target, request)?).await?;

        let status = received.get_status_code();
        let headers = received.get_headers().clone();
        // The futures tell how reading went; dropping the writer says "well".
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(received, read);
        let fields = headers.copy_all();
        if is_get && let Some(age) = cache::age(status, &fields) {
            let body = body.collect().await;
            // Here it is said if the body broke off.
            trailers.await?;
            let kept = Kept {
                status,
                fields,
                body,
                until: Instant::now() + age,
            };
            let answer = answer(&kept, "miss");
            cache::keep(target, kept);
            return answer;
        }
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        with_status(response, status)
    }
}

/// Nothing in a request says who asks, or for what part.
fn is_for_everybody(headers: &Fields) -> bool {
    !["authorization", "cookie", "range"]
        .iter()
        .any(|name| headers.has(name))
}

/// `https://example.com` as its two parts.
fn split(upstream: &str) -> Option<(Scheme, &str)> {
    let (scheme, authority) = upstream.trim_end_matches('/').split_once("://")?;
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        _ => return None,
    };
    (!authority.is_empty()).then_some((scheme, authority))
}

/// What was asked, as it goes to the other server.
fn sent(
    scheme: &Scheme,
    authority: &str,
    target: &str,
    asked: Request,
) -> Result<Request, ErrorCode> {
    let method = asked.get_method();
    let headers = asked.get_headers().clone();
    // A request without a body is sent as one.
    let (body, trailers) = if has_body(&method, &headers) {
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(asked, read);
        (Some(body), trailers)
    } else {
        let (_, no_trailers) = wit_future::new(|| Ok(None));
        (None, no_trailers)
    };
    let (request, _sent) = Request::new(headers, body, trailers, None);
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    request.set_method(&method).map_err(invalid)?;
    request.set_scheme(Some(scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(target)).map_err(invalid)?;
    Ok(request)
}

/// GET and its like have one only if they say so.
fn has_body(method: &Method, headers: &Fields) -> bool {
    let is_bare = matches!(
        method,
        Method::Get | Method::Head | Method::Options | Method::Delete | Method::Trace
    );
    !is_bare || headers.has("content-length") || headers.has("trailer")
}

/// Answers with something that is kept. The body is left to a task, which goes on after the head.
fn answer(kept: &Kept, how: &str) -> Result<Response, ErrorCode> {
    let headers = Fields::from_list(&kept.headers(how)).expect("headers that the host gave");
    let (mut stream, contents) = wit_stream::new();
    let (_, no_trailers) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(headers, Some(contents), no_trailers);
    let body = kept.body.clone();
    spawn_local(async move {
        // What nobody reads any more is left.
        stream.write_all(body).await;
    });
    with_status(response, kept.status)
}

fn with_status(response: Response, status: u16) -> Result<Response, ErrorCode> {
    response
        .set_status_code(status)
        .map_err(|()| ErrorCode::HttpProtocolError)?;
    Ok(response)
}
