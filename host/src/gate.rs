//! How many may pass, how many may wait, and how long.
//!
//! A permit is a value: whoever holds it may run, and dropping it gives the place back, so a
//! place cannot be lost however an exchange ends.
//!
//! Who holds a place and only waits for its client is [`Idle`]: when there is no place left, the one whose client has moved
//! least so far gets [`Notice`] to give up his, so that nobody takes the place of who is further by coming anew. So clients that send or read as slowly as they may do not keep others out.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::limits::{self, HandlerLimits};

/// The right to run.
#[derive(Debug)]
pub struct Permit {
    /// None only while it is dropped.
    place: Option<OwnedSemaphorePermit>,
    shared: Arc<Shared>,
}

/// What a gate shares with the permits that it gave.
#[derive(Debug, Default)]
struct Shared {
    /// Places that are one too many, and go when they are given back.
    surplus: AtomicUsize,
    idle: Mutex<IdlePlaces>,
}

/// Places whose holders wait for their clients, in the order in which they began to.
#[derive(Debug, Default)]
struct IdlePlaces {
    begun: u64,
    places: BTreeMap<u64, Waits>,
    /// When notice was last given.
    asked: Option<Instant>,
}

#[derive(Debug)]
struct Waits {
    /// When that is long.
    until: Instant,
    /// Bytes that its client has sent or taken before.
    moved: u64,
    notice: Notice,
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, IdlePlaces> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives notice to the one whose client has moved least of those who have waited for long; of several, to the one who
    /// has waited longest.
    fn ask_back(&self) {
        let mut idle = self.idle();
        let now = Instant::now();
        // Many may ask at once, and who was asked needs a moment to go.
        if idle
            .asked
            .is_some_and(|asked| now < asked + limits::IDLE_PAUSE)
        {
            return;
        }
        let long = idle.places.iter().filter(|(_, waits)| waits.until <= now);
        let least = long
            .min_by_key(|(_, waits)| waits.moved)
            .map(|(nth, _)| *nth);
        if let Some(waits) = least.and_then(|nth| idle.places.remove(&nth)) {
            idle.asked = Some(now);
            waits.notice.give();
        }
    }
}

/// Whether the place of an exchange is wanted by another. Clones are the same notice.
#[derive(Debug, Clone, Default)]
pub struct Notice(Arc<Given>);

#[derive(Debug, Default)]
struct Given {
    is_given: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Notice {
    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self) {
        self.0.is_given.store(true, Ordering::Release);
        if let Some(waker) = self.waker().take() {
            waker.wake();
        }
    }

    /// Whether it was given and not taken back; the task is woken when it is.
    pub fn is_given(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        self.0.is_given.load(Ordering::Acquire)
    }

    /// Forgets it: there was a reason to wait.
    pub fn ignore(&self) {
        self.0.is_given.store(false, Ordering::Release);
    }
}

/// A holder of places who waits for its client, until it is dropped. One notice is enough for all of them.
#[derive(Debug)]
pub struct Idle {
    at: Vec<(Arc<Shared>, u64)>,
    notice: Notice,
}

impl Idle {
    /// From now on; its client has moved so many bytes before, and may take `patience` for more.
    #[must_use]
    pub fn with<'a>(
        permits: impl IntoIterator<Item = &'a Permit>,
        moved: u64,
        patience: Duration,
        notice: &Notice,
    ) -> Self {
        let until = Instant::now() + patience;
        let begin = |permit: &'a Permit| {
            let mut idle = permit.shared.idle();
            idle.begun += 1;
            let begun = idle.begun;
            let waits = Waits {
                until,
                moved,
                notice: notice.clone(),
            };
            idle.places.insert(begun, waits);
            (Arc::clone(&permit.shared), begun)
        };
        Self {
            at: permits.into_iter().map(begin).collect(),
            notice: notice.clone(),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for (shared, begun) in &self.at {
            shared.idle().places.remove(begun);
        }
        // Nobody can give it any more. One that came too late is for nothing.
        self.notice.ignore();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let surplus = &self.shared.surplus;
        if surplus.load(Ordering::Relaxed) == 0 {
            return;
        }
        let one_less = |surplus: usize| surplus.checked_sub(1);
        let taken = surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
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
    shared: Arc<Shared>,
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
            shared: Arc::default(),
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
                .shared
                .surplus
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, kept)
                .unwrap_or(0);
            self.places.add_permits(more.saturating_sub(surplus));
        } else {
            let less = *size - places;
            let held = less - self.places.forget_permits(less);
            self.shared.surplus.fetch_add(held, Ordering::Relaxed);
        }
        *size = places;
    }

    /// Waits for a place, first come first served. Meanwhile those who hold one and wait for their clients are asked for theirs.
    ///
    /// # Errors
    /// [`Full`], at once when the queue is full and otherwise after the longest wait.
    pub async fn admit(&self) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_admit() {
            return Ok(permit);
        }
        let max_waiting = self.max_waiting.load(Ordering::Relaxed);
        let _waiting = Waiting::join(&self.waiting, max_waiting)?;
        let mut place = pin!(Arc::clone(&self.places).acquire_owned());
        let end = Instant::now() + self.max_wait;
        loop {
            self.shared.ask_back();
            let rest = end.saturating_duration_since(Instant::now());
            match timeout(rest.min(limits::IDLE_LOOK), &mut place).await {
                Ok(Ok(place)) => return Ok(self.permit(place)),
                Ok(Err(_)) => return Err(Full),
                Err(_) if rest <= limits::IDLE_LOOK => return Err(Full),
                Err(_) => {}
            }
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
            shared: Arc::clone(&self.shared),
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
    async fn whose_client_has_moved_least_is_asked_for_his_place() {
        let gate = Gate::new(2, 2, Duration::from_secs(5));
        let held = [gate.admit().await, gate.admit().await].map(|permit| permit.expect("free"));
        let (first, second) = (Notice::default(), Notice::default());
        let cx = Context::from_waker(Waker::noop());
        // Who has waited longest, and has moved more.
        let second_idle = Idle::with([&held[1]], 9, limits::IDLE_PLACE, &second);
        let _first = Idle::with([&held[0]], 8, limits::IDLE_PLACE, &first);

        let next = gate.admit();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(!first.is_given(&cx), "it has only begun to wait");
        tokio::time::advance(limits::IDLE_PLACE).await;
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(first.is_given(&cx) && !second.is_given(&cx));

        tokio::time::advance(limits::IDLE_LOOK).await;
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(second.is_given(&cx), "the first has not done it");
        // Whose client has moved meanwhile keeps it.
        drop(second_idle);
        assert!(!second.is_given(&cx));

        let [of_first, _of_second] = held;
        drop(of_first);
        next.await.expect("the place that was given up");
        assert_eq!(gate.shared.idle().places.len(), 0);
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
