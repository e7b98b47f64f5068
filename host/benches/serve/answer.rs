//! One HTTP/1.1 response, followed as it arrives and not kept: the client shares the cores with the
//! server, so it does no more than find the end.

use anyhow::{Context as _, bail};

/// Where the next byte belongs.
enum Place {
    StatusLine,
    Headers,
    Body {
        left: u64,
    },
    ChunkSize,
    /// The line end after the chunk is counted with it.
    Chunk {
        left: u64,
    },
    Trailers,
    End,
}

pub(crate) struct Answer {
    place: Place,
    /// The line so far, if the last read ended within one.
    line: Vec<u8>,
    length: u64,
    is_chunked: bool,
    takes_any_status: bool,
    /// 0 before its first line.
    pub(crate) status: u16,
    /// The server closes the connection after it.
    pub(crate) closes: bool,
    /// Bytes of the body so far, in chunks or not.
    pub(crate) body: u64,
}

impl Answer {
    pub(crate) fn new() -> Self {
        Self {
            place: Place::StatusLine,
            line: Vec::new(),
            length: 0,
            is_chunked: false,
            takes_any_status: false,
            status: 0,
            closes: false,
            body: 0,
        }
    }

    /// One that need not be 200.
    pub(crate) fn of_any_status() -> Self {
        Self {
            takes_any_status: true,
            ..Self::new()
        }
    }

    /// Takes what was read; true when the answer is complete. Anything but 200 is an error, unless any status is taken.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> anyhow::Result<bool> {
        while !bytes.is_empty() {
            match self.place {
                Place::Body { left } => {
                    let (taken, left) = take(&mut bytes, left);
                    self.body += taken;
                    self.place = Self::body(left);
                }
                Place::Chunk { left } => {
                    left_in_chunk(&mut self.place, take(&mut bytes, left).1);
                }
                Place::End => bail!("the answer goes on after its end"),
                _ => self.read_line(&mut bytes)?,
            }
        }
        Ok(matches!(self.place, Place::End))
    }

    fn read_line(&mut self, bytes: &mut &[u8]) -> anyhow::Result<()> {
        let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            *bytes = &[];
            return Ok(());
        };
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(&bytes[..end]);
        *bytes = &bytes[end + 1..];
        self.take_line(line.trim_ascii_end())?;
        line.clear();
        self.line = line;
        Ok(())
    }

    fn take_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        match self.place {
            Place::StatusLine => {
                self.status = status(line)
                    .filter(|&status| status == 200 || self.takes_any_status)
                    .with_context(|| format!("answered `{}`", line.escape_ascii()))?;
                self.place = Place::Headers;
            }
            Place::Headers if line.is_empty() => {
                self.place = if self.is_chunked {
                    Place::ChunkSize
                } else {
                    Self::body(self.length)
                };
            }
            Place::Headers => self.take_header(line)?,
            Place::ChunkSize => {
                let size = u64::from_str_radix(str::from_utf8(line)?, 16)
                    .with_context(|| format!("`{}` as a chunk's size", line.escape_ascii()))?;
                self.body += size;
                self.place = match size {
                    0 => Place::Trailers,
                    _ => Place::Chunk { left: size + 2 },
                };
            }
            Place::Trailers if line.is_empty() => self.place = Place::End,
            _ => {}
        }
        Ok(())
    }

    fn take_header(&mut self, line: &[u8]) -> anyhow::Result<()> {
        let colon = line.iter().position(|&byte| byte == b':');
        let (name, value) = line.split_at(colon.context("a header without a colon")?);
        let value = value[1..].trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = str::from_utf8(value)?.parse()?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
        } else if name.eq_ignore_ascii_case(b"connection") {
            self.closes = value.eq_ignore_ascii_case(b"close");
        }
        Ok(())
    }

    fn body(left: u64) -> Place {
        match left {
            0 => Place::End,
            left => Place::Body { left },
        }
    }
}

fn status(line: &[u8]) -> Option<u16> {
    let digits = line.strip_prefix(b"HTTP/1.1 ")?.get(..3)?;
    str::from_utf8(digits).ok()?.parse().ok()
}

fn left_in_chunk(place: &mut Place, left: u64) {
    *place = match left {
        0 => Place::ChunkSize,
        left => Place::Chunk { left },
    };
}

/// Skips up to `wanted` bytes: how many there were, how many are still wanted.
fn take(bytes: &mut &[u8], wanted: u64) -> (u64, u64) {
    let taken = usize::try_from(wanted).map_or(bytes.len(), |wanted| wanted.min(bytes.len()));
    *bytes = &bytes[taken..];
    (taken as u64, wanted - taken as u64)
}
