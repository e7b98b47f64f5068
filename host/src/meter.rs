//! What an exchange costs: CPU time, which is measured around every poll and compared with its budget at every tick, memory,
//! and what has moved of its bodies.
//!
//! The clock of a thread's CPU time is a system call, and two of them for each poll cost a small request a twentieth of
//! its time. So a poll shorter than [`TICK`] is charged what passed on the ordinary clock, and a longer one, in which
//! the thread may have been made to wait, what its thread used since it last looked, which it does once a tick. Each
//! poll's charge is so too high by a tick at most, and never more than what passed.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::account::Account;
use crate::limits::{
    BYTE_EARNS, FREE_BURST, FRONT_TIME, FRONT_UNSTOPPED, FRONT_UNSTOPPED_TICKS, TICK,
};

/// Ticks of all epochs since the start. Read at each poll, and written so seldom that it is in the cache of who reads it.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// An epoch ticks.
pub(crate) fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

thread_local! {
    /// When the guest that this thread polls now was entered.
    static ENTERED: Cell<Option<Instant>> = const { Cell::new(None) };
    /// When this thread last looked at its CPU time, and what that was.
    static LOOKED: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
}

/// What one exchange's guest has used, and may use.
#[derive(Debug)]
pub struct Meter {
    account: Arc<Account>,
    used: AtomicU64,
    budget: AtomicU64,
    /// CPU time since the guest last waited for something.
    burst: AtomicU64,
    /// The poll that goes on ends because its time slice is over.
    sliced: AtomicBool,
    in_background: AtomicBool,
    /// Nanoseconds on the clock that making its instances took. 0: one that was there is used.
    instantiation: AtomicU64,
    /// Bytes of the instance, at most.
    memory: AtomicUsize,
    /// Bytes of the request's body.
    received: AtomicU64,
    /// Bytes of the response's body.
    sent: AtomicU64,
    /// It was given to another instance when the one that it shared had failed.
    tried_again: AtomicBool,
    /// Nanoseconds of `used` when its exchange was noted. [`NOT_NOTED`]: it has not ended.
    noted: AtomicU64,
}

/// More than anybody uses, so that nothing is left if it is taken away.
const NOT_NOTED: u64 = u64::MAX;

impl Meter {
    /// A meter at zero with a budget of CPU time, for who pays.
    #[must_use]
    pub fn new(budget: Duration, account: Arc<Account>) -> Self {
        Self {
            account,
            used: AtomicU64::new(0),
            budget: AtomicU64::new(nanos(budget)),
            burst: AtomicU64::new(0),
            sliced: AtomicBool::new(false),
            in_background: AtomicBool::new(false),
            instantiation: AtomicU64::new(0),
            memory: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            tried_again: AtomicBool::new(false),
            noted: AtomicU64::new(NOT_NOTED),
        }
    }

