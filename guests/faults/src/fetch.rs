//! A request to elsewhere, and all that can be seen of what became of it.
//!
//! `url` is where it goes, `method` how; `body` is how many bytes it has; `header=NAME:VALUE` is one of its headers.
//! `connect`, `first` and `between` are the guest's own timeouts, in milliseconds.

use crate::text::{kebab, query};
use std::collections::BTreeMap;
use std::fmt::Write;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method,
    OutgoingBody, OutgoingRequest, RequestOptions, Scheme, http_error_code,
};
use wasip2::io::streams::{InputStream, StreamError};

pub(crate) fn fetch(target: &str) -> String {
    let mut seen = String::new();
    if let Err(code) = see(&Wanted::of(target), &mut seen) {
        writeln!(seen, "error {}", kebab(&code)).ok();
    }
    seen
}

/// The same request `n` times, one after the other: how many were answered whole. Nothing else is looked at: this is measured.
pub(crate) fn many(target: &str, n: u64) -> String {
    let wanted = Wanted::of(target);
    let whole = (0..n).filter(|_| swallow(&wanted).is_ok());
    format!("{} of {n}\n", whole.count())
}

/// The same request `n` times at once, each held until the last is known: how many were answered, and how many failed, and how.
pub(crate) fn at_once(target: &str, n: u64) -> String {
    let wanted = Wanted::of(target);
    let sent: Vec<_> = (0..n).map(|_| send(&wanted)).collect();
    let answers: Vec<_> = sent.into_iter().map(|sent| answer_to(sent?)).collect();
    counted(&answers)
}

fn counted(answers: &[Result<IncomingResponse, ErrorCode>]) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for answer in answers {
        let what = match answer {
            Ok(_) => "answered".to_owned(),
            Err(code) => kebab(code),
        };
        *counts.entry(what).or_default() += 1;
    }
    let lines = counts
        .iter()
        .map(|(what, count)| format!("{count} {what}\n"));
    lines.collect()
}

/// A request, as the query says it.
struct Wanted<'a> {
    url: &'a str,
    header: Option<(&'a str, &'a str)>,
    method: Option<&'a str>,
    body: Option<u64>,
    /// In nanoseconds: until connected, until the first byte, between two.
    timeouts: [Option<u64>; 3],
}

impl<'a> Wanted<'a> {
    fn of(target: &'a str) -> Self {
        let number = |name| query(target, name).and_then(|value| value.parse::<u64>().ok());
        Self {
            url: query(target, "url").unwrap_or_default(),
            header: query(target, "header").and_then(|it| it.split_once(':')),
            method: query(target, "method"),
            body: number("body"),
            timeouts: ["connect", "first", "between"]
                .map(|name| number(name).map(|ms| ms * 1_000_000)),
        }
    }

    fn options(&self) -> Option<RequestOptions> {
        let [connect, first, between] = self.timeouts;
        connect.or(first).or(between)?;
        let options = RequestOptions::new();
        options.set_connect_timeout(connect).ok();
        options.set_first_byte_timeout(first).ok();
        options.set_between_bytes_timeout(between).ok();
        Some(options)
    }
}

fn swallow(wanted: &Wanted) -> Result<(), ErrorCode> {
    let response = answer_to(send(wanted)?)?;
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    read(&stream).1
}

fn see(wanted: &Wanted, seen: &mut String) -> Result<(), ErrorCode> {
    let response = answer_to(send(wanted)?)?;
    writeln!(seen, "status {}", response.status()).ok();
    write_fields(seen, "header", &response.headers());
    read_body(&response, seen)
}

fn answer_to(sent: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    sent.subscribe().block();
    sent.get().expect("the wait is over").expect("once")
}

fn send(wanted: &Wanted) -> Result<FutureIncomingResponse, ErrorCode> {
    let invalid = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = wanted.url.split_once("://").unwrap_or(("http", wanted.url));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let headers = Fields::new();
    if let Some((name, value)) = wanted.header {
        headers.append(name, value.as_bytes()).expect("a header");
    }
    let request = OutgoingRequest::new(headers);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    request.set_scheme(Some(&scheme)).map_err(invalid)?;
    request.set_authority(Some(authority)).map_err(invalid)?;
    request.set_path_with_query(Some(path)).map_err(invalid)?;
    if let Some(method) = wanted.method {
        request
            .set_method(&Method::Other(method.to_owned()))
            .map_err(invalid)?;
    }
    let body = wanted
        .body
        .map(|bytes| (request.body().expect("taken once"), bytes));
    let sent = outgoing_handler::handle(request, wanted.options())?;
    if let Some((body, bytes)) = body {
        write_body(body, bytes);
    }
    Ok(sent)
}

/// What nobody takes any more is left.
fn write_body(body: OutgoingBody, bytes: u64) {
    let stream = body.write().expect("taken once");
    let piece = [b'x'; 4096];
    let mut left = usize::try_from(bytes).expect("few");
    while left > 0 {
        let some = &piece[..left.min(piece.len())];
        if stream.blocking_write_and_flush(some).is_err() {
            return;
        }
        left -= some.len();
    }
    drop(stream);
    OutgoingBody::finish(body, None).ok();
}

fn read_body(response: &IncomingResponse, seen: &mut String) -> Result<(), ErrorCode> {
    let body = response.consume().expect("taken once");
    let stream = body.stream().expect("taken once");
    let (bytes, end) = read(&stream);
    writeln!(seen, "body {bytes}").ok();
    end?;
    drop(stream);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    let trailers = trailers.get().expect("the wait is over").expect("once")?;
    if let Some(trailers) = trailers {
        write_fields(seen, "trailer", &trailers);
    }
    Ok(())
}

/// All of it: how many bytes there were, and how it ended.
fn read(stream: &InputStream) -> (usize, Result<(), ErrorCode>) {
    let mut bytes = 0;
    loop {
        match stream.blocking_read(65_536) {
            Ok(piece) => bytes += piece.len(),
            Err(StreamError::Closed) => return (bytes, Ok(())),
            Err(StreamError::LastOperationFailed(error)) => {
                let code = http_error_code(&error);
                return (bytes, Err(code.unwrap_or(ErrorCode::InternalError(None))));
            }
        }
    }
}

fn write_fields(seen: &mut String, kind: &str, fields: &Fields) {
    for (name, value) in fields.entries() {
        let value = String::from_utf8_lossy(&value);
        writeln!(seen, "{kind} {name}: {value}").ok();
    }
}
