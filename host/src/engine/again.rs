//! A request that can be given to another instance, if the one that it was given to fails with all that it serves.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;

use super::HttpError;
use super::running::Blame;

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

/// A body that several may have in turn: each reads on where the one before has stopped.
#[derive(Clone)]
struct Lent(Arc<Mutex<Taken>>);

struct Taken {
    body: UnsyncBoxBody<Bytes, HttpError>,
    is_begun: bool,
    is_over: bool,
}

impl Lent {
    fn new(body: UnsyncBoxBody<Bytes, HttpError>) -> Self {
        Self(Arc::new(Mutex::new(Taken {
            body,
            is_begun: false,
            is_over: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something is missing for who has it next. Of an empty body nothing ever is.
    fn is_begun(&self) -> bool {
        self.lock().is_begun
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let mut taken = self.lock();
        if taken.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut taken.body).poll_frame(cx));
        match frame {
            Some(_) => taken.is_begun = true,
            None => taken.is_over = true,
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        let taken = self.lock();
        taken.is_over || taken.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
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
