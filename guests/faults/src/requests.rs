//! What arrived, told back.

use crate::answer::{answer, fields, start, status};
use crate::text::{Fnv, hex, kebab, variant};
use std::fmt::Write;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method, ResponseOutparam, Scheme,
    http_error_code,
};
use wasip2::io::streams::StreamError;

/// The body's length and hash; 400 with the error's name if it ended early.
pub(crate) fn read(request: &IncomingRequest, out: ResponseOutparam) {
    let (mut length, mut hash) = (0, Fnv::new());
    let end = consume(request, |bytes| {
        length += bytes.len();
        hash.add(bytes);
    });
    match end {
        Ok(_) => answer(out, &format!("{length} {:016x}\n", hash.0)),
        Err(error) => status(out, 400, &format!("{error}\n")),
    }
}

pub(crate) fn trailers(request: &IncomingRequest, out: ResponseOutparam) {
    match consume(request, |_| {}) {
        Ok(trailers) => {
            let mut text = String::new();
            for (name, value) in trailers.iter().flat_map(Fields::entries) {
                writeln!(text, "{name}: {}", String::from_utf8_lossy(&value)).ok();
            }
            answer(out, &text);
        }
        Err(error) => status(out, 400, &format!("{error}\n")),
    }
}

/// A gRPC method that streams both ways: each message comes back as it arrives, and then `grpc-status`.
pub(crate) fn grpc(request: &IncomingRequest, out: ResponseOutparam) {
    let mut body = start(out, 200, &[("content-type", "application/grpc")]);
    let status = match consume(request, |bytes| drop(body.write(bytes))) {
        Ok(_) => "0",
        Err(_) => "1", // cancelled
    };
    body.finish(Some(fields(&[("grpc-status", status)])));
}

pub(crate) fn headers(request: &IncomingRequest, out: ResponseOutparam) {
    let mut text = String::new();
    for (name, value) in request.headers().entries() {
        writeln!(text, "{name}\t{}", hex(&value)).ok();
    }
    answer(out, &text);
}

pub(crate) fn request(request: &IncomingRequest, out: ResponseOutparam) {
    let method = match request.method() {
        Method::Other(name) => name,
        known => variant(&known).to_uppercase(),
    };
    let scheme = request.scheme().map(|scheme| match scheme {
        Scheme::Other(name) => name,
        known => variant(&known).to_lowercase(),
    });
    let none = || "none".to_owned();
    let text = format!(
        "method: {method}\nscheme: {}\nauthority: {}\npath_with_query: {}\n",
        scheme.unwrap_or_else(none),
        request.authority().unwrap_or_else(none),
        request.path_with_query().unwrap_or_else(none),
    );
    answer(out, &text);
}

/// Reads the body to its end, and then what came after it.
fn consume(
    request: &IncomingRequest,
    mut take: impl FnMut(&[u8]),
) -> Result<Option<Fields>, String> {
    let body = request.consume().expect("the body is taken once");
    let stream = body.stream().expect("one reader");
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(bytes) => take(&bytes),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(error)) => {
                return Err(http_error_code(&error)
                    .map_or_else(|| error.to_debug_string(), |code| kebab(&code)));
            }
        }
    }
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    trailers
        .get()
        .expect("the wait is over")
        .expect("asked once")
        .map_err(|code: ErrorCode| kebab(&code))
}
