//! The fleet as Open Cluster Management has it: sets of clusters, and which of them placements choose.
//!
//! ```text
//! cluster_roles  what the agent of each accepted cluster may do at the hub
//! claims         what clusters tell of themselves
//! cluster_profiles  clusters where namespaces are bound to them, for tools of SIG Multicluster
//! cluster_sets   the sets `default` and `global`, and whether anybody is in a set
//! set_bindings   whether what a namespace is bound to is there
//! reported_once  what was told of an object last
//! taints         what keeps placements away from clusters that are not heard of
//! managed_namespaces  namespaces that are to be there on each cluster of a set
//! namespaces     a namespace of the root for each accepted cluster
//! selection      which sets there are, and who is in them
//! placements     Placements to PlacementDecisions
//! multicluster_decisions  the same, for tools of SIG Multicluster
//! choice         whom a Placement has chosen, as soon as that is whole
//! plan           what Placements and ManifestWorkReplicaSets would do, for who asks in a dry run
//! works          ManifestWorks to what they say, in their clusters
//! work_sets      ManifestWorkReplicaSets to ManifestWorks
//! add_ons        ClusterManagementAddOns to ManagedClusterAddOns, and those to ManifestWorks
//! ```

mod add_ons;
mod api_group;
mod choice;
mod claims;
mod cluster_profiles;
mod cluster_roles;
mod cluster_sets;
mod managed_namespaces;
mod multicluster_decisions;
mod namespaces;
mod placements;
mod plan;
mod reported_once;
mod selection;
mod set_bindings;
mod taints;
mod work_sets;
mod works;

pub use add_ons::{AddOnFeatures, AddOnInstances, AddOns, HubAccess};
pub use claims::ClusterClaims;
pub use cluster_profiles::ClusterProfiles;
pub use cluster_roles::ClusterRoles;
pub(crate) use cluster_roles::RoleKinds;
pub use cluster_sets::ClusterSets;
pub use managed_namespaces::ManagedNamespaces;
pub use multicluster_decisions::MulticlusterDecisions;
pub use namespaces::ClusterNamespaces;
pub(crate) use namespaces::is_of_cluster;
pub use placements::Placements;
pub use plan::{ModuleFacts, ModuleLookup, RolloutPlans};
pub use set_bindings::SetBindings;
pub use taints::ClusterTaints;
pub use work_sets::WorkSets;
pub use works::Works;
