//! The requests of an HTTP/1 connection on their way to hyper (RFC 9112): where each begins and ends, and whether its
//! head may pass.
//!
//! hyper answers a head that it cannot read by itself, with an empty response that nobody else learns of, and it reads
//! more than it should: bare LF, two ways to frame one body. So a head that may not pass is held back here, and hyper
//! gets [`STAND_IN`] in its place, which is answered in its turn like any other request, and is the last.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::{Method, Uri};
use tokio::io::ReadBuf;

use super::chunks::{Chunks, Malformed};
use super::{Config, HeadFault};

/// What hyper reads in place of a head that may not pass.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// How far the reading of a connection is.
pub(super) struct Intake {
    max_head_bytes: usize,
    max_headers: usize,
    place: Place,
    /// A head that is not complete
    held: BytesMut,
    /// What hyper gets before anything else
    ready: Bytes,
    /// Heads that have passed
    heads: u64,
}

/// What the next byte belongs to.
enum Place {
    Head,
    /// A body with that many bytes to come
    Length(u64),
    Chunks(Chunks),
    /// Nothing: what comes after a head that was refused is not read
    Refused,
    /// Nobody knows: the framing of a body is broken
    Lost,
}

/// A head that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct RefusedHead {
    /// How many requests go before it
    pub(super) after: u64,
    pub(super) fault: HeadFault,
}

impl Intake {
    pub(super) fn new(config: &Config) -> Intake {
        Intake {
            max_head_bytes: config.max_head_bytes,
            max_headers: config.max_headers,
            place: Place::Head,
            held: BytesMut::new(),
            ready: Bytes::new(),
            heads: 0,
        }
    }

    /// Whether a head has begun and is not complete. An empty line before it is nothing (RFC 9112, section 2.2).
    pub(super) fn is_in_head(&self) -> bool {
        self.held.iter().any(|byte| !b"\r\n".contains(byte))
    }

    pub(super) fn has_refused(&self) -> bool {
        matches!(self.place, Place::Refused)
    }

    /// Whether the framing of a body is broken, so that nothing behind it can be read.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    /// Whether the last request has come with all of its body.
    pub(super) fn is_between(&self) -> bool {
        matches!(self.place, Place::Head) && self.ready.is_empty()
    }

    /// Gives hyper what it may have without more bytes from the client.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let bytes = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready.split_to(bytes));
    }

    /// Looks at what came, and leaves in `buffer` what hyper may have now. Gives the head that may not pass, if there
    /// is one.
    pub(super) fn look(&mut self, buffer: &mut ReadBuf<'_>) -> Option<RefusedHead> {
        // Nearly always all of it passes, and then nothing is copied.
        if self.held.is_empty() {
            let (passing, refusal) = self.scan(buffer.filled());
            if matches!(self.place, Place::Head) {
                self.held.extend_from_slice(&buffer.filled()[passing..]);
            }
            buffer.set_filled(passing);
            return refusal;
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(buffer.filled());
        let has_line = buffer.filled().contains(&b'\n');
        buffer.clear();
        if !has_line && held.len() <= self.max_head_bytes {
            // A head ends with a line: to read it at each byte would cost the square of its length.
            self.held = held;
            return None;
        }
        let (passing, refusal) = self.scan(&held);
        let rest = held.split_off(passing);
        if matches!(self.place, Place::Head) {
            self.held = rest;
        }
        // What stands in for a refused head.
        held.extend_from_slice(&self.ready);
        self.ready = held.freeze();
        self.give(buffer);
        refusal
    }

    /// Refuses the head that has begun, or the next.
    pub(super) fn refuse(&mut self, fault: HeadFault) -> RefusedHead {
        self.place = Place::Refused;
        self.held = BytesMut::new();
        self.ready = Bytes::from_static(STAND_IN);
        RefusedHead {
            after: self.heads,
            fault,
        }
    }

    /// How many of the bytes pass, and the head behind them if it may not.
    fn scan(&mut self, bytes: &[u8]) -> (usize, Option<RefusedHead>) {
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.place {
                Place::Head => match read_head(rest, self.max_head_bytes, self.max_headers) {
                    Ok(Some((length, body))) => {
                        at += length;
                        self.heads += 1;
                        self.place = body;
                    }
                    Ok(None) => break,
                    Err(fault) => return (at, Some(self.refuse(fault))),
                },
                Place::Length(left) => {
                    let bytes =
                        usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    at += bytes;
                    *left -= bytes as u64;
                    if *left == 0 {
                        self.place = Place::Head;
                    }
                }
                Place::Chunks(chunks) => match chunks.read(rest) {
                    Ok(bytes) => {
                        at += bytes;
                        if chunks.is_at_end() {
                            self.place = Place::Head;
                        }
                    }
                    Err(Malformed) => self.place = Place::Lost,
                },
                Place::Refused | Place::Lost => break,
            }
        }
        (at, None)
    }
}

