//! The frames of an HTTP/2 connection as they pass, by their heads alone (RFC 9113, section 4.1).
//!
//! h2 bounds what a client opens and what it makes us hold: streams, resets before they were looked at, header lists,
//! CONTINUATION, small DATA. It answers every PING and every SETTINGS, and takes WINDOW_UPDATE, PRIORITY and unknown frames,
//! as fast as they come and for ever, and what comes for a stream that is over. So they are counted here, beneath it: a frame
//! that moves nothing costs, and what moves gives back. DATA that was on its way when we reset its stream does neither.

use tokio::time::Instant;

use super::Config;
use super::h2::{FRAME_BYTES, max_list_bytes};
use super::header_lists::HeaderLists;
use super::hpack::Unreadable;
use super::preface::PREFACE;

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// What passed of a connection, both ways.
pub(super) struct Frames {
    incoming: Cutter,
    outgoing: Cutter,
    budget: Budget,
    /// Whether the client has sent its SETTINGS, which go first (RFC 9113, section 3.4)
    is_settled: bool,
    /// The last stream that the client opened
    last_stream: u32,
    /// The last that is served, as our GOAWAY says; h2 throws away what comes for those behind it
    last_served: u32,
    /// The stream of a list of headers that has begun and is not complete, and how many frames of it there are
    in_list: Option<(u32, u32)>,
    /// How many there may be
    most_in_list: u32,
    /// Streams that the client opened and that are not over: neither reset, nor ended both ways
    open: Vec<Open>,
    /// Bytes of DATA that may be on their way for streams that we reset, or no longer serve
    on_their_way: u32,
    /// How many a client may have on their way for one stream, and for all
    window: u32,
    connection_window: u32,
    /// What h2 may read of it
    pub(super) lists: HeaderLists,
}

struct Open {
    stream: u32,
    /// Whether the client has sent all of its request
    is_asked: bool,
    /// Whether the answer has begun
    is_answering: bool,
    /// Whether all of the answer has gone
    is_answered: bool,
}

/// Why a connection ends here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// More frames that move nothing than anybody needs
    Flood,
    /// A frame of a length that its kind does not have
    FrameSize,
    /// Something else before SETTINGS
    NoSettings,
    /// A list of headers that is no HPACK (RFC 9113, section 4.3)
    Compression,
    /// Something else within a list of headers, or a push of a client's (RFC 9113, sections 6.10 and 8.4)
    OutOfPlace,
    /// More of a stream than its end (RFC 9113, section 5.1)
    Closed,
    /// A window of more than there can be (RFC 9113, section 6.5.2)
    Window,
}

impl From<Unreadable> for Violation {
    fn from(Unreadable: Unreadable) -> Self {
        Violation::Compression
    }
}

impl Frames {
    pub(super) fn new(config: &Config) -> Self {
        Frames {
            incoming: Cutter::after(PREFACE.len()),
            outgoing: Cutter::after(0),
            budget: Budget::new(
                config.h2_control_frames,
                config.h2_control_frames_per_second,
            ),
            is_settled: false,
            last_stream: 0,
            last_served: u32::MAX,
            in_list: None,
            most_in_list: most_in_list(config),
            open: Vec::new(),
            on_their_way: 0,
            window: config.h2_window_bytes,
            connection_window: config.h2_connection_window_bytes,
            lists: HeaderLists::new(config.max_headers, config.max_head_bytes),
        }
    }

