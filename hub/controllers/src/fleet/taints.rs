//! Puts taints on clusters that are not heard of, or say that they cannot work, and takes them off again.
//!
//! ```text
//! Available=True ─▶ none     False ─▶ unavailable     Unknown, or not said ─▶ unreachable
//! ```
//!
//! Upstream's effect is NoSelect: a device without a link loses its work. A spoke without a link goes on working, so here
//! it is NoSelectIfNew: nothing new goes there, and who has chosen it keeps it, unless the Placement tolerates the taint
//! by its key for a number of seconds.
//!
//! Guarantees:
//! - a silent cluster keeps its place, and no new one is given there
//!   (`a_silent_cluster_keeps_what_it_has_and_gets_nothing_new`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{CLUSTER_AVAILABLE, ConditionStatus};
use freewheel_hub_fleet::toleration::{UNAVAILABLE, UNREACHABLE};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Controller, Error};

/// The controller.
pub struct ClusterTaints {
    client: Client,
    clusters: Arc<Kind>,
}

impl ClusterTaints {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self { client, clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")? })
    }
}

/// The taint that a cluster is to have of those two.
fn wanted(cluster: &Value) -> Option<&'static str> {
    let available = CLUSTER_AVAILABLE.find(cluster);
    let status = available.and_then(|it| it["status"].as_str()).unwrap_or_default();
    match ConditionStatus::read(status) {
        ConditionStatus::True => None,
        ConditionStatus::False => Some(UNAVAILABLE),
        ConditionStatus::Unknown => Some(UNREACHABLE),
    }
}

/// Its taints as they are to be; nothing, when they are so.
fn taints(cluster: &Value) -> Option<Vec<Value>> {
    let wanted = wanted(cluster);
    let before = cluster["spec"]["taints"].as_array().cloned().unwrap_or_default();
    let ours = |taint: &Value| taint["key"] == UNAVAILABLE || taint["key"] == UNREACHABLE;
    let is_wanted = |taint: &Value| wanted.is_some_and(|key| taint["key"] == key);
    let mut after: Vec<Value> =
        before.iter().filter(|taint| !ours(taint) || is_wanted(taint)).cloned().collect();
    if let Some(key) = wanted.filter(|_| !after.iter().any(is_wanted)) {
        after.push(json!({"key": key, "effect": "NoSelectIfNew"}));
    }
    (after != before).then_some(after)
}

#[async_trait]
impl Controller for ClusterTaints {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.clusters)]
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        event.now.iter().map(|cluster| cluster.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let stored = self.client.snapshot().get(key);
        let Some(stored) = stored.filter(|it| !it.object.header.deleting) else { return Ok(None) };
        let object = stored.object.value().map_err(Error::api("read a ManagedCluster"))?;
        if taints(&object).is_none() {
            return Ok(None);
        }
        let change = |mut value: Value| {
            if let Some(taints) = taints(&value) {
                value["spec"]["taints"] = taints.into();
            }
            Ok(value)
        };
        let put = self.client.modify_this(&self.clusters, &stored, None, change).await;
        put.map_err(Error::api("write the taints of a ManagedCluster"))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_of_a_cluster_is_in_its_taints() {
        let cluster = |available: &str, taints: Value| {
            json!({"spec": {"taints": taints}, "status": {"conditions": [
                {"type": "ManagedClusterConditionAvailable", "status": available}]}})
        };
        let own = json!({"key": "mine", "effect": "NoSelect"});
        let silent = json!({"key": UNREACHABLE, "effect": "NoSelectIfNew"});
        let broken = json!({"key": UNAVAILABLE, "effect": "NoSelectIfNew"});
        let after = |available, before: Value| taints(&cluster(available, before)).map(Value::from);
        assert_eq!(after("True", json!([own])), None);
        assert_eq!(after("True", json!([own, silent])), Some(json!([own])));
        assert_eq!(after("Unknown", json!([own])), Some(json!([own, silent])));
        assert_eq!(after("False", json!([own, silent])), Some(json!([own, broken])));
        assert_eq!(after("False", json!([broken])), None);
        assert_eq!(taints(&json!({})).map(Value::from), Some(json!([silent])));
    }
}
