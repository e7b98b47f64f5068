//! Where a chunked body ends (RFC 9112, section 7.1). hyper decodes it; this only finds the end, and is stricter.

/// How far the reading of a chunked body is.
pub(super) struct Chunks(Place);

/// The bytes are not a chunked body.
#[derive(Debug)]
pub(super) struct Malformed;

#[derive(Clone, Copy)]
enum Place {
    /// In a chunk's size: its value, and how many digits it has so far
    Size(u64, u8),
    /// After the size: white space or an extension, of a chunk of that size
    Extension(u64),
    SizeLf(u64),
    /// In a chunk's bytes, with so many to come
    Data(u64),
    DataCr,
    DataLf,
    /// At the start of a line of the trailers, or of the empty line that ends them
    Line,
    InLine,
    LineLf,
    EndLf,
    End,
}

impl Chunks {
    pub(super) fn new() -> Chunks {
        Chunks(Place::Size(0, 0))
    }

    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.0, Place::End)
    }

    /// How many of the bytes belong to the body.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && !self.is_at_end() {
            if let Place::Data(left) = &mut self.0 {
                let rest = bytes.len() - at;
                let data = usize::try_from(*left).map_or(rest, |left| left.min(rest));
                at += data;
                *left -= data as u64;
                if *left == 0 {
                    self.0 = Place::DataCr;
                }
                continue;
            }
            self.0 = self.0.after(bytes[at]).ok_or(Malformed)?;
            at += 1;
        }
        Ok(at)
    }
}

impl Place {
    fn after(self, byte: u8) -> Option<Place> {
        Some(match (self, byte) {
            (Place::Size(size, digits), _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                if digits == MAX_DIGITS {
                    return None;
                }
                Place::Size(size * 16 + u64::from(digit), digits + 1)
            }
            (Place::Size(_, 0), _) => return None,
            (Place::Size(size, _) | Place::Extension(size), b'\r') => Place::SizeLf(size),
            (Place::Size(size, _), b';' | b' ' | b'\t') => Place::Extension(size),
            (Place::Extension(size), _) if is_text(byte) => Place::Extension(size),
            (Place::SizeLf(0), b'\n') => Place::Line,
            (Place::SizeLf(size), b'\n') => Place::Data(size),
            (Place::DataCr, b'\r') => Place::DataLf,
            (Place::DataLf, b'\n') => Place::Size(0, 0),
            (Place::Line, b'\r') => Place::EndLf,
            (Place::InLine, b'\r') => Place::LineLf,
            (Place::Line | Place::InLine, _) if is_text(byte) => Place::InLine,
            (Place::LineLf, b'\n') => Place::Line,
            (Place::EndLf, b'\n') => Place::End,
            _ => return None,
        })
    }
}

/// What may stand in a line: no control characters but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// A chunk's size has at most so many digits: 2^60 bytes.
const MAX_DIGITS: u8 = 15;
