//! All containers of the node.

mod exec;
mod probes;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use freewheel_link::figures::PodUseV1;
use freewheel_link::probes::ProbeV1;
use freewheel_link::profile::{MemoryProfile as Reserves, Profile};
use freewheel_spoke_agent::ports::{
    ContainerId, Containers, Exit, FilePermits, Input, StartContainer,
};
use freewheel_spoke_agent::volumes::log_aside;
use freewheel_spoke_engine::{BOUNDED_RESERVATION_BYTES, GUEST_STACK_BYTES, config};
use freewheel_spoke_logs::{
    KeptLogs, LogBudget, LogOptions, LogSink, READS_AT_ONCE, WRITES_AT_ONCE, at_turn, drain, read,
};
use freewheel_spoke_net::{FILES_LEAST, Fabric};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, info, info_span, warn};
use wasmtime::Engine;

pub use self::exec::{CannotExec, Executing};
use crate::command_places::CommandPlaces;
use crate::container::Container;
use crate::exit;
use crate::figures::{self, Whose};
use crate::file_calls::AllFileCalls;
use crate::lanes::Runtimes;
use crate::mappings;
use crate::memory::ContainerMemory;
use crate::metered::{Meter, Quota, Usage};
use crate::module::{Module, Modules};
use crate::on_stack::Pages;
use crate::run::Run;
use crate::shutdown::{EndCause, Shutdown};
use crate::stacks::Stacks;
use crate::ticker::Ticker;
use crate::wanted::Wanted;
use crate::world::{Mounts, OfPod, linker};

/// How long the end of a container, or of all of them, waits for its log to reach the disk.
const LOG_WAIT: Duration = Duration::from_secs(5);

/// Modules that are loaded at a time. After a start all of them are wanted at once.
const LOADS_AT_ONCE: usize = 1;

/// Threads of the control runtime that this work with files may hold: loads and what pods leave behind, and logs that
/// are written and read. They wait for each other and for nobody else.
pub const FILE_TURNS: usize = LOADS_AT_ONCE + WRITES_AT_ONCE + READS_AT_ONCE;

/// What a runtime is made with.
pub struct RuntimeOptions {
    /// The engine profile, from [`crate::choose_profile`].
    pub profile: Profile,
    /// Bytes that all guests may have together, with what the host holds for them. What is refused beyond ends its
    /// guest as OOMKilled, instead of the whole process.
    pub memory: u64,
    /// Files and directories that all guests may have open together.
    pub files: u64,
    /// Mappings of memory that all instances and modules may have together.
    pub mappings: u64,
    /// Bytes of address space that all linear memories may have together, from [`crate::addresses`].
    pub addresses: u64,
    /// Bytes of the disk that all logs may take together.
    pub logs: u64,
    /// Where the pods' networks are.
    pub fabric: Arc<Fabric>,
    /// Runs what is not a guest: ends, logs, timers.
    pub control: Handle,
    /// Where guests run.
    pub runtimes: Runtimes,
    /// What each thread for file calls does first: there may be hundreds, and each is counted with what a call takes, so
    /// nothing is to be kept for it between two.
    pub on_file_thread: fn(),
    /// Takes `Input::Started` and `Input::Exited`; must not block.
    pub deliver: Arc<dyn Fn(Input) + Send + Sync>,
}

/// Why a runtime cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CannotStart {
    /// The engine does not come up on this machine.
    #[error("wasmtime does not start: {0:#}")]
    Engine(wasmtime::Error),
    /// No thread for the epoch.
    #[error("cannot start the epoch thread")]
    Thread(#[source] io::Error),
}

struct Running {
    shutdown: Arc<Shutdown>,
    usage: Arc<Usage>,
    memory: Arc<ContainerMemory>,
    log: PathBuf,
    sink: LogSink,
    whose: Whose,
    /// What it runs, once that is loaded.
    module: Option<Arc<Module>>,
    /// Itself, as long as it runs.
    container: Weak<Container>,
}

/// What the end of a container needs.
struct Supervised {
    id: ContainerId,
    log: PathBuf,
    shutdown: Arc<Shutdown>,
    sink: LogSink,
}

/// Bytes that a linear memory grows to without moving.
fn reserved(profile: &Profile) -> usize {
    match profile.memory {
        Reserves::Guard4g => usize::MAX,
        Reserves::Bounded => usize::try_from(BOUNDED_RESERVATION_BYTES).unwrap_or(usize::MAX),
    }
}

/// Why a module does not even start within this limit.
fn too_little(limit: Option<u64>, least: usize) -> Option<String> {
    let limit = limit.filter(|limit| *limit < least as u64)?;
    Some(format!(
        "memory limit of {limit} bytes is less than the {least} bytes that the module starts with, its stack included"
    ))
}

