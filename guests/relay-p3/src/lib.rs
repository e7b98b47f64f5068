//! Calls another handler of the same host: `/NAME/PATH` is answered by the handler NAME, asked for `/PATH`. The host must
//! allow it, with `calls = ["NAME"]` or `--allow-call NAME`.
//!
//! In wasi:http 0.3 body and trailers are values. They are taken out of the one request and put into the other, and the
//! same with the responses, so they stream both ways without this guest.

use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Request, Response, Scheme};
use wasip3::wit_future;

struct Relay;

wasip3::http::service::export!(Relay);

impl Guest for Relay {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let Some((name, path)) = split(&target) else {
            return Err(ErrorCode::DestinationNotFound);
        };
        let (authority, path) = (format!("{name}.handler.internal"), path.to_owned());
        let method = request.get_method();
        let headers = request.get_headers().clone();

        // The futures tell how reading went; dropping the writer says "well".
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Request::consume_body(request, read);
        let (call, _sent) = Request::new(headers, Some(body), trailers, None);
        let invalid = |()| ErrorCode::HttpRequestUriInvalid;
        call.set_method(&method).map_err(invalid)?;
        call.set_scheme(Some(&Scheme::Http)).map_err(invalid)?;
        call.set_authority(Some(&authority)).map_err(invalid)?;
        call.set_path_with_query(Some(&path)).map_err(invalid)?;
        // What the host refuses is an error here, and what the other handler answers is not, also if it is a 500.
        let answer = client::send(call).await?;

        let status = answer.get_status_code();
        let headers = answer.get_headers().clone();
        let (_, read) = wit_future::new(|| Ok(()));
        let (body, trailers) = Response::consume_body(answer, read);
        let (response, _sent) = Response::new(headers, Some(body), trailers);
        response
            .set_status_code(status)
            .map_err(|()| ErrorCode::HttpProtocolError)?;
        Ok(response)
    }
}

/// `/NAME/PATH` as the name and `/PATH`.
fn split(target: &str) -> Option<(&str, &str)> {
    let rest = target.strip_prefix('/')?;
    let (name, path) = rest.split_at(rest.find('/')?);
    (!name.is_empty()).then_some((name, path))
}
