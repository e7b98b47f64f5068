//! The lists of headers of an HTTP/2 connection on their way to h2.
//!
//! A field that no header can be makes its request malformed, which is an error of its stream (RFC 9113, 8.1.1 and 8.2.1). h2
//! resets the stream for much of what is wrong with a request; a name or a value that it cannot read is no HPACK to it, and it
//! ends the connection, with all other streams. So such a field is taken out here, and one put in for which h2 resets the
//! stream. What went into the table with it takes as much room there as before, or what a client refers to afterwards would
//! not be what it means.
//!
//! SETTINGS pass here too: for a window that cannot be h2 has another code than the standard.

use bytes::Bytes;
use http::{Method, StatusCode};
use tokio::io::ReadBuf;

use super::frames::{END_HEADERS, END_STREAM, HEAD_BYTES, HEADERS, Head, SETTINGS, Violation};
use super::h2::FRAME_BYTES;
use super::hpack::{Form, Literal, Name, Part, Reader, Table, write};
use super::preface::PREFACE;

/// How far the reading of a connection is.
pub(super) struct HeaderLists {
    table: Table,
    /// Bytes to come that pass as they are
    passing: usize,
    /// The beginning of a frame that has to be whole first
    held: Vec<u8>,
    /// What h2 gets before anything else
    ready: Bytes,
    /// After a list of more than one frame all is left to h2
    is_left_alone: bool,
}

impl HeaderLists {
    pub(super) fn new() -> HeaderLists {
        HeaderLists {
            table: Table::new(),
            passing: PREFACE.len(),
            held: Vec::new(),
            ready: Bytes::new(),
            is_left_alone: false,
        }
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
        if self.is_left_alone {
            return Ok(());
        }
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
            self.held = held.split_off(end);
            self.ready = changed.unwrap_or(held).into();
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
            let Some((head, rest)) = bytes[at..].split_first_chunk::<HEAD_BYTES>() else {
                break;
            };
            let head = Head::read(*head);
            let length = head.length as usize;
            let is_too_long = head.length > FRAME_BYTES;
            if head.kind != HEADERS && (head.kind != SETTINGS || is_too_long) {
                self.passing = HEAD_BYTES + length;
                continue;
            }
            if head.kind == HEADERS && (!head.has(END_HEADERS) || is_too_long) {
                if self.table.has_replaced() {
                    return Err(Violation::Inseparable);
                }
                self.is_left_alone = true;
                self.table = Table::new();
                at = bytes.len();
                break;
            }
            let Some(payload) = rest.get(..length) else {
                break;
            };
            if head.kind == SETTINGS {
                if has_a_window_that_cannot_be(payload) {
                    return Err(Violation::Window);
                }
                at += HEAD_BYTES + length;
                continue;
            }
            if let Some(frame) = self.instead_of(head, payload)? {
                let changed = changed.get_or_insert_default();
                changed.extend_from_slice(&bytes[copied..at]);
                changed.extend(frame);
                copied = at + HEAD_BYTES + length;
            }
            at += HEAD_BYTES + length;
        }
        if let Some(changed) = &mut changed {
            changed.extend_from_slice(&bytes[copied..at]);
        }
        Ok((at, changed))
    }

    /// Reads the list of a frame. Gives the frame that h2 gets, if that is another.
    fn instead_of(&mut self, head: Head, payload: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let Some((list, depends_on_itself)) = list_of(head, payload) else {
            // h2 ends the connection for it.
            return Ok(None);
        };
        // h2 would not read the list of a stream that depends on itself, and so not what goes into the table.
        let mut is_malformed = depends_on_itself;
        let mut changed = Vec::new();
        let mut copied = 0;
        let mut reader = Reader::new(list);
        loop {
            let start = reader.at();
            let Some(part) = reader.part(&mut self.table)? else {
                break;
            };
            let Part::Literal(field) = part else {
                continue;
            };
            let is_wrong = !is_field(&field.name, &field.value);
            is_malformed |= is_wrong;
            if is_wrong || field.is_name_replaced {
                changed.extend_from_slice(&list[copied..start]);
                write_instead(&mut changed, &field, is_wrong)?;
                copied = reader.at();
                // Looked at here: a long name can be written in place of each of thousands of references to it.
                if changed.len() > FRAME_BYTES as usize {
                    return Err(Violation::Inseparable);
                }
            }
            if field.form == Form::Indexed {
                self.table.insert(field.name, field.value.len(), is_wrong);
            }
        }
        if copied == 0 && !is_malformed {
            return Ok(None);
        }
        changed.extend_from_slice(&list[copied..]);
        if is_malformed {
            write(&mut changed, Form::Once, MALFORMED, b"x");
        }
        let length = u32::try_from(changed.len())
            .ok()
            .filter(|&length| length <= FRAME_BYTES)
            .ok_or(Violation::Inseparable)?;
        let mut frame = Vec::with_capacity(HEAD_BYTES + changed.len());
        frame.extend_from_slice(&length.to_be_bytes()[1..]);
        // Neither padding nor a priority is left.
        frame.extend([HEADERS, head.flags & (END_STREAM | END_HEADERS)]);
        frame.extend(head.stream.to_be_bytes());
        frame.append(&mut changed);
        Ok(Some(frame))
    }
}

