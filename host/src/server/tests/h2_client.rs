//! A client of HTTP/2 that writes and reads frames (RFC 9113, 4.1), so that it can misbehave.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::support::{LONG, Raw, TestDoor};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const CONTINUATION: u8 = 9;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

pub(super) struct H2Client {
    pub(super) raw: Raw,
    pub(super) answers_pings: bool,
    /// How many it has answered
    pub(super) answered_pings: u32,
}

impl H2Client {
    /// Connects, with `window` bytes for each response to begin with.
    pub(super) async fn connect(door: &TestDoor, window: u32) -> H2Client {
        let mut raw = door.connect().await;
        raw.send(PREFACE).await;
        let mut client = H2Client {
            raw,
            answers_pings: true,
            answered_pings: 0,
        };
        client.send_settings(window).await;
        client
    }

    pub(super) async fn send_settings(&mut self, window: u32) {
        let mut settings = vec![0, 4];
        settings.extend(window.to_be_bytes());
        self.send(SETTINGS, 0, 0, &settings).await;
    }

    pub(super) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        assert!(self.try_send(kind, flags, stream, payload).await, "closed");
    }

    /// Whether the connection still took it.
    pub(super) async fn try_send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> bool {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.raw.0.write_all(&frame).await.is_ok()
    }

    /// A request without a body.
    pub(super) async fn get(&mut self, stream: u32, path: &str) {
        let mut headers = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        headers.extend(path.bytes());
        headers.extend([0x01, 1, b'a']);
        self.send(HEADERS, END_STREAM | END_HEADERS, stream, &headers)
            .await;
    }

    /// A list of headers as it is, none of it in a table.
    pub(super) fn list<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
        let mut list = Vec::new();
        for (name, value) in fields {
            list.push(0);
            for text in [name, value] {
                list.push(u8::try_from(text.len()).unwrap());
                list.extend(text.bytes());
            }
        }
        list
    }

    /// A request whose header list goes on.
    pub(super) async fn begin_get(&mut self, stream: u32, path: &str) {
        let mut headers = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        headers.extend(path.bytes());
        self.send(HEADERS, END_STREAM, stream, &headers).await;
    }

    pub(super) async fn go_on(&mut self, stream: u32, headers: &[u8], is_last: bool) {
        let flags = if is_last { END_HEADERS } else { 0 };
        self.send(CONTINUATION, flags, stream, headers).await;
    }

    /// The next frame, or none at the end; settings are acknowledged, and pings too while `answers_pings`.
    pub(super) async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut head = [0; 9];
            timeout(LONG, self.raw.0.read_exact(&mut head))
                .await
                .unwrap()
                .ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.raw.0.read_exact(&mut payload).await.ok()?;
            let frame = Frame {
                kind: head[3],
                flags: head[4],
                stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
                payload,
            };
            match (frame.kind, frame.flags) {
                (SETTINGS, 0) => drop(self.try_send(SETTINGS, ACK, 0, &[]).await),
                (SETTINGS | WINDOW_UPDATE, _) => {}
                (PING, 0) if self.answers_pings => {
                    let payload = frame.payload.clone();
                    self.try_send(PING, ACK, 0, &payload).await;
                    self.answered_pings += 1;
                }
                (PING, 0) => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads until a frame of `kind` on `stream`.
    pub(super) async fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection ended");
            if frame.kind == kind && frame.stream == stream {
                return frame;
            }
            assert_ne!(frame.kind, GOAWAY, "GOAWAY {:?}", frame.payload);
        }
    }

    /// The next RST_STREAM of `stream`, or GOAWAY.
    pub(super) async fn end_of(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().await.expect("the connection ended");
            if frame.kind == GOAWAY || frame.kind == RST_STREAM && frame.stream == stream {
                return frame;
            }
        }
    }
}
