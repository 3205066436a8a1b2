//! Nodes that people made and no spoke stands behind: their conditions and taints say so, as upstream's node
//! controller does.
//!
//! Guarantees:
//! - what somebody wrote of such a Node is left as it is; only what nobody wrote is filled in
//!   (`a_node_without_a_spoke_says_that_nobody_is_there`);
//! - the name of a spoke makes a Node its own in the root and in its own cluster alone
//!   (`a_node_under_the_name_of_another_clusters_spoke_is_nobodys`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{
    Condition, ConditionStatus, ConditionType, NODE_DISK_PRESSURE, NODE_MEMORY_PRESSURE,
    NODE_PID_PRESSURE, NODE_READY,
};
use freewheel_hub_api::kinds::node::NOT_READY;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde_json::Value;

use super::conditions::{UNREACHABLE, put_taint};
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};

/// How long a Node may take to say something of itself.
const NODE_STARTUP_GRACE: Duration = Duration::from_secs(60);
const CONDITIONS: [&ConditionType; 4] =
    [&NODE_MEMORY_PRESSURE, &NODE_DISK_PRESSURE, &NODE_PID_PRESSURE, &NODE_READY];

/// The controller.
pub struct UnmanagedNodes {
    client: Client,
    clusters: Arc<Kind>,
    nodes: Arc<Kind>,
}

impl UnmanagedNodes {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let clusters = kind("cluster.open-cluster-management.io", "v1", "managedclusters")?;
        Ok(Self { client, clusters, nodes: kind("", "v1", "nodes")? })
    }
}

/// Whether a spoke of the Node's name would stand behind it: it is a Node of the root and of its own cluster.
fn may_be_a_spokes(node: &Key) -> bool {
    node.cluster.is_root() || node.cluster.as_str() == &*node.name
}

/// How long to wait until silence means something; `None` when that time is over.
fn patience(node: &Value, now: Timestamp) -> Option<Duration> {
    let born = node["metadata"]["creationTimestamp"].as_str().and_then(|t| t.parse().ok());
    let age = now.duration_since(born.unwrap_or(now));
    NODE_STARTUP_GRACE.checked_sub(age.unsigned_abs()).filter(|rest| !rest.is_zero())
}

/// Says of every condition that nobody wrote that it is not known.
fn fill_in(node: &mut Value, now: &str) {
    for kind in CONDITIONS {
        if kind.find(node).is_none() {
            let text = "Kubelet never posted node status.";
            let condition =
                Condition::new(kind, ConditionStatus::Unknown, "NodeStatusNeverUpdated", text);
            condition.put(&mut node["status"]["conditions"], now);
        }
    }
}

/// The taints that follow from Ready.
fn taint(node: &mut Value, now: &str) {
    let ready = NODE_READY.find(node);
    let Some(status) = ready.and_then(|c| c["status"].as_str()).map(str::to_owned) else { return };
    put_taint(node, NOT_READY, status == "False", now);
    put_taint(node, UNREACHABLE, status == "Unknown", now);
}

#[async_trait]
impl Controller for UnmanagedNodes {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.nodes)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        event.now.iter().map(|node| node.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let client = if may_be_a_spokes(key) {
            let spoke = key_of(&self.clusters, &ClusterName::root(), "", &key.name);
            if snapshot.get(&spoke).is_some() {
                return Ok(None);
            }
            self.client.while_holds(Expect::Absent(spoke))
        } else {
            self.client.clone()
        };
        let value = stored.object.value().map_err(Error::api("read a Node"))?;
        let (moment, wait) = (self.client.clock.now(), patience(&value, self.client.clock.now()));
        let now = rfc3339(moment);
        if wait.is_none() {
            let change = |mut value: Value| -> Result<Value, ApiError> {
                fill_in(&mut value, &now);
                Ok(value)
            };
            let written = client.modify(&self.nodes, key, Some("status"), change).await;
            gone(written.map(drop))?;
        }
        let change = |mut value: Value| -> Result<Value, ApiError> {
            taint(&mut value, &now);
            Ok(value)
        };
        gone(client.modify(&self.nodes, key, None, change).await.map(drop))?;
        Ok(wait)
    }
}

/// That it went meanwhile is fine.
fn gone(written: Result<(), ApiError>) -> Result<(), Error> {
    match written {
        Err(error) if error.code == 404 => Ok(()),
        other => other.map_err(Error::api("write a Node that no spoke stands behind")),
    }
}
