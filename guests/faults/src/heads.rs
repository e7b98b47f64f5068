//! Statuses, lengths and headers that a host should look at twice.

use crate::answer::{answer, send, start};
use crate::text::BAD_FIELDS;
use std::fmt::Write;
use wasip2::http::types::{Fields, OutgoingResponse, ResponseOutparam, StatusCode};

pub(crate) fn status(out: ResponseOutparam, code: StatusCode) {
    let response = OutgoingResponse::new(Fields::new());
    if response.set_status_code(code).is_err() {
        return answer(out, &format!("refused: {code}\n"));
    }
    let mut body = send(out, response);
    if !matches!(code, 100..=199 | 204 | 304) {
        body.write(format!("status {code}\n").as_bytes()).ok();
    }
    body.finish(None);
}

pub(crate) fn no_body_status(out: ResponseOutparam, code: StatusCode) {
    let mut body = start(out, code, &[]);
    body.write(b"body").ok();
    body.finish(None);
}

/// Says one length and writes another.
pub(crate) fn length(out: ResponseOutparam, said: usize, written: &[u8]) {
    let mut body = start(out, 200, &[("content-length", &said.to_string())]);
    body.write(written).ok();
    body.finish(None);
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

pub(crate) fn hop_by_hop(out: ResponseOutparam) {
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
    send_text(out, headers, &text);
}

/// Tries [`BAD_FIELDS`], and says how many were taken.
pub(crate) fn bad_headers(out: ResponseOutparam) {
    let headers = Fields::new();
    let tried = BAD_FIELDS.into_iter();
    let taken = tried.filter(|(name, value)| headers.append(name, value).is_ok());
    let text = format!("taken: {}\n", taken.count());
    send_text(out, headers, &text);
}

/// `n` headers of 1 KiB. Of 200, the default, wasmtime takes 128 KiB and ends the guest that tries more.
pub(crate) fn big_head(out: ResponseOutparam, n: u64) {
    let headers = Fields::new();
    let accepted = (0..n)
        .filter(|n| headers.append(&format!("x-{n:03}"), &[b'x'; 1024]).is_ok())
        .count();
    send_text(out, headers, &format!("accepted {accepted}\n"));
}

fn send_text(out: ResponseOutparam, headers: Fields, text: &str) {
    let mut body = send(out, OutgoingResponse::new(headers));
    body.write(text.as_bytes()).ok();
    body.finish(None);
}
