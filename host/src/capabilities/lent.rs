//! A body of a request that can be given again to whoever tries next, for as long as nothing of it is missing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, WasiBody};

/// A body that several have in turn: each reads on where the one before has stopped.
#[derive(Clone)]
pub(crate) struct Lent(Arc<Mutex<Taken>>);

struct Taken {
    body: WasiBody,
    /// When a piece was taken last.
    last: Instant,
    is_begun: bool,
    is_over: bool,
}

impl Lent {
    pub(crate) fn new(body: WasiBody) -> Self {
        Self(Arc::new(Mutex::new(Taken {
            body,
            last: Instant::now(),
            is_begun: false,
            is_over: false,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_progress(&self) -> Instant {
        self.lock().last
    }

    pub(crate) fn made_progress(&self) {
        self.lock().last = Instant::now();
    }

    /// Whether something is missing for who has it next. Of an empty body nothing ever is.
    pub(crate) fn is_begun(&self) -> bool {
        self.lock().is_begun
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut taken = self.lock();
        if taken.is_over {
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut taken.body).poll_frame(cx));
        taken.last = Instant::now();
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
