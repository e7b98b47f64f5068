//! Bodies on their way through: counted, under a deadline of progress, and with what must be held
//! until their last byte.

use std::error::Error;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::after::After;
use super::compress::Encoder;
use super::{Failure, Permits};
use crate::engine::{Fault, FaultKind, GuestBody, HttpError};
use crate::gate::{Earned, Idle, Notice, Permit, Sender};
use crate::limits;
use crate::meter::Meter;
use crate::observe::Exchange;

/// Fires when nothing has moved for a while. Its timer exists only while something waits.
struct Progress {
    patience: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Progress {
    fn new(patience: Duration) -> Self {
        Self {
            patience,
            waiting: None,
        }
    }

    fn made(&mut self) {
        self.waiting = None;
    }

    /// Ready when the wait that goes on has become too long.
    fn poll_stuck(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(self.patience)));
        sleep.as_mut().poll(cx)
    }
}

/// How the reading of a request's body goes. The guest gets an error code if it fails, and may make anything
/// of it; this remembers what it was.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading {
    state: Arc<AtomicU8>,
    /// Whether the answer has begun, for who wants the place; none if there is no body.
    is_answered: Option<Arc<AtomicBool>>,
}

impl Reading {
    const TOO_LARGE: u8 = 1;
    const SLOW: u8 = 2;
    const BROKEN: u8 = 3;
    /// The guest waits for the client: nothing is wrong yet.
    const WAITING: u8 = 4;
    /// The bytes broke the rules.
    const MALFORMED: u8 = 5;

    fn of(body: &impl Body) -> Self {
        Self {
            // Also of an empty one: a caller that is cut off breaks it off.
            state: Arc::default(),
            is_answered: (!body.is_end_stream()).then(Arc::default),
        }
    }

    /// The answer has begun. From then on it is a conversation, in which a client may think.
    pub(super) fn answered(&self) {
        if let Some(is_answered) = &self.is_answered {
            is_answered.store(true, Ordering::Relaxed);
        }
    }

    /// Whose fault it is that there is no answer at the deadline.
    pub(super) fn at_deadline(&self, limit: Duration) -> Failure {
        match self.state.load(Ordering::Relaxed) {
            Self::WAITING => Failure::SlowClient,
            _ => self.failure().unwrap_or(Failure::Deadline(limit)),
        }
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        match self.state.load(Ordering::Relaxed) {
            Self::TOO_LARGE => Some(Failure::BodyTooLarge),
            Self::SLOW => Some(Failure::SlowClient),
            Self::BROKEN => Some(Failure::ClientLeft),
            Self::MALFORMED => Some(Failure::BadRequest(
                "the request's body is not framed as HTTP demands",
            )),
            _ => None,
        }
    }
}

/// A request's body as the guest reads it.
pub(super) struct RequestBody<B> {
    body: B,
    /// Bytes that it may have.
    most: u64,
    /// And still.
    allowed: u64,
    progress: Progress,
    reading: Reading,
    /// Those of its exchange; none yet before it has some
    permits: Weak<Permits>,
    /// Where what the guest takes of it is counted, once there is one.
    meter: Option<Arc<Meter>>,
    /// Since when somebody may read it; none if there is nothing to read
    since: Option<Instant>,
    /// While it waits for the client, and until enough has come that it has not waited in vain
    idle: Option<(Idle, u64)>,
    /// Whether another is to have its place; nothing before it has waited
    wanted: Option<Notice>,
}

impl<B: Body> RequestBody<B> {
    pub(super) fn new(body: B, allowed: u64, patience: Duration) -> (Self, Reading) {
        let reading = Reading::of(&body);
        (
            Self {
                body,
                most: allowed,
                allowed,
                progress: Progress::new(patience),
                reading: reading.clone(),
                permits: Weak::new(),
                meter: None,
                since: None,
                idle: None,
                wanted: None,
            },
            reading,
        )
    }

    /// The same of an exchange that has places, and a meter.
    pub(super) fn with(mut self, permits: &Arc<Permits>, meter: &Arc<Meter>) -> Self {
        self.permits = Arc::downgrade(permits);
        self.meter = Some(Arc::clone(meter));
        self.since = (!self.body.is_end_stream()).then(Instant::now);
        self
    }

    /// Whether it has waited for so long that somebody else gets its place.
    fn gives_way(&mut self, cx: &Context<'_>) -> bool {
        if self.idle.is_none()
            && let Some(permits) = self.permits.upgrade()
        {
            let moved = self.most - self.allowed;
            let is_answered = self.reading.is_answered.clone();
            let sender = is_answered
                .zip(self.since)
                .map(|(is_answered, since)| Sender { since, is_answered });
            let earned = Earned {
                time: earned_by(moved),
                sender,
            };
            let wanted = self.wanted.get_or_insert_default();
            let idle = Idle::with(all(&permits), moved, &earned, wanted);
            self.idle = Some((idle, self.allowed));
        }
        let wanted = self.wanted.as_ref();
        self.idle.is_some() && wanted.is_some_and(|wanted| wanted.given(cx).is_some())
    }