/// Whether SETTINGS_INITIAL_WINDOW_SIZE is above 2^31 - 1.
fn has_a_window_that_cannot_be(settings: &[u8]) -> bool {
    settings
        .chunks_exact(6)
        .any(|setting| setting[..2] == [0, 4] && setting[2] & 0x80 != 0)
}

/// The list in a frame, and whether its stream depends on itself. None if the frame is shorter than it says.
fn list_of(head: Head, payload: &[u8]) -> Option<(&[u8], bool)> {
    let mut rest = payload;
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
    let list = rest.get(..rest.len().checked_sub(padding)?)?;
    Some((list, depends_on_itself))
}

/// Writes what replaces a field: nothing, or something that takes the same room in the table.
fn write_instead(list: &mut Vec<u8>, field: &Literal<'_>, is_wrong: bool) -> Result<(), Violation> {
    let name = &field.name.bytes;
    if !is_wrong {
        // Only its name is a reference to what h2 does not have.
        write(list, field.form, name, &field.value);
    } else if field.form == Form::Indexed {
        let left = (name.len() + field.value.len())
            .checked_sub(MALFORMED.len())
            .ok_or(Violation::Inseparable)?;
        // Whoever refers to it is malformed too.
        write(list, Form::Indexed, MALFORMED, &vec![b'x'; left]);
    }
    Ok(())
}

/// Whether there can be such a field (RFC 9113, 8.2.1 and 8.3). h2 reads all that can be, and more of paths: it cuts off a
/// fragment without a word.
fn is_field(name: &Name, value: &[u8]) -> bool {
    match &name.bytes[..] {
        b":method" => Method::from_bytes(value).is_ok(),
        b":status" => StatusCode::from_bytes(value).is_ok(),
        b":path" => {
            (value == b"*" || value.starts_with(b"/"))
                && !value.contains(&b'#')
                && std::str::from_utf8(value).is_ok()
        }
        b":authority" | b":scheme" | b":protocol" => std::str::from_utf8(value).is_ok(),
        _ => {
            name.is_of_a_header
                && value
                    .iter()
                    .all(|&byte| byte == b'\t' || byte >= b' ' && byte != 0x7f)
        }
    }
}

/// The shortest name for which h2 resets a stream, unless the value is `trailers` (RFC 9113, 8.2.2).
const MALFORMED: &[u8] = b"te";

