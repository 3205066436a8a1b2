//! What one store holds: a guest's view of the world.

use std::sync::Arc;

use freewheel_spoke_net::PodNet;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::http::Outgoing;
use crate::life::Life;
use crate::lifecycle::{HasLife, LifeView};
use crate::memory::{Limiter, Memory};
use crate::sockets::{HasNet, NetView};

/// Handles that a guest may hold at a time: sockets, files, streams, requests.
const MAX_RESOURCES: usize = 16_384;

/// Bytes that one call may hand to the host. Guests write in pieces of at most 1 MiB.
const CALL_BYTES: usize = 4 << 20;

/// What one store holds.
pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    pod: Arc<PodNet>,
    life: Arc<Life>,
    limiter: Limiter,
}

impl State {
    /// A store for one instance, interrupted by the ticker.
    pub(crate) fn store(
        engine: &Engine,
        wasi: WasiCtx,
        pod: Arc<PodNet>,
        life: Arc<Life>,
        memory: Arc<Memory>,
    ) -> Store<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let state = Self {
            table,
            wasi,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(pod.clone()),
            pod,
            life,
            limiter: Limiter::new(memory),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(CALL_BYTES);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_epoch_deadline(1);
        store
    }

    /// Bytes of linear memory of this store.
    pub(crate) const fn memory(&self) -> usize {
        self.limiter.own()
    }

    pub(crate) const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

impl HasLife for State {
    fn life(&mut self) -> LifeView<'_> {
        LifeView { table: &mut self.table, life: &self.life }
    }
}

impl HasNet for State {
    fn net(&mut self) -> NetView<'_> {
        NetView { table: &mut self.table, pod: &self.pod, life: &self.life }
    }
}
