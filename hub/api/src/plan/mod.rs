//! Objects → the records that one spoke gets. Pure: what it reads comes through [`Source`].
//!
//! ```text
//! pod        Pod          → PodV1       (containers, volumes, env: one file each)
//! http       annotations on how containers serve HTTP → HttpV1
//! config     ConfigMap, Secret → ConfigV1
//! storage    what a Pod says of the disk → PodStorageV1, a part of it
//! service    Service + its EndpointSlices → ServiceV1
//! node       leased pod ranges, the node's own settings
//! fit        what stays out of a plan that is larger than a spoke can hold
//! amount     quantities as whole numbers and thousandths
//! ```
//!
//! [`records`] makes the whole set; the functions per kind remake one record after a change. Equal objects
//! give equal bytes, in one order. What cannot be translated is [`Refused`] with words for its user, and
//! disturbs nothing else.
//!
//! A record's `revision` is that of the newest object it came from, so a pod's own status writes raise
//! it. Push a record only when [`differs`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use freewheel_link::limits;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, Record, RecordKey};

use crate::images::Images;

mod amount;
mod config;
mod containers;
mod fit;
mod http;
mod node;
mod pod;
mod service;
mod storage;
mod volumes;

pub use config::{config_map_record, secret_record};
pub use http::{HTTP_CONCURRENCY, HTTP_REUSE, HTTP_TIMEOUT};
pub use node::{node_record, pod_cidr_record};
pub use pod::{config_of, pod_record};
pub use service::{has_node_port, service_record};

/// An object as the store holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Canonical JSON.
    pub body: Bytes,
    /// Revision that wrote it.
    pub revision: u64,
    /// Revision that created it.
    pub created: u64,
}

/// What is looked up, in one snapshot of the store. Lists come in key order.
pub trait Source {
    /// Pods of a realm with this `spec.nodeName`.
    fn pods(&self, realm: &ClusterName, node: &str) -> Vec<Found>;
    /// One ConfigMap.
    fn config_map(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found>;
    /// One Secret.
    fn secret(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found>;
    /// All Services of a realm.
    fn services(&self, realm: &ClusterName) -> Vec<Found>;
    /// The EndpointSlices labelled `kubernetes.io/service-name: <service>`.
    fn endpoint_slices(&self, realm: &ClusterName, namespace: &str, service: &str) -> Vec<Found>;
    /// Names of the pod ranges (`10.64.3.0`) leased to this spoke in a realm, with their revisions.
    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)>;
    /// All Services of a realm as spokes are told of them. They are told the same, so a source that serves
    /// many spokes may keep what was translated.
    fn told_services(&self, realm: &ClusterName) -> Vec<Arc<ToldService>> {
        let slices = |namespace: &str, name: &str| self.endpoint_slices(realm, namespace, name);
        let told = |found: &Found| Arc::new(ToldService::of(realm, found, slices));
        self.services(realm).iter().map(told).collect()
    }
}

/// A Service as every spoke is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldService {
    /// Every node listens for it, also those without pods in its realm.
    pub has_node_port: bool,
    /// Its record, or why there is none.
    pub record: Result<Record, Refused>,
}

impl ToldService {
    /// Translates a Service; `slices` looks up its EndpointSlices by namespace and name.
    pub fn of(
        realm: &ClusterName,
        found: &Found,
        slices: impl FnOnce(&str, &str) -> Vec<Found>,
    ) -> Self {
        let record = service_record(realm, found, slices);
        Self { has_node_port: has_node_port(found), record }
    }
}

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

/// An object that no record could be made of. It stays out of the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource} {namespace}/{name} of {realm}: {message}")]
pub struct Refused {
    /// The object's realm.
    pub realm: ClusterName,
    /// `pods`, `services`, `configmaps`, `secrets`, `podcidrs`.
    pub resource: &'static str,
    /// metadata.namespace, as far as it could be read.
    pub namespace: Box<str>,
    /// metadata.name, as far as it could be read.
    pub name: Box<str>,
    /// metadata.uid, as far as it could be read.
    pub uid: Box<str>,
    /// For an event on the object: `UnsupportedField`, `InvalidField`, `Malformed`, `TooLarge`.
    pub reason: &'static str,
    /// For the user who reads `kubectl describe`.
    pub message: Box<str>,
}

/// Why something inside of an object cannot be translated: the object adds who it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self { reason: "UnsupportedField", message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { reason: "InvalidField", message: message.into() }
    }

    pub(crate) fn malformed(message: impl std::fmt::Display) -> Self {
        Self { reason: "Malformed", message: message.to_string() }
    }

    /// The refusal of the object with this metadata.
    pub(crate) fn of(
        self,
        realm: &ClusterName,
        resource: &'static str,
        meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    ) -> Refused {
        Refused {
            realm: realm.clone(),
            resource,
            namespace: meta.namespace.clone().unwrap_or_default().into(),
            name: meta.name.clone().unwrap_or_default().into(),
            uid: meta.uid.clone().unwrap_or_default().into(),
            reason: self.reason,
            message: self.message.into(),
        }
    }
}

/// The plan of one spoke.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every record, in the order of their keys.
    pub records: BTreeMap<RecordKey, Record>,
    /// What had to be left out.
    pub refused: Vec<Refused>,
}

impl Plan {
    fn take(&mut self, outcome: Result<Record, Refused>) {
        match outcome {
            Ok(record) => {
                self.records.insert(record.key.clone(), record);
            }
            Err(refused) => self.refused.push(refused),
        }
    }
}

/// Whether a spoke that holds `old` has to be sent `new`: only the revision is no reason.
#[must_use]
pub fn differs(old: &Record, new: &Record) -> bool {
    old.needs != new.needs || old.body != new.body
}

/// Everything that `spoke` is to run and to reach: its pods in the root and in its own realm, the
/// configuration that they name, and the Services of each realm that has pods here, plus those whose node ports every node opens.
#[must_use]
pub fn records(
    spoke: &ClusterName,
    source: &dyn Source,
    images: &dyn Images,
    settings: &NodeSettings,
) -> Plan {
    let mut plan = Plan::default();
    plan.take(node_record(spoke, settings));
    for realm in [&ClusterName::root(), spoke] {
        let pods = source.pods(realm, spoke.as_str());
        let mut wanted = BTreeSet::new();
        for found in &pods {
            let outcome = pod_record(realm, found, images).map(|(record, pod)| {
                wanted.extend(config_of(&pod));
                record
            });
            plan.take(outcome);
        }
        for (kind, namespace, name) in &wanted {
            let outcome = if *kind == Kind::SECRET_V1 {
                source.secret(realm, namespace, name).map(|found| secret_record(realm, &found))
            } else {
                source
                    .config_map(realm, namespace, name)
                    .map(|found| config_map_record(realm, &found))
            };
            // What is not there yet is the spoke's to report: only it knows which container waits.
            if let Some(outcome) = outcome {
                plan.take(outcome);
            }
        }
        for service in source.told_services(realm) {
            if !pods.is_empty() || service.has_node_port {
                plan.take(service.record.clone());
            }
        }
        for (base, revision) in source.pod_cidrs(realm, spoke.as_str()) {
            plan.take(pod_cidr_record(realm, &base, revision));
        }
    }
    fit::fit(&mut plan, spoke, source, limits::PLAN);
    plan
}

#[cfg(test)]
mod tests;
