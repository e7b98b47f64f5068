//! The lists of headers of an HTTP/2 connection on their way to h2.
//!
//! A field that no request can have makes its request malformed, which is an error of its stream (RFC 9113, 8.1.1 and 8.2.1).
//! h2 resets the stream for much of what is wrong; a name or a value that it cannot read is no HPACK to it, and of a list of
//! several frames it takes what comes behind a malformed one for a violation: then it ends the connection, with all other
//! streams. So a list is held until it is whole. If it is malformed, h2 gets another, of one frame, for which it resets the
//! stream. That puts into the table what takes as much room there as what the client has put into its own, or what a client
//! refers to afterwards would not be what it means.
//!
//! Of a target that is too long for it h2 tells nobody either, and resets the stream: it gets a list that is far too large instead,
//! for which it answers 431, and that is told.
//!
//! Trailers are held to what heads are, and more: nothing above looks at how many there are, and h2 cuts off those that are too large
//! without a word.
//!
//! SETTINGS pass here too: for a window that cannot be h2 has another code than the standard.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;
use tokio::io::ReadBuf;

use super::field::{Kind, PATH};
use super::frames::{
    CONTINUATION, END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head, SETTINGS, Violation,
};
use super::h2::{FRAME_BYTES, max_list_bytes};
use super::hpack::{ENTRY_BYTES, ONCE, Reader, Room, Table, write};
use super::intake::MAX_TARGET_BYTES;
use super::preface::PREFACE;

/// How far the reading of a connection is. What is held is bounded by the frames that `frames` lets a list have.
pub(super) struct HeaderLists {
    table: Table,
    /// How many fields trailers may have, and how large they may be together
    max_fields: usize,
    max_bytes: usize,
    /// Of each list that has begun and was not read, whether it is trailers. At most one is left when a read has been looked at: a list
    /// that is not complete lets no other begin
    expected: VecDeque<bool>,
    /// Bytes to come that pass as they are
    passing: usize,
    /// The beginning of a list, or of SETTINGS, that has to be whole first
    held: Vec<u8>,
    /// What h2 gets before anything else
    ready: Bytes,
}

impl HeaderLists {
    pub(super) fn new(max_fields: usize, max_bytes: usize) -> HeaderLists {
        HeaderLists {
            table: Table::new(),
            max_fields,
            max_bytes,
            expected: VecDeque::new(),
            passing: PREFACE.len(),
            held: Vec::new(),
            ready: Bytes::new(),
        }
    }

    /// A list begins.
    pub(super) fn expect(&mut self, is_trailers: bool) {
        self.expected.push_back(is_trailers);
    }

