//! Lists of headers as clients of HTTP/2 write them (HPACK, RFC 7541), and the names in the table that a client refers to.
//!
//! h2 reads them too, and tells nobody what it has read of a list that it refuses. So this is a second reading, beneath it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::field::{Kind, METHOD};
use super::h2::HEADER_TABLE_BYTES;

/// These bytes are no HPACK: what is in the client's table from here on, nobody knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What a client can refer to (RFC 7541, 2.3). Of fields that it has sent before there are the names, and how much room each
/// takes; the values are h2's to keep.
pub(super) struct Table {
    /// The newest is the first
    entries: VecDeque<Entry>,
    bytes: usize,
    most_bytes: usize,
}

struct Entry {
    name: Bytes,
    /// It is looked at where a name is written, and not where it is referred to: a frame has room for thousands of references,
    /// each to a name of thousands of bytes
    kind: Kind,
    bytes: usize,
    /// Where its value stands in the list that it came with
    value_at: usize,
    /// Whether whoever refers to it is malformed; h2 has something else of that size in its place
    is_malformed: bool,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            entries: VecDeque::new(),
            bytes: 0,
            most_bytes: HEADER_TABLE_BYTES as usize,
        }
    }

    /// A list that puts the newest `count` entries, which came with `list`, into h2's table. In the place of those that are
    /// malformed it has others with the same name, if it is one, that take as much room.
    ///
    /// h2 may keep older entries for longer than the client does; they are behind all that the client can refer to.
    pub(super) fn again(&self, count: usize, list: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut again = Vec::new();
        write_number(&mut again, 0x20, 5, self.most_bytes);
        let mut room = Vec::new();
        for entry in self.entries.iter().take(count).rev() {
            if !entry.is_malformed {
                let value = list.get(entry.value_at..).ok_or(Unreadable)?;
                let value = Reader::new(value).text(&mut room)?;
                write(&mut again, INDEXED, &entry.name, value);
                continue;
            }
            let name = match entry.kind {
                Kind::Wrong => &b"x"[..],
                _ => &entry.name[..],
            };
            // Nothing has neither a name nor a value.
            let left = (entry.bytes - ENTRY_BYTES)
                .checked_sub(name.len())
                .ok_or(Unreadable)?;
            write(&mut again, INDEXED, name, &vec![b'x'; left]);
        }
        Ok(again)
    }

    fn insert(&mut self, entry: Entry) {
        let Some(left) = self.most_bytes.checked_sub(entry.bytes) else {
            // One that is larger than the table empties it (RFC 7541, 4.4).
            self.shrink_to(0);
            return;
        };
        self.shrink_to(left);
        self.bytes += entry.bytes;
        self.entries.push_front(entry);
    }

    /// What the name of an entry is, and whether the entry is malformed.
    fn look(&self, index: usize) -> Result<(Kind, bool), Unreadable> {
        let index = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some(name) = KNOWN.get(index) {
            let kind = Kind::of(name.as_bytes());
            // A length has no value there, and so is none.
            let is_malformed = matches!(kind, Kind::Length | Kind::OfConnection | Kind::Wrong);
            return Ok((kind, is_malformed));
        }
        let entry = self.entries.get(index - KNOWN.len()).ok_or(Unreadable)?;
        Ok((entry.kind, entry.is_malformed))
    }

    fn name(&self, index: usize) -> Result<Bytes, Unreadable> {
        let index = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some(name) = KNOWN.get(index) {
            return Ok(Bytes::from_static(name.as_bytes()));
        }
        let entry = self.entries.get(index - KNOWN.len()).ok_or(Unreadable)?;
        Ok(entry.name.clone())
    }

    fn bytes_of(&self, index: usize) -> Result<usize, Unreadable> {
        match index.checked_sub(KNOWN.len() + 1) {
            Some(nth) => Ok(self.entries.get(nth).ok_or(Unreadable)?.bytes),
            None => Ok(ENTRY_BYTES + self.name(index)?.len()),
        }
    }

    fn resize(&mut self, bytes: usize) -> Result<(), Unreadable> {
        if bytes > HEADER_TABLE_BYTES as usize {
            return Err(Unreadable);
        }
        self.most_bytes = bytes;
        self.shrink_to(bytes);
        Ok(())
    }

    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some(oldest) = self.entries.pop_back() else {
                return;
            };
            self.bytes -= oldest.bytes;
        }
    }
}

/// Reads a list from its beginning to its end.
pub(super) struct Reader<'a> {
    list: &'a [u8],
    rest: &'a [u8],
    may_resize: bool,
}

