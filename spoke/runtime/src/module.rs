//! Artifacts, loaded once for all the containers that run them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use wasmtime::Engine;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::linker::is_given;
use crate::native;
use crate::state::State;

/// A module, linked and ready to be instantiated.
pub(crate) enum Module {
    /// Exports `wasi:cli/run`.
    Command(CommandPre<State>),
    /// Exports `wasi:http/incoming-handler`.
    Http(ProxyPre<State>),
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
}

/// All modules in use. A module that no container runs is dropped.
pub(crate) struct Modules {
    engine: Engine,
    linker: Linker<State>,
    loaded: Mutex<HashMap<PathBuf, Weak<Module>>>,
}

impl Modules {
    pub(crate) fn new(engine: Engine, linker: Linker<State>) -> Self {
        Self { engine, linker, loaded: Mutex::default() }
    }

    /// The module if some container runs it already.
    pub(crate) fn in_use(&self, artifact: &Path) -> Option<Arc<Module>> {
        self.loaded.lock().get(artifact).and_then(Weak::upgrade)
    }

    /// Loads and links an artifact that was verified. Reads the disk.
    pub(crate) fn load(&self, artifact: &Path) -> Result<Arc<Module>, CannotRun> {
        if let Some(module) = self.in_use(artifact) {
            return Ok(module);
        }
        let component = native::load(&self.engine, artifact);
        let component = component.map_err(|error| CannotRun::Load(format!("{error:#}")))?;
        let module = Arc::new(self.link(&component)?);
        let mut loaded = self.loaded.lock();
        loaded.retain(|_, module| 0 < module.strong_count());
        loaded.insert(artifact.to_owned(), Arc::downgrade(&module));
        Ok(module)
    }

    fn link(&self, component: &Component) -> Result<Module, CannotRun> {
        let kind = component.component_type();
        let unknown = kind.imports(&self.engine).find(|(name, _)| !is_given(name));
        if let Some((name, _)) = unknown {
            return Err(CannotRun::Import(name.to_owned()));
        }
        let link = |error: wasmtime::Error| CannotRun::Link(format!("{error:#}"));
        let ready: InstancePre<State> = self.linker.instantiate_pre(component).map_err(link)?;
        let exports: Vec<&str> = kind.exports(&self.engine).map(|(name, _)| name).collect();
        let has = |name: &str| exports.iter().any(|export| export.starts_with(name));
        if has("wasi:http/incoming-handler@0.2.") {
            ProxyPre::new(ready).map(Module::Http).map_err(link)
        } else if has("wasi:cli/run@0.2.") {
            CommandPre::new(ready).map(Module::Command).map_err(link)
        } else if exports.is_empty() {
            Err(CannotRun::Export("nothing".to_owned()))
        } else {
            Err(CannotRun::Export(exports.join(", ")))
        }
    }
}
