//! What is read of clusters and of who has chosen them, once per version.

use std::sync::{Arc, OnceLock};

use freewheel_hub_fleet::Cluster;
use freewheel_hub_store::Stored;
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
}

impl ClusterEntry {
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
        Self { stored, facts: OnceLock::new() }
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

/// A ManifestWork of a set.
#[derive(Debug)]
pub struct WorkEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
}

impl Entry for WorkEntry {
    fn read(stored: Arc<Stored>) -> Self {
        Self { stored }
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
