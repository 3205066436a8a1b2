//! Whom the certificate of an add-on's agent names: the add-on, its cluster, and the UIDs of the ManagedClusterAddOn and the
//! ManagedCluster that it was given for, and the key of the device that had the cluster then: the next board in its place
//! keeps the UIDs, and what lies on the old one's disk is to be nothing any more.
//!
//! ```text
//! CN  system:open-cluster-management:cluster:CLUSTER:addon:ADDON:agent:AGENT
//! O   system:open-cluster-management:cluster:CLUSTER:addon:ADDON
//! O   system:open-cluster-management:addon:ADDON
//! ```
//!
//! Guarantees:
//! - an agent is of one add-on on one cluster, and who is not in its group or lacks a UID or the place of the key is none
//!   (`an_agent_is_of_one_add_on_on_one_cluster`).

use freewheel_link::names::ClusterName;

use crate::certificate::Certificate;
use crate::spoke_subject::{SPOKES, UID};

const OF_CLUSTER: &str = "cluster:";
const OF_ALL: &str = "addon:";

/// Whether a name is one that agents of add-ons have, or a group of theirs.
#[must_use]
pub fn is_of_add_ons(name: &str) -> bool {
    let rest = name.strip_prefix(SPOKES);
    rest.is_some_and(|rest| rest.starts_with(OF_CLUSTER) || rest.starts_with(OF_ALL))
}

/// The group of the agents of an add-on on one cluster.
pub(crate) fn group(cluster: &ClusterName, add_on: &str) -> String {
    format!("{SPOKES}{OF_CLUSTER}{cluster}:addon:{add_on}")
}

/// The group of the agents of an add-on on all clusters.
pub(crate) fn group_of_all(add_on: &str) -> String {
    format!("{SPOKES}{OF_ALL}{add_on}")
}

/// What stands for both UIDs and the key.
pub(crate) fn given_for(add_on: &str, cluster: &str, agent_key: &str) -> String {
    format!("{add_on}/{cluster}/{agent_key}")
}

/// The agent of an add-on on one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddOnSubject {
    /// The cluster.
    pub cluster: ClusterName,
    /// The add-on.
    pub add_on: String,
    /// UID of the ManagedClusterAddOn.
    pub uid: String,
    /// UID of the ManagedCluster.
    pub cluster_uid: String,
    /// The key of its device, as the annotation of the ManagedCluster has it; empty where none had come.
    pub agent_key: String,
}

impl AddOnSubject {
    /// The agent that a certificate names; `None` for everybody else.
    #[must_use]
    pub fn read(certificate: &Certificate<'_>) -> Option<Self> {
        let name = certificate.name()?;
        let rest = name.strip_prefix(SPOKES)?.strip_prefix(OF_CLUSTER)?;
        let (cluster, rest) = rest.split_once(":addon:")?;
        let (add_on, agent) = rest.split_once(":agent:")?;
        let cluster = ClusterName::try_from(cluster).ok()?;
        let own = group(&cluster, add_on);
        let is_one = !cluster.is_root() && !add_on.is_empty() && !agent.is_empty();
        if !is_one || !certificate.groups().any(|group| group == own) {
            return None;
        }
        let (uid, rest) = certificate.attribute(UID)?.split_once('/')?;
        let (cluster_uid, agent_key) = rest.split_once('/')?;
        let (uid, cluster_uid) = (uid.to_owned(), cluster_uid.to_owned());
        let (add_on, agent_key) = (add_on.to_owned(), agent_key.to_owned());
        Some(Self { cluster, add_on, uid, cluster_uid, agent_key })
    }
}
