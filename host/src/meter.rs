//! CPU time of a guest: measured around every poll, compared with its budget at every tick.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

thread_local! {
    /// CPU time of this thread when the guest that it polls now was entered, in nanoseconds.
    static ENTERED: Cell<u64> = const { Cell::new(0) };
}

/// What one exchange's guest has used, and may use.
#[derive(Debug)]
pub struct Meter {
    used: AtomicU64,
    budget: AtomicU64,
    /// CPU time since the guest last waited for something.
    burst: AtomicU64,
    /// The poll that goes on ends because its time slice is over.
    sliced: AtomicBool,
}

impl Meter {
    /// A meter at zero with a budget of CPU time.
    #[must_use]
    pub fn new(budget: Duration) -> Self {
        Self {
            used: AtomicU64::new(0),
            budget: AtomicU64::new(nanos(budget)),
            burst: AtomicU64::new(0),
            sliced: AtomicBool::new(false),
        }
    }

    /// CPU time used in polls that have ended.
    #[must_use]
    pub fn used(&self) -> Duration {
        Duration::from_nanos(self.used.load(Ordering::Relaxed))
    }

    /// Charges CPU time that was measured elsewhere.
    pub(crate) fn charge(&self, time: Duration) {
        self.used.fetch_add(nanos(time), Ordering::Relaxed);
    }

    /// CPU time that may be used in all.
    #[must_use]
    pub fn budget(&self) -> Duration {
        Duration::from_nanos(self.budget.load(Ordering::Relaxed))
    }

    /// Sets the CPU time that may be used in all.
    pub(crate) fn allow(&self, budget: Duration) {
        self.budget.store(nanos(budget), Ordering::Relaxed);
    }

    /// CPU time since the guest last waited: what a loop has and a long transfer has not.
    pub(crate) fn burst(&self) -> Duration {
        Duration::from_nanos(self.burst.load(Ordering::Relaxed))
    }

    /// The guest is stopped in the middle of its work, to go on at once.
    pub(crate) fn slice(&self) {
        self.sliced.store(true, Ordering::Relaxed);
    }

    /// Runs one poll of the guest on the clock.
    pub(crate) fn measure<R>(&self, poll: impl FnOnce() -> R) -> R {
        let before = thread_cpu_time();
        ENTERED.set(before);
        let result = poll();
        let spent = thread_cpu_time().saturating_sub(before);
        self.used.fetch_add(spent, Ordering::Relaxed);
        if self.sliced.swap(false, Ordering::Relaxed) {
            self.burst.fetch_add(spent, Ordering::Relaxed);
        } else {
            self.burst.store(0, Ordering::Relaxed);
        }
        result
    }

    /// Whether the guest that is being polled on this thread has used up its budget.
    pub(crate) fn is_spent(&self) -> bool {
        let now = thread_cpu_time().saturating_sub(ENTERED.get());
        self.used.load(Ordering::Relaxed).saturating_add(now) > self.budget.load(Ordering::Relaxed)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this thread, in nanoseconds.
fn thread_cpu_time() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or(0)
}
