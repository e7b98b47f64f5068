//! Compressing answers on their way: which, how, and in little memory.
//!
//! What has been written goes out whenever the guest pauses, so a stream of events stays one. A body that breaks off is
//! never finished, so what a client unpacks is not whole either.

use std::io::{self, Write as _};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use zstd::stream::raw::CParameter;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::gate::Permit;
use crate::limits::COMPRESSED_LEAST;

/// How an answer is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Zstd,
    Brotli,
    Gzip,
}

/// What a client takes: RFC 9110, section 12.5.3.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Accepts {
    /// What it prefers of ours. None: nothing, or nothing to what there is.
    coding: Option<Coding>,
    /// It does not take what is not compressed.
    must: bool,
}

impl Accepts {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let fields = headers.get_all(header::ACCEPT_ENCODING).iter();
        let texts = fields.filter_map(|field| field.to_str().ok());
        let items: Vec<(&str, u16)> = texts
            .flat_map(|text| text.split(','))
            .filter_map(weighted)
            .collect();
        let weight = |names: &[&str]| {
            let is_one = |name: &str| names.iter().any(|one| name.eq_ignore_ascii_case(one));
            items.iter().find(|(name, _)| is_one(name)).map(|(_, q)| *q)
        };
        let any = weight(&["*"]);
        // In the order in which we prefer what a client takes alike: by what they cost for how small it gets.
        let ours = [
            (Coding::Zstd, &["zstd"][..]),
            (Coding::Brotli, &["br"]),
            (Coding::Gzip, &["gzip", "x-gzip"]),
        ];
        let mut best: Option<(Coding, u16)> = None;
        for (coding, names) in ours {
            let q = weight(names).or(any).unwrap_or(0);
            if q > best.map_or(0, |(_, best)| best) {
                best = Some((coding, q));
            }
        }
        let identity = weight(&["identity"]);
        let is_better = |(_, q): &(Coding, u16)| identity.is_none_or(|identity| *q >= identity);
        Self {
            coding: best.filter(is_better).map(|(coding, _)| coding),
            must: identity.or(any.filter(|q| *q == 0)) == Some(0),
        }
    }
}

/// A name and its weight in thousandths. None of what cannot be read.
fn weighted(item: &str) -> Option<(&str, u16)> {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().filter(|name| !name.is_empty())?;
    let Some(weight) = parts.next() else {
        return Some((name, 1000));
    };
    let digits = weight.strip_prefix("q=").or(weight.strip_prefix("Q="))?;
    let (whole, after) = digits.split_once('.').unwrap_or((digits, ""));
    let is_short = after.len() <= 3 && after.bytes().all(|byte| byte.is_ascii_digit());
    let after: u16 = format!("{after:0<3}").parse().ok().filter(|_| is_short)?;
    match (whole, after) {
        ("0", after) => Some((name, after)),
        ("1", 0) => Some((name, 1000)),
        _ => None,
    }
}

/// How an answer is to be encoded, if it is. Says in its headers that this depends on the request.
/// `size` is that of its body, if it is known.
pub(super) fn negotiate(
    accepts: Accepts,
    status: StatusCode,
    headers: &mut HeaderMap,
    size: Option<u64>,
) -> Option<Coding> {
    if !can_be(status, headers) {
        return None;
    }
    let is_small = size.is_some_and(|size| size < COMPRESSED_LEAST);
    if size == Some(0) || (is_small && !accepts.must) {
        return None;
    }
    vary(headers, "accept-encoding");
    accepts.coding
}

fn can_be(status: StatusCode, headers: &HeaderMap) -> bool {
    let is_whole = !matches!(
        status,
        StatusCode::NO_CONTENT
            | StatusCode::RESET_CONTENT
            | StatusCode::PARTIAL_CONTENT
            | StatusCode::NOT_MODIFIED
    ) && !status.is_informational();
    let is_as_it_is = [
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        // Of what is sent, byte for byte.
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("content-md5"),
        HeaderName::from_static("digest"),
    ]
    .iter()
    .any(|name| headers.contains_key(name));
    let mut controls = headers.get_all(header::CACHE_CONTROL).iter();
    let is_fixed = controls.any(|field| {
        let mut words = field.to_str().unwrap_or("").split(',');
        words.any(|word| word.trim().eq_ignore_ascii_case("no-transform"))
    });
    is_whole && !is_as_it_is && !is_fixed && is_worth_it(headers)
}

/// Whether bytes of this type get fewer. Not pictures, films and archives, which are packed, nor gRPC, which packs its
/// messages itself.
fn is_worth_it(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/")
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
        || kind.ends_with("+text")
        || PACKABLE.contains(&&*kind)
}

