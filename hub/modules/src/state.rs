//! What the registry's doors, its compilers and its collector share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use freewheel_hub_api::images::Running;
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tracing::warn;

use crate::blobs::Blobs;
use crate::compile::{CompileError, Made};
use crate::compile_queue::{CompileQueue, Job};
use crate::compiled::Compiled;
use crate::sign::{FleetRoot, Signer, unix_now};
use crate::tags::Tags;
use crate::uploads::Uploads;

/// It is there once, whoever has a [`Modules`](crate::Modules).
pub(crate) struct Inner {
    pub(crate) blobs: Blobs,
    pub(crate) uploads: Uploads,
    pub(crate) tags: Tags,
    pub(crate) compiled: Compiled,
    /// Held for reading while a manifest comes, for writing while a blob is deleted by hand.
    pub(crate) registering: RwLock<()>,
    pub(crate) inspections: Semaphore,
    pub(crate) compiler: PathBuf,
    pub(crate) root: FleetRoot,
    pub(crate) signer: Mutex<Arc<Signer>>,
    /// What this registry is called by those who write its host.
    pub(crate) hosts: OnceLock<BTreeSet<String>>,
    /// Who runs what, if anybody knows.
    pub(crate) running: OnceLock<Arc<dyn Running>>,
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) profiles: Mutex<BTreeSet<Profile>>,
    /// Who waits for the compilers.
    pub(crate) queue: CompileQueue<Outcome>,
    /// Trouble that may pass, and when it was met.
    pub(crate) troubles: Mutex<BTreeMap<Job, (Instant, Arc<CompileError>)>>,
    /// Artifacts whose bytes were looked at in this life of the hub.
    pub(crate) whole: tokio::sync::Mutex<BTreeSet<PathBuf>>,
    /// What modules import that were asked for, and when they were looked into; `None`: that came to nothing.
    pub(crate) imports: Mutex<BTreeMap<Digest, (Instant, Imports)>>,
}

/// Interfaces that a module imports, if it could be looked into.
type Imports = Option<BTreeSet<String>>;

/// What comes out of a compilation, for all who wait for it.
type Outcome = Result<Made, Arc<CompileError>>;

impl Inner {
    /// The key that signs now.
    pub(crate) fn signer(&self) -> Arc<Signer> {
        let now = unix_now();
        let mut signer = self.signer.lock();
        if signer.is_ageing(now) {
            match Signer::new(&self.root, now) {
                Ok(fresh) => *signer = Arc::new(fresh),
                Err(error) => warn!(%error, "the signing key cannot be renewed"),
            }
        }
        signer.clone()
    }
}
