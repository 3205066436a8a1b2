//! Several objects that are written in one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use freewheel_hub_objects::{Wanted, WriteOptions, Written};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Store, Txn};
use serde_json::{Value, json};

use super::kit::{World, of};
use super::quotas::in_force;

const KIND: &str = "placementdecisions";

/// A decision with this label and these clusters.
fn decision(name: &str, label: &'static str, clusters: usize) -> Wanted<'static> {
    let list: Vec<Value> =
        (0..clusters).map(|n| json!({"clusterName": format!("c{n}"), "reason": ""})).collect();
    Wanted {
        target: of(KIND, name),
        change: Box::new(move |old| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            value["metadata"]["labels"]["group"] = json!(label);
            Ok(value)
        }),
        status: Box::new(move |old| {
            let mut value = old.unwrap_or_default();
            value["status"]["decisions"] = json!(list);
            Ok(value)
        }),
    }
}

async fn write(world: &World, wanted: &[Wanted<'_>]) -> Result<Vec<Written>, ApiError> {
    world.objects.write_together(&WriteOptions::default(), wanted).await
}

fn seen(world: &World, name: &str) -> (String, usize, String) {
    let value = world.read(KIND, name).unwrap();
    let text = |pointer: &str| value.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let clusters = value["status"]["decisions"].as_array().unwrap().len();
    (text("/metadata/labels/group"), clusters, text("/metadata/resourceVersion"))
}

#[tokio::test]
async fn what_is_written_together_is_of_one_revision() {
    let world = World::new().await;
    let made = write(&world, &[decision("a", "one", 2), decision("b", "two", 1)]).await.unwrap();
    assert!(made.iter().all(|it| it.created && it.changed));
    assert_eq!(made[0].stored.revision, made[1].stored.revision);
    let (a, b) = (seen(&world, "a"), seen(&world, "b"));
    assert_eq!((&*a.0, a.1, &*b.0, b.1, &a.2), ("one", 2, "two", 1, &b.2));
    let uid = |name: &str| world.read(KIND, name).unwrap()["metadata"]["uid"].clone();
    let before = uid("a");
    // Label and list of the one are another in one step, and what stays as it is keeps its revision.
    let changed = write(&world, &[decision("b", "two", 1), decision("a", "two", 3)]).await.unwrap();
    assert_eq!(changed.iter().map(|it| it.changed).collect::<Vec<_>>(), [false, true]);
    assert_eq!(seen(&world, "b").2, b.2);
    let now = seen(&world, "a");
    assert_eq!((&*now.0, now.1, uid("a")), ("two", 3, before));
    assert_eq!(now.2, changed[1].stored.revision.to_string());
    assert!(now.2 != a.2);
    assert_eq!(world.objects.store().snapshot().revision(), changed[1].stored.revision);
}

#[tokio::test]
async fn one_that_may_not_be_is_in_the_way_of_all() {
    let world = World::new().await;
    let refused = write(&world, &[decision("a", "one", 2), decision("b", "two", 101)]).await;
    assert_eq!(refused.unwrap_err().code, 422);
    assert!(world.read(KIND, "a").is_none() && world.read(KIND, "b").is_none());
}

#[tokio::test]
async fn a_quota_is_asked_for_all_of_them() {
    let world = World::new().await;
    let name = "count/placementdecisions.cluster.open-cluster-management.io";
    in_force(&world, &json!({name: "2"})).await;
    let three = ["a", "b", "c"].map(|name| decision(name, "one", 1));
    let refused = write(&world, &three).await.unwrap_err();
    assert_eq!(refused.code, 403);
    let why = format!("exceeded quota: q, requested: {name}=1, used: {name}=2, limited: {name}=2");
    assert!(refused.message.contains(&why), "{}", refused.message);
    assert!(world.read(KIND, "a").is_none());
    assert!(write(&world, &three[..2]).await.unwrap().iter().all(|it| it.created));
}

/// Somebody takes `a` away just before the next write of it, or of `b`.
struct Going(MemoryStore, Arc<AtomicBool>);

#[async_trait]
impl Layer for Going {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let (at, other) = (of(KIND, "a").key(), of(KIND, "b").key());
        let of_it = txn.operations.iter().any(|it| *it.key() == at || *it.key() == other);
        if of_it && self.1.swap(false, Ordering::SeqCst) {
            let gone = vec![Operation::Delete(at)];
            self.0.commit(Txn { expect: Vec::new(), operations: gone }).await?;
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn who_was_faster_with_one_makes_all_be_looked_at_again() {
    let soon = Arc::new(AtomicBool::new(false));
    let store = Going(MemoryStore::with_incarnation(1), soon.clone());
    let world = World::over(Arc::new(store)).await;
    write(&world, &[decision("a", "one", 2), decision("b", "two", 1)]).await.unwrap();
    soon.store(true, Ordering::SeqCst);
    let again = write(&world, &[decision("a", "one", 1), decision("b", "two", 2)]).await.unwrap();
    assert_eq!(again.iter().map(|it| it.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!((seen(&world, "a").1, seen(&world, "b").1), (1, 2));
}

#[tokio::test]
async fn what_stays_as_it_is_is_there() {
    let soon = Arc::new(AtomicBool::new(false));
    let store = Going(MemoryStore::with_incarnation(1), soon.clone());
    let world = World::over(Arc::new(store)).await;
    write(&world, &[decision("a", "one", 2), decision("b", "two", 1)]).await.unwrap();
    soon.store(true, Ordering::SeqCst);
    let again = write(&world, &[decision("a", "one", 2), decision("b", "two", 2)]).await.unwrap();
    assert_eq!(again.iter().map(|it| it.created).collect::<Vec<_>>(), [true, false]);
    assert_eq!((seen(&world, "a").1, seen(&world, "b").1), (2, 2));
}
