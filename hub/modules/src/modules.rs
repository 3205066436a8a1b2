//! All together: what is here, compiled for those who ask.
//!
//! ```text
//! images     what an image stands for, and its artifact for a spoke (hub-api's `Images`)
//! compiling  from a component to its compiled form
//! facts      its size and what it imports
//! missing_files  what is named and not there
//! ```
//!
//! Guarantees:
//! - a module is compiled once for all who ask for it, a failure is told to all of them, and one that would come again
//!   is kept until the module is pushed again
//!   (`a_bomb_is_compiled_once_for_all_who_ask_and_not_again_until_it_is_pushed_again`);
//! - small modules do not wait for large ones (`another_users_module_does_not_wait_for_a_slow_one`), nor anybody's for
//!   the many of somebody else (`many_modules_of_one_keep_nobody_elses_waiting`);
//! - a module is called by the manifest that was pushed (`a_module_is_called_by_the_manifest_that_was_pushed`).

mod compiling;
mod facts;
mod images;
mod missing_files;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_hub_api::images::Running;
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::blobs::Blobs;
use crate::collector::{self, Limits};
use crate::compile_queue::{CompileQueue, JobState, WorkerLane};
use crate::compiled::Compiled;
use crate::sign::{FleetRoot, Signer, unix_now};
use crate::state::Inner;
use crate::tags::Tags;
use crate::uploads::Uploads;
pub use facts::Facts;

/// Manifests whose module is validated at the same time.
const INSPECTIONS_AT_ONCE: usize = 2;

/// How long trouble that may pass is told before the compiler is tried again.
const COMPILE_RETRY_AFTER: Duration = Duration::from_secs(60);

/// How often unused files are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(60 * 60);

/// Where things are and what compiles.
pub struct Options {
    /// Folder of the registry.
    pub dir: PathBuf,
    /// The program that has the `compile-module` verb.
    pub compiler: PathBuf,
    /// The fleet's root key.
    pub root: FleetRoot,
    /// This is the first start: there never was a registry.
    pub may_make: bool,
}

/// The registry could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the module registry in {dir}")]
pub struct OpenError {
    /// Its folder.
    pub dir: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The hub's modules. Cheap to clone.
#[derive(Clone)]
pub struct Modules {
    pub(crate) inner: Arc<Inner>,
}

/// Where the compilation for one profile stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Others come first.
    Waiting,
    /// The compiler is at it.
    Compiling,
    /// It is there.
    Compiled,
    /// There will be none, and why.
    Failed(String),
}

