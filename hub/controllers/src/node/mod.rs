//! Gives every accepted spoke its Nodes and keeps them, and its ManagedCluster, true to its session.
//!
//! ```text
//! accepted ─▶ Node in the root and in its own cluster, each with its Lease
//! connected ─▶ Ready=True, Available=True      silent ─▶ Ready=Unknown, Available=Unknown, tainted
//!     ├─ takes no plan ─▶ Ready=False, Available=False, tainted
//!     └─ its disk keeps nothing ─▶ Ready=False, tainted
//! ```
//!
//! Guarantees:
//! - silence ends no pod that has not asked for it (`a_silent_spoke_is_unknown_and_keeps_its_pods`,
//!   `silence_evicts_whoever_asks_for_it`);
//! - a condition that says the same keeps its time (`what_says_the_same_is_left_as_it_is`);
//! - a Node whose spoke cannot keep what it is told is not Ready (`whose_disk_keeps_nothing_is_not_ready`), and its pods
//!   run (`a_device_whose_data_folder_goes_is_not_ready_until_it_is_back`);
//! - a cordoned Node and one under pressure have the taint that says so (`a_cordoned_node_says_so_in_a_taint`,
//!   `a_node_under_pressure_has_the_taint_that_keeps_new_pods_away`);
//! - a ManagedCluster's labels are on its Nodes, and what others put on a Node stays
//!   (`labels_come_and_go_with_the_cluster`, `the_taint_goes_alone`);
//! - a Node in which its spoke has said nothing yet is not Ready, and while there is a session nobody but the spoke makes
//!   one (`a_node_that_is_made_anew_is_whole_before_it_is_ready`); each that comes is told of
//!   (`a_new_node_is_told_in_the_words_of_the_node_controller`);
//! - a Node that was here before its ManagedCluster is taken over as it is
//!   (`a_node_that_was_here_before_its_cluster_is_taken_over_as_it_is`);
//! - nothing is written for a ManagedCluster that was made anew since it was looked at
//!   (`nothing_is_made_for_a_cluster_that_was_remade_just_before`);
//! - a hub that restarts calls nobody silent for its first half a minute who was not before
//!   (`a_hub_that_starts_gives_its_spokes_the_time_to_come_back`);
//! - a clock that is set back calls nobody ready who is gone (`a_clock_that_is_set_back_keeps_nobody_connected`).
//!
//! Assumes: the gateway writes `sessions.internal` on each transition and calls a spoke disconnected
//! after 30 s of silence; with [`SESSION_GRACE`] a spoke is silent after 40 s, and one that restarts in
//! between was never away.

pub mod conditions;
mod lease;
mod silent_pods;
mod unmanaged;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, ConditionStatus};
use freewheel_hub_api::kinds::node::NOT_READY;
use freewheel_hub_objects::Propagation;
use freewheel_hub_objects::internal::{self, SessionRecord};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
pub(crate) use conditions::is_ours;
use conditions::{
    PRESSURES, certificate, cluster_conditions, has_unreachable_taint, of_node, presence,
    put_labels, put_taint, put_taint_of, ready, with_start_grace,
};
pub use conditions::{Presence, SESSION_GRACE, UNREACHABLE, UNSCHEDULABLE};
pub use silent_pods::SilentPods;
pub use unmanaged::UnmanagedNodes;

/// How soon a Lease is tried again whose namespace is not there.
const LEASE_RETRY: Duration = Duration::from_secs(1);
/// How long something that failed again and again waits: as long as a person looks at it.
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// The controller.
pub struct Nodes {
    client: Client,
    clusters: Arc<Kind>,
    nodes: Arc<Kind>,
    leases: Arc<Kind>,
    /// When this hub began, whatever its clock said.
    started: Instant,
}

