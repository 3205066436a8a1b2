//! Whom a spoke's certificate names: its cluster, and the UID of the ManagedCluster that it was given for.

use freewheel_link::names::ClusterName;
use rcgen::{DistinguishedName, DnType};

use crate::certificate::Certificate;
use crate::leaf::subject;

/// How the names of spokes and of their groups begin.
pub const SPOKES: &str = freewheel_link::identities::AGENT_PREFIX;

/// Attribute of a subject that carries a UID, as Kubernetes reads it from client certificates.
pub(crate) const UID: &[u64] = &[1, 3, 6, 1, 4, 1, 57683, 2];

/// `system:open-cluster-management:<cluster>:agent`
#[must_use]
pub fn agent_name(cluster: &ClusterName) -> String {
    format!("{}:agent", agent_group(cluster))
}

/// `system:open-cluster-management:<cluster>`
#[must_use]
pub fn agent_group(cluster: &ClusterName) -> String {
    format!("{SPOKES}{cluster}")
}

/// The agent of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokeSubject {
    /// The cluster that it speaks for.
    pub cluster: ClusterName,
    /// UID of the ManagedCluster.
    pub uid: String,
}

impl SpokeSubject {
    /// The agent that a certificate names; `None` for everybody else.
    #[must_use]
    pub fn read(certificate: &Certificate<'_>) -> Option<Self> {
        let name = certificate.name()?;
        let group = name.strip_suffix(":agent")?;
        let cluster = ClusterName::try_from(group.strip_prefix(SPOKES)?).ok()?;
        if cluster.is_root() || !certificate.groups().any(|own| own == group) {
            return None;
        }
        Some(Self { cluster, uid: certificate.attribute(UID)?.to_owned() })
    }

    pub(crate) fn subject(cluster: &ClusterName, uid: &str) -> DistinguishedName {
        let mut subject = subject(&agent_name(cluster), Some(&agent_group(cluster)));
        subject.push(DnType::CustomDnType(UID.to_vec()), uid);
        subject
    }
}
