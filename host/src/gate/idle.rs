//! Who holds a place and only waits for its client, and how it hears that another wants the place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
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
    /// When notice was last given.
    pub(super) asked: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Waits {
    pub(super) account: u64,
    /// When that is long.
    pub(super) until: Instant,
    /// Bytes that its client has sent or taken before.
    pub(super) moved: u64,
    pub(super) notice: Notice,
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

    pub(super) fn give(&self) {
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
    at: Vec<(Arc<Inner>, u64)>,
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
            let idle = &mut permit.gate.state().idle;
            idle.begun += 1;
            let begun = idle.begun;
            let waits = Waits {
                account: permit.account,
                until,
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