/// All containers of the node.
pub struct Runtime {
    engine: Engine,
    modules: Modules,
    ticker: Arc<Ticker>,
    fabric: Arc<Fabric>,
    control: Handle,
    runtimes: Arc<Runtimes>,
    calls: AllFileCalls,
    pages: Arc<Pages>,
    deliver: Arc<dyn Fn(Input) + Send + Sync>,
    running: Mutex<HashMap<ContainerId, Running>>,
    /// Who waits for the ends of containers.
    supervisors: TaskTracker,
    budget: Arc<LogBudget>,
    /// Bytes that a linear memory grows to without moving.
    reserved: usize,
    loads: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    /// Log files by pod, to be removed with it.
    logs: Mutex<KeptLogs>,
    this: Weak<Self>,
}

impl Runtime {
    /// Makes the engine and starts its clock.
    ///
    /// # Errors
    /// When the engine does not come up or a thread cannot be made.
    pub fn new(options: RuntimeOptions) -> Result<Arc<Self>, CannotStart> {
        let mut config = config(&options.profile).map_err(CannotStart::Engine)?;
        config.with_host_stack(Stacks::new());
        let engine = Engine::new(&config).map_err(CannotStart::Engine)?;
        let linker = linker(&engine).map_err(CannotStart::Engine)?;
        let core = crate::preview1::linker(&engine).map_err(CannotStart::Engine)?;
        let ticker = Ticker::start(&engine).map_err(CannotStart::Thread)?;
        let RuntimeOptions {
            memory,
            files,
            mappings,
            addresses,
            profile,
            logs,
            fabric,
            control,
            runtimes,
            on_file_thread,
            deliver,
        } = options;
        // What those that run now touch of their stacks is counted when they park.
        let running = runtimes.at_once() * GUEST_STACK_BYTES;
        fabric.account().set_limit(memory.saturating_sub(running as u64));
        let calls = AllFileCalls::new(memory, on_file_thread);
        fabric.files().set_limit(files);
        fabric.mappings().set_limit(mappings);
        let maps = (fabric.mappings().clone(), mappings::of_memory(&profile, addresses, mappings));
        let modules = Modules::new(engine.clone(), linker, core, maps, fabric.account());
        let runtime = Arc::new_cyclic(|this: &Weak<Self>| Self {
            modules,
            engine,
            ticker,
            fabric,
            control,
            runtimes: Arc::new(runtimes),
            calls,
            pages: Arc::new(Pages::open()),
            deliver,
            running: Mutex::default(),
            supervisors: TaskTracker::new(),
            budget: LogBudget::new(logs),
            reserved: reserved(&profile),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE)),
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            logs: Mutex::default(),
            this: this.clone(),
        });
        let this = runtime.this.clone();
        let give_way = move || this.upgrade().is_some_and(|runtime| runtime.modules.drop_idle());
        runtime.fabric.account().gives_way(give_way);
        Ok(runtime)
    }

    /// Reads a container's log file; follows it while its container runs. Call within a tokio runtime.
    #[must_use]
    pub fn logs(&self, file: &Path, options: LogOptions) -> mpsc::Receiver<io::Result<Bytes>> {
        let running = self.running.lock();
        let live = running.values().find(|running| running.log == file);
        let live = live.map(|running| running.sink.follow());
        read(file.to_owned(), options, live, self.reads.clone())
    }

    /// The log of the newest start of a container in this life of the agent, whether or not the disk has it.
    #[must_use]
    pub fn log_of(&self, pod_uid: &str, container: &str) -> Option<PathBuf> {
        self.logs.lock().newest(pod_uid, container)
    }

    /// Looks for something on the disk when it is the turn of who reads logs.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn read_in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        at_turn(&self.reads, move || Ok(work())).await
    }

    /// CPU use and bytes of memory of a running container.
    #[must_use]
    pub fn usage(&self, id: &ContainerId) -> Option<(Arc<Usage>, usize)> {
        let running = self.running.lock();
        running.get(id).map(|running| (running.usage.clone(), running.memory.used()))
    }

    /// What all running containers have used, by pod. Memory is theirs and what describes their modules, of which those
    /// that run the same one have equal parts.
    #[must_use]
    pub fn figures(&self) -> Vec<PodUseV1> {
        let running = self.running.lock();
        let mut sharers = HashMap::<_, usize>::new();
        for module in running.values().filter_map(|of| of.module.as_ref()) {
            *sharers.entry(Arc::as_ptr(module)).or_default() += 1;
        }
        let part = |of: &Running| {
            let module = of.module.as_ref();
            module.map_or(0, |it| it.described() / sharers.get(&Arc::as_ptr(it)).unwrap_or(&1))
        };
        let each =
            running.iter().map(|(id, of)| (id, &of.whose, &*of.usage, of.memory.used() + part(of)));
        figures::by_pod(each)
    }

    /// Bytes of the guests' memory that loaded modules take beside their code.
    #[must_use]
    pub fn described(&self) -> usize {
        self.modules.described()
    }

    /// How often guests were interrupted since the start: it stands still while none runs.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        self.ticker.ticks()
    }

    /// Waits for the end of a container that runs, or is about to, and tells it.
    async fn supervise(self: Arc<Self>, of: Supervised, run: Run) {
        let Supervised { id, log, shutdown, sink } = of;
        let draining = self.control.spawn(drain(sink.clone(), log, self.budget.clone()));
        let mut exit = run.await;
        exit.was_asked_to_stop = shutdown.was_asked();
        // What still runs of it (instances of an HTTP pod) has no container any more.
        shutdown.kill(EndCause::Kill);
        self.running.lock().remove(&id);
        sink.close();
        let _ = tokio::time::timeout(LOG_WAIT, draining).await;
        sink.tell();
        drop(sink);
        info!(code = exit.code, reason = exit.reason, "container ended");
        (self.deliver)(Input::Exited(id, exit));
    }

    /// Reads the disk, which may be a slow card; then as [`Self::begin`].
    async fn load(self: Arc<Self>, wanted: Wanted, shutdown: Arc<Shutdown>, log: LogSink) -> Exit {
        let (runtime, artifact) = (self.clone(), wanted.start.artifact.clone());
        let load = at_turn(&self.loads, move || Ok(runtime.modules.load(&artifact)));
        let loaded = tokio::select! {
            biased;
            // A card that stands still keeps nobody from going; the turn lasts until it has answered.
            () = shutdown.killed().cancelled() => {
                return exit::killed(shutdown.cause().unwrap_or(EndCause::Kill));
            }
            loaded = load => loaded,
        };
        match loaded {
            Ok(Ok(module)) => self.begin(wanted, shutdown, log, module).await,
            Ok(Err(error)) => exit::start_error(error.to_string()),
            Err(error) => exit::start_error(format!("loading failed: {error}")),
        }
    }

    /// Starts a container: a program is on its way to its lane when this returns.
    fn begin(
        &self,
        Wanted { mut start, given }: Wanted,
        shutdown: Arc<Shutdown>,
        log: LogSink,
        module: Arc<Module>,
    ) -> Run {
        let failed = |why: &str| -> Run { Box::pin(std::future::ready(exit::start_error(why))) };
        let Some(pod) = self.fabric.pod(&start.id.pod) else {
            return failed("the pod has no network");
        };
        let Some((usage, memory)) = self.accounts(&start.id, &module) else {
            return failed("stopped before it started");
        };
        let Some(opened) = start.mounts.take() else {
            return failed("cannot mount its volumes: too many open files");
        };
        let calls = match self.calls.of(&start.id.pod) {
            Ok(calls) => calls,
            Err(error) => return failed(&format!("there are no threads for its files: {error}")),
        };
        let mounts = match Mounts::new(opened, calls.clone()) {
            Ok(mounts) => mounts,
            Err(why) => return failed(&why),
        };
        let meter = Meter {
            usage,
            memory: memory.clone(),
            quota: start.cpu_limit_milli.and_then(Quota::new),
            ticker: self.ticker.clone(),
            kill: shutdown.killed().clone(),
        };
        if let Some(why) = too_little(start.memory_limit, module.least) {
            return failed(&why);
        }
        let (deliver, id) = (self.deliver.clone(), start.id.clone());
        let container = Arc::new(Container {
            args: std::mem::take(&mut start.args),
            start: Arc::new(start),
            given: Arc::new(given),
            mounts,
            pod,
            engine: self.engine.clone(),
            shutdown,
            memory,
            module,
            meter: Arc::new(meter),
            log,
            calls,
            runtimes: self.runtimes.clone(),
            pages: self.pages.clone(),
            deliver: self.deliver.clone(),
            commands: CommandPlaces::new(),
            stdin: Mutex::default(),
        });
        self.runs(&container);
        container.run(move || deliver(Input::Started(id)))
    }

    /// Commands find it from here on.
    fn runs(&self, container: &Arc<Container>) {
        if let Some(running) = self.running.lock().get_mut(&container.start.id) {
            running.container = Arc::downgrade(container);
        }
    }

    /// A container without a network does not come to run.
    fn memory_of(&self, start: &StartContainer) -> Arc<ContainerMemory> {
        let pod = self.fabric.pod(&start.id.pod);
        let above = pod.as_ref().map_or_else(|| self.fabric.account(), |pod| pod.account());
        ContainerMemory::moving_beyond(self.reserved, start.memory_limit, above)
    }

    /// Of a container that runs this from here on.
    fn accounts(
        &self,
        id: &ContainerId,
        module: &Arc<Module>,
    ) -> Option<(Arc<Usage>, Arc<ContainerMemory>)> {
        let mut all = self.running.lock();
        let running = all.get_mut(id)?;
        running.module = Some(module.clone());
        Some((running.usage.clone(), running.memory.clone()))
    }

    fn kill(&self, shutdown: &Shutdown, cause: EndCause) {
        shutdown.kill(cause);
        self.ticker.interrupt();
    }

    /// Ends all containers at once, and waits for a while until what they have written is on disk: the agent's process
    /// is going.
    pub async fn end(&self) {
        self.abandon();
        self.supervisors.close();
        if tokio::time::timeout(LOG_WAIT, self.supervisors.wait()).await.is_err() {
            let containers = self.supervisors.len();
            warn!(containers, "the last lines of containers are not on disk");
        }
    }

    fn abandon(&self) {
        for running in self.running.lock().values() {
            running.shutdown.kill(EndCause::Kill);
        }
        self.ticker.interrupt();
    }
}