const PACKABLE: &[&str] = &[
    "application/json",
    "application/x-ndjson",
    "application/jsonl",
    "application/javascript",
    "application/x-javascript",
    "application/xml",
    "application/wasm",
    "application/yaml",
    "application/toml",
    "application/graphql",
    "application/sql",
    "application/rtf",
    "application/x-tar",
    "application/vnd.ms-fontobject",
    "font/ttf",
    "font/otf",
    "font/collection",
    "image/bmp",
    "image/x-icon",
    "image/vnd.microsoft.icon",
    "model/gltf-binary",
];

/// Adds a name to those on which an answer depends.
pub(super) fn vary(headers: &mut HeaderMap, name: &'static str) {
    let fields = headers.get_all(header::VARY).iter();
    let mut names = fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','));
    if !names.any(|other| matches!(other.trim(), "*") || other.trim().eq_ignore_ascii_case(name)) {
        headers.append(header::VARY, HeaderValue::from_static(name));
    }
}

/// Makes headers true of the answer once it is encoded.
pub(super) fn tell(coding: Coding, headers: &mut HeaderMap) {
    let name = match coding {
        Coding::Zstd => "zstd",
        Coding::Brotli => "br",
        Coding::Gzip => "gzip",
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::ACCEPT_RANGES);
    // RFC 9110, section 8.8.1: other bytes of the same meaning.
    if let Some(tag) = headers.get_mut(header::ETAG)
        && tag.as_bytes().starts_with(b"\"")
        && let Ok(weak) = HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat())
    {
        *tag = weak;
    }
}

/// Encodes a body piece by piece.
pub(super) struct Encoder {
    writer: Writer,
    /// What was written is not all out.
    holds_some: bool,
    _place: Permit,
}

#[allow(clippy::large_enum_variant, reason = "it is in a box")]
enum Writer {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(CompressorWriter<Vec<u8>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Finished,
}

/// Of 1 to 9. One more costs a third more for one part in a hundred.
const GZIP_LEVEL: u32 = 5;
/// Of 0 to 11. It takes 0.9 MiB; the next takes 1.6, for two parts in a hundred.
const BROTLI_LEVEL: i32 = 3;
/// Of 1 to 22. It takes 1 MiB; two more take 2.8.
const ZSTD_LEVEL: i32 = 3;
/// Two to this are the bytes in which brotli and zstd look back: most pages are smaller.
const WINDOW: u32 = 18;

impl Encoder {
    /// # Errors
    /// When there is no memory.
    pub(super) fn new(coding: Coding, place: Permit) -> io::Result<Self> {
        let writer = match coding {
            Coding::Gzip => Writer::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Brotli => {
                let parameters = BrotliEncoderParams {
                    quality: BROTLI_LEVEL,
                    lgwin: WINDOW as i32,
                    ..BrotliEncoderParams::default()
                };
                Writer::Brotli(CompressorWriter::with_params(
                    Vec::new(),
                    BROTLI_BUFFER,
                    &parameters,
                ))
            }
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW))?;
                Writer::Zstd(encoder)
            }
        };
        Ok(Self {
            writer,
            holds_some: false,
            _place: place,
        })
    }

    /// Takes a piece, and gives what is ready to go out.
    pub(super) fn write(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        self.holds_some |= !piece.is_empty();
        match &mut self.writer {
            Writer::Gzip(it) => it.write_all(piece)?,
            Writer::Brotli(it) => it.write_all(piece)?,
            Writer::Zstd(it) => it.write_all(piece)?,
            Writer::Finished => {}
        }
        Ok(self.ready())
    }

    /// Gives all that was taken; nothing, if it has been given.
    pub(super) fn flush(&mut self) -> io::Result<Bytes> {
        if !std::mem::take(&mut self.holds_some) {
            return Ok(Bytes::new());
        }
        match &mut self.writer {
            Writer::Gzip(it) => it.flush()?,
            Writer::Brotli(it) => it.flush()?,
            Writer::Zstd(it) => it.flush()?,
            Writer::Finished => {}
        }
        Ok(self.ready())
    }

    /// Gives the rest, with what says that it is all.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        let rest = match std::mem::replace(&mut self.writer, Writer::Finished) {
            Writer::Gzip(it) => it.finish()?,
            Writer::Brotli(it) => it.into_inner(),
            Writer::Zstd(it) => it.finish()?,
            Writer::Finished => Vec::new(),
        };
        Ok(rest.into())
    }

    pub(super) fn is_finished(&self) -> bool {
        matches!(self.writer, Writer::Finished)
    }

    fn ready(&mut self) -> Bytes {
        let ready = match &mut self.writer {
            Writer::Gzip(it) => it.get_mut(),
            Writer::Brotli(it) => it.get_mut(),
            Writer::Zstd(it) => it.get_mut(),
            Writer::Finished => return Bytes::new(),
        };
        std::mem::take(ready).into()
    }
}

