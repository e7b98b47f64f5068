//! What is sent: a status, headers, and a text or a part of a file.

use crate::range::{Part, part};
use std::ops::Range;
use std::time::{Duration, SystemTime};
use wasip2::filesystem::types::{Descriptor, DescriptorStat, ErrorCode};
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

pub(crate) struct Answer {
    status: u16,
    headers: Fields,
    body: Body,
}

enum Body {
    Text(String),
    File(Descriptor, Range<u64>),
}

impl Answer {
    pub(crate) fn text(status: u16, text: &str) -> Answer {
        Answer::new(status, Body::Text(text.to_owned()))
            .with("content-type", "text/plain; charset=utf-8")
    }

    pub(crate) fn html(page: String) -> Answer {
        Answer::new(200, Body::Text(page)).with("content-type", "text/html; charset=utf-8")
    }

    pub(crate) fn not_found() -> Answer {
        Answer::text(404, "not found\n")
    }

    /// A file, or the part of it that the client lacks.
    pub(crate) fn file(
        request: &IncomingRequest,
        file: Descriptor,
        path: &str,
        found: &DescriptorStat,
    ) -> Result<Answer, ErrorCode> {
        let headers = request.headers();
        let header = |name| {
            headers
                .get(name)
                .into_iter()
                .next()
                .and_then(|value| String::from_utf8(value).ok())
        };
        let modified = found
            .data_modification_timestamp
            .map(|time| {
                httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.seconds))
            })
            .unwrap_or_default();

        if !headers.has("if-none-match") && is_fresh(header("if-modified-since"), &modified) {
            return Ok(Answer::new(304, Body::Text(String::new())).with("last-modified", &modified));
        }
        // A part of an old version is no use together with a part of the new one.
        let wanted =
            header("range").filter(|_| header("if-range").is_none_or(|date| date == modified));
        let length = found.size;
        let (status, bytes) = match part(wanted.as_deref(), length) {
            Part::Whole => (200, 0..length),
            Part::Some(bytes) => (206, bytes),
            Part::Outside => {
                return Ok(Answer::text(416, "no such range\n")
                    .with("content-range", &format!("bytes */{length}")));
            }
        };
        let answer = Answer::new(status, Body::File(file, bytes.clone()))
            .with("content-type", content_type(path))
            .with("x-content-type-options", "nosniff")
            .with("accept-ranges", "bytes")
            .with("last-modified", &modified);
        Ok(match status {
            206 => answer.with(
                "content-range",
                &format!("bytes {}-{}/{length}", bytes.start, bytes.end - 1),
            ),
            _ => answer,
        })
    }

    fn new(status: u16, body: Body) -> Answer {
        let answer = Answer {
            status,
            headers: Fields::new(),
            body,
        };
        let length = match &answer.body {
            Body::Text(text) => text.len() as u64,
            Body::File(_, bytes) => bytes.end - bytes.start,
        };
        if status == 304 {
            answer
        } else {
            answer.with("content-length", &length.to_string())
        }
    }

    pub(crate) fn with(self, name: &str, value: &str) -> Answer {
        if !value.is_empty() {
            self.headers.append(name, value.as_bytes()).ok();
        }
        self
    }

    pub(crate) fn send(self, out: ResponseOutparam, head_only: bool) {
        let response = OutgoingResponse::new(self.headers);
        response.set_status_code(self.status).ok();
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(out, Ok(response));

        let sent = if head_only {
            Ok(())
        } else {
            self.body.write(&body)
        };
        // A body that is dropped and not finished tells the client that it is incomplete. After HEAD the
        // host may miss the bytes that content-length promises; the client does not.
        if sent.is_ok() {
            OutgoingBody::finish(body, None).ok();
        }
    }
}

impl Body {
    fn write(&self, body: &OutgoingBody) -> Result<(), StreamError> {
        let out = body.write().expect("one writer");
        match self {
            Body::Text(text) => text
                .as_bytes()
                .chunks(4096)
                .try_for_each(|chunk| out.blocking_write_and_flush(chunk)),
            Body::File(file, bytes) => copy(file, bytes, &out),
        }
    }
}

/// From the file to the client inside the host, in chunks: nothing passes through the guest's memory.
fn copy(file: &Descriptor, bytes: &Range<u64>, out: &OutputStream) -> Result<(), StreamError> {
    let mut left = bytes.end - bytes.start;
    if left == 0 {
        return Ok(());
    }
    let input = file
        .read_via_stream(bytes.start)
        .map_err(|_| StreamError::Closed)?;
    while left > 0 {
        left -= out.blocking_splice(&input, left.min(64 * 1024))?;
    }
    Ok(())
}

/// Both dates are whole seconds, as HTTP's are.
fn is_fresh(since: Option<String>, modified: &str) -> bool {
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    matches!((since.and_then(|since| date(&since)), date(modified)), (Some(since), Some(modified)) if modified <= since)
}

fn content_type(path: &str) -> &'static str {
    let extension = path
        .rsplit('/')
        .next()
        .and_then(|name| name.rsplit_once('.'))
        .map(|(_, extension)| extension);
    match extension.unwrap_or_default().to_ascii_lowercase().as_str() {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "txt" => "text/plain; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "xml" => "application/xml",
        "json" | "map" => "application/json",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "zip" => "application/zip",
        "gz" => "application/gzip",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "avif" => "image/avif",
        "ico" => "image/vnd.microsoft.icon",
        "woff2" => "font/woff2",
        "woff" => "font/woff",
        "mp3" => "audio/mpeg",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ => "application/octet-stream",
    }
}
