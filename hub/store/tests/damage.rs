//! A store whose bytes are not those that were written: the same objects, or a refusal with the file's name.
//! `FREEWHEEL_SEEDS=1..100` flips other bits.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::promises::kit::{all_pods, listed, put, remove, txn};
use freewheel_hub_store::redb::{FileDisk, OpenError, RedbStore};
use freewheel_hub_store::{Store, Unsealed};

/// Bytes of redb's header: every ninth bit of it is tried.
const HEADER: usize = 320;
/// Other bits that are tried of one store.
const BITS: usize = 250;

/// A store's folder at rest, and what is in it.
struct Image {
    store: Vec<u8>,
    witness: Vec<u8>,
    revision: u64,
    objects: Vec<String>,
}

/// Objects of many sizes, some written again and some removed; `closed` well, or killed.
async fn image(closed: bool) -> Image {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    let mut random = fastrand::Rng::with_seed(18);
    for round in 0..120 {
        let (name, text) = (format!("p{}", round % 70), "x".repeat(random.usize(..2_500)));
        let gone = format!("p{}", random.u8(..90));
        let mut operations = vec![put(&name, &format!("{round}{text}"))];
        operations.extend((gone != name).then(|| remove(&gone)));
        store.commit(txn(&[], &operations)).await.unwrap();
    }
    let (revision, objects) =
        (store.snapshot().revision(), listed(&*store.snapshot(), &all_pods()));
    let read = || {
        let [store, witness] =
            ["store.redb", "acknowledged"].map(|name| std::fs::read(directory.path().join(name)));
        (store.unwrap(), witness.unwrap())
    };
    // A process that is killed leaves its files as they are at that moment.
    let killed = read();
    drop(store);
    let (store, witness) = if closed { read() } else { killed };
    Image { store, witness, revision, objects }
}

fn lay_out(image: &Image, directory: &Path) -> PathBuf {
    let path = directory.join("store.redb");
    std::fs::write(&path, &image.store).unwrap();
    std::fs::write(directory.join("acknowledged"), &image.witness).unwrap();
    path
}

/// Opens the store in this directory, which must be there.
fn open_old(directory: &Path) -> Result<RedbStore, OpenError> {
    RedbStore::open_sealed(FileDisk::new(directory), false, Arc::new(Unsealed))
}

/// Whether it opened. Everything else than the same objects or a named refusal fails the test.
#[track_caller]
fn open(image: &Image, changed: &[u8], what: &str) -> bool {
    let directory = tempfile::tempdir().unwrap();
    let path = lay_out(image, directory.path());
    std::fs::write(&path, changed).unwrap();
    match open_old(directory.path()) {
        Ok(store) => {
            assert_eq!(store.snapshot().revision(), image.revision, "{what}");
            assert!(listed(&*store.snapshot(), &all_pods()) == image.objects, "{what}");
            true
        }
        Err(error) => {
            let text = error.to_string();
            assert!(text.contains(&*path.to_string_lossy()), "{what}: {text}");
            assert!(text.contains("copy"), "{what}: {text} says what to do");
            assert!(std::fs::read(&path).unwrap() == changed, "{what}: the file was changed");
            false
        }
    }
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("FREEWHEEL_SEEDS") else { return 0..1 };
    let (from, to) = text.split_once("..").expect("seeds are FROM..TO");
    let told = from.parse().unwrap()..to.parse().unwrap();
    assert!(!told.is_empty(), "FREEWHEEL_SEEDS={text} are none");
    told
}

async fn flip_bits(closed: bool) {
    let image = image(closed).await;
    assert!(open(&image, &image.store, "the whole file"));
    let used: Vec<usize> = (HEADER..image.store.len()).filter(|at| image.store[*at] != 0).collect();
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let header = (0..HEADER * 8).skip(random.usize(..9)).step_by(9);
        let pages = std::iter::repeat_with(|| used[random.usize(..used.len())] * 8 + 3).take(BITS);
        let bits: Vec<usize> = header.chain(pages).collect();
        let (mut refused, turn) = (0, random.usize(..8));
        for bit in bits {
            let mut flipped = image.store.clone();
            flipped[bit / 8] ^= 1 << ((bit + turn) % 8);
            refused += usize::from(!open(&image, &flipped, &format!("seed {seed}, bit {bit}")));
        }
        assert!(BITS / 4 < refused, "only {refused} flips were noticed");
    }
}