impl Nodes {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let clusters = kind("cluster.open-cluster-management.io", "v1", "managedclusters")?;
        let leases = kind("coordination.k8s.io", "v1", "leases")?;
        let nodes = kind("", "v1", "nodes")?;
        Ok(Self { client, clusters, nodes, leases, started: Instant::now() })
    }

    async fn write_cluster(
        &self,
        stored: &Stored,
        accepted: bool,
        (presence, ends): (Presence, Option<Condition<'_>>),
    ) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let mut condition = cluster_conditions(accepted, presence);
        condition.extend(ends);
        self.client
            .modify_this(&self.clusters, stored, Some("status"), |mut value| {
                let before = value["status"]["conditions"].as_array().map_or(0, Vec::len);
                for condition in &condition {
                    // Nobody was denied who was not accepted before.
                    if !(before == 0 && condition.status == ConditionStatus::False) {
                        condition.put(&mut value["status"]["conditions"], &now);
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
    ) -> Result<Arc<Stored>, Error> {
        let key = key_of(&self.nodes, realm, "", &cluster.key.name);
        let client = self.client.while_there(cluster);
        let now = rfc3339(client.clock.now());
        let labels = &cluster.object.header.labels;
        let is_new = match client.snapshot().get(&key) {
            Some(node) => !is_ours(&node),
            None => !self.make_node(&client, &key, labels).await?,
        };
        let change = |mut value: Value| -> Result<Value, ApiError> {
            let presence = of_node(&value, presence);
            let silent = !matches!(presence, Presence::Connected | Presence::Forgetful);
            put_labels(&mut value, &key.name, labels);
            put_taint(&mut value, UNREACHABLE, silent, &now);
            // It ends the pods of whoever asked for it; see `eviction`.
            let was_here = presence == Presence::Silent;
            put_taint_of(&mut value, (UNREACHABLE, "NoExecute"), was_here, &now);
            // Admission gives it to Nodes that have yet to say something; of a spoke we know.
            put_taint(&mut value, NOT_READY, presence == Presence::Forgetful, &now);
            let cordoned = value["spec"]["unschedulable"] == json!(true);
            put_taint(&mut value, UNSCHEDULABLE, cordoned, &now);
            for (condition, taint) in PRESSURES {
                let pressed = condition.holds(&value);
                put_taint(&mut value, taint, pressed, &now);
            }
            Ok(value)
        };
        let written = client.modify(&self.nodes, &key, None, change).await;
        let written = written.map_err(Error::api("write a Node"))?;
        if is_new {
            self.tell_new(&written.stored);
        }
        let change = |mut value: Value| -> Result<Value, ApiError> {
            ready(of_node(&value, presence)).put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let written = client.modify(&self.nodes, &key, Some("status"), change).await;
        let written = written.map_err(Error::api("write the status of a Node"))?;
        if written.changed {
            let node = written.stored.object.value().unwrap_or_default();
            self.tell(&written.stored, of_node(&node, presence));
        }
        Ok(written.stored)
    }

    /// Makes a Node with nothing in it, and tells of it. Whether nobody was faster.
    async fn make_node(
        &self,
        client: &Client,
        key: &Key,
        labels: &BTreeMap<String, String>,
    ) -> Result<bool, Error> {
        let mut node = json!({"metadata": {"name": &*key.name}, "spec": {}});
        put_labels(&mut node, &key.name, labels);
        match client.create(&self.nodes, &key.cluster, "", &node).await {
            Err(taken) if taken.reason == "AlreadyExists" => return Ok(false),
            made => {
                let made = made.map_err(Error::api("create a Node"))?;
                self.tell_new(&made);
            }
        }
        Ok(true)
    }

    /// The Lease of one Node; says when to try again.
    async fn write_lease(
        &self,
        cluster: &Stored,
        node: &Stored,
        session: Option<&SessionRecord>,
    ) -> Result<Option<Duration>, Error> {
        let (realm, client) = (&node.key.cluster, self.client.while_there(cluster));
        let renewed = session.and_then(|s| Timestamp::from_millisecond(s.since).ok());
        let key = key_of(&self.leases, realm, lease::NAMESPACE, &node.key.name);
        let change = |old: Option<Value>| -> Result<Value, ApiError> {
            let mut value = old.unwrap_or_else(|| json!({}));
            lease::put_holder(&mut value, &self.nodes, node, renewed);
            Ok(value)
        };
        let written = client.create_or_modify(&self.leases, &key, change).await.map(drop);
        match written {
            Err(error) if lease::has_no_room(&error) => Ok(Some(LEASE_RETRY)),
            other => other.map(|()| None).map_err(Error::api("write the Lease of a Node")),
        }
    }

    fn tell(&self, node: &Stored, presence: Presence) {
        let reason = match presence {
            Presence::Connected => "NodeReady",
            Presence::Silent | Presence::Late | Presence::Forgetful => "NodeNotReady",
            // Nothing has changed: it has only come.
            Presence::Never | Presence::Untold => return,
        };
        let text = format!("Node {} status is now: {reason}", node.key.name);
        self.client.recorder.normal(&self.nodes, node, self.client.name(), reason, text);
    }

    /// A Node that is seen for the first time, also when one of its name was here before.
    fn tell_new(&self, node: &Stored) {
        let name = &node.key.name;
        let text = format!("Node {name} event: Registered Node {name} in Controller");
        self.client.recorder.normal(&self.nodes, node, self.client.name(), "RegisteredNode", text);
    }

    async fn remove(&self, snapshot: &dyn Snapshot, cluster: &Key) -> Result<(), Error> {
        let name = &*cluster.name;
        // Another one of that name takes over what it finds.
        let client = self.client.while_holds(Expect::Absent(cluster.clone()));
        for realm in [Some(ClusterName::root()), ClusterName::try_from(name).ok()] {
            let Some(realm) = realm else { continue };
            let key = key_of(&self.nodes, &realm, "", name);
            // What somebody made for a cluster that is still to come is not ours to delete.
            if let Some(node) = snapshot.get(&key).filter(|node| is_ours(node)) {
                client
                    .delete(&self.nodes, &key, &node.object.header.uid, Propagation::Background)
                    .await
                    .map_err(Error::api("delete the Node of a removed cluster"))?;
            }
        }
        Ok(())
    }
}

/// spec.hubAcceptsClient, of a cluster that stays
pub(crate) fn is_accepted(cluster: &Stored) -> bool {
    !cluster.object.header.deleting
        && cluster
            .object
            .value()
            .is_ok_and(|value| value["spec"]["hubAcceptsClient"] == json!(true))
}

#[async_trait]
impl Controller for Nodes {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    /// Somebody has plugged in a device, and waits for its Node.
    fn longest_backoff(&self) -> Duration {
        RETRY_PAUSE_MAX
    }

    fn scopes(&self) -> Vec<Scope> {
        let sessions = Scope {
            resource: internal::sessions(),
            cluster: Some(ClusterName::root()),
            namespace: None,
        };
        vec![
            everywhere(&self.clusters),
            everywhere(&self.nodes),
            everywhere(&self.leases),
            sessions,
        ]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.leases.storage() && &*key.namespace != lease::NAMESPACE {
            return Vec::new();
        }
        vec![key_of(&self.clusters, &ClusterName::root(), "", &key.name)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(cluster) = snapshot.get(key) else {
            self.remove(&*snapshot, key).await?;
            return Ok(None);
        };
        if cluster.object.header.deleting {
            // What it leaves behind is being removed, its Nodes among it.
            return Ok(None);
        }
        let accepted = is_accepted(&cluster);
        // A session of an earlier cluster of this name says nothing about this one.
        let session = SessionRecord::of(&*snapshot, &key.name)
            .filter(|session| *session.uid == *cluster.object.header.uid);
        let now = self.client.clock.now().as_millisecond();
        let in_root = snapshot.get(&key_of(&self.nodes, &ClusterName::root(), "", &key.name));
        let called_silent = in_root.is_some_and(|node| has_unreachable_taint(&node));
        let seen = presence(session.as_ref(), now);
        // Who was put out is not on its way back.
        let (presence, mut look_again) = if accepted {
            with_start_grace(seen, called_silent, self.started.elapsed())
        } else {
            seen
        };
        let (ends, later) = certificate(session.as_ref(), now / 1000);
        look_again = later.into_iter().chain(look_again).min();
        self.write_cluster(&cluster, accepted, (presence, ends)).await?;
        let own =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        for realm in [ClusterName::root(), own] {
            let there = snapshot.get(&key_of(&self.nodes, &realm, "", &key.name)).is_some();
            // What was accepted once keeps its Nodes: taking it back only ends the session. While a session lasts its
            // spoke makes them, with all that there is to say in them.
            let in_session = session.as_ref().is_some_and(|session| session.connected);
            if there || (accepted && !in_session) {
                let node = self.write_node(&realm, &cluster, presence).await?;
                let retry = self.write_lease(&cluster, &node, session.as_ref()).await?;
                look_again = retry.into_iter().chain(look_again).min();
            }
        }
        Ok(look_again)
    }
}
