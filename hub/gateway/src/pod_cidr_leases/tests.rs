//! Leases that overlap, come back late and are claimed by two.

use async_trait::async_trait;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{Committed, Layer};
use tokio::sync::Notify;

use super::*;

/// A store whose answers come when the test says so.
struct Slow(Arc<dyn Store>, Arc<(Notify, Notify)>);

#[async_trait]
impl Layer for Slow {
    fn below(&self) -> &dyn Store {
        &*self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let committed = self.0.commit(txn).await;
        self.1.0.notify_one();
        self.1.1.notified().await;
        committed
    }
}

fn spoke(name: &str) -> ClusterName {
    ClusterName::try_from(name).unwrap()
}

fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::with_incarnation(1))
}

fn texts(ranges: &PodCidrLeases, name: &str) -> Vec<String> {
    ranges.usable(&ClusterName::root(), &spoke(name)).iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn each_spoke_gets_its_own_and_no_more_than_it_needs() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    for (name, pods) in [("pi-7", 1), ("pi-8", 241), ("pi-7", 240), ("pi-9", 0)] {
        ranges.lease(&store, &root, (&spoke(name), &[]), needed(pods)).await.unwrap();
    }
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0"]);
    assert_eq!(texts(&ranges, "pi-8"), ["10.64.1.0", "10.64.2.0"]);
    assert_eq!(texts(&ranges, "pi-9"), [""; 0]);
    let owner = session_records::owner_of(&*store.snapshot(), &root, Ipv4Addr::new(10, 64, 2, 9));
    assert_eq!(owner, Some(spoke("pi-8")));
}

#[tokio::test]
async fn what_the_store_has_is_found_by_an_index_that_was_not_told() {
    let (store, root) = (store(), ClusterName::root());
    let first = PodCidrLeases::default();
    for name in ["pi-7", "pi-8"] {
        first.lease(&store, &root, (&spoke(name), &[]), 1).await.unwrap();
    }
    let second = PodCidrLeases::default();
    for name in ["pi-9", "pi-8"] {
        second.lease(&store, &root, (&spoke(name), &[]), 1).await.unwrap();
    }
    assert_eq!(texts(&second, "pi-9"), ["10.64.2.0"]);
    assert_eq!(texts(&second, "pi-8"), ["10.64.1.0"]);
    let third = PodCidrLeases::default();
    third.rebuild(&*store.snapshot());
    assert_eq!(texts(&third, "pi-7"), ["10.64.0.0"]);
}

#[tokio::test]
async fn who_leases_at_the_same_time_does_not_wait_for_each_other() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    let snapshot = store.snapshot();
    let claim = |name: &str| {
        let claim = ranges.claim(&*snapshot, &root, &spoke(name)).flatten().unwrap();
        (claim.number, claim)
    };
    let ((first, one), (second, two)) = (claim("pi-7"), claim("pi-8"));
    assert_eq!((first, second), (0, 1));
    two.keep(&spoke("pi-8"));
    drop(one);
    assert_eq!(texts(&ranges, "pi-8"), ["10.64.1.0"]);
    assert_eq!(texts(&ranges, "pi-7"), [""; 0], "nothing was written for it");
    let (third, _three) = claim("pi-9");
    assert_eq!(third, 2, "gaps come last");
}