#[tokio::test]
async fn a_flipped_bit_of_a_closed_store_changes_nothing_or_is_told() {
    flip_bits(true).await;
}

#[tokio::test]
async fn a_flipped_bit_of_a_killed_store_changes_nothing_or_is_told() {
    flip_bits(false).await;
}

#[tokio::test]
async fn a_store_that_was_cut_or_emptied_is_told() {
    let image = image(true).await;
    for length in [0, 1, 8, 100, 320, 4_096, 5_000, image.store.len() / 2, image.store.len() - 1] {
        assert!(!open(&image, &image.store[..length], &format!("{length} bytes")), "{length}");
    }
    let zeros = vec![0; image.store.len()];
    assert!(!open(&image, &zeros, "zeros"));
}

#[tokio::test]
async fn a_store_that_is_gone_is_not_made_anew() {
    let image = image(true).await;
    let directory = tempfile::tempdir().unwrap();
    let path = lay_out(&image, directory.path());
    std::fs::remove_file(&path).unwrap();
    for opened in [RedbStore::open(directory.path()), open_old(directory.path())] {
        let refused = opened.err().unwrap();
        assert!(matches!(refused, OpenError::Missing(_)), "{refused}");
        assert!(refused.to_string().contains(&*path.to_string_lossy()), "{refused}");
    }
    assert!(!path.exists());
    // Without a witness only the caller knows that there was one.
    std::fs::remove_file(directory.path().join("acknowledged")).unwrap();
    assert!(matches!(open_old(directory.path()), Err(OpenError::Missing(_))));
    assert!(RedbStore::open(directory.path()).is_ok());
}

#[tokio::test]
async fn an_older_file_is_told_from_a_whole_one_and_taken_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    store.commit(txn(&[], &[put("a", "1")])).await.unwrap();
    drop(store);
    let path = directory.path().join("store.redb");
    let older = std::fs::read(&path).unwrap();
    let store = RedbStore::open(directory.path()).unwrap();
    store.commit(txn(&[], &[put("a", "2")])).await.unwrap();
    drop(store);
    std::fs::write(&path, older).unwrap();
    let refused = RedbStore::open(directory.path()).err().unwrap();
    assert!(matches!(refused, OpenError::Older { found: 1, known: 2, .. }), "{refused}");
    let (witness, whole) = (directory.path().join("acknowledged"), "removed as the refusal says");
    std::fs::remove_file(witness).expect(whole);
    assert_eq!(
        listed(&*RedbStore::open(directory.path()).unwrap().snapshot(), &all_pods()),
        ["a=1"]
    );
}

#[tokio::test]
async fn a_store_killed_while_it_is_made_is_made_again() {
    let directory = tempfile::tempdir().unwrap();
    for half in [&b""[..], b"redb", &[0; 10_000]] {
        std::fs::write(directory.path().join("store.new"), half).unwrap();
        drop(RedbStore::open(directory.path()).unwrap());
        assert!(!directory.path().join("store.new").exists());
        std::fs::remove_file(directory.path().join("store.redb")).unwrap();
        std::fs::remove_file(directory.path().join("acknowledged")).unwrap();
    }
}

#[tokio::test]
async fn a_witness_that_cannot_be_read_is_told_by_its_own_name() {
    let directory = tempfile::tempdir().unwrap();
    drop(RedbStore::open(directory.path()).unwrap());
    let witness = directory.path().join("acknowledged");
    std::fs::remove_file(&witness).unwrap();
    std::fs::create_dir(&witness).unwrap();
    let refused = RedbStore::open(directory.path()).err().unwrap();
    let text = refused.to_string();
    assert!(text.contains("cannot read the file \"acknowledged\" beside "), "{text}");
    std::fs::remove_dir(&witness).unwrap();
    assert!(RedbStore::open(directory.path()).is_ok());
}