impl Containers for Runtime {
    fn start(&self, start: StartContainer) {
        let Some(this) = self.this.upgrade() else { return };
        let (shutdown, memory) = (Arc::new(Shutdown::default()), self.memory_of(&start));
        let sink = LogSink::of(memory.account().clone());
        let running = Running {
            shutdown: shutdown.clone(),
            usage: Arc::default(),
            memory: memory.clone(),
            log: start.log.clone(),
            sink: sink.clone(),
            whose: Whose::of(&start),
            module: None,
            container: Weak::new(),
        };
        self.running.lock().insert(start.id.clone(), running);
        self.logs.lock().add(&start.id.pod, &start.id.container, start.log.clone());
        let span = info_span!(
            parent: None,
            "container",
            cluster = %start.realm,
            pod = start.pod_name,
            namespace = start.namespace,
            uid = start.id.pod,
            container = start.id.container,
            attempt = start.id.attempt,
        );
        let of = Supervised {
            id: start.id.clone(),
            log: start.log.clone(),
            shutdown: shutdown.clone(),
            sink: sink.clone(),
        };
        let run: Run = match Wanted::new(start, &memory) {
            Ok(wanted) => match self.modules.ready(&wanted.start.artifact) {
                Some(module) => this.begin(wanted, shutdown, sink, module),
                None => Box::pin(this.clone().load(wanted, shutdown, sink)),
            },
            Err(full) => Box::pin(std::future::ready(exit::out_of_memory(full.to_string()))),
        };
        let supervised = this.supervise(of, run).instrument(span);
        self.control.spawn(self.supervisors.track_future(supervised));
    }

