//! What a write takes and gives back: its object's own name, addresses, ports, places in a quota.
//!
//! ```text
//! take       a key that nobody has: a name, an address, a port
//! replace    what was read, as it was read
//! remove     the same, away
//! give_back  a key, whatever is there
//! count      more or less at a counter, however many others count at the same time
//! expect     what else has to hold
//! ```
//!
//! All of it is one transaction: it is so together, or not at all. What only counts is written without being read
//! before, so that a burst of writes that count at one key costs one commit each.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use freewheel_hub_schema::object::{Key, Object};
use freewheel_hub_store::{Expect, Operation, Revision, Txn};

/// What a write takes and gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    expect: Vec<Expect>,
    operations: Vec<Operation>,
}

impl Claims {
    /// This has to hold.
    pub fn expect(&mut self, expect: Expect) {
        self.expect.push(expect);
    }

    /// A key that nobody has, with what is to be known of its holder.
    pub fn take(&mut self, key: Key, record: Object) {
        self.expect.push(Expect::Absent(key.clone()));
        self.operations.push(Operation::Put(key, record));
    }

    /// A key, whoever has it.
    pub fn give_back(&mut self, key: Key) {
        self.operations.push(Operation::Delete(key));
    }

    /// So many more, or fewer, at a counter of an internal resource.
    pub fn count(&mut self, counter: Key, by: i64) {
        self.operations.push(Operation::Add(counter, by));
    }

    /// So many more at a counter, which has to stay within `most`.
    pub fn count_within(&mut self, counter: Key, by: i64, most: u64) {
        self.expect.push(Expect::AtMost(counter.clone(), most));
        self.count(counter, by);
    }

    /// The object under its key, as it was read.
    pub(super) fn replace(&mut self, (key, revision): (Key, Revision), object: Object) {
        self.expect.push(Expect::Revision(key.clone(), revision));
        self.operations.push(Operation::Put(key, object));
    }

    /// The same, away.
    pub(super) fn remove(&mut self, (key, revision): (Key, Revision)) {
        self.expect.push(Expect::Revision(key.clone(), revision));
        self.operations.push(Operation::Delete(key));
    }

    /// Both together.
    pub fn join(&mut self, more: Self) {
        self.expect.extend(more.expect);
        self.operations.extend(more.operations);
    }

    /// The object of this key once more, in its last form: what was expected of it stays.
    pub(super) fn supersede(&mut self, key: &Key, more: Self) {
        let is_it = |operation: &Operation| matches!(operation, Operation::Put(at, _) if at == key);
        let Some(at) = self.operations.iter().position(is_it) else { return self.join(more) };
        for operation in more.operations {
            match self.operations.get_mut(at).filter(|_| is_it(&operation)) {
                Some(slot) => *slot = operation,
                None => self.operations.push(operation),
            }
        }
        self.expect.extend(more.expect.into_iter().filter(|expect| expect.key() != key));
    }

    /// The object that is written under this key.
    pub(super) fn object(&self, key: &Key) -> Option<&Object> {
        self.operations.iter().find_map(|operation| match operation {
            Operation::Put(at, object) if at == key => Some(object),
            _ => None,
        })
    }

    /// What is counted, and where.
    pub(super) fn counted(&self) -> impl Iterator<Item = (&Key, i64)> {
        self.operations.iter().filter_map(|operation| match operation {
            Operation::Add(key, by) => Some((key, *by)),
            _ => None,
        })
    }

    /// Whether nothing is written.
    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// How much has to hold.
    pub(super) fn expectations(&self) -> usize {
        self.expect.len()
    }

    /// All of it. What is counted at one key by several is added up, and held against its bound once: a transaction
    /// writes no key twice.
    pub(super) fn into_txn(mut self) -> Txn {
        let mut bounded = HashSet::new();
        self.expect.retain(|expect| match expect {
            Expect::AtMost(counter, most) => bounded.insert((counter.clone(), *most)),
            _ => true,
        });
        let mut operations: Vec<Operation> = Vec::with_capacity(self.operations.len());
        let mut counters = HashMap::new();
        for operation in self.operations {
            let Operation::Add(key, by) = operation else {
                operations.push(operation);
                continue;
            };
            match counters.entry(key) {
                Entry::Occupied(at) => {
                    if let Some(Operation::Add(_, sum)) = operations.get_mut(*at.get()) {
                        *sum = sum.saturating_add(by);
                    }
                }
                Entry::Vacant(new) => {
                    let key = new.key().clone();
                    new.insert(operations.len());
                    operations.push(Operation::Add(key, by));
                }
            }
        }
        Txn { expect: self.expect, operations }
    }
}
