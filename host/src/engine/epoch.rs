//! The epoch: a thread that makes every running guest stop and be looked at, each tick.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;

use crate::limits;

/// Ticks until dropped.
pub(super) struct Ticker {
    stopped: Arc<AtomicBool>,
}

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        let stopped = Arc::new(AtomicBool::new(false));
        let (engine, until) = (engine.weak(), Arc::clone(&stopped));
        // A thread of its own: a timer of the runtime waits behind a guest that spins.
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || {
                while !until.load(Ordering::Relaxed) {
                    std::thread::sleep(limits::TICK);
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                }
            })
            .context("starting the epoch thread")?;
        Ok(Self { stopped })
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}
