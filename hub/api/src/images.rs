//! From an image reference to a module, as the rest of the hub sees it.

use std::path::PathBuf;

use async_trait::async_trait;
use freewheel_link::artifact::Envelope;
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use freewheel_link::profile::Profile;

/// Why an image cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ImageProblem {
    /// Container waiting reason: `ErrImagePull`, `InvalidImageName`, `ErrImageCompile`.
    pub reason: &'static str,
    /// For the user who reads `kubectl describe pod`.
    pub message: String,
}

/// What a reference stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Digest of the manifest: what a push prints and an `image:` may name.
    pub manifest: Digest,
    /// Digest of the module in it.
    pub component: Digest,
}

/// A compiled module, ready to be sent.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What the spoke verifies.
    pub envelope: Envelope,
    /// The zstd-compressed artifact on the hub's disk.
    pub path: PathBuf,
    /// Its compressed size in bytes.
    pub compressed: u64,
}

/// Whose pods wait for a module: those among whom the compilers are shared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tenant {
    /// A spoke's own cluster.
    Cluster(ClusterName),
    /// A namespace of the root, whose users share the fleet.
    Namespace(String),
}

/// Who waits for a module, found out when it has to be compiled.
pub type Tenants<'a> = &'a (dyn Fn() -> Vec<Tenant> + Send + Sync);

/// The hub's modules (hub-modules), as gateway and plan see them.
#[async_trait]
pub trait Images: Send + Sync {
    /// What a reference stands for now in the hub's own registry. Images of other registries answer
    /// `ErrImagePull` with what to do instead; [`Images::changed`] tells when to ask again.
    fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem>;
    /// A manifest of this image's repository that stands for this module: the image's own, if it does.
    fn manifest_of(&self, image: &str, component: &Digest) -> Option<Digest>;
    /// Counts up whenever an answer of `resolve` may have changed.
    fn changed(&self) -> tokio::sync::watch::Receiver<u64>;
    /// The artifact for a spoke's engine profile, compiled first when there is none: when it is the turn of one of
    /// these.
    async fn artifact(
        &self,
        component: &Digest,
        profile: Profile,
        tenants: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem>;
    /// While a component is compiled for a profile, or waits for its turn: its size in bytes.
    fn compiling(&self, component: &Digest, profile: Profile) -> Option<u64>;
    /// A spoke with this profile has come: compile what is pushed for it too.
    fn note_profile(&self, profile: Profile);
}

/// Who runs a build.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    /// Pods that run it or are to.
    pub pods: usize,
    /// ReplicaSets, ControllerRevisions and Jobs without such a pod that keep it, and run it again when they get pods.
    pub without_pods: usize,
    /// What to type so that they run another one.
    pub restarts: Vec<String>,
    /// Of the pods, those for which nothing can be typed: they have to be made anew, with their Job or set if they have
    /// one.
    pub loose: usize,
}

/// The hub's pods and what makes them, as the registry sees them.
pub trait Running: Send + Sync {
    /// Who runs this manifest, or will, as one of the images that `names` knows.
    fn users(&self, manifest: &Digest, names: &dyn Fn(&str) -> bool) -> Users;
}
