//! A reverse proxy: every request goes to `UPSTREAM`, a variable such as `https://example.com`, and the answer comes back as it
//! streams. The host must allow it, with `[outbound] allow = ["https://example.com"]` or `--allow-outbound`.
//!
//! Answers that say how long they may be kept (`cache-control: max-age`) are kept in memory, and answered from there: as long
//! as this instance lives, so it is worth having it used more than once.

mod cache;
mod stream;

use cache::Kept;
use std::time::Instant;
use stream::{Copy, Step};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingRequest, IncomingResponse,
    Method, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam, Scheme,
    http_error_code,
};
use wasip2::io::poll::poll;
use wasip2::io::streams::StreamError;

struct Fetch;

wasip2::http::proxy::export!(Fetch);

impl Guest for Fetch {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let is_get = matches!(request.method(), Method::Get) && is_for_everybody(&request);
        if let Some(kept) = cache::find(&target).filter(|_| is_get) {
            return answer(&kept, "hit", out);
        }
        let upstream = std::env::var("UPSTREAM").unwrap_or_default();
        let sent = match split(&upstream) {
            Some((scheme, authority)) => Exchange::with(scheme, authority, &target, &request),
            // Nobody has said where to go.
            None => Err(ErrorCode::ConfigurationError),
        };
        match sent {
            Ok(exchange) => exchange.answer(target.clone(), is_get, out),
            // What the host refuses is an error here.
            Err(code) => ResponseOutparam::set(out, Err(code)),
        }
    }
}

/// Nothing in a request says who asks, or for what part.
fn is_for_everybody(request: &IncomingRequest) -> bool {
    let headers = request.headers();
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

/// A request that is on its way.
struct Exchange {
    answer: FutureIncomingResponse,
    body: Option<Copy>,
}

impl Exchange {
    fn with(
        scheme: Scheme,
        authority: &str,
        target: &str,
        asked: &IncomingRequest,
    ) -> Result<Self, ErrorCode> {
        let request = OutgoingRequest::new(asked.headers().clone());
        let invalid = |()| ErrorCode::HttpRequestUriInvalid;
        request.set_method(&asked.method()).map_err(invalid)?;
        request.set_scheme(Some(&scheme)).map_err(invalid)?;
        request.set_authority(Some(authority)).map_err(invalid)?;
        request.set_path_with_query(Some(target)).map_err(invalid)?;
        // A request without a body is sent as one.
        let body = has_body(asked).then(|| {
            let from = asked.consume().expect("the body is taken once");
            let to = request.body().expect("the body is taken once");
            Copy::of(from, to)
        });
        Ok(Self {
            answer: outgoing_handler::handle(request, None)?,
            body,
        })
    }

    /// Copies both bodies, each as far as it goes, and waits when neither does.
    fn answer(mut self, target: String, is_get: bool, out: ResponseOutparam) {
        let mut out = Some(out);
        let mut response: Option<Copy> = None;
        loop {
            advance(&mut self.body);
            if out.is_some()
                && let Some(answer) = self.answer.get()
            {
                let out = out.take().expect("answered once");
                let answer = match answer.expect("asked once") {
                    Ok(answer) => answer,
                    Err(code) => return ResponseOutparam::set(out, Err(code)),
                };
                let (status, fields) = (answer.status(), answer.headers().entries());
                if is_get && let Some(age) = cache::age(status, &fields) {
                    return match read(&answer) {
                        Ok(body) => {
                            let kept = Kept {
                                status,
                                fields,
                                body,
                                until: Instant::now() + age,
                            };
                            self::answer(&kept, "miss", out);
                            cache::keep(target, kept);
                        }
                        Err(code) => ResponseOutparam::set(out, Err(code)),
                    };
                }
                response = Some(respond(&answer, out));
            }
            advance(&mut response);
            if out.is_none() && response.is_none() {
                return; // who has answered need not read the rest of the request
            }
            let mut events: Vec<_> = [&self.body, &response]
                .into_iter()
                .filter_map(|copy| copy.as_ref().map(Copy::next))
                .collect();
            if out.is_some() {
                events.push(self.answer.subscribe());
            }
            poll(&events.iter().collect::<Vec<_>>());
        }
    }
}

/// GET and its like have one only if they say so.
fn has_body(request: &IncomingRequest) -> bool {
    let headers = request.headers();
    let is_bare = matches!(
        request.method(),
        Method::Get | Method::Head | Method::Options | Method::Delete | Method::Trace
    );
    !is_bare || headers.has("content-length") || headers.has("trailer")
}

/// Reads an answer whole.
fn read(answer: &IncomingResponse) -> Result<Vec<u8>, ErrorCode> {
    let from = answer.consume().expect("the body is taken once");
    let stream = from.stream().expect("one reader");
    let mut body = Vec::new();
    loop {
        match stream.blocking_read(65_536) {
            Ok(piece) => body.extend(piece),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error).unwrap_or(ErrorCode::HttpResponseIncomplete));
            }
        }
    }
    drop(stream);
    drop(IncomingBody::finish(from));
    Ok(body)
}

/// Answers with something that is kept.
fn answer(kept: &Kept, how: &str, out: ResponseOutparam) {
    let headers = Fields::from_list(&kept.headers(how)).expect("headers that the host gave");
    let response = OutgoingResponse::new(headers);
    response
        .set_status_code(kept.status)
        .expect("a status that the host gave");
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("one writer");
    for piece in kept.body.chunks(4096) {
        if stream.blocking_write_and_flush(piece).is_err() {
            return; // nobody reads it any more
        }
    }
    drop(stream);
    OutgoingBody::finish(body, None).ok();
}

/// Hands the head of the answer on; its body is to be copied.
fn respond(answer: &IncomingResponse, out: ResponseOutparam) -> Copy {
    let response = OutgoingResponse::new(answer.headers().clone());
    response
        .set_status_code(answer.status())
        .expect("a status that the host gave");
    let from = answer.consume().expect("the body is taken once");
    let to = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    Copy::of(from, to)
}

/// Copies what is there. A body that breaks off is dropped and not finished, so that its reader can tell; one that nobody
/// reads any more is no error.
fn advance(copy: &mut Option<Copy>) {
    let Some(step) = copy.as_mut().map(Copy::step) else {
        return;
    };
    match step {
        Step::Waits => {}
        Step::Broken => *copy = None,
        Step::Ended => {
            if let Some((from, to)) = copy.take().map(Copy::into_bodies) {
                finish(from, to).ok();
            }
        }
    }
}

/// What came after the body goes after the other.
fn finish(from: IncomingBody, to: OutgoingBody) -> Result<(), ErrorCode> {
    let trailers = IncomingBody::finish(from);
    trailers.subscribe().block();
    let trailers: Option<Fields> = trailers
        .get()
        .expect("the wait is over")
        .expect("asked once")?;
    OutgoingBody::finish(to, trailers)
}