    /// Looks at what came from the client. An error is the end of the connection.
    pub(super) fn came(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let Frames {
            incoming,
            budget,
            is_settled,
            last_stream,
            last_served,
            in_list,
            most_in_list,
            open,
            on_their_way,
            lists,
            ..
        } = self;
        incoming.pass(bytes, |frame, _| {
            let is_of_another_length = match frame.kind {
                PING => frame.length != 8,
                RST_STREAM | WINDOW_UPDATE => frame.length != 4,
                SETTINGS if frame.has(ACK) => frame.length != 0,
                SETTINGS => !frame.length.is_multiple_of(6),
                _ => false,
            };
            if is_of_another_length || frame.length > FRAME_BYTES {
                return Err(Violation::FrameSize);
            }
            *is_settled = *is_settled || frame.kind == SETTINGS && !frame.has(ACK);
            if !*is_settled {
                return Err(Violation::NoSettings);
            }
            let goes_on = in_list.take();
            let is_within = goes_on
                .is_some_and(|(stream, _)| frame.kind != CONTINUATION || frame.stream != stream);
            // Of a malformed push h2 resets the stream, and keeps what it puts into the table.
            if is_within || frame.kind == PUSH_PROMISE {
                return Err(Violation::OutOfPlace);
            }
            if matches!(frame.kind, HEADERS | CONTINUATION) && !frame.has(END_HEADERS) {
                let frames = goes_on.map_or(1, |(_, frames)| frames + 1);
                if frames > *most_in_list {
                    return Err(Violation::Flood);
                }
                *in_list = Some((frame.stream, frames));
            }
            let is_end = frame.has(END_STREAM);
            let at = open.iter().position(|it| it.stream == frame.stream);
            if frame.kind == HEADERS {
                lists.expect(at.is_some());
            }
            match (frame.kind, at) {
                // How many there are is bounded by the streams that may be open, and by what a reset costs.
                (HEADERS, None) if frame.stream > *last_stream && frame.stream <= *last_served => {
                    *last_stream = frame.stream;
                    // Those beyond are refused.
                    if open.len() < MAX_OPEN {
                        open.push(Open {
                            stream: frame.stream,
                            is_asked: is_end,
                            is_answering: false,
                            is_answered: false,
                        });
                    }
                    return Ok(());
                }
                (DATA | HEADERS, Some(at)) => {
                    if open[at].is_asked {
                        return Err(Violation::Closed);
                    }
                    open[at].is_asked = is_end;
                    if is_end && open[at].is_answered {
                        open.swap_remove(at);
                    }
                    if frame.kind == DATA && frame.length > 0 {
                        // Clients that measure the path send a PING for what they send and get (gRPC's do).
                        budget.earn(1);
                        return Ok(());
                    }
                    if frame.kind == HEADERS || is_end {
                        return Ok(());
                    }
                }
                (RST_STREAM, Some(at)) => {
                    open.swap_remove(at);
                }
                // In whatever frames the client has cut it: it had not heard of our reset.
                (DATA, None) if (1..=*on_their_way).contains(&frame.length) => {
                    *on_their_way -= frame.length;
                    return Ok(());
                }
                _ => {}
            }
            if budget.spend() {
                Ok(())
            } else {
                Err(Violation::Flood)
            }
        })
    }

    /// Looks at what was sent to the client. Gives how many requests h2 answered by itself, because their headers were far
    /// too large: with a status and nothing else, and nobody above knows of them.
    pub(super) fn went(&mut self, bytes: &[u8]) -> u32 {
        let Frames {
            outgoing,
            budget,
            last_served,
            open,
            on_their_way,
            window,
            connection_window,
            ..
        } = self;
        let mut unheard = 0;
        let Ok(()) = outgoing.pass(bytes, |frame, last_stream| {
            let at = open.iter().position(|it| it.stream == frame.stream);
            match frame.kind {
                // A client may give back the window of each, of the stream and of the connection.
                // Some do so for each few KiB that they read.
                DATA if frame.length > 0 => budget.earn(2 * frame.length.div_ceil(FINEST_READ)),
                HEADERS if frame.has(END_STREAM) && frame.length <= BARE_STATUS_BYTES => {
                    unheard += u32::from(at.is_some_and(|at| !open[at].is_answering));
                }
                // One that we reset because of what the client did: who makes us do it, on and on, works us for nothing, and at
                // the end of the budget what comes behind is not free.
                RST_STREAM => {
                    let has_budget = budget.spend();
                    if has_budget && at.is_some_and(|at| !open[at].is_asked) {
                        let more = on_their_way.saturating_add(*window);
                        *on_their_way = more.min(*connection_window);
                    }
                }
                GOAWAY => {
                    *last_served = last_stream & !(1 << 31);
                    open.retain(|it| it.stream <= *last_served);
                    *on_their_way = *connection_window;
                }
                _ => {}
            }
            let has_ended = frame.kind == RST_STREAM
                || matches!(frame.kind, DATA | HEADERS) && frame.has(END_STREAM);
            if has_ended {
                if frame.kind != RST_STREAM {
                    budget.earn(1);
                }
                match at {
                    Some(at) if frame.kind == RST_STREAM || open[at].is_asked => {
                        open.swap_remove(at);
                    }
                    Some(at) => open[at].is_answered = true,
                    None => {}
                }
            } else if let (HEADERS, Some(at)) = (frame.kind, at) {
                open[at].is_answering = true;
            }
            Ok::<_, std::convert::Infallible>(())
        });
        unheard
    }

