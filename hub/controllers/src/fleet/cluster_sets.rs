//! Says of each ManagedClusterSet whether anybody is in it, and keeps the sets `default` and `global`.
//!
//! Guarantees:
//! - the two sets are there from the start, come back, and select whom they did; whoever sets the annotation
//!   `cluster.open-cluster-management.io/autoupdate` of one to `false` may change that (`default_and_global_are_kept`);
//! - a cluster that moves is told of in the set that it leaves and in the one that it comes to, and nobody else's set is
//!   looked at (`a_set_says_whether_anybody_is_in_it`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, SET_EMPTY};
use freewheel_hub_fleet::ClusterSet;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use super::selection::{members, sets};
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::Indexes;

/// Whoever sets it to `false` wants the set as they have it.
const AUTO_UPDATE: &str = "cluster.open-cluster-management.io/autoupdate";

/// The controller.
pub struct ClusterSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    clusters: Arc<Kind>,
}

impl ClusterSets {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let sets = kind(CLUSTER_GROUP, "v1beta2", "managedclustersets")?;
        let clusters = kind(CLUSTER_GROUP, "v1", "managedclusters")?;
        Ok(Self { client, indexes, sets, clusters })
    }

    /// The sets that there are from the start, with whom they select.
    fn kept() -> [(&'static str, Value); 2] {
        let exclusive = json!({"selectorType": "ExclusiveClusterSetLabel"});
        let all = json!({"selectorType": "LabelSelector", "labelSelector": {}});
        [("default", exclusive), ("global", all)]
    }

    /// Makes a set that is to be there, or has it select whom it did.
    async fn keep(&self, key: &Key, stored: Option<&Arc<Stored>>) -> Result<bool, Error> {
        let kept = Self::kept().into_iter().find(|(name, _)| *name == &*key.name);
        let Some((name, selector)) = kept else { return Ok(stored.is_some()) };
        let Some(stored) = stored else {
            let set = json!({"metadata": {"name": name}, "spec": {"clusterSelector": selector}});
            let made = self.client.create(&self.sets, &key.cluster, "", &set).await;
            made.map_err(Error::api("make a ManagedClusterSet that is to be there"))?;
            return Ok(false);
        };
        let object = stored.object.value().map_err(Error::api("read a ManagedClusterSet"))?;
        let own = object["metadata"]["annotations"][AUTO_UPDATE] == "false";
        if own || object["spec"]["clusterSelector"] == selector {
            return Ok(true);
        }
        let change = |mut value: Value| {
            value["spec"]["clusterSelector"] = selector.clone();
            Ok(value)
        };
        let kept = self.client.modify_this(&self.sets, stored, None, change).await;
        kept.map_err(Error::api("have a ManagedClusterSet select whom it did"))?;
        Ok(false)
    }
}

#[async_trait]
impl Controller for ClusterSets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.sets), everywhere(&self.clusters)]
    }

    fn first(&self) -> Vec<Key> {
        let root = ClusterName::root();
        Self::kept().map(|(name, _)| key_of(&self.sets, &root, "", name)).into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
            return vec![key.clone()];
        }
        let labels =
            |side: &Option<Arc<Stored>>| side.as_ref().map(|it| it.object.header.labels.clone());
        let (before, after) = (labels(&event.before), labels(&event.now));
        if before == after {
            return Vec::new();
        }
        let is_in = |set: &ClusterSet, side: &Option<_>| {
            side.as_ref().is_some_and(|it| set.selector().matches(it))
        };
        let moved = sets(now, &self.sets).into_iter();
        let moved = moved.filter(|(_, set)| is_in(set, &before) != is_in(set, &after));
        moved.map(|(stored, _)| stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let stored = self.client.snapshot().get(key);
        if !self.keep(key, stored.as_ref()).await? {
            return Ok(None);
        }
        let Some(stored) = stored.filter(|it| !it.object.header.deleting) else { return Ok(None) };
        let object = stored.object.value().map_err(Error::api("read a ManagedClusterSet"))?;
        let count = members(&self.indexes, &ClusterSet::read(&object)).len();
        let condition = match count {
            0 => Condition::new(&SET_EMPTY, true, "NoClusterMatched", "No ManagedCluster selected"),
            n => {
                let text = format!("{n} ManagedClusters selected");
                Condition::new(&SET_EMPTY, false, "ClustersSelected", text)
            }
        };
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            condition.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.sets, &stored, Some("status"), change).await;
        said.map_err(Error::api("write the status of a ManagedClusterSet"))?;
        Ok(None)
    }
}