    /// Gives h2 what it may have without more bytes from the client.
    pub(super) fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let bytes = self.ready.len().min(buffer.remaining());
        buffer.put_slice(&self.ready.split_to(bytes));
    }

    /// Looks at what came, which is in `buffer` behind the first `before` bytes, and leaves there what h2 may have now.
    pub(super) fn look(
        &mut self,
        buffer: &mut ReadBuf<'_>,
        before: usize,
    ) -> Result<(), Violation> {
        let came = &buffer.filled()[before..];
        if self.held.is_empty() {
            let (end, changed) = self.scan(came)?;
            self.held.extend_from_slice(&came[end..]);
            // Nearly always all of it passes, and then nothing is copied.
            let Some(changed) = changed else {
                buffer.set_filled(before + end);
                return Ok(());
            };
            self.ready = changed.into();
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(came);
            let (end, changed) = self.scan(&held)?;
            if end == 0 {
                self.held = held;
            } else {
                self.held = held.split_off(end);
                self.ready = changed.unwrap_or(held).into();
            }
        }
        buffer.set_filled(before);
        self.give(buffer);
        Ok(())
    }

    /// How many of the bytes may pass, and what passes in their place, if that is something else.
    fn scan(&mut self, bytes: &[u8]) -> Result<(usize, Option<Vec<u8>>), Violation> {
        let mut at = 0;
        let mut changed: Option<Vec<u8>> = None;
        let mut copied = 0;
        loop {
            let passing = self.passing.min(bytes.len() - at);
            self.passing -= passing;
            at += passing;
            let Some(head) = bytes[at..].first_chunk::<HEAD_BYTES>() else {
                break;
            };
            let head = Head::read(*head);
            let end = match head.kind {
                HEADERS => {
                    let Some(length) = length_of_list(&bytes[at..]) else {
                        break;
                    };
                    if let Some(frame) = self.instead_of(&bytes[at..at + length])? {
                        let changed = changed.get_or_insert_default();
                        changed.extend_from_slice(&bytes[copied..at]);
                        changed.extend(frame);
                        copied = at + length;
                    }
                    at + length
                }
                SETTINGS => {
                    let Some((_, settings, rest)) = first_frame(&bytes[at..]) else {
                        break;
                    };
                    if has_a_window_that_cannot_be(settings) {
                        return Err(Violation::Window);
                    }
                    bytes.len() - rest.len()
                }
                _ => {
                    self.passing = HEAD_BYTES + head.length as usize;
                    at
                }
            };
            at = end;
        }
        if let Some(changed) = &mut changed {
            changed.extend_from_slice(&bytes[copied..at]);
        }
        Ok((at, changed))
    }

    /// Reads a list, in as many frames as it has. Gives what h2 gets, if the list is malformed or its target too long.
    fn instead_of(&mut self, frames: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        // Always there: `frames` sees each list first.
        let is_trailers = self.expected.pop_front().unwrap_or_default();
        let Some((head, list, depends_on_itself)) = list_of(frames) else {
            // h2 ends the connection for it.
            return Ok(None);
        };
        // h2 would not read the list of a stream that depends on itself, and so not what goes into the table.
        let mut is_malformed = depends_on_itself;
        let mut pseudo = 0;
        let mut has_header = false;
        let mut has_length = false;
        let mut is_too_long = false;
        let mut kept = 0;
        let (mut fields, mut bytes) = (0, 0);
        let mut room = Room::default();
        let mut reader = Reader::new(&list);
        while let Some(field) = reader.field(&mut self.table, &mut room)? {
            is_malformed |= field.is_malformed;
            kept += usize::from(field.is_kept);
            fields += 1;
            bytes += field.bytes;
            is_too_long |= field.kind == PATH && field.bytes > LONGEST_PATH;
            // What is asked for, and how long it is, stands in the head (RFC 9113, 8.1, and RFC 9110, 6.5.1).
            is_malformed |= is_trailers && matches!(field.kind, Kind::Pseudo(_) | Kind::Length);
            if let Kind::Pseudo(bit) = field.kind {
                // Each once, and before all others (RFC 9113, 8.3).
                is_malformed |= has_header || pseudo & bit != 0;
                pseudo |= bit;
            } else {
                has_header = true;
                if field.kind == Kind::Length {
                    // Once, also if it is the same again: as `intake` has it for HTTP/1.
                    is_malformed |= has_length;
                    has_length = true;
                }
            }
        }
        is_malformed |= is_trailers && (fields > self.max_fields || bytes > self.max_bytes);
        if !is_malformed && !is_too_long {
            return Ok(None);
        }
        // No longer than the table.
        let mut list = self.table.again(kept, &list)?;
        if is_malformed {
            write(&mut list, ONCE, MALFORMED, b"x");
        } else {
            let most = max_list_bytes(self.max_bytes) as usize;
            list.resize(list.len() + most / KNOWN_FIELD_BYTES + 1, KNOWN_FIELD);
        }
        Ok(Some(in_frames(head, &list)))
    }
}

/// A list in place of another. Neither padding nor a priority is left.
fn in_frames(head: Head, list: &[u8]) -> Vec<u8> {
    let mut frames = Vec::new();
    let pieces = list.chunks(FRAME_BYTES as usize);
    let last = pieces.len() - 1;
    for (nth, piece) in pieces.enumerate() {
        let (kind, first) = match nth {
            0 => (HEADERS, head.flags & END_STREAM),
            _ => (CONTINUATION, 0),
        };
        let end = if nth == last { END_HEADERS } else { 0 };
        frames.extend_from_slice(&(piece.len() as u32).to_be_bytes()[1..]);
        frames.extend([kind, first | end]);
        frames.extend(head.stream.to_be_bytes());
        frames.extend_from_slice(piece);
    }
    frames
}