impl Modules {
    /// Opens or makes the registry.
    ///
    /// # Errors
    /// When its folder cannot be read or written, is of another version, or what it named is lost.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let dir = options.dir.clone();
        Self::open_in(options).map_err(|source| OpenError { dir, source })
    }

    fn open_in(options: Options) -> io::Result<Self> {
        let Options { dir, compiler, root, may_make } = options;
        // First: who was there before is known by it.
        let tags = Tags::open(&dir, may_make)?;
        let blobs = Blobs::open(&dir)?;
        missing_files::report(&tags.book(), &blobs);
        let inner = Inner {
            blobs,
            uploads: Uploads::open(&dir)?,
            tags,
            compiled: Compiled::open(&dir)?,
            registering: RwLock::default(),
            inspections: Semaphore::new(INSPECTIONS_AT_ONCE),
            compiler,
            signer: Mutex::new(Arc::new(Signer::new(&root, unix_now())?)),
            root,
            hosts: OnceLock::new(),
            running: OnceLock::new(),
            changed: watch::Sender::new(0),
            profiles: Mutex::default(),
            queue: CompileQueue::new(),
            troubles: Mutex::default(),
            whole: tokio::sync::Mutex::default(),
            imports: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Whether a registry was made in this folder.
    #[must_use]
    pub fn is_there(dir: &Path) -> bool {
        Tags::is_there(dir)
    }

    /// These hosts before a `/` in an `image:` mean this registry.
    pub fn known_as(&self, hosts: impl IntoIterator<Item = String>) {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        // Who tells twice means the same: a hub's names are its own for its whole life.
        let _ = self.inner.hosts.set(hosts.collect());
    }

    /// Who moves a tag is told how many pods run what it stood for.
    pub fn ask_who_runs(&self, running: Arc<dyn Running>) {
        // Who tells twice means the same store.
        let _ = self.inner.running.set(running);
    }

    /// Compiles what stands in line, and gives back what nobody uses any more: now, and every hour until `stop`.
    pub async fn run_maintenance(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(COLLECT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let collecting = async {
            loop {
                tick.tick().await;
                self.collect().await;
            }
        };
        let (quick, any) = (
            self.compile_one_after_another(WorkerLane::Quick),
            self.compile_one_after_another(WorkerLane::Any),
        );
        // A run that is under way ends by itself, or with the process: every step of it is whole. A compiler
        // that is not waited for is killed.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            ((), (), ()) = async { tokio::join!(collecting, quick, any) } => {}
        }
    }

    async fn collect(&self) {
        let inner = self.inner.clone();
        let run =
            tokio::task::spawn_blocking(move || collector::collect(&inner, &Limits::USUAL)).await;
        match run.map_err(io::Error::other).and_then(|freed| freed) {
            Ok(freed) if freed == collector::Freed::default() => debug!("nothing to collect"),
            Ok(freed) => info!(
                blobs = freed.blobs,
                uploads = freed.uploads,
                compiled = freed.compiled,
                bytes = freed.bytes,
                "unused modules collected"
            ),
            Err(error) => {
                warn!(error = &error as &dyn std::error::Error, "unused modules are not collected");
            }
        }
    }

    /// Whether what an image's reference stands for is an HTTP handler; `None`: it is not in the registry.
    #[must_use]
    pub fn is_handler(&self, reference: &str) -> Option<bool> {
        let (repository, name) = self.inner.own(&reference.parse().ok()?).ok()?;
        self.inner.tags.get(&repository, &name)?.module.map(|module| module.handler)
    }

    /// Some tag stands for something else now: compile it for all known profiles and tell. A push is also a
    /// request to try again what failed.
    pub(crate) fn pushed(&self, component: Digest) {
        self.inner.changed.send_modify(|count| *count += 1);
        let profiles: Vec<Profile> = self.inner.profiles.lock().iter().copied().collect();
        self.inner.troubles.lock().retain(|(of, _), _| *of != component);
        for profile in profiles {
            let path = self.inner.compiled.path(&component, profile);
            if let Err(error) = self.inner.compiled.forget_failure(&path) {
                warn!(%component, %profile, %error, "a failure cannot be forgotten");
            }
            self.warm(component, profile);
        }
    }

    /// Somebody waits for this component to be compiled for every known profile: what is in line comes first.
    pub(crate) fn prioritize(&self, component: &Digest) {
        let profiles = self.inner.profiles.lock();
        profiles.iter().for_each(|profile| self.inner.queue.prioritize(&(*component, *profile)));
    }

    /// Where the compilation of a component stands, for every profile that a spoke has reported.
    #[must_use]
    pub fn progress(&self, component: &Digest) -> Vec<(Profile, Progress)> {
        let profiles: Vec<Profile> = self.inner.profiles.lock().iter().copied().collect();
        let with = |profile: Profile| {
            let job = (*component, profile);
            let path = self.inner.compiled.path(component, profile);
            let progress = match self.inner.queue.state_of(&job) {
                Some(JobState::Waiting) => Progress::Waiting,
                Some(JobState::Running) => Progress::Compiling,
                None if self.inner.compiled.note(&path).is_some() => Progress::Compiled,
                None => match self.inner.failed(&job, &path) {
                    Some(error) => Progress::Failed(error.to_string()),
                    None => Progress::Waiting,
                },
            };
            (profile, progress)
        };
        profiles.into_iter().map(with).collect()
    }

    /// Some tag stands for nothing any more.
    pub(crate) fn untagged(&self) {
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Puts a module in line ahead of its first use.
    fn warm(&self, component: Digest, profile: Profile) {
        let path = self.inner.compiled.path(&component, profile);
        if self.inner.compiled.note(&path).is_some() || self.inner.compiled.failure(&path).is_some()
        {
            return;
        }
        let size = self.inner.blobs.size(&component).unwrap_or_default();
        if !self.inner.queue.ahead((component, profile), size) {
            debug!(%component, "too much waits to be compiled; this module is when it is asked for");
        }
    }
}
