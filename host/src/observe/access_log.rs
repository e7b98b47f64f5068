//! One line for each exchange.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use super::Exchange;
use super::line_queue::LineQueue;
use crate::limits::LOG_FIELD;
use http::uri::Scheme;
use http::{HeaderValue, Version};
use serde::Serialize;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// The combined log format of Apache and nginx, then what the exchange cost, its label and its id, its handler and
    /// its tenant.
    #[default]
    Combined,
    /// One JSON object a line, with OpenTelemetry's names.
    Json,
    /// Nothing.
    Off,
}

/// Where the lines go. Writing never waits: with a full queue lines are dropped and counted.
#[derive(Debug)]
pub struct AccessLog {
    format: Format,
    writer: Option<LineQueue>,
}

impl AccessLog {
    /// A log in `format` to `writer`.
    #[must_use]
    pub fn new(format: Format, writer: LineQueue) -> Self {
        Self {
            format,
            writer: (format != Format::Off).then_some(writer),
        }
    }

    pub(super) fn write(&self, exchange: &Exchange, took: Duration) {
        let Some(writer) = &self.writer else { return };
        let line = match self.format {
            Format::Combined => combined(exchange, took).into_bytes(),
            Format::Json => json(exchange, took),
            Format::Off => return,
        };
        writer.push(&line);
    }
}

fn combined(exchange: &Exchange, took: Duration) -> String {
    let mut line = String::with_capacity(256);
    let _ = write!(line, "{} - ", exchange.client);
    match &exchange.user {
        // A name with spaces would be two fields.
        Some(user) => escape(user.replace(' ', "_").as_bytes(), &mut line),
        None => line.push('-'),
    }
    line.push_str(" [");
    line.push_str(&date(exchange.at));
    line.push_str("] \"");
    let (mut referer, mut user_agent) = (&None, &None);
    if let Some(asked) = &exchange.asked {
        let target = asked.uri.path_and_query();
        let target = target.map_or_else(|| asked.path(), |target| target.as_str());
        line.push_str(asked.method.as_str());
        line.push(' ');
        escape(target.as_bytes(), &mut line);
        line.push(' ');
        line.push_str(version(asked.version));
        (referer, user_agent) = (&asked.referer, &asked.user_agent);
    } else {
        line.push('-');
    }
    let _ = write!(line, "\" {} {}", exchange.final_status(), exchange.sent);
    for field in [referer, user_agent] {
        quoted(
            field.as_ref().map_or(b"-", HeaderValue::as_bytes),
            &mut line,
        );
    }
    for duration in [
        Some(took),
        Some(exchange.guest_cpu()),
        exchange.waited,
        exchange.instantiation(),
    ] {
        line.push(' ');
        match duration {
            Some(duration) => seconds(duration, &mut line),
            None => line.push('-'),
        }
    }
    match exchange.guest_memory() {
        Some(bytes) => drop(write!(line, " {bytes}")),
        None => line.push_str(" -"),
    }
    let _ = write!(line, " {} ", exchange.received());
    line.push_str(label(exchange).as_deref().unwrap_or("-"));
    line.push(' ');
    line.push_str(exchange.id.as_str());
    for name in [&exchange.handler, &exchange.tenant] {
        quoted(name.as_deref().unwrap_or("-").as_bytes(), &mut line);
    }
    line.push('\n');
    line
}

/// The date as Apache writes it. It changes once a second and costs a microsecond to make.
fn date(at: jiff::Timestamp) -> Rc<str> {
    thread_local! {
        static LAST: RefCell<(i64, Rc<str>)> = RefCell::new((i64::MIN, Rc::from("")));
    }
    LAST.with_borrow_mut(|(second, text)| {
        if *second != at.as_second() {
            *second = at.as_second();
            *text = Rc::from(at.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string());
        }
        Rc::clone(text)
    })
}

/// With six digits after the point.
fn seconds(duration: Duration, line: &mut String) {
    let _ = write!(line, "{}.", duration.as_secs());
    let mut unit = 100_000;
    while unit > 0 {
        let digit = duration.subsec_micros() / unit % 10;
        line.extend(char::from_digit(digit, 10));
        unit /= 10;
    }
}

/// OpenTelemetry's semantic conventions for HTTP servers; what is ours begins with `host.`.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    #[serde(rename = "client.address")]
    client_address: String,
    #[serde(rename = "user.name", skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(
        rename = "http.request.method",
        skip_serializing_if = "Option::is_none"
    )]
    method: Option<&'a str>,
    #[serde(rename = "url.scheme", skip_serializing_if = "Option::is_none")]
    scheme: Option<&'a str>,
    #[serde(rename = "url.path", skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'a, str>>,
    #[serde(rename = "url.query", skip_serializing_if = "Option::is_none")]
    query: Option<Cow<'a, str>>,
    #[serde(
        rename = "network.protocol.version",
        skip_serializing_if = "Option::is_none"
    )]
    protocol: Option<&'a str>,
    #[serde(rename = "http.response.status_code")]
    status: u16,
    #[serde(rename = "http.response.body.size")]
    sent: u64,
    #[serde(
        rename = "user_agent.original",
        skip_serializing_if = "Option::is_none"
    )]
    user_agent: Option<String>,
    #[serde(
        rename = "http.request.header.referer",
        skip_serializing_if = "Option::is_none"
    )]
    referer: Option<String>,
    #[serde(rename = "http.server.request.duration")]
    duration: f64,
    #[serde(
        rename = "http.request.body.size",
        skip_serializing_if = "Option::is_none"
    )]
    received: Option<u64>,
    #[serde(rename = "host.guest.cpu_time")]
    guest_cpu: f64,
    #[serde(
        rename = "host.guest.peak_memory",
        skip_serializing_if = "Option::is_none"
    )]
    guest_memory: Option<usize>,
    #[serde(
        rename = "host.guest.instantiation_time",
        skip_serializing_if = "Option::is_none"
    )]
    instantiation: Option<f64>,
    #[serde(
        rename = "host.queue.wait_time",
        skip_serializing_if = "Option::is_none"
    )]
    waited: Option<f64>,
    #[serde(rename = "host.tried_again", skip_serializing_if = "Option::is_none")]
    tried_again: Option<bool>,
    #[serde(rename = "http.route", skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(rename = "host.handler", skip_serializing_if = "Option::is_none")]
    handler: Option<&'a str>,
    #[serde(rename = "host.caller", skip_serializing_if = "Option::is_none")]
    caller: Option<&'a str>,
    #[serde(rename = "host.tenant", skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(rename = "error.type", skip_serializing_if = "Option::is_none")]
    label: Option<Cow<'a, str>>,
    #[serde(rename = "host.request.id")]
    request_id: String,
}

