//! What one store holds: a guest's view of the world.
//!
//! Guarantees:
//! - what a guest had begun to say when it trapped or was killed looks complete to nobody
//!   (`what_a_program_was_saying_when_it_failed_is_broken_off`,
//!   `a_body_that_a_guest_was_sending_when_it_failed_does_not_look_complete`).

use std::sync::Arc;

use freewheel_spoke_account::{Full, Held};
use freewheel_spoke_engine::footprint::COMPONENT_HANDLES_MAX;
use freewheel_spoke_logs::LogSink;
use freewheel_spoke_net::PodNet;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store, UpdateDeadline};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::p2::body::{HostOutgoingBody, StreamContext};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::fields::{Fields, HasFields};
use super::files::{HasFiles, OpenFiles};
use super::given::CALL_BYTES_MAX;
use super::handles::{HANDLES_PER_GUEST_MAX, HandleCount, HasHandles};
use super::lifecycle::{HasShutdown, ShutdownView};
use super::mounts::{Mounts, MountsView};
use super::outgoing::Outgoing;
use super::sockets::tcp::break_off;
use super::sockets::{HasNet, NetView};
use crate::file_calls::FileCalls;
use crate::memory::{ContainerMemory, Limiter, Share};
use crate::shutdown::Shutdown;

/// What a store is made of.
pub(crate) struct StoreParts {
    pub(crate) wasi: WasiCtx,
    pub(crate) mounts: Mounts,
    pub(crate) pod: Arc<PodNet>,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) memory: Arc<ContainerMemory>,
    pub(crate) log: LogSink,
    pub(crate) calls: Arc<FileCalls>,
    /// Place for what is in `wasi`.
    pub(crate) given: Share,
    /// Mappings of its stack, memories and tables.
    pub(crate) mappings: Held,
}

/// What one store holds.
pub(crate) struct StoreData {
    table: ResourceTable,
    wasi: WasiCtx,
    mounts: Mounts,
    http: WasiHttpCtx,
    outgoing: Outgoing,
    pod: Arc<PodNet>,
    shutdown: Arc<Shutdown>,
    memory: Arc<ContainerMemory>,
    limiter: Limiter,
    handles: HandleCount,
    fields: Fields,
    files: OpenFiles,
    given: Share,
    _mappings: Held,
    /// The guest has come to an end of its own: what it leaves open ends as a process's does on Linux.
    ended: bool,
}

impl StoreData {
    /// A store for one instance, interrupted by the ticker.
    pub(crate) fn store(engine: &Engine, world: StoreParts) -> Store<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_PER_GUEST_MAX);
        let StoreParts { wasi, mounts, pod, shutdown, memory, log, calls, given, mappings } = world;
        let state = Self {
            table,
            wasi,
            mounts,
            http: WasiHttpCtx::new(),
            outgoing: Outgoing::new(pod.clone()),
            files: OpenFiles::new(pod.files().clone(), memory.clone(), log, calls),
            pod,
            shutdown,
            limiter: Limiter::new(&memory),
            handles: HandleCount::new(memory.share()),
            fields: Fields::new(memory.share()),
            memory,
            given,
            _mappings: mappings,
            ended: false,
        };
        let mut store = Store::new(engine, state);
        store.limiter_async(|state| &mut state.limiter);
        store.set_hostcall_fuel(CALL_BYTES_MAX);
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
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

    /// Bytes of this store, as far as they are counted.
    pub(crate) const fn booked(&self) -> usize {
        self.limiter.own() + self.handles.bytes() + self.given.bytes() + self.fields.bytes()
    }

    /// A place for what outlives the store.
    pub(crate) fn share(&self) -> Share {
        self.memory.share()
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

    /// The guest has ended by itself; whatever it has not said is not missing.
    pub(crate) const fn end(&mut self) {
        self.ended = true;
    }

    pub(super) const fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    pub(super) const fn mounts(&mut self) -> MountsView<'_> {
        MountsView { table: &mut self.table, mounts: &self.mounts }
    }
}

impl Drop for StoreData {
    fn drop(&mut self) {
        self.abort_unfinished();
        if !self.ended {
            break_off(&mut self.table);
        }
    }
}

impl WasiView for StoreData {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for StoreData {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

impl HasHandles for StoreData {
    fn handles(&mut self) -> (&mut ResourceTable, &mut HandleCount) {
        (&mut self.table, &mut self.handles)
    }
}

impl HasFields for StoreData {
    fn fields(&mut self) -> (&mut ResourceTable, &mut Fields) {
        (&mut self.table, &mut self.fields)
    }
}

impl HasFiles for StoreData {
    fn files(&mut self) -> &mut OpenFiles {
        &mut self.files
    }
}

impl HasShutdown for StoreData {
    fn shutdown(&mut self) -> ShutdownView<'_> {
        ShutdownView { table: &mut self.table, shutdown: &self.shutdown }
    }
}

impl HasNet for StoreData {
    fn net(&mut self) -> NetView<'_> {
        let (pod, shutdown) = (&self.pod, &self.shutdown);
        NetView { table: &mut self.table, pod, shutdown, handles: self.handles.share() }
    }
}
