//! Responses that are ready soon one after the other are written one after the other.
//!
//! A write wakes its client. One on the same machine, as a proxy is, takes the processor at once, finds a single response, and
//! sleeps again: two switches and often an interrupt for each request. So what is first written for a request, while its thread
//! has others to serve, is written when each of those that are ready has had its turn. Who comes alone is answered at
//! once, and nobody waits on a thread where answers, or turns, take long.

use std::cell::Cell;
use std::mem;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::progress::Progress;
use crate::limits::{BATCH_PACE, BATCH_TURN, UNBATCHED};

thread_local! {
    static THREAD: Tempo = const { Tempo::new() };
}

/// The thread has nothing to do. For the runtime that serves, which knows it.
pub fn thread_rests() {
    THREAD.with(Tempo::rest);
}

/// How fast a thread answers.
struct Tempo {
    /// When it had an answer last. None: not since it rested.
    last: Cell<Option<Instant>>,
    /// From one answer to the next without a rest between, on average of the last few.
    mean: Cell<Duration>,
    /// Answers that nobody delays any more, since a turn was too long.
    unbatched: Cell<u32>,
}

impl Tempo {
    const fn new() -> Self {
        Self {
            last: Cell::new(None),
            mean: Cell::new(BATCH_PACE),
            unbatched: Cell::new(0),
        }
    }

    fn rest(&self) {
        self.last.set(None);
    }

    /// Notes an answer. Gives whether it may wait: others follow soon, if they are like those before.
    fn answers(&self, now: Instant) -> bool {
        let Some(last) = self.last.replace(Some(now)) else {
            return false;
        };
        // One that was long in coming is soon forgotten.
        let since = now.duration_since(last).min(BATCH_PACE * 8);
        self.mean.set((self.mean.get() * 7 + since) / 8);
        let unbatched = self.unbatched.get();
        self.unbatched.set(unbatched.saturating_sub(1));
        unbatched == 0 && self.mean.get() < BATCH_PACE
    }

    /// An answer has waited for so long.
    fn waited(&self, turn: Duration) {
        if turn > BATCH_TURN {
            self.unbatched.set(UNBATCHED);
        }
    }
}

/// When a connection writes.
#[derive(Debug, Default)]
pub(super) struct Batched {
    /// The number of the last request for which something was written.
    request: u64,
    /// Since when it waits for its turn.
    since: Option<Instant>,
    /// Somebody wants to read when it has written.
    reads_next: bool,
}

impl Batched {
    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// What may be read is read when its turn has come.
    pub(super) fn read_next(&mut self) {
        self.reads_next = true;
    }

    /// Asked before each write, which may wait only if its request `is_over`: hyper gives up what it was to write when it can
    /// read no more of a body, or when the body that it writes breaks off. Pending once for a request at most, and then
    /// woken already.
    pub(super) fn poll(
        &mut self,
        cx: &Context<'_>,
        progress: &Progress,
        is_over: bool,
    ) -> Poll<()> {
        if let Some(since) = self.since.take() {
            THREAD.with(|tempo| tempo.waited(since.elapsed()));
            #[cfg(test)]
            WAITED.set(true);
            progress.waits(false);
            if mem::take(&mut self.reads_next) {
                cx.waker().wake_by_ref();
            }
            return Poll::Ready(());
        }
        let request = progress.requests();
        if mem::replace(&mut self.request, request) == request || progress.is_blocked() || !is_over
        {
            return Poll::Ready(());
        }
        let now = Instant::now();
        if !THREAD.with(|tempo| tempo.answers(now)) {
            return Poll::Ready(());
        }
        self.since = Some(now);
        progress.waits(true);
        // Behind all that are ready now.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
thread_local! {
    static WAITED: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread answers as one that has much to do.
#[cfg(test)]
pub(super) fn hurry() {
    THREAD.with(|tempo| {
        tempo.last.set(Some(Instant::now()));
        tempo.mean.set(Duration::ZERO);
        tempo.unbatched.set(0);
    });
    WAITED.set(false);
}

/// Whether something has waited on it since.
#[cfg(test)]
pub(super) fn has_waited() -> bool {
    WAITED.get()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::server::watch::Phase;

    const SOON: Duration = Duration::from_micros(20);

    /// Answers that come `after` each other: whether the last may wait.
    fn answers(tempo: &Tempo, now: &mut Instant, times: u32, after: Duration) -> bool {
        (0..times).fold(false, |_, _| {
            *now += after;
            tempo.answers(*now)
        })
    }

    #[test]
    fn who_comes_alone_does_not_wait_and_who_follows_soon_does() {
        let (tempo, mut now) = (Tempo::new(), Instant::now());
        assert!(!answers(&tempo, &mut now, 1, SOON));
        assert!(answers(&tempo, &mut now, 1, SOON));
        tempo.rest();
        assert!(!answers(&tempo, &mut now, 1, SOON));
    }

    #[test]
    fn nobody_waits_where_answers_are_long_in_coming_and_one_that_was_is_soon_forgotten() {
        let (tempo, mut now) = (Tempo::new(), Instant::now());
        assert!(answers(&tempo, &mut now, 10, SOON));
        assert!(!answers(&tempo, &mut now, 1, Duration::from_secs(1)));
        assert!(answers(&tempo, &mut now, 10, SOON));
        assert!(!answers(&tempo, &mut now, 10, BATCH_PACE * 2));
    }

    #[test]
    fn nobody_waits_for_long_after_a_turn_that_was_too_long() {
        let (tempo, mut now) = (Tempo::new(), Instant::now());
        assert!(answers(&tempo, &mut now, 10, SOON));
        tempo.waited(BATCH_TURN * 2);
        for _ in 0..UNBATCHED {
            assert!(!answers(&tempo, &mut now, 1, SOON));
        }
        assert!(answers(&tempo, &mut now, 1, SOON));
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Asks on a thread that has much to do: whether it may write now, and how often it was woken.
    fn poll(batched: &mut Batched, progress: &Progress, is_over: bool) -> (bool, usize) {
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        hurry();
        let polled = batched.poll(&Context::from_waker(&waker), progress, is_over);
        (polled.is_ready(), woken.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_connection_waits_once_for_a_request_and_is_woken() {
        let (mut batched, progress) = (Batched::default(), Progress::default());
        let mut writes = |is_over| poll(&mut batched, &progress, is_over);
        assert_eq!(writes(true), (true, 0), "nothing was asked");
        for _ in 0..3 {
            progress.count_request();
            assert_eq!(writes(true), (false, 1));
            assert_eq!(progress.h1_phase().0, Phase::Busy, "a response is owed");
            for _ in 0..3 {
                assert_eq!(writes(true), (true, 0));
            }
        }
        progress.count_request();
        for is_over in [false, true] {
            assert_eq!(writes(is_over), (true, 0), "more of it was to come");
        }
        progress.count_request();
        progress.blocked();
        assert_eq!(writes(true), (true, 0), "the client is slow");
    }

    #[test]
    fn who_would_have_read_is_woken_when_it_has_written() {
        let (mut batched, progress) = (Batched::default(), Progress::default());
        progress.count_request();
        assert_eq!(poll(&mut batched, &progress, true), (false, 1));
        batched.read_next();
        assert_eq!(poll(&mut batched, &progress, true), (true, 1));
    }
}
