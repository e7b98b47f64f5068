//! Cross-origin resource sharing: what browsers ask before a page of another origin may use a route, and what they read on
//! its answers. Where there is a policy, the guest's own word does not count.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, request};

use super::compress::vary;
use crate::catalog::{Cors, Origins};

/// What a browser asks before it sends a request of a page: whether it may.
#[derive(Debug, Clone)]
pub(super) struct Preflight {
    /// The method of the request that is to come.
    pub(super) method: Method,
    headers: Option<HeaderValue>,
}

impl Preflight {
    pub(super) fn of(parts: &request::Parts) -> Option<Self> {
        if parts.method != Method::OPTIONS || !parts.headers.contains_key(ORIGIN) {
            return None;
        }
        let method = parts.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
        Some(Self {
            method: Method::from_bytes(method.as_bytes()).ok()?,
            headers: parts.headers.get(ACCESS_CONTROL_REQUEST_HEADERS).cloned(),
        })
    }

    /// The headers of the answer. For an origin that may not there are none, which is a no.
    pub(super) fn answer(&self, cors: &Cors, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        vary(answer, "access-control-request-headers");
        if !allow(cors, origin, answer) {
            return;
        }
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
        if let Some(headers) = cors.headers.as_ref().or(self.headers.as_ref()) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, headers.clone());
        }
        if let Some(seconds) = &cors.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, seconds.clone());
        }
    }
}

/// The headers of an answer to any other request.
pub(super) fn tell(cors: &Cors, origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
    let of_guest: Vec<HeaderName> = answer
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in of_guest {
        answer.remove(name);
    }
    if allow(cors, origin, answer)
        && let Some(expose) = &cors.expose
    {
        answer.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
    }
}

/// Whether pages of this origin may.
fn allow(cors: &Cors, origin: Option<&HeaderValue>, answer: &mut HeaderMap) -> bool {
    if cors.origins == Origins::Any {
        // Credentials never go with it: that is a mistake in the file.
        answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return true;
    }
    vary(answer, "origin");
    let Some(origin) = origin.filter(|origin| cors.origins.hold(origin)) else {
        return false;
    };
    answer.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if cors.credentials {
        let yes = HeaderValue::from_static("true");
        answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
    }
    true
}
