//! A store whose disk refuses, stands still, is short, or has no writer any more.

use std::sync::atomic::{AtomicBool, Ordering};

use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::redb::RedbStore;
use tokio::sync::Semaphore;

use super::*;

/// A store whose disk is nearly full when it is told so: small writes fit.
struct Fickle(MemoryStore, AtomicBool);

#[async_trait]
impl Layer for Fickle {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let large = |operation: &Operation| match operation {
            Operation::Put(_, object) => object.body.len() > 1024,
            Operation::Delete(_) | Operation::Add(..) => false,
        };
        if self.1.load(Ordering::SeqCst) && txn.operations.iter().any(large) {
            return Err(CommitError::Unavailable("no space left".to_owned()));
        }
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_refused_is_tried_until_it_takes_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let fickle = Arc::new(Fickle(MemoryStore::new(), AtomicBool::new(true)));
    let store = WatchedStore { store: fickle.clone(), disk: disk.clone(), sealing: None };
    let store: Arc<dyn Store> = Arc::new(store);
    let stop = CancellationToken::new();
    let watching = tokio::spawn(disk.clone().watch(store.clone(), stop.clone()));
    let refused = store.commit(trial(0, 4096)).await.unwrap_err().to_string();
    assert!(refused.contains("no space left (the disk of "), "{refused}");
    assert!(refused.contains(&*folder.path().to_string_lossy()), "{refused}");
    assert_eq!(disk.takes_writes(), Err("no space left".to_owned()));
    store.commit(trial(0, 0)).await.unwrap();
    tokio::time::sleep(DISK_RETRY_FIRST_AND_MAX.1 * 3).await;
    assert!(disk.takes_writes().is_err(), "small writes prove nothing");
    fickle.1.store(false, Ordering::SeqCst);
    tokio::time::sleep(DISK_RETRY_FIRST_AND_MAX.1 * 2).await;
    assert_eq!(disk.takes_writes(), Ok(()));
    let Operation::Put(key, _) = &trial(0, 0).operations[0] else { panic!("no put") };
    let left = store.snapshot().get(key).unwrap();
    assert!(left.object.body.len() < 16, "the room is given back");
    stop.cancel();
    watching.await.unwrap().unwrap();
}

/// A store whose disk says nothing until there is a permit.
struct Standing(MemoryStore, Semaphore);

#[async_trait]
impl Layer for Standing {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let _moves = self.1.acquire().await.unwrap();
        self.0.commit(txn).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_stands_still_is_told_until_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let standing = Arc::new(Standing(MemoryStore::new(), Semaphore::new(0)));
    let store: Arc<dyn Store> =
        Arc::new(WatchedStore { store: standing.clone(), disk: disk.clone(), sealing: None });
    let stop = CancellationToken::new();
    let watching = tokio::spawn(disk.clone().watch(store.clone(), stop.clone()));
    let asks = store.clone();
    let write = tokio::spawn(async move { asks.commit(trial(0, 0)).await });
    sleep(DISK_STALLED_AFTER - STALL_CHECK_EVERY).await;
    assert_eq!(disk.takes_writes(), Ok(()));
    sleep(STALL_CHECK_EVERY * 2).await;
    assert!(disk.takes_writes().unwrap_err().starts_with("the disk stands still: a write waits"));
    // Also when nobody waits any more.
    write.abort();
    sleep(DISK_STALLED_AFTER * 10).await;
    assert!(disk.takes_writes().is_err());
    standing.1.add_permits(1);
    sleep(DISK_RETRY_FIRST_AND_MAX.1).await;
    assert_eq!(disk.takes_writes(), Ok(()));
    sleep(DISK_STALLED_AFTER * 10).await;
    assert_eq!(disk.takes_writes(), Ok(()));
    stop.cancel();
    watching.await.unwrap().unwrap();
}

/// A store whose writer has panicked.
struct Broken(MemoryStore);

#[async_trait]
impl Layer for Broken {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, _: Txn) -> Result<Committed, CommitError> {
        Err(CommitError::Stopped)
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_can_only_be_read_ends_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(folder.path());
    let store = WatchedStore {
        store: Arc::new(Broken(MemoryStore::new())),
        disk: disk.clone(),
        sealing: None,
    };
    let store: Arc<dyn Store> = Arc::new(store);
    let watching = tokio::spawn(disk.watch(store.clone(), CancellationToken::new()));
    store.commit(Txn::default()).await.unwrap_err();
    let why = watching.await.unwrap().unwrap_err();
    assert_eq!(why.to_string(), "the store's writer has stopped");
}

/// A store that has room in its file, on a disk that has so much.
async fn with_room(
    folder: &Path,
    free: fn(&Path) -> io::Result<u64>,
) -> (Arc<Disk>, Arc<RedbStore>) {
    let store = Arc::new(RedbStore::open(folder).unwrap());
    for (name, bytes) in [("goes", 1 << 20), ("stays", 1 << 20), ("goes", 0), ("last", 0)] {
        let key = Key::new(&Resource::new("", "pods"), &ClusterName::root(), "", name);
        let object = Object { header: Header::default(), body: vec![0; bytes].into() };
        let operations = vec![Operation::Put(key, object)];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }
    let disk = Disk { free, ..Arc::into_inner(Disk::new(folder)).unwrap() };
    disk.spare.is_of(&store);
    (Arc::new(disk), store)
}

#[tokio::test]
async fn what_is_deleted_is_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, store) = with_room(folder.path(), |_| Ok(FREE_BYTES_MIN - 1)).await;
    assert!(disk.has_room().unwrap_err().contains(" has 63 MiB free"));
    let stop = CancellationToken::new();
    let watching = tokio::spawn(disk.clone().watch(store.clone(), stop.clone()));
    let bound = std::time::Instant::now() + Duration::from_secs(60);
    while disk.has_room().is_err() {
        assert!(std::time::Instant::now() < bound, "nobody has counted");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(disk.room().unwrap(), FREE_BYTES_MIN - 1 + store.spare_bytes());
    assert!((1 << 20) <= store.spare_bytes());
    stop.cancel();
    watching.await.unwrap().unwrap();
}

#[tokio::test]
async fn room_in_pieces_is_none_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (disk, store) = with_room(folder.path(), |_| Ok(LARGEST_BYTES - 1)).await;
    store.count_spare().await.unwrap();
    assert_ne!(store.spare_bytes(), 0);
    assert_eq!(disk.room().unwrap(), LARGEST_BYTES - 1);
}
