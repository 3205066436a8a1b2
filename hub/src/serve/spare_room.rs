//! Room in the store's own file, which deletions leave: it is counted while the disk is short, for nobody needs it before.
//!
//! Guarantees:
//! - a count, which reads all of the store and has commits wait, comes after a change alone, and takes a twentieth of
//!   the time at most (`it_is_counted_when_it_is_short_and_something_has_changed`).

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use freewheel_hub_store::Store as _;
use freewheel_hub_store::redb::RedbStore;
use tokio::time::{Instant, sleep};
use tracing::warn;

/// How often it is looked whether the disk is short.
pub const COUNT_EVERY: Duration = Duration::from_secs(5);
/// Between two counts it takes so many times what the first of them took.
const PAUSE_TO_COUNT: u32 = 19;

/// Room in a store's own file.
#[derive(Default)]
pub struct SpareRoom(OnceLock<Arc<RedbStore>>);

impl SpareRoom {
    /// It is that of this store.
    pub fn is_of(&self, store: &Arc<RedbStore>) {
        let _ = self.0.set(store.clone());
    }

    /// In bytes, as of the last count.
    pub fn bytes(&self) -> u64 {
        self.0.get().map_or(0, |store| store.spare_bytes())
    }

    /// Counts it whenever the disk is short, so often at most, for ever.
    pub async fn count_again_and_again(&self, every: Duration, is_short: impl Fn() -> bool + Send) {
        let Some(store) = self.0.get() else { return std::future::pending().await };
        let mut counted = None;
        loop {
            let (now, mut pause) = (store.snapshot().revision(), every);
            if counted != Some(now) && is_short() {
                let began = Instant::now();
                match store.count_spare().await {
                    Ok(()) => counted = Some(now),
                    Err(error) => warn!(%error, "cannot count what is free in the store's file"),
                }
                pause = pause.max(PAUSE_TO_COUNT * began.elapsed());
            }
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_hub_store::{Operation, Txn};
    use freewheel_link::names::ClusterName;

    use super::*;

    async fn write(store: &RedbStore, name: &str, body: &str) {
        let key = Key::new(&Resource::new("", "pods"), &ClusterName::root(), "default", name);
        let object = Object { header: Header::default(), body: body.to_owned().into() };
        let operations = vec![Operation::Put(key, object)];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    #[tokio::test]
    async fn it_is_counted_when_it_is_short_and_something_has_changed() {
        const EVERY: Duration = Duration::from_millis(1);
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(RedbStore::open(folder.path()).unwrap());
        let room = SpareRoom::default();
        room.is_of(&store);
        let (asked, short) = (AtomicUsize::new(0), AtomicBool::new(false));
        let is_short = || {
            asked.fetch_add(1, Ordering::SeqCst);
            short.load(Ordering::SeqCst)
        };
        let asks = async {
            let large = "x".repeat(1 << 20);
            for (name, body) in [("a", &*large), ("b", &large), ("a", ""), ("a", "less")] {
                write(&store, name, body).await;
            }
            sleep(50 * EVERY).await;
            assert!(asked.load(Ordering::SeqCst) != 0 && room.bytes() == 0, "there is enough");
            short.store(true, Ordering::SeqCst);
            let bound = Instant::now() + Duration::from_secs(60);
            while room.bytes() == 0 && Instant::now() < bound {
                sleep(EVERY).await;
            }
            assert!((1 << 20) <= room.bytes(), "{}", room.bytes());
            // It has begun to wait for a change.
            sleep(50 * EVERY).await;
            let before = asked.load(Ordering::SeqCst);
            sleep(50 * EVERY).await;
            assert_eq!(asked.load(Ordering::SeqCst), before, "nothing has changed");
        };
        tokio::select! {
            () = room.count_again_and_again(EVERY, is_short) => {}
            () = asks => {}
        }
    }
}
