//! The modules of pods' containers: what the agent knows of each, and which are still needed.
//!
//! ```text
//! nobody asked ─want─▶ Fetching ─took─▶ Ready | Problem
//!      ▲───────forget, or no pod needs it any more──┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use freewheel_link::digest::Digest;
use freewheel_link::plan::ModuleV1;

use crate::pods::{Module, Pod};
use crate::ports::Modules;

/// The modules that pods need.
pub(super) struct Images {
    shelf: Arc<dyn Modules>,
    known: BTreeMap<Digest, Module>,
    /// Who needs which has to be looked at anew.
    changed: bool,
}

impl Images {
    pub(super) const fn new(shelf: Arc<dyn Modules>) -> Self {
        Self { shelf, known: BTreeMap::new(), changed: false }
    }

    /// All of which something is known.
    pub(super) const fn known(&self) -> &BTreeMap<Digest, Module> {
        &self.known
    }

    /// Where a module is, if it is there.
    pub(super) fn path(&self, digest: &Digest) -> Option<PathBuf> {
        match self.known.get(digest)? {
            Module::Ready { path } => Some(path.clone()),
            Module::Fetching | Module::Problem { .. } => None,
        }
    }

    /// Asks for a module; whether it has to be fetched.
    pub(super) fn fetch_module(&mut self, digest: Digest) -> bool {
        let module =
            self.shelf.want(digest).map_or(Module::Fetching, |path| Module::Ready { path });
        let fetching = module == Module::Fetching;
        self.known.insert(digest, module);
        fetching
    }

    /// A module is there, or why it cannot be had.
    pub(super) fn took(&mut self, digest: Digest, outcome: Result<PathBuf, (String, String)>) {
        let module = match outcome {
            Ok(path) => Module::Ready { path },
            Err((reason, message)) => Module::Problem { reason, message },
        };
        self.known.insert(digest, module);
    }

    /// It may have been damaged on disk: who needs it asks for it again.
    pub(super) fn forget(&mut self, digest: &Digest) {
        self.known.remove(digest);
    }

    /// A pod needs other modules than before.
    pub(super) const fn look_again(&mut self) {
        self.changed = true;
    }

    /// Tells which modules are still needed: those of every pod that is here and has not ended.
    pub(super) fn keep<'a>(&mut self, pods: impl Iterator<Item = &'a Pod>) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let wanted: BTreeSet<Digest> = pods
            .filter(|pod| pod.done().is_none())
            .flat_map(|pod| pod.spec.init.iter().chain(&pod.spec.containers))
            .filter_map(|container| match &container.module {
                ModuleV1::Component(digest) => Some(*digest),
                ModuleV1::Missing(..) => None,
            })
            .collect();
        self.known.retain(|digest, _| wanted.contains(digest));
        self.shelf.keep(&wanted.into_iter().collect::<Vec<_>>());
    }

    /// The disk is short of room: what no pod needs goes.
    pub(super) fn make_room(&self) {
        self.shelf.make_room();
    }
}

/// Whether a container of this pod runs this component.
pub(super) fn uses(pod: &Pod, digest: &Digest) -> bool {
    let mut all = pod.spec.init.iter().chain(&pod.spec.containers);
    all.any(|container| container.module == ModuleV1::Component(*digest))
}
