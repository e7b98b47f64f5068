//! What a store holds: the guest's view of the world, and what it has used of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::clocks::WasiClocksCtxView;
use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
use wasmtime_wasi::sockets::WasiSocketsCtxView;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::budget::Budget;
use super::guest::GuestSettings;
use super::holdings;
use super::output::Current;
use super::usage::Usage;
use crate::capabilities::Granted;
use crate::capabilities::blobstore::{self, Blobstore};
use crate::capabilities::clocks::{Clocks, ClocksView};
use crate::capabilities::config::Values;
use crate::capabilities::files::{Files, FilesView, Scratch};
use crate::capabilities::keyvalue::{self, KeyValue};
use crate::capabilities::outbound_http::OutboundHttp;
use crate::capabilities::share::Held;
use crate::capabilities::sockets::{NamesView, Sockets};
use crate::limits;
use crate::meter::Meter;

/// What an instance sees of the host beside what it reaches through it.
pub(super) struct Context {
    pub(super) wasi: WasiCtx,
    pub(super) clocks: Clocks,
    pub(super) values: Arc<Values>,
    pub(super) scratch: Option<Arc<Scratch>>,
}

pub(super) struct State {
    context: Context,
    http: WasiHttpCtx,
    pub(super) outbound_http: OutboundHttp,
    // Made when it first asks for one: most ask for none.
    blobstore: Option<Blobstore>,
    files: Option<Files>,
    keyvalue: Option<KeyValue>,
    sockets: Option<Arc<Sockets>>,
    table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) output: Arc<Current>,
    /// Regions of the pool, and descriptors of granted directories: given back with the store.
    _held: [Option<Held>; 2],
}

impl State {
    pub(super) fn new(
        context: Context,
        settings: &GuestSettings,
        granted: Arc<Granted>,
        memory: Memory,
        output: Arc<Current>,
        held: [Option<Held>; 2],
    ) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(settings.fields);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::RESOURCES);
        Self {
            context,
            http,
            blobstore: None,
            files: None,
            keyvalue: None,
            sockets: None,
            outbound_http: OutboundHttp::new(granted),
            table,
            memory,
            output,
            _held: held,
        }
    }

    /// What it was told.
    pub(super) fn values(&self) -> &Arc<Values> {
        &self.context.values
    }

    pub(super) fn clocks(&mut self) -> ClocksView<'_> {
        ClocksView {
            clocks: &self.context.clocks,
            wasi: WasiClocksCtxView {
                ctx: self.context.wasi.clocks(),
                table: &mut self.table,
            },
        }
    }

    pub(super) fn files(&mut self) -> FilesView<'_> {
        let granted = self.outbound_http.granted();
        FilesView {
            files: self
                .files
                .get_or_insert_with(|| Files::new(Arc::clone(granted))),
            scratch: self.context.scratch.as_ref(),
            meter: &self.memory.meter,
            wasi: WasiFilesystemCtxView {
                ctx: self.context.wasi.filesystem(),
                table: &mut self.table,
            },
        }
    }

    pub(super) fn names(&mut self) -> NamesView<'_> {
        let granted = self.outbound_http.granted();
        NamesView {
            sockets: self
                .sockets
                .get_or_insert_with(|| Sockets::new(Arc::clone(granted))),
            wasi: WasiSocketsCtxView {
                ctx: self.context.wasi.sockets(),
                table: &mut self.table,
            },
        }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) fn blobstore(&mut self) -> blobstore::View<'_> {
        let granted = self.outbound_http.granted();
        blobstore::View {
            blobstore: self
                .blobstore
                .get_or_insert_with(|| Blobstore::new(Arc::clone(granted))),
            table: &mut self.table,
            meter: &self.memory.meter,
        }
    }

    pub(super) fn keyvalue(&mut self) -> keyvalue::View<'_> {
        let granted = self.outbound_http.granted();
        keyvalue::View {
            keyvalue: self
                .keyvalue
                .get_or_insert_with(|| KeyValue::new(Arc::clone(granted))),
            table: &mut self.table,
        }
    }

    /// Whether what the host holds for the guest still fits into its limits.
    pub(super) fn holdings_fit(&mut self) -> bool {
        let files = self.files.as_ref().map_or(0, Files::open);
        let sockets = self.sockets.as_ref().map_or(0, |it| it.open());
        let blobs = self.blobstore.as_ref().map_or(0, Blobstore::files);
        let bytes = self.bytes_held();
        self.memory.hold(bytes, files + sockets + blobs)
    }

    /// Gives the tenant back what the host has stopped holding for a guest that waits, at which nobody looks each tick.
    pub(super) fn settle_holdings(&mut self) {
        // Without a tenant, or a tick, nothing was taken, and nothing is added up.
        if self.memory.held_of_shared > 0 {
            let bytes = self.bytes_held().min(self.memory.held_of_shared);
            self.memory.share_held(bytes);
        }
    }

    /// Bytes that the host holds for the guest.
    fn bytes_held(&mut self) -> usize {
        let objects = holdings::of(&mut self.table);
        let http = self.outbound_http.holds();
        let blobs = self.blobstore.as_ref().map_or(0, Blobstore::files);
        let pieces = self.files.as_ref().map_or(0, Files::holds) + blobs * limits::BODY_CHUNK;
        let values = self.keyvalue.as_ref().map_or(0, KeyValue::holds);
        let datagrams = self.sockets.as_ref().map_or(0, |it| it.holds());
        objects + http + values + pieces + datagrams
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.context.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound_http,
        }
    }
}

