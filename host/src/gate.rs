//! How many may pass, how many may wait, and how long.
//!
//! A permit is a value: whoever holds it may run, and dropping it gives the place back, so a
//! place cannot be lost however an exchange ends.
//!
//! Where several accounts want the places of one gate, each gets its share before any gets more ([`Gate::admit_among`]):
//! who holds little is let in first, and who holds much leaves some for who comes next, in the queue as well.
//!
//! Who holds a place and only waits for its client is [`Idle`]: when there is no place left, the one whose client has moved
//! least so far gets [`Notice`] to give up his, so that nobody takes the place of who is further by coming anew. So clients that send or
//! read as slowly as they may do not keep others out. Where most of those who hold places only wait so, who came last is let in
//! first, and who came first leaves a queue that is full: a crowd of such clients keeps nobody waiting behind it.

mod idle;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::account::Account;
use crate::limits::{self, HandlerLimits};
use idle::IdlePlaces;

pub use idle::{Earned, Idle, Notice, Sender};

/// The right to run.
#[derive(Debug)]
pub struct Permit {
    gate: Arc<Inner>,
    /// Whose it is.
    account: u64,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// It is closed, and nobody holds a permit any more.
    emptied: Notify,
}

#[derive(Debug, Default)]
struct State {
    places: usize,
    taken: usize,
    max_waiting: usize,
    waiting: usize,
    /// Who has come so far to wait, for the order of those who do.
    come: u64,
    /// Those that hold or wait, by their numbers.
    accounts: Vec<(u64, Standing)>,
    idle: IdlePlaces,
    /// Whether there are other accounts that may come, as whoever came last said.
    is_shared: bool,
    is_closed: bool,
}

/// How an account stands.
#[derive(Debug, Default)]
struct Standing {
    held: usize,
    /// By when they came.
    queue: BTreeMap<u64, oneshot::Sender<Permit>>,
}

/// The account of a gate that is all of one account's.
const UNSHARED: u64 = 0;

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets in who may be, until nobody may.
    fn let_in(self: &Arc<Self>) {
        loop {
            // Not under the lock: a permit that nobody takes comes back at once.
            let Some((waiter, account)) = self.state().next() else {
                return;
            };
            let permit = Permit {
                gate: Arc::clone(self),
                account,
            };
            drop(waiter.send(permit));
        }
    }
}

impl State {
    fn standing(&mut self, account: u64) -> &mut Standing {
        let at = self.accounts.binary_search_by_key(&account, |(id, _)| *id);
        let at = at.unwrap_or_else(|at| {
            self.accounts.insert(at, (account, Standing::default()));
            at
        });
        &mut self.accounts[at].1
    }

    fn forget_if_idle(&mut self, account: u64) {
        // Accounts come and go all the time; what one gate has of its own stays.
        if account == UNSHARED {
            return;
        }
        let at = self.accounts.binary_search_by_key(&account, |(id, _)| *id);
        if let Ok(at) = at
            && self.accounts[at].1.held == 0
            && self.accounts[at].1.queue.is_empty()
        {
            self.accounts.remove(at);
        }
    }

    /// Whether an account that has so many may have one more.
    fn may_hold(&self, held: usize) -> bool {
        let left = self.places.saturating_sub(self.taken);
        !self.is_closed && self.is_fair(held, left)
    }

    /// Whether who has so many may have one more of what is left. Alone, an account may have all.
    fn is_fair(&self, has: usize, left: usize) -> bool {
        left > 0 && (!self.is_shared || leaves_some(has, left))
    }

    fn take(&mut self, account: u64) -> bool {
        let standing = self.standing(account);
        let (held, has_queue) = (standing.held, !standing.queue.is_empty());
        let may = !has_queue && self.may_hold(held);
        if may {
            self.taken += 1;
            self.standing(account).held += 1;
        } else {
            self.forget_if_idle(account);
        }
        may
    }

    /// The next of those who wait, of the account that holds least, with the place that he has from now on.
    fn next(&mut self) -> Option<(oneshot::Sender<Permit>, u64)> {
        let is_besieged = self.idle.is_besieged(Instant::now());
        let waiting = self.accounts.iter().filter_map(|(id, standing)| {
            let mut queue = standing.queue.keys();
            let first = if is_besieged {
                queue.next_back()?
            } else {
                queue.next()?
            };
            Some((standing.held, *first, *id))
        });
        let (held, first, account) = waiting.min()?;
        if !self.may_hold(held) {
            return None;
        }
        let standing = self.standing(account);
        let waiter = standing.queue.remove(&first)?;
        standing.held += 1;
        self.taken += 1;
        self.waiting -= 1;
        Some((waiter, account))
    }

