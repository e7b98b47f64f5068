//! Who pays for what is used: a tenant, or a handler that has none.
//!
//! Where there is too little of something, accounts share it, and not requests: who sends more of them gets no more.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crate::limits::{FRONT_CREDIT, FRONT_REFILL};

/// Who pays, and what it has saved up. Whoever makes two for the same gives it two shares.
#[derive(Debug)]
pub struct Account {
    id: u64,
    /// Nanoseconds on the threads that serve which its long bursts may still use. Less than none is a debt.
    credit: AtomicI64,
    /// Until when it was refilled, in nanoseconds since [`START`].
    refilled: AtomicU64,
}

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Account {
    /// Somebody new, who has used nothing.
    #[must_use]
    pub fn new() -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            credit: AtomicI64::new(nanos(FRONT_CREDIT)),
            refilled: AtomicU64::new(now()),
        })
    }

    /// What nobody else has. Never 0, which a gate has for those who share with nobody.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// A burst has used so much of the threads that serve.
    pub(crate) fn spend(&self, time: Duration) {
        self.credit.fetch_sub(nanos(time), Ordering::Relaxed);
    }

    /// Whether its bursts may use more of the threads that serve.
    #[must_use]
    pub fn has_credit(&self) -> bool {
        self.credit.load(Ordering::Relaxed) > 0 || self.refill(now())
    }

    /// What came since it was refilled last; of two who do it at once, one does.
    fn refill(&self, now: u64) -> bool {
        let before = self.refilled.load(Ordering::Relaxed);
        let gained = now.saturating_sub(before) / FRONT_REFILL;
        let take =
            |at: &AtomicU64| at.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed);
        if gained == 0 || take(&self.refilled).is_err() {
            // Whoever was quicker may have paid.
            return self.credit.load(Ordering::Relaxed) > 0;
        }
        let full = nanos(FRONT_CREDIT);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        let more = |credit: i64| Some(credit.saturating_add(gained).min(full));
        let credit = self
            .credit
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .unwrap_or(0);
        credit.saturating_add(gained) > 0
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
        account.spend(FRONT_CREDIT * 3);
        assert!(!account.has_credit());
        let begun = now();
        let debt = u64::try_from(nanos(FRONT_CREDIT * 2)).expect("no debt") * FRONT_REFILL;
        assert!(!account.refill(begun + debt / 2));
        assert!(account.refill(begun + debt + debt / 2));
        // What is saved up has an end.
        account.refill(begun + 1_000 * debt);
        account.spend(FRONT_CREDIT + Duration::from_millis(1));
        assert!(!account.has_credit());
    }
}