/// One ceiling for everything that a store's memories and tables take, and the host for it: a ceiling
/// for each memory is none, since a component may have many.
pub(super) struct Memory {
    /// Of the request that it is used for.
    meter: Arc<Meter>,
    used: usize,
    /// Of the tenant, which the instance's own takes from.
    shared: Option<Arc<Budget>>,
    /// Of the engine, whose instances are counted together.
    usage: Arc<Usage>,
    /// What the host held for the guest when it was last looked at, each tick.
    held: usize,
    /// What `shared` has given for that. It stays taken when the next request comes, since the host may hold it still.
    held_of_shared: usize,
    limit: usize,
    /// The last growth of a memory that was allowed, in case it fails after all. A table's stays charged: one may fail
    /// without having asked, and would take back what another got.
    charged: usize,
    /// Growth was refused. A guest may live with that, but if it traps, this is why.
    pub(super) refused: bool,
    /// Growth was refused because the tenant's other instances have taken what there is.
    pub(super) crowded: bool,
}

impl Memory {
    /// Bytes of its memories and tables.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Of a new instance.
    pub(super) fn new(
        limit: usize,
        shared: Option<Arc<Budget>>,
        usage: Arc<Usage>,
        meter: Arc<Meter>,
    ) -> Self {
        usage.instances.fetch_add(1, Ordering::Relaxed);
        Self {
            meter,
            used: 0,
            shared,
            usage,
            held: 0,
            held_of_shared: 0,
            charged: 0,
            limit,
            refused: false,
            crowded: false,
        }
    }

    fn grow(&mut self, by: usize) -> bool {
        let wanted = self.used.saturating_add(by);
        if wanted.saturating_add(self.held) > self.limit {
            (self.refused, self.charged) = (true, 0);
            return false;
        }
        if !self.shared.as_ref().is_none_or(|shared| shared.take(by)) {
            (self.crowded, self.charged) = (true, 0);
            return false;
        }
        self.usage.memory.fetch_add(by, Ordering::Relaxed);
        (self.used, self.charged) = (wanted, by);
        self.meter.holds(wanted.saturating_add(self.held));
        true
    }

