//! The answers of a Redis, watched as they come.
//!
//! Who reads them holds each whole, however long the server says that it is. So one that is longer than any answer to what we
//! ask, has more parts, or is none ends the connection before that: the lengths are said first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;

/// A connection to a server.
pub(super) struct Watched<T> {
    inner: T,
    answer: Answer,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T) -> Self {
        Self {
            inner,
            answer: Answer::default(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let new = buffer.filled().get(before..).unwrap_or_default();
        let watched = self.answer.watch(new);
        Poll::Ready(watched.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// How far one has come.
#[derive(Debug, Default)]
struct Answer {
    bytes: usize,
    /// Parts of it that were said to come.
    parts: usize,
    /// Of those, how many have not ended.
    open: usize,
    /// Bytes left of a text of known length, with its end of line.
    text: usize,
    /// The line that is being read.
    line: Vec<u8>,
    is_refused: bool,
}

const LONG: &str = "an answer is longer than any to what was asked";
const NONE: &str = "it sends what is no answer of a Redis";

impl Answer {
    /// Reads on. Once something was refused, all is.
    fn watch(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        if self.is_refused {
            return Err(NONE);
        }
        while let Some(first) = bytes.first() {
            if self.text > 0 {
                let piece = self.text.min(bytes.len());
                bytes = bytes.get(piece..).unwrap_or_default();
                self.text -= piece;
                if self.text == 0 {
                    self.ended();
                }
                continue;
            }
            self.line.push(*first);
            bytes = bytes.get(1..).unwrap_or_default();
            let read = if self.line.ends_with(b"\r\n") {
                self.line()
            } else if self.line.len() > limits::KEYVALUE_ANSWER_LINE {
                Err(LONG)
            } else {
                Ok(())
            };
            self.is_refused = read.is_err();
            read?;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<(), &'static str> {
        let line = std::mem::take(&mut self.line);
        self.bytes += line.len();
        // Nobody has said that it would come: it is an answer of its own.
        self.open = self.open.max(1);
        match line.first() {
            Some(b'+' | b'-' | b':') => self.ended(),
            Some(b'$') => match length(&line)? {
                None => self.ended(),
                Some(length) => {
                    self.bytes = self.bytes.saturating_add(length);
                    self.text = length.saturating_add(END);
                }
            },
            Some(b'*') => {
                let length = length(&line)?.unwrap_or(0);
                self.parts = self.parts.saturating_add(length);
                self.open = self.open.saturating_add(length);
                self.ended();
            }
            _ => return Err(NONE),
        }
        let is_long = self.bytes > limits::KEYVALUE_ANSWER_BYTES
            || self.parts > limits::KEYVALUE_ANSWER_PARTS;
        if is_long { Err(LONG) } else { Ok(()) }
    }

    fn ended(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            (self.bytes, self.parts) = (0, 0);
        }
    }
}

/// Bytes of the end of a line.
const END: usize = 2;

/// What a line says of a length; none if there is nothing.
fn length(line: &[u8]) -> Result<Option<usize>, &'static str> {
    let text = line.get(1..line.len() - END).unwrap_or_default();
    let number = std::str::from_utf8(text).ok().map(str::trim);
    let number: Option<i64> = number.and_then(|text| text.parse().ok());
    Ok(usize::try_from(number.ok_or(NONE)?).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of answers that come in one piece, and byte by byte.
    fn watched(bytes: &[u8]) -> Result<(), &'static str> {
        let mut answer = Answer::default();
        let at_once = answer.watch(bytes);
        let mut answer = Answer::default();
        let singly = bytes.chunks(1).try_for_each(|byte| answer.watch(byte));
        assert_eq!(at_once, singly);
        at_once
    }

    #[test]
    fn answers_pass_and_what_is_too_long_or_none_is_refused_where_it_says_so() {
        let most = limits::KEYVALUE_ANSWER_BYTES;
        let nested = "*1\r\n".repeat(limits::KEYVALUE_ANSWER_PARTS + 1);
        let line = format!("+{}\r\n", "x".repeat(limits::KEYVALUE_ANSWER_LINE));
        for (bytes, refused) in [
            (
                "+OK\r\n-ERR a\nb\r\n:1\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n",
                None,
            ),
            (
                "*2\r\n$2\r\nok\r\n*2\r\n$3\r\n\r\n*\r\n$3\r\n1:1\r\n+OK\r\n",
                None,
            ),
            ("*2\r\n*1\r\n*0\r\n", None),
            (&*format!("${}\r\n", most - 20), None),
            (&*format!("${most}\r\n"), Some(LONG)),
            ("$2147483648\r\n", Some(LONG)),
            ("$9223372036854775807\r\n", Some(LONG)),
            ("*2147483647\r\n", Some(LONG)),
            ("*9223372036854775807\r\n", Some(LONG)),
            (&*nested, Some(LONG)),
            (&*line, Some(LONG)),
            ("$99999999999999999999\r\n", Some(NONE)),
            ("$x\r\n", Some(NONE)),
            ("$1\r\nab\r\n", None),
            ("%1\r\n", Some(NONE)),
            ("\r\n", Some(NONE)),
            ("HTTP/1.1 400 Bad Request\r\n", Some(NONE)),
        ] {
            let shown = bytes.get(..60).unwrap_or(bytes);
            assert_eq!(watched(bytes.as_bytes()).err(), refused, "{shown:?}");
        }
    }

    #[test]
    fn parts_count_together_and_each_answer_anew() {
        let part = format!("${}\r\n{}\r\n", 1_000_000, "x".repeat(1_000_000));
        assert_eq!(watched(part.repeat(10).as_bytes()), Ok(()));
        let whole = format!("*10\r\n{}", part.repeat(10));
        assert_eq!(watched(whole.as_bytes()), Err(LONG));
    }
}
