//! The format on disk: what an older build wrote is read, what a newer one wrote is left alone.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use crate::promises::kit::{all_pods, key, listed, put, read_until, remove, txn};
use crate::promises::toy::Toy;
use freewheel_hub_schema::object::{Header, Object, Owner};
use freewheel_hub_store::redb::{FileDisk, RedbStore};
use freewheel_hub_store::{Operation, Store, Stored};

fn fixture(format: u32) -> PathBuf {
    let name = format!("tests/fixtures/store-v{format}.redb.gz");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Lays out the store of that format; answers its bytes.
fn unpack(format: u32, directory: &Path) -> Vec<u8> {
    let mut packed = flate2::read::GzDecoder::new(std::fs::File::open(fixture(format)).unwrap());
    let mut bytes = Vec::new();
    packed.read_to_end(&mut bytes).unwrap();
    std::fs::write(directory.join("store.redb"), &bytes).unwrap();
    bytes
}

/// An object with everything that a header can hold.
fn full() -> Object {
    let owner = |name: &str, flag| Owner {
        api_version: "apps/v1".to_owned(),
        kind: "ReplicaSet".to_owned(),
        name: name.to_owned(),
        uid: format!("uid of {name}").into(),
        controller: flag,
        block_deletion: !flag,
    };
    let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let header = Header {
        uid: "9f0c1d1e-0000-4000-8000-000000000001".into(),
        generation: -3,
        labels: pairs(&[("app", "web"), ("tier", "")]),
        owners: vec![owner("a", true), owner("b", false)],
        finalizers: vec!["orphan".to_owned(), "example.com/hold".to_owned()],
        deleting: true,
        fields: pairs(&[("spec.nodeName", "pi-7"), ("status.phase", "Running")]),
    };
    Object { header, body: r#"{"metadata":{"annotations":{"is":"full"}}}"#.into() }
}

/// What the fixture was written with, and what it must read as for ever.
async fn write_history(store: &dyn Store) {
    let first = Operation::Put(key("pods|pi-7|default|full"), full());
    store.commit(txn(&[], &[first, put("a", "1"), put("nodes|root||n", "1")])).await.unwrap();
    store
        .commit(txn(&[], &[put("a", "2"), put("deployments.apps|root|web|d", "1")]))
        .await
        .unwrap();
    let removed = [remove("nodes|root||n"), put("secrets|root|web|s", "sealed")];
    store.commit(txn(&[], &removed)).await.unwrap();
}

fn open_sealed(directory: &Path) -> RedbStore {
    RedbStore::open_sealed(FileDisk::new(directory), true, Arc::new(Toy::with(5))).unwrap()
}

fn everything(store: &dyn Store) -> Vec<Stored> {
    let snapshot = store.snapshot();
    let paths = [
        "pods|pi-7|default|full",
        "a",
        "nodes|root||n",
        "deployments.apps|root|web|d",
        "secrets|root|web|s",
    ];
    let found = paths.iter().filter_map(|path| snapshot.get(&key(path)));
    found
        .map(|s| Stored {
            key: s.key.clone(),
            object: s.object.clone(),
            revision: s.revision,
            created: s.created,
        })
        .collect()
}

/// That of the fixture, told when it was written.
const INCARNATION: u64 = 0x3c54_efaa_5109_43bd;

#[tokio::test]
async fn a_store_of_format_3_opens_and_goes_on() {
    if std::env::var_os("FREEWHEEL_WRITE_FIXTURE").is_some() {
        write_fixture().await;
    }
    let directory = tempfile::tempdir().unwrap();
    unpack(3, directory.path());
    let store = open_sealed(directory.path());
    assert_eq!(store.incarnation(), INCARNATION);
    assert_eq!(store.snapshot().revision(), 3);
    let reference = freewheel_hub_store::memory::MemoryStore::new();
    write_history(&reference).await;
    assert_eq!(everything(&store), everything(&reference));
    let next = store.commit(txn(&[], &[put("a", "3")])).await.unwrap();
    assert_eq!(next.revision, 4);
}

/// Writes the fixture anew, when it is asked for; only ever before a format is released.
async fn write_fixture() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_sealed(directory.path());
    write_history(&store).await;
    println!("INCARNATION: {:#x}", store.incarnation());
    drop(store);
    let path = directory.path().join("store.redb");
    let file = std::fs::File::create(fixture(3)).unwrap();
    let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::best());
    packed.write_all(&std::fs::read(path).unwrap()).unwrap();
    packed.finish().unwrap();
}

