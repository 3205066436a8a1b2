//! Who a spoke is: the key and the ManagedCluster that its certificate was given for.
//!
//! ```text
//! certificate ─▶ cluster, UID, key ─▶ an order to this key? ─▶ the ManagedCluster of this name, now? ─▶ accepted?
//! ```
//!
//! Guarantees:
//! - a name alone opens nothing: a certificate that was given for a ManagedCluster which is gone, or for another key
//!   than the name belongs to, is turned away with a reason of its own (`a_name_alone_opens_nothing`,
//!   `a_removed_device_is_not_let_in_when_its_name_was_given_to_new_hardware`);
//! - nor does a look at it: what is written for a spoke is written only while its ManagedCluster is there
//!   (`nothing_is_written_for_a_spoke_whose_cluster_was_remade_just_before`).

use freewheel_hub_api::kinds::managed_cluster::AGENT_KEY_ANNOTATION;
use freewheel_hub_objects::{Actor, Objects, WriteOptions};
use freewheel_hub_pki::{Certificate, SpokeSubject, Validity};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Expect, Snapshot};
use freewheel_link::digest::Digest;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use rustls_pki_types::CertificateDer;
use serde_json::Value;

use crate::device_orders;
use crate::object_refs::{CLUSTERS, object_ref};

/// What a spoke's certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpokeIdentity {
    /// The cluster that it speaks for.
    pub cluster: ClusterName,
    /// UID of the ManagedCluster that it was given for.
    pub uid: String,
    /// Digest of the key's bits, as the annotation of its ManagedCluster has it.
    pub key: Digest,
    /// From when to when it holds.
    pub life: Validity,
}

impl SpokeIdentity {
    /// Reads a certificate of this CA. That it is one, the handshake has verified.
    #[must_use]
    pub fn read(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::read(certificate)?;
        let SpokeSubject { cluster, uid } = SpokeSubject::read(&certificate)?;
        Some(Self { cluster, uid, key: certificate.fingerprint(), life: certificate.validity() })
    }

    /// Whether the hub's owner lets this key in as this ManagedCluster, now.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn admit(&self, objects: &Objects) -> Result<(), Reason> {
        if let Some(reason) = device_orders::bars(objects, &self.key) {
            return Err(reason);
        }
        let unchanged = self.check_in(objects);
        if let Err(Reason::Unknown | Reason::Replaced) = unchanged
            && let Some((name, _)) = device_orders::renamed(objects, &self.key)
            && name != self.cluster
        {
            return Err(Reason::Renamed(name.into()));
        }
        unchanged
    }

    fn check_in(&self, objects: &Objects) -> Result<(), Reason> {
        let place = object_ref(CLUSTERS, &ClusterName::root(), "", self.cluster.as_str())
            .map_err(|_| Reason::Unknown)?;
        let found = objects.get(&place).map_err(|_| Reason::Unknown)?;
        let value = found.object.value().map_err(|_| Reason::Unknown)?;
        self.check(&value)
    }

    fn check(&self, cluster: &Value) -> Result<(), Reason> {
        let text = |path: &str| cluster.pointer(path).and_then(Value::as_str).unwrap_or_default();
        let key = &cluster["metadata"]["annotations"][AGENT_KEY_ANNOTATION];
        if text("/metadata/uid") != self.uid || *key != self.key.to_string() {
            return Err(Reason::Replaced);
        }
        if !text("/metadata/deletionTimestamp").is_empty() {
            return Err(Reason::Unknown);
        }
        let accepted = cluster.pointer("/spec/hubAcceptsClient").and_then(Value::as_bool);
        if accepted == Some(true) { Ok(()) } else { Err(Reason::NotAccepted) }
    }

    /// What must hold when something is written for this spoke: its name is still this ManagedCluster's.
    pub(crate) fn hold(&self, state: &dyn Snapshot) -> Expect {
        hold(state, &self.cluster, &self.uid)
    }

    /// Whether an object read by this spoke's name is still the ManagedCluster of this identity.
    pub(crate) fn are_of(&self, cluster: &Value) -> bool {
        !matches!(self.check(cluster), Err(Reason::Replaced | Reason::Unknown))
    }

    /// Whether the ManagedCluster of this identity is still there, let in or not.
    pub(crate) fn are_known(&self, objects: &Objects) -> bool {
        !matches!(self.check_in(objects), Err(Reason::Replaced | Reason::Unknown))
    }

    /// Whether its time is over.
    #[must_use]
    pub fn are_over(&self, now: i64) -> bool {
        self.life.to < now
    }
}

/// What must hold when something is written for the ManagedCluster of this name and UID.
pub(crate) fn hold(state: &dyn Snapshot, cluster: &ClusterName, uid: &str) -> Expect {
    let (group, _, plural) = CLUSTERS;
    let resource = Resource::new(group, plural);
    let key = Key::new(&resource, &ClusterName::root(), "", cluster.as_str());
    match state.get(&key).filter(|found| found.object.header.uid == uid) {
        Some(found) => Expect::still(&found),
        // Nothing is as old: who is not there any more writes nothing.
        None => Expect::Created(key, 0),
    }
}

/// Writes as the node, as a kubelet does, while the name is its own.
pub(crate) fn how(objects: &Objects, identity: &SpokeIdentity) -> WriteOptions {
    let expect = vec![identity.hold(&*objects.store().snapshot())];
    WriteOptions { expect, ..WriteOptions::by(Actor::Device(identity.cluster.clone())) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity() -> SpokeIdentity {
        SpokeIdentity {
            cluster: ClusterName::try_from("pi-7").unwrap(),
            uid: "u-1".into(),
            key: Digest::of(b"key"),
            life: Validity { from: 0, to: 100 },
        }
    }

    fn cluster(uid: &str, key: &str, accepted: bool) -> Value {
        json!({
            "metadata": {"uid": uid, "annotations": {AGENT_KEY_ANNOTATION: Digest::of(key.as_bytes()).to_string()}},
            "spec": {"hubAcceptsClient": accepted},
        })
    }

    #[test]
    fn a_name_alone_opens_nothing() {
        let check = |value: &Value| identity().check(value);
        assert_eq!(check(&cluster("u-1", "key", true)), Ok(()));
        assert_eq!(check(&cluster("u-1", "key", false)), Err(Reason::NotAccepted));
        assert_eq!(check(&cluster("u-2", "key", true)), Err(Reason::Replaced));
        assert_eq!(check(&cluster("u-1", "other", true)), Err(Reason::Replaced));
        let mut going = cluster("u-1", "key", true);
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(check(&going), Err(Reason::Unknown));
    }
}
