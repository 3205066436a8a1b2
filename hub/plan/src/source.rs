//! What a plan is made from: objects as the store holds them, in one snapshot.

use std::sync::Arc;

use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, Record, RecordKey};
use freewheel_link::record_set::Sealed;

use crate::config::{config_map_record, secret_record};
use crate::refused::Refused;
use crate::service::{has_node_port, service_record};
use crate::stored_object::StoredObject;
use crate::tokens::TokensAsked;

/// What is looked up, in one snapshot of the store. Lists come in key order.
pub trait Source {
    /// Where the pods of a realm are that have this `spec.nodeName`.
    fn bound(&self, realm: &ClusterName, node: &str) -> Vec<Key>;
    /// One pod, if it has this `spec.nodeName`.
    fn pod(&self, key: &Key, node: &str) -> Option<StoredObject>;
    /// Pods of a realm with this `spec.nodeName`.
    fn pods(&self, realm: &ClusterName, node: &str) -> Vec<StoredObject> {
        let keys = self.bound(realm, node);
        keys.iter().filter_map(|key| self.pod(key, node)).collect()
    }
    /// One ConfigMap.
    fn config_map(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject>;
    /// One Secret.
    fn secret(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject>;
    /// The record of a ConfigMap or Secret by its key, if there is one. What is the same for many spokes, a source that
    /// serves them may keep.
    fn config_record(&self, key: &RecordKey) -> Option<Result<Arc<Sealed>, Refused>> {
        let RecordKey { realm, kind, key } = key;
        let (namespace, name) = key.split_once('/').unwrap_or_default();
        let made = if *kind == Kind::SECRET_V1 {
            self.secret(realm, namespace, name).map(|found| secret_record(realm, &found))
        } else {
            self.config_map(realm, namespace, name).map(|found| config_map_record(realm, &found))
        };
        made.map(|made| made.map(|record| Arc::new(record.into())))
    }
    /// The tokens that a pod asks for, as far as they are signed. A source that signs none has none.
    fn tokens(&self, _asked: &TokensAsked) -> Option<Record> {
        None
    }
    /// Names of the pod ranges (`10.64.3.0`) leased to this spoke in a realm, with their revisions.
    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)>;
}

/// A Service as every spoke is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRecord {
    /// Every node listens for it, also those without pods in its realm.
    pub has_node_port: bool,
    /// Its record, or why there is none.
    pub record: Result<Record, Refused>,
}

impl ServiceRecord {
    /// Translates a Service; `slices` looks up its EndpointSlices by namespace and name.
    pub fn of(
        realm: &ClusterName,
        found: &StoredObject,
        slices: impl FnOnce(&str, &str) -> Vec<StoredObject>,
    ) -> Self {
        let record = service_record(realm, found, slices);
        Self { has_node_port: has_node_port(found), record }
    }
}
