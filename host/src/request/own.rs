//! Answers that need no guest: a fixed response, a redirect.

use bytes::Bytes;
use http::{HeaderValue, Response, header};

use super::ResponseBody;
use crate::catalog::OwnAnswer;
use crate::observe::Exchange;

pub(super) fn respond(
    answer: &OwnAnswer,
    query: Option<&str>,
    mut exchange: Exchange,
) -> Response<Box<ResponseBody>> {
    let (status, header, body) = match answer {
        OwnAnswer::Fixed {
            status,
            content_type,
            body,
        } => {
            let kind = content_type
                .clone()
                .map(|kind| (header::CONTENT_TYPE, kind));
            (*status, kind, body.clone())
        }
        OwnAnswer::Redirect { status, to } => {
            let to = with_query(to, query);
            (*status, Some((header::LOCATION, to)), Bytes::new())
        }
    };
    exchange.status = Some(status.as_u16());
    let mut response = Response::new(ResponseBody::own(body, exchange));
    *response.status_mut() = status;
    response.headers_mut().extend(header);
    response
}

/// A form that was filled in before the redirect is filled in after it.
fn with_query(to: &HeaderValue, query: Option<&str>) -> HeaderValue {
    let joined = query
        .filter(|_| !to.as_bytes().contains(&b'?'))
        .and_then(|query| {
            HeaderValue::from_bytes(&[to.as_bytes(), b"?", query.as_bytes()].concat()).ok()
        });
    joined.unwrap_or_else(|| to.clone())
}