    /// Whether a list of headers has begun and is not complete.
    pub(super) fn is_in_head(&self) -> bool {
        let is_within = |kind| self.incoming.is_within(kind);
        self.in_list.is_some() || is_within(HEADERS) || is_within(CONTINUATION)
    }

    /// What to say to the client at the end, if it can be said: not in the middle of a frame.
    pub(super) fn goodbye(&self, violation: Violation) -> Option<[u8; 17]> {
        let code: u32 = match violation {
            Violation::Flood => 11,
            Violation::FrameSize => 6,
            Violation::NoSettings | Violation::OutOfPlace => 1,
            Violation::Window => 3,
            Violation::Closed => 5,
            Violation::Compression => 9,
        };
        let mut frame = [0; 17];
        frame[2] = 8;
        frame[3] = GOAWAY;
        let last = self.last_stream.min(self.last_served);
        frame[9..13].copy_from_slice(&last.to_be_bytes());
        frame[13..].copy_from_slice(&code.to_be_bytes());
        self.outgoing.is_between_frames().then_some(frame)
    }
}

/// Frames of a list that may come before its last: what the largest takes, and some that are not full, as h2 counts them.
fn most_in_list(config: &Config) -> u32 {
    let full = (max_list_bytes(config.max_head_bytes) / FRAME_BYTES).max(1);
    (full + full / 4).max(5) + 1
}

/// The head of a frame.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Head {
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn read(bytes: [u8; HEAD_BYTES]) -> Head {
        let [l1, l2, l3, kind, flags, s1, s2, s3, s4] = bytes;
        Head {
            length: u32::from_be_bytes([0, l1, l2, l3]),
            kind,
            flags,
            stream: u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]),
        }
    }
}

/// Finds the frames in a stream of bytes, however they are cut.
struct Cutter {
    /// The head of a frame, and of GOAWAY the stream that it names
    head: [u8; HEAD_BYTES + LAST_STREAM_BYTES],
    filled: usize,
    /// Bytes to come of the frame whose head was seen last
    left: usize,
    kind: u8,
}

impl Cutter {
    fn after(left: usize) -> Cutter {
        Cutter {
            head: [0; HEAD_BYTES + LAST_STREAM_BYTES],
            filled: 0,
            left,
            kind: u8::MAX,
        }
    }

    /// Shows the head of each frame, and the last stream that it names, which GOAWAY alone does.
    fn pass<E>(
        &mut self,
        mut bytes: &[u8],
        mut see: impl FnMut(Head, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        loop {
            let payload = self.left.min(bytes.len());
            bytes = &bytes[payload..];
            self.left -= payload;
            if self.left > 0 {
                return Ok(());
            }
            // Of a frame before, until nine bytes are there.
            let [head @ .., s1, s2, s3, s4] = self.head;
            let head = Head::read(head);
            let wanted = match head.kind {
                GOAWAY if self.filled >= HEAD_BYTES => {
                    HEAD_BYTES + LAST_STREAM_BYTES.min(head.length as usize)
                }
                _ => HEAD_BYTES,
            };
            if self.filled == wanted {
                self.filled = 0;
                self.left = head.length as usize - (wanted - HEAD_BYTES);
                self.kind = head.kind;
                see(head, u32::from_be_bytes([s1, s2, s3, s4]))?;
                continue;
            }
            let missing = (wanted - self.filled).min(bytes.len());
            if missing == 0 {
                return Ok(());
            }
            self.head[self.filled..self.filled + missing].copy_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            self.filled += missing;
        }
    }

    fn is_between_frames(&self) -> bool {
        self.left == 0 && self.filled == 0
    }

    fn is_within(&self, kind: u8) -> bool {
        self.left > 0 && self.kind == kind
    }
}

/// How many frames that move nothing may still come. The clock is looked at only when there are none left.
struct Budget {
    left: u32,
    most: u32,
    per_second: u32,
    since: Instant,
}

impl Budget {
    fn new(most: u32, per_second: u32) -> Budget {
        Budget {
            left: most,
            most,
            per_second,
            since: Instant::now(),
        }
    }

    fn earn(&mut self, frames: u32) {
        self.left = self.left.saturating_add(frames).min(self.most);
    }

