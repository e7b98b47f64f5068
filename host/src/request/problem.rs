//! A failure as a response: RFC 9457 problem details, plain text, or a page, whichever is preferred.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use serde::Serialize;

use super::Failure;
use crate::observe::RequestId;

/// The forms that a client may prefer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Text,
    Html,
}

impl Form {
    /// The first of our forms that `Accept` names; JSON if it names none.
    pub(super) fn preferred(headers: &HeaderMap) -> Self {
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or("");
        let forms = accept.split(',').filter_map(|range| {
            match range.split(';').next().unwrap_or("").trim() {
                "text/html" | "application/xhtml+xml" => Some(Self::Html),
                "text/plain" => Some(Self::Text),
                "application/json" | "application/problem+json" => Some(Self::Json),
                _ => None,
            }
        });
        forms.into_iter().next().unwrap_or(Self::Json)
    }
}

const HTML: &str = "text/html; charset=utf-8";

/// RFC 9457, section 3.1; `request_id` is an extension member.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: String,
}

/// `page` is the operator's own, in place of ours.
pub(super) fn response(
    failure: &Failure,
    id: &RequestId,
    form: Form,
    page: Option<&Bytes>,
) -> Response<Bytes> {
    let status = failure.status();
    let title = status.canonical_reason().unwrap_or("Error");
    let (kind, body) = match form {
        Form::Json => {
            let problem = Problem {
                // The part before the colon: the name of a guest's error code is the guest's.
                r#type: format!("urn:host:failure:{}", failure.label().split(':').next().unwrap_or("")),
                title,
                status: status.as_u16(),
                detail: failure.public(),
                request_id: id.to_string(),
            };
            ("application/problem+json", serde_json::to_vec(&problem).unwrap_or_default())
        }
        Form::Text => ("text/plain; charset=utf-8", format!("{status}: {}\nrequest {id}\n", failure.public()).into()),
        Form::Html if page.is_some() => (HTML, Vec::new()),
        Form::Html => (
            HTML,
            format!(
                "<!doctype html><meta charset=utf-8><title>{status}</title>\
                 <style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:36em;padding:0 1em}}\
                 small{{color:#777}}</style>\
                 <h1>{status}</h1><p>{}.</p><p><small>request {id}</small></p>\n",
                failure.public(),
            )
            .into(),
        ),
    };
    let page = page.filter(|_| form == Form::Html).cloned();
    let mut response = Response::new(page.unwrap_or_else(|| Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(failure, Failure::BadRequest(_) | Failure::BodyTooLarge) {
        // What follows an ambiguous request is not read as another, nor the rest of a body that is too large
        // (HTTP/1.1; hyper drops it on HTTP/2).
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    // RFC 9110, section 15.5.2.
    if let Failure::Unauthorized(challenge) = failure {
        headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
    }
    // RFC 9110, section 15.5.6.
    if let Failure::Method(allow) = failure {
        headers.insert(header::ALLOW, allow.clone());
    }
    if let Some(seconds) = failure.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_gets_a_page_and_a_program_gets_json() {
        for (accept, form) in [
            ("text/html,application/xhtml+xml,*/*;q=0.8", Form::Html),
            ("*/*", Form::Json),
            ("text/plain", Form::Text),
            ("application/json, text/html", Form::Json),
            ("", Form::Json),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
            assert_eq!(Form::preferred(&headers), form, "{accept}");
        }
    }
}
