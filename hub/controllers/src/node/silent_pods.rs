//! Says of a silent spoke's pods that they are not ready, as upstream's node lifecycle controller does: who reads a pod
//! alone must not take it for one that serves.
//!
//! ```text
//! Node Unknown, session over ─▶ Ready=False (NodeNotReady) ─▶ the spoke is back: it says again how its pods are
//! ```
//!
//! Guarantees:
//! - nothing else of the pod changes, and it stays (`pods_of_a_silent_spoke_are_not_ready_until_it_says_so`);
//! - while a spoke is in session nobody but the spoke speaks of its pods
//!   (`a_spoke_that_came_back_just_before_speaks_for_itself`).
//!
//! Assumes: a session is written before its spoke is told which of its reports need not be said again; the gateway looks
//! for what was said here after that.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, POD_READY, SAID_OF_SILENT};
use freewheel_hub_objects::OVERTAKEN;
use freewheel_hub_objects::internal::{SessionRecord, session_key};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Expect, Scope, Snapshot, Stored};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::{Entry as _, IndexTerm, Indexes, NodeReachability};
use crate::pods::PodFacts;

/// The controller. It writes as upstream's node lifecycle controller, and works beside the one that has its name.
pub struct SilentPods {
    client: Client,
    indexes: Indexes,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
}

impl SilentPods {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let (pods, nodes) = (kind("", "v1", "pods")?, kind("", "v1", "nodes")?);
        Ok(Self { client, indexes, pods, nodes })
    }

    fn is_silent(&self, node: &Key) -> bool {
        self.indexes.nodes.look(|nodes| nodes.get(node).is_some_and(|node| node.is_silent()))
    }

    /// That the spoke of this node is not in session, for a write that is to stand on it.
    fn silence(name: &str, at: &dyn Snapshot) -> Option<Expect> {
        let key = session_key(name);
        let stored = at.get(&key)?;
        let ended = SessionRecord::read(&stored).is_some_and(|session| !session.connected);
        ended.then(|| Expect::Revision(key, stored.revision))
    }
}

#[async_trait]
impl Controller for SilentPods {
    fn name(&self) -> &'static str {
        "silent-pods"
    }

    fn longest_backoff(&self) -> Duration {
        super::RETRY_PAUSE_MAX
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.pods), everywhere(&self.nodes)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let (Some(key), Some(now)) = (event.key(), &event.now) else { return Vec::new() };
        if key.resource == *self.nodes.storage() {
            let is_silent =
                |stored: &Arc<Stored>| NodeReachability::read(stored.clone()).is_silent();
            if !is_silent(now) || event.before.as_ref().is_some_and(is_silent) {
                return Vec::new();
            }
            let pods = self.indexes.pods.find(IndexTerm::Node(&key.cluster, &key.name));
            return pods.iter().map(|pod| pod.stored.key.clone()).collect();
        }
        let node = now.object.header.fields.get("spec.nodeName").filter(|node| !node.is_empty());
        let node = node.map(|node| key_of(&self.nodes, &key.cluster, "", node));
        if node.is_some_and(|node| self.is_silent(&node)) { vec![key.clone()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let pod = PodFacts::read(stored)?;
        if !pod.is_ready() || !self.is_silent(&key_of(&self.nodes, &key.cluster, "", pod.node())) {
            return Ok(None);
        }
        let Some(silence) = Self::silence(pod.node(), &*snapshot) else { return Ok(None) };
        let now = rfc3339(self.client.clock.now());
        let condition = Condition::new(&POD_READY, false, SAID_OF_SILENT, "Node is not ready");
        let client = self.client.while_holds(silence);
        let said = client.modify_this(&self.pods, &pod.stored, Some("status"), |mut value| {
            // It may have ended since it was read.
            if POD_READY.holds(&value) {
                condition.put(&mut value["status"]["conditions"], &now);
            }
            Ok(value)
        });
        match said.await {
            Ok(written) if written.changed => {
                let text = "Node is not ready".to_owned();
                let by = self.client.name();
                self.client.recorder.warning(&self.pods, &written.stored, by, SAID_OF_SILENT, text);
            }
            Ok(_) => {}
            Err(error) if is_passed(&error) => {}
            Err(error) => return Err(Error::api("say that a pod is not ready")(error)),
        }
        Ok(None)
    }
}

/// Whether it is gone, its spoke is back, or it is as large as an object may be: its Service knows from the Node.
fn is_passed(error: &ApiError) -> bool {
    [404, 413].contains(&error.code) || error.reason == OVERTAKEN
}
