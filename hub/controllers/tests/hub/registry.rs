//! A registry in which every push is a build of its own.

use std::collections::BTreeMap;

use async_trait::async_trait;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Knows every image but `gone:*`, by the build that was pushed last.
pub struct Registry {
    builds: Mutex<BTreeMap<String, &'static str>>,
    changed: watch::Sender<u64>,
}

impl Default for Registry {
    fn default() -> Self {
        Self { builds: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Registry {
    /// From now on an image stands for this build, whose manifest it answers.
    pub fn push(&self, image: &str, build: &'static str) -> Digest {
        self.builds.lock().insert(image.to_owned(), build);
        self.changed.send_modify(|count| *count += 1);
        Digest::of(format!("{image} {build}").as_bytes())
    }
}

#[async_trait]
impl Images for Registry {
    fn resolve(&self, image: &str) -> Result<Resolved, ImageProblem> {
        let build = self.builds.lock().get(image).copied();
        if build.is_none() && image.starts_with("gone") {
            return Err(ImageProblem { reason: "ErrImagePull", message: "gone".to_owned() });
        }
        let manifest = Digest::of(format!("{image} {}", build.unwrap_or_default()).as_bytes());
        Ok(Resolved { manifest, component: Digest::of(&manifest.0) })
    }

    fn manifest_of(&self, _: &str, _: &Digest) -> Option<Digest> {
        None
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn artifact(
        &self,
        _: &Digest,
        _: Profile,
        _: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        Err(ImageProblem { reason: "ErrImagePull", message: "not asked for here".to_owned() })
    }

    fn compiling(&self, _: &Digest, _: Profile) -> Option<u64> {
        None
    }

    fn note_profile(&self, _: Profile) {}
}
