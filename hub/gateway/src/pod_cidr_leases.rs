//! Ranges of pod addresses: which spoke has which ones, without reading everybody's leases to find a few.
//!
//! ```text
//! leased ─▶ more than the spoke needs, no pod in it ─▶ leaving: out of its plan ─▶ it holds that plan, for long ─▶ free
//!               ▲                                        │ a pod turns up in it, or more pods come
//!               └────────────────────────────────────────┘
//! ```
//!
//! Guarantees:
//! - what is leased is in the store, this is its index (`what_the_store_has_is_found_by_an_index_that_was_not_told`);
//! - sessions that lease at the same time get different ranges at the first try
//!   (`who_leases_at_the_same_time_does_not_wait_for_each_other`);
//! - a new range follows the highest one; gaps come last, so that an address that was somebody's rests for long
//!   (`a_full_network_says_so_after_its_gaps_are_used`);
//! - a lease whose end is heard of before its answer comes is nobody's
//!   (`a_lease_that_ends_before_it_is_answered_is_nobody_s`);
//! - a range that comes back is nobody else's by then, or stays the other's
//!   (`a_range_that_is_anothers_by_the_time_its_return_is_answered_stays_there`);
//! - what a spoke needs no more comes back, once the spoke has let go of it
//!   (`ranges_of_a_spoke_that_shrinks_come_back_after_it_has_let_go_of_them`), and not while a pod has an address there
//!   (`a_range_stays_while_it_is_used_and_when_pods_come`).

use freewheel_hub_objects::internal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::object::{Header, Key, Object};
use freewheel_hub_store::{CommitError, Event, Expect, Operation, Scope, Snapshot, Store, Txn};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

use crate::session_records::{self, POD_CIDR_COUNT, POD_NETWORK_BASE};

/// Pods that a range serves before another one is leased.
const PODS_PER_CIDR: usize = 240;
/// How often it is looked whether a spoke has more than it needs.
pub(crate) const IDLE_CHECK_EVERY: Duration = Duration::from_secs(60);
/// Looks in a row, about, at which a spoke must hold a plan without a range before the range is free: a pod that got
/// an address just before is reported by then.
const IDLE_CHECKS_MIN: u32 = 5;
/// Times that a lease is tried against other hubs.
const LEASE_TRIES_MAX: usize = 16;

/// Why a spoke has fewer ranges than it should have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LeaseError {
    /// There is one when a spoke gives one back or is deleted, and not before.
    #[error("all {POD_CIDR_COUNT} ranges of pod addresses are leased")]
    NetworkFull,
    /// It does not hold any more, or the store cannot write.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// How many ranges this many pods need.
pub(crate) const fn needed(pods: usize) -> usize {
    pods.div_ceil(PODS_PER_CIDR)
}

/// One realm's ranges, by their number in the pod network.
#[derive(Default)]
struct RealmCidrs {
    /// `None`: somebody is leasing it now.
    taken: BTreeMap<u32, Option<ClusterName>>,
    of: BTreeMap<ClusterName, BTreeSet<u32>>,
    /// Those of them that are to come back.
    leaving: BTreeMap<u32, Leaving>,
}

#[derive(Default)]
struct Leaving {
    /// At so many looks the spoke held a plan without it.
    held: u32,
    /// The lease is being deleted.
    going: bool,
}

impl RealmCidrs {
    fn put(&mut self, number: u32, owner: Option<ClusterName>) {
        self.free(number);
        if let Some(owner) = &owner {
            self.of.entry(owner.clone()).or_default().insert(number);
        }
        self.taken.insert(number, owner);
    }

    /// The ranges that the spoke is told of.
    fn usable(&self, spoke: &ClusterName) -> impl Iterator<Item = u32> {
        let all = self.of.get(spoke).into_iter().flatten().copied();
        all.filter(|number| !self.leaving.contains_key(number))
    }

    /// Takes back that this range is to come back. Whether that is still possible.
    fn stay(&mut self, number: u32) -> bool {
        let stays = self.leaving.get(&number).is_some_and(|leaving| !leaving.going);
        if stays {
            self.leaving.remove(&number);
        }
        stays
    }

