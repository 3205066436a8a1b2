//! What one store holds: a guest's view of the world.

use std::sync::Arc;

use freewheel_spoke_account::{Full, Held};
use freewheel_spoke_engine::footing::MOST_HANDLES;
use freewheel_spoke_logs::LogSink;
use freewheel_spoke_net::PodNet;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::fields::{Fields, HasFields};
use super::files::{HasFiles, OpenFiles};
use super::given::CALL_BYTES;
use super::handles::{HasHandles, MAX_RESOURCES};
use super::lifecycle::{HasLife, LifeView};
use super::mounts::{Mounts, MountsView};
use super::outgoing::Outgoing;
use super::sockets::{HasNet, NetView};
use crate::file_calls::FileCalls;
use crate::life::Life;
use crate::memory::{Limiter, Memory, Share};

/// What a store is made of.
pub(crate) struct World {
    pub(crate) wasi: WasiCtx,
    pub(crate) mounts: Mounts,
    pub(crate) pod: Arc<PodNet>,
    pub(crate) life: Arc<Life>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) log: LogSink,
    pub(crate) calls: Arc<FileCalls>,
    /// Place for what is in `wasi`.
    pub(crate) given: Share,
    /// Mappings of its stack, memories and tables.
    pub(crate) mappings: Held,
}

/// What one store holds.
pub(crate) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    mounts: Mounts,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    pod: Arc<PodNet>,
    life: Arc<Life>,
    memory: Arc<Memory>,
    limiter: Limiter,
    handles: Share,
    fields: Fields,
    files: OpenFiles,
    given: Share,
    _mappings: Held,
}

impl State {
    /// A store for one instance, interrupted by the ticker.
    pub(crate) fn store(engine: &Engine, world: World) -> Store<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(MAX_RESOURCES);
        let World { wasi, mounts, pod, life, memory, log, calls, given, mappings } = world;
        let state = Self {
            table,
            wasi,
            mounts,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(pod.clone()),
            files: OpenFiles::new(pod.files().clone(), memory.clone(), log, calls),
            pod,
            life,
            limiter: Limiter::new(&memory),
            handles: memory.share(),
            fields: Fields::new(memory.share()),
            memory,
            given,
            _mappings: mappings,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(CALL_BYTES);
        store.set_max_component_handles(MOST_HANDLES);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().count_handles()?;
            Ok(UpdateDeadline::Yield(1))
        });
        store.set_epoch_deadline(1);
        store
    }

    /// Counts all that its handles hold: between two requests of an instance, which may each be over within a tick.
    pub(crate) fn count_kept(&mut self) -> Result<(), Full> {
        self.fields.count(&mut self.table)?;
        self.count_handles()
    }

    /// Bytes of this store, with what the host holds for it.
    pub(crate) fn memory(&mut self) -> usize {
        // What was counted when it was made may be gone.
        let _ = self.count_handles();
        self.limiter.own() + self.handles.bytes() + self.given.bytes()
    }

    /// A place for what outlives the store.
    pub(crate) fn share(&self) -> Share {
        self.memory.share()
    }

    /// Whether this store was refused memory.
    pub(crate) const fn was_refused(&self) -> bool {
        self.limiter.was_refused()
    }

    /// Breaks off the bodies that the guest has begun and not finished; whether there were any. Left alone, they
    /// would end as if they were whole when the store goes.
    pub(crate) fn abort_unfinished(&mut self) -> bool {
        let mut any = false;
        for entry in self.table.iter_mut() {
            if let Some(body) = entry.downcast_mut::<HostOutgoingBody>() {
                let (nothing, _) = HostOutgoingBody::new(StreamContext::Response, None, 1, 1);
                std::mem::replace(body, nothing).abort();
                any = true;
            }
        }
        any
    }

    pub(super) const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) const fn mounts(&mut self) -> MountsView<'_> {
        MountsView { table: &mut self.table, mounts: &self.mounts }
    }
}

impl Drop for State {
    fn drop(&mut self) {
        self.abort_unfinished();
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

impl HasHandles for State {
    fn handles(&mut self) -> (&mut ResourceTable, &mut Share) {
        (&mut self.table, &mut self.handles)
    }
}

impl HasFields for State {
    fn fields(&mut self) -> (&mut ResourceTable, &mut Fields) {
        (&mut self.table, &mut self.fields)
    }
}

impl HasFiles for State {
    fn files(&mut self) -> &mut OpenFiles {
        &mut self.files
    }
}

impl HasLife for State {
    fn life(&mut self) -> LifeView<'_> {
        LifeView { table: &mut self.table, life: &self.life }
    }
}

impl HasNet for State {
    fn net(&mut self) -> NetView<'_> {
        let (pod, life) = (&self.pod, &self.life);
        NetView { table: &mut self.table, pod, life, handles: &mut self.handles }
    }
}
