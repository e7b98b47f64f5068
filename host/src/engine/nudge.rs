//! The waker of a guest that is polled in front.
//!
//! A guest often wakes itself while it is polled: 0.3 guests yield between their response and its body, and stores
//! wake for what became ready meanwhile. Passed on, each of these is one more turn of the whole connection, with nothing
//! to do in it. So a guest that was woken during its poll is polled again at once, a few times.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::meter::Meter;

/// Polls a guest, and knows when to do it again.
pub(super) struct Nudge {
    inner: Arc<Inner>,
    waker: Waker,
}

#[derive(Default)]
struct Inner {
    task: AtomicWaker,
    is_polling: AtomicBool,
    is_nudged: AtomicBool,
}

impl Nudge {
    pub(super) fn new() -> Self {
        let inner = Arc::<Inner>::default();
        Self {
            waker: Waker::from(Arc::clone(&inner)),
            inner,
        }
    }

    /// Polls until the guest waits for something. One that is stopped at a tick lets others go first.
    pub(super) fn poll(
        &self,
        cx: &mut Context<'_>,
        meter: &Meter,
        mut guest: Pin<&mut (dyn Future<Output = ()> + Send)>,
    ) -> Poll<()> {
        let inner = &*self.inner;
        inner.task.register(cx.waker());
        // Who does not see it yet wakes the task once more than is needed.
        inner.is_polling.store(true, Ordering::Relaxed);
        for _ in 0..TURNS {
            // Taken, so that the poll sees what was written before the wake. Who comes after this look is seen after the poll.
            if inner.is_nudged.load(Ordering::Relaxed) {
                inner.is_nudged.swap(false, Ordering::SeqCst);
            }
            let mut of_guest = Context::from_waker(&self.waker);
            let polled = meter.measure(|| guest.as_mut().poll(&mut of_guest));
            if polled.is_ready() {
                return polled;
            }
            if meter.is_sliced() {
                break;
            }
            if !inner.is_nudged.load(Ordering::SeqCst) {
                meter.waits();
                break;
            }
        }
        // In this order: whoever wakes from now on wakes the task, and who did before is seen here.
        inner.is_polling.store(false, Ordering::SeqCst);
        if inner.is_nudged.load(Ordering::SeqCst) {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_nudged.store(true, Ordering::SeqCst);
        if !self.is_polling.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }
}

/// Polls in a row before others get their turn.
const TURNS: usize = 8;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use super::*;
    use crate::account::Account;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls a guest that wakes itself `times` times before it is done: whether it was, and wakes of the task.
    fn polled(times: usize) -> (bool, usize) {
        let task = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&task));
        let mut left = times;
        let guest = pin!(poll_fn(move |cx| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            cx.waker().wake_by_ref();
            Poll::Pending
        }));
        let meter = Meter::new(Duration::from_secs(1), Account::new());
        let polled = Nudge::new().poll(&mut Context::from_waker(&waker), &meter, guest);
        (polled.is_ready(), task.0.load(Ordering::SeqCst))
    }

    #[test]
    fn a_guest_that_wakes_itself_is_polled_again_without_a_turn_of_its_task() {
        assert_eq!(polled(0), (true, 0));
        assert_eq!(polled(TURNS - 1), (true, 0));
    }

    #[test]
    fn a_guest_that_wakes_itself_on_and_on_lets_others_go_first() {
        assert_eq!(polled(TURNS), (false, 1));
    }

    #[test]
    fn a_guest_that_is_stopped_at_a_tick_is_not_polled_again_at_once() {
        let meter = Meter::new(Duration::from_secs(1), Account::new());
        let mut polls = 0;
        let guest = pin!(poll_fn(|cx| {
            polls += 1;
            meter.slice();
            cx.waker().wake_by_ref();
            Poll::<()>::Pending
        }));
        let polled = Nudge::new().poll(&mut Context::from_waker(Waker::noop()), &meter, guest);
        assert!(polled.is_pending());
        assert_eq!(polls, 1);
    }

    #[test]
    fn a_guest_that_is_woken_later_wakes_its_task() {
        let task = Arc::<Count>::default();
        let waker = Waker::from(Arc::clone(&task));
        let kept = Arc::new(AtomicWaker::new());
        let of_guest = Arc::clone(&kept);
        let guest = pin!(poll_fn(move |cx: &mut Context<'_>| {
            of_guest.register(cx.waker());
            Poll::<()>::Pending
        }));
        let meter = Meter::new(Duration::from_secs(1), Account::new());
        let polled = Nudge::new().poll(&mut Context::from_waker(&waker), &meter, guest);
        assert!(polled.is_pending());
        assert_eq!(task.0.load(Ordering::SeqCst), 0);
        kept.wake();
        assert_eq!(task.0.load(Ordering::SeqCst), 1);
    }
}
