//! API groups of Open Cluster Management.

/// Of add-ons.
pub(super) const ADD_ON_GROUP: &str = "addon.open-cluster-management.io";
/// Of clusters, sets and placements.
pub(super) const CLUSTER_GROUP: &str = "cluster.open-cluster-management.io";
/// Of works.
pub(super) const WORK_GROUP: &str = "work.open-cluster-management.io";
