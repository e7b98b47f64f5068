//! Statuses, lengths and headers that a host should look at twice.

use crate::answer::{answer, start, start_with, with_text};
use crate::text::BAD_FIELDS;
use std::fmt::Write;
use wasip3::http::types::{Fields, Response, StatusCode};
use wasip3::spawn_local;

pub(crate) fn status(code: StatusCode) -> Response {
    let (response, body) = start_with(Fields::new());
    if response.set_status_code(code).is_err() {
        return answer(&format!("refused: {code}\n"));
    }
    if matches!(code, 100..=199 | 204 | 304) {
        spawn_local(body.finish(None));
        return response;
    }
    with_text((response, body), &format!("status {code}\n"))
}

pub(crate) fn no_body_status(code: StatusCode) -> Response {
    with_text(start(code, &[]), "body")
}

/// Says one length and writes another.
pub(crate) fn length(said: usize, written: &'static [u8]) -> Response {
    let (response, mut body) = start(200, &[("content-length", &said.to_string())]);
    spawn_local(async move {
        body.write(written.to_vec()).await.ok();
        body.finish(None).await;
    });
    response
}

/// Headers that belong to a connection and not to a handler.
const HOP_BY_HOP: [(&str, &str); 7] = [
    ("connection", "close"),
    ("keep-alive", "timeout=5"),
    ("transfer-encoding", "chunked"),
    ("upgrade", "h2c"),
    ("te", "trailers"),
    ("trailer", "x-t"),
    ("proxy-connection", "keep-alive"),
];

pub(crate) fn hop_by_hop() -> Response {
    let headers = Fields::new();
    let mut text = String::new();
    for (name, value) in HOP_BY_HOP {
        let verdict = if headers.append(name, value.as_bytes()).is_ok() {
            "ok"
        } else {
            "refused"
        };
        writeln!(text, "{name}: {verdict}").ok();
    }
    with_text(start_with(headers), &text)
}

/// Tries [`BAD_FIELDS`], and says how many were taken.
pub(crate) fn bad_headers() -> Response {
    let headers = Fields::new();
    let tried = BAD_FIELDS.into_iter();
    let taken = tried.filter(|(name, value)| headers.append(name, value).is_ok());
    let text = format!("taken: {}\n", taken.count());
    with_text(start_with(headers), &text)
}

/// `n` headers of 1 KiB. Of 200, the default, wasmtime takes 128 KiB and refuses the rest: in 0.2 it traps.
pub(crate) fn big_head(n: u64) -> Response {
    let headers = Fields::new();
    let accepted = (0..n)
        .filter(|n| headers.append(&format!("x-{n:03}"), &[b'x'; 1024]).is_ok())
        .count();
    with_text(start_with(headers), &format!("accepted {accepted}\n"))
}
