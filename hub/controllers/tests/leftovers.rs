//! What a removed cluster or Node leaves behind.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::hub::{Hub, condition, get, kind};
use async_trait::async_trait;
use freewheel_hub_controllers::pod_gc::NODE_QUARANTINE;
use freewheel_hub_objects::Propagation;
use freewheel_hub_objects::internal::{SessionRecord, session_key};
use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::sleep;

/// A store that lets nobody delete what is called `stuck`, for as long as it is told to.
struct Sticky(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Sticky {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let stuck = |o: &Operation| matches!(o, Operation::Delete(key) if &*key.name == "stuck");
        if self.1.load(Ordering::SeqCst) && txn.operations.iter().any(stuck) {
            return Err(CommitError::TooLarge("it sticks".to_owned()));
        }
        self.0.commit(txn).await
    }
}

fn service(name: &str, port: u16) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "NodePort",
        "ports": [{"port": 80, "nodePort": port}]}})
}

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_deleted_holds_up_nothing_else() {
    let sticks = Arc::new(AtomicBool::new(false));
    let store = Sticky(MemoryStore::with_incarnation(1), sticks.clone());
    let hub = Hub::over(store, &["pi-1"]).await;
    hub.eventually("its namespaces stand", |s| {
        get(s, "pi-1", "namespaces", "", "default").is_some()
    })
    .await;
    hub.create("pi-1", "services", "default", service("stuck", 30_001)).await;
    hub.create("pi-1", "services", "default", service("web", 30_002)).await;
    hub.create("pi-1", "configmaps", "default", named("a")).await;
    sticks.store(true, Ordering::SeqCst);
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("all but one thing is gone", |s| {
        get(s, "pi-1", "services", "default", "web").is_none()
            && get(s, "pi-1", "configmaps", "default", "a").is_none()
            && get(s, "pi-1", "namespaces", "", "default").is_none()
    })
    .await;
    let snapshot = hub.snapshot();
    assert!(get(&*snapshot, "pi-1", "services", "default", "stuck").is_some());
    assert!(get(&*snapshot, "root", "managedclusters", "", "pi-1").is_some(), "it goes last");
    sticks.store(false, Ordering::SeqCst);
    hub.eventually("the cluster is gone", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
            && get(s, "pi-1", "services", "default", "stuck").is_none()
    })
    .await;
    // What it held is free on every device.
    for (name, port) in [("one", 30_001), ("two", 30_002)] {
        hub.create("root", "services", "default", service(name, port)).await;
    }
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_service_with_hundreds_of_node_ports_goes_with_its_cluster() {
    let hub = Hub::with_spokes(&["pi-1"]).await;
    hub.eventually("its namespaces stand", |s| {
        get(s, "pi-1", "namespaces", "", "default").is_some()
    })
    .await;
    let wide = |ports: u32| -> Value {
        (0..ports)
            .map(|n| json!({"name": format!("p{n}"), "port": 1 + n, "protocol": "TCP"}))
            .collect()
    };
    let mut body = service("wide", 30_001);
    body["spec"]["ports"] = wide(60);
    hub.create("pi-1", "services", "default", body).await;
    for ports in [100, 160, 400] {
        hub.change("pi-1", "services", "default", "wide", |value| {
            value["spec"]["ports"] = wide(ports);
        })
        .await;
    }
    hub.delete("managedclusters", "", "pi-1", Propagation::Background).await;
    hub.eventually("the cluster is gone", |s| {
        get(s, "root", "managedclusters", "", "pi-1").is_none()
            && get(s, "pi-1", "services", "default", "wide").is_none()
    })
    .await;
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_turns_up_in_a_cluster_that_is_not_there_is_removed() {
    let hub = Hub::with_spokes(&[]).await;
    hub.create("ghost", "namespaces", "", named("default")).await;
    hub.create("ghost", "services", "default", service("web", 30_002)).await;
    hub.eventually("nothing is left", |s| {
        get(s, "ghost", "namespaces", "", "default").is_none()
            && get(s, "ghost", "services", "default", "web").is_none()
    })
    .await;
    hub.create("root", "services", "default", service("web", 30_002)).await;
    hub.stop().await;
}

/// A store in which `pi-1` is another cluster, which nobody has accepted, just before the next object of a kind is
/// written.
struct Remade(MemoryStore, Arc<Mutex<Option<Resource>>>);

impl Remade {
    fn is_due(&self, txn: &Txn) -> bool {
        let mut of = self.1.lock();
        let due = txn.operations.iter().any(|operation| {
            matches!(operation, Operation::Put(key, _) if Some(&key.resource) == of.as_ref())
        });
        if due {
            *of = None;
        }
        due
    }
}

#[async_trait]
impl Layer for Remade {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if self.is_due(&txn) {
            let clusters = kind("managedclusters").storage().clone();
            let key = Key::new(&clusters, &ClusterName::root(), "", "pi-1");
            let mut value = self.0.snapshot().get(&key).unwrap().object.value().unwrap();
            value["metadata"]["uid"] = json!("the next one");
            value["spec"]["hubAcceptsClient"] = json!(false);
            let object = Object::from_value(value, BTreeMap::new()).unwrap();
            // Another object of that name is one that was made after the other had gone.
            let gone = vec![Operation::Delete(key.clone())];
            self.0.commit(Txn { expect: Vec::new(), operations: gone }).await.unwrap();
            let operations = vec![Operation::Put(key, object)];
            self.0.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_made_for_a_cluster_that_was_remade_just_before() {
    let of_it = [
        ("nodes", "root", "", "pi-1"),
        ("namespaces", "pi-1", "", "default"),
        ("services", "pi-1", "default", "kubernetes"),
    ];
    for (plural, realm, namespace, name) in of_it {
        let armed = Arc::new(Mutex::new(None));
        let hub = Hub::over(Remade(MemoryStore::with_incarnation(1), armed.clone()), &[]).await;
        *armed.lock() = Some(kind(plural).storage().clone());
        let body = json!({"metadata": {"name": "pi-1"}, "spec": {"hubAcceptsClient": true}});
        hub.create("root", "managedclusters", "", body).await;
        hub.eventually("it is another one", |_| armed.lock().is_none()).await;
        sleep(Duration::from_secs(10)).await;
        let made = get(&*hub.snapshot(), realm, plural, namespace, name);
        assert!(made.is_none(), "{plural}: {made:?}");
        hub.stop().await;
    }
}

/// A store in which `pi-1` has a session just before somebody says of one of its pods that it is not ready.
struct Back(MemoryStore, Arc<Mutex<usize>>);

#[async_trait]
impl Layer for Back {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        const MARK: &[u8] = b"\"NodeNotReady\"";
        let marks = txn.operations.iter().any(|operation| match operation {
            Operation::Put(key, object) => {
                key.resource == *kind("pods").storage()
                    && object.body.windows(MARK.len()).any(|part| part == MARK)
            }
            _ => false,
        });
        if marks {
            *self.1.lock() += 1;
            let session = SessionRecord::of(&*self.0.snapshot(), "pi-1").unwrap();
            let session = SessionRecord { connected: true, ..session };
            let operations = vec![Operation::Put(session_key("pi-1"), session.to_object())];
            self.0.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_spoke_that_came_back_just_before_speaks_for_itself() {
    let tried = Arc::new(Mutex::new(0));
    let hub =
        Hub::over(Back(MemoryStore::with_incarnation(1), tried.clone()), &["pi-1", "pi-2"]).await;
    let spec = json!({"nodeName": "pi-1", "containers": [{"name": "c", "image": "a:1"}]});
    hub.create("root", "pods", "default", json!({"metadata": {"name": "web"}, "spec": spec})).await;
    let ready = |s: &dyn Snapshot| {
        let web = get(s, "root", "pods", "default", "web").unwrap();
        condition(&web, "Ready").to_owned()
    };
    hub.eventually("it runs", |s| ready(s) == "True").await;
    hub.write_session("pi-1", false).await;
    hub.eventually("somebody would have spoken for it", |_| *tried.lock() != 0).await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!((ready(&*hub.snapshot()), *tried.lock()), ("True".to_owned(), 1));
    hub.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_pod_goes_when_its_node_was_missing_for_a_while_and_not_before() {
    let hub = Hub::with_spokes(&[]).await;
    for (name, node) in [("lost", "gone"), ("found", "late")] {
        let spec = json!({"nodeName": node, "containers": [{"name": "c", "image": "a:1"}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        hub.create("root", "pods", "default", pod).await;
    }
    let there = |name: &str| get(&*hub.snapshot(), "root", "pods", "default", name).is_some();
    sleep(NODE_QUARANTINE - Duration::from_secs(2)).await;
    assert!(there("lost") && there("found"));
    hub.create("root", "nodes", "", named("late")).await;
    hub.eventually("a pod without a node goes", |s| {
        get(s, "root", "pods", "default", "lost").is_none()
    })
    .await;
    sleep(NODE_QUARANTINE * 2).await;
    assert!(there("found"), "its Node was made in time");
    hub.stop().await;
}
