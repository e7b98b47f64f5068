//! How wasmtime is set up: one engine for each generation of wasi:http.

use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{self, KIB, MIB};

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

/// How much room the pool of instances has.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Instances that may live at once, idle ones included.
    pub instances: usize,
    /// Bytes that one linear memory may grow to.
    pub memory: usize,
}

/// What compiling depends on. The same for the process that compiles and the one that serves.
pub(super) fn compiler(generation: Generation) -> Config {
    let mut config = Config::new();
    // A loop anywhere in a guest must be stoppable.
    config.epoch_interruption(true);
    // A fifth of the cost of a fresh 0.2 instance, which cannot use it.
    config.concurrency_support(generation == Generation::P3);
    config.wasm_component_model_async(generation == Generation::P3);
    // Names of functions, but no DWARF: a fault is described, not debugged.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config
}

/// Everything that the process which serves needs, instances from a pool.
pub(super) fn pooled(generation: Generation, room: Room, scan_pages: bool) -> Config {
    let instances = u32::try_from(room.instances).unwrap_or(u32::MAX).max(1);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        // Only counted, so every component may have as many as one may.
        .total_core_instances(instances.saturating_mul(limits::CORE_INSTANCES))
        // Address space: a Rust guest has one memory and two tables, a composed one some more.
        .total_memories(instances.saturating_mul(4))
        .total_tables(instances.saturating_mul(16))
        .total_stacks(stacks(generation, instances))
        .total_gc_heaps(instances)
        .max_memory_size(room.memory.next_multiple_of(64 * KIB))
        .table_elements(limits::TABLE_ELEMENTS)
        .max_tables_per_module(limits::TABLES)
        .max_tables_per_component(limits::TABLES)
        .max_memories_per_module(limits::MEMORIES)
        .max_memories_per_component(limits::MEMORIES)
        .max_core_instances_per_component(limits::CORE_INSTANCES)
        .max_component_instance_size(4 * MIB)
        .max_core_instance_size(4 * MIB)
        // Without these the kernel takes and gives each page anew, which costs more than the guest.
        .linear_memory_keep_resident(MIB)
        .table_keep_resident(64 * KIB)
        .async_stack_keep_resident(64 * KIB)
        // Places wait for their batch: in a small one few do, and the next instance finds its place warm.
        .decommit_batch_size(16);
    pool.pagemap_scan(if scan_pages {
        Enabled::Yes
    } else {
        Enabled::No
    });

    let mut config = compiler(generation);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

/// Every part of a 0.3 component can have a task that waits in a synchronous frame and holds a stack, but no more: a part
/// is not entered while it has one. One is for what goes on meanwhile, and one is kept for the next call.
fn stacks(generation: Generation, instances: u32) -> u32 {
    let one_call = instances.saturating_mul(2);
    match generation {
        Generation::P2 => one_call,
        Generation::P3 => instances
            .saturating_mul(limits::PARTS + 2)
            .min(limits::STACKS)
            .max(one_call),
    }
}

/// For machines without the address space that a pool needs: instances as they come.
pub(super) fn unpooled(generation: Generation) -> Config {
    let mut config = compiler(generation);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    config
}
