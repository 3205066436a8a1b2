//! The oldest updates of an object, which become one.

use std::collections::HashMap;

use crate::entry::{Entry, Manager};

/// Updates, the oldest first, of which the oldest are to become one.
pub(crate) struct Oldest {
    updates: Vec<Option<Entry>>,
    /// Of each version, the place of the one that the others become a part of.
    ancient: HashMap<String, usize>,
}

impl Oldest {
    /// Of these, the oldest first.
    pub(crate) fn of(updates: Vec<Entry>) -> Self {
        let is_ancient =
            |entry: &Entry| entry.manager.is(&Manager::ancient(&entry.manager.api_version));
        let ancient = updates.iter().enumerate().filter(|(_, entry)| is_ancient(entry));
        let ancient = ancient.map(|(at, entry)| (entry.manager.api_version.clone(), at)).collect();
        Self { updates: updates.into_iter().map(Some).collect(), ancient }
    }

    /// So many, of each version one that the oldest have become a part of.
    pub(crate) fn merged(mut self, most: usize) -> Vec<Entry> {
        let mut left = self.updates.len();
        let mut first: HashMap<String, usize> = HashMap::new();
        for at in 0..self.updates.len() {
            if left <= most {
                break;
            }
            let Some(Some(entry)) = self.updates.get(at) else { continue };
            let version = entry.manager.api_version.clone();
            match first.get(&version) {
                None => drop(first.insert(version, at)),
                Some(first) => {
                    self.merge_into_ancient(at, *first, version);
                    left -= 1;
                }
            }
        }
        self.updates.into_iter().flatten().collect()
    }

    /// What one owns becomes a part of what is told to be ancient, which begins with the oldest one.
    fn merge_into_ancient(&mut self, at: usize, oldest: usize, version: String) {
        if !self.ancient.contains_key(&version)
            && let Some(Some(entry)) = self.updates.get_mut(oldest)
        {
            entry.manager = Manager::ancient(&version);
        }
        let ancient = *self.ancient.entry(version).or_insert(oldest);
        if ancient == at {
            return;
        }
        let gone = self.updates.get_mut(at).and_then(Option::take);
        if let (Some(gone), Some(Some(ancient))) = (gone, self.updates.get_mut(ancient)) {
            ancient.gain(&gone.set());
            ancient.time = gone.time;
        }
    }
}