/// What can be told of a field.
pub(super) struct Field {
    pub(super) kind: Kind,
    /// Whether no request can have it
    pub(super) is_malformed: bool,
    /// Whether it went into the table
    pub(super) is_kept: bool,
    /// How large it is, as the table counts; without the few bytes of a value that is always there
    pub(super) bytes: usize,
}

/// Where texts in Huffman's code are unpacked: one for a list, and not one for each of its fields.
#[derive(Default)]
pub(super) struct Room {
    name: Vec<u8>,
    value: Vec<u8>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(list: &'a [u8]) -> Reader<'a> {
        Reader {
            list,
            rest: list,
            may_resize: true,
        }
    }

    /// The next field, which goes into the table if it is for it; nothing at the end.
    pub(super) fn field(
        &mut self,
        table: &mut Table,
        room: &mut Room,
    ) -> Result<Option<Field>, Unreadable> {
        let first = loop {
            let Some(&first) = self.rest.first() else {
                return Ok(None);
            };
            if first & 0xe0 != 0x20 {
                break first;
            }
            if !self.may_resize {
                return Err(Unreadable);
            }
            let bytes = self.number(5)?;
            table.resize(bytes)?;
        };
        self.may_resize = false;
        if first & 0x80 != 0 {
            let index = self.number(7)?;
            let (kind, is_malformed) = table.look(index)?;
            return Ok(Some(Field {
                kind,
                is_malformed,
                is_kept: false,
                bytes: table.bytes_of(index)?,
            }));
        }
        let is_kept = first & INDEXED != 0;
        let index = self.number(if is_kept { 6 } else { 4 })?;
        let (kind, name_bytes, name) = if index == 0 {
            let written = self.text(&mut room.name)?;
            let name = match is_kept {
                true => Bytes::copy_from_slice(written),
                false => Bytes::new(),
            };
            (Kind::of(written), written.len(), name)
        } else {
            let name = table.name(index)?;
            (table.look(index)?.0, name.len(), name)
        };
        let value_at = self.list.len() - self.rest.len();
        let value = self.text(&mut room.value)?;
        let is_malformed = !kind.takes(value);
        let bytes = ENTRY_BYTES + name_bytes + value.len();
        if is_kept {
            // h2 has no empty method, whose name could be referred to.
            let is_no_method = kind == METHOD && value.is_empty();
            table.insert(Entry {
                kind: if is_no_method { Kind::Wrong } else { kind },
                bytes,
                name,
                value_at,
                is_malformed,
            });
        }
        Ok(Some(Field {
            kind,
            is_malformed,
            is_kept,
            bytes,
        }))
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        let (&byte, rest) = self.rest.split_first().ok_or(Unreadable)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A number that begins in the last `bits` of a byte (RFC 7541, 5.1), of at most five bytes, as h2 reads it.
    fn number(&mut self, bits: u32) -> Result<usize, Unreadable> {
        let most = (1_usize << bits) - 1;
        let mut number = usize::from(self.byte()?) & most;
        if number < most {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            number += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Unreadable)
    }

    /// A name or a value, which is unpacked into `room` if it has to be.
    fn text<'r>(&mut self, room: &'r mut Vec<u8>) -> Result<&'r [u8], Unreadable>
    where
        'a: 'r,
    {
        let is_packed = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        if !is_packed {
            return Ok(text);
        }
        unpack(text, room)?;
        Ok(&room[..])
    }
}

/// Writes a field with its name and its value as they are.
pub(super) fn write(list: &mut Vec<u8>, form: u8, name: &[u8], value: &[u8]) {
    list.push(form);
    for text in [name, value] {
        write_number(list, 0, 7, text.len());
        list.extend_from_slice(text);
    }
}

/// Writes a number that begins in the last `bits` of `first`.
fn write_number(list: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let most = (1_usize << bits) - 1;
    let Some(mut left) = number.checked_sub(most) else {
        list.push(first | number as u8);
        return;
    };
    list.push(first | most as u8);
    while left > 0x7f {
        list.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    list.push(left as u8);
}

/// Reads Huffman's code of RFC 7541, 5.2.
fn unpack(packed: &[u8], text: &mut Vec<u8>) -> Result<(), Unreadable> {
    text.clear();
    // No symbol has less than 5 bits.
    text.reserve(packed.len() * 8 / 5);
    let (mut bits, mut count) = (0_u64, 0_u32);
    for &byte in packed {
        bits = (bits << 8) | u64::from(byte);
        count += 8;
        while let Some((symbol, length)) = symbol(bits, count) {
            text.push(symbol);
            count -= length;
        }
        if count >= LONGEST {
            // The one that no text may have: the end.
            return Err(Unreadable);
        }
    }
    let padding = (1 << count) - 1;
    if count < 8 && bits & padding == padding {
        Ok(())
    } else {
        Err(Unreadable)
    }
}

/// The first symbol of the last `count` of `bits`, and how many it takes.
fn symbol(bits: u64, count: u32) -> Option<(u8, u32)> {
    let mut shorter = 0;
    for &(length, first, symbols) in &CODES {
        let left = count.checked_sub(length)?;
        let code = (bits >> left) & ((1 << length) - 1);
        let nth = code.checked_sub(first).filter(|&nth| nth < symbols);
        if let Some(nth) = nth {
            let symbol = SYMBOLS.get((shorter + nth) as usize)?;
            return Some((*symbol, length));
        }
        shorter += symbols;
    }
    None
}

/// A field that goes into the table, written with its name (RFC 7541, 6.2.1).
pub(super) const INDEXED: u8 = 0x40;

/// One that does not (6.2.2).
pub(super) const ONCE: u8 = 0;

/// RFC 7541, 4.1.
pub(super) const ENTRY_BYTES: usize = 32;

/// Names of the entries that are always there (RFC 7541, appendix A).
static KNOWN: [&str; 61] = [
    ":authority",
    ":method",
    ":method",
    ":path",
    ":path",
    ":scheme",
    ":scheme",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    ":status",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "accept",
    "access-control-allow-origin",
    "age",
    "allow",
    "authorization",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "expires",
    "from",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "link",
    "location",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "referer",
    "refresh",
    "retry-after",
    "server",
    "set-cookie",
    "strict-transport-security",
    "transfer-encoding",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
];

/// RFC 7541, appendix B: bits, the first code of so many, and how many there are; those of one length follow each other.
static CODES: [(u32, u64, u64); 21] = [
    (5, 0x0, 10),
    (6, 0x14, 26),
    (7, 0x5c, 32),
    (8, 0xf8, 6),
    (10, 0x3f8, 5),
    (11, 0x7fa, 3),
    (12, 0xffa, 2),
    (13, 0x1ff8, 6),
    (14, 0x3ffc, 2),
    (15, 0x7ffc, 3),
    (19, 0x7_fff0, 3),
    (20, 0xf_ffe6, 8),
    (21, 0x1f_ffdc, 13),
    (22, 0x3f_ffd2, 26),
    (23, 0x7f_ffd8, 29),
    (24, 0xff_ffea, 12),
    (25, 0x1ff_ffec, 4),
    (26, 0x3ff_ffe0, 15),
    (27, 0x7ff_ffde, 19),
    (28, 0xfff_ffe2, 29),
    (30, 0x3fff_fffc, 3),
];

/// Bits of the longest code.
const LONGEST: u32 = 30;

/// What [`CODES`] stand for, in their order.
static SYMBOLS: [u8; 256] = *b"012aceiost\
    \x20%-./3456789=A_bdfghlmnpru\
    :BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz\
    &*,;XZ\
    !\"()?\
    '+|\
    #>\
    \0$@[]~\
    ^}\
    <`{\
    \\\xc3\xd0\
    \x80\x82\x83\xa2\xb8\xc2\xe0\xe2\
    \x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\
    \x81\x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\
    \x01\x87\x89\x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\
    \x09\x8e\x90\x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\
    \xc7\xcf\xea\xeb\
    \xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\
    \xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe\
    \x02\x03\x04\x05\x06\x07\x08\x0b\x0c\x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\
    \n\r\x16";

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a list, and gives the one that puts into h2's table what it puts into this.
    fn again(table: &mut Table, list: &[u8]) -> Result<Vec<u8>, Unreadable> {
        let mut reader = Reader::new(list);
        let mut room = Room::default();
        let mut kept = 0;
        while let Some(field) = reader.field(table, &mut room)? {
            kept += usize::from(field.is_kept);
        }
        table.again(kept, list)
    }

    /// Fields for a table of the usual size.
    fn kept(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut list = b"\x3f\xe1\x1f".to_vec();
        for (name, value) in fields {
            write(&mut list, INDEXED, name.as_bytes(), value.as_bytes());
        }
        list
    }

    /// RFC 7541, C.4: three requests of one connection.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut table = Table::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let host = kept(&[(":authority", "www.example.com")]);
        assert_eq!(again(&mut table, first), Ok(host));
        assert_eq!(table.bytes, 57);
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let cache = kept(&[("cache-control", "no-cache")]);
        assert_eq!(again(&mut table, second), Ok(cache));
        assert_eq!(table.bytes, 110);
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let custom = kept(&[("custom-key", "custom-value")]);
        assert_eq!(again(&mut table, third), Ok(custom));
        assert_eq!(table.bytes, 164);
        // A name of the table, the oldest entry's.
        let fourth = b"\x7f\x01\x01a";
        assert_eq!(again(&mut table, fourth), Ok(kept(&[(":authority", "a")])));
    }

