//! From a component to its compiled form, when it is its turn.
//!
//! Guarantees:
//! - what was compiled is handed out while its bytes are those that were made, also when the module's own file is lost
//!   (`a_damaged_artifact_is_compiled_again`, `what_is_compiled_is_had_though_its_module_is_lost`);
//! - a module whose file has rotted is set aside and told by the file's name
//!   (`a_module_that_rotted_is_mended_by_the_next_push`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use freewheel_hub_api::images::Tenants;
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use tracing::{info, warn};

use super::{COMPILE_RETRY_AFTER, Modules};
use crate::compile::{self, CompileError, Made};
use crate::compile_queue::{Job, WorkerLane};
use crate::compiled::Compiled;
use crate::durable::is_full;
use crate::state::Inner;

impl Modules {
    pub(super) async fn compile_one_after_another(&self, lane: WorkerLane) {
        loop {
            let job = self.inner.queue.next(lane).await;
            let outcome = self.compile(&job).await.map_err(Arc::new);
            if let Err(error) = &outcome {
                let (component, profile) = &job;
                warn!(%component, %profile, %error, "a module is not compiled");
                if !error.is_kept() {
                    let trouble = (Instant::now(), Arc::clone(error));
                    self.inner.troubles.lock().insert(job, trouble);
                }
            }
            self.inner.queue.finish(&job, outcome);
        }
    }

    /// The compiled form on disk, made when it is not there, in the turn of one of these.
    pub(super) async fn made(
        &self,
        component: &Digest,
        profile: Profile,
        tenants: Tenants<'_>,
    ) -> Result<(Made, PathBuf), Arc<CompileError>> {
        let inner = &self.inner;
        // The compiler makes code of its own version only.
        if !profile.is_current() {
            return Err(CompileError::Profile(profile).into());
        }
        let path = inner.compiled.path(component, profile);
        if let Some(made) = inner.whole(&path).await.map_err(CompileError::Hub)? {
            return Ok((made, path));
        }
        let job = (*component, profile);
        if let Some(error) = inner.failed(&job, &path) {
            return Err(error);
        }
        let size = inner.blobs.size(component);
        let size = size.ok_or_else(|| CompileError::Lost(inner.blobs.path(component)))?;
        // Thousands may ask for one, and who they are is not found out for nothing.
        let tenants = inner.queue.asks_who_waits(&job).then(tenants).unwrap_or_default();
        let mut outcome = inner.queue.ask(job, size, tenants);
        let stopping = |_| CompileError::Died("the hub is stopping".to_owned());
        let made = outcome.wait_for(Option::is_some).await.map_err(stopping)?.clone();
        Ok((made.ok_or_else(|| CompileError::Died("there is no outcome".to_owned()))??, path))
    }

    /// Compiles when it is a job's turn.
    async fn compile(&self, (component, profile): &Job) -> Result<Made, CompileError> {
        let inner = &self.inner;
        let profile = *profile;
        let path = inner.compiled.path(component, profile);
        // It may have been done between the look at the disk and the place in line.
        if let Some(made) = inner.whole(&path).await? {
            return Ok(made);
        }
        if let Some(error) = inner.compiled.failure(&path) {
            return Err(error);
        }
        // Minutes of work would end in the same way.
        inner.compiled.room.is_left().map_err(|error| match error {
            full if is_full(&full) => CompileError::Full,
            other => other.into(),
        })?;
        let file = inner.blobs.path(component);
        let order =
            compile::Order { profile, component: &file, digest: *component, artifact: &path };
        match compile::compile(&inner.compiler, order).await {
            Ok(made) => {
                inner.compiled.write_note(&path, &made)?;
                info!(%component, %profile, bytes = made.size, "module compiled");
                Ok(made)
            }
            Err(error) => {
                self.note(component, &path, &error).await;
                Err(error)
            }
        }
    }

    /// Remembers a failure, as far as the next try would meet it again.
    async fn note(&self, component: &Digest, path: &Path, error: &CompileError) {
        if let Err(error) = self.inner.compiled.write_failure(path, error) {
            warn!(%component, %error, "a failure is not kept");
        }
        if matches!(error, CompileError::Damaged(_)) {
            let (inner, component) = (self.inner.clone(), *component);
            let aside = tokio::task::spawn_blocking(move || inner.blobs.set_aside(&component));
            if let Err(error) = aside.await.map_err(io::Error::other).flatten() {
                warn!(%component, %error, "a damaged module cannot be set aside");
            }
        }
    }
}

impl Inner {
    /// The artifact that is there, if its bytes are those that were made: a damaged one would be refused by every
    /// spoke, again and again. Looked at once in a life of the hub.
    async fn whole(&self, path: &Path) -> io::Result<Option<Made>> {
        let Some(made) = self.compiled.note(path) else { return Ok(None) };
        let mut whole = self.whole.lock().await;
        if whole.contains(path) {
            return Ok(Some(made));
        }
        let (artifact, expected) = (path.to_path_buf(), made.clone());
        let look = tokio::task::spawn_blocking(move || Compiled::is_whole(&artifact, &expected));
        if look.await.map_err(io::Error::other)?? {
            whole.insert(path.to_path_buf());
            return Ok(Some(made));
        }
        warn!(path = %path.display(), "a compiled module is damaged; it is compiled again");
        if let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) {
            self.compiled.remove(stem)?;
        }
        Ok(None)
    }

    /// Why a job would fail again, as far as that is known.
    pub(super) fn failed(&self, job: &Job, path: &Path) -> Option<Arc<CompileError>> {
        if let Some(error) = self.compiled.failure(path) {
            return Some(Arc::new(error));
        }
        let mut troubles = self.troubles.lock();
        troubles.retain(|_, (met, _)| met.elapsed() < COMPILE_RETRY_AFTER);
        troubles.get(job).map(|(_, error)| Arc::clone(error))
    }
}
