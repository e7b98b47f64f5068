//! The bodies of a request that is on its way, and of the response that comes.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};
use wasmtime_wasi_http::{Error, WasiBody};

use super::error;
use super::grant::OutboundGrant;
use super::pool::{Lease, Pool};
use super::send::{after, drop_hop_by_hop};
use crate::capabilities::calls::Broken;
use crate::gate::Permit;

/// The body of a request as its guest writes it. A guest that is cut off closes it, which must not look like an end.
pub(super) struct Written {
    pub(super) body: WasiBody,
    pub(super) broken: Broken,
}

impl Body for Written {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if frame.is_none() && self.broken.is_set() {
            return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.broken.is_set()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response. Its connection is kept when it has ended well, and given up when it has not.
pub(super) struct Received<H: Send + 'static> {
    body: Incoming,
    between: Duration,
    /// Until when the next piece may take, while one is waited for. Most are there when they are asked for.
    pause: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
    total: Option<Pin<Box<Sleep>>>,
    kept: Option<Kept<H>>,
    /// The head of a response that nobody looks at lies in the host's memory too, also if it has no body.
    _permit: Arc<Permit>,
}

/// What is kept until the response is over: its connection, and what was held for it.
type Kept<H> = (Lease, Arc<OutboundGrant>, (H, Arc<Permit>));

impl<H: Send + 'static> Received<H> {
    /// What is `held` is dropped when the response is over, and the permit when its guest is done with it as well.
    pub(super) fn new(
        body: Incoming,
        between: Duration,
        deadline: Option<Instant>,
        lease: Lease,
        grant: Arc<OutboundGrant>,
        held: H,
        permit: Permit,
    ) -> Self {
        let permit = Arc::new(permit);
        let mut received = Self {
            body,
            between,
            pause: None,
            is_waiting: false,
            total: deadline.map(|at| Box::pin(sleep_until(at))),
            kept: Some((lease, grant, (held, Arc::clone(&permit)))),
            _permit: permit,
        };
        if received.body.is_end_stream() {
            received.end();
        }
        received
    }

    fn end(&mut self) {
        if let Some((lease, grant, held)) = self.kept.take() {
            Pool::give_back(&grant, lease, held);
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.kept = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl<H: Send + Unpin + 'static> Body for Received<H> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = &mut *self;
        if this.kept.is_none() && !this.body.is_end_stream() {
            return Poll::Ready(None); // it has failed
        }
        // What has ended well was in time, however late its end is asked for.
        if this.kept.is_some()
            && let Some(total) = &mut this.total
            && total.as_mut().poll(cx).is_ready()
        {
            return this.fail(Error::HttpResponseTimeout);
        }
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            let until = after(this.between);
            let pause = this
                .pause
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            if !this.is_waiting {
                this.is_waiting = true;
                pause.as_mut().reset(until);
            }
            ready!(pause.as_mut().poll(cx));
            if let Some((lease, ..)) = &this.kept {
                lease.retire();
            }
            return this.fail(Error::ConnectionReadTimeout);
        };
        this.is_waiting = false;
        if let Some((lease, ..)) = &this.kept {
            lease.heard().delivers();
        }
        match frame {
            None => {
                this.end();
                Poll::Ready(None)
            }
            Some(Err(error)) => {
                let error = error::of_body(&error);
                this.fail(error)
            }
            Some(Ok(frame)) => {
                if this.body.is_end_stream() {
                    this.end();
                }
                Poll::Ready(Some(Ok(without_hop_by_hop(frame))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn without_hop_by_hop(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            drop_hop_by_hop(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    #[tokio::test]
    async fn a_body_whose_guest_was_cut_off_ends_with_an_error() {
        for is_cut_off in [false, true] {
            let broken = Broken::default();
            let body = Full::new(Bytes::from_static(b"some")).map_err(|never| match never {});
            let mut written = Written {
                body: body.boxed_unsync(),
                broken: broken.clone(),
            };
            let some = written.frame().await.expect("a frame").expect("data");
            assert_eq!(some.into_data().expect("data"), "some");
            if is_cut_off {
                broken.set();
            }
            let end = written.frame().await.map(|frame| frame.is_err());
            assert_eq!(end, is_cut_off.then_some(true));
        }
    }
}
