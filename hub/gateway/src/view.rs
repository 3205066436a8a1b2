//! What a plan reads: one snapshot, with what one spoke has in it.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use freewheel_hub_objects::internal;
use freewheel_hub_plan::{
    Refused, Source, StoredObject, TokensAsked, config_map_record, secret_record,
};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, Record, RecordKey};
use freewheel_link::record_set::Sealed;
use parking_lot::Mutex;

use crate::bound_pods::{BoundPods, node_of};
use crate::config_records::ConfigRecords;
use crate::pod_cidr_leases::PodCidrLeases;
use crate::pod_tokens::SpokeTokens;
use crate::services::found;

/// A snapshot and the indexes over it.
pub(crate) struct PlanView<'a> {
    pub(crate) at: &'a dyn Snapshot,
    pub(crate) pods: &'a Mutex<BoundPods>,
    pub(crate) config: &'a ConfigRecords,
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

    /// The ConfigMap or Secret with this key.
    fn config(&self, key: &RecordKey) -> Option<Arc<Stored>> {
        let plural = if key.kind == Kind::SECRET_V1 { "secrets" } else { "configmaps" };
        let (namespace, name) = key.key.split_once('/')?;
        self.at.get(&Key::new(&Resource::new("", plural), &key.realm, namespace, name))
    }

    /// Those of these that are others in a later snapshot.
    pub(crate) fn changed(
        &self,
        keys: Vec<RecordKey>,
        later: &dyn Snapshot,
    ) -> BTreeSet<RecordKey> {
        let (pods, config, ranges) = (self.pods, self.config, self.ranges);
        let later = PlanView { at: later, pods, config, ranges, tokens: None };
        let revision =
            |view: &PlanView<'_>, key: &RecordKey| view.config(key).map(|stored| stored.revision);
        let is_other = |key: &RecordKey| revision(self, key) != revision(&later, key);
        keys.into_iter().filter(is_other).collect()
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

    fn config_record(&self, key: &RecordKey) -> Option<Result<Arc<Sealed>, Refused>> {
        let stored = self.config(key)?;
        let translate = || {
            let made = if key.kind == Kind::SECRET_V1 { secret_record } else { config_map_record };
            made(&key.realm, &found(&stored))
        };
        // What one spoke alone is told, nobody shares.
        if !key.realm.is_root() {
            return Some(translate().map(|record| Arc::new(record.into())));
        }
        Some(self.config.of(key, stored.revision, translate))
    }

    fn tokens(&self, asked: &TokensAsked) -> Option<Record> {
        self.tokens.as_ref()?.get(asked)
    }

    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)> {
        let Ok(name) = ClusterName::try_from(spoke) else { return Vec::new() };
        let ranges = self.ranges.usable(realm, &name);
        ranges.into_iter().filter_map(|base| self.lease(realm, spoke, base)).collect()
    }
}