    /// Who pays.
    #[must_use]
    pub fn account(&self) -> &Arc<Account> {
        &self.account
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

    /// Does something for the guest on a thread of the host's, and charges what CPU time of that it takes.
    pub(crate) fn work<R>(&self, work: impl FnOnce() -> R) -> R {
        let before = thread_cpu_time();
        let done = work();
        self.charge(thread_cpu_time().saturating_sub(before));
        done
    }

    /// How long it took, on the clock, to make an instance, or two. None: there was one, or there is none.
    #[must_use]
    pub fn instantiation(&self) -> Option<Duration> {
        let nanos = self.instantiation.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// An instance was made for it.
    pub(crate) fn instantiated(&self, took: Duration) {
        self.instantiation
            .fetch_add(nanos(took).max(1), Ordering::Relaxed);
    }

    /// Bytes that its instance has had at most: memories and tables, and what the host held for it. One that serves several
    /// requests counts whole for each.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory.load(Ordering::Relaxed)
    }

    /// Its instance has so many bytes now.
    pub fn holds(&self, bytes: usize) {
        // Read first: nearly always it is no more than it was.
        if self.memory.load(Ordering::Relaxed) < bytes {
            self.memory.fetch_max(bytes, Ordering::Relaxed);
        }
    }

    /// Bytes of the request's body that its guest has taken.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The guest has taken so many more.
    pub(crate) fn receives(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many more bytes of what its guest writes were taken, to be sent to the client.
    pub(crate) fn sends(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether it was given to another instance when the one that it shared with others had failed.
    #[must_use]
    pub fn was_tried_again(&self) -> bool {
        self.tried_again.load(Ordering::Relaxed)
    }

    /// See [`Self::was_tried_again`].
    pub(crate) fn tried_again(&self) {
        self.tried_again.store(true, Ordering::Relaxed);
    }

    /// CPU time used so far, which is that of the exchange. What comes is used after it.
    pub(crate) fn note(&self) -> Duration {
        let used = self.used();
        self.noted.store(nanos(used), Ordering::Relaxed);
        used
    }

    /// CPU time that was used after the exchange. None before it has ended.
    pub(crate) fn used_after(&self) -> Duration {
        let noted = self.noted.load(Ordering::Relaxed);
        Duration::from_nanos(self.used.load(Ordering::Relaxed).saturating_sub(noted))
    }

    /// CPU time that may be used in all: what was set, and [`BYTE_EARNS`] for each byte of its bodies that has moved.
    #[must_use]
    pub fn budget(&self) -> Duration {
        let moved = self
            .received()
            .saturating_add(self.sent.load(Ordering::Relaxed));
        let earned = moved.saturating_mul(BYTE_EARNS);
        Duration::from_nanos(self.budget.load(Ordering::Relaxed).saturating_add(earned))
    }

    /// Sets the CPU time that may be used in all, without what is earned.
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

    /// Runs one poll of the guest on the clock. On a thread that serves it is of its account's share, and what is longer than
    /// [`FREE_BURST`] costs credit too, and what is longer than [`FRONT_UNSTOPPED`] is a debt that keeps its account from the front,
    /// unless it was not stopped because no epoch ticked.
    pub fn measure<R>(&self, poll: impl FnOnce() -> R) -> R {
        self.sliced.store(false, Ordering::Relaxed);
        let before = self.burst();
        let ticks = TICKS.load(Ordering::Relaxed);
        enter();
        let result = poll();
        let spent = since_entered();
        self.used.fetch_add(nanos(spent), Ordering::Relaxed);
        self.burst.fetch_add(nanos(spent), Ordering::Relaxed);
        let burst = before + spent;
        if !self.in_background.load(Ordering::Relaxed) {
            self.account.spend_share(spent);
            let ticked = || TICKS.load(Ordering::Relaxed) - ticks;
            if spent > FRONT_UNSTOPPED && ticked() >= FRONT_UNSTOPPED_TICKS {
                self.account.spend_unstopped(spent);
            }
            if burst > FREE_BURST {
                self.account
                    .spend_credit(if before > FREE_BURST { spent } else { burst });
            }
        }
        result
    }

    /// From now on it uses what the others leave, and no credit of its account's.
    pub(crate) fn moves_to_background(&self) {
        self.in_background.store(true, Ordering::Relaxed);
    }

    /// What it does from now on is another thing.
    pub(crate) fn returns_to_front(&self) {
        self.in_background.store(false, Ordering::Relaxed);
        self.waits();
    }

    /// Whether a guest that would go on at once should leave the threads that serve.
    #[must_use]
    pub fn is_burning(&self) -> bool {
        let burst = self.burst();
        burst > FRONT_TIME || burst > TICK && !self.account.has_credit()
    }

    /// Whether a guest that waits should go on elsewhere than on the threads that serve, of which its account has had its share.
    pub(crate) fn is_over_share(&self) -> bool {
        !self.account.has_share()
    }

    /// The guest waits for something that others do.
    pub fn waits(&self) {
        self.burst.store(0, Ordering::Relaxed);
    }

    /// Whether the last poll ended because its time slice was over.
    pub(crate) fn is_sliced(&self) -> bool {
        self.sliced.load(Ordering::Relaxed)
    }

    /// Whether more is used than may be, in polls that have ended and by the host's threads.
    pub(crate) fn is_overdrawn(&self) -> bool {
        self.used() > self.budget()
    }

    /// Whether the guest that is being polled on this thread has used up its budget.
    pub(crate) fn is_spent(&self) -> bool {
        self.used() + since_entered() > self.budget()
    }
}

fn enter() {
    let now = Instant::now();
    ENTERED.set(Some(now));
    if LOOKED.get().is_none_or(|(at, _)| now - at > TICK) {
        LOOKED.set(Some((now, thread_cpu_time())));
    }
}

/// CPU time that this thread has spent in the guest that it polls now.
fn since_entered() -> Duration {
    let (Some(entered), Some((_, looked))) = (ENTERED.get(), LOOKED.get()) else {
        return Duration::ZERO;
    };
    let passed = entered.elapsed();
    if passed < TICK {
        return passed;
    }
    passed.min(thread_cpu_time().saturating_sub(looked))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// CPU time of this thread since it began.
fn thread_cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn burn(time: Duration) {
        let until = thread_cpu_time() + time;
        while thread_cpu_time() < until {}
    }

    #[test]
    fn a_guest_is_charged_for_what_it_burns_and_not_for_what_it_waits() {
        let meter = Meter::new(Duration::from_secs(5), Account::new());
        meter.measure(|| burn(Duration::from_millis(20)));
        let burnt = meter.used();
        assert!(burnt >= Duration::from_millis(20), "{burnt:?}");
        // The thread waits, as it does when others have its core.
        let (_open, nothing) = std::sync::mpsc::channel::<()>();
        let wait = || nothing.recv_timeout(Duration::from_millis(200));
        assert!(meter.measure(wait).is_err());
        let waited = meter.used() - burnt;
        assert!(waited < Duration::from_millis(50), "{waited:?}");
    }

    #[test]
    fn what_the_host_does_for_a_guest_counts_towards_its_budget() {
        let meter = Meter::new(Duration::from_millis(10), Account::new());
        assert_eq!(meter.work(|| 1), 1);
        assert!(!meter.is_spent());
        meter.work(|| burn(Duration::from_millis(15)));
        assert!(meter.used() >= Duration::from_millis(15));
        assert!(meter.measure(|| meter.is_spent()));
        assert!(meter.burst() < Duration::from_millis(15), "it has waited");
    }

    #[test]
    fn what_moves_earns_time() {
        let meter = Meter::new(Duration::from_millis(10), Account::new());
        meter.receives(1 << 20);
        meter.sends(1 << 20);
        let earned = meter.budget() - Duration::from_millis(10);
        assert!((16..17).contains(&earned.as_millis()), "{earned:?}");
    }

    #[test]
    fn what_is_used_after_the_exchange_is_told_apart() {
        let meter = Meter::new(Duration::from_secs(5), Account::new());
        let ms = Duration::from_millis;
        meter.charge(ms(3));
        assert_eq!(meter.used_after(), ms(0), "it has not ended");
        assert_eq!(meter.note(), ms(3));
        assert_eq!(meter.used_after(), ms(0));
        meter.charge(ms(4));
        assert_eq!(meter.used_after(), ms(4));
    }

    #[test]
    fn only_who_goes_on_while_the_epoch_ticks_could_not_be_stopped() {
        let may_be_in_front_after = |ticks| {
            let meter = Meter::new(Duration::from_secs(5), Account::new());
            let before = TICKS.load(Ordering::Relaxed);
            meter.measure(|| {
                burn(FRONT_UNSTOPPED + TICK);
                (0..ticks).for_each(|_| tick());
            });
            let ticked = TICKS.load(Ordering::Relaxed) - before;
            (meter.account().may_be_in_front(), ticked)
        };
        assert!(!may_be_in_front_after(FRONT_UNSTOPPED_TICKS).0);
        // The epochs of other tests may tick meanwhile.
        let mut quiet = (0..1_000).map(|_| may_be_in_front_after(FRONT_UNSTOPPED_TICKS / 2));
        let (may_be, _) = quiet
            .find(|(_, ticked)| *ticked < FRONT_UNSTOPPED_TICKS)
            .expect("a poll in which no other epoch ticks");
        assert!(may_be);
    }

    #[test]
    fn a_budget_is_spent_within_a_poll() {
        let meter = Meter::new(Duration::from_millis(10), Account::new());
        meter.measure(|| {
            assert!(!meter.is_spent());
            burn(Duration::from_millis(15));
            assert!(meter.is_spent());
        });
    }
}
