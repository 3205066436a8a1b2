//! One start of a container: what it has, and the stores that its instances get of it.

use std::sync::Arc;

use freewheel_spoke_account::Held;
use freewheel_spoke_agent::ports::{Input, StartContainer};
use freewheel_spoke_agent::uplink::Stdin;
use freewheel_spoke_engine::GUEST_STACK_BYTES;
use freewheel_spoke_logs::LogSink;
use freewheel_spoke_net::PodNet;
use parking_lot::Mutex;
use wasmtime::{Engine, Store};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::cli::AsyncStdinStream;

use crate::command_places::CommandPlaces;
use crate::file_calls::FileCalls;
use crate::lanes::{Lane, Runtimes};
use crate::mappings::{self, NoneLeft};
use crate::memory::{ContainerMemory, Share};
use crate::metered::Meter;
use crate::module::Module;
use crate::on_stack::Pages;
use crate::preview1::{CALL_BYTES, Core, CoreWorld};
use crate::shutdown::Shutdown;
use crate::world::{self, Mounts, StoreData, StoreParts};

/// One start of a container.
pub(crate) struct Container {
    /// Without its mounts and arguments; the same for commands beside its program.
    pub(crate) start: Arc<StartContainer>,
    pub(crate) args: Vec<String>,
    /// Place for what it was started with.
    pub(crate) given: Arc<Share>,
    pub(crate) mounts: Mounts,
    pub(crate) pod: Arc<PodNet>,
    pub(crate) engine: Engine,
    pub(crate) shutdown: Arc<Shutdown>,
    pub(crate) memory: Arc<ContainerMemory>,
    /// What it runs; loaded, and counted, for as long as it does.
    pub(crate) module: Arc<Module>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) log: LogSink,
    /// Of its pod.
    pub(crate) calls: Arc<FileCalls>,
    pub(crate) runtimes: Arc<Runtimes>,
    pub(crate) pages: Arc<Pages>,
    /// Tells the agent.
    pub(crate) deliver: Arc<dyn Fn(Input) + Send + Sync>,
    /// Places for commands beside its program.
    pub(crate) commands: CommandPlaces,
    /// What its one program reads, where it reads anything.
    pub(crate) stdin: Mutex<Option<Stdin>>,
}

impl Container {
    /// The mappings of one more instance.
    pub(crate) fn map(&self) -> Result<Held, NoneLeft> {
        mappings::take(self.pod.mappings(), self.module.mappings)
    }

    /// A store for an instance of a handler, whose stack counts in full.
    pub(crate) fn handler_store(&self, mappings: Held) -> wasmtime::Result<Store<StoreData>> {
        self.store(mappings, GUEST_STACK_BYTES)
    }

    /// A store for one instance, with the world that the pod's spec gives and nothing else. `stack`: what of its stack
    /// counts from here on.
    pub(crate) fn store(&self, mappings: Held, stack: usize) -> wasmtime::Result<Store<StoreData>> {
        let mut given = self.memory.share();
        given.set(self.given() + stack)?;
        let world = StoreParts {
            wasi: self.wasi().build(),
            mounts: self.mounts.clone(),
            pod: self.pod.clone(),
            shutdown: self.shutdown.clone(),
            memory: self.memory.clone(),
            log: self.log.clone(),
            calls: self.calls.clone(),
            given,
            mappings,
        };
        Ok(StoreData::store(&self.engine, world))
    }

    /// As [`Self::store`], for a core program.
    pub(crate) fn core_store(&self) -> wasmtime::Result<Store<Core>> {
        let mut given = self.memory.share();
        given.set(self.given() + CALL_BYTES)?;
        let world = CoreWorld {
            wasi: self.wasi(),
            mounts: &self.mounts,
            files: self.pod.files(),
            calls: &self.calls,
            memory: &self.memory,
            log: self.log.clone(),
            timers: self.runtimes.lane(Lane::Guests).clone(),
            given,
            mappings: self.map()?,
        };
        Core::store(&self.engine, world)
    }

    /// Bytes of what every store has for itself, with what its instance takes beside its memories and stack.
    fn given(&self) -> usize {
        world::size(&self.args, &self.start.env) + self.module.footing
    }

    fn wasi(&self) -> WasiCtxBuilder {
        let mut wasi = world::give(&self.args, &self.start.env, &self.log);
        if let Some(stdin) = self.stdin.lock().take() {
            wasi.stdin(AsyncStdinStream::new(stdin));
        }
        wasi
    }

    /// The same container for a command beside its program, which ends by itself and writes somewhere else.
    pub(crate) fn beside(
        &self,
        args: Vec<String>,
        stdin: Option<Stdin>,
        (shutdown, log): (&Arc<Shutdown>, &LogSink),
    ) -> Self {
        let meter = Meter {
            usage: self.meter.usage.clone(),
            memory: self.memory.clone(),
            quota: self.meter.quota.clone(),
            ticker: self.meter.ticker.clone(),
            kill: shutdown.killed().clone(),
        };
        Self {
            start: self.start.clone(),
            args,
            given: self.given.clone(),
            mounts: self.mounts.clone(),
            pod: self.pod.clone(),
            engine: self.engine.clone(),
            shutdown: shutdown.clone(),
            memory: self.memory.clone(),
            module: self.module.clone(),
            meter: Arc::new(meter),
            log: log.clone(),
            calls: self.calls.clone(),
            runtimes: self.runtimes.clone(),
            pages: self.pages.clone(),
            deliver: self.deliver.clone(),
            commands: self.commands.clone(),
            stdin: Mutex::new(stdin),
        }
    }
}
