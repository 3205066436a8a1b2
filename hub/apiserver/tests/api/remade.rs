//! What is removed, or removed and made anew, between a request's look at it and its write.

#![expect(clippy::unwrap_used, reason = "a broken fixture fails its test")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freewheel_hub_apiserver::Limits;
use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Store, Txn};
use freewheel_link::names::ClusterName;
use serde_json::json;

use crate::support::{Hub, create};

const GROUP: &str = "cluster.open-cluster-management.io/v1";
const MAPS: &str = "/clusters/pi-7/api/v1/namespaces/default/configmaps";

/// Just before the next ConfigMap is written or deleted `pi-7` is another cluster.
struct Remade(MemoryStore, Arc<AtomicBool>);

fn is_of_a_map(operation: &Operation) -> bool {
    operation.key().resource == Resource::new("", "configmaps")
}

#[async_trait]
impl Layer for Remade {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        if txn.operations.iter().any(is_of_a_map) && self.1.swap(false, Ordering::SeqCst) {
            let (group, _) = GROUP.split_once('/').unwrap();
            let clusters = Resource::new(group, "managedclusters");
            let key = Key::new(&clusters, &ClusterName::root(), "", "pi-7");
            let mut value = self.0.snapshot().get(&key).unwrap().object.value().unwrap();
            let uid = value["metadata"]["uid"].as_str().unwrap().to_owned();
            value["metadata"]["uid"] = json!(uid + "x");
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

#[tokio::test]
async fn a_write_whose_cluster_goes_just_before_its_commit_is_not_for_the_next() {
    let armed = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Remade(MemoryStore::new(), armed.clone()), Limits::default()).await;
    create(&hub.objects, GROUP, "ManagedCluster", json!({"metadata": {"name": "pi-7"}})).await;
    let admin = hub.admin();
    let namespace = json!({"metadata": {"name": "default"}});
    assert_eq!(admin.post("/clusters/pi-7/api/v1/namespaces", &namespace).await.code, 201);
    let map = |name: &str, text: &str| json!({"metadata": {"name": name}, "data": {"is": text}});
    assert_eq!(admin.post(MAPS, &map("a", "1")).await.code, 201);
    let path = format!("{MAPS}/a");
    let patch = json!({"data": {"is": "2"}});
    let before = admin.get(MAPS).await.json()["items"].clone();
    for verb in ["create", "update", "patch", "delete"] {
        armed.store(true, Ordering::SeqCst);
        let answer = match verb {
            "create" => admin.post(MAPS, &map("b", "1")).await,
            "update" => admin.put(&path, &map("a", "2")).await,
            "patch" => admin.patch(&path, "merge-patch+json", &patch).await,
            _ => admin.delete(&path).await,
        };
        assert_eq!((answer.code, &answer.json()["reason"]), (410, &json!("Expired")), "{verb}");
        assert!(!armed.load(Ordering::SeqCst));
        assert_eq!(admin.get(MAPS).await.json()["items"], before, "{verb}");
    }
    assert_eq!(admin.put(&path, &map("a", "2")).await.code, 200);
}

/// Just before the next Endpoints are written they are deleted by somebody else.
struct Deleted(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Deleted {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let endpoints = Resource::new("", "endpoints");
        let key = txn.operations.iter().map(Operation::key).find(|key| key.resource == endpoints);
        if let Some(key) = key.cloned()
            && self.1.swap(false, Ordering::SeqCst)
        {
            let operations = vec![Operation::Delete(key)];
            self.0.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn what_goes_before_it_is_replaced_is_made_by_who_may_do_that() {
    let armed = Arc::new(AtomicBool::new(false));
    let hub = Hub::over(Deleted(MemoryStore::new(), armed.clone()), Limits::default()).await;
    let admin = hub.admin();
    let rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    let role = json!({"metadata": {"name": "holder"}, "rules": [
        {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["update"]}]});
    let binding = json!({"metadata": {"name": "holder"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "holder"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]});
    assert_eq!(admin.post(&format!("{rbac}/roles"), &role).await.code, 201);
    assert_eq!(admin.post(&format!("{rbac}/rolebindings"), &binding).await.code, 201);
    let jane = hub.client(Some(&hub.authority.client("jane", "people")));
    let path = "/api/v1/namespaces/default/endpoints/a";
    let said =
        |word: &str| json!({"metadata": {"name": "a", "labels": {"said": word}}, "subsets": []});
    for (client, code) in [(&admin, 201), (&jane, 403)] {
        assert_eq!(admin.put(path, &said("first")).await.code / 100, 2);
        assert_eq!(client.put(path, &said("second")).await.code, 200);
        armed.store(true, Ordering::SeqCst);
        let answer = client.put(path, &said("third")).await;
        assert_eq!(answer.code, code, "{}", answer.text());
        assert!(!armed.load(Ordering::SeqCst));
    }
}
