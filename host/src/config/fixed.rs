//! Routes that need no guest: a response that is always the same, or another place to look.

use std::ops::Range;
use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::keys::{FIXED, REDIRECT, RESPOND};
use super::reader::{Table, Value};
use super::route::of_table;
use crate::catalog::{OwnAnswer, Policy, Route};
use crate::limits;
use crate::values::header;

/// A route that is answered without a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fixed {
    /// The requests that are for it.
    pub route: Route,
    /// What they get.
    pub answer: OwnAnswer,
    /// Where it is written.
    pub(super) place: Range<usize>,
}

pub(super) fn fixed(value: &Value<'_>, every: Option<&Arc<Policy>>) -> Option<Fixed> {
    let table = value.table(&FIXED)?;
    let route = of_table(&table, every);
    let answer = match (table.has("respond"), table.has("redirect")) {
        (true, false) => table
            .table("respond", &RESPOND)
            .and_then(|it| response(&it)),
        (false, true) => table
            .table("redirect", &REDIRECT)
            .and_then(|it| redirection(&it)),
        _ => {
            table.mistake("a route without a guest has one answer: write `respond` or `redirect`");
            None
        }
    };
    Some(Fixed {
        route: route?,
        answer: answer?,
        place: table.place(),
    })
}

fn response(table: &Table<'_>) -> Option<OwnAnswer> {
    let status = table.parsed("status", |text| status(text, 200..=599));
    let status = said_or(table, "status", status, StatusCode::OK);
    let content_type = table.parsed("content_type", header);
    let unsaid = HeaderValue::from_static("text/plain; charset=utf-8");
    let content_type = said_or(table, "content_type", content_type, unsaid);
    let body = match (table.value("body"), table.value("body_file")) {
        (Some(body), None) => body.text().map(String::into_bytes),
        (None, Some(file)) => body_file(&file),
        (None, None) => Some(Vec::new()),
        (Some(_), Some(_)) => {
            table.mistake("a response has one body: write `body` or `body_file`");
            None
        }
    };
    Some(OwnAnswer::Fixed {
        status: status?,
        content_type: Some(content_type?),
        body: body?.into(),
    })
}

fn body_file(file: &Value<'_>) -> Option<Vec<u8>> {
    let path = file.path()?;
    let read = file.reader.read(&path, limits::FIXED_BODY);
    read.map_err(|error| {
        file.mistake(format_args!("`{}` cannot be read: {error}", path.display()));
    })
    .ok()
}

fn redirection(table: &Table<'_>) -> Option<OwnAnswer> {
    let code = table.parsed("status", |text| match status(text, 300..=399) {
        Ok(status) if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => Ok(status),
        _ => Err("not a redirect: write 301, 302, 303, 307 or 308"),
    });
    let code = said_or(table, "status", code, StatusCode::PERMANENT_REDIRECT);
    let to = table.parsed("to", |text| match text {
        "" => Err("an empty place: write a URL or a path".to_owned()),
        text => header(text),
    });
    Some(OwnAnswer::Redirect {
        to: to?,
        status: code?,
    })
}

/// What was said, if it was right; what holds otherwise, if nothing was said.
fn said_or<T>(table: &Table<'_>, key: &str, said: Option<T>, unsaid: T) -> Option<T> {
    if table.has(key) { said } else { Some(unsaid) }
}

fn status(text: &str, range: std::ops::RangeInclusive<u16>) -> Result<StatusCode, String> {
    let code = text.parse().ok().filter(|code| range.contains(code));
    code.and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            format!("not a status: write a number from {least} to {most}")
        })
}