    fn came(&mut self) {
        let has_moved = |&(_, allowed): &(Idle, u64)| allowed - self.allowed >= limits::IDLE_BYTES;
        if self.idle.as_ref().is_some_and(has_moved) {
            self.idle = None;
        }
    }
}

/// What a client has sent earns it time, as if it had come at the slowest rate that is good enough: so whoever talks in small
/// pieces is not taken for one who has only begun.
fn earned_by(moved: u64) -> Duration {
    let earned = moved.saturating_mul(1000) / u64::from(limits::BODY_RATE);
    Duration::from_millis(earned).min(limits::IDLE_EARNED)
}

/// What it has taken earns it time too, if that is more than what lies unread in kernels: who reads steadily looks as if he took
/// nothing until part of the buffers is free.
fn earned_by_taking(moved: u64) -> Duration {
    if moved < limits::IDLE_FEW_BYTES {
        Duration::ZERO
    } else {
        limits::IDLE_TAKEN
    }
}

fn all(permits: &Permits) -> impl Iterator<Item = &Permit> {
    let (of_handler, of_tenant, of_host) = permits;
    [Some(of_handler), of_tenant.as_ref(), Some(of_host)]
        .into_iter()
        .flatten()
}

/// What became of a body that ended with this: its bytes came too slowly, broke the rules, or broke off.
fn failure_of(error: &(dyn Error + 'static)) -> (u8, HttpError) {
    use std::io::ErrorKind::{InvalidData, InvalidInput, TimedOut};
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let kinds = causes.filter_map(|cause| cause.downcast_ref::<std::io::Error>());
    for kind in kinds.map(std::io::Error::kind) {
        match kind {
            TimedOut => return (Reading::SLOW, HttpError::ConnectionReadTimeout),
            InvalidData | InvalidInput => {
                return (Reading::MALFORMED, HttpError::HttpProtocolError);
            }
            _ => {}
        }
    }
    (Reading::BROKEN, HttpError::ConnectionTerminated)
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes, Error: Error + 'static> + Unpin,
{
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let fail = |reading: &Reading, kind, error| {
            reading.state.store(kind, Ordering::Relaxed);
            Poll::Ready(Some(Err(error)))
        };
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) else {
            this.reading
                .state
                .store(Reading::WAITING, Ordering::Relaxed);
            if !this.gives_way(cx) {
                ready!(this.progress.poll_stuck(cx));
            }
            return fail(
                &this.reading,
                Reading::SLOW,
                HttpError::ConnectionReadTimeout,
            );
        };
        this.progress.made();
        this.reading.state.store(0, Ordering::Relaxed);
        match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.allowed.checked_sub(bytes) {
                    Some(left) => {
                        this.allowed = left;
                        if let Some(meter) = &this.meter {
                            meter.receives(bytes);
                        }
                        this.came();
                    }
                    None => {
                        return fail(
                            &this.reading,
                            Reading::TOO_LARGE,
                            HttpError::HttpRequestBodySize(None),
                        );
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                let (kind, error) = failure_of(&error);
                fail(&this.reading, kind, error)
            }
            None => {
                this.idle = None;
                Poll::Ready(None)
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

/// A response's body, with everything that ends when its last byte is sent.
pub struct ResponseBody {
    source: Source,
    progress: Progress,
    exchange: Option<Exchange>,
    permit: Option<Arc<Permits>>,
    read: Reading,
    /// While the client has something to take: on HTTP/1.1 only if more is to come, see [`Self::is_to_be_taken`]
    idle: Option<Idle>,
    /// It has broken off, which the next poll says.
    broken: bool,
    /// By what it is compressed.
    encoder: Option<Box<Encoder>>,
    /// What comes after the last byte.
    trailers: Option<HeaderMap>,
}

/// Pieces of a guest's that are compressed before others have a turn, if nothing comes of them: each is some milliseconds' work.
const PIECES_AT_ONCE: usize = 1;

enum Source {
    Guest(GuestBody),
    Own(Option<Bytes>),
}

impl ResponseBody {
    pub(super) fn guest(
        body: GuestBody,
        permit: Arc<Permits>,
        exchange: Exchange,
        patience: Duration,
        read: Reading,
    ) -> Box<Self> {
        Box::new(Self {
            source: Source::Guest(body),
            progress: Progress::new(patience),
            exchange: Some(exchange),
            permit: Some(permit),
            read,
            idle: None,
            broken: false,
            encoder: None,
            trailers: None,
        })
    }

    pub(super) fn own(body: Bytes, exchange: Exchange) -> Box<Self> {
        let source = Source::Own(Some(body).filter(|body| !body.is_empty()));
        Box::new(Self {
            source,
            progress: Progress::new(Duration::MAX),
            exchange: Some(exchange),
            permit: None,
            read: Reading::default(),
            idle: None,
            broken: false,
            encoder: None,
            trailers: None,
        })
    }

    /// The same, compressed on its way.
    pub(super) fn encoded(mut self: Box<Self>, encoder: Encoder) -> Box<Self> {
        self.encoder = Some(Box::new(encoder));
        self
    }

    /// What comes next of the body, as it is.
    fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        Poll::Ready(match &mut self.source {
            Source::Own(body) => body.take().map(|body| Ok(Frame::data(body))),
            Source::Guest(body) => match Pin::new(body).poll_frame(cx) {
                Poll::Ready(frame) => {
                    self.progress.made();
                    let meter = self.exchange.as_ref().and_then(|it| it.meter.as_ref());
                    if let (Some(meter), Some(Ok(frame))) = (meter, &frame) {
                        meter.sends(frame.data_ref().map_or(0, |data| data.len() as u64));
                    }
                    frame.map(|frame| frame.map_err(Failure::Fault))
                }
                Poll::Pending => {
                    ready!(self.progress.poll_stuck(cx));
                    Some(Err(Failure::Stuck(self.progress.patience)))
                }
            },
        })
    }

    /// What comes next, compressed if it is to be. Whenever there is nothing to wait for but the guest, all that it has
    /// written goes out.
    fn poll_encoded(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.encoder.is_none() {
            return self.poll_plain(cx);
        }
        for _ in 0..PIECES_AT_ONCE {
            if self.encoder.as_ref().is_some_and(|it| it.is_finished()) {
                return Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it))));
            }
            let plain = self.poll_plain(cx);
            let Some(encoder) = &mut self.encoder else {
                return plain;
            };
            let encoded = match plain {
                Poll::Pending => match encoder.flush() {
                    Ok(bytes) if bytes.is_empty() => return Poll::Pending,
                    flushed => flushed,
                },
                Poll::Ready(None) => encoder.finish(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => encoder.write(&data),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        encoder.finish()
                    }
                },
                // Never finished, so what a client unpacks is not whole.
                Poll::Ready(Some(Err(failure))) => return Poll::Ready(Some(Err(failure))),
            };
            match encoded {
                Ok(bytes) if bytes.is_empty() => {}
                Ok(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Err(error) => {
                    let why = format!("the response could not be compressed: {error}");
                    let fault = Fault::new(FaultKind::InvalidResponse, why);
                    return Poll::Ready(Some(Err(Failure::Fault(fault))));
                }
            }
        }
        // Others have a turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn cut(&mut self, failure: Failure) {
        // What the client did to its body explains what the guest made of it.
        let failure = self.read.failure().unwrap_or(failure);
        if let Some(mut exchange) = self.exchange.take() {
            failure.tell(&mut exchange);
            exchange.after_headers = true;
        }
    }

    /// The client has something to take, and is asked for its place if it does not.
    fn is_to_be_taken(&mut self) {
        let (Some(exchange), Some(permits)) = (&self.exchange, &self.permit) else {
            return;
        };
        // On HTTP/2 the last piece waits for a window too, and the place with it.
        let is_over = self.is_end_stream() && !exchange.is_http2();
        // Who calls another handler has a client of his own, for which he is asked.
        if !is_over && exchange.called_by.is_none() {
            let earned = Earned {
                time: earned_by_taking(exchange.sent),
                sender: None,
            };
            let wanted = exchange.stall().wanted();
            self.idle = Some(Idle::with(all(permits), exchange.sent, &earned, wanted));
        }
    }

    /// Ends the exchange, and lets the guest finish what it does after its response.
    fn end(&mut self) {
        let running = match &mut self.source {
            Source::Guest(body) => {
                if let (Some(fault), Some(exchange)) = (body.late_fault(), &mut self.exchange) {
                    Failure::Fault(fault.clone()).tell(exchange);
                    exchange.after_headers = true;
                }
                body.take_guest()
            }
            Source::Own(_) => None,
        };
        let permit = self.permit.take();
        let Some(mut exchange) = self.exchange.take() else {
            return;
        };
        exchange.complete = true;
        let Some(guest) = running else { return };
        let after = After::new(&exchange, permit, self.progress.patience);
        // Noted before the guest works on, so that what it uses from now on is known.
        drop(exchange);
        after.work(guest);
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        this.idle = None;
        if this.broken {
            // An error, not an end: the connection is cut so that the client can tell.
            return Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionAborted.into())));
        }
        match ready!(this.poll_encoded(cx)) {
            Some(Ok(frame)) => {
                if let (Some(exchange), Some(data)) = (&mut this.exchange, frame.data_ref()) {
                    exchange.sent += data.len() as u64;
                }
                this.is_to_be_taken();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(failure)) => {
                this.cut(failure);
                this.permit = None;
                this.broken = true;
                // Once more around, so that what was written before, the head above all, is sent.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match (&self.encoder, &self.source) {
            (Some(encoder), _) => encoder.is_finished() && self.trailers.is_none(),
            (None, Source::Guest(body)) => body.is_end_stream(),
            (None, Source::Own(body)) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoder.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            Source::Guest(body) => body.size_hint(),
            Source::Own(body) => {
                SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64))
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // A connection reads no further than the last byte that was declared.
        let complete = match (&self.encoder, &self.source) {
            (Some(encoder), _) => encoder.is_finished() && self.trailers.is_none(),
            (None, Source::Guest(body)) => body.is_delivered(),
            (None, Source::Own(body)) => body.is_none(),
        };
        if complete && self.exchange.is_some() {
            self.end();
        }
    }
}
