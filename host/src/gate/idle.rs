//! Who holds a place and only waits for its client, and how it hears that another wants the place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::{Inner, Permit};

/// Places whose holders wait for their clients, in the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct IdlePlaces {
    begun: u64,
    pub(super) places: BTreeMap<u64, Waits>,
    /// When somebody last looked, and nobody had waited for long.
    pub(super) in_vain: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Waits {
    pub(super) account: u64,
    pub(super) since: Instant,
    /// How much longer than others it may.
    pub(super) earned: Duration,
    /// Bytes that its client has sent or taken before.
    pub(super) moved: u64,
    pub(super) notice: Notice,
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

    /// If it was given and not taken back: how long a client lets others wait who is to lose his place. The task is woken when
    /// it is given.
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
    /// From now on; its client has moved so many bytes before, which have `earned` it more time than others have.
    #[must_use]
    pub fn with<'a>(
        permits: impl IntoIterator<Item = &'a Permit>,
        moved: u64,
        earned: Duration,
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
                earned,
                moved,
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
