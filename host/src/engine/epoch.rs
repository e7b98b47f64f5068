//! The epoch: a thread that makes every running guest stop and be looked at, each tick. It rests while none runs.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use anyhow::Context as _;

use crate::{limits, meter};

/// Ticks until dropped.
pub(super) struct Ticker(Arc<Clock>);

#[derive(Default)]
struct Clock {
    /// Guests that run, or wait to go on
    running: AtomicUsize,
    is_stopped: AtomicBool,
    /// Changed under the lock only, and read without it by whoever starts a guest
    is_resting: AtomicBool,
    lock: Mutex<()>,
    roused: Condvar,
}

/// The epoch ticks as long as this lives.
pub(super) struct Ticking<'a>(&'a Clock);

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> anyhow::Result<Self> {
        let clock = Arc::<Clock>::default();
        let (engine, of_thread) = (engine.weak(), Arc::clone(&clock));
        // A thread of its own: a timer of the runtime waits behind a guest that spins.
        std::thread::Builder::new()
            .name("epoch".into())
            .spawn(move || {
                let mut idle = 0;
                while !of_thread.is_stopped.load(Ordering::Relaxed) {
                    std::thread::sleep(limits::TICK);
                    let Some(engine) = engine.upgrade() else {
                        return;
                    };
                    engine.increment_epoch();
                    meter::tick();
                    drop(engine);
                    let is_idle = of_thread.running.load(Ordering::Relaxed) == 0;
                    idle = if is_idle { idle + 1 } else { 0 };
                    if idle >= PATIENCE {
                        of_thread.rest();
                    }
                }
            })
            .context("starting the epoch thread")?;
        Ok(Self(clock))
    }

    /// To be held while a guest runs.
    pub(super) fn ticking(&self) -> Ticking<'_> {
        // In this order, and the clock in the opposite one: at least one of the two sees what the other did.
        self.0.running.fetch_add(1, Ordering::SeqCst);
        if self.0.is_resting.load(Ordering::SeqCst) {
            self.0.rouse();
        }
        Ticking(&self.0)
    }
}

impl Clock {
    fn rest(&self) {
        let guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_resting.store(true, Ordering::SeqCst);
        // A guest that came and has ended already has roused us too: `running` alone does not tell.
        let rested = self.roused.wait_while(guard, |()| {
            self.is_resting.load(Ordering::SeqCst)
                && self.running.load(Ordering::SeqCst) == 0
                && !self.is_stopped.load(Ordering::SeqCst)
        });
        self.is_resting.store(false, Ordering::SeqCst);
        drop(rested);
    }

    fn rouse(&self) {
        let _guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_resting.store(false, Ordering::SeqCst);
        self.roused.notify_all();
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.0.is_stopped.store(true, Ordering::SeqCst);
        self.0.rouse();
    }
}

/// Ticks without a guest before the clock rests. Falling asleep between two requests would cost each of them a wake-up.
const PATIENCE: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_rests_while_no_guest_runs_and_ticks_when_one_does() {
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true);
        let engine = wasmtime::Engine::new(&config).expect("an engine");
        let ticker = Ticker::start(&engine).expect("a thread");
        let rests = || {
            let start = std::time::Instant::now();
            while !ticker.0.is_resting.load(Ordering::SeqCst) {
                assert!(start.elapsed().as_secs() < 20, "it does not rest");
                std::thread::yield_now();
            }
        };
        rests();
        let running = ticker.ticking();
        assert!(!ticker.0.is_resting.load(Ordering::SeqCst));

        // A loop in a guest ends, which it does only if the clock ticks.
        let wasm = wat::parse_str("(module (func (export \"f\") (loop (br 0))))").expect("wat");
        let module = wasmtime::Module::new(&engine, wasm);
        let mut store = wasmtime::Store::new(&engine, ());
        store.set_epoch_deadline(2);
        let instance = wasmtime::Instance::new(&mut store, &module.expect("a module"), &[]);
        let spin = instance
            .expect("an instance")
            .get_typed_func::<(), ()>(&mut store, "f");
        assert!(spin.expect("a function").call(&mut store, ()).is_err());

        drop(running);
        rests();
    }
}
