//! Lists of headers as clients of HTTP/2 write them (HPACK, RFC 7541), and the names in the table that a client refers to.
//!
//! h2 reads them too, and tells nobody what it has read of a list that it refuses. So this is a second reading, beneath it.

use std::borrow::Cow;
use std::collections::VecDeque;

use bytes::Bytes;

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
    name: Name,
    bytes: usize,
    is_replaced: bool,
}

/// The name of a field. A clone is the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) bytes: Bytes,
    /// Whether a header can have it (RFC 9113, 8.2.1). It is looked at where it is written, and not where it is referred to: a
    /// frame has room for thousands of references, each to a name of thousands of bytes.
    pub(super) is_of_a_header: bool,
}

impl Name {
    pub(super) fn new(bytes: Bytes) -> Name {
        Name {
            is_of_a_header: !bytes.is_empty() && bytes.iter().all(|&byte| is_of_a_name(byte)),
            bytes,
        }
    }
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            entries: VecDeque::new(),
            bytes: 0,
            most_bytes: HEADER_TABLE_BYTES as usize,
        }
    }

    /// Takes a field with a value of so many bytes. `is_replaced` is whether h2 has another in its place.
    pub(super) fn insert(&mut self, name: Name, value_bytes: usize, is_replaced: bool) {
        let bytes = ENTRY_BYTES + name.bytes.len() + value_bytes;
        let Some(left) = self.most_bytes.checked_sub(bytes) else {
            // One that is larger than the table empties it (RFC 7541, 4.4).
            self.shrink_to(0);
            return;
        };
        self.shrink_to(left);
        self.bytes += bytes;
        self.entries.push_front(Entry {
            name,
            bytes,
            is_replaced,
        });
    }

    /// Whether h2 has something else in it than the client.
    pub(super) fn has_replaced(&self) -> bool {
        self.entries.iter().any(|entry| entry.is_replaced)
    }

    fn has(&self, index: usize) -> bool {
        (1..=KNOWN.len() + self.entries.len()).contains(&index)
    }

    /// The name of an entry, and whether h2 has another field there.
    fn name(&self, index: usize) -> Result<(Name, bool), Unreadable> {
        let index = index.checked_sub(1).ok_or(Unreadable)?;
        if let Some(name) = KNOWN.get(index) {
            return Ok((Name::new(Bytes::from_static(name.as_bytes())), false));
        }
        let entry = self.entries.get(index - KNOWN.len()).ok_or(Unreadable)?;
        Ok((entry.name.clone(), entry.is_replaced))
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

/// One thing that a list says.
pub(super) enum Part<'a> {
    /// A field of the table, or how large the table is from now on
    Reference,
    Literal(Literal<'a>),
}

/// A field whose value is written in the list.
pub(super) struct Literal<'a> {
    pub(super) form: Form,
    pub(super) name: Name,
    /// Whether the name is that of an entry in whose place h2 has another
    pub(super) is_name_replaced: bool,
    pub(super) value: Cow<'a, [u8]>,
}

/// What becomes of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It goes into the table: it is for the reader of the list to put it there
    Indexed = 0x40,
    Once = 0,
    /// The same, and nobody may ever put it into a table
    Never = 0x10,
}

impl<'a> Reader<'a> {
    pub(super) fn new(list: &'a [u8]) -> Reader<'a> {
        Reader {
            list,
            rest: list,
            may_resize: true,
        }
    }

    /// How many bytes of the list are read.
    pub(super) fn at(&self) -> usize {
        self.list.len() - self.rest.len()
    }

    /// What comes next, or nothing at the end.
    pub(super) fn part(&mut self, table: &mut Table) -> Result<Option<Part<'a>>, Unreadable> {
        let Some(&first) = self.rest.first() else {
            return Ok(None);
        };
        if first & 0xe0 == 0x20 {
            if !self.may_resize {
                return Err(Unreadable);
            }
            let bytes = self.number(5)?;
            table.resize(bytes)?;
            return Ok(Some(Part::Reference));
        }
        self.may_resize = false;
        if first & 0x80 != 0 {
            let index = self.number(7)?;
            return if table.has(index) {
                Ok(Some(Part::Reference))
            } else {
                Err(Unreadable)
            };
        }
        let (form, bits) = match first >> 4 {
            0 => (Form::Once, 4),
            1 => (Form::Never, 4),
            _ => (Form::Indexed, 6),
        };
        let (name, is_name_replaced) = match self.number(bits)? {
            0 => (Name::new(Bytes::copy_from_slice(&self.text()?)), false),
            index => table.name(index)?,
        };
        Ok(Some(Part::Literal(Literal {
            form,
            name,
            is_name_replaced,
            value: self.text()?,
        })))
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

    fn text(&mut self) -> Result<Cow<'a, [u8]>, Unreadable> {
        let is_packed = self.rest.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let (text, rest) = self.rest.split_at_checked(length).ok_or(Unreadable)?;
        self.rest = rest;
        if is_packed {
            unpack(text).map(Cow::Owned)
        } else {
            Ok(Cow::Borrowed(text))
        }
    }
}

fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Writes a field with its name and its value as they are.
pub(super) fn write(list: &mut Vec<u8>, form: Form, name: &[u8], value: &[u8]) {
    list.push(form as u8);
    for text in [name, value] {
        write_length(list, text.len());
        list.extend_from_slice(text);
    }
}

fn write_length(list: &mut Vec<u8>, length: usize) {
    let Some(mut left) = length.checked_sub(0x7f) else {
        list.push(length as u8);
        return;
    };
    list.push(0x7f);
    while left > 0x7f {
        list.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    list.push(left as u8);
}

/// Reads Huffman's code of RFC 7541, 5.2.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, Unreadable> {
    // No symbol has less than 5 bits.
    let mut text = Vec::with_capacity(packed.len() * 8 / 5);
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
        Ok(text)
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

/// RFC 7541, 4.1.
const ENTRY_BYTES: usize = 32;

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

    /// The fields of a list; one that is in the table is `None`.
    fn read(table: &mut Table, list: &[u8]) -> Result<Vec<Option<(String, String)>>, Unreadable> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut reader = Reader::new(list);
        let mut fields = Vec::new();
        while let Some(part) = reader.part(table)? {
            let Part::Literal(literal) = part else {
                fields.push(None);
                continue;
            };
            fields.push(Some((text(&literal.name.bytes), text(&literal.value))));
            if literal.form == Form::Indexed {
                table.insert(literal.name, literal.value.len(), false);
            }
        }
        assert_eq!(reader.at(), list.len());
        Ok(fields)
    }

    fn field(name: &str, value: &str) -> Option<(String, String)> {
        Some((name.to_owned(), value.to_owned()))
    }

    /// RFC 7541, C.4: three requests of one connection.
    #[test]
    fn the_examples_of_the_standard_are_read() {
        let mut table = Table::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let host = field(":authority", "www.example.com");
        assert_eq!(read(&mut table, first), Ok(vec![None, None, None, host]));
        assert_eq!(table.bytes, 57);
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let cache = field("cache-control", "no-cache");
        let with = |last: Option<(String, String)>| {
            let mut fields = vec![None; 4];
            fields.push(last);
            fields
        };
        assert_eq!(read(&mut table, second), Ok(with(cache)));
        assert_eq!(table.bytes, 110);
        let third = b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let custom = field("custom-key", "custom-value");
        assert_eq!(read(&mut table, third), Ok(with(custom)));
        assert_eq!(table.bytes, 164);
        // A name of the table, the oldest entry's.
        let fourth = b"\x0f\x31\x01a";
        let host = field(":authority", "a");
        assert_eq!(read(&mut table, fourth), Ok(vec![host]));
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
            assert_eq!(read(&mut Table::new(), list), Err(Unreadable), "{what}");
        }
    }

    #[test]
    fn a_full_table_forgets_the_oldest() {
        let named = |name: &'static str| Name::new(Bytes::from_static(name.as_bytes()));
        let mut table = Table::new();
        for name in ["a", "b", "c"] {
            table.insert(named(name), 0, name == "a");
        }
        assert!(table.has(64) && !table.has(65) && table.has_replaced());
        // Room for two of 33 bytes.
        table.resize(70).expect("a smaller one");
        assert!(table.has(63) && !table.has(64) && !table.has_replaced());
        assert_eq!(table.name(63), Ok((named("b"), false)));
        table.insert(named("too large"), 70, false);
        assert!(!table.has(62));
        assert_eq!(table.bytes, 0);
    }

    #[test]
    fn what_is_written_is_read_again() {
        for length in [0, 1, 126, 127, 128, 254, 255, 256, 16_000] {
            let value = "v".repeat(length);
            let mut list = Vec::new();
            write(&mut list, Form::Never, b"x", value.as_bytes());
            assert_eq!(
                read(&mut Table::new(), &list),
                Ok(vec![field("x", &value)]),
                "{length}"
            );
        }
    }
}
