//! A set of records that counts its changes, so that the way from an earlier state is as long as what changed since.
//!
//! ```text
//! put, remove ─▶ version + 1 ─▶ changes: each key once, at its newest change
//!                                  │
//! held: "version 7 of it" ─▶ way ──┘ records to put, keys to remove
//! ```
//!
//! Whoever holds an earlier state is known by its version alone, however large it was. A copy costs nothing, and shares
//! what has not changed.
//!
//! Guarantees:
//! - the way from any version that is not forgotten leads there, from another set too
//!   (`every_way_leads_from_where_it_begins_to_where_it_ends`);
//! - it is no longer than what changed (`a_way_is_as_long_as_what_changed`);
//! - keys that are gone are remembered up to a bound, and who was there before them gets everything
//!   (`what_is_gone_is_forgotten_at_last`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_link::digest::SetDigest;
use freewheel_link::plan::RecordKey;
use freewheel_link::record_set::{ByKey, Delta, Sealed};
use imbl::OrdMap;

/// Keys that are gone and still told of; then the older half of them is forgotten.
const REMOVED_KEYS_REMEMBERED: usize = 4096;

#[derive(Clone, Debug)]
enum Change {
    Put(Arc<Sealed>),
    Gone(Arc<RecordKey>),
}

impl Change {
    fn key(&self) -> &RecordKey {
        match self {
            Self::Put(record) => &record.key,
            Self::Gone(key) => key,
        }
    }
}

/// Records by key, and when each has changed.
#[derive(Clone, Debug, Default)]
pub struct VersionedSet {
    version: u64,
    /// What has changed since an earlier version than this is not known any more.
    oldest: u64,
    /// With the version of their newest change.
    records: OrdMap<ByKey, u64>,
    gone: OrdMap<Arc<RecordKey>, u64>,
    changes: OrdMap<u64, Change>,
    digest: SetDigest,
    weight: usize,
}

impl VersionedSet {
    /// Counts its changes.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Fingerprint of the whole.
    #[must_use]
    pub const fn digest(&self) -> SetDigest {
        self.digest
    }

    /// What all records count for in a plan.
    #[must_use]
    pub const fn weight(&self) -> usize {
        self.weight
    }

    /// All records in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sealed>> {
        self.records.keys().map(|ByKey(record)| record)
    }

    /// The record with this key.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Arc<Sealed>> {
        self.records.get_key_value(key).map(|(ByKey(record), _)| record)
    }

    /// Whether what a spoke held of it at this version is still told apart from what is there now.
    #[must_use]
    pub const fn knows(&self, version: u64) -> bool {
        self.oldest <= version && version <= self.version
    }

    /// Puts a record, in place of the one with its key. Whether that changes anything: the same with another revision
    /// is the same.
    pub fn put(&mut self, record: Arc<Sealed>) -> bool {
        if self.get(&record.key).is_some_and(|old| old.digest() == record.digest()) {
            return false;
        }
        self.take(&record.key);
        if let Some(at) = self.gone.remove(&record.key) {
            self.changes.remove(&at);
        }
        self.version += 1;
        self.digest.add(record.digest());
        self.weight += record.weight();
        self.changes.insert(self.version, Change::Put(record.clone()));
        self.records.insert(ByKey(record), self.version);
        true
    }

    /// Takes the record with this key out. Whether there was one.
    pub fn remove(&mut self, key: &RecordKey) -> bool {
        if !self.take(key) {
            return false;
        }
        self.version += 1;
        let key = Arc::new(key.clone());
        self.changes.insert(self.version, Change::Gone(key.clone()));
        self.gone.insert(key, self.version);
        if REMOVED_KEYS_REMEMBERED < self.gone.len() {
            self.forget();
        }
        true
    }

    fn take(&mut self, key: &RecordKey) -> bool {
        let Some((ByKey(old), at)) = self.records.remove_with_key(key) else { return false };
        self.changes.remove(&at);
        self.digest.remove(old.digest());
        self.weight -= old.weight();
        true
    }

    fn forget(&mut self) {
        let mut all: Vec<(u64, Arc<RecordKey>)> =
            self.gone.iter().map(|(key, at)| (*at, key.clone())).collect();
        all.sort_unstable_by_key(|(at, _)| *at);
        for (at, key) in all.drain(..REMOVED_KEYS_REMEMBERED / 2) {
            self.gone.remove(&*key);
            self.changes.remove(&at);
            self.oldest = at;
        }
    }

    fn since(&self, version: u64) -> impl Iterator<Item = &Change> {
        self.changes.range(version.saturating_add(1)..).map(|(_, change)| change)
    }

    /// The way to here from what this very set was at an earlier version, if that is still known.
    #[must_use]
    pub fn changes_since(&self, version: u64) -> Option<Delta> {
        let mut delta = Delta::default();
        for change in self.since(version) {
            match change {
                Change::Put(record) => delta.put.push(record.clone()),
                Change::Gone(key) => delta.remove.push(RecordKey::clone(key)),
            }
        }
        self.knows(version).then_some(delta)
    }

    /// The way to here from what `from` was at this version, if that is still known.
    #[must_use]
    pub fn way(&self, from: &Self, version: u64) -> Option<Delta> {
        if !from.knows(version) {
            return None;
        }
        if std::ptr::eq(self, from) {
            return self.changes_since(version);
        }
        let mut delta = Delta::default();
        let changed: BTreeSet<&RecordKey> = from.since(version).map(Change::key).collect();
        let same = |record: &&Arc<Sealed>| {
            let there = from.get(&record.key).map(|held| held.digest());
            there == Some(record.digest()) && !changed.contains(&record.key)
        };
        delta.put.extend(self.iter().filter(|record| !same(record)).cloned());
        let held: BTreeSet<&RecordKey> =
            from.iter().map(|record| &record.key).chain(changed.iter().copied()).collect();
        delta.remove.extend(held.into_iter().filter(|key| self.get(key).is_none()).cloned());
        Some(delta)
    }
}

