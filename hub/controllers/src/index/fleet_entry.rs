//! What is read of clusters and of who has chosen them, once per version.

use std::sync::{Arc, OnceLock};

use freewheel_hub_api::conditions::CLUSTER_AVAILABLE;
use freewheel_hub_api::maintenance_window::MAINTENANCE_WINDOW;
use freewheel_hub_fleet::Cluster;
use freewheel_hub_store::Stored;
use freewheel_link::digest::Digest;
use jiff::Timestamp;
use serde_json::Value;
use tracing::warn;

use super::IndexTerm;
use super::entry::Entry;

/// Label of a PlacementDecision: whose it is.
pub(crate) const PLACEMENT_LABEL: &str = "cluster.open-cluster-management.io/placement";

/// A ManagedCluster.
#[derive(Debug)]
pub struct ClusterEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
    facts: OnceLock<Cluster>,
    openness: OnceLock<Openness>,
}

/// Whether a ManagedCluster may be given something new. It is not chosen by that.
#[derive(Debug)]
pub struct Openness {
    /// It is heard of.
    pub available: bool,
    /// Its maintenance window, as it says it.
    pub window: Option<String>,
}

impl ClusterEntry {
    /// Whether it may be given something new, read at the first call.
    pub fn openness(&self) -> &Openness {
        self.openness.get_or_init(|| {
            let object = self.stored.object.value().unwrap_or_default();
            let window = object["metadata"]["annotations"][MAINTENANCE_WINDOW].as_str();
            Openness {
                available: CLUSTER_AVAILABLE.holds(&object),
                window: window.map(str::to_owned),
            }
        })
    }

    /// What it is chosen by, read at the first call.
    pub fn facts(&self) -> &Cluster {
        self.facts.get_or_init(|| read_cluster(&self.stored))
    }
}

/// What a ManagedCluster is chosen by. What is stored is one: it went through the pipeline.
pub(crate) fn read_cluster(stored: &Stored) -> Cluster {
    Cluster::read(&stored.object.body).unwrap_or_else(|error| {
        warn!(cluster = %stored.key.name, %error, "a stored ManagedCluster cannot be read");
        Cluster { name: stored.key.name.to_string(), deleting: true, ..Cluster::default() }
    })
}

impl Entry for ClusterEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored, facts: OnceLock::new(), openness: OnceLock::new() }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        name(IndexTerm::Any);
        for (key, value) in &self.stored.object.header.labels {
            name(IndexTerm::Label(&self.stored.key.cluster, "", key, value));
        }
    }
}

/// Label of a ManifestWork: the ManifestWorkReplicaSet that it is of.
pub(crate) const WORK_SET_LABEL: &str = "work.open-cluster-management.io/manifestworkreplicaset";

/// Label of a ManifestWork of a set: the Placement that has chosen its cluster.
pub(crate) const WORK_PLACEMENT_LABEL: &str = "work.open-cluster-management.io/placementname";
/// Annotation of a ManifestWork of a set: when it was given what it asks for now, and the digest of that, as the set says
/// it: admission may make another of it.
pub(crate) const GIVEN_ANNOTATION: &str = "freewheel.dev/given";

/// A ManifestWork of a set.
#[derive(Debug)]
pub struct WorkEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
    facts: OnceLock<WorkFacts>,
}

/// What a set wants to know of a work. What it applies is as large as works may be, and of no interest but for whether it
/// is the same.
#[derive(Debug)]
pub struct WorkFacts {
    /// The Placement that it is of.
    pub placement: String,
    /// Digest of its spec.
    pub spec: Digest,
    /// The generation of that.
    pub generation: i64,
    /// When it was given that.
    pub given: Option<Timestamp>,
    /// Its conditions that are asked for.
    pub conditions: Vec<WorkCondition>,
}

/// A condition of a work.
#[derive(Debug)]
pub struct WorkCondition {
    /// `Applied`, `Available`, `Progressing`, `Degraded`
    pub kind: &'static str,
    /// Whether it is `True`.
    pub holds: bool,
    /// Whether it is `False`.
    pub fails: bool,
    /// The generation that it is about.
    pub observed: Option<i64>,
    /// Since when it is so.
    pub since: Option<Timestamp>,
}

/// Digest of a work's spec.
pub(crate) fn spec_digest(spec: &Value) -> Digest {
    Digest::of(spec.to_string().as_bytes())
}

/// When [`GIVEN_ANNOTATION`] says that it was given.
fn given_at(annotation: &str) -> Option<Timestamp> {
    annotation.split(' ').next()?.parse().ok()
}