const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn frame(flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], HEADERS, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn list(fields: &[(Form, &str, &str)]) -> Vec<u8> {
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
                let passed = passed(&mut HeaderLists::new(), &pieces, room);
                let passed = passed.as_deref();
                assert_eq!(passed, Ok(wanted), "cut at {at}, {room} at a time");
            }
        }
    }

    #[test]
    fn what_is_well_formed_passes_as_it_is_however_it_comes() {
        let sent = [
            PREFACE.to_vec(),
            frame(END_HEADERS, 1, &list(&[(Form::Indexed, "x", "y")])),
            vec![0, 0, 3, 0, 1, 0, 0, 0, 1, b'a', b'b', b'c'],
            frame(END_HEADERS | END_STREAM, 3, b"\x82\xbe"),
            frame(
                END_HEADERS | PADDED | PRIORITY,
                5,
                b"\x01\0\0\0\x03\x10\x82\0",
            ),
        ]
        .concat();
        assert_passes(&sent, &sent);
    }

    #[test]
    fn what_h2_would_not_read_is_replaced_by_what_takes_as_much_room() {
        let flags = END_HEADERS | END_STREAM;
        let sent = [
            PREFACE.to_vec(),
            frame(
                flags,
                1,
                &list(&[
                    (Form::Indexed, "x-good", "1"),
                    (Form::Indexed, "X-Bad", "12"),
                    (Form::Never, "a b", "1"),
                    (Form::Indexed, "x-line", "a\nb"),
                ]),
            ),
            // The second of them, the first, and another value for the name of the third, which is a good one.
            frame(flags, 3, b"\xbf\xc0\x7e\x01a"),
        ]
        .concat();
        let mut good = Vec::new();
        write(&mut good, Form::Indexed, b"x-line", b"a");
        let wanted = [
            PREFACE.to_vec(),
            frame(
                flags,
                1,
                &list(&[
                    (Form::Indexed, "x-good", "1"),
                    (Form::Indexed, "te", "xxxxx"),
                    (Form::Indexed, "te", "xxxxxxx"),
                    (Form::Once, "te", "x"),
                ]),
            ),
            frame(flags, 3, &[b"\xbf\xc0".to_vec(), good].concat()),
        ]
        .concat();
        assert_passes(&sent, &wanted);
    }

    /// As many as fit into a frame, each a field without a value that has the name of the newest entry.
    fn references() -> Vec<u8> {
        b"\x0f\x2f\x00".repeat(FRAME_BYTES as usize / 3)
    }

    /// Looked at again for each reference, it would be two gigabytes.
    #[test]
    fn a_long_name_is_looked_at_once_however_often_it_is_referred_to() {
        let name = "~".repeat(4_000);
        let named = frame(END_HEADERS, 1, &list(&[(Form::Indexed, &*name, "")]));
        let references = frame(END_HEADERS, 3, &references()).repeat(100);
        let sent = [PREFACE.to_vec(), named, references].concat();
        let start = Instant::now();
        let passed = passed(&mut HeaderLists::new(), &[&sent], 16_384);
        assert!(passed == Ok(sent), "it is well formed");
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    }

    #[test]
    fn what_cannot_be_refused_alone_ends_the_connection() {
        let bad = frame(END_HEADERS, 1, &list(&[(Form::Indexed, "X-Bad", "1")]));
        let too_short = frame(END_HEADERS, 1, &list(&[(Form::Indexed, "X", "")]));
        let long = "~".repeat(4_000);
        let long = frame(END_HEADERS, 1, &list(&[(Form::Indexed, &*long, "\n")]));
        let many = frame(END_HEADERS, 3, &references());
        let without_end = frame(0, 3, b"\x82");
        let no_hpack = frame(END_HEADERS, 1, b"\x80");
        for (what, frames, wanted) in [
            (
                "a replaced field, and a list of several frames",
                [bad, without_end.clone()].concat(),
                Err(Violation::Inseparable),
            ),
            ("no room", too_short, Err(Violation::Inseparable)),
            (
                "a long name in place of many references to it",
                [long, many].concat(),
                Err(Violation::Inseparable),
            ),
            ("no HPACK", no_hpack.clone(), Err(Violation::Compression)),
            (
                "what is left to h2",
                [without_end.clone(), no_hpack.clone()].concat(),
                Ok([PREFACE.to_vec(), without_end, no_hpack].concat()),
            ),
        ] {
            let passed = passed(&mut HeaderLists::new(), &[PREFACE, &frames], 1_000);
            assert_eq!(passed, wanted, "{what}");
        }
    }
}
