//! All together: what an image stands for, and its artifact for a spoke.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images};
use freewheel_link::digest::Digest;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tracing::{info, warn};

use crate::blobs::{Blobs, replace};
use crate::compile::{self, BUILD, CompileError, Made};
use crate::reference::Reference;
use crate::sign::{FleetRoot, Signer};
use crate::tags::Tags;

/// Profiles that are compiled for at a push; more would let strangers fill the disk.
const MAX_PROFILES: usize = 64;

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
    pub(crate) tags: Tags,
    compiled: PathBuf,
    compiler: PathBuf,
    signer: Signer,
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
        let compiled = dir.join("compiled");
        std::fs::create_dir_all(&compiled)?;
        let inner = Inner {
            blobs: Blobs::open(&dir)?,
            tags: Tags::open(&dir)?,
            compiled,
            compiler,
            signer: Signer::new(&root)?,
            changed: watch::Sender::new(0),
            profiles: Mutex::default(),
            refused: Mutex::default(),
            turn: Semaphore::new(1),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Some tag stands for something else now: compile it for all known profiles and tell.
    pub(crate) fn pushed(&self, component: Digest) {
        self.inner.changed.send_modify(|count| *count += 1);
        let profiles: Vec<String> = self.inner.profiles.lock().iter().cloned().collect();
        for profile in profiles {
            self.warm(component, profile);
        }
    }

    /// Compiles ahead of the first use; a failure is kept and told to whoever asks for it.
    fn warm(&self, component: Digest, profile: String) {
        let modules = self.clone();
        tokio::spawn(async move {
            if let Err(error) = modules.made(&component, &profile).await {
                warn!(%component, profile, %error, "module cannot be compiled ahead of time");
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
        // The profile becomes part of a path: only what the engine knows may.
        freewheel_spoke_engine::Profile::parse(profile)
            .map_err(|_| CompileError::Profile(profile.to_owned()))?;
        let path = inner.compiled.join(format!("{}-{profile}-{BUILD}.zst", component.hex()));
        let note = path.with_extension("json");
        if let Some(made) = read_note(&note, &path) {
            return Ok((made, path));
        }
        let _turn = inner
            .turn
            .acquire()
            .await
            .map_err(|_| CompileError::Died("the hub is stopping".into()))?;
        if let Some(made) = read_note(&note, &path) {
            return Ok((made, path));
        }
        let known = (*component, profile.to_owned());
        if let Some(text) = inner.refused.lock().get(&known) {
            return Err(CompileError::Refused(text.clone()));
        }
        match compile::compile(&inner.compiler, &inner.blobs.path(component), &path, profile).await
        {
            Ok(made) => {
                replace(&note, &serde_json::to_vec(&made).map_err(io::Error::other)?)?;
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

fn read_note(note: &Path, artifact: &Path) -> Option<Made> {
    // The note is written after the artifact, so it never speaks of one that is not there; somebody may
    // have tidied up by hand, though.
    let made = serde_json::from_slice(&std::fs::read(note).ok()?).ok()?;
    artifact.exists().then_some(made)
}

#[async_trait]
impl Images for Modules {
    fn resolve(&self, reference: &str) -> Result<Digest, ImageProblem> {
        let problem = |reason, message: String| ImageProblem { reason, message };
        let parsed: Reference =
            reference.parse().map_err(|e| problem("InvalidImageName", format!("{e}")))?;
        if let Some(host) = &parsed.host {
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
        let envelope = self.inner.signer.sign(*component, profile, made.build, digest, made.size);
        Ok(Artifact { envelope, path, compressed })
    }

    fn note_profile(&self, profile: &str) {
        let fresh = {
            let mut profiles = self.inner.profiles.lock();
            profiles.len() < MAX_PROFILES
                && freewheel_spoke_engine::Profile::parse(profile).is_ok()
                && profiles.insert(profile.to_owned())
        };
        if fresh {
            for component in self.inner.tags.components() {
                self.warm(component, profile.to_owned());
            }
        }
    }
}
