//! Ranges of pod addresses: which spoke has which ones, without reading everybody's leases to find a few.
//!
//! Guarantees: what is leased is in the store, this is its index; sessions that lease at the same time get
//! different ranges at the first try. A new range follows the highest one; gaps come last, so that an
//! address that was somebody's rests for long.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use freewheel_hub_api::object::{Header, Key, Object};
use freewheel_hub_store::{CommitError, Event, Expect, Operation, Scope, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

use crate::records::{self, POD_NETWORK, RANGES};

/// Pods that a range serves before another one is leased.
const PODS_PER_RANGE: usize = 240;
/// Times that a lease is tried against other hubs.
const TRIES: usize = 16;

/// How many ranges this many pods need.
pub(crate) const fn needed(pods: usize) -> usize {
    pods.div_ceil(PODS_PER_RANGE)
}

/// One realm's ranges, by their number in the pod network.
#[derive(Default)]
struct Realm {
    /// `None`: somebody is leasing it now.
    taken: BTreeMap<u32, Option<ClusterName>>,
    of: BTreeMap<ClusterName, BTreeSet<u32>>,
}

impl Realm {
    fn put(&mut self, number: u32, owner: Option<ClusterName>) {
        self.free(number);
        if let Some(owner) = &owner {
            self.of.entry(owner.clone()).or_default().insert(number);
        }
        self.taken.insert(number, owner);
    }

    fn free(&mut self, number: u32) {
        if let Some(Some(owner)) = self.taken.remove(&number)
            && let Some(numbers) = self.of.get_mut(&owner)
        {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.of.remove(&owner);
            }
        }
    }
}

/// All ranges of all realms.
#[derive(Default)]
pub(crate) struct Ranges(Mutex<BTreeMap<ClusterName, Realm>>);

impl Ranges {
    /// Reads all leases anew.
    pub(crate) fn rebuild(&self, snapshot: &dyn Snapshot) {
        let mut realms = self.0.lock();
        for realm in realms.values_mut() {
            realm.of.clear();
            realm.taken.retain(|_, owner| owner.is_none());
        }
        let scope = Scope { resource: records::pod_cidrs(), cluster: None, namespace: None };
        for stored in snapshot.range(&scope, None) {
            if let Some(number) = number(&stored.key.name) {
                let realm = realms.entry(stored.key.cluster.clone()).or_default();
                realm.put(number, records::lessee(&stored));
            }
        }
    }

    /// Takes in what happened to a lease.
    pub(crate) fn note(&self, event: &Event) {
        let Some(key) = event.key() else { return };
        let Some(number) = number(&key.name) else { return };
        let mut realms = self.0.lock();
        let realm = realms.entry(key.cluster.clone()).or_default();
        match (&event.now, &event.before) {
            (Some(now), _) => realm.put(number, records::lessee(now)),
            // It may be another spoke's by now.
            (None, Some(before)) if realm.taken.get(&number) == Some(&records::lessee(before)) => {
                realm.free(number);
            }
            (None, _) => {}
        }
    }

    /// First addresses of a spoke's ranges in a realm, in order.
    pub(crate) fn of(&self, realm: &ClusterName, spoke: &ClusterName) -> Vec<Ipv4Addr> {
        let realms = self.0.lock();
        let numbers = realms.get(realm).and_then(|realm| realm.of.get(spoke));
        numbers.into_iter().flatten().map(|number| base(*number)).collect()
    }

    /// Leases as many ranges to a spoke as it should have, if it has less.
    ///
    /// # Errors
    /// When the store cannot write or the realm's network is full.
    pub(crate) async fn lease(
        &self,
        store: &Arc<dyn Store>,
        realm: &ClusterName,
        spoke: &ClusterName,
        ranges: usize,
    ) -> Result<(), CommitError> {
        let mut tries = 0;
        while self.of(realm, spoke).len() < ranges {
            let snapshot = store.snapshot();
            let claim = self
                .claim(&*snapshot, realm, spoke)
                .ok_or_else(|| CommitError::Unavailable("no pod range is left".into()))?;
            // Without a claim it turned out that the spoke has one already.
            let Some(claim) = claim else { continue };
            let key = lease_key(realm, claim.number);
            let body = spoke.as_str().to_owned().into();
            let put = Operation::Put(key.clone(), Object { header: Header::default(), body });
            let txn = Txn { expect: vec![Expect::Absent(key)], operations: vec![put] };
            match store.commit(txn).await {
                Ok(_) => claim.keep(spoke),
                // Another hub was faster; the next snapshot says so.
                Err(error @ CommitError::Unmet { .. }) if tries == TRIES => return Err(error),
                Err(CommitError::Unmet { .. }) => tries += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Claims a free range; `Some(None)` when one of the spoke's own was found on the way, `None` when
    /// there is none left.
    fn claim<'a>(
        &'a self,
        snapshot: &dyn Snapshot,
        name: &'a ClusterName,
        spoke: &ClusterName,
    ) -> Option<Option<Claim<'a>>> {
        let mut realms = self.0.lock();
        let realm = realms.entry(name.clone()).or_default();
        let after = realm.taken.last_key_value().map_or(0, |(number, _)| number + 1);
        for number in (after..RANGES).chain(0..after.min(RANGES)) {
            if realm.taken.contains_key(&number) {
                continue;
            }
            let Some(stored) = snapshot.get(&lease_key(name, number)) else {
                realm.taken.insert(number, None);
                return Some(Some(Claim { ranges: self, realm: name, number }));
            };
            // Leased, and not told to this index yet.
            let owner = records::lessee(&stored);
            let own = owner.as_ref() == Some(spoke);
            realm.put(number, owner);
            if own {
                return Some(None);
            }
        }
        None
    }
}

/// A range that is being leased. Dropped, it is free again unless the store knows better.
struct Claim<'a> {
    ranges: &'a Ranges,
    realm: &'a ClusterName,
    number: u32,
}

