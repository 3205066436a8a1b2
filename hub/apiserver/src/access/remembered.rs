//! Answers that cost more to find than to keep: a bounded number of them, each for a while.
//!
//! Reading takes no lock: what is remembered is published as a whole. When there is too much of it, all of it is
//! forgotten: nothing is wrong without it but slower.

use std::hash::Hash;

use arc_swap::ArcSwap;
use imbl::HashMap;

/// What is remembered.
pub(crate) struct Remembered<K, V> {
    all: ArcSwap<HashMap<K, Kept<V>>>,
    most: usize,
}

#[derive(Clone)]
struct Kept<V> {
    value: V,
    /// The last second in which it is.
    until: i64,
}

impl<K: Clone + Eq + Hash, V: Clone> Remembered<K, V> {
    /// So many at most.
    pub(crate) fn new(most: usize) -> Self {
        Self { all: ArcSwap::default(), most }
    }

    /// What is remembered of this at a moment.
    pub(crate) fn get(&self, key: &K, now: i64) -> Option<V> {
        let all = self.all.load();
        all.get(key).filter(|kept| now <= kept.until).map(|kept| kept.value.clone())
    }

    /// Remembers this until the end of a second.
    pub(crate) fn put(&self, key: &K, value: &V, until: i64) {
        self.all.rcu(|all| {
            let is_full = self.most <= all.len();
            let mut all = if is_full { HashMap::new() } else { HashMap::clone(all) };
            all.insert(key.clone(), Kept { value: value.clone(), until });
            all
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_is_remembered_and_not_for_ever() {
        let known = Remembered::new(2);
        known.put(&"a", &1, 10);
        assert_eq!(
            (known.get(&"a", 10), known.get(&"a", 11), known.get(&"b", 0)),
            (Some(1), None, None)
        );
        known.put(&"a", &2, 20);
        assert_eq!(known.get(&"a", 11), Some(2));
        known.put(&"b", &3, 20);
        known.put(&"c", &4, 20);
        assert_eq!((known.get(&"a", 0), known.get(&"c", 0)), (None, Some(4)));
    }
}