    /// Gives notice to the one whose client has moved least of those who have waited for long, if its place would be that
    /// of the account that asks: it is its own, or of one that holds more. Of several, to the one who has waited longest.
    /// Says whether there was one.
    fn ask_back(&mut self, account: u64) -> bool {
        let now = Instant::now();
        // Each look is at all of them, and many may wait.
        let in_vain = self.idle.in_vain;
        if in_vain.is_some_and(|(of, when)| of == account && now < when + limits::IDLE_PAUSE) {
            return false;
        }
        self.idle.look(now, self.taken);
        let held = |of: u64| {
            let at = self.accounts.binary_search_by_key(&of, |(id, _)| *id);
            at.map_or(0, |at| self.accounts[at].1.held)
        };
        let least = held(account);
        // Who has his share gets in by no one place; by one of his own rather than by one of others, since he has less then.
        let left = self.places.saturating_sub(self.taken);
        if !self.is_fair(least.saturating_sub(1), left + 1) {
            return false;
        }
        let by_others = self.is_fair(least, left + 1);
        let idle = &self.idle;
        let long = idle
            .places
            .iter()
            .filter(|(_, waits)| !waits.is_asked && idle.is_over(now, waits));
        let slowest = long
            .filter(|(_, waits)| {
                waits.account == account || by_others && held(waits.account) > least
            })
            .min_by_key(|(_, waits)| waits.moved)
            .map(|(nth, _)| *nth);
        let is_one = slowest.is_some_and(|nth| self.idle.ask(now, nth));
        if !is_one {
            self.idle.in_vain = Some((account, now));
        }
        is_one
    }
}

/// Whether an account that has so many leaves enough to the others for one more.
pub(crate) fn leaves_some(has: usize, left: usize) -> bool {
    has < left.saturating_mul(limits::FAIR)
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        state.taken -= 1;
        state.standing(self.account).held -= 1;
        state.forget_if_idle(self.account);
        let (is_wanted, is_empty) = (state.waiting > 0, state.is_closed && state.taken == 0);
        drop(state);
        if is_wanted {
            self.gate.let_in();
        }
        if is_empty {
            self.gate.emptied.notify_waiters();
        }
    }
}

/// No place became free in time, or too many wait already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Lets a bounded number pass and a bounded number wait.
#[derive(Debug)]
pub struct Gate {
    inner: Arc<Inner>,
    max_wait: Duration,
}

impl Gate {
    /// `places` may pass at once, `max_waiting` may wait for at most `max_wait`.
    #[must_use]
    pub fn new(places: usize, max_waiting: usize, max_wait: Duration) -> Self {
        let state = State {
            places,
            max_waiting,
            ..State::default()
        };
        let inner = Inner {
            state: Mutex::new(state),
            emptied: Notify::new(),
        };
        Self {
            inner: Arc::new(inner),
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
        let mut state = self.inner.state();
        state.places = places;
        state.max_waiting = max_waiting;
        drop(state);
        self.inner.let_in();
    }

    /// Waits for a place, first come first served except behind a crowd of slow clients. Meanwhile those who hold one and wait for
    /// their clients are asked for theirs.
    ///
    /// # Errors
    /// [`Full`], at once when the queue is full and otherwise after the longest wait, or when a crowd of slow clients comes behind it.
    pub async fn admit(&self) -> Result<Permit, Full> {
        self.enter(UNSHARED, false).await
    }

    /// The same for one of several accounts. Of those who wait, who comes first is whose account holds least. Where the gate
    /// `is_shared` now, no account holds, or has in the queue, more than [`limits::FAIR`] times what is left for the others.
    ///
    /// # Errors
    /// As [`Self::admit`].
    pub async fn admit_among(&self, account: &Account, is_shared: bool) -> Result<Permit, Full> {
        self.enter(account.id(), is_shared).await
    }

    /// A place that is free now.
    ///
    /// # Errors
    /// [`Full`], when there is none.
    pub fn try_admit(&self) -> Result<Permit, Full> {
        self.try_enter(UNSHARED, false)
    }

    /// A place that is free now, and that its account may have, as in [`Self::admit_among`].
    ///
    /// # Errors
    /// [`Full`], when there is none.
    pub fn try_admit_among(&self, account: &Account, is_shared: bool) -> Result<Permit, Full> {
        self.try_enter(account.id(), is_shared)
    }

    fn try_enter(&self, account: u64, is_shared: bool) -> Result<Permit, Full> {
        let mut state = self.inner.state();
        state.is_shared = is_shared;
        let has_taken = state.take(account);
        drop(state);
        // Made without the lock: dropping it takes the lock.
        has_taken.then(|| self.permit(account)).ok_or(Full)
    }

    async fn enter(&self, account: u64, is_shared: bool) -> Result<Permit, Full> {
        if let Ok(permit) = self.try_enter(account, is_shared) {
            return Ok(permit);
        }
        let mut waiting = Waiting::join(&self.inner, account)?;
        let end = Instant::now() + self.max_wait;
        loop {
            let pause = if self.inner.state().ask_back(account) {
                limits::IDLE_LEAVES
            } else {
                limits::IDLE_LOOK
            };
            let rest = end.saturating_duration_since(Instant::now());
            match timeout(rest.min(pause), &mut waiting.called).await {
                Ok(Ok(permit)) => return Ok(permit),
                Ok(Err(_)) => return Err(Full),
                Err(_) if rest <= pause => return Err(Full),
                Err(_) => {}
            }
        }
    }

    /// How many hold a place.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.inner.state().taken
    }

