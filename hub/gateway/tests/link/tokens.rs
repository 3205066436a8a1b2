//! Tokens for one device.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

/// A store that takes its time, and cannot make one of the next writes of a Secret.
struct Slow(MemoryStore, Arc<AtomicUsize>);

#[async_trait]
impl Layer for Slow {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let secret = |operation: &Operation| matches!(operation, Operation::Put(key, _) if key.resource.as_str() == "secrets");
        if txn.operations.iter().any(secret)
            && self.1.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                == Ok(1)
        {
            return Err(CommitError::Unavailable("no space left on device".into()));
        }
        self.0.commit(txn).await
    }
}

/// A hub, and which write of a Secret fails.
async fn slow() -> (Hub, Arc<AtomicUsize>) {
    let fails = Arc::new(AtomicUsize::new(0));
    let store = Slow(MemoryStore::with_incarnation(7), fails.clone());
    (Hub::over(Arc::new(store), true, None).await, fails)
}

/// A token for one device, which accepts it.
async fn single(hub: &Hub) -> &'static str {
    let encode = |text: &str| json!(base64::engine::general_purpose::STANDARD.encode(text));
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": "bootstrap-token-single", "namespace": "kube-system"},
        "data": {
            "token-id": encode("single"), "token-secret": encode("0123456789abcdef"),
            "usage-freewheel-join": encode("true"),
            "freewheel-auto-accept": encode("true"), "freewheel-single-use": encode("true"),
        },
    });
    hub.create(("", "v1", "secrets"), "kube-system", "bootstrap-token-single", secret).await;
    "single.0123456789abcdef"
}

fn clusters(hub: &Hub) -> Vec<String> {
    let resource = kinds::find(CLUSTERS.0, CLUSTERS.1, CLUSTERS.2).unwrap().storage().clone();
    let scope = Scope { resource, cluster: Some(ClusterName::root()), namespace: None };
    let snapshot = hub.objects.store().snapshot();
    snapshot.range(&scope, None).map(|stored| stored.key.name.to_string()).collect()
}

#[tokio::test]
async fn a_token_for_one_device_is_one_devices() {
    let hub = Hub::new(true).await;
    let token = single(&hub).await;
    let (first, second) = (Device::new(), Device::new());
    let given = hub.join(&first, "pi-7", token).await.unwrap();
    refused(hub.join(&second, "pi-8", token).await, JoinRefusal::Token, "used by another device");
    assert_eq!(hub.join(&first, "pi-7", token).await.unwrap(), given, "it may come again");
    hub.remove_cluster("pi-7").await;
    hub.let_cluster_go("pi-7").await;
    let again = hub.join(&first, "pi-7", token).await;
    refused(again, JoinRefusal::Token, "make a new one");
    assert!(hub.objects.get(&place(CLUSTERS, "", "pi-7")).is_err(), "who was removed stays so");
}

#[tokio::test]
async fn a_token_that_is_raced_makes_one_cluster() {
    let (hub, _) = slow().await;
    let token = single(&hub).await;
    let (one, other) = (Device::new(), Device::new());
    let names: Vec<String> = (0..8).map(|number| format!("pi-{number}")).collect();
    let race =
        names.iter().flat_map(|name| [hub.join(&one, name, token), hub.join(&other, name, token)]);
    let outcomes = futures::future::join_all(race).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), clusters(&hub).len()), (1, 1), "{:?}", clusters(&hub));
    for loser in lost {
        refused(loser, JoinRefusal::Token, "make a new one");
    }
}

#[tokio::test]
async fn a_join_that_broke_off_is_finished_by_its_own_device_under_its_own_name() {
    let (hub, fails) = slow().await;
    let token = single(&hub).await;
    let device = Device::new();
    // The token knows its device; the cluster is made; that it is, cannot be written.
    fails.store(2, Ordering::Relaxed);
    let broken = hub.join(&device, "pi-7", token).await;
    refused(broken, JoinRefusal::Internal, "no space left");
    assert_eq!(clusters(&hub), ["pi-7"]);
    refused(hub.join(&Device::new(), "pi-9", token).await, JoinRefusal::Token, "another device");
    refused(hub.join(&device, "pi-8", token).await, JoinRefusal::Token, "another device");
    hub.join(&device, "pi-7", token).await.unwrap();
    assert_eq!(clusters(&hub), ["pi-7"]);
}

#[tokio::test]
async fn a_device_does_not_take_a_name_whose_namespace_is_somebody_elses() {
    let hub = Hub::new(true).await;
    for own in ["kube-system", "default", "open-cluster-management-hub"] {
        let refusal = hub.join(&Device::new(), own, TOKEN).await;
        refused(refusal, JoinRefusal::Name, "choose another");
    }
    let namespaces = ("", "v1", "namespaces");
    hub.create(
        namespaces,
        "",
        "team-a",
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-a"}}),
    )
    .await;
    let device = Device::new();
    let refusal = hub.join(&device, "team-a", TOKEN).await;
    refused(refusal, JoinRefusal::NameTaken, "choose another");
    // Somebody who may has decided that it is.
    let clusters = ("cluster.open-cluster-management.io", "v1", "managedclusters");
    let made = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "team-a"},
    });
    hub.create(clusters, "", "team-a", made).await;
    hub.join(&device, "team-a", TOKEN).await.unwrap();
    // One that an earlier cluster of the name has left is its own.
    let labels = json!({"open-cluster-management.io/cluster-name": "pi-9"});
    let metadata = json!({"name": "pi-9", "labels": labels});
    let left = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata});
    hub.create(namespaces, "", "pi-9", left).await;
    hub.join(&Device::new(), "pi-9", TOKEN).await.unwrap();
}

#[tokio::test]
async fn a_name_that_is_taken_does_not_use_a_token_up() {
    let hub = Hub::new(true).await;
    let token = single(&hub).await;
    hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let device = Device::new();
    refused(hub.join(&device, "pi-7", token).await, JoinRefusal::NameTaken, "choose another");
    hub.join(&device, "pi-8", token).await.unwrap();
}

/// The ManagedCluster of a device that was decommissioned goes when all that belongs to it is gone.
#[tokio::test]
async fn a_new_board_that_comes_right_after_the_old_one_was_removed_has_its_name() {
    let hub = Hub::new(true).await;
    let token = single(&hub).await;
    hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    hub.remove_cluster("pi-7").await;
    let board = Device::new();
    // As it was told, it asks again.
    for _ in 0..2 {
        let refusal = hub.join(&board, "pi-7", token).await;
        refused(refusal, JoinRefusal::Busy, "asks again until the name is free");
    }
    hub.let_cluster_go("pi-7").await;
    let given = hub.join(&board, "pi-7", token).await.unwrap();
    assert_eq!(given.cluster.as_str(), "pi-7");
}
