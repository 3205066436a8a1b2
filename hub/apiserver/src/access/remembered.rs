//! Answers that cost more to find than to keep: a bounded number of them, each for a while.
//!
//! Reading takes no lock: what is remembered is published as a whole. What counts no more goes when there is much. When
//! there is too much that does, the older half is forgotten: nothing is wrong without it but slower.
//!
//! Guarantees:
//! - what counts no more keeps nothing that does from being remembered, nor is it kept for long
//!   (`what_counts_no_more_goes_when_there_is_much`);
//! - what was learned last stays, however much there is (`the_older_half_goes_when_there_is_too_much`).

use std::hash::Hash;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use imbl::HashMap;

/// What is remembered.
pub(crate) struct Remembered<K, V> {
    all: ArcSwap<HashMap<K, Kept<V>>>,
    most: usize,
    /// The second in which it was looked last for what counts no more, which all is looked at for.
    swept: AtomicI64,
    /// How often something was to be remembered.
    puts: AtomicU64,
}

#[derive(Clone)]
struct Kept<V> {
    value: V,
    /// When it was learned, in the order of all.
    number: u64,
    /// The last second in which it is.
    until: i64,
}

impl<K: Clone + Eq + Hash, V: Clone> Remembered<K, V> {
    /// So many at most.
    pub(crate) fn new(most: usize) -> Self {
        let (swept, puts) = (AtomicI64::new(i64::MIN), AtomicU64::default());
        Self { all: ArcSwap::default(), most, swept, puts }
    }

    /// What is remembered of this at a moment.
    pub(crate) fn get(&self, key: &K, now: i64) -> Option<V> {
        let all = self.all.load();
        all.get(key).filter(|kept| now <= kept.until).map(|kept| kept.value.clone())
    }

    /// Remembers this from now until the end of a second.
    pub(crate) fn put(&self, key: &K, value: &V, now: i64, until: i64) {
        let is_much = |all: &HashMap<_, _>| self.most / 2 <= all.len();
        let sweeps = is_much(&self.all.load()) && self.swept.swap(now, Ordering::Relaxed) != now;
        let number = self.puts.fetch_add(1, Ordering::Relaxed);
        self.all.rcu(|all| {
            let mut all = HashMap::clone(all);
            if sweeps {
                all.retain(|_, kept| now <= kept.until);
            }
            if self.most <= all.len() && !all.contains_key(key) {
                forget_half(&mut all);
            }
            all.insert(key.clone(), Kept { value: value.clone(), number, until });
            all
        });
    }
}

/// Forgets what was learned before the other half was. As many come as go before it is done again.
fn forget_half<K: Clone + Eq + Hash, V: Clone>(all: &mut HashMap<K, Kept<V>>) {
    let mut numbers: Vec<u64> = all.values().map(|kept| kept.number).collect();
    numbers.sort_unstable();
    // Of a single one that goes.
    let first = numbers.get(numbers.len().div_ceil(2)).copied();
    all.retain(|_, kept| first.is_some_and(|first| first <= kept.number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_remembered_and_not_for_ever() {
        let known = Remembered::new(2);
        known.put(&"a", &1, 0, 10);
        assert_eq!(
            (known.get(&"a", 10), known.get(&"a", 11), known.get(&"b", 0)),
            (Some(1), None, None)
        );
        known.put(&"a", &2, 0, 20);
        assert_eq!(known.get(&"a", 11), Some(2));
        known.put(&"b", &3, 0, 20);
        known.put(&"c", &4, 0, 20);
        assert_eq!((known.get(&"a", 0), known.get(&"c", 0)), (None, Some(4)));
        assert_eq!(known.get(&"b", 0), Some(3));
    }

    #[test]
    fn the_older_half_goes_when_there_is_too_much() {
        let known = Remembered::new(8);
        (0..8).for_each(|key| known.put(&key, &(), 0, 10));
        known.put(&0, &(), 1, 10);
        assert_eq!(known.all.load().len(), 8, "it was there before");
        known.put(&8, &(), 2, 10);
        let there: Vec<_> = (0..9).filter(|key| known.get(key, 2).is_some()).collect();
        assert_eq!(there, [0, 5, 6, 7, 8]);
        for key in 9..1_000 {
            known.put(&key, &(), 3, 10);
            assert!((key - 3..=key).all(|key| known.get(&key, 3).is_some()), "{key}");
            assert!(known.all.load().len() <= 8);
        }
    }

    #[test]
    fn what_counts_no_more_goes_when_there_is_much() {
        let known = Remembered::new(8);
        (0..4).for_each(|key| known.put(&key, &(), 0, 10));
        assert_eq!(known.all.load().len(), 4);
        known.put(&4, &(), 11, 20);
        assert_eq!(known.all.load().len(), 1);
        (5..12).for_each(|key| known.put(&key, &(), 12, 20));
        assert!((4..12).all(|key| known.get(&key, 20).is_some()), "all of them count");
    }
}
