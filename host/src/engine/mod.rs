//! Wasmtime, kept in one place: how it is set up, what is linked, how an instance is made, polled,
//! limited and thrown away, and what is said of it when it fails.
//!
//! A guest is a future. It is polled in the task that asked, dropping it cancels it, and nothing
//! above this room sees a wasmtime type.

mod again;
mod answers;
mod background;
mod body;
mod budget;
mod call;
mod caution;
mod clearing;
mod config;
mod epoch;
mod fault;
mod guest;
mod holdings;
mod linker;
mod nudge;
mod output;
mod p2;
mod p3;
mod running;
mod shared;
mod state;
mod usage;

use std::fs::File;
use std::hash::{Hash as _, Hasher};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use wasmtime::component::{Component, Linker};

pub(crate) use background::{Background, prepare_first};
pub use body::{BodyError, GuestBody};
pub use budget::Budget;
pub use call::Call;
pub use caution::Uses;
pub use config::{Generation, Guests, Room, Target};
pub use fault::{Fault, FaultKind};
pub(crate) use guest::Common;
pub use guest::{Directory, Guest, GuestSettings};
pub use running::Running;
pub use usage::Instances;
pub use wasmtime_wasi_http::Error as HttpError;

use crate::capabilities::share::Shared;
use crate::limits;
use state::State;

/// A wasmtime engine with everything linked, for what was compiled for its target.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    linker: Linker<State>,
    target: Target,
    background: Arc<Background>,
    epoch: epoch::Ticker,
    /// Instances of all guests that wait for their next request.
    idle: AtomicUsize,
    /// How many there may be: [`limits::IDLE_INSTANCES`], or as many as there is room for.
    idle_most: usize,
    usage: Arc<usage::Usage>,
    /// What its instances have together, if they are made on demand.
    on_demand: Option<OnDemand>,
    /// Components that one of its guests may be composed of.
    parts: u64,
}

/// For guests that do not fit into a place of the pool.
struct OnDemand {
    /// Runs nothing: it maps what is within the ceilings of a component, and nothing else.
    ceilings: wasmtime::Engine,
    /// Memories and stacks.
    regions: Arc<Shared>,
}

impl Engine {
    /// An engine with room for `room.instances` instances, from a pool where the machine allows.
    ///
    /// # Errors
    /// When wasmtime cannot be set up at all, or no thread can be started.
    pub(crate) fn new(
        target: Target,
        room: Room,
        background: Arc<Background>,
    ) -> anyhow::Result<Arc<Self>> {
        let wasmtime = wasmtime::Engine::new(&config::pooled(target, room, true))
            .or_else(|_| wasmtime::Engine::new(&config::pooled(target, room, false)))
            .or_else(|error| {
                tracing::warn!(
                    "no pool for {} instances of {} ({error:#}): their requests will cost more; lower \
                     `--max-concurrent-requests` or raise the limit of address space (`ulimit -v`)",
                    room.instances,
                    target.as_str(),
                );
                wasmtime::Engine::new(&config::on_demand(target))
            });
        let (idle, parts) = (room.idle, room.parts.into());
        Self::with(wasmtime, target, background, None, idle, parts)
    }

    /// An engine for guests that do not fit into a place of the other's pool: more memories, more tables. Their instances are made
    /// on demand, of these `regions`, see [`limits::LARGE_REGIONS`].
    ///
    /// # Errors
    /// As [`Self::new`].
    pub(crate) fn on_demand(
        target: Target,
        regions: Arc<Shared>,
        background: Arc<Background>,
    ) -> anyhow::Result<Arc<Self>> {
        let wasmtime = wasmtime::Engine::new(&config::on_demand(target));
        let ceilings = wasmtime::Engine::new(&config::ceilings(target));
        let on_demand = OnDemand {
            ceilings: ceilings.map_err(anyhow::Error::from)?,
            regions,
        };
        let (on_demand, idle) = (Some(on_demand), limits::IDLE_INSTANCES);
        Self::with(wasmtime, target, background, on_demand, idle, u64::MAX)
    }

