//! How wasmtime is set up: one engine for each [`Target`].

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{self, KIB};

/// The generation of wasi:http that a component exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// `wasi:http/incoming-handler@0.2.x`.
    P2,
    /// `wasi:http/handler@0.3.x`.
    P3,
}

impl Generation {
    /// The version as people write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P2 => "0.2",
            Self::P3 => "0.3",
        }
    }
}

/// What a component is compiled for, and the only kind of engine that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// wasi:http 0.2 with little data, see [`limits::COPIED_DATA`], which is copied into the memories of each instance. Any place in a
    /// pool is then as good as any other, so they are as few as were ever in use at once, and stay in the processor's cache.
    SmallP2,
    /// wasi:http 0.2 with more. Pages of the artifact are mapped, where wasmtime can, and copied when they are written to. A place in a
    /// pool is then worth more to the guest that had it last: another one pays for a mapping, and for each page that it touches.
    LargeP2,
    /// wasi:http 0.3. Data is mapped too: instances are used again, and a pool has so many stacks that another one would take most of
    /// the mappings that Linux gives a process.
    P3,
}

impl Target {
    /// Each that there is.
    pub const ALL: [Self; 3] = [Self::SmallP2, Self::LargeP2, Self::P3];

    /// Of a component with so many bytes of data.
    #[must_use]
    pub fn of(generation: Generation, data: u64) -> Self {
        match generation {
            Generation::P2 if data <= limits::COPIED_DATA => Self::SmallP2,
            Generation::P2 => Self::LargeP2,
            Generation::P3 => Self::P3,
        }
    }

    /// The wasi:http of its handler.
    #[must_use]
    pub fn generation(self) -> Generation {
        match self {
            Self::SmallP2 | Self::LargeP2 => Generation::P2,
            Self::P3 => Generation::P3,
        }
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SmallP2 => "0.2-small",
            Self::LargeP2 => "0.2-large",
            Self::P3 => "0.3",
        }
    }
}

/// How much room the pool of instances has.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Instances that may live at once, idle ones included.
    pub instances: usize,
    /// How many of them may be idle at most.
    pub idle: usize,
    /// Who shares it.
    pub guests: Guests,
    /// Components that one of 0.3 may be composed of, see [`limits::PARTS`].
    pub parts: u32,
}

/// How many guests share a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guests {
    /// One, whose places are all alike.
    One,
    /// Any number, so a place is worth keeping for the guest that had it last.
    Many,
}

/// What compiling depends on. The same for the process that compiles and the one that serves.
pub(super) fn compiler(target: Target) -> Config {
    let generation = target.generation();
    let mut config = Config::new();
    // A loop anywhere in a guest must be stoppable.
    config.epoch_interruption(true);
    // A fifth of the cost of a fresh 0.2 instance, which cannot use it.
    config.concurrency_support(generation == Generation::P3);
    config.wasm_component_model_async(generation == Generation::P3);
    // Names of functions, but no DWARF: a fault is described, not debugged.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    // The system's unwinder would be told of each guest that is loaded, one after the other. Wasmtime goes by frame pointers.
    config.native_unwind_info(false);
    config.memory_init_cow(target != Target::SmallP2);
    config.max_wasm_stack(limits::WASM_STACK);
    config
}

/// Everything that the process which serves needs, instances from a pool.
pub(super) fn pooled(target: Target, room: Room, scan_pages: bool) -> Config {
    let instances = instances(room);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_gc_heaps(instances)
        .max_component_instance_size(limits::INSTANCE_BYTES)
        .max_core_instance_size(limits::INSTANCE_BYTES)
        .total_memories(instances.saturating_mul(limits::MEMORIES))
        .total_tables(instances.saturating_mul(limits::TABLES))
        .total_stacks(stacks(target.generation(), instances, room.parts))
        // Only counted, so every component may have as many as one may.
        .total_core_instances(instances.saturating_mul(limits::CORE_INSTANCES))
        // No more address space than a smaller one: code is compiled for all that 32 bits can name. Who has less is told so by
        // its store.
        .max_memory_size(limits::LARGE_MEMORY)
        .table_elements(limits::TABLE_ELEMENTS)
        .max_tables_per_module(limits::TABLES)
        .max_tables_per_component(limits::TABLES)
        .max_memories_per_module(limits::MEMORIES)
        .max_memories_per_component(limits::MEMORIES)
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .linear_memory_keep_resident(limits::KEPT_MEMORY)
        .table_keep_resident(64 * KIB)
        // Memory goes back where its instance ends. In a batch it would do so where the next one ends, which may be a small
        // one of somebody else, on a thread that serves: a gigabyte takes a tenth of a second. Small ones have none to give.
        .decommit_batch_size(1)
        .pagemap_scan(if scan_pages {
            Enabled::Yes
        } else {
            Enabled::No
        });
    match (target, room.guests) {
        (Target::SmallP2, _) => pool.max_unused_warm_slots(0),
        (_, Guests::Many) => pool.max_unused_warm_slots(warm_places()),
        (_, Guests::One) => &mut pool,
    };
    let mut config = compiler(target);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// What a component may have that does not fit into [`pooled`]. A pool counts that when it maps one; in this one is room for no
/// instance.
pub(super) fn ceilings(target: Target) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_memories(0)
        .total_tables(limits::MODULE_TABLES)
        .total_stacks(0)
        .total_gc_heaps(0)
        .max_component_instance_size(limits::INSTANCE_BYTES)
        .max_core_instance_size(limits::INSTANCE_BYTES)
        .max_memory_size(limits::LARGE_MEMORY)
        .table_elements(limits::LARGE_TABLE_ELEMENTS)
        .max_tables_per_module(limits::MODULE_TABLES)
        .max_tables_per_component(limits::LARGE_TABLES)
        .max_memories_per_module(limits::LARGE_MEMORIES)
        .max_memories_per_component(limits::LARGE_MEMORIES)
        .max_core_instances_per_component(limits::LARGE_CORE_INSTANCES);
    let mut config = compiler(target);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

fn instances(room: Room) -> u32 {
    u32::try_from(room.instances).unwrap_or(u32::MAX).max(1)
}

fn warm_places() -> u32 {
    let system = rustix::system::sysinfo();
    let memory = system.totalram.saturating_mul(u64::from(system.mem_unit));
    let places = memory / limits::WARM_SHARE / limits::KEPT_MEMORY as u64;
    let threads = std::thread::available_parallelism().map_or(1, |it| it.get() as u64);
    // The pool has no more parts.
    let most = u64::from(limits::WARM_PLACES) * threads.min(16);
    u32::try_from(places.min(most)).unwrap_or(u32::MAX)
}

/// Every part of a 0.3 component can have a task that waits in a synchronous frame and holds a stack, but no more: a part
/// is not entered while it has one. One is for what goes on meanwhile, and one is kept for the next call.
fn stacks(generation: Generation, instances: u32, parts: u32) -> u32 {
    let one_call = instances.saturating_mul(2);
    match generation {
        Generation::P2 => one_call,
        Generation::P3 => instances
            .saturating_mul(parts.saturating_add(2))
            .min(limits::STACKS)
            .max(one_call),
    }
}

/// Instances as they come: of components that do not fit into a pool, and on machines without the address space for one.
pub(super) fn on_demand(target: Target) -> Config {
    let mut config = compiler(target);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}
