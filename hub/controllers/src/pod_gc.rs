//! Removes pods whose Node is gone for good: no spoke will ever confirm their end.
//!
//! Guarantees:
//! - a pod is removed only after its Node was missing for a while, so that a Node that is made anew (or not yet
//!   made after a start) costs no pod (`a_pod_goes_when_its_node_was_missing_for_a_while_and_not_before`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::{DeleteOptions, OVERTAKEN};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::info;

use crate::engine::client::{everywhere, key as key_of, kind, object_ref};
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes};
use crate::pods::PodFacts;

/// How long a Node has to be missing (kube-controller-manager's quarantine).
pub const NODE_QUARANTINE: Duration = Duration::from_secs(40);

/// Missing Nodes that are remembered; with more of them everybody waits anew.
const MISSING_NODES_MAX: usize = 4096;

/// The controller.
pub struct PodGarbageCollector {
    client: Client,
    indexes: Indexes,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    missing: Mutex<HashMap<Key, Instant>>,
}

impl PodGarbageCollector {
    /// Deletes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let (pods, nodes) = (kind("", "v1", "pods")?, kind("", "v1", "nodes")?);
        Ok(Self { client, indexes, pods, nodes, missing: Mutex::default() })
    }

    /// How much longer this Node has to be missing; `None` when it is there.
    fn wait(&self, node: &Key, snapshot: &dyn Snapshot) -> Option<Duration> {
        let mut missing = self.missing.lock();
        if snapshot.get(node).is_some() {
            missing.remove(node);
            return None;
        }
        if MISSING_NODES_MAX <= missing.len() && !missing.contains_key(node) {
            missing.clear();
        }
        let since = *missing.entry(node.clone()).or_insert_with(Instant::now);
        Some(NODE_QUARANTINE.saturating_sub(since.elapsed()))
    }
}

#[async_trait]
impl Controller for PodGarbageCollector {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.pods), everywhere(&self.nodes)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        match (&event.now, &event.before) {
            (Some(pod), before) if pod.key.resource == *self.pods.storage() => {
                let node = |fields: &std::collections::BTreeMap<String, String>| {
                    fields.get("spec.nodeName").cloned().unwrap_or_default()
                };
                let bound = node(&pod.object.header.fields);
                let news = before.as_ref().is_none_or(|b| node(&b.object.header.fields) != bound);
                if news && !bound.is_empty() { vec![pod.key.clone()] } else { Vec::new() }
            }
            (None, Some(node)) if node.key.resource == *self.nodes.storage() => {
                let pods =
                    self.indexes.pods.find(IndexTerm::Node(&node.key.cluster, &node.key.name));
                pods.iter().map(|pod| pod.stored.key.clone()).collect()
            }
            (Some(node), _) => {
                self.missing.lock().remove(&node.key);
                Vec::new()
            }
            (None, _) => Vec::new(),
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let pod = PodFacts::read(stored)?;
        if pod.node().is_empty() {
            return Ok(None);
        }
        let node = key_of(&self.nodes, &key.cluster, "", pod.node());
        match self.wait(&node, &*snapshot) {
            None => return Ok(None),
            Some(Duration::ZERO) => {}
            Some(rest) => return Ok(Some(rest)),
        }
        info!(cluster = %key.cluster, pod = %key.name, node = pod.node(), "removes a pod without a node");
        let options = DeleteOptions {
            grace_period_seconds: Some(0),
            uid: Some(pod.uid().to_owned()),
            ..DeleteOptions::default()
        };
        let place = object_ref(&self.pods, key);
        // One that has just come back keeps its pods.
        let client = self.client.while_holds(Expect::Absent(node));
        if let Err(error) = client.objects().delete(client.how(), &place, &options).await
            && error.code != 404
            && error.reason != OVERTAKEN
        {
            return Err(Error::api("delete a pod whose node is gone")(error));
        }
        Ok(None)
    }
}