impl FromIterator<Arc<Sealed>> for VersionedSet {
    fn from_iter<I: IntoIterator<Item = Arc<Sealed>>>(records: I) -> Self {
        let mut set = Self::default();
        for record in records {
            set.put(record);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freewheel_link::names::ClusterName;
    use freewheel_link::plan::{Kind, Record};

    use super::*;

    fn key(name: u32) -> RecordKey {
        let realm = ClusterName::root();
        RecordKey { realm, kind: Kind::SERVICE_V1, key: format!("default/s{name}") }
    }

    fn record(name: u32, body: u8) -> Arc<Sealed> {
        Arc::new(Record { key: key(name), revision: 1, needs: 0, body: vec![body] }.into())
    }

    type Bodies = BTreeMap<RecordKey, Vec<u8>>;

    fn bodies(set: &VersionedSet) -> Bodies {
        set.iter().map(|record| (record.key.clone(), record.body.clone())).collect()
    }

    fn walk(mut from: Bodies, way: &Delta) -> Bodies {
        for record in &way.put {
            from.insert(record.key.clone(), record.body.clone());
        }
        for key in &way.remove {
            from.remove(key);
        }
        from
    }

    /// Numbers that look like chance, the same at each run.
    struct Dice(u32);

    impl Dice {
        fn below(&mut self, most: u32) -> u32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (self.0 >> 8) % most
        }
    }

    #[test]
    fn every_way_leads_from_where_it_begins_to_where_it_ends() {
        let mut dice = Dice(7);
        let mut sets = [VersionedSet::default(), VersionedSet::default()];
        let mut past: Vec<(usize, u64, Bodies)> = Vec::new();
        for _ in 0..600 {
            let which = usize::from(dice.below(2) == 1);
            let set = &mut sets[which];
            let name = dice.below(12);
            if dice.below(3) == 0 {
                set.remove(&key(name));
            } else {
                set.put(record(name, u8::try_from(dice.below(4)).unwrap()));
            }
            past.push((which, set.version(), bodies(set)));
        }
        for (which, version, held) in past {
            for to in &sets {
                let way = to.way(&sets[which], version).unwrap();
                assert_eq!(walk(held.clone(), &way), bodies(to), "from {version} of {which}");
            }
        }
        for set in &sets {
            let again: VersionedSet = set.iter().cloned().collect();
            assert_eq!((again.digest(), again.weight()), (set.digest(), set.weight()));
        }
    }

    #[test]
    fn a_way_is_as_long_as_what_changed() {
        let mut set: VersionedSet = (0..1000).map(|name| record(name, 0)).collect();
        let held = set.version();
        assert!(!set.put(record(1, 0)), "nothing new");
        for body in 1..100 {
            set.put(record(7, body));
        }
        set.put(record(5000, 1));
        set.remove(&key(8));
        let way = set.way(&set, held).unwrap();
        assert_eq!((way.put.len(), way.remove.len()), (2, 1));
        assert_eq!(set.way(&set, set.version()), Some(Delta::default()));
        assert!(set.way(&set, set.version() + 1).is_none(), "of the future nothing is known");
    }

    #[test]
    fn what_is_gone_is_forgotten_at_last() {
        let mut set = VersionedSet::default();
        set.put(record(0, 0));
        let early = set.version();
        let many = u32::try_from(REMOVED_KEYS_REMEMBERED).unwrap() + 1;
        for name in 1..=many {
            set.put(record(name, 0));
            set.remove(&key(name));
        }
        assert!(!set.knows(early) && set.way(&set, early).is_none());
        assert!(
            set.gone.len() <= REMOVED_KEYS_REMEMBERED
                && set.changes.len() <= REMOVED_KEYS_REMEMBERED + 1
        );
        assert!(set.knows(set.version() - 10));
        assert_eq!(set.iter().count(), 1);
    }
}
