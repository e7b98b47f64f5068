//! A request that can be given to another instance, if the one that it was given to fails with all that it serves.

use bytes::Bytes;
use http::{Request, request};
use http_body::Body;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use super::HttpError;
use super::running::Blame;
use crate::capabilities::lent::Lent;

/// A request, kept until it is answered.
pub(super) struct Again {
    head: request::Parts,
    body: Lent,
}

impl Again {
    pub(super) fn keep<B>(request: Request<B>) -> Self
    where
        B: Body<Data = Bytes, Error = HttpError> + Send + 'static,
    {
        let (head, body) = request.into_parts();
        let body = Lent::new(UnsyncBoxBody::new(body));
        Self { head, body }
    }

    /// The request, for the first who is to answer it.
    pub(super) fn lend(&self) -> Request<UnsyncBoxBody<Bytes, HttpError>> {
        Request::from_parts(self.head.clone(), self.body.clone().boxed_unsync())
    }

    /// The request, for the second.
    pub(super) fn give(self) -> Request<UnsyncBoxBody<Bytes, HttpError>> {
        Request::from_parts(self.head, self.body.boxed_unsync())
    }

    /// Whether it may be given once more, to somebody who finds it as it was. What a guest has begun may have had its
    /// effect, so the method must allow it twice (RFC 9110, section 9.2.2).
    pub(super) fn may_be_given(&self, blame: Blame) -> bool {
        let is_allowed = match blame {
            Blame::Own => false,
            Blame::Somebody => self.head.method.is_idempotent(),
            Blame::Others => true,
        };
        is_allowed && !self.body.is_begun()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn request(method: &str, body: &'static str) -> Again {
        let body = Full::new(Bytes::from_static(body.as_bytes()));
        let mut request = Request::new(body.map_err(|never| -> HttpError { match never {} }));
        *request.method_mut() = method.parse().expect("a method");
        Again::keep(request)
    }

    #[tokio::test]
    async fn what_may_be_given_again() {
        use Blame::{Others, Own, Somebody};
        for (method, body, is_read, blame, expected) in [
            ("GET", "", false, Somebody, true),
            ("HEAD", "", false, Somebody, true),
            ("OPTIONS", "", false, Somebody, true),
            ("TRACE", "", false, Somebody, true),
            ("PUT", "some", false, Somebody, true),
            ("DELETE", "some", false, Somebody, true),
            ("PUT", "some", true, Somebody, false),
            // The end of an empty body can be read again.
            ("PUT", "", true, Somebody, true),
            ("POST", "", false, Somebody, false),
            ("PATCH", "", false, Somebody, false),
            ("get", "", false, Somebody, false),
            // No guest has seen it.
            ("POST", "some", false, Others, true),
            ("GET", "", false, Own, false),
        ] {
            let again = request(method, body);
            let mut lent = again.lend();
            if is_read {
                let frame = lent.body_mut().frame().await;
                assert_eq!(frame.is_some(), !body.is_empty());
            }
            drop(lent);
            let may = again.may_be_given(blame);
            assert_eq!(may, expected, "{method} {body} {is_read} {blame:?}");
            if may {
                let whole = again.give().into_body().collect().await;
                assert_eq!(whole.expect("a body").to_bytes(), body, "{method}");
            }
        }
    }
}
