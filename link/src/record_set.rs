//! The set of records that a plan comes to, as both sides count it.
//!
//! The hub keeps only members' digests of what a spoke holds ([`Held`]), never a second copy of the bodies.
//!
//! Guarantees:
//! - hub and spoke that hold the same records have the same [`SetDigest`], whatever way led there
//!   (`a_delta_leads_from_one_set_to_the_other`, `a_replaced_record_leaves_no_trace_in_the_digest`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::{Digest, SetDigest};
use crate::generation::Generation;
use crate::names::ClusterName;
use crate::plan::{Kind, Record, RecordKey};

impl Record {
    /// The bytes that count for the set's digest: everything but the revision, which rises with writes
    /// that change nothing for the spoke (a pod's own status).
    #[must_use]
    pub fn member(&self) -> Vec<u8> {
        // Records hold nothing that postcard could refuse; an empty member would only cost a snapshot.
        postcard::to_stdvec(&(&self.key, self.needs, &self.body)).unwrap_or_default()
    }
}

/// Records by key, with the digest of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSet {
    records: BTreeMap<RecordKey, Arc<Record>>,
    digest: SetDigest,
}

impl RecordSet {
    /// Puts a record, in place of the one with its key.
    pub fn put(&mut self, record: Record) {
        self.digest.add(&record.member());
        if let Some(old) = self.records.insert(record.key.clone(), Arc::new(record)) {
            self.digest.remove(&old.member());
        }
    }

    /// Takes the record with this key out, if there is one.
    pub fn remove(&mut self, key: &RecordKey) {
        if let Some(old) = self.records.remove(key) {
            self.digest.remove(&old.member());
        }
    }

    /// Fingerprint of the whole.
    #[must_use]
    pub const fn digest(&self) -> SetDigest {
        self.digest
    }

    /// All records in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values()
    }

    /// Records of a kind in a realm whose keys start with this, in key order.
    pub fn below(
        &self,
        realm: &ClusterName,
        kind: Kind,
        prefix: &str,
    ) -> impl Iterator<Item = &Arc<Record>> {
        let from = RecordKey { realm: realm.clone(), kind, key: prefix.to_owned() };
        self.records
            .range(from.clone()..)
            .take_while(move |(key, _)| {
                key.realm == from.realm && key.kind == kind && key.key.starts_with(&from.key)
            })
            .map(|(_, record)| record)
    }

    /// The record with this key.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Arc<Record>> {
        self.records.get(key)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

impl FromIterator<Record> for RecordSet {
    fn from_iter<I: IntoIterator<Item = Record>>(records: I) -> Self {
        let mut set = Self::default();
        for record in records {
            set.put(record);
        }
        set
    }
}

/// What the hub knows of the set that a spoke holds: enough to make a delta, without the bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Generation of the set.
    pub generation: Generation,
    /// Its fingerprint.
    pub digest: SetDigest,
    members: BTreeMap<RecordKey, Digest>,
}

/// What turns one set into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Records to put, in key order.
    pub put: Vec<Arc<Record>>,
    /// Keys to remove, in order.
    pub remove: Vec<RecordKey>,
}

impl Held {
    /// What a spoke holds once it has taken `set` at `generation`.
    #[must_use]
    pub fn of(generation: Generation, set: &RecordSet) -> Self {
        let members = set.iter().map(|r| (r.key.clone(), Digest::of(&r.member()))).collect();
        Self { generation, digest: set.digest(), members }
    }

    /// The way from here to `set`.
    #[must_use]
    pub fn delta(&self, set: &RecordSet) -> Delta {
        let changed = |r: &&Arc<Record>| self.members.get(&r.key) != Some(&Digest::of(&r.member()));
        Delta {
            put: set.iter().filter(changed).cloned().collect(),
            remove: self.members.keys().filter(|k| set.get(k).is_none()).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, body: u8) -> Record {
        let key = RecordKey { realm: ClusterName::root(), kind: Kind::POD_V1, key: key.into() };
        Record { key, revision: 1, needs: 0, body: vec![body] }
    }

    #[test]
    fn a_delta_leads_from_one_set_to_the_other() {
        let old: RecordSet = [record("a", 1), record("b", 1)].into_iter().collect();
        let new: RecordSet = [record("b", 2), record("c", 1)].into_iter().collect();
        let held = Held::of(Generation { incarnation: 1, revision: 1 }, &old);
        let delta = held.delta(&new);
        let mut walked = old;
        for record in &delta.put {
            walked.put(Record::clone(record));
        }
        for key in &delta.remove {
            walked.remove(key);
        }
        assert_eq!(walked, new);
        assert_eq!((delta.put.len(), delta.remove.len()), (2, 1));
    }

    #[test]
    fn a_replaced_record_leaves_no_trace_in_the_digest() {
        let mut set: RecordSet = [record("a", 1)].into_iter().collect();
        set.put(record("a", 2));
        assert_eq!(set.digest(), [record("a", 2)].into_iter().collect::<RecordSet>().digest());
        set.remove(&record("a", 2).key);
        assert_eq!(set.digest(), SetDigest::default());
    }

    #[test]
    fn records_of_a_kind_are_found_by_the_beginning_of_their_keys() {
        let key = |realm: &str, kind: Kind, key: &str| RecordKey {
            realm: ClusterName::try_from(realm).unwrap(),
            kind,
            key: key.to_owned(),
        };
        let mut set = RecordSet::default();
        for (realm, kind, name) in [
            ("pi-1", Kind::SERVICE_V1, "a/one"),
            ("pi-1", Kind::SERVICE_V1, "a/two"),
            ("pi-1", Kind::SERVICE_V1, "ab/three"),
            ("pi-1", Kind::SECRET_V1, "a/four"),
            ("pi-2", Kind::SERVICE_V1, "a/five"),
        ] {
            set.put(Record { key: key(realm, kind, name), revision: 1, needs: 0, body: vec![] });
        }
        let realm = ClusterName::try_from("pi-1").unwrap();
        let found: Vec<&str> =
            set.below(&realm, Kind::SERVICE_V1, "a/").map(|r| r.key.key.as_str()).collect();
        assert_eq!(found, ["a/one", "a/two"]);
    }
}