    #[test]
    fn what_is_malformed_is_put_again_as_something_of_its_size() {
        let sent = kept(&[
            ("X-Upper", "1"),
            ("x-line", "a\nb"),
            ("good", "1"),
            (":method", ""),
            ("connection", "close"),
            ("X", ""),
        ]);
        let wanted = kept(&[
            ("x", "xxxxxxx"),
            ("x-line", "xxx"),
            ("good", "1"),
            ("x", "xxxxxx"),
            ("connection", "xxxxx"),
            ("x", ""),
        ]);
        let mut table = Table::new();
        assert_eq!(again(&mut table, &sent), Ok(wanted));
        let malformed: Vec<_> = (62..68).map(|index| table.look(index).unwrap().1).collect();
        assert_eq!(malformed, [true, true, true, false, true, true]);
        // Of the name of a value that is none there can be others, and none of what is no name.
        assert_eq!(table.look(66), Ok((Kind::Header, true)));
        assert_eq!(table.look(64), Ok((Kind::Wrong, true)));
        let nothing = kept(&[("", "")]);
        assert_eq!(again(&mut Table::new(), &nothing), Err(Unreadable));
    }

    #[test]
    fn symbols_are_each_there_once_and_fill_their_code() {
        let mut symbols = SYMBOLS;
        symbols.sort_unstable();
        assert!((0..=255_u8).eq(symbols));
        // Each code begins where those that are shorter end, and the end of a text is the last.
        let mut next = 0;
        let mut bits = 0;
        for (length, first, symbols) in CODES {
            next <<= length - bits;
            assert_eq!(next, first, "{length} bits");
            next += symbols;
            bits = length;
        }
        assert_eq!((bits, next), (LONGEST, (1 << LONGEST) - 1));
    }