    /// Whether there was one left.
    fn spend(&mut self) -> bool {
        if self.left == 0 {
            let rested = self.since.elapsed().as_secs_f64();
            // A float that is too large becomes the largest number.
            let earned = (rested * f64::from(self.per_second)) as u32;
            if earned > 0 {
                self.since = Instant::now();
                self.earn(earned);
            }
        }
        let is_there_one = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_there_one
    }
}

/// Bytes of the smallest read after which clients give back their window.
const FINEST_READ: u32 = 2048;

pub(super) const HEAD_BYTES: usize = 9;

/// The last stream that a GOAWAY names (RFC 9113, section 6.8).
const LAST_STREAM_BYTES: usize = 4;

/// A `:status` in any of the forms that HPACK has for it. An answer of ours has a request id too.
const BARE_STATUS_BYTES: u32 = 8;

/// More than may be open at once.
const MAX_OPEN: usize = 1_024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::ReadBuf;

    use super::*;

    const PRIORITY: u8 = 2;

    fn frames() -> Frames {
        let mut frames = Frames {
            incoming: Cutter::after(PREFACE.len()),
            outgoing: Cutter::after(0),
            budget: Budget::new(10, 5),
            is_settled: true,
            last_stream: 0,
            last_served: u32::MAX,
            in_list: None,
            most_in_list: 6,
            open: Vec::new(),
            on_their_way: 0,
            window: 1024 * 1024,
            connection_window: 4 * 1024 * 1024,
            lists: HeaderLists::new(100, 64 * 1024),
        };
        frames.came(PREFACE).expect("the preface is no frame");
        frames
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_nothing_costs_and_what_moves_gives_back() {
        let ping = frame(PING, 0, 0, &[0; 8]);
        for (what, flood) in [
            ("PING", ping.clone()),
            ("a PING's answer", frame(PING, ACK, 0, &[0; 8])),
            ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
            ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
            ("PRIORITY", frame(PRIORITY, 0, 1, &[0; 5])),
            ("RST_STREAM", frame(RST_STREAM, 0, 1, &[0; 4])),
            ("empty DATA", frame(DATA, 0, 1, &[])),
            ("unknown", frame(0xfe, 0, 1, b"anything")),
        ] {
            let mut at_once = frames();
            at_once.came(&flood.repeat(10)).expect(what);
            assert_eq!(at_once.came(&flood), Err(Violation::Flood), "{what}");
            let mut rested = frames();
            rested.came(&flood.repeat(10)).expect(what);
            tokio::time::advance(Duration::from_secs(1)).await;
            rested.came(&flood.repeat(5)).expect(what);
            assert_eq!(rested.came(&flood), Err(Violation::Flood), "{what}");
        }
        for (what, is_ours, moves) in [
            ("DATA from the client", false, frame(DATA, 0, 1, b"1")),
            ("DATA to it", true, frame(DATA, 0, 1, b"1")),
            ("an answer's end", true, frame(DATA, END_STREAM, 1, b"")),
            (
                "an answer without a body",
                true,
                frame(HEADERS, 5, 1, &[0; 40]),
            ),
        ] {
            let mut frames = frames();
            let head = frame(HEADERS, END_HEADERS, 1, b"headers");
            frames.came(&head).expect("a request");
            for _ in 0..1_000 {
                frames.came(&ping).expect(what);
                if is_ours {
                    frames.went(&moves);
                } else {
                    frames.came(&moves).expect(what);
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_that_the_client_provoked_costs_too() {
        let mut frames = frames();
        frames.went(&frame(RST_STREAM, 0, 1, &[0; 4]).repeat(10));
        let one_more = frame(PING, 0, 0, &[0; 8]);
        assert_eq!(frames.came(&one_more), Err(Violation::Flood));
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_found_however_they_are_cut() {
        let sent = [
            frame(SETTINGS, 0, 0, &[0; 12]),
            frame(HEADERS, END_HEADERS, 7, b"headers"),
            frame(
                DATA,
                0,
                7,
                b"some bytes that look like \x00\x00\x08\x06 frames",
            ),
            frame(PING, 0, 0, &[0; 8]),
        ]
        .concat();
        for at in 0..sent.len() {
            let mut frames = frames();
            for part in [&sent[..at], &sent[at..]] {
                frames.came(part).expect("good frames");
            }
            assert_eq!(frames.budget.left, 9, "cut at {at}");
            assert_eq!(frames.last_stream, 7, "cut at {at}");
            assert!(frames.incoming.is_between_frames(), "cut at {at}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_of_headers_is_a_head_until_it_is_complete() {
        let mut frames = frames();
        let list = frame(HEADERS, 0, 1, b"headers");
        let rest = frame(CONTINUATION, END_HEADERS, 1, b"more");
        assert!(!frames.is_in_head());
        frames.came(&list[..12]).expect("a part");
        assert!(frames.is_in_head());
        frames.came(&list[12..]).expect("the rest");
        assert!(frames.is_in_head());
        frames.came(&rest[..12]).expect("a part of the end");
        assert!(frames.is_in_head());
        frames.came(&rest[12..]).expect("the end");
        assert!(!frames.is_in_head());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_else_comes_within_a_list_of_headers_and_it_has_an_end() {
        let begun = || {
            let mut frames = frames();
            let list = frame(HEADERS, 0, 1, b"headers");
            frames.came(&list).expect("the first frame");
            frames
        };
        for other in [
            frame(PING, 0, 0, &[0; 8]),
            frame(HEADERS, END_HEADERS, 3, b""),
            frame(CONTINUATION, END_HEADERS, 3, b""),
            frame(PUSH_PROMISE, END_HEADERS, 1, b""),
        ] {
            let ended = begun().came(&other);
            assert_eq!(ended, Err(Violation::OutOfPlace), "{other:?}");
        }
        let more = frame(CONTINUATION, 0, 1, b"more");
        let mut long = begun();
        long.came(&more.repeat(5)).expect("as many as there may be");
        assert_eq!(long.came(&more), Err(Violation::Flood));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_a_length_that_its_kind_does_not_have_ends_the_connection() {
        for (kind, flags, length) in [
            (PING, 0, 7),
            (RST_STREAM, 0, 5),
            (WINDOW_UPDATE, 0, 0),
            (SETTINGS, 0, 5),
            (SETTINGS, ACK, 6),
        ] {
            let bad = frame(kind, flags, 0, &vec![0; length]);
            assert_eq!(frames().came(&bad), Err(Violation::FrameSize), "{kind}");
        }
        let goodbye = frames()
            .goodbye(Violation::FrameSize)
            .expect("between frames");
        assert_eq!(goodbye[13..], 6_u32.to_be_bytes());
        let mut within = frames();
        within.went(&frame(DATA, 0, 1, b"part")[..10]);
        assert_eq!(within.goodbye(Violation::Flood), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_h2s_own_is_told_from_ours() {
        let bare = |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &[0x88]);
        let mut frames = frames();
        for stream in [1, 3, 5, 7, 9] {
            let asked = frame(HEADERS, END_HEADERS | END_STREAM, stream, b"headers");
            frames.came(&asked).expect("a request");
        }
        let ours = frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 40]);
        assert_eq!(frames.went(&ours), 0);
        assert_eq!(frames.went(&frame(HEADERS, END_HEADERS, 3, &[0; 40])), 0);
        // Trailers can be as short as a bare status.
        assert_eq!(frames.went(&bare(3)), 0);
        assert_eq!(frames.went(&[bare(5), bare(7)].concat()), 2);
        // One whose client has gone away is forgotten.
        frames.went(&frame(HEADERS, END_HEADERS, 9, &[0; 40]));
        frames
            .came(&frame(RST_STREAM, 0, 9, &[0; 4]))
            .expect("a reset");
        assert!(frames.open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn behind_the_end_of_a_request_there_is_no_more_of_it() {
        let head = frame(HEADERS, END_HEADERS, 1, b"headers");
        let last = |kind| frame(kind, END_HEADERS | END_STREAM, 1, b"more");
        for end in [
            last(HEADERS),
            [head.clone(), last(DATA)].concat(),
            [head.clone(), last(HEADERS)].concat(),
        ] {
            for more in [head.clone(), frame(DATA, 0, 1, b"more"), last(HEADERS)] {
                let mut frames = frames();
                frames.came(&end).expect("a request");
                let other = frame(HEADERS, END_HEADERS, 3, b"headers");
                frames.came(&other).expect("another");
                assert_eq!(
                    frames.came(&more),
                    Err(Violation::Closed),
                    "{end:?} {more:?}"
                );
            }
        }
        // Of one that is over h2 knows more. An answer may end before what is asked does.
        let mut over = frames();
        over.came(&last(HEADERS)).expect("a request");
        over.went(&last(HEADERS));
        over.came(&frame(DATA, 0, 1, b"more")).expect("for h2");
        let mut early = frames();
        early.came(&head).expect("a part of a request");
        early.went(&last(HEADERS));
        early.came(&last(DATA)).expect("its end");
        assert!(early.open.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn trailers_are_known_for_what_they_are_also_behind_the_end_of_the_answer() {
        fn given(frames: &mut Frames, bytes: &[u8]) -> Vec<u8> {
            let mut room = [0; 100];
            let mut buffer = ReadBuf::new(&mut room);
            buffer.put_slice(bytes);
            frames.lists.look(&mut buffer, 0).expect("lists");
            buffer.filled().to_vec()
        }
        // A path, which is none in trailers.
        let head = frame(HEADERS, END_HEADERS, 1, b"\x84");
        for is_answered in [false, true] {
            let mut frames = frames();
            given(&mut frames, PREFACE);
            frames.came(&head).expect("a head");
            assert_eq!(given(&mut frames, &head), head);
            if is_answered {
                frames.went(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0; 40]));
            }
            frames.came(&head).expect("trailers");
            assert_ne!(given(&mut frames, &head), head, "{is_answered}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_be_on_its_way_for_a_stream_that_we_reset_is_free() {
        for (count, bytes) in [(64, FRAME_BYTES as usize), (5_000, 200)] {
            let mut frames = frames();
            let head = frame(HEADERS, END_HEADERS, 1, b"headers");
            frames.came(&head).expect("a head");
            frames.went(&frame(RST_STREAM, 0, 1, &[0; 4]));
            frames.budget.left = 1;
            let data = frame(DATA, 0, 1, &vec![0; bytes]);
            frames.came(&data.repeat(count)).expect("on its way");
            assert_eq!(frames.budget.left, 1, "it earns nothing either");
            // More than a window was never let go.
            let more = frames.came(&frame(DATA, 0, 1, &[0; FRAME_BYTES as usize]).repeat(5));
            assert_eq!(more, Err(Violation::Flood), "{count} of {bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_us_reset_streams_on_and_on_is_sent_away() {
        let mut frames = frames();
        let mut uploads = (0..20).map(|round| {
            let stream = 2 * round + 1;
            frames.came(&frame(HEADERS, END_HEADERS, stream, b"headers"))?;
            frames.went(&frame(RST_STREAM, 0, stream, &[0; 4]));
            frames.came(&frame(DATA, 0, stream, &[0; FRAME_BYTES as usize]).repeat(64))
        });
        // As many as there are in the budget.
        assert_eq!(uploads.position(|it| it.is_err()), Some(10));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_for_a_stream_that_is_over_costs_when_nothing_is_on_its_way() {
        let reset = frame(RST_STREAM, 0, 3, &[0; 4]);
        let end = END_HEADERS | END_STREAM;
        for (what, came, went, stream) in [
            ("reset by the client", reset.clone(), vec![], 3),
            ("reset by us", vec![], reset, 3),
            (
                "ended",
                frame(DATA, END_STREAM, 3, b"more"),
                frame(HEADERS, end, 3, &[0; 40]),
                3,
            ),
            (
                "behind our GOAWAY",
                vec![],
                frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]),
                5,
            ),
        ] {
            for (kind, flags, payload) in [
                (HEADERS, END_HEADERS, &b"headers"[..]),
                (HEADERS, end, b"headers"),
                (DATA, 0, b"more"),
                (DATA, END_STREAM, b"more"),
                (DATA, END_STREAM, b""),
                (PRIORITY, 0, &[0; 5]),
                (WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            ] {
                let mut over = frames();
                let head = frame(HEADERS, END_HEADERS, 3, b"headers");
                over.came(&[head, came.clone()].concat()).expect(what);
                for byte in &went {
                    over.went(&[*byte]);
                }
                over.budget.left = 1;
                over.on_their_way = 0;
                let sent = frame(kind, flags, stream, payload);
                over.came(&sent).expect(what);
                assert!(over.open.is_empty(), "{what}: {kind} {flags}");
                let more = over.came(&sent);
                assert_eq!(more, Err(Violation::Flood), "{what}: {kind} {flags}");
            }
        }
    }
}