fn json(exchange: &Exchange, took: Duration) -> Vec<u8> {
    let asked = exchange.asked.as_ref();
    let text =
        |value: &HeaderValue| harmless(String::from_utf8_lossy(cut(value.as_bytes()))).into_owned();
    let micros = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e6;
    let line = Line {
        timestamp: exchange.at.to_string(),
        client_address: exchange.client.to_string(),
        user: exchange.user.as_deref(),
        method: asked.map(|asked| asked.method.as_str()),
        scheme: exchange.scheme.as_ref().map(Scheme::as_str),
        path: asked.map(|asked| text_of(asked.path())),
        query: asked.and_then(|asked| asked.uri.query()).map(text_of),
        protocol: asked.map(|asked| version(asked.version).trim_start_matches("HTTP/")),
        status: exchange.final_status(),
        sent: exchange.sent,
        user_agent: asked.and_then(|asked| asked.user_agent.as_ref()).map(text),
        referer: asked.and_then(|asked| asked.referer.as_ref()).map(text),
        duration: micros(took),
        received: exchange.meter.as_ref().map(|meter| meter.received()),
        guest_cpu: micros(exchange.guest_cpu()),
        guest_memory: exchange.guest_memory(),
        instantiation: exchange.instantiation().map(micros),
        waited: exchange.waited.map(micros),
        tried_again: exchange.is_second_try().then_some(true),
        route: exchange.route.as_deref(),
        handler: exchange.handler.as_deref(),
        caller: exchange.called_by.as_ref().map(|by| &*by.caller),
        tenant: exchange.tenant.as_deref(),
        label: label(exchange),
        request_id: exchange.id.to_string(),
    };
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

fn label(exchange: &Exchange) -> Option<Cow<'_, str>> {
    let label = exchange.label.as_deref()?;
    Some(if exchange.after_headers {
        Cow::Owned(format!("{label},after-headers"))
    } else {
        Cow::Borrowed(label)
    })
}

fn version(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        Version::HTTP_3 => "HTTP/3.0",
        _ => "HTTP/1.1",
    }
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(LOG_FIELD)]
}

fn text_of(text: &str) -> Cow<'_, str> {
    harmless(String::from_utf8_lossy(cut(text.as_bytes())))
}

/// JSON lets pass what commands a terminal, ends a line for some readers, or turns its direction.
fn harmless(text: Cow<'_, str>) -> Cow<'_, str> {
    let is_harmful = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    if !text.contains(is_harmful) {
        return text;
    }
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) {
            written.extend(c.escape_unicode());
        } else {
            written.push(c);
        }
    }
    Cow::Owned(written)
}

fn quoted(bytes: &[u8], line: &mut String) {
    line.push_str(" \"");
    escape(bytes, line);
    line.push('"');
}

/// As nginx does it: what could end a quoted field or a line is written as `\xNN`.
fn escape(bytes: &[u8], line: &mut String) {
    let is_plain = |byte: &u8| !matches!(byte, b'"' | b'\\' | 0..0x20 | 0x7f..);
    let bytes = cut(bytes);
    // Nearly all are.
    if bytes.iter().all(is_plain)
        && let Ok(text) = str::from_utf8(bytes)
    {
        return line.push_str(text);
    }
    for byte in bytes {
        if is_plain(byte) {
            line.push(char::from(*byte));
        } else {
            let _ = write!(line, "\\x{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_would_command_a_terminal_or_turn_a_line_is_written_out() {
        assert_eq!(
            super::harmless("a\u{9b}b\u{202e}c\u{2028}ü".into()),
            "a\\u{9b}b\\u{202e}c\\u{2028}ü"
        );
        assert_eq!(super::harmless("/käse?q=1".into()), "/käse?q=1");
    }

    #[test]
    fn a_header_cannot_forge_a_line_or_end_its_field() {
        let mut line = String::new();
        super::escape(b"a\"b\\c\nd\xff", &mut line);
        assert_eq!(line, "a\\x22b\\x5Cc\\x0Ad\\xFF");
    }

    #[test]
    fn durations_have_six_digits_after_the_point() {
        for (micros, text) in [
            (0, "0.000000"),
            (1, "0.000001"),
            (1_000_000, "1.000000"),
            (61_234_567, "61.234567"),
        ] {
            let mut line = String::new();
            super::seconds(std::time::Duration::from_micros(micros), &mut line);
            assert_eq!(line, text);
        }
    }
}
