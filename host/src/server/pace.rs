//! Whether an HTTP/2 client takes what is ready for it: hyper does not say, but it asks a body for more only when the
//! client took what it gave.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::client::Stall;

tokio::task_local! {
    /// The pace of the stream that is being polled. hyper makes the stream's future, so this is how the response's
    /// body, somewhere within it, and the task around it find each other.
    pub(super) static PACE: Arc<Pace>;
}

/// Whether a stream moves.
#[derive(Default)]
pub(super) struct Pace {
    /// Whose turn it is: even while the body is asked for more, odd while the client has a frame to take
    turn: AtomicU64,
    /// Known to the request too
    pub(super) stall: Stall,
}

impl Pace {
    pub(super) fn new(stall: Stall) -> Self {
        Pace {
            turn: AtomicU64::new(0),
            stall,
        }
    }

    /// To be called while the stream is polled.
    pub(super) fn of_this_stream() -> Arc<Self> {
        PACE.try_with(Arc::clone).unwrap_or_default()
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn.load(Relaxed)
    }

    fn asked(&self) {
        let turn = self.turn();
        self.turn.store(turn + turn % 2, Relaxed);
    }

    fn given(&self) {
        self.turn.store(self.turn() | 1, Relaxed);
    }
}

pin_project! {
    /// A response's body, in pieces no larger than a frame. hyper hands a whole chunk to the connection as soon as the
    /// client has room for one byte of it, and nobody times what the connection holds: so at most one piece is held.
    pub(super) struct Paced<B> {
        #[pin]
        body: B,
        rest: Bytes,
        pace: Arc<Pace>,
    }
}

impl<B> Paced<B> {
    /// To be called while the stream is polled.
    pub(super) fn new(body: B) -> Self {
        Paced {
            body,
            rest: Bytes::new(),
            pace: Pace::of_this_stream(),
        }
    }
}

impl<B: Body<Data = Bytes>> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        this.pace.asked();
        if this.rest.is_empty() {
            match ready!(this.body.poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *this.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(FRAME_BYTES));
        this.pace.given();
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        if self.rest.is_empty() {
            return hint;
        }
        let rest = self.rest.len() as u64;
        let mut whole = SizeHint::new();
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper.saturating_add(rest));
        }
        whole.set_lower(hint.lower().saturating_add(rest));
        whole
    }
}

/// The frame size that every client accepts (RFC 9113, 4.2), and that hyper cuts to anyway.
const FRAME_BYTES: usize = 16 * 1024;
