//! Who pays for what is used: a tenant, or a handler that has none.
//!
//! Where there is too little of something, accounts share it, and not requests: who sends more of them gets no more.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::limits::{FAIR, FRONT_CREDIT, FRONT_REFILL, FRONT_SHARE, FRONT_UNSTOPPED_REFILL};

/// Who pays, and what it has saved up. Whoever makes two for the same gives it two shares.
#[derive(Debug)]
pub struct Account {
    id: u64,
    /// For its long bursts on the threads that serve.
    bursts: Credit,
    /// For what could not be stopped there, of which nothing is saved up.
    unstopped: Credit,
    /// For all that it does there, where there are others.
    share: Credit,
    is_among_others: AtomicBool,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Threads that serve.
static THREADS: LazyLock<u64> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, |it| it.get() as u64));

impl Account {
    /// Somebody new, who has used nothing, and is alone.
    #[must_use]
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            bursts: Credit::new(FRONT_CREDIT, 1, FRONT_REFILL),
            // The least that counts as credit: nothing is saved up.
            unstopped: Credit::new(Duration::from_nanos(1), 1, FRONT_UNSTOPPED_REFILL),
            // As of all that accounts share: one takes so many times what it leaves to the others.
            share: Credit::new(
                FRONT_SHARE * u32::try_from(*THREADS).unwrap_or(u32::MAX),
                *THREADS * FAIR as u64,
                FAIR as u64 + 1,
            ),
            is_among_others: AtomicBool::new(false),
        })
    }

    /// What nobody else has. Never 0, which a gate has for those who share with nobody.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// From now on there are others, who are to have their share too, or there are none.
    pub fn set_among_others(&self, is_among_others: bool) {
        self.is_among_others
            .store(is_among_others, Ordering::Relaxed);
    }

    /// A long burst has used so much of the threads that serve.
    pub(crate) fn spend_credit(&self, time: Duration) {
        self.bursts.spend_at(now(), time);
    }

    /// A guest of it has kept a thread that serves for so long, and could not be stopped.
    pub(crate) fn spend_unstopped(&self, time: Duration) {
        self.unstopped.spend_at(now(), time);
    }

    /// It has used so much of the threads that serve, in a burst of any length.
    pub(crate) fn spend_share(&self, time: Duration) {
        if self.is_among_others.load(Ordering::Relaxed) {
            self.share.spend(time);
        }
    }

    /// Whether it may use more of the threads that serve.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.bursts.is_left() && self.may_be_in_front() && self.has_share()
    }

    /// Whether its guests may be polled on threads that serve at all: none of them has kept one for too long of late.
    pub(crate) fn may_be_in_front(&self) -> bool {
        self.unstopped.is_left()
    }

    /// Whether it has left to others what is theirs of the threads that serve.
    pub(crate) fn has_share(&self) -> bool {
        !self.is_among_others.load(Ordering::Relaxed) || self.share.is_left()
    }
}

/// Time that may be used, which comes back as time passes.
#[derive(Debug)]
struct Credit {
    /// Nanoseconds. Less than none is a debt.
    left: AtomicI64,
    /// Until when it was refilled, in nanoseconds since [`START`].
    refilled: AtomicU64,
    /// What is saved up at most.
    full: i64,
    /// How much comes back in so much time.
    gain: (u64, u64),
}

impl Credit {
    fn new(full: Duration, gain: u64, time: u64) -> Self {
        Self {
            left: AtomicI64::new(nanos(full)),
            refilled: AtomicU64::new(now()),
            full: nanos(full),
            gain: (gain, time),
        }
    }

    /// What came before is saved up first, as far as it can be, and the rest pays for nothing. That costs a look at the clock.
    fn spend_at(&self, now: u64, time: Duration) {
        self.refill(now);
        self.spend(time);
    }