    #[test]
    fn what_is_no_hpack_is_known_for_it() {
        let lists: [(&str, &[u8]); 13] = [
            ("an entry 0", b"\x80"),
            ("an entry that is not there", b"\xbe"),
            ("a name that is not there", b"\x7f\x00\x01a"),
            ("a number without an end", b"\xff\x80\x80\x80\x80\x01"),
            ("a number that is cut", b"\xff"),
            ("a field without a name", b"\x40"),
            ("a field without a value", b"\x00\x01a"),
            ("a text that is cut", b"\x00\x05a"),
            ("a padding of zeros", b"\x00\x01a\x81\x00"),
            ("a padding of a byte", b"\x00\x01a\x82\x1f\xff"),
            ("the end within a text", b"\x00\x01a\x84\xff\xff\xff\xff"),
            ("a table that is too large", b"\x3f\xe2\x1f"),
            ("a table that changes later", b"\x82\x20"),
        ];
        for (what, list) in lists {
            assert_eq!(again(&mut Table::new(), list), Err(Unreadable), "{what}");
        }
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let mut table = Table::new();
        let sent = kept(&[("a", ""), ("b", ""), ("te", "")]);
        again(&mut table, &sent).expect("a list");
        assert!(table.look(64).is_ok() && table.look(65).is_err());
        // Room for two of 33 and 34 bytes.
        table.resize(70).expect("a smaller one");
        assert_eq!(table.name(63), Ok(Bytes::from_static(b"b")));
        assert_eq!(table.look(62), Ok((Kind::Te, true)));
        assert!(table.look(64).is_err());
        let mut large = Vec::new();
        write(&mut large, INDEXED, b"large", &[b'x'; 70]);
        // What came before it is not in the table any more, and it never was.
        assert_eq!(again(&mut table, &large), Ok(b"\x3f\x27".to_vec()));
        assert!(table.look(62).is_err());
        assert_eq!(table.bytes, 0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 4_000] {
            let sent = kept(&[("x", &*"v".repeat(length))]);
            assert_eq!(again(&mut Table::new(), &sent), Ok(sent), "{length}");
        }
    }
}
