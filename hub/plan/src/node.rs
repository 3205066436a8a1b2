//! What a spoke is told of itself: its settings, and the pod addresses that it may give away.

use std::net::Ipv4Addr;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, NodeV1, PodCidrV1, Record, RecordKey};

use super::Refused;

/// What a spoke is told of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSettings {
    /// The cluster's DNS domain.
    pub domain: String,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u16,
}

impl Default for NodeSettings {
    fn default() -> Self {
        Self { domain: "cluster.local".to_owned(), heartbeat_seconds: 10 }
    }
}

/// Every range is leased as a /24.
const POD_CIDR_PREFIX_LENGTH: u8 = 24;

/// The record of the spoke's own settings. It belongs to the root, which named the node.
///
/// # Errors
/// Never in practice: only when the record cannot be encoded.
pub fn node_record(spoke: &ClusterName, settings: &NodeSettings) -> Result<Record, Refused> {
    let realm = ClusterName::root();
    let key = RecordKey { realm: realm.clone(), kind: Kind::NODE_V1, key: "node".to_owned() };
    let body = NodeV1 {
        name: spoke.to_string(),
        domain: settings.domain.clone(),
        heartbeat_seconds: settings.heartbeat_seconds,
    };
    Record::new(key, 0, 0, &body).map_err(|error| refused(&realm, "nodes", spoke.as_str(), &error))
}

/// The record of one leased range; `base` is its first address, as the lease's key spells it.
///
/// # Errors
/// When `base` is no first address of a /24.
pub fn pod_cidr_record(realm: &ClusterName, base: &str, revision: u64) -> Result<Record, Refused> {
    let first: Ipv4Addr = base.parse().map_err(|error| refused(realm, "podcidrs", base, &error))?;
    if first.octets()[3] != 0 {
        return Err(refused(realm, "podcidrs", base, &"not the first address of a /24"));
    }
    let key = RecordKey {
        realm: realm.clone(),
        kind: Kind::POD_CIDR_V1,
        key: format!("{first}/{POD_CIDR_PREFIX_LENGTH}"),
    };
    Record::new(key, revision, 0, &PodCidrV1 { base: first.into(), prefix: POD_CIDR_PREFIX_LENGTH })
        .map_err(|error| refused(realm, "podcidrs", base, &error))
}

fn refused(
    realm: &ClusterName,
    resource: &'static str,
    name: &str,
    error: &dyn std::fmt::Display,
) -> Refused {
    Refused {
        realm: realm.clone(),
        resource,
        namespace: "".into(),
        name: name.into(),
        uid: "".into(),
        reason: "Malformed",
        message: error.to_string().into(),
        stays: false,
    }
}
