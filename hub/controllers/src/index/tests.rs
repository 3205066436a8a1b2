//! An index over a store, and what its looks cost.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::Strategy;
use freewheel_hub_schema::object::Object;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Compacted, Event, Layer, Limits, Operation, Revision, Txn};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::*;

fn key(plural: &str, name: &str) -> Key {
    Key::new(&Resource::new("", plural), &ClusterName::root(), "default", name)
}

async fn commit(store: &Arc<dyn Store>, operation: Operation) {
    store.commit(Txn { expect: Vec::new(), operations: vec![operation] }).await.unwrap();
}

async fn put(store: &Arc<dyn Store>, key: Key, mut value: Value) {
    value["metadata"]["name"] = json!(&*key.name);
    let node = value.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    let fields = [("spec.nodeName".to_owned(), node.to_owned())].into();
    commit(store, Operation::Put(key, Object::from_value(value, fields).unwrap())).await;
}

#[expect(clippy::needless_pass_by_value, reason = "labels are written where they are used")]
fn pod(owner: Option<&str>, labels: Value, node: &str) -> Value {
    let owner = owner.map(|uid| {
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": uid, "uid": uid,
            "controller": true})
    });
    json!({"metadata": {"labels": labels, "ownerReferences": owner.into_iter().collect::<Vec<_>>()},
        "spec": {"nodeName": node}})
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::with_incarnation(1))
}

fn by(pods: &Index<PodEntry>, uid: &str) -> Vec<Arc<PodEntry>> {
    pods.find(IndexTerm::Controller(&ClusterName::root(), "default", uid))
}

fn names(found: &[Arc<PodEntry>]) -> Vec<&str> {
    found.iter().map(|pod| &*pod.stored.key.name).collect()
}

#[tokio::test]
async fn pods_are_found_by_controller_label_and_node() {
    let store = store();
    let pods = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap().pods;
    let root = ClusterName::root();
    put(&store, key("pods", "a"), pod(Some("u"), json!({"app": "web", "tier": "x"}), "n")).await;
    put(&store, key("pods", "b"), pod(None, json!({"app": "web"}), "")).await;
    let label = |k, v| IndexTerm::Label(&root, "default", k, v);
    assert_eq!(names(&by(&pods, "u")), ["a"]);
    assert_eq!(names(&pods.find(label("app", "web"))), ["a", "b"]);
    assert_eq!(names(&pods.find(IndexTerm::Orphan(&root, "default"))), ["b"]);
    assert_eq!(names(&pods.find(IndexTerm::Node(&root, "n"))), ["a"]);
    assert_eq!(names(&pods.rarest(&[label("app", "web"), label("tier", "x")])), ["a"]);
    assert!(pods.rarest(&[label("app", "web"), label("tier", "y")]).is_empty());
    assert!(pods.find(IndexTerm::Orphan(&root, "other")).is_empty());

    let elsewhere = Key { namespace: "other".into(), ..key("pods", "claims") };
    put(&store, elsewhere, pod(Some("u"), json!({}), "")).await;
    assert_eq!(names(&by(&pods, "u")), ["a"], "a UID named from another namespace is no owner");

    // Whatever is written is there at the next look, and what it was before is not.
    put(&store, key("pods", "a"), pod(None, json!({"app": "db"}), "m")).await;
    assert!(by(&pods, "u").is_empty());
    assert!(pods.find(IndexTerm::Node(&root, "n")).is_empty());
    assert_eq!(names(&pods.find(label("app", "web"))), ["b"]);
    assert_eq!(names(&pods.find(IndexTerm::OrphanWith(&root, "default", "app", "db"))), ["a"]);
    commit(&store, Operation::Delete(key("pods", "a"))).await;
    assert!(pods.find(label("app", "db")).is_empty());
    put(&store, key("pods", "c"), pod(Some("u"), json!({}), "")).await;
    assert_eq!(names(&by(&pods, "u")), ["c"], "in the place that became free");
}

#[tokio::test]
async fn an_index_that_fell_behind_reads_everything_anew() {
    let limits = Limits { events: 4, bytes: 1 << 20 };
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, limits));
    let pods = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap().pods;
    put(&store, key("pods", "first"), pod(Some("u"), json!({}), "")).await;
    assert_eq!(names(&by(&pods, "u")), ["first"]);
    commit(&store, Operation::Delete(key("pods", "first"))).await;
    for n in 0..20 {
        put(&store, key("pods", &format!("p{n:02}")), pod(Some("u"), json!({}), "")).await;
    }
    assert_eq!(by(&pods, "u").len(), 20);
}

#[tokio::test]
async fn who_selects_is_found_by_what_it_asks_for() {
    let store = store();
    let indexes = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap();
    for (name, selector) in [
        ("web", json!({"app": "web"})),
        ("narrow", json!({"app": "web", "tier": "x"})),
        ("db", json!({"app": "db"})),
        ("none", json!({})),
    ] {
        put(&store, key("services", name), json!({"spec": {"selector": selector}})).await;
    }
    put(&store, key("pods", "a"), pod(None, json!({"app": "web"}), "")).await;
    let services = kind("", "v1", "services").unwrap();
    let stored = store.snapshot().get(&key("pods", "a")).unwrap();
    let found = indexes.selector_owners_of(&services, &stored);
    assert_eq!(found.iter().map(|key| &*key.name).collect::<Vec<_>>(), ["web"]);
    let sets = kind("apps", "v1", "replicasets").unwrap();
    assert!(indexes.selector_owners_of(&sets, &stored).is_empty());
    let open = json!({"spec": {"selector": {"matchExpressions": [
        {"key": "app", "operator": "Exists"}]}}});
    let open_key = Key::new(sets.storage(), &ClusterName::root(), "default", "open");
    put(&store, open_key.clone(), open).await;
    assert_eq!(indexes.selector_owners_of(&sets, &stored), [open_key]);
}

