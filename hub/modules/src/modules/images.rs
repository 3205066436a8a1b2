//! What an image stands for, and its artifact for a spoke.

use async_trait::async_trait;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use tokio::sync::watch;

use super::Modules;
use crate::compile::CompileError;
use crate::reference::Reference;
use crate::state::Inner;

/// Profiles that are compiled for at a push; more would let strangers fill the disk.
const MAX_PROFILES: usize = 64;

/// Tags that a message names.
const TAGS_NAMED_MAX: usize = 20;

#[async_trait]
impl Images for Modules {
    fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem> {
        let problem = |reason, message: String| ImageProblem { reason, message };
        let parsed: Reference =
            reference.parse().map_err(|e| problem("InvalidImageName", format!("{e}")))?;
        let (repository, name) = self.inner.own(&parsed).map_err(|host| {
            let Reference { repository, tag, .. } = &parsed;
            problem(
                "ErrImagePull",
                format!(
                    "{reference:?} is in the registry {host}, and this hub serves modules from its own registry only: \
                     push the module with `hub push FILE.wasm {repository}:{tag}` and use that name"
                ),
            )
        })?;
        let found = self.inner.tags.get(&repository, &name);
        if found.as_ref().is_some_and(|found| found.module.is_none()) {
            let text = format!(
                "{reference:?} is no module: it says something of another one, as a signature does"
            );
            return Err(problem("ErrImagePull", text));
        }
        let found = found.and_then(|found| {
            let (manifest, component) = (found.digest.parse().ok()?, found.component()?);
            Some(Resolved { manifest, component })
        });
        found.ok_or_else(|| {
            let hint = self.inner.hint(&parsed);
            problem(
                "ErrImagePull",
                format!("module {reference:?} is not in the hub's registry: {hint}"),
            )
        })
    }

    fn manifest_of(&self, image: &str, component: &Digest) -> Option<Digest> {
        let (repository, name) = self.inner.own(&image.parse().ok()?).ok()?;
        self.inner.tags.manifest_of(&repository, &name, component)
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.inner.changed.subscribe()
    }

    async fn artifact(
        &self,
        component: &Digest,
        profile: Profile,
        tenants: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        let problem = |error: &CompileError| ImageProblem {
            reason: "ErrImageCompile",
            message: error.to_string(),
        };
        // Of one that is lost there may still be what was compiled.
        if self.inner.blobs.size(component).is_none() && !self.inner.tags.book().names(component) {
            let message = format!("the hub has no component {component}");
            return Err(ImageProblem { reason: "ErrImagePull", message });
        }
        let (made, path) = self.made(component, profile, tenants).await.map_err(|e| problem(&e))?;
        let digest: Digest = made
            .digest
            .parse()
            .map_err(|_| problem(&CompileError::Died("a digest is unreadable".into())))?;
        let compressed =
            std::fs::metadata(&path).map_err(|e| problem(&CompileError::Hub(e)))?.len();
        let envelope = self.inner.signer().sign(*component, profile, made.build, digest, made.size);
        Ok(Artifact { envelope, path, compressed })
    }

    fn compiling(&self, component: &Digest, profile: Profile) -> Option<u64> {
        self.inner.queue.state_of(&(*component, profile))?;
        self.inner.blobs.size(component)
    }

    fn note_profile(&self, profile: Profile) {
        let fresh = {
            let mut profiles = self.inner.profiles.lock();
            profiles.len() < MAX_PROFILES && profile.is_current() && profiles.insert(profile)
        };
        if fresh {
            for component in self.inner.tags.book().tagged() {
                self.warm(component, profile);
            }
        }
    }
}

impl Inner {
    /// What somebody may do about a module that is not here.
    fn hint(&self, missing: &Reference) -> String {
        let Reference { repository, tag, digest, .. } = missing;
        if digest.is_some() {
            return "push that build. Where `image:` has a tag, pods take what the tag stands for now when they are made anew \
                    with what makes them: of a Deployment, a StatefulSet or a DaemonSet by `kubectl rollout restart`"
                .to_owned();
        }
        let tags = self.tags.list(repository).unwrap_or_default();
        if tags.is_empty() {
            return format!("push it with `hub push FILE.wasm {repository}:{tag}`");
        }
        let more = tags.len().saturating_sub(TAGS_NAMED_MAX);
        let mut text = tags.iter().take(TAGS_NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
        if 0 < more {
            text = format!("{text} and {more} more");
        }
        format!("the registry has {repository} with the tags {text}")
    }

    /// The name in this registry, and the tag or digest in it; `Err` with the host that it is in else.
    pub(crate) fn own(&self, reference: &Reference) -> Result<(String, String), String> {
        if let Some(host) = reference.host.as_ref().filter(|host| !self.is_own(host)) {
            return Err(host.clone());
        }
        let name = reference.digest.map_or_else(|| reference.tag.clone(), |d| d.to_string());
        Ok((reference.repository.clone(), name))
    }

    fn is_own(&self, host: &str) -> bool {
        self.hosts.get().is_some_and(|own| own.contains(&host.to_ascii_lowercase()))
    }
}
