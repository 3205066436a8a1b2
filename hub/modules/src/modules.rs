//! All together: what an image stands for, and its artifact for a spoke.
//!
//! Guarantees: a spoke that waits for a module waits for no more than the compilation that is under way and
//! one per known profile: what is compiled ahead of time stands in line once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images};
use freewheel_link::digest::Digest;
use freewheel_spoke_engine::Profile;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::blobs::Blobs;
use crate::collector::{self, Limits};
use crate::compile::{self, CompileError, Made};
use crate::compiled::Compiled;
use crate::reference::Reference;
use crate::sign::{FleetRoot, Signer, unix_now};
use crate::tags::Tags;
use crate::uploads::Uploads;

/// Profiles that are compiled for at a push; more would let strangers fill the disk.
const MAX_PROFILES: usize = 64;

/// Manifests whose module is validated at the same time.
const INSPECTIONS: usize = 2;

/// How often unused files are looked for.
const COLLECT_EVERY: Duration = Duration::from_secs(60 * 60);

/// Where things are and what compiles.
pub struct Options {
    /// Folder of the registry.
    pub dir: PathBuf,
    /// The program that has the `compile-module` verb: [`compile::this_program`].
    pub compiler: PathBuf,
    /// The fleet's root key.
    pub root: FleetRoot,
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

pub(crate) struct Inner {
    pub(crate) blobs: Blobs,
    pub(crate) uploads: Uploads,
    pub(crate) tags: Tags,
    pub(crate) compiled: Compiled,
    /// Held for reading while a manifest comes, for writing while a blob is deleted by hand.
    pub(crate) registering: RwLock<()>,
    pub(crate) inspections: Semaphore,
    compiler: PathBuf,
    root: FleetRoot,
    signer: Mutex<Arc<Signer>>,
    /// What this registry is called by those who write its host.
    hosts: OnceLock<BTreeSet<String>>,
    changed: watch::Sender<u64>,
    profiles: Mutex<BTreeSet<String>>,
    /// What cannot be compiled stays so until this hub's compiler changes.
    refused: Mutex<BTreeMap<(Digest, String), String>>,
    /// One compiler at a time: it uses every core already.
    turn: Semaphore,
}

impl Modules {
    /// Opens or makes the registry.
    ///
    /// # Errors
    /// When its folder cannot be read or written, or is of a newer version.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let dir = options.dir.clone();
        Self::open_in(options).map_err(|source| OpenError { dir, source })
    }

