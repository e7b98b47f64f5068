//! A request's body, and the parts of a form (`multipart/form-data`, RFC 7578) in it.

use crate::answer::Answer;
use wasip2::http::types::{IncomingBody, IncomingRequest};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

/// A body; the stream is its child and goes first.
pub(crate) struct Body {
    stream: InputStream,
    _body: IncomingBody,
}

pub(crate) fn body(request: &IncomingRequest) -> Result<Body, Answer> {
    let body = request.consume().map_err(|()| broken())?;
    let stream = body.stream().map_err(|()| broken())?;
    Ok(Body {
        stream,
        _body: body,
    })
}

fn broken() -> Answer {
    Answer::text(400, "the request's body did not arrive\n")
}

fn refused(error: &StreamError) -> Answer {
    let why = match error {
        StreamError::LastOperationFailed(error) => error.to_debug_string(),
        StreamError::Closed => "the host takes no more of it".to_owned(),
    };
    Answer::text(507, &format!("the file is not kept: {why}\n"))
}

/// All of a body. The host passes the bytes on.
pub(crate) fn copy(body: &Body, to: &OutputStream) -> Result<(), Answer> {
    loop {
        // Looked at before, so that an error after it is the body's, and not that of what is written to.
        to.check_write().map_err(|error| refused(&error))?;
        match to.blocking_splice(&body.stream, PIECE as u64) {
            Ok(_) => {}
            Err(StreamError::Closed) => return Ok(()),
            Err(error) => return Err(refused(&error)),
        }
    }
}

const PIECE: usize = 64 * 1024;

/// Bytes of the head of a part.
const HEAD: usize = 16 * 1024;

/// The parts of a form, one after the other.
pub(crate) struct Parts<'a> {
    body: &'a Body,
    /// What has come and is not yet looked at.
    ahead: Vec<u8>,
    /// What begins each part but the first, and ends the last.
    boundary: Vec<u8>,
}

impl<'a> Parts<'a> {
    pub(crate) fn of(request: &IncomingRequest, body: &'a Body) -> Result<Parts<'a>, Answer> {
        let types = request.headers().get("content-type");
        let said = types.first().map(|said| String::from_utf8_lossy(said));
        let boundary = said.as_deref().and_then(|said| parameter(said, "boundary"));
        let Some(boundary) = boundary.filter(|boundary| (1..=70).contains(&boundary.len())) else {
            let message = "a form with a file is `multipart/form-data`, with a boundary\n";
            return Err(Answer::text(415, message));
        };
        Ok(Parts {
            body,
            // As if there had been a part before the first.
            ahead: b"\r\n".to_vec(),
            boundary: format!("\r\n--{boundary}").into_bytes(),
        })
    }

    /// Goes to the next file and gives its name.
    pub(crate) fn next_file(&mut self) -> Result<Option<String>, Answer> {
        loop {
            self.until_boundary(|_| Ok(()))?;
            let Some(head) = self.head()? else {
                return Ok(None);
            };
            let disposition = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                let is_it = name.eq_ignore_ascii_case("content-disposition");
                is_it.then_some(value)
            });
            let name = disposition.and_then(|value| parameter(value, "filename"));
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                return Ok(Some(name));
            }
        }
    }

    /// The rest of this part.
    pub(crate) fn copy(&mut self, to: &OutputStream) -> Result<(), Answer> {
        self.until_boundary(|bytes| write(to, bytes))
    }

    /// Gives what there is before the next boundary, and goes behind that.
    fn until_boundary(
        &mut self,
        mut found: impl FnMut(&[u8]) -> Result<(), Answer>,
    ) -> Result<(), Answer> {
        loop {
            if let Some(at) = position(&self.ahead, &self.boundary) {
                found(&self.ahead[..at])?;
                self.ahead.drain(..at + self.boundary.len());
                return Ok(());
            }
            // It may have begun.
            let sure = self.ahead.len().saturating_sub(self.boundary.len());
            found(&self.ahead[..sure])?;
            self.ahead.drain(..sure);
            if !self.read()? {
                return Err(broken());
            }
        }
    }

    /// The head of the part that begins here; none if the form ends.
    fn head(&mut self) -> Result<Option<String>, Answer> {
        loop {
            if self.ahead.starts_with(b"--") {
                return Ok(None);
            }
            if let Some(at) = position(&self.ahead, b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.ahead[..at]).into_owned();
                // Its last line end may be the first of a boundary.
                self.ahead.drain(..at + 2);
                if !self.ahead.starts_with(&self.boundary) {
                    self.ahead.drain(..2);
                }
                return Ok(Some(head));
            }
            if self.ahead.len() > HEAD || !self.read()? {
                return Err(broken());
            }
        }
    }

    /// Whether there was more.
    fn read(&mut self) -> Result<bool, Answer> {
        match self.body.stream.blocking_read(PIECE as u64) {
            Ok(bytes) => {
                self.ahead.extend(bytes);
                Ok(true)
            }
            Err(StreamError::Closed) => Ok(false),
            Err(_) => Err(broken()),
        }
    }
}

fn write(to: &OutputStream, mut bytes: &[u8]) -> Result<(), Answer> {
    while !bytes.is_empty() {
        let room = to.check_write().map_err(|error| refused(&error))?;
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        if room == 0 {
            to.subscribe().block();
            continue;
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(room));
        to.write(piece).map_err(|error| refused(&error))?;
        bytes = rest;
    }
    Ok(())
}

/// A parameter of a header's value, with or without quotes. A browser writes `"` in a name as `%22`.
fn parameter(value: &str, name: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"').to_owned();
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

/// Both that are looked for begin with a carriage return.
fn position(bytes: &[u8], of: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + bytes[from..].iter().position(|byte| *byte == of[0])?;
        if bytes[at..].starts_with(of) {
            return Some(at);
        }
        from = at + 1;
    }
}
