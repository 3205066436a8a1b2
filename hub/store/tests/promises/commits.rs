//! Transactions.

use freewheel_hub_store::{
    CommitError, Expect, MAX_OBJECT_BYTES, MAX_OPERATIONS, MAX_REQUEST_BYTES, Operation,
};
use tokio::task::JoinSet;

use super::kit::{Backend, all_pods, key, listed, object, put, remove, said, tell, txn, write};

pub(crate) async fn a_transaction_is_all_or_nothing(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put("a", "1")]).await;
    let unmet = txn(&[Expect::Absent(key("a"))], &[put("b", "1"), remove("a")]);
    let Err(CommitError::Unmet { index: 0, found: Some(found) }) = store.commit(unmet).await else {
        panic!("the expectation must fail and say what is there");
    };
    assert_eq!(said(&found), "a=1");
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"]);
    assert_eq!(store.snapshot().revision(), backend.step());
}

pub(crate) async fn one_transaction_is_one_revision(backend: &dyn Backend) {
    let store = backend.fresh();
    assert_eq!(store.snapshot().revision(), 0);
    let first = write(&store, &[put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let step = backend.step();
    assert_eq!(first.revision, step);
    assert!(first.results.iter().flatten().all(|stored| stored.revision == step));
    assert_eq!(write(&store, &[put("a", "2")]).await.revision, 2 * step);
    let snapshot = store.snapshot();
    assert_eq!(snapshot.revision(), 2 * step);
    assert_eq!(snapshot.get(&key("a")).unwrap().revision, 2 * step);
    assert_eq!(snapshot.get(&key("b")).unwrap().revision, step);
}

pub(crate) async fn every_precondition_is_kept(backend: &dyn Backend) {
    let store = backend.fresh();
    let made = write(&store, &[put("a", "1")]).await.revision;
    let changed = write(&store, &[put("a", "2")]).await.revision;
    let found = store.snapshot().get(&key("a")).unwrap();
    assert_eq!(Expect::still(&found), Expect::Created(key("a"), made));
    let holds = [
        Expect::Present(key("a")),
        Expect::Revision(key("a"), changed),
        Expect::Created(key("a"), made),
        Expect::Absent(key("b")),
    ];
    let fails = [
        Expect::Absent(key("a")),
        Expect::Present(key("b")),
        Expect::Revision(key("a"), made),
        Expect::Revision(key("b"), made),
        Expect::Created(key("a"), changed),
        Expect::Created(key("b"), made),
    ];
    for expect in &fails {
        let refused = store.commit(txn(std::slice::from_ref(expect), &[put("x", "1")])).await;
        assert!(matches!(refused, Err(CommitError::Unmet { index: 0, .. })), "{expect:?}");
    }
    let last = store.commit(txn(&holds, &[put("x", "1")])).await.unwrap().revision;
    assert_eq!(last, changed + backend.step());
    // The next one of its name is another one.
    write(&store, &[remove("a")]).await;
    write(&store, &[put("a", "3")]).await;
    let refused = store.commit(txn(&[Expect::still(&found)], &[put("x", "2")])).await;
    assert!(matches!(refused, Err(CommitError::Unmet { index: 0, found: Some(_) })));
}

pub(crate) async fn expectations_are_checked_in_order(backend: &dyn Backend) {
    let store = backend.fresh();
    let expect = [Expect::Absent(key("a")), Expect::Present(key("b")), Expect::Present(key("c"))];
    let refused = store.commit(txn(&expect, &[put("b", "1"), put("c", "1")])).await;
    assert!(matches!(refused, Err(CommitError::Unmet { index: 1, found: None })));
}

pub(crate) async fn a_write_that_changes_nothing_keeps_the_revision(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut watch = store.watch(vec![], 0).unwrap();
    write(&store, &[put("a", "1")]).await;
    let again = write(&store, &[put("a", "1")]).await;
    let step = backend.step();
    assert_eq!(again.revision, step);
    assert_eq!(again.results[0].as_ref().unwrap().revision, step);
    write(&store, &[put("a", "1"), put("b", "2")]).await;
    let events = super::kit::read_until(&mut watch, 2 * step).await;
    let told: Vec<_> = events.iter().map(tell(step)).collect();
    assert_eq!(told, ["1 >a=1", "2 >b=2"]);
}

pub(crate) async fn deleting_what_is_absent_is_no_error(backend: &dyn Backend) {
    let store = backend.fresh();
    let nothing = write(&store, &[remove("a")]).await;
    assert_eq!((nothing.revision, nothing.results), (0, vec![None]));
    write(&store, &[put("a", "1")]).await;
    let gone = write(&store, &[remove("a"), remove("b")]).await;
    assert_eq!(gone.revision, 2 * backend.step());
    assert_eq!(said(gone.results[0].as_ref().unwrap()), "a=1");
    assert_eq!(gone.results[1], None);
}

pub(crate) async fn a_key_twice_in_a_transaction_is_refused(backend: &dyn Backend) {
    let store = backend.fresh();
    write(&store, &[put("a", "1")]).await;
    for twice in
        [[remove("a"), put("a", "2")], [put("a", "1"), put("a", "2")], [put("b", "1"), remove("b")]]
    {
        let refused = store.commit(txn(&[], &twice)).await;
        assert!(matches!(refused, Err(CommitError::Malformed(_))), "{twice:?}");
    }
    assert_eq!(listed(&*store.snapshot(), &all_pods()), ["a=1"]);
}

pub(crate) async fn too_much_is_refused(backend: &dyn Backend) {
    let store = backend.fresh();
    let many: Vec<Operation> = (0..=MAX_OPERATIONS).map(|i| put(&format!("p{i}"), "1")).collect();
    let refused = store.commit(txn(&[], &many)).await;
    assert!(matches!(refused, Err(CommitError::TooLarge(_))));
    let expect: Vec<Expect> =
        (0..=MAX_OPERATIONS).map(|i| Expect::Absent(key(&format!("p{i}")))).collect();
    let refused = store.commit(txn(&expect, &many[..1])).await;
    assert!(matches!(refused, Err(CommitError::TooLarge(_))));
    // Each of the two is counted by itself.
    assert!(store.commit(txn(&expect[1..], &many[1..])).await.is_ok());
    let large = put("large", &"x".repeat(MAX_OBJECT_BYTES));
    assert!(matches!(store.commit(txn(&[], &[large])).await, Err(CommitError::TooLarge(_))));
    let zero = Operation::Put(key("a\0b"), object("1"));
    assert!(matches!(store.commit(txn(&[], &[zero])).await, Err(CommitError::TooLarge(_))));
    assert_eq!(store.snapshot().revision(), backend.step());
}

pub(crate) async fn a_request_has_so_many_bytes_at_most(backend: &dyn Backend) {
    let store = backend.fresh();
    let large = "x".repeat(MAX_OBJECT_BYTES - 1_000);
    let all: Vec<Operation> = (0..6).map(|i| put(&format!("p{i}"), &large)).collect();
    let fits = MAX_REQUEST_BYTES / MAX_OBJECT_BYTES;
    assert!(fits < all.len());
    let refused = store.commit(txn(&[], &all)).await;
    assert!(matches!(refused, Err(CommitError::TooLarge(_))));
    assert!(store.commit(txn(&[], &all[..fits])).await.is_ok());
    // Keys that are only expected are on their way as well.
    let name = "n".repeat(1_900);
    let expect: Vec<Expect> =
        (0..MAX_OPERATIONS).map(|i| Expect::Absent(key(&format!("{name}{i}")))).collect();
    let refused = store.commit(txn(&expect, &[put("a", "1")])).await;
    assert!(matches!(refused, Err(CommitError::TooLarge(_))));
    assert!(store.commit(txn(&expect[..1_000], &[put("a", "1")])).await.is_ok());
}

pub(crate) async fn of_many_writers_of_one_revision_one_wins(backend: &dyn Backend) {
    let store = backend.fresh();
    let made = write(&store, &[put("a", "0")]).await.revision;
    let mut writers = JoinSet::new();
    for writer in 0..32 {
        let store = store.clone();
        writers.spawn(async move {
            let expect = [Expect::Revision(key("a"), made)];
            store.commit(txn(&expect, &[put("a", &format!("{writer}!"))])).await
        });
    }
    let outcomes = writers.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    for outcome in outcomes {
        if let Err(CommitError::Unmet { found, .. }) = outcome {
            // Whoever lost is told what is durable: a read sees at least that.
            let found = found.unwrap();
            assert_eq!(store.snapshot().get(&key("a")).unwrap(), found);
        }
    }
}

pub(crate) async fn concurrent_writers_each_get_a_revision(backend: &dyn Backend) {
    let store = backend.fresh();
    let mut writers = JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for round in 0..8 {
                let name = format!("p{writer}-{round}");
                let done = store.commit(txn(&[Expect::Absent(key(&name))], &[put(&name, "1")]));
                let revision = done.await.unwrap().revision;
                assert!(revision <= store.snapshot().revision(), "answered before it is visible");
                revisions.push(revision);
            }
            assert!(revisions.is_sorted());
            revisions
        });
    }
    let mut all: Vec<_> = writers.join_all().await.into_iter().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=512).map(|count| count * backend.step()).collect::<Vec<_>>());
    assert_eq!(store.snapshot().count(&all_pods()), 512);
}

pub(crate) async fn created_stays_and_a_second_life_starts_anew(backend: &dyn Backend) {
    let store = backend.fresh();
    let created = || store.snapshot().get(&key("a")).unwrap().created;
    let made = write(&store, &[put("a", "1")]).await.revision;
    write(&store, &[put("a", "2")]).await;
    assert_eq!(created(), made);
    write(&store, &[remove("a")]).await;
    let again = write(&store, &[put("a", "3")]).await.revision;
    assert_eq!(created(), again);
}
