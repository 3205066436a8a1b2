//! How much a spoke can hold still, and for whom.
//!
//! Guarantees:
//! - the device's own cluster gets three quarters at most (`a_quarter_is_the_roots`);
//! - what is new leaves a little for what is there already: the word that a pod is to go takes bytes, too
//!   (`what_is_new_leaves_a_little`).

use freewheel_link::names::ClusterName;
use freewheel_link::plan::Record;

/// Bytes of a plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// In all, and of that for the device's own cluster.
    all: usize,
    share: usize,
    /// What is taken of both.
    used: usize,
    used_of_share: usize,
}

impl Room {
    /// Nothing is in it.
    pub(super) const fn new(all: usize) -> Self {
        Self { all, share: all - all / 4, used: 0, used_of_share: 0 }
    }

    /// What fits, whosever it is.
    pub(super) const fn least(self) -> usize {
        self.share
    }

    /// Half of it, empty.
    pub(super) const fn half(self) -> Self {
        Self::new(self.all / 2)
    }

    /// Whether these fit, each realm's within its bounds.
    pub(super) fn holds<'r>(mut self, records: impl Iterator<Item = &'r Record>) -> bool {
        records.for_each(|record| self.fill(&record.key.realm, record.weight()));
        self.used <= self.all && self.used_of_share <= self.share
    }

    /// What a realm may have in all.
    pub(super) fn of(&self, realm: &ClusterName) -> usize {
        if realm.is_root() { self.all } else { self.share }
    }

    /// What a realm may have still.
    pub(super) fn left(&self, realm: &ClusterName) -> usize {
        let all = self.all.saturating_sub(self.used);
        if realm.is_root() { all } else { all.min(self.share.saturating_sub(self.used_of_share)) }
    }

    /// Takes it, whether or not there is room.
    pub(super) fn fill(&mut self, realm: &ClusterName, weight: usize) {
        self.used = self.used.saturating_add(weight);
        if !realm.is_root() {
            self.used_of_share = self.used_of_share.saturating_add(weight);
        }
    }

    /// Takes room for what is there already; whether there was any.
    pub(super) fn keep(&mut self, realm: &ClusterName, weight: usize) -> bool {
        let fits = weight <= self.left(realm);
        if fits {
            self.fill(realm, weight);
        }
        fits
    }

    /// Takes room for something new; whether there was any.
    pub(super) fn add(&mut self, realm: &ClusterName, weight: usize) -> bool {
        weight <= self.left_for_new(realm) && self.keep(realm, weight)
    }

    fn left_for_new(&self, realm: &ClusterName) -> usize {
        self.left(realm).saturating_sub(self.all / 64)
    }

    /// In words.
    pub(super) fn what_is_left(&self, realm: &ClusterName) -> String {
        let (all, left) = (self.of(realm), self.left_for_new(realm));
        let whose = if realm.is_root() { "" } else { " for its own cluster" };
        format!("of the {all} that a device holds{whose} {left} are left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn realms() -> [ClusterName; 2] {
        [ClusterName::root(), ClusterName::try_from("pi-7".to_owned()).unwrap()]
    }

    #[test]
    fn a_quarter_is_the_roots() {
        let [root, own] = realms();
        let mut room = Room::new(6400);
        assert!(!room.keep(&own, 4801) && room.keep(&own, 4800));
        assert!(!room.keep(&own, 1) && room.keep(&root, 1600) && !room.keep(&root, 1));
        let mut room = Room::new(6400);
        assert!(room.keep(&root, 6400) && !room.keep(&own, 1));
    }

    #[test]
    fn what_is_new_leaves_a_little() {
        for realm in realms() {
            let mut room = Room::new(6400);
            let most = room.of(&realm) - 100;
            assert!(!room.add(&realm, most + 1) && room.add(&realm, most));
            assert!(!room.add(&realm, 1) && room.keep(&realm, 100) && !room.keep(&realm, 1));
            assert!(room.what_is_left(&realm).ends_with(" 0 are left"));
        }
    }
}
