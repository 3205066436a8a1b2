//! Gives every accepted spoke its Nodes and keeps them, and its ManagedCluster, true to its session.
//!
//! ```text
//! accepted ─▶ Node in the root and in its own cluster
//! connected ─▶ Ready=True, Available=True      silent ─▶ Ready=Unknown, Available=Unknown, tainted
//! ```
//!
//! Guarantees: silence never evicts: pods of a silent spoke stay as they are; a condition that says
//! the same is not written again; a ManagedCluster's labels are on its Nodes.
//! Assumes: the gateway writes `sessions.internal` on each transition and calls a spoke disconnected
//! after 30 s of silence; with [`GRACE`] a spoke is silent after 40 s, and one that restarts in
//! between was never away.

pub mod says;

use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::{Key, Resource};
use freewheel_hub_store::objects::Propagation;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use crate::engine::clock::rfc3339;
use crate::engine::desk::{everywhere, key as key_of, kind};
use crate::engine::{Controller, Desk, Error};
pub use says::{GRACE, Presence, UNREACHABLE};
use says::{cluster_conditions, presence, put_condition, put_labels, put_taint, ready};

/// The controller.
pub struct Nodes {
    desk: Desk,
    clusters: &'static Kind,
    nodes: &'static Kind,
}

impl Nodes {
    /// Writes through this desk.
    pub fn new(desk: Desk) -> Result<Self, Error> {
        let clusters = kind("cluster.open-cluster-management.io", "v1", "managedclusters")?;
        Ok(Self { desk, clusters, nodes: kind("", "v1", "nodes")? })
    }

    fn sessions() -> Resource {
        Resource::new("internal", "sessions")
    }

    fn presence(&self, snapshot: &dyn Snapshot, name: &str) -> (Presence, Option<Duration>) {
        let key = Key::new(&Self::sessions(), &ClusterName::root(), "", name);
        let session = snapshot.get(&key);
        let session = session.and_then(|s| serde_json::from_slice(&s.object.body).ok());
        presence(session.as_ref(), self.desk.clock.now().as_millisecond())
    }

    async fn write_cluster(
        &self,
        stored: &Stored,
        accepted: bool,
        presence: Presence,
    ) -> Result<(), Error> {
        let now = rfc3339(self.desk.clock.now());
        let says = cluster_conditions(accepted, presence);
        self.desk
            .modify(self.clusters, &stored.key, Some("status"), |mut value| {
                let before = value["status"]["conditions"].as_array().map_or(0, Vec::len);
                for says in &says {
                    // Nobody was denied who was not accepted before.
                    if !(before == 0 && says.status == "False") {
                        put_condition(&mut value["status"]["conditions"], *says, &now, None);
                    }
                }
                Ok(value)
            })
            .await
            .map_err(Error::api("write the status of a ManagedCluster"))?;
        Ok(())
    }

    /// One of the two Nodes of a spoke.
    async fn write_node(
        &self,
        realm: &ClusterName,
        cluster: &Stored,
        presence: Presence,
    ) -> Result<(), Error> {
        let key = key_of(self.nodes, realm, "", &cluster.key.name);
        let now = rfc3339(self.desk.clock.now());
        let labels = &cluster.object.header.labels;
        if self.desk.snapshot().get(&key).is_none() {
            let mut node = json!({"metadata": {"name": &*key.name}, "spec": {}});
            put_labels(&mut node, &key.name, labels);
            match self.desk.create(self.nodes, realm, "", &node).await {
                Err(taken) if taken.reason == "AlreadyExists" => {}
                other => drop(other.map_err(Error::api("create a Node"))?),
            }
        }
        let silent = presence != Presence::Connected;
        let change = |mut value: Value| -> Result<Value, ApiError> {
            put_labels(&mut value, &key.name, labels);
            put_taint(&mut value, silent, &now);
            Ok(value)
        };
        let written = self.desk.modify(self.nodes, &key, None, change).await;
        written.map_err(Error::api("write a Node"))?;
        let change = |mut value: Value| -> Result<Value, ApiError> {
            let list = &mut value["status"]["conditions"];
            put_condition(list, ready(presence), &now, Some("lastHeartbeatTime"));
            Ok(value)
        };
        let written = self.desk.modify(self.nodes, &key, Some("status"), change).await;
        let written = written.map_err(Error::api("write the status of a Node"))?;
        if written.changed {
            self.tell(&written.stored, presence);
        }
        Ok(())
    }

    fn tell(&self, node: &Stored, presence: Presence) {
        let name = &node.key.name;
        let (reason, what) = match presence {
            Presence::Connected => ("NodeReady", "NodeReady"),
            Presence::Silent => ("NodeNotReady", "NodeNotReady"),
            Presence::Never => ("RegisteredNode", "registered"),
        };
        let text = format!("Node {name} status is now: {what}");
        self.desk.recorder.normal(self.nodes, node, self.desk.name(), reason, text);
    }

    async fn remove(&self, snapshot: &dyn Snapshot, name: &str) -> Result<(), Error> {
        for realm in [Some(ClusterName::root()), ClusterName::try_from(name).ok()] {
            let Some(realm) = realm else { continue };
            let key = key_of(self.nodes, &realm, "", name);
            if let Some(node) = snapshot.get(&key) {
                self.desk
                    .delete(self.nodes, &key, &node.object.header.uid, Propagation::Background)
                    .await
                    .map_err(Error::api("delete the Node of a removed cluster"))?;
            }
        }
        Ok(())
    }
}

/// spec.hubAcceptsClient
pub(crate) fn is_accepted(cluster: &Stored) -> bool {
    cluster.object.value().is_ok_and(|value| value["spec"]["hubAcceptsClient"] == json!(true))
}

#[async_trait]
impl Controller for Nodes {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let sessions = Scope {
            resource: Self::sessions(),
            cluster: Some(ClusterName::root()),
            namespace: None,
        };
        vec![everywhere(self.clusters), everywhere(self.nodes), sessions]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        vec![key_of(self.clusters, &ClusterName::root(), "", &key.name)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.desk.snapshot();
        let Some(cluster) = snapshot.get(key) else {
            self.remove(&*snapshot, &key.name).await?;
            return Ok(None);
        };
        let accepted = is_accepted(&cluster);
        let (presence, look_again) = self.presence(&*snapshot, &key.name);
        self.write_cluster(&cluster, accepted, presence).await?;
        let own =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        for realm in [ClusterName::root(), own] {
            let there = snapshot.get(&key_of(self.nodes, &realm, "", &key.name)).is_some();
            // What was accepted once keeps its Nodes: taking it back only ends the session.
            if accepted || there {
                self.write_node(&realm, &cluster, presence).await?;
            }
        }
        Ok(look_again)
    }
}
