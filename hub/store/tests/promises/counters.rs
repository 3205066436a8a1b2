//! Numbers that many add to at once.

use std::sync::Arc;

use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{CommitError, Expect, Operation, Store};
use tokio::task::JoinSet;

use super::kit::{Backend, key, object, put, tell, txn, write};

fn places() -> Key {
    key("places.internal|root||all")
}

fn add(by: i64) -> Operation {
    Operation::Add(places(), by)
}

fn count(store: &Arc<dyn Store>) -> u64 {
    store.snapshot().counter(&places())
}

pub(crate) async fn additions_at_once_all_count(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            let name = format!("p{writer}");
            let create = txn(&[Expect::Absent(key(&name))], &[put(&name, "1"), add(3)]);
            store.commit(create).await.unwrap();
            store.commit(txn(&[], &[add(-1)])).await.unwrap();
        });
    }
    writers.join_all().await;
    assert_eq!(count(&store), 128);
}

pub(crate) async fn a_guard_holds_against_a_crowd(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            let expect = [Expect::Present(key("b")), Expect::AtMost(places(), 20)];
            let create = txn(&expect[1..], &[put(&format!("p{writer}"), "1"), add(2)]);
            store.commit(create).await
        });
    }
    let outcomes = writers.join_all().await;
    let full = |outcome: &Result<_, CommitError>| {
        matches!(outcome, Err(CommitError::Unmet { index: 0, found: Some(_) }))
    };
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
    assert_eq!(outcomes.iter().filter(|outcome| full(outcome)).count(), 54);
    assert_eq!(count(&store), 20);
    // Whoever gives back is not asked whether that much may be taken.
    let smaller = [Expect::AtMost(places(), 19)];
    assert!(store.commit(txn(&smaller, &[])).await.is_err());
    assert!(store.commit(txn(&smaller, &[add(-1)])).await.is_ok());
    assert!(store.commit(txn(&smaller, &[])).await.is_ok());
}

pub(crate) async fn a_counter_at_zero_leaves_nothing(backend: &dyn Backend) {
    let store = backend.fresh();
    let none = [Expect::AtMost(places(), 0), Expect::Absent(places())];
    store.commit(txn(&none, &[])).await.unwrap();
    assert_eq!(write(&store, &[add(2)]).await.results[0].as_ref().unwrap().object.body, "2");
    assert!(store.commit(txn(&none[..1], &[])).await.is_err());
    assert_eq!(write(&store, &[add(-2)]).await.results, [None]);
    assert!(store.snapshot().get(&places()).is_none());
    store.commit(txn(&none, &[])).await.unwrap();
    let before = store.snapshot().revision();
    assert_eq!(write(&store, &[add(-5)]).await.revision, before, "there is no less than nothing");
    assert_eq!(write(&store, &[add(0)]).await.revision, before);
    write(&store, &[add(i64::MAX), put("a", "1")]).await;
    write(&store, &[add(i64::MIN)]).await;
    assert_eq!(count(&store), 0);
}

pub(crate) async fn what_is_no_counter_is_left_alone(backend: &dyn Backend) {
    let store = backend.fresh();
    let lease = key("leases.internal|root||a");
    write(&store, &[put("a", "1"), Operation::Put(lease.clone(), object("1"))]).await;
    for key in [key("a"), key("b"), lease] {
        for (expect, operations) in [
            (vec![], vec![Operation::Add(key.clone(), 1)]),
            (vec![Expect::AtMost(key.clone(), 5)], vec![put("x", "1")]),
        ] {
            let refused = store.commit(txn(&expect, &operations)).await;
            assert!(matches!(refused, Err(CommitError::Malformed(_))), "{operations:?}");
        }
        assert_eq!(store.snapshot().counter(&key), 0);
    }
    let twice = store.commit(txn(&[], &[add(1), add(1)])).await;
    assert!(matches!(twice, Err(CommitError::Malformed(_))));
}

pub(crate) async fn a_counter_is_nothing_to_who_watches_objects(backend: &dyn Backend) {
    let store = backend.fresh();
    let step = backend.step();
    let mut watch = store.watch(vec![], 0).unwrap();
    write(&store, &[put("a", "1"), add(1)]).await;
    write(&store, &[add(1)]).await;
    write(&store, &[put("a", "2"), add(1)]).await;
    let events = super::kit::read_until(&mut watch, 3 * step).await;
    assert_eq!(events.iter().map(tell(step)).collect::<Vec<_>>(), ["1 >a=1", "3 a=1>a=2"]);
    assert_eq!(watch.progress(), 3 * step);
}