#[tokio::test]
async fn a_look_costs_what_it_finds() {
    let store = store();
    let indexes = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap();
    for n in 0..1_000 {
        let owner = format!("u{}", n / 10);
        put(&store, key("pods", &format!("p{n}")), pod(Some(&owner), json!({"app": owner}), ""))
            .await;
    }
    assert_eq!(by(&indexes.pods, "u7").len(), 10);
    let before = indexes.entries_touched();
    put(&store, key("pods", "p70"), pod(Some("u7"), json!({"app": "u7"}), "n")).await;
    assert_eq!(by(&indexes.pods, "u7").len(), 10);
    assert_eq!(indexes.entries_touched() - before, 11, "the pod that changed, and its set");
}

struct Plain;

impl Strategy for Plain {}

#[tokio::test]
async fn a_kind_that_comes_or_goes_costs_what_is_there_of_it() {
    let store = store();
    let registries = Arc::new(kinds::registries());
    let indexes = Indexes::new(&store, &registries).unwrap();
    let widgets = Resource::new("example.com", "widgets");
    let of = |name: &str| Key::new(&widgets, &ClusterName::root(), "default", name);
    for n in 0..1_000 {
        put(&store, key("pods", &format!("p{n}")), pod(Some("u"), json!({}), "")).await;
    }
    for name in ["a", "b"] {
        put(&store, of(name), pod(Some("w"), json!({}), "")).await;
    }
    let owned = |uid: &str| indexes.dependents.find(IndexTerm::Owner(uid)).len();
    assert_eq!((owned("u"), owned("w")), (1_000, 0));
    let kind = || Kind::new(Gvk::new("example.com", "v1", "Widget"), "widgets", Plain);
    let before = indexes.entries_touched();
    registries.put(&ClusterName::root(), &widgets, vec![kind()]).unwrap();
    assert_eq!(owned("w"), 2);
    for name in ["a", "b"] {
        commit(&store, Operation::Delete(of(name))).await;
    }
    registries.put(&ClusterName::root(), &widgets, Vec::new()).unwrap();
    assert_eq!(owned("w"), 0, "it was emptied before it went");
    let touched = indexes.entries_touched() - before;
    assert!(touched < 10, "{touched} of a thousand and two");
    assert_eq!(owned("u"), 1_000);
}

/// A store that never calls its watchers: one that waited once waits for ever.
struct Silent(MemoryStore);

struct Deaf {
    watch: Box<dyn Watch>,
    waits: bool,
}

impl Watch for Deaf {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>> {
        if self.waits {
            return Poll::Pending;
        }
        let next = self.watch.poll_next(cx);
        self.waits = next.is_pending();
        next
    }

    fn progress(&self) -> Revision {
        self.watch.progress()
    }
}

impl Layer for Silent {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    fn watch(&self, scopes: Vec<Scope>, after: Revision) -> Result<Box<dyn Watch>, Compacted> {
        Ok(Box::new(Deaf { watch: self.0.watch(scopes, after)?, waits: false }))
    }
}

/// Whoever writes has its answer before watchers are called, and reads what it wrote all the same.
#[tokio::test]
async fn a_look_does_not_wait_to_be_called() {
    let store: Arc<dyn Store> = Arc::new(Silent(MemoryStore::with_incarnation(1)));
    let indexes = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap();
    for n in 0..10 {
        put(&store, key("pods", &format!("p{n}")), pod(Some("u"), json!({}), "")).await;
        assert_eq!(by(&indexes.pods, "u").len(), n + 1);
        put(&store, key("services", "other"), json!({"spec": {"n": n}})).await;
        assert_eq!(by(&indexes.pods, "u").len(), n + 1);
    }
    assert_eq!(indexes.entries_touched(), 10 + 2 * (1..=10).sum::<u64>(), "nothing was read anew");
}

#[tokio::test]
async fn a_work_of_a_set_is_read_once_per_version() {
    let store = store();
    let works = Indexes::new(&store, &Arc::new(kinds::registries())).unwrap().works;
    let root = ClusterName::root();
    let resource = Resource::new("work.open-cluster-management.io", "manifestworks");
    let key = |cluster: &str| Key::new(&resource, &root, cluster, "site");
    let work = |applied: &str| {
        json!({"metadata": {"labels": {WORK_SET_LABEL: "default.site"}}, "spec": {"workload": {}},
            "status": {"conditions": [{"type": "Applied", "status": applied}]}})
    };
    for cluster in ["a", "b", "c"] {
        put(&store, key(cluster), work("False")).await;
    }
    let all = || works.find(IndexTerm::Label(&root, "", WORK_SET_LABEL, "default.site"));
    let before = all();
    let read: Vec<*const WorkFacts> =
        before.iter().map(|it| std::ptr::from_ref(it.facts())).collect();
    put(&store, key("b"), work("True")).await;
    let now = all();
    let again: Vec<*const WorkFacts> =
        now.iter().map(|it| std::ptr::from_ref(it.facts())).collect();
    let same: Vec<bool> = read.iter().zip(&again).map(|(a, b)| a == b).collect();
    assert_eq!(same, [true, false, true]);
    let applied = |at: usize| now[at].facts().condition("Applied").unwrap().holds;
    assert_eq!([applied(0), applied(1)], [false, true]);
    assert_eq!(now[0].facts().spec, now[1].facts().spec);
}
