//! Entries by key and by term.
//!
//! Guarantees:
//! - what is found by a term has it (`pods_are_found_by_controller_label_and_node`);
//! - an object that changes without changing its terms costs one look-up (`a_look_costs_what_it_finds`).

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::Arc;

use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;

use super::{Entry, IndexTerm};

/// Entries by key and by term.
pub struct Indexer<C> {
    slots: Vec<Option<Arc<C>>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// Slots by the hash of a term: the entries hold the texts already.
    by_term: HashMap<u64, BTreeSet<u32>>,
    hasher: RandomState,
}

impl<C> Default for Indexer<C> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            by_term: HashMap::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<C: Entry> Indexer<C> {
    /// The entry of this object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<C>> {
        self.slots.get(*self.by_key.get(key)? as usize)?.as_ref()
    }

    /// The entries with the term that the fewest have; those with all of them are among these.
    pub fn rarest<'a>(
        &'a self,
        terms: &'a [IndexTerm<'a>],
    ) -> impl Iterator<Item = &'a Arc<C>> + 'a {
        let slots = |term: &IndexTerm<'_>| self.by_term.get(&self.hasher.hash_one(term));
        let fewest = terms.iter().min_by_key(|term| slots(term).map_or(0, BTreeSet::len));
        let found = fewest.and_then(slots).into_iter().flatten();
        found
            .filter_map(|slot| self.slots.get(*slot as usize)?.as_ref())
            .filter(move |entry| fewest.is_some_and(|term| has(&***entry, term)))
    }

    pub(super) fn put(&mut self, stored: Arc<Stored>) {
        let key = stored.key.clone();
        let entry = C::read(stored);
        let terms = self.terms(&entry);
        if terms.is_empty() && !C::KEPT_WITHOUT_TERMS {
            return self.remove(&key);
        }
        let Some(slot) = self.by_key.get(&key).copied() else {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            });
            self.by_key.insert(key, slot);
            self.slots[slot as usize] = Some(Arc::new(entry));
            return self.index(slot, &terms);
        };
        let before = self.slots[slot as usize].replace(Arc::new(entry));
        let before = before.map(|entry| self.terms(&*entry)).unwrap_or_default();
        if before != terms {
            self.unindex(slot, &before);
            self.index(slot, &terms);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(slot) = self.by_key.remove(key) else { return };
        if let Some(entry) = self.slots[slot as usize].take() {
            let terms = self.terms(&*entry);
            self.unindex(slot, &terms);
        }
        self.free.push(slot);
    }

    fn terms(&self, entry: &C) -> Vec<u64> {
        let mut numbers = Vec::new();
        entry.terms(&mut |term| numbers.push(self.hasher.hash_one(term)));
        numbers
    }

    fn index(&mut self, slot: u32, terms: &[u64]) {
        for term in terms {
            self.by_term.entry(*term).or_default().insert(slot);
        }
    }

    fn unindex(&mut self, slot: u32, terms: &[u64]) {
        for term in terms {
            if let Some(slots) = self.by_term.get_mut(term) {
                slots.remove(&slot);
                if slots.is_empty() {
                    self.by_term.remove(term);
                }
            }
        }
    }
}

/// Hashes may be equal by chance, or by somebody's will: the entry has the last word.
fn has<C: Entry>(entry: &C, wanted: &IndexTerm<'_>) -> bool {
    let mut found = false;
    entry.terms(&mut |term| found |= term == *wanted);
    found
}