    fn open_in(options: Options) -> io::Result<Self> {
        let Options { dir, compiler, root } = options;
        let inner = Inner {
            blobs: Blobs::open(&dir)?,
            uploads: Uploads::open(&dir)?,
            tags: Tags::open(&dir)?,
            compiled: Compiled::open(&dir)?,
            registering: RwLock::default(),
            inspections: Semaphore::new(INSPECTIONS),
            compiler,
            signer: Mutex::new(Arc::new(Signer::new(&root, unix_now())?)),
            root,
            hosts: OnceLock::new(),
            changed: watch::Sender::new(0),
            profiles: Mutex::default(),
            refused: Mutex::default(),
            turn: Semaphore::new(1),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// These hosts before a `/` in an `image:` mean this registry.
    pub fn known_as(&self, hosts: impl IntoIterator<Item = String>) {
        let hosts = hosts.into_iter().map(|host| host.to_ascii_lowercase());
        // Who tells twice means the same: a hub's names are its own for its whole life.
        let _ = self.inner.hosts.set(hosts.collect());
    }

    /// Gives back what nobody uses any more: now, and every hour until `stop`.
    pub async fn tend(&self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(COLLECT_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let work = async {
            loop {
                tick.tick().await;
                self.collect().await;
            }
        };
        // A run that is under way ends by itself, or with the process: every step of it is whole.
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = work => {}
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

    /// Some tag stands for something else now: compile it for all known profiles and tell.
    pub(crate) fn pushed(&self, component: Digest) {
        self.inner.changed.send_modify(|count| *count += 1);
        let profiles: Vec<String> = self.inner.profiles.lock().iter().cloned().collect();
        for profile in profiles {
            self.warm(vec![component], profile);
        }
    }

    /// Some tag stands for nothing any more.
    pub(crate) fn untagged(&self) {
        self.inner.changed.send_modify(|count| *count += 1);
    }

    /// Compiles ahead of the first use, one after the other; a failure is kept and told to whoever asks for it.
    fn warm(&self, components: Vec<Digest>, profile: String) {
        let modules = self.clone();
        tokio::spawn(async move {
            for component in components {
                if let Err(error) = modules.made(&component, &profile).await {
                    warn!(%component, profile, %error, "module cannot be compiled ahead of time");
                }
            }
        });
    }

    /// The compiled form on disk, made when it is not there.
    async fn made(
        &self,
        component: &Digest,
        profile: &str,
    ) -> Result<(Made, PathBuf), CompileError> {
        let inner = &self.inner;
        // The profile becomes part of a path, and the compiler makes code of its own version only.
        Profile::parse(profile)
            .ok()
            .filter(Profile::is_current)
            .ok_or_else(|| CompileError::Profile(profile.to_owned()))?;
        let path = inner.compiled.path(component, profile);
        if let Some(made) = inner.compiled.note(&path) {
            return Ok((made, path));
        }
        let _turn = inner
            .turn
            .acquire()
            .await
            .map_err(|_| CompileError::Died("the hub is stopping".into()))?;
        if let Some(made) = inner.compiled.note(&path) {
            return Ok((made, path));
        }
        let known = (*component, profile.to_owned());
        if let Some(text) = inner.refused.lock().get(&known) {
            return Err(CompileError::Refused(text.clone()));
        }
        match compile::compile(&inner.compiler, &inner.blobs.path(component), &path, profile).await
        {
            Ok(made) => {
                inner.compiled.write_note(&path, &made)?;
                info!(%component, profile, bytes = made.size, "module compiled");
                Ok((made, path))
            }
            Err(CompileError::Refused(text)) => {
                inner.refused.lock().insert(known, text.clone());
                Err(CompileError::Refused(text))
            }
            Err(error) => Err(error),
        }
    }
}

impl Inner {
    /// The key that signs now.
    fn signer(&self) -> Arc<Signer> {
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

    fn is_own(&self, host: &str) -> bool {
        self.hosts.get().is_some_and(|own| own.contains(&host.to_ascii_lowercase()))
    }

    /// Refusals of components that are not here any more.
    pub(crate) fn forget_refusals(&self) {
        self.refused.lock().retain(|(component, _), _| self.blobs.size(component).is_some());
    }
}

#[async_trait]
impl Images for Modules {
    fn resolve(&self, reference: &str) -> Result<Digest, ImageProblem> {
        let problem = |reason, message: String| ImageProblem { reason, message };
        let parsed: Reference =
            reference.parse().map_err(|e| problem("InvalidImageName", format!("{e}")))?;
        if let Some(host) = parsed.host.as_ref().filter(|host| !self.inner.is_own(host)) {
            return Err(problem(
                "ErrImagePull",
                format!(
                    "{reference:?} is in the registry {host}, and this hub serves modules from its own registry only: \
                     push the module with `hub push FILE.wasm {}:{}` and use that name",
                    parsed.repository, parsed.tag
                ),
            ));
        }
        let name = parsed.digest.map_or_else(|| parsed.tag.clone(), |digest| digest.to_string());
        let found = self
            .inner
            .tags
            .get(&parsed.repository, &name)
            .and_then(|manifest| manifest.component.parse().ok());
        found.ok_or_else(|| {
            let tags = self.inner.tags.list(&parsed.repository).unwrap_or_default();
            let hint = if tags.is_empty() {
                format!("push it with `hub push FILE.wasm {}:{}`", parsed.repository, parsed.tag)
            } else {
                format!("the registry has {} with the tags {}", parsed.repository, tags.join(", "))
            };
            problem(
                "ErrImagePull",
                format!("module {reference:?} is not in the hub's registry: {hint}"),
            )
        })
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    async fn artifact(&self, component: &Digest, profile: &str) -> Result<Artifact, ImageProblem> {
        let problem = |error: &CompileError| ImageProblem {
            reason: "ErrImageCompile",
            message: error.to_string(),
        };
        if self.inner.blobs.size(component).is_none() {
            let message = format!("the hub has no component {component}");
            return Err(ImageProblem { reason: "ErrImagePull", message });
        }
        let (made, path) = self.made(component, profile).await.map_err(|e| problem(&e))?;
        let digest: Digest = made
            .digest
            .parse()
            .map_err(|_| problem(&CompileError::Died("a digest is unreadable".into())))?;
        let compressed =
            std::fs::metadata(&path).map_err(|e| problem(&CompileError::Hub(e)))?.len();
        let envelope = self.inner.signer().sign(*component, profile, made.build, digest, made.size);
        Ok(Artifact { envelope, path, compressed })
    }

    fn note_profile(&self, profile: &str) {
        let fresh = {
            let mut profiles = self.inner.profiles.lock();
            profiles.len() < MAX_PROFILES
                && Profile::parse(profile).is_ok_and(|profile| profile.is_current())
                && profiles.insert(profile.to_owned())
        };
        if fresh {
            let components = self.inner.tags.book().tagged().into_iter().collect();
            self.warm(components, profile.to_owned());
        }
    }
}
