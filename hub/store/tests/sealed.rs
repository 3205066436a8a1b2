//! What is sealed lies nowhere open on the disk, and is read, changed and sealed anew like everything else.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::promises::kit::{all_pods, listed, put, remove, txn};
use crate::promises::toy::Toy;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::redb::{FileDisk, OpenError, RedbStore};
use freewheel_hub_store::{Scope, Store};

const CANARY: &str = "the canary in the coal mine";

fn open(directory: &Path, toy: &Arc<Toy>) -> Result<RedbStore, OpenError> {
    RedbStore::open_sealed(FileDisk::new(directory), true, toy.clone())
}

fn secret(name: &str) -> String {
    format!("secrets|root|default|{name}")
}

fn secrets() -> Scope {
    Scope { resource: Resource::new("", "secrets"), ..all_pods() }
}

/// Whether the text is somewhere in the folder's files.
fn lies_open(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().any(|entry| {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

async fn seal_anew(store: &RedbStore) -> usize {
    let (mut from, mut rewritten) = (Vec::new(), 0);
    loop {
        let step = store.reseal(from).await.unwrap();
        rewritten += step.rewritten;
        match step.next {
            Some(next) => from = next,
            None => return rewritten,
        }
    }
}

#[tokio::test]
async fn what_is_sealed_is_nowhere_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let toy = Arc::new(Toy::with(1));
    let store = open(directory.path(), &toy).unwrap();
    let (first, second) = (format!("{CANARY} 1"), format!("{CANARY} 2"));
    store.commit(txn(&[], &[put(&secret("a"), &first), put("pod", "in sight")])).await.unwrap();
    store.commit(txn(&[], &[put(&secret("a"), &second), put(&secret("b"), &first)])).await.unwrap();
    store.commit(txn(&[], &[remove(&secret("b"))])).await.unwrap();
    let said = listed(&*store.snapshot(), &secrets());
    assert_eq!(said, [format!("a={second}")]);
    // As a killed hub leaves it, and as one that was closed well.
    for closed in [false, true] {
        assert!(lies_open(directory.path(), "in sight"), "closed: {closed}");
        assert!(!lies_open(directory.path(), CANARY), "closed: {closed}");
        if !closed {
            store.commit(txn(&[], &[put("pod", "in sight 2")])).await.unwrap();
        }
    }
    drop(store);
    assert!(!lies_open(directory.path(), CANARY));
    assert_eq!(listed(&*open(directory.path(), &toy).unwrap().snapshot(), &secrets()), said);
}

#[tokio::test]
async fn a_store_without_its_key_is_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), &Arc::new(Toy::with(2))).unwrap();
    store.commit(txn(&[], &[put(&secret("a"), CANARY), put(&secret("b"), CANARY)])).await.unwrap();
    drop(store);
    let path = directory.path().join("store.redb");
    let before = std::fs::read(&path).unwrap();
    let lost = Arc::new(Toy { largest: 1, ..Toy::with(1) });
    let refused = open(directory.path(), &lost).err().unwrap().to_string();
    let said = format!(
        "{} cannot be read and was left as it is, as 2 of its values cannot be opened: key 2 is not in the keyring",
        path.display()
    );
    assert_eq!(refused, said);
    assert!(RedbStore::open(directory.path()).is_err());
    assert!(std::fs::read(&path).unwrap() == before);
    assert!(open(directory.path(), &Arc::new(Toy::with(1))).is_ok());
}

#[tokio::test]
async fn sealing_anew_changes_no_object_and_nobody_hears_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let toy = Arc::new(Toy::with(0));
    let store = open(directory.path(), &toy).unwrap();
    for name in 0..300 {
        let both = [put(&secret(&name.to_string()), CANARY), put(&name.to_string(), "pod")];
        store.commit(txn(&[], &both)).await.unwrap();
    }
    assert!(lies_open(directory.path(), CANARY));
    let (said, revision) = (listed(&*store.snapshot(), &secrets()), store.snapshot().revision());
    let mut watch = store.watch(vec![], revision).unwrap();
    for key in [1, 2, 0, 3] {
        toy.key.store(key, Ordering::SeqCst);
        assert_eq!(seal_anew(&store).await, 300);
        assert_eq!(seal_anew(&store).await, 0);
        assert_eq!(store.snapshot().revision(), revision);
    }
    let next = store.commit(txn(&[], &[put(&secret("next"), CANARY)])).await.unwrap();
    assert_eq!(next.revision, revision + 1);
    assert_eq!(watch.next().await.unwrap().len(), 1);
    drop((store, watch));
    // The key that sealed first is of no use any more.
    let only = Arc::new(Toy { largest: 3, ..Toy::with(3) });
    let store = open(directory.path(), &only).unwrap();
    assert!(!store.was_stale());
    assert_eq!(listed(&*store.snapshot(), &secrets())[..300], said);
    drop(store);
    assert!(open(directory.path(), &Arc::new(Toy::with(4))).unwrap().was_stale());
}

#[tokio::test]
async fn a_value_whose_key_was_taken_away_is_told_and_harms_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let toy = Arc::new(Toy { largest: 3, ..Toy::with(5) });
    let store = open(directory.path(), &toy).unwrap();
    store.commit(txn(&[], &[put(&secret("a"), "one")])).await.unwrap();
    toy.key.store(3, Ordering::SeqCst);
    store.commit(txn(&[], &[put(&secret("b"), "two")])).await.unwrap();
    toy.key.store(2, Ordering::SeqCst);
    let step = store.reseal(Vec::new()).await.unwrap();
    assert_eq!((step.rewritten, step.lost.as_deref()), (1, Some("key 5 is not in the keyring")));
    // What the store has in memory is all there, and may be written.
    store.commit(txn(&[], &[put(&secret("a"), "three")])).await.unwrap();
    let again = store.reseal(Vec::new()).await.unwrap();
    assert_eq!((again.rewritten, again.lost), (0, None));
}

#[tokio::test]
async fn sealing_anew_takes_small_steps() {
    let directory = tempfile::tempdir().unwrap();
    let toy = Arc::new(Toy::with(1));
    let store = open(directory.path(), &toy).unwrap();
    let text = "x".repeat(200 << 10);
    for name in 0..16 {
        let pods: Vec<_> = (0..200).map(|pod| put(&format!("p{name}-{pod}"), "")).collect();
        store.commit(txn(&[], &pods)).await.unwrap();
        store.commit(txn(&[], &[put(&secret(&name.to_string()), &text)])).await.unwrap();
    }
    toy.key.store(2, Ordering::SeqCst);
    let (mut from, mut steps) = (Vec::new(), Vec::new());
    loop {
        let step = store.reseal(from).await.unwrap();
        steps.push(step.rewritten);
        let Some(next) = step.next else { break };
        from = next;
    }
    // 2,048 pods, the others with some secrets, a megabyte and a bit at a time, and the end.
    assert_eq!(steps, [0, 6, 6, 4, 0]);
}
