//! What a store holds: the guest's view of the world, and what it has used of it.

use std::sync::Arc;

use wasmtime::ResourceLimiter;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::output::Current;
use crate::capabilities::outbound_http::OutboundHttp;
use crate::limits;
use crate::meter::Meter;

pub(super) struct State {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound_http: OutboundHttp,
    table: ResourceTable,
    pub(super) memory: Memory,
    pub(super) meter: Arc<Meter>,
    pub(super) output: Arc<Current>,
}

impl State {
    pub(super) fn new(
        wasi: WasiCtx,
        memory: usize,
        meter: Arc<Meter>,
        output: Arc<Current>,
    ) -> Self {
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(limits::FIELDS_BYTES);
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::RESOURCES);
        Self {
            wasi,
            http,
            outbound_http: OutboundHttp,
            table,
            memory: Memory {
                used: 0,
                limit: memory,
                refused: false,
            },
            meter,
            output,
        }
    }

    pub(super) fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
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

/// One ceiling for everything that a store's memories and tables take together: a ceiling for each
/// memory is none, since a component may have many.
pub(super) struct Memory {
    used: usize,
    limit: usize,
    /// Growth was refused. A guest may live with that, but if it traps, this is why.
    pub(super) refused: bool,
}

impl Memory {
    fn grow(&mut self, by: usize) -> bool {
        let wanted = self.used.saturating_add(by);
        if wanted > self.limit {
            self.refused = true;
            return false;
        }
        self.used = wanted;
        true
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(desired.saturating_sub(current)))
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(self.grow(
            desired
                .saturating_sub(current)
                .saturating_mul(size_of::<usize>()),
        ))
    }
}
