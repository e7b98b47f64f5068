//! Instances that are over. Clearing a large one away takes milliseconds, in which the kernel lets no other instance have
//! memory. On a thread of low priority it may have to wait in the middle of that, and everybody with it. So one thread of
//! normal priority does it, one instance after the other.

use std::sync::mpsc::{Sender, channel};

use anyhow::Context as _;
use tokio::runtime::Handle;
use wasmtime::Store;

use super::guest::Instance;
use super::state::State;
use crate::limits;

/// The thread. What waits for it has its places in the pools still, and the permits of those who used it.
pub(super) struct Clearing(Sender<Box<dyn Send>>);

impl Clearing {
    pub(super) fn start() -> anyhow::Result<Self> {
        let (sender, receiver) = channel::<Box<dyn Send>>();
        // What an instance holds may have to be told in a task that it is over.
        let runtime = Handle::try_current().ok();
        std::thread::Builder::new()
            .name("clearing".into())
            .spawn(move || {
                let _entered = runtime.as_ref().map(Handle::enter);
                receiver.into_iter().for_each(drop);
            })
            .context("starting the thread that clears instances away")?;
        Ok(Self(sender))
    }

    /// Drops an instance, and then what is held for it.
    pub(super) fn clear(&self, instance: Instance, held: impl Send + 'static) {
        let bytes = instance.store.data().memory.used();
        self.drop_large(bytes, (instance, held));
    }

    /// Drops a store that became no instance.
    pub(super) fn clear_store(&self, store: Store<State>) {
        self.drop_large(store.data().memory.used(), store);
    }

    fn drop_large(&self, bytes: usize, what: impl Send + 'static) {
        if bytes > limits::CLEARED_AT_ONCE {
            // It is dropped here if there is no thread any more.
            drop(self.0.send(Box::new(what)));
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
