//! Responses that are ready soon one after the other are written one after the other.
//!
//! A write wakes its client. One on the same machine, as a proxy is, takes the processor at once, finds a single response, and
//! sleeps again: two switches and often an interrupt for each request, which is a tenth of what a small one costs. So what is
//! ready while its thread has others to serve is written when each of those has had its turn. Who comes alone is answered at
//! once, and where a turn is long nobody waits for it.

use std::cell::Cell;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::limits::BATCH_PACE;

thread_local! {
    static THREAD: Tempo = const { Tempo::new() };
}

/// The thread has nothing to do. For the runtime that serves, which knows it.
pub fn rests() {
    THREAD.with(|tempo| tempo.last.set(None));
}

/// How fast a thread answers.
struct Tempo {
    /// When it had an answer last. None: not since it rested.
    last: Cell<Option<Instant>>,
    /// From one answer to the next without a rest between, on average of the last few.
    mean: Cell<Duration>,
}

impl Tempo {
    const fn new() -> Self {
        Self {
            last: Cell::new(None),
            mean: Cell::new(Duration::ZERO),
        }
    }

    /// Notes an answer. Whether the next ones follow soon, if they are like those before.
    fn is_quick(&self, now: Instant) -> bool {
        let Some(last) = self.last.replace(Some(now)) else {
            return false;
        };
        // One that was long in coming is soon forgotten.
        let since = now.duration_since(last).min(BATCH_PACE * 8);
        self.mean.set((self.mean.get() * 7 + since) / 8);
        self.mean.get() < BATCH_PACE
    }
}

/// When a connection writes what it owes its client.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// Nothing was written since the client has sent something.
    is_owed: bool,
}

impl Batched {
    /// The client has sent something.
    pub(super) fn is_owed(&mut self) {
        self.is_owed = true;
    }

    /// Asked before each write. Pending at most once for what the client has sent, and then woken already.
    pub(super) fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if std::mem::take(&mut self.is_owed) && THREAD.with(|tempo| tempo.is_quick(Instant::now()))
        {
            // Behind all that are ready now.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const SOON: Duration = Duration::from_micros(20);

    #[test]
    fn who_comes_alone_is_answered_at_once_and_who_follows_soon_is_not() {
        let (tempo, start) = (Tempo::new(), Instant::now());
        assert!(!tempo.is_quick(start));
        assert!(tempo.is_quick(start + SOON));
        tempo.last.set(None);
        assert!(!tempo.is_quick(start + SOON * 2), "it has rested");
    }

    #[test]
    fn nobody_waits_where_answers_are_long_in_coming_and_one_that_was_is_soon_forgotten() {
        let (tempo, mut now) = (Tempo::new(), Instant::now());
        let mut answers = |times: u32, after: Duration| {
            (0..times).fold(false, |_, _| {
                now += after;
                tempo.is_quick(now)
            })
        };
        assert!(answers(10, SOON));
        assert!(!answers(1, Duration::from_secs(1)));
        assert!(answers(10, SOON));
        assert!(!answers(10, BATCH_PACE * 2));
    }

    #[test]
    fn a_connection_waits_once_for_what_its_client_has_sent() {
        let mut batched = Batched::default();
        let cx = Context::from_waker(Waker::noop());
        let answers = |batched: &mut Batched| {
            batched.is_owed();
            (0..3).filter(|_| batched.poll(&cx).is_pending()).count()
        };
        rests();
        assert_eq!(answers(&mut batched), 0);
        // The next comes within the pace, unless the machine is late.
        let waits: Vec<_> = (0..1_000).map(|_| answers(&mut batched)).collect();
        assert!(waits.contains(&1) && !waits.contains(&2), "{waits:?}");
    }
}
