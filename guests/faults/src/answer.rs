//! Sending a response in wasi:http 0.2: the head first, then a body that must be finished.

use std::io::{Result, Write};
use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam, StatusCode};
use wasip2::io::streams::OutputStream;

pub(crate) fn answer(out: ResponseOutparam, text: &str) {
    status(out, 200, text);
}

pub(crate) fn status(out: ResponseOutparam, status: StatusCode, text: &str) {
    let mut body = start(out, status, &[("content-type", "text/plain")]);
    body.write(text.as_bytes()).ok();
    body.finish(None);
}

/// Sends the head. The status must be one that the host takes.
pub(crate) fn start(out: ResponseOutparam, status: StatusCode, headers: &[(&str, &str)]) -> Body {
    let response = OutgoingResponse::new(fields(headers));
    response
        .set_status_code(status)
        .expect("a status the host takes");
    send(out, response)
}

pub(crate) fn send(out: ResponseOutparam, response: OutgoingResponse) -> Body {
    let body = response.body().expect("the body is taken once");
    ResponseOutparam::set(out, Ok(response));
    Body {
        stream: body.write().expect("one writer"),
        body,
    }
}

pub(crate) fn fields(pairs: &[(&str, &str)]) -> Fields {
    let fields = Fields::new();
    for (name, value) in pairs {
        fields
            .append(name, value.as_bytes())
            .expect("a header the host takes");
    }
    fields
}

/// A body on its way. Dropped, it is cut off; only `finish` makes it whole.
pub(crate) struct Body {
    stream: OutputStream, // the stream is the body's child and must go first: fields drop in this order
    body: OutgoingBody,
}

impl Body {
    /// Returns once the host has taken the bytes.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes)?;
        Write::flush(&mut self.stream)
    }

    /// An error here means that the client is gone or content-length was wrong: the host knows.
    pub(crate) fn finish(self, trailers: Option<Fields>) {
        drop(self.stream);
        OutgoingBody::finish(self.body, trailers).ok();
    }
}