impl WorkFacts {
    /// Of the object.
    pub(crate) fn read(work: &Value) -> Self {
        let meta = &work["metadata"];
        let time = |it: &Value| it.as_str().and_then(|it| it.parse().ok());
        let condition = |kind: &'static str| {
            let mut all = work["status"]["conditions"].as_array().into_iter().flatten();
            let found = all.find(|it| it["type"] == kind)?;
            Some(WorkCondition {
                kind,
                holds: found["status"] == "True",
                fails: found["status"] == "False",
                observed: found["observedGeneration"].as_i64(),
                since: time(&found["lastTransitionTime"]),
            })
        };
        let kinds = ["Applied", "Available", "Progressing", "Degraded"];
        Self {
            placement: meta["labels"][WORK_PLACEMENT_LABEL].as_str().unwrap_or_default().to_owned(),
            spec: spec_digest(&work["spec"]),
            generation: meta["generation"].as_i64().unwrap_or_default(),
            given: meta["annotations"][GIVEN_ANNOTATION].as_str().and_then(given_at),
            conditions: kinds.into_iter().filter_map(condition).collect(),
        }
    }

    /// Its condition of this type.
    pub fn condition(&self, kind: &str) -> Option<&WorkCondition> {
        self.conditions.iter().find(|it| it.kind == kind)
    }
}

impl WorkEntry {
    /// What a set wants to know of it, read at the first call.
    pub fn facts(&self) -> &WorkFacts {
        self.facts.get_or_init(|| WorkFacts::read(&self.stored.object.value().unwrap_or_default()))
    }

    /// The cluster that it is for.
    pub fn cluster(&self) -> &str {
        &self.stored.key.namespace
    }
}

impl Entry for WorkEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored, facts: OnceLock::new() }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        if let Some(set) = self.stored.object.header.labels.get(WORK_SET_LABEL) {
            name(IndexTerm::Label(&self.stored.key.cluster, "", WORK_SET_LABEL, set));
        }
    }
}

/// A ManagedClusterAddOn, which is found by its name in whatever namespace.
#[derive(Debug)]
pub struct AddOnEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
}

/// By what a ManagedClusterAddOn is found: the name that it has on each cluster.
pub(crate) const ADD_ON_NAME: &str = "metadata.name";

impl Entry for AddOnEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        let key = &self.stored.key;
        name(IndexTerm::Label(&key.cluster, "", ADD_ON_NAME, &key.name));
    }
}

/// Label of what the agent of an add-on was given: the add-on.
pub(crate) const AGENT_ADD_ON_LABEL: &str = "open-cluster-management.io/addon-name";
/// Label of the same: the cluster that it is on. It is ours, so that nothing of anybody else's is taken for that.
pub(crate) const AGENT_CLUSTER_LABEL: &str = "freewheel.dev/agent-cluster";
/// Label of the same: for whom it was made where it is, so that a copy of it is not taken for that.
pub(crate) const AGENT_GRANT_LABEL: &str = "freewheel.dev/agent-grant";

/// What the agent of an add-on was given: a Secret in its cluster, or a RoleBinding in the root.
#[derive(Debug)]
pub struct AgentGrant {
    /// The stored object.
    pub stored: Arc<Stored>,
}

/// The cluster and the add-on whose agent was given this, as its labels say.
pub(crate) fn granted_to(stored: &Stored) -> Option<(&str, &str)> {
    let label = |key: &str| stored.object.header.labels.get(key).map(String::as_str);
    Some((label(AGENT_CLUSTER_LABEL)?, label(AGENT_ADD_ON_LABEL)?))
}

impl Entry for AgentGrant {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        if let Some((cluster, add_on)) = granted_to(&self.stored) {
            name(IndexTerm::Granted(&self.stored.key.cluster, cluster, add_on));
        }
    }
}

/// A PlacementDecision.
#[derive(Debug)]
pub struct DecisionEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
    clusters: OnceLock<Vec<String>>,
}

impl DecisionEntry {
    /// Whose decision it is.
    pub fn placement(&self) -> (&str, &str) {
        let own = self.stored.object.header.labels.get(PLACEMENT_LABEL);
        (&self.stored.key.namespace, own.map(String::as_str).unwrap_or_default())
    }

    /// Whether this very Placement has made it, and not another one of its name.
    pub fn is_of(&self, placement: &Stored) -> bool {
        let header = &self.stored.object.header;
        self.stored.key.namespace == placement.key.namespace
            && header.owners.iter().any(|owner| owner.uid == placement.object.header.uid)
    }

    /// Clusters that are chosen in it, read at the first call.
    pub fn clusters(&self) -> &[String] {
        self.clusters.get_or_init(|| {
            let object = self.stored.object.value().unwrap_or_default();
            let all = object["status"]["decisions"].as_array().into_iter().flatten();
            all.filter_map(|one| one["clusterName"].as_str().map(str::to_owned)).collect()
        })
    }
}

impl Entry for DecisionEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored, clusters: OnceLock::new() }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        name(IndexTerm::Any);
        let (namespace, placement) = self.placement();
        name(IndexTerm::Label(&self.stored.key.cluster, namespace, PLACEMENT_LABEL, placement));
    }
}
