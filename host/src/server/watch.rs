//! The clock of a connection: one timer for all its deadlines, touched as rarely as can be.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::Config;

/// What a connection is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// For a request
    Idle,
    /// For the rest of a head
    Head,
    /// For the handler, or for the body of a request: not ours to time
    Busy,
    /// For the client to take bytes
    Blocked,
    /// For an HTTP/2 client to acknowledge that we close
    Goodbye,
}

/// Since when a connection is in its phase, and when that is too long.
pub(super) struct Watch {
    phase: (Phase, u64),
    since: Instant,
    alarm: Alarm,
}

impl Watch {
    pub(super) fn new(phase: Phase) -> Self {
        let now = Instant::now();
        Watch {
            phase: (phase, 0),
            since: now,
            alarm: Alarm::at(now + FAR),
        }
    }

    /// Ready with the phase when the connection has been in it for too long. The number tells two stays in one phase
    /// apart.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        config: &Config,
        phase: (Phase, u64),
    ) -> Poll<Phase> {
        if phase != self.phase {
            self.phase = phase;
            self.since = Instant::now();
        }
        let limit = match phase.0 {
            Phase::Idle => config.idle_timeout,
            Phase::Head => config.header_read_timeout,
            Phase::Busy => return Poll::Pending,
            Phase::Blocked => config.write_stall_timeout,
            Phase::Goodbye => config.linger_timeout,
        };
        ready!(self.alarm.poll(cx, self.since + limit));
        Poll::Ready(phase.0)
    }

    /// Whether it has been in its phase for as long as `pause`; if not, the task is woken when it has.
    pub(super) fn has_lasted(&mut self, cx: &mut Context<'_>, pause: Duration) -> bool {
        self.alarm.poll(cx, self.since + pause).is_ready()
    }

    /// Wakes the task again after `pause`.
    pub(super) fn wake_after(&mut self, cx: &mut Context<'_>, pause: Duration) {
        if self.alarm.poll(cx, Instant::now() + pause).is_ready() {
            cx.waker().wake_by_ref();
        }
    }
}

/// A timer for a deadline that moves, mostly away: it is set anew only when the deadline comes nearer, or when it
/// rings before its time. A busy connection so touches the timer wheel once in a timeout, not once in a request.
#[derive(Debug)]
pub(super) struct Alarm(Pin<Box<Sleep>>);

impl Alarm {
    pub(super) fn at(deadline: Instant) -> Self {
        Alarm(Box::pin(sleep_until(deadline)))
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if deadline < self.0.deadline() {
            self.0.as_mut().reset(deadline);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.0.as_mut().reset(deadline);
        }
    }
}

/// Beyond any timeout; the first deadline comes nearer and sets the timer.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
