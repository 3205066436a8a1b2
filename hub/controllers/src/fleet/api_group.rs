//! API groups of Open Cluster Management.

/// Of clusters, sets and placements.
pub(super) const CLUSTER_GROUP: &str = "cluster.open-cluster-management.io";