    /// How many wait for one.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.state().waiting
    }

    /// How many places there are.
    #[must_use]
    pub fn places(&self) -> usize {
        self.inner.state().places
    }

    fn permit(&self, account: u64) -> Permit {
        Permit {
            gate: Arc::clone(&self.inner),
            account,
        }
    }

    /// Lets nobody pass any more, and waits until nobody holds a permit.
    pub async fn close_when_empty(&self) {
        let mut emptied = std::pin::pin!(self.inner.emptied.notified());
        // Before the look: who leaves after it is heard.
        emptied.as_mut().enable();
        let is_empty = {
            let mut state = self.inner.state();
            state.is_closed = true;
            state.taken == 0
        };
        if !is_empty {
            emptied.await;
        }
    }
}

/// A place in the queue; leaving it is dropping it.
struct Waiting {
    gate: Arc<Inner>,
    account: u64,
    nth: u64,
    called: oneshot::Receiver<Permit>,
}

impl Waiting {
    fn join(gate: &Arc<Inner>, account: u64) -> Result<Self, Full> {
        let mut state = gate.state();
        let left = state.max_waiting.saturating_sub(state.waiting);
        let queued = state.standing(account).queue.len();
        let mut gives_way = None;
        if !state.is_fair(queued, left) {
            if state.idle.is_besieged(Instant::now()) {
                gives_way = state.standing(account).queue.pop_first();
            }
            if gives_way.is_none() {
                state.forget_if_idle(account);
                return Err(Full);
            }
            state.waiting -= 1;
        }
        state.come += 1;
        state.waiting += 1;
        let nth = state.come;
        let (caller, called) = oneshot::channel();
        state.standing(account).queue.insert(nth, caller);
        drop(state);
        // Not under the lock: it wakes who waits.
        drop(gives_way);
        // What was given back since he looked, and before he was here.
        gate.let_in();
        Ok(Self {
            gate: Arc::clone(gate),
            account,
            nth,
            called,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut state = self.gate.state();
        let left = state.standing(self.account).queue.remove(&self.nth);
        if left.is_some() {
            state.waiting -= 1;
        }
        state.forget_if_idle(self.account);
        drop(state);
        // Dropped without the lock: it may have been called meanwhile, and a permit takes the lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::{Context, Waker};

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
        let second_idle = Idle::with([&held[1]], 9, &Earned::default(), &second);
        let _first = Idle::with([&held[0]], 8, &Earned::default(), &first);

        let next = gate.admit();
        tokio::pin!(next);
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(first.given(&cx).is_none(), "it has only begun to wait");
        tokio::time::advance(limits::IDLE_PLACE).await;
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(first.given(&cx).is_some() && second.given(&cx).is_none());

        tokio::time::advance(limits::IDLE_LOOK).await;
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(
            second.given(&cx).is_none(),
            "the first has a while to leave"
        );
        tokio::time::advance(limits::IDLE_LEAVES).await;
        assert!(futures_util::poll!(&mut next).is_pending());
        assert!(second.given(&cx).is_some(), "the first has not done it");
        // Whose client has moved meanwhile keeps it.
        drop(second_idle);
        assert!(second.given(&cx).is_none());

        let [of_first, _of_second] = held;
        drop(of_first);
        next.await.expect("the place that was given up");
        assert_eq!(gate.inner.state().idle.places.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn where_most_only_wait_for_their_clients_a_crowd_gets_their_places_soon_and_at_once() {
        const HALF: usize = limits::IDLE_MANY;
        let gate = Gate::new(2 * HALF, 3, Duration::from_secs(5));
        let held: [_; 2 * HALF] = std::array::from_fn(|_| gate.try_admit().expect("free"));
        let notices: [_; 2 * HALF] = std::array::from_fn(|_| Notice::default());
        let cx = Context::from_waker(Waker::noop());
        let given = || notices.iter().filter(|it| it.given(&cx).is_some()).count();
        let wait =
            |of: usize, moved| Idle::with([&held[of]], moved, &Earned::default(), &notices[of]);
        let mut come: [_; 3] = std::array::from_fn(|_| Box::pin(gate.admit()));
        for (few, given_then, why) in [
            (HALF, 0, "half of them are further"),
            (HALF + 1, come.len(), "one for each who waits"),
        ] {
            let idle: Vec<_> = (0..2 * HALF)
                .map(|nth| wait(nth, if nth < few { 0 } else { limits::IDLE_FEW_BYTES }))
                .collect();
            tokio::time::advance(limits::IDLE_PLACE_OF_MANY).await;
            for one in &mut come {
                assert!(futures_util::poll!(one).is_pending());
            }
            assert_eq!(given(), given_then, "{why}");
            drop(idle);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_sent_earns_time_and_in_a_besieged_gate_if_it_is_not_slow_or_is_answered() {
        const HELD: usize = limits::IDLE_MANY + 1;
        for (besiegers, is_given) in [(0, false), (HELD, true)] {
            let gate = Gate::new(HELD, 2, Duration::from_secs(9));
            let held: [_; HELD] = std::array::from_fn(|_| gate.try_admit().expect("free"));
            let [slow, fast, talk, others] = std::array::from_fn(|_| Notice::default());
            let earned = |is_answered| Earned {
                time: Duration::from_secs(5),
                sender: Some(Sender {
                    since: Instant::now(),
                    is_answered,
                }),
            };
            let is_answered = Arc::<AtomicBool>::default();
            let wait = |moved, earned, notice| Idle::with([&held[0]], moved, &earned, notice);
            let _crowd: Vec<_> = (0..besiegers)
                .map(|_| wait(3, Earned::default(), &others))
                .collect();
            let _idle = [
                wait(2, earned(Arc::default()), &slow),
                wait(u64::from(limits::IDLE_RATE), earned(Arc::default()), &fast),
                wait(1, earned(Arc::clone(&is_answered)), &talk),
            ];
            is_answered.store(true, Relaxed);
            tokio::time::advance(limits::IDLE_PLACE).await;
            let mut next = [(); 2].map(|()| Box::pin(gate.admit()));
            for next in &mut next {
                assert!(futures_util::poll!(next).is_pending());
            }
            let cx = Context::from_waker(Waker::noop());
            assert_eq!(slow.given(&cx).is_some(), is_given, "{besiegers}");
            assert!(talk.given(&cx).is_none(), "{besiegers}");
            assert!(fast.given(&cx).is_none(), "{besiegers}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn behind_a_crowd_that_only_waits_for_its_clients_who_came_last_is_first() {
        const HELD: usize = limits::IDLE_MANY + 1;
        let gate = Gate::new(HELD, 2, Duration::from_secs(5));
        let mut held: Vec<_> = (0..HELD).map(|_| gate.try_admit().expect("free")).collect();
        let notice = Notice::default();
        let wait = |permit| Idle::with([permit], 0, &Earned::default(), &notice);
        let idle: Vec<_> = held.iter().map(wait).collect();
        tokio::time::advance(limits::IDLE_PLACE_OF_MANY).await;
        let mut come: [_; 3] = std::array::from_fn(|_| Box::pin(gate.admit()));
        for one in &mut come {
            assert!(futures_util::poll!(one).is_pending());
        }
        let [first, second, third] = &mut come;
        assert_eq!(first.await.expect_err("there is room for two"), Full);
        held.pop();
        let _place = third.await.expect("who came last");

        // Who was no part of such a crowd waits in turn, and is not sent away by others.
        drop(idle);
        tokio::time::advance(limits::IDLE_SIEGE).await;
        let mut next = Box::pin(gate.admit());
        assert!(futures_util::poll!(&mut next).is_pending());
        assert_eq!(gate.admit().await.expect_err("the queue is full"), Full);
        held.pop();
        let _place = second.await.expect("who came first of those who wait");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_a_place_that_does_not_let_in_who_asks() {
        let gate = Gate::new(7, 9, Duration::from_secs(5));
        let [larger, smaller, quiet] = std::array::from_fn(|_| Account::new());
        let take = |account: &Account, places: usize| {
            let taken = (0..places).map(|_| gate.try_admit_among(account, false).expect("free"));
            taken.collect::<Vec<_>>()
        };
        let (held, _others) = (take(&larger, 4), take(&smaller, 3));
        let notice = Notice::default();
        let cx = Context::from_waker(Waker::noop());
        let _idle = Idle::with(&held[..1], 0, &Earned::default(), &notice);
        tokio::time::advance(limits::IDLE_PLACE).await;
        for (account, is_given) in [(&smaller, false), (&quiet, true)] {
            tokio::time::advance(limits::IDLE_PAUSE).await;
            let mut next = Box::pin(gate.admit_among(account, true));
            assert!(futures_util::poll!(&mut next).is_pending());
            assert_eq!(notice.given(&cx).is_some(), is_given, "{account:?}");
        }
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
        assert_eq!(gate.waiting(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_much_leaves_some_for_who_comes_next() {
        let gate = Gate::new(100, 40, Duration::from_secs(1));
        let [loud, quiet, other] = std::array::from_fn(|_| Account::new());
        let taken = |account: &Account| {
            std::iter::from_fn(|| gate.try_admit_among(account, true).ok()).collect::<Vec<_>>()
        };
        let held = taken(&loud);
        assert_eq!(held.len(), 75, "three quarters");
        assert_eq!(taken(&other).len(), 19, "three quarters of what is left");
        let _one = gate.admit_among(&quiet, true).await.expect("some are left");

        // The queue is shared by the same rule.
        let mut waiting: Vec<_> = (0..40)
            .map(|_| Box::pin(gate.admit_among(&loud, true)))
            .collect();
        for waiter in &mut waiting {
            let _ = futures_util::poll!(waiter);
        }
        assert_eq!(gate.waiting(), 30);
        drop((held, waiting));
        assert_eq!((gate.taken(), gate.waiting()), (1, 0));
        assert_eq!(
            gate.inner.state().accounts.len(),
            1,
            "who is gone is forgotten"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_wait_whose_account_holds_least_is_first() {
        let gate = Gate::new(2, 9, Duration::from_secs(1));
        let [loud, quiet] = std::array::from_fn(|_| Account::new());
        let first = gate.admit_among(&loud, true).await.expect("free");
        let second = gate.admit_among(&loud, true).await.expect("free");
        let mut of_loud = Box::pin(gate.admit_among(&loud, true));
        let mut of_quiet = Box::pin(gate.admit_among(&quiet, true));
        assert!(futures_util::poll!(&mut of_loud).is_pending());
        assert!(futures_util::poll!(&mut of_quiet).is_pending());
        drop(first);
        let _quiet = of_quiet.await.expect("it holds nothing");
        assert!(futures_util::poll!(&mut of_loud).is_pending());
        drop(second);
        of_loud.await.expect("its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waiting_loses_nobody_a_place() {
        let gate = Gate::new(1, 3, Duration::from_secs(1));
        let permit = gate.admit().await.expect("free");
        let (mut gone, mut next) = (Box::pin(gate.admit()), Box::pin(gate.admit()));
        assert!(futures_util::poll!(&mut gone).is_pending());
        assert!(futures_util::poll!(&mut next).is_pending());
        // It is called, and gone before it hears it.
        drop(permit);
        drop(gone);
        next.await.expect("the place came back");
        assert_eq!((gate.taken(), gate.waiting()), (0, 0));
        gate.close_when_empty().await;
        assert_eq!(gate.try_admit().expect_err("closed"), Full);
    }
}
