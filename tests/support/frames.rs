//! HTTP/2 by hand, for upstreams that answer as no library would.

use std::io::{self, Read as _, Write as _};

use super::upstream::Wire;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;

const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `:status: 200`, the eighth entry of HPACK's table.
pub(crate) const STATUS_200: &[u8] = &[0x88];

pub(crate) struct Frame {
    pub(crate) kind: u8,
    flags: u8,
    pub(crate) stream: u32,
    payload: Vec<u8>,
}

impl Wire {
    /// What is left of the preface, whose first lines look like a head; and settings, six bytes each.
    pub(crate) fn begin_h2(&mut self, settings: &[u8]) -> io::Result<()> {
        self.read_exact(&mut [0; 6])?;
        self.say_frame(SETTINGS, 0, 0, settings)
    }

    /// The next frame. Those of SETTINGS and PING are answered on the way.
    pub(crate) fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.read_exact(&mut head)?;
            let [a, b, c, kind, flags, stream @ ..] = head;
            let length = u32::from_be_bytes([0, a, b, c]);
            let mut payload = vec![0; usize::try_from(length).expect("32 bits")];
            self.read_exact(&mut payload)?;
            let frame = Frame {
                kind,
                flags,
                stream: u32::from_be_bytes(stream),
                payload,
            };
            match kind {
                SETTINGS if frame.flags & ACK == 0 => self.say_frame(SETTINGS, ACK, 0, &[])?,
                PING if frame.flags & ACK == 0 => self.say_frame(PING, ACK, 0, &frame.payload)?,
                _ => return Ok(frame),
            }
        }
    }

    /// The stream of the next request.
    pub(crate) fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.frame()?;
            if frame.kind == HEADERS {
                return Ok(frame.stream);
            }
        }
    }

    pub(crate) fn say_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        self.write_all(&frame(kind, flags, stream, payload))?;
        self.flush()
    }

    /// A response without a body.
    pub(crate) fn say_200(&mut self, stream: u32) -> io::Result<()> {
        self.say_frame(HEADERS, END_STREAM | END_HEADERS, stream, STATUS_200)
    }
}

/// A frame as it is written.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
