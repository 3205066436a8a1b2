//! Pod addresses out of the ranges that the hub has leased to this spoke.
//!
//! Guarantees:
//! - no two pods of a realm have one address: who has a [`Lease`] has it alone, and gives it back once
//!   (`a_kept_address_is_not_given_twice`, `two_pods_never_have_one_address`);
//! - the first address of a range (`.0`), `.1`, which is the realm's own on this spoke, and the last are never given,
//!   and a released one comes back last, because peers remember it (`addresses_are_given_in_turn_and_come_back_last`);
//! - an address outside of the ranges that the hub leases to this device now is known for another's
//!   (`what_is_in_no_range_is_another_devices`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use freewheel_link::names::ClusterName;

/// Addresses of all realms.
#[derive(Debug, Default)]
pub struct Addresses(BTreeMap<ClusterName, RealmAddresses>);

/// One pod's address. It is nobody else's until it is given back, and whoever gives it back has it no more.
#[derive(Debug, PartialEq, Eq)]
pub struct Lease {
    realm: ClusterName,
    ip: Ipv4Addr,
}

impl Lease {
    /// The address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}

#[derive(Debug, Default)]
struct RealmAddresses {
    ranges: BTreeSet<(Ipv4Addr, u8)>,
    used: BTreeSet<Ipv4Addr>,
    last: Option<Ipv4Addr>,
}

impl Addresses {
    /// A range may be used. One that is no range of pods (`/8` to `/30`) is ignored.
    pub fn lease(&mut self, realm: &ClusterName, base: Ipv4Addr, prefix: u8) {
        if (8..=30).contains(&prefix) {
            self.0.entry(realm.clone()).or_default().ranges.insert((base, prefix));
        }
    }

    /// Forgets all ranges of a realm; the addresses in use stay.
    pub fn revoke_all(&mut self, realm: &ClusterName) {
        if let Some(realm) = self.0.get_mut(realm) {
            realm.ranges.clear();
        }
    }

    /// Whether an address is another device's by now: there are ranges in the realm, and it is in none of them. Without
    /// any range nothing says whose it is, and there is none to have in its place.
    #[must_use]
    pub fn is_foreign(&self, realm: &ClusterName, ip: Ipv4Addr) -> bool {
        let Some(realm) = self.0.get(realm).filter(|realm| !realm.ranges.is_empty()) else {
            return false;
        };
        let within = |(base, prefix): &(Ipv4Addr, u8)| {
            let mask = u32::MAX << (32 - u32::from(*prefix));
            u32::from(*base) & mask == u32::from(ip) & mask
        };
        !realm.ranges.iter().any(within)
    }

    /// Takes an address that a pod kept over the agent's restart; `None`: another pod has it.
    pub fn hold(&mut self, realm: &ClusterName, ip: Ipv4Addr) -> Option<Lease> {
        let known = self.0.entry(realm.clone()).or_default();
        known.last = known.last.max(Some(ip));
        known.used.insert(ip).then(|| Lease { realm: realm.clone(), ip })
    }

    /// Takes an address back.
    pub fn release(&mut self, lease: Lease) {
        let Lease { realm, ip } = lease;
        if let Some(realm) = self.0.get_mut(&realm) {
            realm.used.remove(&ip);
        }
    }

    /// Whether there is an address to [take](Self::take).
    #[must_use]
    pub fn has_free(&self, of: &ClusterName) -> bool {
        self.0.get(of).is_some_and(|realm| realm.free().next().is_some())
    }

    /// Takes the next free address, or `None` when all leased ones are in use.
    pub fn take(&mut self, of: &ClusterName) -> Option<Lease> {
        let realm = self.0.get_mut(of)?;
        let after = |ip: &Ipv4Addr| realm.last.is_none_or(|last| last < *ip);
        let ip = realm.free().find(after).or_else(|| realm.free().next())?;
        realm.used.insert(ip);
        realm.last = Some(ip);
        Some(Lease { realm: of.clone(), ip })
    }
}

impl RealmAddresses {
    fn free(&self) -> impl Iterator<Item = Ipv4Addr> {
        addresses(&self.ranges).filter(|ip| !self.used.contains(ip))
    }
}

fn addresses(ranges: &BTreeSet<(Ipv4Addr, u8)>) -> impl Iterator<Item = Ipv4Addr> {
    ranges.iter().flat_map(|(base, prefix)| {
        let first = u32::from(*base);
        let size = 1_u32 << (32 - u32::from(*prefix));
        (2..size - 1).filter_map(move |offset| first.checked_add(offset)).map(Ipv4Addr::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leased(prefix: u8) -> (Addresses, ClusterName) {
        let mut addresses = Addresses::default();
        let realm = ClusterName::root();
        addresses.lease(&realm, Ipv4Addr::new(10, 64, 3, 0), prefix);
        (addresses, realm)
    }

    fn last(lease: &Option<Lease>) -> Option<u8> {
        lease.as_ref().map(|lease| lease.ip().octets()[3])
    }

    #[test]
    fn addresses_are_given_in_turn_and_come_back_last() {
        let (mut all, realm) = leased(29);
        let first = all.take(&realm).unwrap();
        assert_eq!(first.ip(), Ipv4Addr::new(10, 64, 3, 2));
        let mut take = || last(&all.take(&realm));
        assert_eq!([take(), take()], [Some(3), Some(4)]);
        all.release(first);
        let mut take = || last(&all.take(&realm));
        assert_eq!([take(), take(), take(), take()], [Some(5), Some(6), Some(2), None]);
    }

    #[test]
    fn a_kept_address_is_not_given_twice() {
        let (mut all, realm) = leased(24);
        let kept = Ipv4Addr::new(10, 64, 3, 9);
        assert!(all.hold(&realm, kept).is_some());
        assert_eq!(all.hold(&realm, kept), None, "nor to another pod that says it had it");
        assert_eq!(last(&all.take(&realm)), Some(10));
    }

    #[test]
    fn what_is_in_no_range_is_another_devices() {
        let (mut all, realm) = leased(24);
        let (own, other) = (Ipv4Addr::new(10, 64, 3, 9), Ipv4Addr::new(10, 64, 4, 9));
        assert!(!all.is_foreign(&realm, own) && all.is_foreign(&realm, other));
        all.revoke_all(&realm);
        assert!(!all.is_foreign(&realm, other), "nothing is known");
    }

    #[test]
    fn realms_do_not_meet() {
        let (mut all, realm) = leased(24);
        let other = ClusterName::try_from("pi-7").unwrap();
        assert_eq!(all.take(&other), None);
        all.lease(&other, Ipv4Addr::new(10, 64, 3, 0), 24);
        assert_eq!(last(&all.take(&other)), last(&all.take(&realm)));
    }

    #[test]
    fn a_hostile_range_is_ignored() {
        for prefix in [0, 7, 31, 32, 255] {
            let (mut all, realm) = leased(prefix);
            assert_eq!(all.take(&realm), None, "/{prefix}");
        }
    }
}