    /// What the last request of an instance did is not the next one's.
    pub(super) fn serve(&mut self, meter: Arc<Meter>) {
        meter.holds(self.used);
        self.meter = meter;
        (self.held, self.refused, self.crowded) = (0, false, false);
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn hold(&mut self, bytes: usize, files: usize) -> bool {
        self.held = bytes;
        self.meter.holds(self.used.saturating_add(bytes));
        let fits = self.used.saturating_add(bytes) <= self.limit && files <= limits::OPEN_FILES;
        let is_left = self.share_held(bytes);
        self.refused |= !fits;
        self.crowded |= !is_left;
        fits && is_left
    }

    /// Takes so much of `shared` for what the host holds, in place of what it has taken. False: there is not as much left.
    fn share_held(&mut self, bytes: usize) -> bool {
        let Some(shared) = &self.shared else {
            return true;
        };
        let more = bytes.saturating_sub(self.held_of_shared);
        // Who holds no more may go on, also when the ceiling has become lower.
        if more > 0 && !shared.take(more) {
            return false;
        }
        shared.give_back(self.held_of_shared.saturating_sub(bytes));
        self.held_of_shared = bytes;
        true
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.give_back(self.used + self.held_of_shared);
        }
        self.usage.memory.fetch_sub(self.used, Ordering::Relaxed);
        self.usage.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Past its own maximum a memory does not grow, whatever we say.
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        Ok(possible && self.grow(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _: wasmtime::Error) -> wasmtime::Result<()> {
        let charged = std::mem::take(&mut self.charged);
        self.used -= charged;
        self.usage.memory.fetch_sub(charged, Ordering::Relaxed);
        if let Some(shared) = &self.shared {
            shared.give_back(charged);
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let possible = maximum.is_none_or(|maximum| desired <= maximum);
        let bytes = desired
            .saturating_sub(current)
            .saturating_mul(size_of::<usize>());
        Ok(possible && self.grow(bytes))
    }

    // Where there is no pool, which has ceilings of its own.
    fn instances(&self) -> usize {
        limits::LARGE_CORE_INSTANCES as usize
    }

    fn memories(&self) -> usize {
        limits::LARGE_MEMORIES as usize
    }

    fn tables(&self) -> usize {
        limits::LARGE_TABLES as usize
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::account::Account;

    #[test]
    fn a_growth_that_fails_is_given_back_once_and_only_if_it_was_charged() {
        let usage = Arc::new(Usage::default());
        let meter = || Arc::new(Meter::new(Duration::ZERO, Account::new()));
        let mut memory = Memory::new(100, None, Arc::clone(&usage), meter());
        let failed = || wasmtime::Error::msg("no room");
        assert!(memory.memory_growing(0, 60, None).expect("an answer"));
        // A table whose size overflows fails without having asked.
        memory.table_grow_failed(failed()).expect("noted");
        assert!(!memory.memory_growing(0, 60, None).expect("an answer"));

        assert!(memory.memory_growing(60, 90, None).expect("an answer"));
        memory.memory_grow_failed(failed()).expect("noted");
        memory.memory_grow_failed(failed()).expect("noted");
        assert_eq!(memory.used, 60);
        let next = meter();
        memory.serve(Arc::clone(&next));
        assert_eq!(next.memory(), 60, "what it finds there");
        let now = usage.with_idle(0);
        assert_eq!((now.all, now.memory), (1, 60));
        drop(memory);
        assert_eq!(usage.with_idle(0), super::super::Instances::default());
    }

    #[test]
    fn what_the_host_holds_is_taken_from_the_tenant_until_it_or_the_instance_is_gone() {
        let tenant = Arc::new(Budget::new(100));
        let meter = || Arc::new(Meter::new(Duration::ZERO, Account::new()));
        let instance = || {
            let (shared, usage) = (Some(Arc::clone(&tenant)), Arc::default());
            Memory::new(1_000, shared, usage, meter())
        };
        let (mut one, mut other) = (instance(), instance());
        assert!(one.grow(40) && one.hold(30, 0));
        assert_eq!(tenant.used(), 70);
        assert!(other.grow(30) && !other.grow(1) && other.crowded);
        assert!(!one.hold(31, 0) && one.crowded, "it is the tenant's last");
        assert_eq!(tenant.used(), 100);

        tenant.resize(10);
        assert!(one.hold(30, 0) && one.hold(20, 0) && !one.hold(21, 0));
        assert_eq!(tenant.used(), 90);
        one.serve(meter());
        assert_eq!(tenant.used(), 90, "the host may hold it still");
        assert!(!one.crowded && one.share_held(5));
        assert_eq!(tenant.used(), 75);
        drop(one);
        assert_eq!(tenant.used(), 30, "the other's");
        assert!(other.hold(0, 0));
        drop(other);
        assert_eq!(tenant.used(), 0);
    }
}
