//! Places of what comes and goes: a queue or a table that once had many gives them back when it has few, so that what is
//! held is what stands in it.
//!
//! Guarantees:
//! - places go with what stood in them, whoever takes the last (`a_queue_that_was_long_has_few_places_when_it_is_short`,
//!   `a_table_that_was_large_has_few_places_when_it_is_small`);
//! - what comes and goes by turns makes and gives back none (`what_comes_and_goes_by_turns_makes_no_places`).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Places that stay whatever becomes of them: most queues and tables never have more.
const PLACES_KEPT: usize = 16;

/// Where no more than this part of its places is taken, half of them go.
const TAKEN_DIVISOR: usize = 4;

/// A queue that has room for what stands in it, and little more.
#[derive(Debug)]
pub struct Queue<T>(VecDeque<T>);

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Queue<T> {
    /// Puts one in.
    pub fn push_back(&mut self, one: T) {
        self.0.push_back(one);
    }

    /// Puts one in before all others.
    pub fn push_front(&mut self, one: T) {
        self.0.push_front(one);
    }

    /// Takes the first out.
    pub fn pop_front(&mut self) -> Option<T> {
        let first = self.0.pop_front();
        if PLACES_KEPT < self.0.capacity() && self.0.len() <= self.0.capacity() / TAKEN_DIVISOR {
            self.0.shrink_to((self.0.capacity() / 2).max(PLACES_KEPT));
        }
        first
    }

    /// The first.
    #[must_use]
    pub fn front(&self) -> Option<&T> {
        self.0.front()
    }

    /// The first, to be changed.
    pub fn front_mut(&mut self) -> Option<&mut T> {
        self.0.front_mut()
    }

    /// How many stand in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of its places beyond those that every queue may keep.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.capacity().saturating_sub(PLACES_KEPT) * size_of::<T>()
    }
}

/// Gives back what a table has of places and does not need: for who has taken something out of it.
pub fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if PLACES_KEPT < table.capacity() && table.len() <= table.capacity() / TAKEN_DIVISOR {
        table.shrink_to((2 * table.len()).max(PLACES_KEPT));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_was_long_has_few_places_when_it_is_short() {
        let mut queue = Queue::default();
        (0..4000).for_each(|number| queue.push_back(number));
        assert!(4000 <= queue.0.capacity());
        for left in (0..4000_usize).rev() {
            assert!(queue.pop_front().is_some());
            let places = queue.0.capacity();
            assert!(places <= (TAKEN_DIVISOR * (left + 1)).max(PLACES_KEPT), "{places} for {left}");
        }
        assert_eq!((queue.bytes(), queue.is_empty(), queue.pop_front()), (0, true, None));
    }

    #[test]
    fn what_comes_and_goes_by_turns_makes_no_places() {
        for standing in [0, 3, PLACES_KEPT, 1000] {
            let mut queue = Queue::default();
            (0..=standing).for_each(|number| queue.push_back(number));
            queue.pop_front();
            let places = queue.0.capacity();
            for number in 0..100 {
                queue.push_back(number);
                queue.pop_front();
                assert_eq!(queue.0.capacity(), places, "with {standing} in it");
            }
        }
    }

    #[test]
    fn a_table_that_was_large_has_few_places_when_it_is_small() {
        let mut table: HashMap<usize, usize> = (0..4000).map(|number| (number, number)).collect();
        for number in 0..3990 {
            table.remove(&number);
            give_back(&mut table);
        }
        assert!(table.len() == 10 && table.capacity() <= 4 * PLACES_KEPT, "{}", table.capacity());
    }
}
