//! The set of records that a plan comes to, as both sides count it.
//!
//! A record's digest is taken once, when it is sealed; sets, what is remembered of them and the way from one to
//! another go by it. The hub keeps only members' digests of what a spoke holds ([`Held`]), never a second copy of the
//! bodies.
//!
//! Guarantees:
//! - hub and spoke that hold the same records have the same [`SetDigest`], whatever way led there
//!   (`a_delta_leads_from_one_set_to_the_other`, `a_replaced_record_leaves_no_trace_in_the_digest`).

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Deref;
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
        let mut member =
            postcard::to_stdvec(&(&self.key, self.needs, self.body.len())).unwrap_or_default();
        // As postcard writes them after their number, not one by one.
        member.extend_from_slice(&self.body);
        member
    }
}

/// A record that does not change any more, with the digest by which it counts.
#[derive(Debug, PartialEq, Eq)]
pub struct Sealed {
    record: Record,
    digest: Digest,
}

impl Sealed {
    /// The digest of its [`Record::member`].
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl From<Record> for Sealed {
    fn from(mut record: Record) -> Self {
        record.body.shrink_to_fit();
        let digest = Digest::of(&record.member());
        Self { record, digest }
    }
}

impl Deref for Sealed {
    type Target = Record;

    fn deref(&self) -> &Record {
        &self.record
    }
}

/// A record as sets are ordered: by its key alone.
#[derive(Clone, Debug)]
pub struct ByKey(pub Arc<Sealed>);

impl Borrow<RecordKey> for ByKey {
    fn borrow(&self) -> &RecordKey {
        &self.0.key
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

/// A set as the hub's half of a session has to know it.
pub trait PlanSet {
    /// What is kept of a set that a spoke holds: enough to make a delta, without the bodies.
    type Members;

    /// Fingerprint of the whole.
    fn digest(&self) -> SetDigest;
    /// All records, in key order.
    fn whole(&self) -> Vec<Arc<Sealed>>;
    /// What to keep of it.
    fn members(&self) -> Self::Members;
    /// Whether the way from there is known.
    fn knows(&self, held: &Self::Members) -> bool;
    /// The way from there, if it is known.
    fn since(&self, held: &Self::Members) -> Option<Delta>;
}

/// Records by key, with the digest of all.
#[derive(Clone, Debug, Default)]
pub struct RecordSet {
    records: BTreeSet<ByKey>,
    digest: SetDigest,
}

impl PartialEq for RecordSet {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for RecordSet {}

impl RecordSet {
    /// Puts a record, in place of the one with its key.
    pub fn put(&mut self, record: Record) {
        let new = Arc::new(Sealed::from(record));
        self.digest.add(new.digest());
        if let Some(ByKey(old)) = self.records.replace(ByKey(new)) {
            self.digest.remove(old.digest());
        }
    }

    /// Takes the record with this key out, if there is one.
    pub fn remove(&mut self, key: &RecordKey) {
        if let Some(ByKey(old)) = self.records.take(key) {
            self.digest.remove(old.digest());
        }
    }

    /// Fingerprint of the whole.
    #[must_use]
    pub const fn digest(&self) -> SetDigest {
        self.digest
    }

    /// All records in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Sealed>> {
        self.records.iter().map(|ByKey(record)| record)
    }

    /// Records of a kind in a realm whose keys start with this, in key order.
    pub fn below(
        &self,
        realm: &ClusterName,
        kind: Kind,
        prefix: &str,
    ) -> impl Iterator<Item = &Arc<Sealed>> {
        let from = RecordKey { realm: realm.clone(), kind, key: prefix.to_owned() };
        self.records.range::<RecordKey, _>(&from..).map(|ByKey(record)| record).take_while({
            let from = from.clone();
            move |record| {
                let key = &record.key;
                key.realm == from.realm && key.kind == kind && key.key.starts_with(&from.key)
            }
        })
    }

    /// The record with this key.
    #[must_use]
    pub fn get(&self, key: &RecordKey) -> Option<&Arc<Sealed>> {
        self.records.get(key).map(|ByKey(record)| record)
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

impl PlanSet for RecordSet {
    type Members = Members;

    fn digest(&self) -> SetDigest {
        self.digest
    }

    fn whole(&self) -> Vec<Arc<Sealed>> {
        self.iter().cloned().collect()
    }

    fn members(&self) -> Members {
        self.iter().collect()
    }

    fn knows(&self, _: &Members) -> bool {
        true
    }

    fn since(&self, held: &Members) -> Option<Delta> {
        Some(held.delta(self.iter()))
    }
}

/// Which records a set has, without their bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members(Box<[(RecordKey, Digest)]>);

impl<'a> FromIterator<&'a Arc<Sealed>> for Members {
    fn from_iter<I: IntoIterator<Item = &'a Arc<Sealed>>>(records: I) -> Self {
        let mut all: Vec<_> =
            records.into_iter().map(|record| (record.key.clone(), *record.digest())).collect();
        all.sort_unstable();
        Self(all.into())
    }
}

impl Members {
    /// How many records it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The digest of the record with this key, if it has one.
    #[must_use]
    pub fn digest_of(&self, key: &RecordKey) -> Option<&Digest> {
        let at = self.0.binary_search_by(|(held, _)| held.cmp(key)).ok()?;
        self.0.get(at).map(|(_, digest)| digest)
    }

    /// The way from here to these records.
    #[must_use]
    pub fn delta<'a>(&self, records: impl IntoIterator<Item = &'a Arc<Sealed>>) -> Delta {
        let mut there = BTreeSet::new();
        let mut put = Vec::new();
        for record in records {
            if self.digest_of(&record.key) != Some(record.digest()) {
                put.push(record.clone());
            }
            there.insert(&record.key);
        }
        let gone = self.0.iter().map(|(key, _)| key).filter(|key| !there.contains(key));
        Delta { put, remove: gone.cloned().collect() }
    }
}

/// What the hub knows of the set that a spoke holds: enough to make a delta, without the bodies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held<M = Members> {
    /// Generation of the set.
    pub generation: Generation,
    /// Its fingerprint.
    pub digest: SetDigest,
    /// What it has.
    pub members: M,
}

/// What turns one set into another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Records to put, in key order.
    pub put: Vec<Arc<Sealed>>,
    /// Keys to remove, in order.
    pub remove: Vec<RecordKey>,
}

impl<M> Held<M> {
    /// What a spoke holds once it has taken `set` at `generation`.
    #[must_use]
    pub fn of<S: PlanSet<Members = M>>(generation: Generation, set: &S) -> Self {
        Self { generation, digest: set.digest(), members: set.members() }
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
        let delta = new.since(&held.members).unwrap();
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
    fn a_member_is_what_postcard_writes() {
        for body in [Vec::new(), vec![7], vec![200; 300], vec![0; 70_000]] {
            let record = Record { body, ..record("a", 1) };
            let whole = postcard::to_stdvec(&(&record.key, record.needs, &record.body));
            assert_eq!(record.member(), whole.unwrap());
        }
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
