//! Who holds a place and only waits for its client, and how it hears that another wants the place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{Inner, Permit};
use crate::limits;

/// Places whose holders wait for their clients, in the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct IdlePlaces {
    begun: u64,
    pub(super) places: BTreeMap<u64, Waits>,
    /// Who last looked, and when, and nobody had waited for long.
    pub(super) in_vain: Option<(u64, Instant)>,
    /// Until when it is taken to be besieged: when somebody last looked, most of those who hold places had only waited for clients that
    /// had moved next to nothing. Who waits for a place may well be another of their kind.
    besieged_until: Option<Instant>,
}

impl IdlePlaces {
    /// Of so many who hold places.
    pub(super) fn look(&mut self, now: Instant, taken: usize) {
        let idle = self.places.values().filter(|waits| {
            waits.moved < limits::IDLE_FEW_BYTES && waits.since + limits::IDLE_PLACE_OF_MANY <= now
        });
        if idle.count() > limits::IDLE_MANY.max(taken / 2) {
            self.besieged_until = Some(now + limits::IDLE_SIEGE);
        }
    }

    pub(super) fn is_besieged(&self, now: Instant) -> bool {
        self.besieged_until.is_some_and(|until| now < until)
    }

    /// Whether he may be one of those who besiege it. Who talks is not taken for one.
    fn is_besieger(&self, now: Instant, waits: &Waits) -> bool {
        self.is_besieged(now) && waits.moved < limits::IDLE_FEW_BYTES && !waits.talks()
    }

    /// How long he may wait who has earned nothing.
    fn patience(&self, now: Instant, waits: &Waits) -> Duration {
        if self.is_besieger(now, waits) {
            limits::IDLE_PLACE_OF_MANY
        } else {
            limits::IDLE_PLACE
        }
    }

    /// Whether he has waited for as long as he may.
    pub(super) fn is_over(&self, now: Instant, waits: &Waits) -> bool {
        let earned = if self.is_besieger(now, waits) && waits.is_slow(now) {
            Duration::ZERO
        } else {
            waits.earned.time
        };
        waits.since + self.patience(now, waits) + earned <= now
    }

    /// Gives notice, if he is there.
    pub(super) fn ask(&mut self, now: Instant, nth: u64) -> bool {
        let patience = self.places.get(&nth).map(|waits| self.patience(now, waits));
        let asked = self.places.get_mut(&nth).zip(patience);
        let is_there = asked.is_some();
        if let Some((waits, patience)) = asked {
            waits.is_asked = true;
            waits.notice.give(patience);
        }
        is_there
    }
}

#[derive(Debug)]
pub(super) struct Waits {
    pub(super) account: u64,
    pub(super) since: Instant,
    pub(super) earned: Earned,
    /// Bytes that its client has sent or taken before.
    pub(super) moved: u64,
    /// Notice was given.
    pub(super) is_asked: bool,
    pub(super) notice: Notice,
}

impl Waits {
    /// Whether the answer has begun to a request whose body still comes.
    fn talks(&self) -> bool {
        let sender = self.earned.sender.as_ref();
        sender.is_some_and(|sender| sender.is_answered.load(Relaxed))
    }

    /// Whether a request's body comes more slowly than it has to in a besieged gate.
    fn is_slow(&self, now: Instant) -> bool {
        self.earned.sender.as_ref().is_some_and(|sender| {
            let age = now.saturating_duration_since(sender.since);
            (self.moved as f64) < age.as_secs_f64() * f64::from(limits::IDLE_RATE)
        })
    }
}

/// How much longer than others somebody may wait for a client that has moved something before. The default is no longer.
#[derive(Debug, Clone, Default)]
pub struct Earned {
    /// So much longer.
    pub time: Duration,
    /// If it has sent something: in a besieged gate that must have come at [`limits::IDLE_RATE`].
    pub sender: Option<Sender>,
}

/// A client that sends a request's body.
#[derive(Debug, Clone)]
pub struct Sender {
    /// Since when it could.
    pub since: Instant,
    /// Whether the answer has begun. From then on the two talk, and it may send as slowly as it likes.
    pub is_answered: Arc<AtomicBool>,
}

/// Whether the place of an exchange is wanted by another. Clones are the same notice.
#[derive(Debug, Clone, Default)]
pub struct Notice(Arc<Mutex<Given>>);

#[derive(Debug, Default)]
struct Given {
    after: Option<Duration>,
    waker: Option<Waker>,
}

impl Notice {
    fn state(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To whom has waited for so long.
    pub(super) fn give(&self, after: Duration) {
        let waker = {
            let mut state = self.state();
            state.after = Some(after);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// If it was given and not taken back: the place is wanted of a client that has moved nothing for so long. The task is woken
    /// when it is given.
    pub fn given(&self, cx: &Context<'_>) -> Option<Duration> {
        let mut state = self.state();
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        state.after
    }

    /// Forgets it: there was a reason to wait.
    pub fn ignore(&self) {
        self.state().after = None;
    }
}

/// A holder of places who waits for its client, until it is dropped. One notice is enough for all of them.
#[derive(Debug)]
pub struct Idle {
    at: Vec<(Arc<Inner>, u64)>,
    notice: Notice,
}

impl Idle {
    /// From now on; its client has moved so many bytes before.
    #[must_use]
    pub fn with<'a>(
        permits: impl IntoIterator<Item = &'a Permit>,
        moved: u64,
        earned: &Earned,
        notice: &Notice,
    ) -> Self {
        let since = Instant::now();
        let begin = |permit: &'a Permit| {
            let idle = &mut permit.gate.state().idle;
            idle.begun += 1;
            let begun = idle.begun;
            let waits = Waits {
                account: permit.account,
                since,
                earned: earned.clone(),
                moved,
                is_asked: false,
                notice: notice.clone(),
            };
            idle.places.insert(begun, waits);
            (Arc::clone(&permit.gate), begun)
        };
        Self {
            at: permits.into_iter().map(begin).collect(),
            notice: notice.clone(),
        }
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        for (gate, begun) in &self.at {
            gate.state().idle.places.remove(begun);
        }
        // Nobody can give it any more. One that came too late is for nothing.
        self.notice.ignore();
    }
}
