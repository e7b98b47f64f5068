//! What the client gets.

use std::io::Write as _;

use wasip2::http::types::{Fields, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::{InputStream, StreamError};

/// Status, headers and a body.
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Body,
}

enum Body {
    Text(String),
    /// So many bytes of a stream.
    Stream(InputStream, u64),
}

impl Answer {
    pub(crate) fn text(status: u16, text: &str) -> Answer {
        Answer {
            status,
            headers: Vec::new(),
            body: Body::Text(text.to_owned()),
        }
        .with("content-type", "text/plain; charset=utf-8")
    }

    pub(crate) fn html(page: &str) -> Answer {
        let mut answer = Answer::text(200, page);
        answer.headers.clear();
        answer.with("content-type", "text/html; charset=utf-8")
    }

    /// A file of a stranger: to be saved, and never to be run as a page of this site.
    pub(crate) fn file(stream: InputStream, size: u64) -> Answer {
        Answer {
            status: 200,
            headers: Vec::new(),
            body: Body::Stream(stream, size),
        }
        .with("content-type", "application/octet-stream")
        .with("content-disposition", "attachment")
        .with("x-content-type-options", "nosniff")
        .with("content-length", &size.to_string())
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn send(self, out: ResponseOutparam) {
        let headers = Fields::new();
        for (name, value) in &self.headers {
            headers.append(name, value.as_bytes()).ok();
        }
        let response = OutgoingResponse::new(headers);
        response.set_status_code(self.status).ok();
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        let Ok(mut to) = body.write() else { return };
        let is_whole = match self.body {
            Body::Text(text) => to.write_all(text.as_bytes()).is_ok(),
            Body::Stream(from, mut left) => loop {
                if left == 0 {
                    break true;
                }
                // The host passes the bytes on; they do not come into this guest's memory.
                match to.blocking_splice(&from, left) {
                    Ok(bytes) => left -= bytes,
                    Err(StreamError::Closed | StreamError::LastOperationFailed(_)) => break false,
                }
            },
        };
        drop(to);
        // One that broke off must not look complete.
        if is_whole {
            OutgoingBody::finish(body, None).ok();
        }
    }
}