impl Claim<'_> {
    fn keep(self, spoke: &ClusterName) {
        let mut realms = self.ranges.0.lock();
        realms.entry(self.realm.clone()).or_default().put(self.number, Some(spoke.clone()));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut realms = self.ranges.0.lock();
        if let Some(realm) = realms.get_mut(self.realm)
            && realm.taken.get(&self.number) == Some(&None)
        {
            realm.taken.remove(&self.number);
        }
    }
}

fn lease_key(realm: &ClusterName, number: u32) -> Key {
    Key::new(&records::pod_cidrs(), realm, "", &base(number).to_string())
}

fn base(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(POD_NETWORK + (number << 8))
}

/// The number of the range with this first address.
fn number(name: &str) -> Option<u32> {
    let base: Ipv4Addr = name.parse().ok()?;
    let offset = u32::from(base).checked_sub(POD_NETWORK)?;
    (offset.is_multiple_of(256) && offset / 256 < RANGES).then_some(offset / 256)
}

#[cfg(test)]
mod tests {
    use freewheel_hub_store::memory::MemoryStore;

    use super::*;

    fn spoke(name: &str) -> ClusterName {
        ClusterName::try_from(name).unwrap()
    }

    fn store() -> Arc<dyn Store> {
        Arc::new(MemoryStore::with_incarnation(1))
    }

    fn texts(ranges: &Ranges, name: &str) -> Vec<String> {
        ranges.of(&ClusterName::root(), &spoke(name)).iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn each_spoke_gets_its_own_and_no_more_than_it_needs() {
        let (ranges, store, root) = (Ranges::default(), store(), ClusterName::root());
        for (name, pods) in [("pi-7", 1), ("pi-8", 241), ("pi-7", 240), ("pi-9", 0)] {
            ranges.lease(&store, &root, &spoke(name), needed(pods)).await.unwrap();
        }
        assert_eq!(texts(&ranges, "pi-7"), ["10.64.0.0"]);
        assert_eq!(texts(&ranges, "pi-8"), ["10.64.1.0", "10.64.2.0"]);
        assert_eq!(texts(&ranges, "pi-9"), [""; 0]);
        let owner = records::owner_of(&*store.snapshot(), &root, Ipv4Addr::new(10, 64, 2, 9));
        assert_eq!(owner, Some(spoke("pi-8")));
    }

    #[tokio::test]
    async fn what_the_store_has_is_found_by_an_index_that_was_not_told() {
        let (store, root) = (store(), ClusterName::root());
        let first = Ranges::default();
        for name in ["pi-7", "pi-8"] {
            first.lease(&store, &root, &spoke(name), 1).await.unwrap();
        }
        let second = Ranges::default();
        for name in ["pi-9", "pi-8"] {
            second.lease(&store, &root, &spoke(name), 1).await.unwrap();
        }
        assert_eq!(texts(&second, "pi-9"), ["10.64.2.0"]);
        assert_eq!(texts(&second, "pi-8"), ["10.64.1.0"]);
        let third = Ranges::default();
        third.rebuild(&*store.snapshot());
        assert_eq!(texts(&third, "pi-7"), ["10.64.0.0"]);
    }

    #[tokio::test]
    async fn who_leases_at_the_same_time_does_not_wait_for_each_other() {
        let (ranges, store, root) = (Ranges::default(), store(), ClusterName::root());
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
    async fn a_full_network_says_so_after_its_gaps_are_used() {
        let (ranges, store, root) = (Ranges::default(), store(), ClusterName::root());
        {
            let mut realms = ranges.0.lock();
            let realm = realms.entry(root.clone()).or_default();
            for number in (0..RANGES).filter(|number| *number != 77) {
                realm.put(number, Some(spoke("others")));
            }
        }
        ranges.lease(&store, &root, &spoke("pi-7"), 1).await.unwrap();
        assert_eq!(texts(&ranges, "pi-7"), ["10.64.77.0"]);
        let full = ranges.lease(&store, &root, &spoke("pi-8"), 1).await;
        assert!(matches!(full, Err(CommitError::Unavailable(_))), "{full:?}");
    }
}
