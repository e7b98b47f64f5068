//! Instances that are over. Clearing a large one away takes milliseconds, in which the kernel lets no other instance have
//! memory. On a thread of low priority it may have to wait in the middle of that, and everybody with it. So one thread of
//! normal priority does it, one instance after the other, and accounts take turns: whoever leaves many keeps nobody else's
//! place taken.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use tokio::runtime::Handle;
use wasmtime::Store;

use super::guest::Instance;
use super::state::State;
use crate::limits;

/// The thread. What waits for it has its places in the pools still, and the permits of those who used it.
pub(super) struct Clearing(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

/// What is to be dropped, in a line for each account.
#[derive(Default)]
struct Waiting {
    lines: BTreeMap<u64, VecDeque<Box<dyn Send>>>,
    /// The account whose turn it was.
    last: u64,
    /// Nothing comes any more.
    is_over: bool,
}

impl Queue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next. None: there is none, and none comes.
    fn next(&self) -> Option<Box<dyn Send>> {
        let is_idle = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.is_over;
        let waiting = self.changed.wait_while(self.waiting(), is_idle);
        waiting.unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl Waiting {
    fn push(&mut self, account: u64, what: Box<dyn Send>) {
        self.lines.entry(account).or_default().push_back(what);
    }

    fn next(&mut self) -> Option<Box<dyn Send>> {
        let mut after = self.lines.range(self.last.saturating_add(1)..);
        let (account, _) = after.next().or_else(|| self.lines.first_key_value())?;
        self.last = *account;
        let line = self.lines.get_mut(&self.last)?;
        let next = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&self.last);
        }
        next
    }
}

impl Clearing {
    pub(super) fn start() -> anyhow::Result<Self> {
        let queue = Arc::<Queue>::default();
        let of_thread = Arc::clone(&queue);
        // What an instance holds may have to be told in a task that it is over.
        let runtime = Handle::try_current().ok();
        std::thread::Builder::new()
            .name("clearing".into())
            .spawn(move || {
                let _entered = runtime.as_ref().map(Handle::enter);
                while let Some(what) = of_thread.next() {
                    // There is no other thread that would clear away the rest.
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(what)));
                }
            })
            .context("starting the thread that clears instances away")?;
        Ok(Self(queue))
    }

    /// Drops an instance, and then what is held for it.
    pub(super) fn clear(&self, instance: Instance, held: impl Send + 'static) {
        let (account, bytes) = account_and_bytes(&instance.store);
        self.drop_large(account, bytes, (instance, held));
    }

    /// Drops a store that became no instance.
    fn clear_store(&self, store: Store<State>) {
        let (account, bytes) = account_and_bytes(&store);
        self.drop_large(account, bytes, store);
    }

    fn drop_large(&self, account: u64, bytes: usize, what: impl Send + 'static) {
        if bytes > limits::CLEARED_AT_ONCE {
            self.0.waiting().push(account, Box::new(what));
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Clearing {
    fn drop(&mut self) {
        self.0.waiting().is_over = true;
        self.0.changed.notify_one();
    }
}

/// Who used it last, and how many bytes it has.
fn account_and_bytes(store: &Store<State>) -> (u64, usize) {
    let memory = &store.data().memory;
    (memory.meter().account().id(), memory.used())
}

/// A store that is about to be an instance. Unless it is taken, since it cannot be one or nobody waits for it any more, it is
/// cleared away.
pub(super) struct Starting<'a> {
    pub(super) store: Option<Store<State>>,
    clearing: &'a Clearing,
}

impl<'a> Starting<'a> {
    pub(super) fn new(clearing: &'a Clearing) -> Self {
        Self {
            store: None,
            clearing,
        }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        if let Some(store) = self.store.take() {
            self.clearing.clear_store(store);
        }
    }
}

/// An instance in use, and what is held until it is cleared away.
pub(super) struct InUse<'a, H: Send + 'static> {
    /// None when it is kept.
    pub(super) instance: Option<Instance>,
    pub(super) held: Option<H>,
    clearing: &'a Clearing,
}

impl<'a, H: Send + 'static> InUse<'a, H> {
    pub(super) fn new(instance: Instance, held: H, clearing: &'a Clearing) -> Self {
        Self {
            instance: Some(instance),
            held: Some(held),
            clearing,
        }
    }
}

impl<H: Send + 'static> Drop for InUse<'_, H> {
    fn drop(&mut self) {
        if let Some(instance) = self.instance.take() {
            self.clearing.clear(instance, self.held.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    struct Large(&'static str, Sender<&'static str>);

    impl Drop for Large {
        fn drop(&mut self) {
            self.1.send(self.0).expect("somebody listens");
        }
    }

    #[test]
    fn accounts_take_turns_whoever_has_left_more() {
        let (sender, cleared) = channel();
        let mut waiting = Waiting::default();
        let mut leave = |account, name| {
            waiting.push(account, Box::new(Large(name, sender.clone())));
        };
        for name in ["a1", "a2", "a3", "a4"] {
            leave(7, name);
        }
        leave(3, "b1");
        leave(9, "c1");
        leave(3, "b2");
        while let Some(next) = waiting.next() {
            drop(next);
        }
        let cleared: Vec<_> = cleared.try_iter().collect();
        assert_eq!(cleared, ["b1", "a1", "c1", "b2", "a2", "a3", "a4"]);
        assert!(waiting.lines.is_empty(), "who has nothing is forgotten");
    }

    #[test]
    fn what_waits_at_the_end_is_cleared_away() {
        let (sender, cleared) = channel();
        let clearing = Clearing::start().expect("a thread");
        let large = Large("last", sender);
        clearing.drop_large(1, limits::CLEARED_AT_ONCE + 1, large);
        drop(clearing);
        assert_eq!(cleared.recv(), Ok("last"));
    }
}
