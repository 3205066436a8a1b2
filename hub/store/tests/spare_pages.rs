//! Room in the store's own file.

use std::os::unix::fs::MetadataExt as _;

use crate::promises::kit::{put, remove, txn};
use freewheel_hub_store::Store as _;
use freewheel_hub_store::redb::RedbStore;

/// One takes half a mebibyte of the file.
const VALUE_BYTES: usize = 300_000;

#[tokio::test]
async fn what_was_deleted_is_room_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    let body = "x".repeat(VALUE_BYTES);
    let write = async |name: &str, number: usize| {
        let operations = [put(&format!("{name}-{number}"), &body)];
        store.commit(txn(&[], &operations)).await.unwrap();
    };
    // In turn: what goes leaves the end of the file where it is.
    for number in 0..20 {
        write("stays", number).await;
        write("goes", number).await;
    }
    assert_eq!(store.spare_bytes(), 0, "nothing was counted");
    store.count_spare().await.unwrap();
    assert!(store.spare_bytes() < 4 << 20, "{}", store.spare_bytes());
    let on_disk = || {
        let file = std::fs::metadata(directory.path().join("store.redb")).unwrap();
        file.blocks() * 512
    };
    let full = on_disk();
    for number in 0..20 {
        store.commit(txn(&[], &[remove(&format!("goes-{number}"))])).await.unwrap();
    }
    store.commit(txn(&[], &[put("last", "")])).await.unwrap();
    assert!(full / 10 * 9 < on_disk(), "the disk has got little of it");
    assert!(store.spare_bytes() < 4 << 20, "it is counted when somebody asks");
    store.count_spare().await.unwrap();
    let spare = store.spare_bytes();
    assert!((9 << 20..12 << 20).contains(&spare), "{spare}");
    // What is written takes it, and that is known without a count.
    for number in 0..16 {
        write("comes", number).await;
    }
    assert!(on_disk() <= full + (1 << 20), "{} {full}", on_disk());
    assert!(store.spare_bytes() <= spare - (8 << 20), "{}", store.spare_bytes());
}
