//! A store that is put back from a copy, and the future that it had.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use crate::promises::kit::{all_pods, put, txn};
use freewheel_hub_store::redb::RedbStore;
use freewheel_hub_store::{Revision, Store};
use tokio::time::timeout;

async fn write(store: &RedbStore, value: &str) -> Revision {
    store.commit(txn(&[], &[put("a", value)])).await.unwrap().revision
}

fn begun(folder: &Path) -> RedbStore {
    let store = RedbStore::open(folder).unwrap();
    store.begin_life();
    store
}

#[tokio::test]
async fn a_life_uses_no_number_of_another() {
    let (here, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = begun(here.path());
    let known = [write(&store, "1").await, write(&store, "2").await];
    assert_eq!((known, store.left_out()), ([1, 2], 0..0), "before the first nobody knew anything");
    drop(store);
    for file in std::fs::read_dir(here.path()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let store = begun(here.path());
    let lost = [write(&store, "lost").await, write(&store, "lost as well").await];
    drop(store);

    let store = begun(copy.path());
    let left_out = store.left_out();
    assert_eq!(left_out.start, 3);
    let mut goes_on = store.watch(vec![all_pods()], 2).unwrap();
    let nobody_goes_on = |why: &str| {
        for seen in [left_out.start, left_out.end - 1] {
            assert!(store.watch(vec![all_pods()], seen).is_err(), "{seen} {why}");
            assert!(store.snapshot_at(&all_pods(), seen).is_err(), "{seen} {why}");
        }
    };
    nobody_goes_on("before anything is written");
    let new = [write(&store, "3").await, write(&store, "4").await];
    nobody_goes_on("and then");
    assert_eq!(new, [left_out.end, left_out.end + 1]);
    assert!(new.iter().all(|number| !lost.contains(number)), "{new:?} {lost:?}");
    let events = timeout(Duration::from_secs(10), goes_on.next()).await.unwrap().unwrap();
    assert_eq!(events.first().map(|event| event.revision), Some(new[0]), "nothing was lost to it");
}
