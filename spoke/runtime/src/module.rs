//! Artifacts, loaded once for all the containers that run them.
//!
//! The last [`IDLE_MODULES_KEPT`] modules stay loaded when nothing runs them, so that a pod that starts again finds its
//! code linked.
//!
//! Guarantees:
//! - an artifact that was replaced is never run from memory
//!   (`a_module_that_stays_loaded_is_not_run_once_its_artifact_is_another_or_gone`);
//! - what describes modules that are loaded is on the node's memory; those that nothing runs go before one is refused
//!   (`descriptions_of_modules_are_on_the_nodes_memory`), and before anybody is refused memory
//!   (`modules_that_nothing_runs_make_room_for_guests`);
//! - of an artifact that was replaced nothing stays when nothing runs it
//!   (`of_a_replaced_artifact_nothing_stays_loaded`).

use std::collections::{HashMap, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use freewheel_spoke_account::{Held, Level, MemoryAccount};
use freewheel_spoke_engine::{GUEST_STACK_BYTES, footprint};
use parking_lot::Mutex;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, ExternType, ResourcesRequired};
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::handler::Handler;
use crate::mappings;
use crate::native::{self, Loaded};
use crate::preview1::Core;
use crate::world::StoreData;

/// A module, linked and ready to be instantiated.
pub(crate) struct Module {
    pub(crate) kind: Kind,
    /// Bytes that its largest memory starts with, its stack and `footing`: with less it cannot be instantiated.
    pub(crate) least: usize,
    /// Bytes that each instance takes beside its memories and tables.
    pub(crate) footing: usize,
    /// Mappings that each instance takes.
    pub(crate) mappings: usize,
    _mapped: Held,
    described: Held,
}

impl Module {
    /// Bytes of what describes it, on the node's memory.
    pub(crate) const fn described(&self) -> usize {
        self.described.bytes()
    }
}

/// What a module does.
pub(crate) enum Kind {
    /// Exports `wasi:cli/run`.
    Command(CommandPre<StoreData>),
    /// Exports `wasi:http/incoming-handler`.
    Http(Arc<Handler>),
    /// A core module of WASI preview 1 that exports `_start`.
    Core(wasmtime::InstancePre<Core>),
}

/// Why a module cannot run. The text is what the user reads in the container's state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRun {
    #[error("compiled module cannot be loaded: {0}")]
    Load(String),
    #[error("module imports {0} which no pod is given")]
    Import(String),
    #[error("module cannot be linked: {0}")]
    Link(String),
    #[error(
        "module exports neither wasi:cli/run@0.2 (a program) nor wasi:http/incoming-handler@0.2 (an HTTP \
         service); it exports {0}"
    )]
    Export(String),
    #[error("module is a core module without {0}: nothing could start it")]
    NoProgram(&'static str),
}

/// Modules that stay when no container runs them any more. Their code is pages of the mapped file, which the
/// kernel takes back when it needs them.
const IDLE_MODULES_KEPT: usize = 8;

/// Bytes of a page of linear memory.
const WASM_PAGE_BYTES: u64 = 64 << 10;

/// Device and inode. A loaded module maps its file, so no other file gets its inode meanwhile.
type FileId = (u64, u64);

fn file_id(artifact: &Path) -> Option<FileId> {
    std::fs::metadata(artifact).ok().map(|file| (file.dev(), file.ino()))
}

#[derive(Default)]
struct ModuleCache {
    /// All that are alive, of containers or kept.
    loaded: HashMap<PathBuf, (FileId, Weak<Module>)>,
    /// The latest used last, one of each path.
    kept: VecDeque<Kept>,
}

/// A module that stays, and what it was loaded from.
struct Kept {
    path: PathBuf,
    file: FileId,
    module: Arc<Module>,
}

impl ModuleCache {
    /// Puts it last; who has to go for it is dropped by the caller, outside of the lock.
    fn keep(&mut self, path: &Path, file: FileId, module: &Arc<Module>) -> [Option<Kept>; 2] {
        let before = self.kept.iter().position(|kept| kept.path == path);
        let before = before.and_then(|at| self.kept.remove(at));
        self.kept.push_back(Kept { path: path.to_owned(), file, module: module.clone() });
        let oldest = if IDLE_MODULES_KEPT < self.kept.len() { self.kept.pop_front() } else { None };
        [before, oldest]
    }
}

/// All modules in use, and the last that were.
pub(crate) struct Modules {
    engine: Engine,
    linker: Linker<StoreData>,
    core: wasmtime::Linker<Core>,
    /// The node's mappings.
    mappings: Arc<MemoryAccount>,
    /// Mappings that a linear memory counts as.
    of_memory: usize,
    /// What describes those that are loaded, on the node's memory.
    descriptions: Arc<MemoryAccount>,
    shelf: Mutex<ModuleCache>,
}

impl Modules {
    pub(crate) fn new(
        engine: Engine,
        linker: Linker<StoreData>,
        core: wasmtime::Linker<Core>,
        (mappings, of_memory): (Arc<MemoryAccount>, usize),
        memory: &Arc<MemoryAccount>,
    ) -> Self {
        let descriptions = MemoryAccount::within(memory, Level::Node, None);
        let shelf = Mutex::default();
        Self { engine, linker, core, mappings, of_memory, descriptions, shelf }
    }

    /// The module if it is loaded already.
    pub(crate) fn ready(&self, artifact: &Path) -> Option<Arc<Module>> {
        let file = file_id(artifact)?;
        let mut shelf = self.shelf.lock();
        let (_, module) = shelf.loaded.get(artifact).filter(|(loaded, _)| *loaded == file)?;
        let module = module.upgrade()?;
        let leaving = shelf.keep(artifact, file, &module);
        drop(shelf);
        drop(leaving);
        Some(module)
    }

