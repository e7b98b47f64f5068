//! How many may pass, how many may wait, and how long.
//!
//! A permit is a value: whoever holds it may run, and dropping it gives the place back, so a
//! place cannot be lost however an exchange ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::HandlerLimits;

/// The right to run.
#[derive(Debug)]
pub struct Permit {
    /// None only while it is dropped.
    place: Option<OwnedSemaphorePermit>,
    surplus: Arc<AtomicUsize>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.surplus.load(Ordering::Relaxed) == 0 {
            return;
        }
        let one_less = |surplus: usize| surplus.checked_sub(1);
        let taken = self
            .surplus
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        if let (Ok(_), Some(place)) = (taken, self.place.take()) {
            place.forget();
        }
    }
}

/// No place became free in time, or too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Lets a bounded number pass and a bounded number wait.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    size: Mutex<usize>,
    /// Places that are one too many, and go when they are given back.
    surplus: Arc<AtomicUsize>,
    waiting: AtomicUsize,
    max_waiting: AtomicUsize,
    max_wait: Duration,
}

impl Gate {
    /// `places` may pass at once, `max_waiting` may wait for at most `max_wait`.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize, max_wait: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            size: Mutex::new(places),
            surplus: Arc::default(),
            waiting: AtomicUsize::new(0),
            max_waiting: AtomicUsize::new(max_waiting),
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

    /// From now on so many may pass, and so many wait. Who has passed stays, also if that is more.
    pub fn resize(&self, places: usize, max_waiting: usize) {
        let mut size = self.size.lock().unwrap_or_else(PoisonError::into_inner);
        self.max_waiting.store(max_waiting, Ordering::Relaxed);
        let more = places.saturating_sub(*size);
        if more > 0 {
            let kept = |surplus: usize| Some(surplus.saturating_sub(more));
            let surplus = self
                .surplus
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, kept)
                .unwrap_or(0);
            self.places.add_permits(more.saturating_sub(surplus));
        } else {
            let less = *size - places;
            let held = less - self.places.forget_permits(less);
            self.surplus.fetch_add(held, Ordering::Relaxed);
        }
        *size = places;
    }

    /// Waits for a place, first come first served.
    ///
    /// # Errors
    /// [`Full`], at once when the queue is full and otherwise after the longest wait.
    pub async fn admit(&self) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_admit() {
            return Ok(permit);
        }
        let max_waiting = self.max_waiting.load(Ordering::Relaxed);
        let _waiting = Waiting::join(&self.waiting, max_waiting)?;
        match tokio::time::timeout(self.max_wait, Arc::clone(&self.places).acquire_owned()).await {
            Ok(Ok(place)) => Ok(self.permit(place)),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    /// A place that is free now.
    ///
    /// # Errors
    /// [`Full`], when there is none.
    pub fn try_admit(&self) -> Result<Permit, Full> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map(|place| self.permit(place)).map_err(|_| Full)
    }

    /// How many hold a place.
    #[must_use]
    pub fn taken(&self) -> usize {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        size.saturating_sub(self.places.available_permits())
    }

    /// How many wait for one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        *self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(&self, place: OwnedSemaphorePermit) -> Permit {
        Permit {
            place: Some(place),
            surplus: Arc::clone(&self.surplus),
        }
    }

    /// Waits until nobody holds a permit, and lets nobody pass from then on.
    pub async fn close_when_empty(&self) {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        let places = u32::try_from(size).unwrap_or(u32::MAX);
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
    async fn a_gate_is_made_smaller_as_places_are_given_back_and_larger_at_once() {
        let gate = Gate::new(3, 0, Duration::from_secs(1));
        let held = [gate.admit().await, gate.admit().await, gate.admit().await];
        let [one, two, three] = held.map(|permit| permit.expect("free"));
        gate.resize(1, 0);
        drop((one, two));
        assert_eq!(gate.admit().await.expect_err("one of one is taken"), Full);
        gate.resize(2, 0);
        let four = gate.admit().await.expect("two places");
        gate.resize(1, 0);
        gate.resize(3, 0);
        let five = gate.admit().await.expect("three places");
        assert_eq!(gate.admit().await.expect_err("three are taken"), Full);
        drop((three, four, five));
        let all = [gate.admit().await, gate.admit().await, gate.admit().await];
        assert!(all.iter().all(Result::is_ok), "no place is lost");
        assert_eq!(gate.admit().await.expect_err("nor made"), Full);
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
