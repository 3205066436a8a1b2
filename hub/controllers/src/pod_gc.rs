//! Removes pods whose Node is gone for good: no spoke will ever confirm their end.
//!
//! Guarantees:
//! - a pod is removed only after its Node was missing for a while, so that a Node that is made anew (or not yet
//!   made after a start) costs no pod (`a_pod_goes_when_its_node_was_missing_for_a_while_and_not_before`);
//! - what is remembered of missing Nodes is bounded by the pods that name them, and nobody's pods keep those of others from
//!   going (`nobodys_missing_nodes_make_others_wait_anew`).

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

/// So many missing Nodes are remembered before anybody looks which of them no pod names any more.
const MISSING_NODES_MIN: usize = 64;

/// Since when Nodes are missing that pods name.
#[derive(Default)]
struct MissingNodes {
    since: HashMap<Key, Instant>,
    /// How many there were, after the last look, of which a pod was left.
    named: usize,
}

impl MissingNodes {
    /// Since when this one is missing. Once they are twice as many as pods named, those that none names go: each costs one
    /// look, however many there are.
    fn since(&mut self, node: &Key, is_named: impl Fn(&Key) -> bool) -> Instant {
        if let Some(since) = self.since.get(node) {
            return *since;
        }
        if MISSING_NODES_MIN.max(2 * self.named) <= self.since.len() {
            self.since.retain(|node, _| is_named(node));
            self.named = self.since.len();
        }
        *self.since.entry(node.clone()).or_insert_with(Instant::now)
    }
}

/// The controller.
pub struct PodGarbageCollector {
    client: Client,
    indexes: Indexes,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    missing: Mutex<MissingNodes>,
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
            missing.since.remove(node);
            return None;
        }
        let is_named = |node: &Key| {
            !self.indexes.pods.find(IndexTerm::Node(&node.cluster, &node.name)).is_empty()
        };
        let since = missing.since(node, is_named);
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
                self.missing.lock().since.remove(&node.key);
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

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    use super::*;

    fn node(cluster: &str, name: &str) -> Key {
        let cluster = ClusterName::try_from(cluster).unwrap();
        Key::new(&Resource::new("", "nodes"), &cluster, "", name)
    }

    #[tokio::test(start_paused = true)]
    async fn nobodys_missing_nodes_make_others_wait_anew() {
        let mut missing = MissingNodes::default();
        let (theirs, start) = (node("b", "gone"), Instant::now());
        assert_eq!(missing.since(&theirs, |_| true), start);
        for round in 0..2 {
            tokio::time::advance(Duration::from_secs(1)).await;
            for number in 0..10_000 {
                missing.since(&node("a", &format!("made-up-{number}")), |_| true);
            }
            assert_eq!(missing.since(&theirs, |_| true), start, "{round}");
        }
        let first = missing.since(&node("a", "made-up-0"), |_| true);
        assert_eq!(first, start + Duration::from_secs(1), "their own end as well");
        // Whom no pod names any more is forgotten.
        let is_theirs = |node: &Key| *node == theirs;
        for number in 0..50_000 {
            missing.since(&node("a", &format!("other-{number}")), is_theirs);
        }
        assert!(missing.since.len() <= MISSING_NODES_MIN, "{}", missing.since.len());
        assert_eq!(missing.since(&theirs, is_theirs), start);
    }
}