    /// Loads and links an artifact that was verified. Reads the disk.
    pub(crate) fn load(&self, artifact: &Path) -> Result<Arc<Module>, CannotRun> {
        if let Some(module) = self.ready(artifact) {
            return Ok(module);
        }
        // Taken before the file is opened: one that is replaced in between is loaded again the next time.
        let file = file_id(artifact);
        let mapped = mappings::take_module(&self.mappings);
        let mapped = mapped.map_err(|none| CannotRun::Load(none.to_string()))?;
        let footing = footprint::read(artifact);
        let footing = footing.map_err(|error| CannotRun::Load(error.to_string()))?;
        let bytes = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let described = self.descriptions.take(bytes(footing.description));
        let described = described.map_err(|full| CannotRun::Load(full.to_string()))?;
        let loaded = native::load(&self.engine, artifact);
        let loaded = loaded.map_err(|error| CannotRun::Load(format!("{error:#}")))?;
        let (kind, needs) = match loaded {
            Loaded::Component(component) => {
                (self.link(&component)?, component.resources_required())
            }
            Loaded::Core(module) => (self.link_core(&module)?, Some(module.resources_required())),
        };
        let footing = bytes(footing.instance);
        let mappings = mappings::of_instance(needs.as_ref(), self.of_memory);
        let least = least(needs).saturating_add(footing);
        let module = Module { kind, least, footing, mappings, _mapped: mapped, described };
        let module = Arc::new(module);
        if let Some(file) = file {
            let mut shelf = self.shelf.lock();
            shelf.loaded.insert(artifact.to_owned(), (file, Arc::downgrade(&module)));
            let leaving = shelf.keep(artifact, file, &module);
            drop(shelf);
            drop(leaving);
        }
        self.drop_gone();
        Ok(module)
    }

    /// Lets go of those that nothing runs; whether there were any.
    pub(crate) fn drop_idle(&self) -> bool {
        let mut shelf = self.shelf.lock();
        let kept = std::mem::take(&mut shelf.kept);
        // Whoever else has one got it of the shelf, and runs it.
        let (idle, used): (VecDeque<_>, VecDeque<_>) =
            kept.into_iter().partition(|kept| Arc::strong_count(&kept.module) == 1);
        shelf.kept = used;
        drop(shelf);
        !idle.is_empty()
    }

    /// Bytes of what describes those that are loaded.
    pub(crate) fn described(&self) -> usize {
        self.descriptions.used()
    }

    /// Lets go of modules whose artifacts were removed or replaced: a mapped file keeps its place on the disk.
    pub(crate) fn drop_gone(&self) {
        let mut shelf = self.shelf.lock();
        shelf.loaded.retain(|_, (_, module)| 0 < module.strong_count());
        let kept = std::mem::take(&mut shelf.kept);
        let (kept, stale): (VecDeque<_>, VecDeque<_>) =
            kept.into_iter().partition(|kept| file_id(&kept.path) == Some(kept.file));
        shelf.kept = kept;
        drop(shelf);
        drop(stale);
    }

    fn link(&self, component: &Component) -> Result<Kind, CannotRun> {
        let kind = component.component_type();
        let unknown =
            kind.imports(&self.engine).find(|(name, _)| !freewheel_spoke_engine::is_given(name));
        if let Some((name, _)) = unknown {
            return Err(CannotRun::Import(name.to_owned()));
        }
        let link = |error: wasmtime::Error| CannotRun::Link(format!("{error:#}"));
        let ready: InstancePre<StoreData> = self.linker.instantiate_pre(component).map_err(link)?;
        let exports: Vec<&str> = kind.exports(&self.engine).map(|(name, _)| name).collect();
        let has = |name: &str| exports.iter().any(|export| export.starts_with(name));
        if has("wasi:http/incoming-handler@0.2.") {
            Handler::new(ready).map(|handler| Kind::Http(Arc::new(handler))).map_err(link)
        } else if has("wasi:cli/run@0.2.") {
            CommandPre::new(ready).map(Kind::Command).map_err(link)
        } else if exports.is_empty() {
            Err(CannotRun::Export("nothing".to_owned()))
        } else {
            Err(CannotRun::Export(exports.join(", ")))
        }
    }

    fn link_core(&self, module: &wasmtime::Module) -> Result<Kind, CannotRun> {
        let unknown = module.imports().find(|import| {
            import.module() != freewheel_spoke_engine::PREVIEW_1
                || !freewheel_spoke_engine::preview_1().any(|(name, _)| name == import.name())
        });
        if let Some(import) = unknown {
            return Err(CannotRun::Import(format!("{} {}", import.module(), import.name())));
        }
        let starts = |found: ExternType| {
            let main = found.func();
            main.is_some_and(|main| main.params().len() + main.results().len() == 0)
        };
        if !module.get_export("_start").is_some_and(starts) {
            return Err(CannotRun::NoProgram("a function `_start` of no parameters"));
        }
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(CannotRun::NoProgram("an exported memory named `memory`"));
        }
        let ready = self.core.instantiate_pre(module);
        let ready = ready.map_err(|error| CannotRun::Link(format!("{error:#}")))?;
        Ok(Kind::Core(ready))
    }
}

/// Bytes that the largest memory of a module and its stack start with.
fn least(needs: Option<ResourcesRequired>) -> usize {
    let pages = needs.and_then(|needs| needs.max_initial_memory_size);
    let bytes = pages.unwrap_or(0).saturating_mul(WASM_PAGE_BYTES);
    usize::try_from(bytes).unwrap_or(usize::MAX).saturating_add(GUEST_STACK_BYTES)
}
