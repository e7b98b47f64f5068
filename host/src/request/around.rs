//! What the operator wants around a handler's answer on a route: before it, whom it is for; after it, what is added.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use http_body::Body as _;

use super::compress::{self, Accepts, Encoder};
use super::cors::{self, Preflight};
use super::{Failure, Origin, ResponseBody, passwords};
use crate::catalog::Policy;
use crate::gate::Gate;
use crate::limits;
use crate::observe::Exchange;

/// The name of a client who has shown a password, for the guest. Nobody else can set it: it is a field of proxies.
const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// What all policies share.
pub(super) struct Means {
    /// Answers that are being compressed.
    encoders: Gate,
}

impl Means {
    pub(super) fn new() -> Self {
        Self {
            encoders: Gate::new(limits::ENCODERS, 0, Duration::ZERO),
        }
    }
}

/// The policy that holds for a request, and what of the request its answer will need.
#[derive(Default)]
pub(super) struct Around {
    policy: Option<Arc<Policy>>,
    origin: Option<HeaderValue>,
    accepts: Accepts,
    is_head: bool,
    preflight: Option<Preflight>,
}

impl Around {
    /// The guest takes the headers with it, so this looks at them first.
    pub(super) fn of(
        policy: Option<&Arc<Policy>>,
        parts: &request::Parts,
        preflight: Option<Preflight>,
    ) -> Self {
        let Some(policy) = policy else {
            return Self::default();
        };
        let accepts = policy.compress.then(|| Accepts::of(&parts.headers));
        Self {
            policy: Some(Arc::clone(policy)),
            origin: parts.headers.get(ORIGIN).cloned(),
            accepts: accepts.unwrap_or_default(),
            is_head: parts.method == Method::HEAD,
            preflight,
        }
    }

    /// What holds for an answer to what no request came of.
    pub(super) fn no_request(policy: Option<&Arc<Policy>>) -> Self {
        Self {
            policy: policy.cloned(),
            ..Self::default()
        }
    }

    /// Whether the client is let in. What only the host needed to know of it, the guest does not see.
    pub(super) async fn admit(
        &self,
        origin: &Origin,
        headers: &mut HeaderMap,
        exchange: &mut Exchange,
    ) -> Result<(), Failure> {
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        if !policy.access.admits(&origin.client) {
            return Err(Failure::Denied);
        }
        // Browsers show no password with a question.
        if self.preflight.is_some() {
            return Ok(());
        }
        if let Some(auth) = &policy.basic_auth {
            let name = passwords::name(auth, headers).await?;
            headers.remove(AUTHORIZATION);
            if let Ok(name) = HeaderValue::from_bytes(name.as_bytes()) {
                headers.insert(X_FORWARDED_USER, name);
            }
            exchange.user = Some(name);
        }
        Ok(())
    }

    /// The page for those who prefer HTML, in place of an error of the host's.
    pub(super) fn page(&self, failure: &Failure) -> Option<&Bytes> {
        self.policy.as_ref()?.pages.of(failure.status())
    }

    /// Adds what the policy says.
    pub(super) fn finish(
        self,
        means: &Means,
        mut response: Response<Box<ResponseBody>>,
    ) -> Response<Box<ResponseBody>> {
        let Some(policy) = &self.policy else {
            return response;
        };
        let headers = response.headers_mut();
        if let Some(cors) = &policy.cors {
            let origin = self.origin.as_ref();
            match &self.preflight {
                Some(preflight) => preflight.answer(cors, origin, headers),
                None => cors::tell(cors, origin, headers),
            }
        }
        let changes = &policy.headers;
        for name in &changes.remove {
            headers.remove(name);
        }
        for (name, value) in &changes.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &changes.add {
            headers.append(name, value.clone());
        }
        if !policy.compress {
            return response;
        }
        if self.is_head {
            // What a cache must know; there is nothing to compress.
            let (status, headers) = (response.status(), response.headers_mut());
            let size = content_length(headers);
            compress::negotiate(self.accepts, status, headers, size);
            return response;
        }
        self.compress(means, response)
    }

    fn compress(
        &self,
        means: &Means,
        response: Response<Box<ResponseBody>>,
    ) -> Response<Box<ResponseBody>> {
        let (mut head, body) = response.into_parts();
        let size = body.size_hint().exact();
        let coding = compress::negotiate(self.accepts, head.status, &mut head.headers, size);
        // Without a place or memory for it, it goes out as it is.
        let encoder = coding.and_then(|coding| {
            let place = means.encoders.try_admit().ok()?;
            Some((coding, Encoder::new(coding, place).ok()?))
        });
        let body = match encoder {
            Some((coding, encoder)) => {
                compress::tell(coding, &mut head.headers);
                body.encoded(encoder)
            }
            None => body,
        };
        Response::from_parts(head, body)
    }

    /// Whether it is a question that the host answers for the guest.
    pub(super) fn is_answered(&self) -> bool {
        let has_cors = self.policy.as_ref().is_some_and(|it| it.cors.is_some());
        has_cors && self.preflight.is_some()
    }
}

/// An answer without anything: all that it says is in the headers that the policy adds.
pub(super) fn nothing(mut exchange: Exchange) -> Response<Box<ResponseBody>> {
    exchange.status = Some(StatusCode::NO_CONTENT.as_u16());
    let mut response = Response::new(ResponseBody::own(Bytes::new(), exchange));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