#[tokio::test]
async fn a_range_stays_while_it_is_used_and_when_pods_come() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    let pi = spoke("pi-7");
    ranges.lease(&store, &root, (&pi, &[]), 4).await.unwrap();
    let at = |addresses: &[[u8; 4]]| -> BTreeSet<Ipv4Addr> {
        addresses.iter().map(|address| Ipv4Addr::from(*address)).collect()
    };
    let two = at(&[[10, 64, 0, 9], [10, 64, 3, 9]]);
    assert!(ranges.retire(&root, &pi, 1, &two, true).0);
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0", "10.64.3.0"]);
    // A pod had got an address there before the spoke heard of it.
    let three = at(&[[10, 64, 0, 9], [10, 64, 2, 1], [10, 64, 3, 9]]);
    assert!(ranges.retire(&root, &pi, 1, &three, true).0);
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0", "10.64.2.0", "10.64.3.0"]);
    // More pods come: what has not gone yet is taken first.
    ranges.lease(&store, &root, (&pi, &[]), 4).await.unwrap();
    assert_eq!(texts(&ranges, "pi-7").len(), 4);
    assert_eq!(texts(&ranges, "pi-7")[3], "10.64.3.0", "not a fifth one");
    // A spoke that does not hold its plan may still give addresses from there.
    assert!(ranges.retire(&root, &pi, 1, &two, false).0);
    for _ in 0..100 {
        assert!(ranges.retire(&root, &pi, 1, &two, false).1.is_empty());
    }
    let free = (0..IDLE_CHECKS_MIN).flat_map(|_| ranges.retire(&root, &pi, 1, &two, true).1);
    let free: Vec<_> = free.collect();
    assert_eq!(free.len(), 2);
    assert!(ranges.retire(&root, &pi, 1, &three, true).1.is_empty(), "one look each");
    for range in free {
        range.give_back(&store).await.unwrap();
    }
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0", "10.64.3.0"]);
    let again = PodCidrLeases::default();
    again.rebuild(&*store.snapshot());
    assert_eq!(texts(&again, "pi-7"), ["10.64.0.0", "10.64.3.0"]);
}

#[tokio::test]
async fn a_range_that_is_anothers_by_the_time_its_return_is_answered_stays_there() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    let pi = spoke("pi-7");
    ranges.lease(&store, &root, (&pi, &[]), 2).await.unwrap();
    let looks = 0..=IDLE_CHECKS_MIN;
    let looks = looks.flat_map(|_| ranges.retire(&root, &pi, 1, &BTreeSet::new(), true).1);
    let mut free: Vec<_> = looks.collect();
    let told: Arc<(Notify, Notify)> = Arc::default();
    let slow: Arc<dyn Store> = Arc::new(Slow(store.clone(), told.clone()));
    let before = store.snapshot().get(&lease_key(&root, 1));
    let meanwhile = async {
        told.0.notified().await;
        ranges.note(&Event { revision: store.snapshot().revision(), now: None, before });
        ranges.lease(&store, &root, (&spoke("pi-8"), &[]), 1).await.unwrap();
        told.1.notify_one();
    };
    let (given, ()) = tokio::join!(free.remove(0).give_back(&slow), meanwhile);
    given.unwrap();
    assert_eq!(texts(&ranges, "pi-8"), ["10.64.1.0"]);
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0"]);
}

#[tokio::test]
async fn a_lease_that_ends_before_it_is_answered_is_nobody_s() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    let (told, key): (Arc<(Notify, Notify)>, _) = (Arc::default(), lease_key(&root, 0));
    let slow: Arc<dyn Store> = Arc::new(Slow(store.clone(), told.clone()));
    let meanwhile = async {
        told.0.notified().await;
        let lease = store.snapshot().get(&key);
        let revision = store.snapshot().revision();
        ranges.note(&Event { revision, now: lease.clone(), before: None });
        let operations = vec![Operation::Delete(key.clone())];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        let revision = store.snapshot().revision();
        ranges.note(&Event { revision, now: None, before: lease });
        told.1.notify_one();
        // It is not there, so it is leased once more.
        told.0.notified().await;
        told.1.notify_one();
    };
    let (pi, bound) = (spoke("pi-7"), std::time::Duration::from_secs(10));
    let both = async { tokio::join!(ranges.lease(&slow, &root, (&pi, &[]), 1), meanwhile).0 };
    tokio::time::timeout(bound, both).await.unwrap().unwrap();
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0"]);
    assert!(store.snapshot().get(&key).is_some(), "what the index has is in the store");
}

#[tokio::test]
async fn a_full_network_says_so_after_its_gaps_are_used() {
    let (ranges, store, root) = (PodCidrLeases::default(), store(), ClusterName::root());
    {
        let mut realms = ranges.0.lock();
        let realm = realms.entry(root.clone()).or_default();
        for number in (0..POD_CIDR_COUNT).filter(|number| *number != 77) {
            realm.put(number, Some(spoke("others")));
        }
    }
    ranges.lease(&store, &root, (&spoke("pi-7"), &[]), 1).await.unwrap();
    assert_eq!(texts(&ranges, "pi-7"), ["10.64.77.0"]);
    let full = ranges.lease(&store, &root, (&spoke("pi-8"), &[]), 1).await;
    assert!(matches!(full, Err(LeaseError::NetworkFull)), "{full:?}");
}
