//! Names by which the hub's API knows groups and devices, wherever one is said: in certificates, in rights, in what is
//! written about writers.

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of all nodes.
pub const NODES: &str = "system:nodes";
/// How the user's name of a node begins; the node's name follows.
pub const NODE_PREFIX: &str = "system:node:";

/// How the names of spokes' agents and of their groups begin at the API: the cluster's name follows.
pub const AGENT_PREFIX: &str = "system:open-cluster-management:";
