//! Certificates of agents of add-ons, as controllers ask for them: with keys that are made with them.

use std::time::Duration;

use freewheel_link::names::ClusterName;
use jiff::Timestamp;

/// Who signs.
#[derive(Clone, Copy)]
pub enum AgentSigner<'a> {
    /// The fleet's CA.
    Hub,
    /// Somebody else's, in PEM.
    Custom {
        /// Its certificate.
        certificate: &'a [u8],
        /// Its key.
        key: &'a [u8],
    },
}

/// What is asked for.
#[derive(Clone, Copy)]
pub struct AgentCertificate<'a> {
    /// The cluster of the agent.
    pub cluster: &'a ClusterName,
    /// Its add-on.
    pub add_on: &'a str,
    /// UID of the ManagedClusterAddOn.
    pub uid: &'a str,
    /// UID of the ManagedCluster.
    pub cluster_uid: &'a str,
    /// The key of the cluster's device; empty where none has come.
    pub agent_key: &'a str,
    /// The agent's name.
    pub user: &'a str,
    /// Its groups.
    pub groups: &'a [String],
    /// Its organisational units.
    pub units: &'a [String],
    /// Who signs.
    pub signer: AgentSigner<'a>,
    /// How long it is to be valid.
    pub life: Duration,
    /// When it is signed.
    pub now: Timestamp,
}

/// What is issued, in PEM.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}