    fn with(
        wasmtime: wasmtime::Result<wasmtime::Engine>,
        target: Target,
        background: Arc<Background>,
        on_demand: Option<OnDemand>,
        idle_most: usize,
        parts: u64,
    ) -> anyhow::Result<Arc<Self>> {
        let wasmtime = wasmtime
            .map_err(anyhow::Error::from)
            .context("setting up wasmtime")?;
        Ok(Arc::new(Self {
            linker: linker::link(&wasmtime, target.generation()).map_err(anyhow::Error::from)?,
            epoch: epoch::Ticker::start(&wasmtime)?,
            background,
            wasmtime,
            target,
            idle: AtomicUsize::new(0),
            idle_most,
            usage: Arc::default(),
            on_demand,
            parts,
        }))
    }

    /// The generation of the guests that this engine runs.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.target.generation()
    }

    /// Whether it runs nothing now, and its pool may hold more than [`limits::LEFTOVERS`] of what did: up to [`limits::KEPT_MEMORY`] of
    /// each memory, and all of a stack that a guest's calls may take. Wasmtime forgets what that was when a module goes, and leaves it
    /// there. One that was made without a pool, for want of room, may be made with one the next time.
    pub(crate) fn may_be_given_up(&self) -> bool {
        let Some(pool) = self.wasmtime.pooling_allocator_metrics() else {
            return self.instances().all == 0;
        };
        let memories = pool.unused_warm_memories() as usize * limits::KEPT_MEMORY;
        let stacks = pool.unused_warm_stacks() as usize * limits::WASM_STACK;
        let left = memories + pool.unused_table_bytes_resident() + stacks;
        pool.component_instances() == 0 && pool.stacks() == 0 && left > limits::LEFTOVERS
    }

    /// Whether it has a stack for each part of such a component, see [`crate::limits::PARTS`].
    pub(crate) fn has_stacks_for(&self, parts: u64) -> bool {
        self.generation() == Generation::P2 || parts <= self.parts
    }

    /// The instances of all its guests.
    #[must_use]
    pub fn instances(&self) -> Instances {
        self.usage.with_idle(self.idle.load(Ordering::Relaxed))
    }

    /// Maps a compiled component.
    ///
    /// `artifact` must be what [`compile`] gave, unchanged since: it is executed.
    ///
    /// # Errors
    /// When it was made by another version of wasmtime or for another machine, or needs more than an instance may have.
    #[allow(unsafe_code)]
    pub(crate) fn map(&self, artifact: &File) -> anyhow::Result<Component> {
        // By way of the descriptor, so that what is mapped is the very file that was verified.
        let path = format!("/dev/fd/{}", artifact.as_raw_fd());
        // SAFETY: `components` hands out only files that this program's own compiler wrote, from a
        // directory that nobody else can write to, after comparing their digest through this very
        // descriptor; or a file that the operator vouched for with `--allow-precompiled`.
        let map = |engine: &wasmtime::Engine| unsafe { Component::deserialize_file(engine, &path) };
        if let Some(on_demand) = &self.on_demand {
            map(&on_demand.ceilings).map_err(anyhow::Error::from)?;
        }
        map(&self.wasmtime).map_err(Into::into)
    }
}

/// Compiles a component to what [`Engine`] maps. Takes seconds and gigabytes for a hostile one:
/// call it in a process that can be killed.
///
/// # Errors
/// What the compiler says of an invalid component.
pub fn compile(target: Target, wasm: &[u8]) -> anyhow::Result<Vec<u8>> {
    let engine = wasmtime::Engine::new(&config::compiler(target)).map_err(anyhow::Error::from)?;
    engine.precompile_component(wasm).map_err(Into::into)
}

/// Names everything that a compiled component depends on besides its source: the version of
/// wasmtime, its settings, the machine. In hexadecimal digits.
#[must_use]
pub fn fingerprint(target: Target) -> String {
    struct Sha(Sha256);
    impl Hasher for Sha {
        fn finish(&self) -> u64 {
            0
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    static KNOWN: [OnceLock<String>; Target::ALL.len()] =
        [const { OnceLock::new() }; Target::ALL.len()];
    let name = || {
        let mut sha = Sha(Sha256::new());
        // Without an engine nothing can be mapped either, and that is reported.
        if let Ok(engine) = wasmtime::Engine::new(&config::compiler(target)) {
            engine.precompile_compatibility_hash().hash(&mut sha);
        }
        format!("{:x}", sha.0.finalize())
    };
    KNOWN[target as usize].get_or_init(name).clone()
}