/// The first frame if it is whole, what is in it, and what comes behind it.
fn first_frame(bytes: &[u8]) -> Option<(Head, &[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let head = Head::read(*head);
    let (payload, rest) = rest.split_at_checked(head.length as usize)?;
    Some((head, payload, rest))
}

/// How long the frames of a list are together, if it is whole. That they follow each other is for `frames` to see.
fn length_of_list(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    loop {
        let (head, _, behind) = first_frame(rest)?;
        rest = behind;
        if head.has(END_HEADERS) {
            return Some(bytes.len() - rest.len());
        }
    }
}

/// Whether SETTINGS_INITIAL_WINDOW_SIZE is above 2^31 - 1.
fn has_a_window_that_cannot_be(settings: &[u8]) -> bool {
    settings
        .chunks_exact(6)
        .any(|setting| setting[..2] == [0, 4] && setting[2] & 0x80 != 0)
}

/// The head of the first frame of a list, the list, and whether its stream depends on itself. None if the frame is shorter
/// than it says.
fn list_of(frames: &[u8]) -> Option<(Head, Cow<'_, [u8]>, bool)> {
    let (head, mut rest, mut others) = first_frame(frames)?;
    let mut padding = 0;
    if head.has(PADDED) {
        let (&length, behind) = rest.split_first()?;
        padding = usize::from(length);
        rest = behind;
    }
    let mut depends_on_itself = false;
    if head.has(PRIORITY) {
        let (&[s1, s2, s3, s4, _weight], behind) = rest.split_first_chunk::<5>()?;
        depends_on_itself = u32::from_be_bytes([s1 & 0x7f, s2, s3, s4]) == head.stream;
        rest = behind;
    }
    let mut list = Cow::Borrowed(rest.get(..rest.len().checked_sub(padding)?)?);
    while let Some((_, more, behind)) = first_frame(others) {
        list.to_mut().extend_from_slice(more);
        others = behind;
    }
    Some((head, list, depends_on_itself))
}

/// A header for which h2 resets a stream, unless the value is `trailers` (RFC 9113, 8.2.2).
const MALFORMED: &[u8] = b"te";

/// The longest `:path` that h2 can make a URI of, as the table counts.
const LONGEST_PATH: usize = ENTRY_BYTES + ":path".len() + MAX_TARGET_BYTES;

/// `accept-encoding: gzip, deflate`, which is always in the table, and how large it is there.
const KNOWN_FIELD: u8 = 0x90;
const KNOWN_FIELD_BYTES: usize = ENTRY_BYTES + 28;

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::hpack::INDEXED;
    use super::*;

    const NEVER: u8 = 0x10;

    fn begun() -> HeaderLists {
        HeaderLists::new(3, 200)
    }

    fn frame(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        frame_of(HEADERS, flags, stream, payload)
    }

    fn frame_of(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A list in frames of this many bytes.
    fn frames(flags: u8, stream: u32, list: &[u8], bytes: usize) -> Vec<u8> {
        let last = list.len().div_ceil(bytes) - 1;
        let pieces = list.chunks(bytes).enumerate().map(|(nth, piece)| {
            let kind = if nth == 0 { HEADERS } else { CONTINUATION };
            let begins = if nth == 0 { flags } else { 0 };
            let ends = if nth == last { END_HEADERS } else { 0 };
            frame_of(kind, begins | ends, stream, piece)
        });
        pieces.collect::<Vec<_>>().concat()
    }

    /// What h2 gets instead of a malformed list that puts these into the table.
    fn refused(flags: u8, stream: u32, fields: &[(u8, &str, &str)]) -> Vec<u8> {
        let fields = [fields, &[(ONCE, "te", "x")]].concat();
        // The table is as large as it was.
        frame(
            flags,
            stream,
            &[b"\x3f\xe1\x1f".to_vec(), list(&fields)].concat(),
        )
    }

    fn list(fields: &[(u8, &str, &str)]) -> Vec<u8> {
        let mut list = Vec::new();
        for (form, name, value) in fields {
            write(&mut list, *form, name.as_bytes(), value.as_bytes());
        }
        list
    }

    /// What h2 gets of what comes in these pieces, through a buffer of `room` bytes.
    fn passed(
        lists: &mut HeaderLists,
        pieces: &[&[u8]],
        room: usize,
    ) -> Result<Vec<u8>, Violation> {
        let mut passed = Vec::new();
        let mut space = vec![0; room];
        for piece in pieces.iter().flat_map(|piece| piece.chunks(room)) {
            let mut buffer = ReadBuf::new(&mut space);
            buffer.put_slice(piece);
            lists.look(&mut buffer, 0)?;
            passed.extend_from_slice(buffer.filled());
            loop {
                let mut buffer = ReadBuf::new(&mut space);
                lists.give(&mut buffer);
                if buffer.filled().is_empty() {
                    break;
                }
                passed.extend_from_slice(buffer.filled());
            }
        }
        Ok(passed)
    }

    /// Wherever what is sent is cut, and however much h2 reads at a time.
    fn assert_passes(sent: &[u8], wanted: &[u8]) {
        for at in 0..sent.len() {
            for room in [1, 7, 1_000] {
                let pieces = [&sent[..at], &sent[at..]];
                let passed = passed(&mut begun(), &pieces, room);
                let passed = passed.as_deref();
                assert_eq!(passed, Ok(wanted), "cut at {at}, {room} at a time");
            }
        }
    }

    #[test]
    fn what_is_well_formed_passes_as_it_is_however_it_comes() {
        let long = list(&[
            (INDEXED, ":method", "GET"),
            (NEVER, "x-a", "some value"),
            (ONCE, "te", "trailers"),
        ]);
        let sent = [
            PREFACE.to_vec(),
            frame(END_HEADERS, 1, &list(&[(INDEXED, "x", "y")])),
            vec![0, 0, 3, 0, 1, 0, 0, 0, 1, b'a', b'b', b'c'],
            frame(END_HEADERS | END_STREAM, 3, b"\x82\xbe"),
            frame(
                END_HEADERS | PADDED | PRIORITY,
                5,
                b"\x01\0\0\0\x03\x10\x82\0",
            ),
            frames(END_STREAM, 7, &long, 10),
            vec![0, 0, 0, SETTINGS, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_passes(&sent, &sent);
    }

    #[test]
    fn what_is_malformed_is_replaced_by_what_takes_as_much_room() {
        let flags = END_HEADERS | END_STREAM;
        let first = list(&[
            (INDEXED, "x-good", "1"),
            (INDEXED, "X-Bad", "12"),
            (NEVER, "a b", "1"),
            (INDEXED, "x-line", "a\nb"),
        ]);
        let replaced = [
            (INDEXED, "x-good", "1"),
            (INDEXED, "x", "xxxxxx"),
            (INDEXED, "x-line", "xxx"),
        ];
        for bytes in [1_000, 20] {
            let sent = [
                PREFACE.to_vec(),
                frames(END_STREAM, 1, &first, bytes),
                // The second of them, which is none; then the first, and another value for the name of the third, which is one.
                frame(flags, 3, b"\xbf"),
                frame(flags, 5, b"\xc0\x7e\x01a"),
            ]
            .concat();
            let wanted = [
                PREFACE.to_vec(),
                refused(flags, 1, &replaced),
                refused(flags, 3, &[]),
                frame(flags, 5, b"\xc0\x7e\x01a"),
            ]
            .concat();
            assert_passes(&sent, &wanted);
        }
    }

    #[test]
    fn whatever_no_request_has_is_replaced() {
        let twice = [(ONCE, "content-length", "1"), (ONCE, "content-length", "1")];
        let lists: [(&str, Vec<u8>); 10] = [
            ("a method twice", b"\x82\x83".to_vec()),
            ("a method behind a header", b"\x90\x82".to_vec()),
            ("a status", b"\x88".to_vec()),
            ("a header of a connection", b"\xb9".to_vec()),
            ("the same", list(&[(ONCE, "connection", "close")])),
            ("te", list(&[(ONCE, "te", "gzip")])),
            ("a path that is none", list(&[(ONCE, ":path", "a")])),
            ("no name", list(&[(ONCE, "", "")])),
            ("a length of nothing", b"\x9c".to_vec()),
            ("a length twice", list(&twice)),
        ];
        for (what, list) in lists {
            for bytes in [1, 1_000] {
                let sent = [PREFACE.to_vec(), frames(0, 1, &list, bytes)].concat();
                let wanted = [PREFACE.to_vec(), refused(END_HEADERS, 1, &[])].concat();
                let passed = passed(&mut begun(), &[&sent], 1_000);
                assert_eq!(passed, Ok(wanted), "{what}, {bytes} bytes in a frame");
            }
        }
    }

    /// Looked at again for each reference, it would be two gigabytes.
    #[test]
    fn a_long_name_is_looked_at_once_however_often_it_is_referred_to() {
        let name = "~".repeat(4_000);
        let named = frame(END_HEADERS, 1, &list(&[(INDEXED, &*name, "")]));
        // As many as fit into a frame, each a field without a value that has the name of the newest entry.
        let references = b"\x0f\x2f\x00".repeat(FRAME_BYTES as usize / 3);
        let references = frame(END_HEADERS, 3, &references).repeat(100);
        let sent = [PREFACE.to_vec(), named, references].concat();
        let start = Instant::now();
        let passed = passed(&mut begun(), &[&sent], 16_384);
        assert!(passed == Ok(sent), "it is well formed");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn trailers_have_no_part_of_a_head_and_a_ceiling() {
        let end = END_HEADERS | END_STREAM;
        let long = "v".repeat(200);
        for (what, fields) in [
            ("a path", &[(ONCE, ":path", "/")][..]),
            ("a length", &[(ONCE, "content-length", "1")]),
            ("too many", &[(ONCE, "x", "y"); 4]),
            ("too large", &[(ONCE, "x", &*long)]),
        ] {
            let sent = [PREFACE.to_vec(), frame(end, 1, &list(fields))].concat();
            assert_eq!(
                passed(&mut begun(), &[&sent], 1_000).as_ref(),
                Ok(&sent),
                "{what}, of a head"
            );
            let wanted = [PREFACE.to_vec(), refused(end, 1, &[])].concat();
            let mut lists = begun();
            lists.expect(true);
            assert_eq!(passed(&mut lists, &[&sent], 1_000), Ok(wanted), "{what}");
        }
        // One of these is 183 bytes, and what is referred to is as large as what is written.
        let kept = list(&[(INDEXED, "x", &*"v".repeat(150))]);
        let pass = [
            PREFACE.to_vec(),
            frame(END_HEADERS, 1, &kept),
            frame(end, 1, b"\xbe"),
        ]
        .concat();
        let sent = [pass.clone(), frame(end, 3, b"\xbe\xbe")].concat();
        let wanted = [pass, refused(end, 3, &[])].concat();
        let mut lists = begun();
        for is_trailers in [false, true, true] {
            lists.expect(is_trailers);
        }
        assert_eq!(passed(&mut lists, &[&sent], 1_000), Ok(wanted));
    }

    #[test]
    fn what_is_no_hpack_ends_the_connection() {
        for (what, list) in [
            ("an entry 0", b"\x80".to_vec()),
            ("a field of nothing", list(&[(INDEXED, "", "")])),
        ] {
            for bytes in [1, 1_000] {
                let sent = [PREFACE.to_vec(), frames(0, 1, &list, bytes)].concat();
                let passed = passed(&mut begun(), &[&sent], 1_000);
                assert_eq!(passed, Err(Violation::Compression), "{what}");
            }
        }
    }
}