/// The length of a head, and what follows it; none if it is not complete.
fn read_head(
    bytes: &[u8],
    max_bytes: usize,
    max_fields: usize,
) -> Result<Option<(usize, Place)>, HeadFault> {
    // Most have few fields: those of the default lie on the stack.
    let mut few = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut many = Vec::new();
    let fields = if max_fields <= USUAL_FIELDS {
        &mut few[..max_fields]
    } else {
        many.resize_with(max_fields, MaybeUninit::uninit);
        &mut many[..]
    };
    let empty = bytes.iter().take_while(|byte| b"\r\n".contains(byte));
    if empty.count() > MAX_EMPTY_BYTES {
        return Err(HeadFault::Malformed(
            "there is no request among empty lines",
        ));
    }
    let mut head = httparse::Request::new(&mut []);
    let parsed = head.parse_with_uninit_headers(bytes, fields);
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= max_bytes => length,
        Ok(httparse::Status::Partial) if bytes.len() <= max_bytes => return Ok(None),
        Ok(_) if first_line(bytes) > max_bytes => return Err(HeadFault::TargetTooLong),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadFault::TooLarge),
        Err(error) => return Err(HeadFault::Malformed(what_is_wrong(error))),
    };
    // httparse takes LF for the end of a line; who stands before us may not, and then sees other requests than we.
    if has_bare_lf(&bytes[..length]) {
        return Err(HeadFault::Malformed("a line of the head ends without CR"));
    }
    if Method::from_bytes(head.method.unwrap_or_default().as_bytes()).is_err() {
        return Err(HeadFault::Malformed("the method is not valid"));
    }
    let target = head.path.unwrap_or_default();
    if target.len() > MAX_TARGET_BYTES {
        return Err(HeadFault::TargetTooLong);
    }
    // A fragment is no part of a request; `Uri` would drop it, and who stands before us may not have.
    if target.contains('#') || Uri::try_from(target).is_err() {
        return Err(HeadFault::Malformed("the request's target is not valid"));
    }
    let body = framing(head.headers, head.version == Some(1))?;
    Ok(Some((length, body)))
}

/// RFC 9112, section 6.3, and stricter: a body is framed in one way, said once. Whoever says more means to be read in
/// two ways.
fn framing(fields: &[httparse::Header<'_>], is_http_11: bool) -> Result<Place, HeadFault> {
    let (mut length, mut coding) = (None, None);
    for field in fields {
        if field.name.len() > MAX_NAME_BYTES {
            return Err(HeadFault::TooLarge);
        }
        let place = if field.name.eq_ignore_ascii_case("content-length") {
            &mut length
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            &mut coding
        } else {
            continue;
        };
        if place.replace(field.value).is_some() {
            return Err(HeadFault::Malformed(
                "the length of the body is given twice",
            ));
        }
    }
    match (length, coding) {
        (None, None) => Ok(Place::Head),
        (Some(_), Some(_)) => Err(HeadFault::Malformed(
            "the request has both Content-Length and Transfer-Encoding",
        )),
        (Some(digits), None) => match length_of(digits) {
            Some(0) => Ok(Place::Head),
            Some(length) => Ok(Place::Length(length)),
            None => Err(HeadFault::Malformed("the Content-Length is not one number")),
        },
        (None, Some(coding)) if is_http_11 && coding.eq_ignore_ascii_case(b"chunked") => {
            Ok(Place::Chunks(Chunks::new()))
        }
        (None, Some(_)) => Err(HeadFault::Malformed(
            "the request's Transfer-Encoding is not `chunked`, once",
        )),
    }
}

/// Digits and nothing else; above 2^63 it is an attack on somebody's arithmetic.
pub(super) fn length_of(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    u64::try_from(length).ok()
}

/// Bytes to the end of the first line, or so far.
fn first_line(head: &[u8]) -> usize {
    let end = head.iter().position(|&byte| byte == b'\n');
    end.map_or(head.len(), |end| end + 1)
}

fn has_bare_lf(head: &[u8]) -> bool {
    let mut before = 0;
    head.iter().any(|&byte| {
        let is_bare = byte == b'\n' && before != b'\r';
        before = byte;
        is_bare
    })
}

fn what_is_wrong(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a header is not valid",
        httparse::Error::HeaderValue => "the value of a header is not valid",
        httparse::Error::Version => "the version is neither HTTP/1.1 nor HTTP/1.0",
        _ => "this is not an HTTP request",
    }
}

/// Fields that lie on the stack while a head is read: the default ceiling.
const USUAL_FIELDS: usize = 100;

/// What `http::Uri` takes.
pub(super) const MAX_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// What `http::HeaderName` takes.
const MAX_NAME_BYTES: usize = u16::MAX as usize;

