//! What a plan reads: one snapshot, with what one spoke has in it.

use freewheel_hub_objects::internal;
use std::net::Ipv4Addr;

use freewheel_hub_plan::{Source, StoredObject, TokensAsked};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Snapshot;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::Record;
use parking_lot::Mutex;

use crate::bound_pods::{BoundPods, node_of};
use crate::pod_cidr_leases::PodCidrLeases;
use crate::pod_tokens::SpokeTokens;
use crate::services::{Services, found};

/// A snapshot and the indexes over it.
pub(crate) struct PlanView<'a> {
    pub(crate) at: &'a dyn Snapshot,
    pub(crate) pods: &'a Mutex<BoundPods>,
    pub(crate) services: &'a Services,
    pub(crate) ranges: &'a PodCidrLeases,
    /// None where only images are looked for.
    pub(crate) tokens: Option<SpokeTokens<'a>>,
}

impl PlanView<'_> {
    fn one(
        &self,
        plural: &str,
        realm: &ClusterName,
        namespace: &str,
        name: &str,
    ) -> Option<StoredObject> {
        let key = Key::new(&Resource::new("", plural), realm, namespace, name);
        self.at.get(&key).map(|stored| found(&stored))
    }

    fn lease(&self, realm: &ClusterName, spoke: &str, base: Ipv4Addr) -> Option<(String, u64)> {
        let name = base.to_string();
        let stored = self.at.get(&Key::new(&internal::pod_cidrs(), realm, "", &name))?;
        (*stored.object.body == *spoke.as_bytes()).then_some((name, stored.revision))
    }
}

impl Source for PlanView<'_> {
    fn bound(&self, realm: &ClusterName, node: &str) -> Vec<Key> {
        self.pods.lock().on(node, realm).into_iter().flatten().cloned().collect()
    }

    fn pod(&self, key: &Key, node: &str) -> Option<StoredObject> {
        self.at.get(key).filter(|stored| node_of(stored) == Some(node)).map(|stored| found(&stored))
    }

    fn config_map(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject> {
        self.one("configmaps", realm, namespace, name)
    }

    fn secret(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject> {
        self.one("secrets", realm, namespace, name)
    }

    fn tokens(&self, asked: &TokensAsked) -> Option<Record> {
        self.tokens.as_ref()?.get(asked)
    }

    fn services(&self, realm: &ClusterName) -> Vec<StoredObject> {
        self.services.stored(realm)
    }

    fn endpoint_slices(
        &self,
        realm: &ClusterName,
        namespace: &str,
        service: &str,
    ) -> Vec<StoredObject> {
        self.services.slices(realm, namespace, service)
    }

    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)> {
        let Ok(name) = ClusterName::try_from(spoke) else { return Vec::new() };
        let ranges = self.ranges.usable(realm, &name);
        ranges.into_iter().filter_map(|base| self.lease(realm, spoke, base)).collect()
    }
}
