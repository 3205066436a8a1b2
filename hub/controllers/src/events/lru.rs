//! A map that forgets what was not used for long.

use std::collections::HashMap;
use std::hash::Hash;

/// Keeps at most `most` entries, and among them the half of `most` that was used last.
#[derive(Debug)]
pub(super) struct LruMap<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    most: usize,
}

impl<K: Eq + Hash, V> LruMap<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    /// The entry of this key, made when there is none.
    pub(super) fn entry(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        if !self.young.contains_key(&key) && self.most / 2 <= self.young.len() {
            self.old = std::mem::take(&mut self.young);
        }
        let old = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| old.unwrap_or_else(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_is_bounded() {
        let mut lru = LruMap::new(8);
        for n in 0..100 {
            *lru.entry(0, || 0) += 1;
            lru.entry(n, || -1);
            assert!(lru.young.len() + lru.old.len() <= 8);
        }
        assert_eq!(*lru.entry(0, || 0), 100);
        assert_eq!(*lru.entry(50, || 7), 7, "forgotten");
    }
}
