//! A request's body on its way in, from a client that may send it as slowly as it likes. Who reads the body has a deadline for
//! a pause; a client that sends a byte before each is up would hold a place for ever.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::Config;
use super::counters::{Counters, add};
use super::watch::Alarm;

/// A request's body. It fails with an [`io::Error`]: of the kind `TimedOut` if its client is too slow, with one of the kind
/// `InvalidData` or `InvalidInput` among its causes if its framing is broken.
#[derive(Debug)]
pub struct Upload {
    body: Incoming,
    /// None where there is nothing to come, or no minimum
    rate: Option<Box<Rate>>,
}

/// Whether the answer to a request has begun. From then on it is a conversation, in which a client may think.
#[derive(Debug, Default)]
pub(super) struct Answered(Option<Arc<AtomicBool>>);

impl Answered {
    pub(super) fn now(self) {
        if let Some(flag) = self.0 {
            flag.store(true, Relaxed);
        }
    }
}

impl Upload {
    pub(super) fn new(
        body: Incoming,
        config: &Config,
        counters: &Arc<Counters>,
    ) -> (Self, Answered) {
        if body.is_end_stream() || config.min_body_rate == 0 {
            return (Upload { body, rate: None }, Answered::default());
        }
        let is_answered = Arc::new(AtomicBool::new(false));
        let rate = Rate {
            bytes_per_second: config.min_body_rate,
            most: config.body_grace,
            left: config.body_grace,
            waiting: None,
            alarm: None,
            is_answered: Arc::clone(&is_answered),
            is_over: false,
            counters: Arc::clone(counters),
        };
        let upload = Upload {
            body,
            rate: Some(Box::new(rate)),
        };
        (upload, Answered(Some(is_answered)))
    }
}

/// How long the client may still be waited for: each byte earns time, up to the grace that it begins with. Only time in which
/// somebody waits counts.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u32,
    most: Duration,
    left: Duration,
    waiting: Option<Instant>,
    alarm: Option<Alarm>,
    is_answered: Arc<AtomicBool>,
    /// It was too slow, which is counted once.
    is_over: bool,
    counters: Arc<Counters>,
}

impl Rate {
    fn came(&mut self, bytes: usize) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        let earned = bytes as f64 / f64::from(self.bytes_per_second);
        let earned = Duration::try_from_secs_f64(earned).unwrap_or(self.most);
        self.left = self.left.saturating_add(earned).min(self.most);
    }

    fn poll_too_slow(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_answered.load(Relaxed) {
            return Poll::Pending;
        }
        let deadline = *self.waiting.get_or_insert_with(Instant::now) + self.left;
        ready!(
            self.alarm
                .get_or_insert_with(|| Alarm::at(deadline))
                .poll(cx, deadline)
        );
        if !self.is_over {
            self.is_over = true;
            add(&self.counters.slow_bodies);
        }
        Poll::Ready(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let Upload { body, rate } = &mut *self;
        let frame = Pin::new(body).poll_frame(cx);
        match (frame, rate) {
            (Poll::Pending, None) => Poll::Pending,
            (Poll::Pending, Some(rate)) => rate
                .poll_too_slow(cx)
                .map(|()| Some(Err(io::ErrorKind::TimedOut.into()))),
            (Poll::Ready(frame), rate) => {
                if let (Some(rate), Some(Ok(frame))) = (rate, &frame) {
                    rate.came(frame.data_ref().map_or(0, Bytes::len));
                }
                Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
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
