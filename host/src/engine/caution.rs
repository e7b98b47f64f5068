//! How many requests an instance is trusted with: fewer after a fault.
//!
//! What fails takes with it all that its instance was serving, so each fault halves how many that may be: at once, and one
//! after the other. Requests that are served well give it back, slowly. Counting requests and not minutes, a handler comes
//! to rest where it fails seldom enough, however busy it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Fault;
use crate::limits;
use crate::observe::Seldom;

/// Requests that one instance serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// At the same time.
    pub at_once: u32,
    /// From its beginning to its end.
    pub in_all: u32,
}

impl Uses {
    fn halved(self, times: u32) -> Self {
        let half = |uses: u32| uses.checked_shr(times).unwrap_or(0).max(1);
        Self {
            at_once: half(self.at_once),
            in_all: half(self.in_all),
        }
    }

    /// How often it can be halved until nothing is left of it but 1.
    fn halvings(self) -> u32 {
        self.at_once.max(self.in_all).max(1).ilog2()
    }
}

/// What instances of one handler may serve.
#[derive(Debug)]
pub(super) struct Caution {
    handler: Arc<str>,
    granted: Uses,
    /// How often that is halved now.
    halved: AtomicU32,
    /// Requests that were served well since that changed, while it is not 0.
    well: AtomicU32,
    less: Seldom,
    again: Seldom,
}

impl Caution {
    /// None yet: all that is granted.
    pub(super) fn new(handler: Arc<str>, granted: Uses) -> Self {
        Self {
            handler,
            granted,
            halved: AtomicU32::new(0),
            well: AtomicU32::new(0),
            less: Seldom::new(limits::REUSE_PAUSE),
            again: Seldom::new(limits::REUSE_PAUSE),
        }
    }

    pub(super) fn granted(&self) -> Uses {
        self.granted
    }

    /// What an instance may serve now.
    pub(super) fn now(&self) -> Uses {
        self.granted.halved(self.halved.load(Ordering::Relaxed))
    }

    /// A request was served, and nothing went wrong.
    pub(super) fn served(&self) {
        if self.halved.load(Ordering::Relaxed) == 0 {
            return;
        }
        // Exactly one of those that count sees this number.
        if self.well.fetch_add(1, Ordering::Relaxed) + 1 != limits::REUSE_RECOVERS {
            return;
        }
        self.well.store(0, Ordering::Relaxed);
        let less = |halved: u32| halved.checked_sub(1);
        let before = self
            .halved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        if before == Ok(1) && self.again.count().is_some() {
            tracing::info!(
                handler = &*self.handler,
                "an instance of `{}` serves as many requests again as it may: {} at once and {} in all",
                self.handler,
                self.granted.at_once,
                self.granted.in_all
            );
        }
    }

    /// An instance failed.
    pub(super) fn failed(&self, fault: &Fault) {
        self.well.store(0, Ordering::Relaxed);
        let more = |halved: u32| (halved < self.granted.halvings()).then_some(halved + 1);
        let before = self
            .halved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        if before.is_ok() && self.less.count().is_some() {
            let now = self.now();
            tracing::warn!(
                handler = &*self.handler,
                "an instance of `{}` failed: {fault}; until it fails less one serves {} of {} requests at once, and {} of {} \
                 in all, and twice as many after each {} that are served well",
                self.handler,
                now.at_once,
                self.granted.at_once,
                now.in_all,
                self.granted.in_all,
                limits::REUSE_RECOVERS
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::FaultKind;
    use super::*;

    const RECOVERS: u32 = limits::REUSE_RECOVERS;

    /// What an instance may serve after so many faults, and then so many requests that are served well.
    fn after(granted: (u32, u32), faults: u32, well: u32) -> (u32, u32) {
        let (at_once, in_all) = granted;
        let caution = Caution::new(Arc::from("shop"), Uses { at_once, in_all });
        let fault = Fault::new(FaultKind::Trap, "unreachable");
        (0..faults).for_each(|_| caution.failed(&fault));
        (0..well).for_each(|_| caution.served());
        let now = caution.now();
        (now.at_once, now.in_all)
    }

    #[test]
    fn each_fault_halves_it_down_to_one_and_what_is_served_well_gives_it_back() {
        for (granted, faults, well, expected) in [
            ((8, 128), 0, 0, (8, 128)),
            ((8, 128), 1, 0, (4, 64)),
            ((8, 128), 3, 0, (1, 16)),
            ((8, 128), 7, 0, (1, 1)),
            ((8, 128), 1_000, 0, (1, 1)),
            ((100, 3), 2, 0, (25, 1)),
            // Nothing to take away.
            ((1, 1), 5, 0, (1, 1)),
            ((0, 0), 5, 5, (1, 1)),
            ((u32::MAX, u32::MAX), 1_000, 0, (1, 1)),
            ((8, 128), 1, RECOVERS - 1, (4, 64)),
            ((8, 128), 1, RECOVERS, (8, 128)),
            ((8, 128), 3, RECOVERS, (2, 32)),
            ((8, 128), 3, 3 * RECOVERS, (8, 128)),
            // Never more than was granted.
            ((8, 128), 3, 10 * RECOVERS, (8, 128)),
        ] {
            let now = after(granted, faults, well);
            assert_eq!(now, expected, "{granted:?} {faults} {well}");
        }
    }

    #[test]
    fn a_fault_begins_the_count_anew() {
        let granted = Uses {
            at_once: 4,
            in_all: 4,
        };
        let caution = Caution::new(Arc::from("shop"), granted);
        let fault = Fault::new(FaultKind::Trap, "unreachable");
        caution.failed(&fault);
        for _ in 0..10 {
            (1..RECOVERS).for_each(|_| caution.served());
            caution.failed(&fault);
        }
        (1..RECOVERS).for_each(|_| caution.served());
        assert_eq!(caution.now().at_once, 1);
        caution.served();
        assert_eq!(caution.now().at_once, 2);
    }
}
