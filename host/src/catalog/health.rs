//! Whether a handler is worth asking. One that fails again and again is answered from the door for a while, in place of
//! an instance for each request that will fail too; then one request tries again.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;

/// How a handler has done so far.
#[derive(Debug, Default)]
pub struct Health {
    /// It has answered at least once.
    has_answered: AtomicBool,
    /// Failures since it last answered.
    in_a_row: AtomicU32,
    quarantine: Mutex<Option<Quarantine>>,
}

#[derive(Debug, Clone, Copy)]
struct Quarantine {
    until: Instant,
    pause: Duration,
    /// A request that was let in has yet to say how it went.
    is_trying: bool,
}

/// Nobody is let in for so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined(pub Duration);

impl Health {
    /// Whether a request may try.
    ///
    /// # Errors
    /// The time to wait. When it is over one request may try, and the others wait for as long again.
    pub fn admit(&self, now: Instant) -> Result<(), Quarantined> {
        if !self.is_quarantined() {
            return Ok(());
        }
        let mut quarantine = self.lock();
        let Some(quarantine) = &mut *quarantine else {
            return Ok(());
        };
        if now < quarantine.until {
            return Err(Quarantined(quarantine.until - now));
        }
        (quarantine.until, quarantine.is_trying) = (now + quarantine.pause, true);
        Ok(())
    }

    /// It has answered.
    pub fn answered(&self) {
        if self.in_a_row.swap(0, Ordering::Relaxed) >= self.patience() {
            *self.lock() = None;
        }
        // Read first: the line is shared by every thread that serves.
        if !self.has_answered() {
            self.has_answered.store(true, Ordering::Relaxed);
        }
    }

    /// It has failed. Whether that put it into quarantine.
    pub fn failed(&self, now: Instant) -> bool {
        let before = self.in_a_row.fetch_add(1, Ordering::Relaxed);
        if before.saturating_add(1) < self.patience() {
            return false;
        }
        let mut quarantine = self.lock();
        let pause = match *quarantine {
            None => limits::QUARANTINE,
            Some(quarantine) if quarantine.is_trying => {
                (quarantine.pause * 2).min(limits::QUARANTINE_MOST)
            }
            // It was let in before the quarantine began, and says nothing new.
            Some(_) => return false,
        };
        let is_new = quarantine.is_none();
        *quarantine = Some(Quarantine {
            until: now + pause,
            pause,
            is_trying: false,
        });
        is_new
    }

    /// Whether it has answered, and is not in quarantine.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.has_answered() && !self.is_quarantined()
    }

    /// Whether it has answered since it was deployed.
    #[must_use]
    pub fn has_answered(&self) -> bool {
        self.has_answered.load(Ordering::Relaxed)
    }

    /// Whether it is in quarantine.
    #[must_use]
    pub fn is_quarantined(&self) -> bool {
        self.in_a_row.load(Ordering::Relaxed) >= self.patience()
    }

    /// One that has never answered is given up sooner: nobody misses it.
    fn patience(&self) -> u32 {
        if self.has_answered() {
            limits::FAILURES_IN_A_ROW
        } else {
            limits::FIRST_FAILURES
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Quarantine>> {
        self.quarantine
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a new version has shown so far, while the one before it is kept.
#[derive(Debug, Default)]
pub(super) struct Probation {
    answers: AtomicU32,
    first: OnceLock<Instant>,
}

impl Probation {
    /// It has answered. Whether that proves it.
    pub(super) fn answered(&self, now: Instant) -> bool {
        let first = *self.first.get_or_init(|| now);
        let before = self.answers.fetch_add(1, Ordering::Relaxed);
        before.saturating_add(1) >= limits::PROVEN_ANSWERS
            || now.saturating_duration_since(first) >= limits::PROVEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_proven_by_many_answers_or_by_one_a_minute_after_the_first() {
        let now = Instant::now();
        let busy = Probation::default();
        let proven = (1..).find(|_| busy.answered(now));
        assert_eq!(proven, Some(limits::PROVEN_ANSWERS));
        let idle = Probation::default();
        let soon = now + limits::PROVEN_AFTER - Duration::from_millis(1);
        assert_eq!((idle.answered(now), idle.answered(soon)), (false, false));
        assert!(idle.answered(now + limits::PROVEN_AFTER));
        // Nobody asked for a day: it has shown nothing yet.
        assert!(!Probation::default().answered(now + Duration::from_secs(86_400)));
    }

    fn fail(health: &Health, times: u32, now: Instant) -> u32 {
        (0..times)
            .filter(|_| health.failed(now))
            .count()
            .try_into()
            .expect("few")
    }

    #[test]
    fn one_that_never_answers_is_tried_again_less_and_less_often() {
        let (health, mut now) = (Health::default(), Instant::now());
        assert_eq!(fail(&health, limits::FIRST_FAILURES - 1, now), 0);
        assert_eq!(health.admit(now), Ok(()));
        // Requests that were under way fail too, and change nothing.
        assert_eq!(fail(&health, 100, now), 1);
        let mut pause = limits::QUARANTINE;
        for _ in 0..10 {
            assert_eq!(health.admit(now), Err(Quarantined(pause)));
            now += pause;
            assert_eq!(health.admit(now), Ok(()), "one may try");
            assert_eq!(health.admit(now), Err(Quarantined(pause)), "and one only");
            assert!(!health.failed(now));
            pause = (pause * 2).min(limits::QUARANTINE_MOST);
        }
        now += limits::QUARANTINE_MOST;
        assert_eq!(health.admit(now), Ok(()));
        health.answered();
        assert_eq!((health.admit(now), health.admit(now)), (Ok(()), Ok(())));
    }

    #[test]
    fn one_that_answers_now_and_then_is_never_shut_out() {
        let (health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            health.answered();
            assert_eq!(fail(&health, limits::FAILURES_IN_A_ROW - 1, now), 0);
        }
        assert!(health.failed(now));
    }
}
