//! How many bytes clusters have, and may have.

use std::sync::Arc;

use freewheel_hub_store::{CommitError, Expect, Operation, Store};
use tokio::task::JoinSet;

use super::kit::{Backend, all_pods, cluster, key, put, remove, txn, write};

fn bytes(store: &Arc<dyn Store>, of: &str) -> u64 {
    store.snapshot().stored_bytes().of(&cluster(of))
}

fn pod(of: &str, name: &str) -> String {
    format!("pods|{of}|default|{name}")
}

fn at_most(of: &str, most: u64) -> Expect {
    Expect::ClusterAtMost(key(&pod(of, "any")), most)
}

pub(crate) async fn bytes_are_those_of_what_is_there_after_a_restart(backend: &dyn Backend) {
    let store = backend.fresh();
    let counter = key("places.internal|pi-7||all");
    write(&store, &[put(&pod("pi-7", "a"), "one"), put(&pod("pi-8", "a"), "one")]).await;
    write(&store, &[Operation::Add(counter.clone(), 1000)]).await;
    let (first, other) = (bytes(&store, "pi-7"), bytes(&store, "pi-8"));
    assert_eq!(first - other, (4 + "places.internal".len() + "pi-7".len() + 3 + 4) as u64);
    write(&store, &[put(&pod("pi-7", "a"), "three")]).await;
    assert_eq!(bytes(&store, "pi-7"), first + 2);
    write(&store, &[put(&pod("pi-7", "b"), "one"), Operation::Add(counter.clone(), -999)]).await;
    write(&store, &[remove(&pod("pi-7", "b"))]).await;
    assert_eq!((bytes(&store, "pi-7"), bytes(&store, "pi-8")), (first + 2 - 3, other));
    let told = store.snapshot().stored_bytes();
    drop(store);
    if let Some(again) = backend.again() {
        assert_eq!(again.snapshot().stored_bytes(), told);
        write(&again, &[remove(&pod("pi-7", "a")), Operation::Delete(counter)]).await;
        let left: Vec<_> = again.snapshot().stored_bytes().clusters().map(|one| one.1).collect();
        assert_eq!(left, [other], "a cluster without objects leaves nothing");
    }
}

pub(crate) async fn what_is_rebuilt_of_the_past_has_nobodys_bytes(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put(&pod("pi-7", "a"), "one"), put(&pod("pi-8", "a"), "one")]).await;
    let then = store.snapshot().revision();
    write(&store, &[remove(&pod("pi-7", "a")), put(&pod("pi-8", "b"), "two")]).await;
    let past = store.snapshot_at(&all_pods(), then).unwrap();
    assert_eq!(past.range(&all_pods(), None).count(), 2);
    assert_eq!(past.stored_bytes().clusters().count(), 0);
}

pub(crate) async fn a_cluster_has_so_many_bytes_at_most_against_a_crowd(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put(&pod("pi-7", "p00"), "1")]).await;
    let most = 20 * bytes(&store, "pi-7");
    let mut writers = JoinSet::new();
    for writer in 1..=64 {
        let store = store.clone();
        writers.spawn(async move {
            let put = put(&pod("pi-7", &format!("p{writer:02}")), "1");
            store.commit(txn(&[at_most("pi-7", most)], &[put])).await
        });
    }
    let outcomes = writers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 19);
    let full = |outcome: &Result<_, CommitError>| matches!(outcome, Err(CommitError::ClusterFull { held, .. }) if *held == most);
    assert_eq!(outcomes.iter().filter(|outcome| full(outcome)).count(), 45);
    assert_eq!(bytes(&store, "pi-7"), most);
}

pub(crate) async fn a_full_cluster_may_shrink_and_others_grow(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put(&pod("pi-7", "a"), "long"), put(&pod("pi-7", "b"), "long")]).await;
    let none = at_most("pi-7", 0);
    let commit = async |operations: &[Operation]| {
        store.commit(txn(std::slice::from_ref(&none), operations)).await.map(drop)
    };
    let longer = commit(&[put(&pod("pi-7", "a"), "longer")]).await.unwrap_err();
    let held = bytes(&store, "pi-7");
    let told = format!("cluster pi-7 has {held} bytes stored, and 2 more are beyond its 0");
    assert_eq!(longer.to_string(), told);
    commit(&[put(&pod("pi-7", "a"), "same")]).await.unwrap();
    commit(&[put(&pod("pi-7", "a"), "less")]).await.unwrap();
    commit(&[put(&pod("pi-8", "a"), "another's")]).await.unwrap();
    commit(&[put(&pod("pi-7", "a"), "lo"), put(&pod("pi-7", "b"), "longer")]).await.unwrap();
    commit(&[put(&pod("pi-7", "c"), "x"), remove(&pod("pi-7", "b"))]).await.unwrap();
    commit(&[remove(&pod("pi-7", "a")), remove(&pod("pi-7", "c"))]).await.unwrap();
    assert_eq!(bytes(&store, "pi-7"), 0);
}