    /// What came since it was refilled last pays for it too: once, for no more than can be saved up.
    fn spend(&self, time: Duration) {
        self.left.fetch_sub(nanos(time), Ordering::Relaxed);
    }

    fn is_left(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0 || self.refill(now())
    }

    /// What came since it was refilled last; of two who do it at once, one does.
    fn refill(&self, now: u64) -> bool {
        let before = self.refilled.load(Ordering::Relaxed);
        let (gain, time) = self.gain;
        let gained = now.saturating_sub(before).saturating_mul(gain) / time;
        let take =
            |at: &AtomicU64| at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        if gained == 0 || take(&self.refilled).is_err() {
            // Whoever was quicker may have paid.
            return self.left.load(Ordering::Relaxed) > 0;
        }
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let more = |left: i64| Some(left.saturating_add(gained).min(self.full));
        let left = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .unwrap_or(0);
        left.saturating_add(gained) > 0
    }
}

fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_bursts_for_too_long_waits_until_time_has_paid_for_it() {
        let account = Account::new();
        assert!(account.has_credit());
        account.spend_credit(FRONT_CREDIT * 3);
        assert!(!account.has_credit());
        let begun = now();
        let debt = u64::try_from(nanos(FRONT_CREDIT * 2)).expect("no debt") * FRONT_REFILL;
        assert!(!account.bursts.refill(begun + debt / 2));
        assert!(account.bursts.refill(begun + debt + debt / 2));
        // What is saved up has an end.
        account.bursts.refill(begun + 1_000 * debt);
        account.spend_credit(FRONT_CREDIT + Duration::from_millis(1));
        assert!(!account.has_credit());
    }

    #[test]
    fn who_could_not_be_stopped_is_away_until_many_times_that_time_has_passed() {
        let account = Account::new();
        let time = Duration::from_millis(40);
        account.spend_unstopped(time);
        assert!(!account.has_credit() && !account.may_be_in_front());
        let begun = now();
        let debt = u64::try_from(nanos(time)).expect("no debt") * FRONT_UNSTOPPED_REFILL;
        assert!(!account.unstopped.refill(begun + debt / 2));
        assert!(account.unstopped.refill(begun + debt + debt / 2));
        assert!(account.has_credit() && account.may_be_in_front());
    }

    #[test]
    fn a_quiet_hour_pays_for_nothing_that_comes_after_it() {
        let account = Account::new();
        let later = now() + u64::try_from(nanos(Duration::from_secs(3600))).expect("no debt");
        let time = FRONT_CREDIT * 2;
        for credit in [&account.bursts, &account.unstopped] {
            credit.spend_at(later, time);
            assert!(!credit.refill(later + 1));
        }
        // So it is with what is spent now.
        let account = Account::new();
        let refilled =
            || [&account.bursts, &account.unstopped].map(|it| it.refilled.load(Ordering::Relaxed));
        let before = refilled();
        while now() < before[1] + 2 * FRONT_UNSTOPPED_REFILL {}
        account.spend_credit(time);
        account.spend_unstopped(time);
        let after = refilled();
        assert!(after[0] > before[0] && after[1] > before[1]);
    }

    #[test]
    fn among_others_nobody_has_all_of_the_threads_that_serve_however_short_his_bursts_are() {
        let account = Account::new();
        let hour = Duration::from_secs(3600);
        account.spend_share(hour);
        assert!(account.has_credit(), "alone it may have all");
        account.set_among_others(true);
        assert!(account.has_credit());
        account.spend_share(hour);
        assert!(!account.has_credit() && !account.has_share());
        // It has used an hour of one thread. Of all threads it has three quarters.
        let begun = now();
        let paid = u64::try_from(nanos(hour)).expect("no debt") * 4 / 3 / *THREADS;
        assert!(!account.share.refill(begun + paid / 2));
        assert!(account.share.refill(begun + paid + paid / 2));
        account.set_among_others(false);
        account.spend_share(hour);
        assert!(account.has_credit());
    }
}
