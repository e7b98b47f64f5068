//! How many may pass, how many may wait, and how long.
//!
//! A permit is a value: whoever holds it may run, and dropping it gives the place back, so a
//! place cannot be lost however an exchange ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::HandlerLimits;

/// The right to run.
#[derive(Debug)]
pub struct Permit(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

/// No place became free in time, or too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Lets a bounded number pass and a bounded number wait.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    size: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    max_wait: Duration,
}

impl Gate {
    /// `places` may pass at once, `max_waiting` may wait for at most `max_wait`.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize, max_wait: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            size: places,
            waiting: AtomicUsize::new(0),
            max_waiting,
            max_wait,
        }
    }

    /// The gate of a handler with these limits.
    #[must_use]
    pub fn of(limits: &HandlerLimits) -> Self {
        Self::new(
            limits.concurrent_requests,
            limits.waiting_requests,
            limits.permit_wait,
        )
    }

    /// Waits for a place, first come first served.
    ///
    /// # Errors
    /// [`Full`], at once when the queue is full and otherwise after the longest wait.
    pub async fn admit(&self) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_admit() {
            return Ok(permit);
        }
        let _waiting = Waiting::join(&self.waiting, self.max_waiting)?;
        match tokio::time::timeout(self.max_wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(Permit(place)),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// A place that is free now.
    ///
    /// # Errors
    /// [`Full`], when there is none.
    pub fn try_admit(&self) -> Result<Permit, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(Permit).map_err(|_| Full)
    }

    /// How many hold a place.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.size.saturating_sub(self.places.available_permits())
    }

    /// Waits until nobody holds a permit, and lets nobody pass from then on.
    pub async fn close_when_empty(&self) {
        let places = u32::try_from(self.size).unwrap_or(u32::MAX);
        if let Ok(all) = self.places.acquire_many(places).await {
            all.forget();
        }
    }
}

/// A place in the queue; leaving it is dropping it.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn join(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Full> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Full);
        }
        Ok(Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_permit_lets_the_next_pass() {
        let gate = Gate::new(1, 1, Duration::from_secs(1));
        let permit = gate.admit().await.expect("free");
        let next = gate.admit();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        drop(permit);
        next.await.expect("the place is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_at_once_and_a_long_wait_in_time() {
        let gate = Gate::new(1, 1, Duration::from_secs(1));
        let _permit = gate.admit().await.expect("free");
        let waiter = gate.admit();
        tokio::pin!(waiter);
        assert!(futures_util::poll!(&mut waiter).is_pending());

        let before = tokio::time::Instant::now();
        assert_eq!(gate.admit().await.expect_err("the queue is full"), Full);
        assert_eq!(before.elapsed(), Duration::ZERO);

        assert_eq!(waiter.await.expect_err("nobody left"), Full);
        assert_eq!(before.elapsed(), Duration::from_secs(1));
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
