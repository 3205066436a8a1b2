//! ManagedClusters that go, whether or not their device is in session: what is remembered under their UIDs goes with
//! them.
//!
//! Guarantees:
//! - each is told of once it is gone, also when the store was faster than this
//!   (`whoever_goes_is_told_of_however_fast_it_went`);
//! - the next one of its name finds nothing of it
//!   (`processes_of_a_removed_device_are_nothing_to_the_next_one_of_its_name`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::{Event, Scope, Store};
use freewheel_link::names::ClusterName;
use tokio_util::sync::CancellationToken;

/// Which ManagedClusters are gone.
pub(crate) enum DeletedClusters<'a> {
    /// The one with this UID.
    One(&'a str),
    /// All that are not among these.
    AllBut(&'a BTreeSet<String>),
}

impl DeletedClusters<'_> {
    /// Takes what is kept of them.
    pub(crate) fn take_from<T>(&self, kept: &mut BTreeMap<String, T>) {
        match self {
            Self::One(uid) => drop(kept.remove(*uid)),
            Self::AllBut(there) => kept.retain(|uid, _| there.contains(uid)),
        }
    }
}

/// Says who is gone, until `stop`.
pub(crate) async fn follow(
    store: &Arc<dyn Store>,
    stop: &CancellationToken,
    forget: impl Fn(&DeletedClusters<'_>),
) {
    let scope = Scope {
        resource: Resource::new("cluster.open-cluster-management.io", "managedclusters"),
        cluster: Some(ClusterName::root()),
        namespace: None,
    };
    loop {
        let snapshot = store.snapshot();
        let uid = |stored: Arc<freewheel_hub_store::Stored>| stored.object.header.uid.to_string();
        let there = snapshot.range(&scope, None).map(uid).collect();
        forget(&DeletedClusters::AllBut(&there));
        let Ok(mut watch) = store.watch(vec![scope.clone()], snapshot.revision()) else { continue };
        drop((snapshot, there));
        loop {
            let events = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                events = watch.next() => events,
            };
            // Who falls behind looks at all of them again.
            let Ok(events) = events else { break };
            events.iter().filter_map(gone_with).for_each(|uid| forget(&DeletedClusters::One(uid)));
        }
    }
}

/// The UID that is no more after this event.
fn gone_with(event: &Event) -> Option<&str> {
    let before = &*event.before.as_ref()?.object.header.uid;
    let now = event.now.as_ref().map(|now| &*now.object.header.uid);
    (now != Some(before)).then_some(before)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freewheel_hub_schema::object::{Header, Key, Object};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Limits, Operation, Txn};
    use parking_lot::Mutex;

    use super::*;

    async fn commit(store: &Arc<dyn Store>, operation: Operation) {
        let txn = Txn { expect: Vec::new(), operations: vec![operation] };
        store.commit(txn).await.unwrap();
    }

    fn key(name: &str) -> Key {
        let clusters = Resource::new("cluster.open-cluster-management.io", "managedclusters");
        Key::new(&clusters, &ClusterName::root(), "", name)
    }

    async fn put(store: &Arc<dyn Store>, name: &str, uid: &str) {
        let header = Header { uid: uid.into(), ..Header::default() };
        commit(store, Operation::Put(key(name), Object { header, body: "{}".into() })).await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_goes_is_told_of_however_fast_it_went() {
        let limits = Limits { events: 4, bytes: 1 << 20 };
        let store: Arc<dyn Store> = Arc::new(MemoryStore::with_limits(1, limits));
        put(&store, "pi-7", "one").await;
        let kept = ["zero", "one", "two", "three"].map(|uid| (uid.to_owned(), ()));
        let kept = Arc::new(Mutex::new(BTreeMap::from(kept)));
        let stop = CancellationToken::new();
        let (followed, of, until) = (store.clone(), kept.clone(), stop.clone());
        let task = tokio::spawn(async move {
            follow(&followed, &until, |gone| gone.take_from(&mut of.lock())).await;
        });
        let left = async |uids: &[&str]| {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(kept.lock().keys().collect::<Vec<_>>(), uids);
        };
        left(&["one"]).await;
        kept.lock().insert("two".to_owned(), ());
        // Another one of its name in one step, and one that goes.
        put(&store, "pi-7", "two").await;
        left(&["two"]).await;
        kept.lock().insert("three".to_owned(), ());
        commit(&store, Operation::Delete(key("pi-7"))).await;
        left(&["three"]).await;
        // More than the store keeps, before anybody looks.
        put(&store, "pi-8", "three").await;
        commit(&store, Operation::Delete(key("pi-8"))).await;
        for number in 0..10 {
            put(&store, "pi-9", &number.to_string()).await;
        }
        left(&[]).await;
        stop.cancel();
        task.await.unwrap();
    }
}