fn set_meta(path: &Path, name: &str, value: u64) {
    let database = redb::Database::open(path).unwrap();
    let txn = database.begin_write().unwrap();
    let meta: redb::TableDefinition<'_, &str, u64> = redb::TableDefinition::new("meta");
    txn.open_table(meta).unwrap().insert(name, value).unwrap();
    txn.commit().unwrap();
}

/// What to do about it is another thing than about a damaged one.
#[tokio::test]
async fn a_store_of_another_build_is_told_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    let file = path.display();
    let older = unpack(2, directory.path());
    let error = RedbStore::open(directory.path()).err().unwrap();
    assert_eq!(
        error.to_string(),
        format!(
            "another build of the hub wrote {file} (format 2, this one reads 3), and it was left as it is: start that \
             build, or move the whole data folder away to begin an empty fleet, which every device has to join again"
        )
    );
    assert!(std::fs::read(&path).unwrap() == older);
    std::fs::remove_file(&path).unwrap();
    drop(RedbStore::open(directory.path()).unwrap());
    set_meta(&path, "format", 4);
    let error = RedbStore::open(directory.path()).err().unwrap();
    assert!(error.to_string().contains("(format 4, this one reads 3)"), "{error}");
    set_meta(&path, "format", 3);
    assert!(RedbStore::open(directory.path()).is_ok());
}

#[test]
fn a_file_that_is_no_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.redb");
    std::fs::write(&path, vec![7; 100_000]).unwrap();
    let refused = RedbStore::open(directory.path()).err().unwrap();
    assert!(refused.to_string().contains("store.redb is damaged"), "{refused}");
    assert_eq!(std::fs::read(&path).unwrap(), vec![7; 100_000]);
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    drop(RedbStore::open(directory.path()).unwrap());
    let mode = std::fs::metadata(directory.path().join("store.redb")).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0);
}

#[tokio::test]
async fn a_store_opened_again_is_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let store = open_sealed(directory.path());
    write_history(&store).await;
    for round in 0..50 {
        store
            .commit(txn(&[], &[put(&format!("p{}", round % 9), &round.to_string())]))
            .await
            .unwrap();
    }
    let (incarnation, revision) = (store.incarnation(), store.snapshot().revision());
    let (all, listing) = (everything(&store), listed(&*store.snapshot(), &all_pods()));
    drop(store);
    let store = open_sealed(directory.path());
    assert_eq!((store.incarnation(), store.snapshot().revision()), (incarnation, revision));
    assert_eq!((everything(&store), listed(&*store.snapshot(), &all_pods())), (all, listing));
    // Events from before are gone; those to come are not.
    assert!(store.watch(vec![], revision - 1).is_err());
    let mut watch = store.watch(vec![], revision).unwrap();
    store.commit(txn(&[], &[put("next", "1")])).await.unwrap();
    assert_eq!(read_until(&mut watch, revision + 1).await.len(), 1);
    assert!(store.snapshot_at(&all_pods(), revision).is_ok());
}

#[test]
fn two_hubs_cannot_open_one_store() {
    let directory = tempfile::tempdir().unwrap();
    let _first = RedbStore::open(directory.path()).unwrap();
    assert!(RedbStore::open(directory.path()).is_err());
}

/// Keeps what one thread logs.
#[derive(Clone)]
struct Heard {
    of: ThreadId,
    lines: Arc<Mutex<Vec<String>>>,
}

impl tracing::Subscriber for Heard {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        // The answer is kept for all threads: whose event it is, is asked when there is one.
        *metadata.level() <= tracing::Level::INFO && metadata.target().contains("hub_store")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if std::thread::current().id() != self.of {
            return;
        }
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text += &format!("{}={value:?} ", field.name());
        });
        self.lines.lock().unwrap().push(text);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn opening_says_what_it_reads_and_when_it_is_through() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = unpack(3, directory.path()).len();
    let heard = Heard { of: std::thread::current().id(), lines: Arc::default() };
    // One of this thread's own is not asked where another thread is the first to log a line.
    tracing::subscriber::set_global_default(heard.clone()).unwrap();
    drop(open_sealed(directory.path()));
    let heard = heard.lines.lock().unwrap().clone();
    // The witness was not packed with the store.
    let [begins, unwitnessed, ends] = &heard[..] else { panic!("{heard:?}") };
    assert!(unwitnessed.contains("\"acknowledged\" is missing"), "{unwitnessed}");
    assert!(
        begins.contains("reading the store") && begins.contains(&format!("bytes={bytes} ")),
        "{begins}"
    );
    assert!(ends.contains("the store is read") && ends.contains("objects=4 "), "{ends}");
    assert!(ends.contains("revision=3 ") && ends.contains("seconds="), "{ends}");
}
