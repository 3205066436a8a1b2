//! Cards by key and by term.
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

use super::{Card, Term};

/// Cards by key and by term.
pub struct Shelf<C> {
    slots: Vec<Option<Arc<C>>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32>,
    /// Slots by the hash of a term: the cards hold the texts already.
    by_term: HashMap<u64, BTreeSet<u32>>,
    hasher: RandomState,
}

impl<C> Default for Shelf<C> {
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

impl<C: Card> Shelf<C> {
    /// The card of this object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&Arc<C>> {
        self.slots.get(*self.by_key.get(key)? as usize)?.as_ref()
    }

    /// The cards with the term that the fewest have; those with all of them are among these.
    pub fn rarest<'a>(&'a self, terms: &'a [Term<'a>]) -> impl Iterator<Item = &'a Arc<C>> + 'a {
        let slots = |term: &Term<'_>| self.by_term.get(&self.hasher.hash_one(term));
        let fewest = terms.iter().min_by_key(|term| slots(term).map_or(0, BTreeSet::len));
        let found = fewest.and_then(slots).into_iter().flatten();
        found
            .filter_map(|slot| self.slots.get(*slot as usize)?.as_ref())
            .filter(move |card| fewest.is_some_and(|term| has(&***card, term)))
    }

    pub(super) fn put(&mut self, stored: Arc<Stored>) {
        let key = stored.key.clone();
        let card = C::read(stored);
        let terms = self.terms(&card);
        if terms.is_empty() && !C::KEPT_WITHOUT_TERMS {
            return self.remove(&key);
        }
        let Some(slot) = self.by_key.get(&key).copied() else {
            let slot = self.free.pop().unwrap_or_else(|| {
                self.slots.push(None);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            });
            self.by_key.insert(key, slot);
            self.slots[slot as usize] = Some(Arc::new(card));
            return self.note(slot, &terms);
        };
        let before = self.slots[slot as usize].replace(Arc::new(card));
        let before = before.map(|card| self.terms(&*card)).unwrap_or_default();
        if before != terms {
            self.strike(slot, &before);
            self.note(slot, &terms);
        }
    }

    pub(super) fn remove(&mut self, key: &Key) {
        let Some(slot) = self.by_key.remove(key) else { return };
        if let Some(card) = self.slots[slot as usize].take() {
            let terms = self.terms(&*card);
            self.strike(slot, &terms);
        }
        self.free.push(slot);
    }

    fn terms(&self, card: &C) -> Vec<u64> {
        let mut numbers = Vec::new();
        card.terms(&mut |term| numbers.push(self.hasher.hash_one(term)));
        numbers
    }

    fn note(&mut self, slot: u32, terms: &[u64]) {
        for term in terms {
            self.by_term.entry(*term).or_default().insert(slot);
        }
    }

    fn strike(&mut self, slot: u32, terms: &[u64]) {
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

/// Hashes may be equal by chance, or by somebody's will: the card has the last word.
fn has<C: Card>(card: &C, wanted: &Term<'_>) -> bool {
    let mut found = false;
    card.terms(&mut |term| found |= term == *wanted);
    found
}