/// Bytes of empty lines before a head; some old clients send one after a body.
const MAX_EMPTY_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn intake() -> Intake {
        Intake {
            max_head_bytes: 64 * 1024,
            max_headers: USUAL_FIELDS,
            place: Place::Head,
            held: BytesMut::new(),
            ready: Bytes::new(),
            heads: 0,
        }
    }

    /// What hyper gets of what came in these pieces, and the head that was refused.
    fn taken(intake: &mut Intake, pieces: &[&[u8]]) -> (Vec<u8>, Option<RefusedHead>) {
        let (mut taken, mut refusal) = (Vec::new(), None);
        for piece in pieces {
            let mut storage = vec![0; 4096];
            let mut buffer = ReadBuf::new(&mut storage);
            buffer.put_slice(piece);
            refusal = refusal.or(intake.look(&mut buffer));
            taken.extend_from_slice(buffer.filled());
        }
        while !intake.ready.is_empty() {
            let mut storage = [0; 16];
            let mut buffer = ReadBuf::new(&mut storage);
            intake.give(&mut buffer);
            taken.extend_from_slice(buffer.filled());
        }
        (taken, refusal)
    }

    const REQUESTS: &[u8] = b"GET /a HTTP/1.1\r\nhost: a\r\n\r\n\
        POST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nGET /\
        POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        4;x=\"y\"\r\n\r\n\r\n\r\n1F \r\nGET /smuggled HTTP/1.1\r\nhost:a\r\r\n0\r\nt: 1\r\n\r\n\
        \r\nGET /d HTTP/1.0\r\n\r\n";

    #[test]
    fn whole_requests_pass_unchanged_however_they_are_cut() {
        let mut whole = intake();
        let (passed, refusal) = taken(&mut whole, &[REQUESTS]);
        assert!(refusal.is_none(), "{refusal:?}");
        assert_eq!(passed, REQUESTS);
        assert_eq!(whole.heads, 4);
        for at in 0..REQUESTS.len() {
            let (one, other) = REQUESTS.split_at(at);
            let mut intake = intake();
            let (passed, refusal) = taken(&mut intake, &[one, other]);
            assert!(refusal.is_none(), "cut at {at}: {refusal:?}");
            assert_eq!(passed, REQUESTS, "cut at {at}");
            assert_eq!(intake.heads, 4, "cut at {at}");
        }
        let mut bytewise = intake();
        let pieces: Vec<&[u8]> = REQUESTS.chunks(1).collect();
        assert_eq!(taken(&mut bytewise, &pieces).0, REQUESTS);
    }

    #[test]
    fn a_head_waits_until_it_is_complete() {
        let mut intake = intake();
        let (passed, _) = taken(&mut intake, &[b"GET / HTTP/1.1\r\nhost: a\r\n"]);
        assert_eq!(passed, b"");
        assert!(intake.is_in_head());
        let (passed, _) = taken(&mut intake, &[b"\r\n"]);
        assert_eq!(passed, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        assert!(!intake.is_in_head());
    }

    #[test]
    fn an_empty_line_between_requests_begins_no_head() {
        let mut intake = intake();
        taken(&mut intake, &[b"\r\n"]);
        assert!(!intake.is_in_head());
        let (passed, _) = taken(&mut intake, &[b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"]);
        assert_eq!(passed, b"\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
        taken(&mut intake, &[&b"\r\n".repeat(5)]);
        assert!(intake.has_refused());
    }

    #[test]
    fn a_stand_in_takes_the_place_of_a_head_that_may_not_pass_and_ends_the_reading() {
        let good = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";
        for bad in [
            "nonsense\r\n\r\n",
            "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
            "GET /\r\n\r\n",
            "GET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
            "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\0\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: \r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n",
            "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            let mut intake = intake();
            let sent = format!("{good}{bad}{good}");
            let (passed, refusal) = taken(&mut intake, &[sent.as_bytes(), good.as_bytes()]);
            assert!(intake.has_refused(), "{bad:?}");
            assert_eq!(passed, [good.as_bytes(), STAND_IN].concat(), "{bad:?}");
            let Some(RefusedHead { after: 1, fault }) = refusal else {
                panic!("{bad:?}: {refusal:?}");
            };
            assert!(
                matches!(fault, HeadFault::Malformed(_)),
                "{bad:?}: {fault:?}"
            );
        }
    }

    #[test]
    fn a_body_that_is_badly_framed_is_broken_off() {
        for bad in [
            "x\r\n",
            "5\n12345\r\n",
            "5\r\n123456",
            "1;a\0b\r\n",
            "ffffffffffffffff1\r\n",
        ] {
            let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            let mut intake = intake();
            let (passed, refusal) = taken(&mut intake, &[format!("{head}{bad}").as_bytes()]);
            assert!(refusal.is_none() && intake.is_lost(), "{bad:?}");
            // The request itself is served, and sees its body break off.
            assert!(passed.starts_with(head.as_bytes()), "{bad:?}");
        }
    }
}
