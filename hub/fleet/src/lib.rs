//! Which clusters of the fleet are chosen for what, as Open Cluster Management does it: pure. No I/O, no clock.
//!
//! ```text
//! cluster       what is read of a ManagedCluster
//! cluster_set   which clusters are in a ManagedClusterSet
//! placement     what a Placement asks for
//! selector      labels, claims and CEL that clusters have to match
//! asked_scores  what add-ons say of a cluster, for CEL
//! toleration    taints, and who puts up with them
//! prioritizer   scores and their weights
//! spread        not too many from one place
//! share         a percentage of them
//! schedule      filters, scores, selects
//! refusals      why others are not chosen
//! decisions     who was chosen, in groups and in PlacementDecisions
//! add_on        by what add-ons are set up, and what their templates come to
//! go_json       JSON as Go writes it
//! work          what a ManifestWork asks for, and what is said of it
//! rollout       in which order, and how far
//! satisfaction  what is said of all that in conditions
//! ```
//!
//! Guarantees:
//! - the same clusters, placement and earlier decisions give the same decisions (`equal_scores_are_broken_by_the_name`);
//! - what cannot be understood chooses nobody and says why (`what_is_misconfigured_chooses_nobody`).

pub mod add_on;
pub mod asked_scores;
pub mod cluster;
pub mod cluster_set;
pub mod decisions;
pub mod go_json;
pub mod placement;
pub mod prioritizer;
pub mod refusals;
pub mod rollout;
pub mod satisfaction;
pub mod schedule;
pub mod selector;
mod share;
pub mod spread;
pub mod toleration;
pub mod work;

pub use cluster::Cluster;
pub use cluster_set::ClusterSet;
pub use placement::Placement;
pub use schedule::{Schedule, World, schedule};

/// Why a Placement cannot be acted on as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{plugin}:{why}")]
pub struct Misconfigured {
    /// What refuses it: `Predicate`, `TaintToleration`; empty where it is the Placement as a whole.
    pub plugin: &'static str,
    /// What is wrong.
    pub why: String,
}

impl Misconfigured {
    pub(crate) fn new(plugin: &'static str, why: impl Into<String>) -> Self {
        Self { plugin, why: why.into() }
    }
}
