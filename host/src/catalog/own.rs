//! Answers that need no guest.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

/// What the host answers by itself on a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnAnswer {
    /// The same to everybody.
    Fixed {
        /// The status.
        status: StatusCode,
        /// The `content-type`, if there is a body.
        content_type: Option<HeaderValue>,
        /// The body.
        body: Bytes,
    },
    /// Go elsewhere.
    Redirect {
        /// One of 301, 302, 303, 307, 308.
        status: StatusCode,
        /// The `location`. The query of the request is added if it has none.
        to: HeaderValue,
    },
}