    fn file_permits(&self, pod_uid: &str, count: usize) -> Option<Box<dyn FilePermits>> {
        let held = self.fabric.pod(pod_uid)?.files().take_share(count, FILES_LEAST).ok()?;
        Some(Box::new(OfPod(held)))
    }

    fn stop(&self, id: &ContainerId, grace: Duration) {
        let shutdown = self.running.lock().get(id).map(|running| running.shutdown.clone());
        let (Some(shutdown), Some(this)) = (shutdown, self.this.upgrade()) else { return };
        if !shutdown.stop(grace) {
            self.kill(&shutdown, EndCause::Early);
            return;
        }
        self.control.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(grace) => this.kill(&shutdown, EndCause::Kill),
                () = shutdown.killed().cancelled() => {}
            }
        });
    }

    fn probe(&self, id: &ContainerId, probe: ProbeV1) {
        self.look_at(id, probe);
    }

    fn memory(&self, pod_uid: &str) -> Vec<(String, u64)> {
        let running = self.running.lock();
        let own = running.iter().filter(|(id, _)| id.pod == pod_uid);
        own.map(|(id, running)| (id.container.clone(), running.memory.used() as u64)).collect()
    }

    fn freeze_memory(&self, pod_uid: &str) {
        if let Some(pod) = self.fabric.pod(pod_uid) {
            pod.account().freeze();
        }
    }

    fn forget_pod(&self, pod_uid: &str) {
        self.calls.forget(pod_uid);
        let logs = self.logs.lock().take(pod_uid);
        if logs.is_empty() {
            return;
        }
        let (this, turns) = (self.this.clone(), self.loads.clone());
        let remove = move || {
            if let Some(this) = this.upgrade() {
                this.modules.drop_gone();
            }
            for log in logs {
                // One that was never written, or is gone with its directory, is as good as removed.
                let _ = std::fs::remove_file(log_aside(&log));
                let _ = std::fs::remove_file(&log);
            }
            Ok(())
        };
        // However many pods go while a card stands still, one thread waits for it.
        self.control.spawn(async move { at_turn(&turns, remove).await });
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.abandon();
        self.ticker.end();
    }
}
