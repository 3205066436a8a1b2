//! Which pods are bound to which node, and what they need: known from the first question of a node on, and brought up to
//! the newest state with each.
//!
//! ```text
//! question ─▶ events since the last one: node by node its pods ─▶ what these need, read when it is asked for ─▶ yes, no
//! ```
//!
//! Most hubs are never asked, since devices have no need of the API; there nothing is kept, and no pod is looked at.
//!
//! Guarantees:
//! - an answer is that of the newest state, and costs what has changed since the last one and the pods of one node
//!   (`pods_are_known_by_their_node_as_they_come_and_go`, `who_was_not_asked_for_long_reads_all_again`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Reflected, Reflector, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

use super::references::{self, Needed, Needs};

/// The pods of one node, with what they need where that was asked for.
type Pods = HashMap<Key, Option<Arc<Needs>>>;
type Nodes = HashMap<ClusterName, HashMap<String, Pods>>;

pub(super) struct BoundPods {
    store: Arc<dyn Store>,
    known: Mutex<Option<Known>>,
}

struct Known {
    reflector: Reflector,
    nodes: Nodes,
}

impl BoundPods {
    pub(super) fn of(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// Whether a pod that is bound to this node needs that.
    pub(super) fn need(
        &self,
        node: (&ClusterName, &str),
        what: Needed,
        (namespace, name): (&str, &str),
    ) -> bool {
        let mut found = false;
        self.each(node, |key, needs| {
            found |= &*key.namespace == namespace && needs.has(what, name);
        });
        found
    }

    /// All claims of volumes of its pods: namespace and name.
    pub(super) fn claims(&self, node: (&ClusterName, &str)) -> Vec<(String, String)> {
        let mut claims = Vec::new();
        self.each(node, |key, needs| {
            let own = needs.all(Needed::Claim);
            claims.extend(own.map(|name| (key.namespace.to_string(), name.to_owned())));
        });
        claims
    }

    fn each(&self, (cluster, node): (&ClusterName, &str), mut look: impl FnMut(&Key, &Needs)) {
        let mut known = self.known.lock();
        let known = known.get_or_insert_with(|| Known::of(self.store.clone()));
        known.catch_up();
        let Some(pods) = known.nodes.get_mut(cluster).and_then(|nodes| nodes.get_mut(node)) else {
            return;
        };
        let state = self.store.snapshot();
        for (key, needs) in pods {
            look(key, needs.get_or_insert_with(|| Arc::new(read(&*state, key))));
        }
    }
}

fn everywhere() -> Scope {
    Scope { resource: Resource::new("", "pods"), cluster: None, namespace: None }
}

/// What is gone by now needs nothing.
fn read(state: &dyn Snapshot, pod: &Key) -> Needs {
    let pod = state.get(pod).and_then(|stored| stored.object.value().ok());
    pod.as_ref().map(references::needs).unwrap_or_default()
}

impl Known {
    fn of(store: Arc<dyn Store>) -> Self {
        Self { reflector: Reflector::new(store, vec![everywhere()]), nodes: Nodes::new() }
    }

    /// Takes in all that is durable.
    fn catch_up(&mut self) {
        while let Some(change) = self.reflector.next_change() {
            match change {
                Reflected::Everything(state) => {
                    self.nodes = Nodes::new();
                    state.range(&everywhere(), None).for_each(|pod| bind(&mut self.nodes, &pod));
                }
                Reflected::Events(events) => events.iter().for_each(|event| self.apply(event)),
            }
        }
    }

    fn apply(&mut self, event: &Event) {
        if let Some(before) = &event.before {
            unbind(&mut self.nodes, before);
        }
        if let Some(now) = &event.now {
            bind(&mut self.nodes, now);
        }
    }
}

fn bind(nodes: &mut Nodes, pod: &Stored) {
    let Some(node) = references::node_of(pod) else { return };
    let cluster = nodes.entry(pod.key.cluster.clone()).or_default();
    let pods = match cluster.get_mut(node) {
        Some(pods) => pods,
        None => cluster.entry(node.to_owned()).or_default(),
    };
    pods.insert(pod.key.clone(), None);
}

fn unbind(nodes: &mut Nodes, pod: &Stored) {
    let Some(node) = references::node_of(pod) else { return };
    let Some(cluster) = nodes.get_mut(&pod.key.cluster) else { return };
    let Some(pods) = cluster.get_mut(node) else { return };
    pods.remove(&pod.key);
    if pods.is_empty() {
        cluster.remove(node);
    }
    if cluster.is_empty() {
        nodes.remove(&pod.key.cluster);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Object};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Limits, Operation, Txn};
    use serde_json::json;

    use super::*;

    fn pod(cluster: &str, name: &str, node: &str, secret: &str) -> (Key, Object) {
        let cluster = ClusterName::try_from(cluster).unwrap();
        let key = Key::new(&Resource::new("", "pods"), &cluster, "n", name);
        let body = json!({"spec": {"nodeName": node, "imagePullSecrets": [{"name": secret}]}});
        let fields = [("spec.nodeName".to_owned(), node.to_owned())].into();
        let header = Header { fields, ..Header::default() };
        (key, Object { header, body: body.to_string().into() })
    }

    async fn commit(store: &dyn Store, operation: Operation) {
        let operations = vec![operation];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    fn needs(pods: &BoundPods, cluster: &str, node: &str, secret: &str) -> bool {
        let cluster = ClusterName::try_from(cluster).unwrap();
        pods.need((&cluster, node), Needed::Secret, ("n", secret))
    }

    #[tokio::test]
    async fn pods_are_known_by_their_node_as_they_come_and_go() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let pods = BoundPods::of(store.clone());
        let (key, first) = pod("root", "a", "one", "s");
        commit(&*store, Operation::Put(key.clone(), first.clone())).await;
        assert!(pods.known.lock().is_none(), "nobody has asked");
        for _ in 0..3 {
            assert!(needs(&pods, "root", "one", "s"));
            for (cluster, node, secret) in
                [("root", "two", "s"), ("root", "one", "t"), ("pi-7", "one", "s")]
            {
                assert!(!needs(&pods, cluster, node, secret), "{cluster} {node} {secret}");
            }
            let (_, other) = pod("root", "a", "one", "t");
            commit(&*store, Operation::Put(key.clone(), other)).await;
            assert!(needs(&pods, "root", "one", "t") && !needs(&pods, "root", "one", "s"));
            commit(&*store, Operation::Delete(key.clone())).await;
            assert!(!needs(&pods, "root", "one", "t"));
            let left = pods.known.lock().as_ref().map(|known| known.nodes.len());
            assert_eq!(left, Some(0), "nothing is left of it");
            commit(&*store, Operation::Put(key.clone(), first.clone())).await;
        }
        assert!(needs(&pods, "root", "one", "s"));
    }

    #[tokio::test]
    async fn who_was_not_asked_for_long_reads_all_again() {
        let limits = Limits { events: 64, ..Limits::default() };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, limits));
        let pods = BoundPods::of(store.clone());
        assert!(!needs(&pods, "root", "one", "s"));
        for i in 0..500 {
            let (key, object) = pod("root", "a", "one", &format!("s-{i}"));
            commit(&*store, Operation::Put(key, object)).await;
        }
        assert!(needs(&pods, "root", "one", "s-499") && !needs(&pods, "root", "one", "s-1"));
    }
}
