//! Who waits for an address, in the order in which they began to.
//!
//! Guarantees:
//! - an address that becomes free is for the one that waits longest, whoever asks in the same moment
//!   (`addresses_that_become_free_go_to_those_that_wait_in_their_order`, `nobody_goes_before_those_that_wait`);
//! - whoever is called and asks for nothing any more keeps nobody else waiting, and of who is gone nothing stays
//!   (`who_is_gone_is_not_waited_for`).

use std::collections::{BTreeMap, VecDeque};

use freewheel_link::names::ClusterName;

/// UIDs of pods that wait, by realm.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    queues: BTreeMap<ClusterName, VecDeque<String>>,
    /// Whose turn it is.
    called: Option<String>,
    /// Those that wait since somebody last asked.
    new: Vec<String>,
}

impl Waiting {
    /// Whether a pod may take an address that is free.
    pub(super) fn lets(&self, realm: &ClusterName, uid: &str) -> bool {
        self.called.as_deref() == Some(uid) || !self.queues.contains_key(realm)
    }

    /// A pod waits, behind those that do already.
    pub(super) fn wait(&mut self, realm: &ClusterName, uid: &str) {
        let queue = self.queues.entry(realm.clone()).or_default();
        if !queue.iter().any(|waiting| waiting == uid) {
            queue.push_back(uid.to_owned());
            self.new.push(uid.to_owned());
        }
    }

    /// Whose turn it is, now that these realms have a `free` address.
    pub(super) fn call(&mut self, free: impl Fn(&ClusterName) -> bool) -> Option<String> {
        let realm = self.queues.keys().find(|realm| free(realm)).cloned();
        self.called = realm.and_then(|realm| {
            let queue = self.queues.get_mut(&realm)?;
            let first = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&realm);
            }
            first
        });
        self.called.clone()
    }

    /// Those that have begun to wait since this was last asked, and still do.
    pub(super) fn take_new(&mut self) -> Vec<String> {
        let mut new = std::mem::take(&mut self.new);
        new.retain(|uid| self.queues.values().flatten().any(|waiting| waiting == uid));
        new
    }

    /// A pod is gone.
    pub(super) fn forget(&mut self, uid: &str) {
        self.queues.retain(|_, queue| {
            queue.retain(|waiting| waiting != uid);
            !queue.is_empty()
        });
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty() && self.called.is_none() && self.new.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_goes_before_those_that_wait() {
        let (mut all, root) = (Waiting::default(), ClusterName::root());
        let other = ClusterName::try_from("pi-7").unwrap();
        assert!(all.lets(&root, "a"), "nobody waits");
        for uid in ["b", "a", "b"] {
            all.wait(&root, uid);
        }
        assert_eq!(all.take_new(), ["b", "a"]);
        assert!(!all.lets(&root, "a") && !all.lets(&root, "c") && all.lets(&other, "c"));
        assert_eq!(all.call(|realm| *realm == other), None);
        assert_eq!(all.call(|realm| *realm == root).as_deref(), Some("b"));
        assert!(all.lets(&root, "b") && !all.lets(&root, "c"));
        assert_eq!(all.call(|_| true).as_deref(), Some("a"));
        assert_eq!((all.call(|_| true), all.take_new().len()), (None, 0));
        assert!(all.is_empty() && all.lets(&root, "c"));
    }

    #[test]
    fn who_is_gone_is_not_waited_for() {
        let (mut all, root) = (Waiting::default(), ClusterName::root());
        all.wait(&root, "a");
        all.wait(&root, "b");
        all.forget("a");
        assert_eq!(all.take_new(), ["b"]);
        assert_eq!(all.call(|_| true).as_deref(), Some("b"));
        all.forget("b");
        assert_eq!(all.call(|_| true), None);
        assert!(all.is_empty());
    }
}