/// Bytes that brotli's encoder gives at once.
const BROTLI_BUFFER: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let all = all.iter().map(|&(name, value)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        });
        all.collect()
    }

    #[test]
    fn a_client_gets_what_it_prefers() {
        let (zstd, brotli, gzip) = (Some(Coding::Zstd), Some(Coding::Brotli), Some(Coding::Gzip));
        for (accept, coding, must) in [
            ("", None, false),
            ("gzip", gzip, false),
            ("x-gzip", gzip, false),
            ("GZIP", gzip, false),
            ("gzip, deflate, br, zstd", zstd, false),
            ("gzip, deflate, br", brotli, false),
            ("gzip;q=1.0, br;q=0.9", gzip, false),
            ("br;q=0.001, gzip;q=0", brotli, false),
            ("deflate", None, false),
            ("*", zstd, false),
            ("*;q=0.5, zstd;q=0", brotli, false),
            ("*;q=0", None, true),
            ("identity;q=0", None, true),
            ("gzip, identity;q=0", gzip, true),
            ("gzip, *;q=0", gzip, true),
            ("identity, gzip;q=0.5", None, false),
            ("identity;q=0.5, gzip", gzip, false),
            ("gzip;q=2", None, false),
            ("gzip;q=0.0001", None, false),
            ("gzip;q=1.5, br;q=x", None, false),
            (" , ;q=1, gzip ; q=0.3 ", gzip, false),
        ] {
            let accepts = Accepts::of(&headers(&[("accept-encoding", accept)]));
            assert_eq!(accepts, Accepts { coding, must }, "{accept}");
        }
        assert_eq!(Accepts::of(&HeaderMap::new()), Accepts::default());
    }

    #[test]
    fn what_must_stay_as_it_is_is_not_touched() {
        let accepts = Accepts {
            coding: Some(Coding::Gzip),
            must: false,
        };
        let html = ("content-type", "text/html; charset=utf-8");
        let large = Some(1 << 20);
        let chosen = |status: u16, fields: &[(&'static str, &'static str)], size| {
            let status = StatusCode::from_u16(status).expect("a status");
            negotiate(accepts, status, &mut headers(fields), size).is_some()
        };
        assert!(chosen(200, &[html], large));
        assert!(chosen(404, &[html], None));
        assert!(chosen(
            200,
            &[("content-type", "application/problem+json")],
            None
        ));
        assert!(chosen(200, &[("content-type", "text/event-stream")], None));
        for status in [204, 205, 206, 304] {
            assert!(!chosen(status, &[html], large), "{status}");
        }
        for field in [
            ("content-encoding", "identity"),
            ("content-range", "bytes 0-1/2"),
            ("cache-control", "public, no-transform"),
            ("content-digest", "sha-256=:x:"),
        ] {
            assert!(!chosen(200, &[html, field], large), "{field:?}");
        }
        for kind in [
            "image/png",
            "application/grpc+proto",
            "application/zip",
            "video/mp4",
            "",
        ] {
            assert!(!chosen(200, &[("content-type", kind)], large), "{kind}");
        }
        assert!(!chosen(200, &[html], Some(10)));
        assert!(!chosen(200, &[], large));
    }

    #[test]
    fn headers_are_true_of_what_is_sent() {
        let mut fields = headers(&[
            ("content-type", "text/css"),
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("etag", "\"x\""),
            ("vary", "cookie"),
        ]);
        let accepts = Accepts {
            coding: Some(Coding::Brotli),
            must: false,
        };
        let coding = negotiate(accepts, StatusCode::OK, &mut fields, Some(5000)).expect("one");
        tell(coding, &mut fields);
        assert_eq!(fields["content-encoding"], "br");
        assert_eq!(fields["etag"], "W/\"x\"");
        assert!(!fields.contains_key("content-length") && !fields.contains_key("accept-ranges"));
        let vary: Vec<_> = fields.get_all("vary").iter().collect();
        assert_eq!(vary, ["cookie", "accept-encoding"]);
        let mut all = headers(&[("vary", "*")]);
        super::vary(&mut all, "origin");
        assert_eq!(all.get_all("vary").iter().count(), 1);
    }
}