    fn free(&mut self, number: u32) {
        self.leaving.remove(&number);
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
pub(crate) struct PodCidrLeases(Mutex<BTreeMap<ClusterName, RealmCidrs>>);

impl PodCidrLeases {
    /// Reads all leases anew.
    pub(crate) fn rebuild(&self, snapshot: &dyn Snapshot) {
        let mut realms = self.0.lock();
        for realm in realms.values_mut() {
            realm.of.clear();
            realm.leaving.clear();
            realm.taken.retain(|_, owner| owner.is_none());
        }
        let scope = Scope { resource: internal::pod_cidrs(), cluster: None, namespace: None };
        for stored in snapshot.range(&scope, None) {
            if let Some(number) = number(&stored.key.name) {
                let realm = realms.entry(stored.key.cluster.clone()).or_default();
                realm.put(number, session_records::lessee(&stored));
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
            (Some(now), _) => realm.put(number, session_records::lessee(now)),
            // It may be another spoke's by now.
            (None, Some(before))
                if realm.taken.get(&number) == Some(&session_records::lessee(before)) =>
            {
                realm.free(number);
            }
            (None, _) => {}
        }
    }

    /// First addresses of the ranges in a realm that a spoke gives addresses from, in order.
    pub(crate) fn usable(&self, realm: &ClusterName, spoke: &ClusterName) -> Vec<Ipv4Addr> {
        let realms = self.0.lock();
        realms.get(realm).into_iter().flat_map(|realm| realm.usable(spoke)).map(base).collect()
    }

    /// Whether a pod of this spoke may have this address in the realm: one of a range that is leased to it, and not the
    /// node's own.
    pub(crate) fn is_for_pods_of(
        &self,
        realm: &ClusterName,
        spoke: &ClusterName,
        address: IpAddr,
    ) -> bool {
        let IpAddr::V4(address) = address else { return false };
        let Some(number) = number_of(address) else { return false };
        let realms = self.0.lock();
        let own = realms.get(realm).and_then(|realm| realm.of.get(spoke));
        own.is_some_and(|own| own.contains(&number)) && !session_records::is_node_address(address)
    }

    /// Looks whether a spoke has more ranges in a realm than it is to keep, its pods having the addresses in `used`;
    /// `holds`: it holds the plan that is wanted. Answers whether its plan is another one now, and which of its
    /// ranges are to be freed.
    pub(crate) fn retire(
        &self,
        name: &ClusterName,
        spoke: &ClusterName,
        keep: usize,
        used: &BTreeSet<Ipv4Addr>,
        holds: bool,
    ) -> (bool, Vec<FreeCidr<'_>>) {
        let mut realms = self.0.lock();
        let Some(realm) = realms.get_mut(name) else { return (false, Vec::new()) };
        let used: BTreeSet<u32> = used.iter().filter_map(|address| number_of(*address)).collect();
        let own = realm.of.get(spoke).cloned().unwrap_or_default();
        let mut news = own.intersection(&used).filter(|number| realm.stay(**number)).count() != 0;
        let mut surplus = realm.usable(spoke).count().saturating_sub(keep);
        for number in own.iter().rev().filter(|number| !used.contains(number)) {
            if 0 < surplus && !realm.leaving.contains_key(number) {
                realm.leaving.insert(*number, Leaving::default());
                (surplus, news) = (surplus - 1, true);
            }
        }
        let mut free = Vec::new();
        for number in own.iter().filter(|_| holds && !news) {
            let Some(leaving) = realm.leaving.get_mut(number).filter(|l| !l.going) else {
                continue;
            };
            leaving.held += 1;
            if IDLE_CHECKS_MIN <= leaving.held {
                leaving.going = true;
                let (realm, owner) = (name.clone(), spoke.clone());
                free.push(FreeCidr { ranges: self, realm, owner, number: *number });
            }
        }
        (news, free)
    }

    /// One range that was to come back stays with its spoke. Whether there was one.
    fn keep_one(&self, realm: &ClusterName, spoke: &ClusterName) -> bool {
        let mut realms = self.0.lock();
        let Some(realm) = realms.get_mut(realm) else { return false };
        let own = realm.of.get(spoke).cloned().unwrap_or_default();
        own.iter().any(|number| realm.stay(*number))
    }

    /// Leases as many ranges to a spoke as it should have, if it has less, while this holds.
    ///
    /// # Errors
    /// When it does not hold, the store cannot write, or the realm's network is full.
    pub(crate) async fn lease(
        &self,
        store: &Arc<dyn Store>,
        realm: &ClusterName,
        (spoke, hold): (&ClusterName, &[Expect]),
        ranges: usize,
    ) -> Result<(), LeaseError> {
        let mut tries = 0;
        while self.usable(realm, spoke).len() < ranges {
            if self.keep_one(realm, spoke) {
                continue;
            }
            let snapshot = store.snapshot();
            let claim = self.claim(&*snapshot, realm, spoke).ok_or(LeaseError::NetworkFull)?;
            // Without a claim it turned out that the spoke has one already.
            let Some(claim) = claim else { continue };
            let key = lease_key(realm, claim.number);
            let body = spoke.as_str().to_owned().into();
            let put = Operation::Put(key.clone(), Object { header: Header::default(), body });
            let mut txn = Txn { expect: vec![Expect::Absent(key)], operations: vec![put] };
            txn.expect.extend_from_slice(hold);
            match store.commit(txn).await {
                Ok(_) => claim.keep(spoke),
                Err(error @ CommitError::Unmet { index: 1.., .. }) => return Err(error.into()),
                // Another hub was faster; the next snapshot says so.
                Err(error @ CommitError::Unmet { .. }) if tries == LEASE_TRIES_MAX => {
                    return Err(error.into());
                }
                Err(CommitError::Unmet { .. }) => tries += 1,
                Err(error) => return Err(error.into()),
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
    ) -> Option<Option<CidrClaim<'a>>> {
        let mut realms = self.0.lock();
        let realm = realms.entry(name.clone()).or_default();
        let after = realm.taken.last_key_value().map_or(0, |(number, _)| number + 1);
        for number in (after..POD_CIDR_COUNT).chain(0..after.min(POD_CIDR_COUNT)) {
            if realm.taken.contains_key(&number) {
                continue;
            }
            let Some(stored) = snapshot.get(&lease_key(name, number)) else {
                realm.taken.insert(number, None);
                return Some(Some(CidrClaim { ranges: self, realm: name, number }));
            };
            // Leased, and not told to this index yet.
            let owner = session_records::lessee(&stored);
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
struct CidrClaim<'a> {
    ranges: &'a PodCidrLeases,
    realm: &'a ClusterName,
    number: u32,
}

impl CidrClaim<'_> {
    fn keep(self, spoke: &ClusterName) {
        let mut realms = self.ranges.0.lock();
        let realm = realms.entry(self.realm.clone()).or_default();
        // Where the store has told of the lease by now, it may have told of its end, too.
        if realm.taken.get(&self.number) == Some(&None) {
            realm.put(self.number, Some(spoke.clone()));
        }
    }
}

impl Drop for CidrClaim<'_> {
    fn drop(&mut self) {
        let mut realms = self.ranges.0.lock();
        if let Some(realm) = realms.get_mut(self.realm)
            && realm.taken.get(&self.number) == Some(&None)
        {
            realm.taken.remove(&self.number);
        }
    }
}

/// A range that nobody uses any more. Dropped, it is looked at again.
pub(crate) struct FreeCidr<'a> {
    ranges: &'a PodCidrLeases,
    realm: ClusterName,
    owner: ClusterName,
    number: u32,
}

impl FreeCidr<'_> {
    /// Whether this is still what happens to the range: once its deletion is heard of it may be another's.
    fn goes(&self, realm: &RealmCidrs) -> bool {
        realm.taken.get(&self.number) == Some(&Some(self.owner.clone()))
            && realm.leaving.get(&self.number).is_some_and(|leaving| leaving.going)
    }

    /// Deletes its lease.
    ///
    /// # Errors
    /// When the store cannot write.
    pub(crate) async fn give_back(self, store: &Arc<dyn Store>) -> Result<(), CommitError> {
        let spoke = &self.owner;
        let key = lease_key(&self.realm, self.number);
        let leased = store.snapshot().get(&key);
        if let Some(lease) =
            leased.filter(|lease| session_records::lessee(lease).as_ref() == Some(spoke))
        {
            let expect = vec![Expect::Revision(key.clone(), lease.revision)];
            store.commit(Txn { expect, operations: vec![Operation::Delete(key)] }).await?;
        }
        if let Some(realm) = self.ranges.0.lock().get_mut(&self.realm)
            && self.goes(realm)
        {
            realm.free(self.number);
        }
        Ok(())
    }
}

impl Drop for FreeCidr<'_> {
    fn drop(&mut self) {
        let mut realms = self.ranges.0.lock();
        let realm = realms.get_mut(&self.realm).filter(|realm| self.goes(realm));
        if let Some(leaving) = realm.and_then(|realm| realm.leaving.get_mut(&self.number)) {
            leaving.going = false;
        }
    }
}

fn lease_key(realm: &ClusterName, number: u32) -> Key {
    Key::new(&internal::pod_cidrs(), realm, "", &base(number).to_string())
}

fn base(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(POD_NETWORK_BASE + (number << 8))
}

/// The number of the range with this first address.
fn number(name: &str) -> Option<u32> {
    let base: Ipv4Addr = name.parse().ok()?;
    if base.octets()[3] == 0 { number_of(base) } else { None }
}

/// The number of the range that this address is in.
fn number_of(address: Ipv4Addr) -> Option<u32> {
    let offset = u32::from(address).checked_sub(POD_NETWORK_BASE)?;
    (offset / 256 < POD_CIDR_COUNT).then_some(offset / 256)
}

#[cfg(test)]
mod tests;
