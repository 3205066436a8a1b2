//! The scales of all targets as they were last read, each kept once, however many autoscalers look at it.
//!
//! Guarantees:
//! - what one autoscaler has read no other reads (`a_scale_is_read_by_one_for_all`), and nothing is kept that nobody's
//!   autoscaler refers to (`what_nobody_refers_to_is_not_kept`).

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use freewheel_hub_schema::object::Key;

use super::target::KnownScale;

/// By their targets. Who refers to one holds it.
#[derive(Default)]
pub(super) struct Scales(HashMap<Key, Weak<KnownScale>>);

impl Scales {
    /// The scale of this target as it was last read.
    pub(super) fn get(&self, target: &Key) -> Option<Arc<KnownScale>> {
        self.0.get(target)?.upgrade()
    }

    /// The one to hold in place of this: what is known already, unless this is newer.
    pub(super) fn share(&mut self, read: KnownScale) -> Arc<KnownScale> {
        if let Some(known) = self.get(read.key()).filter(|known| known.is_as_read(&read)) {
            return known;
        }
        let read = Arc::new(read);
        self.0.insert(read.key().clone(), Arc::downgrade(&read));
        read
    }

    /// One who referred to it does so no more.
    pub(super) fn release(&mut self, held: Arc<KnownScale>) {
        let target = held.key().clone();
        drop(held);
        if self.0.get(&target).is_some_and(|known| known.strong_count() == 0) {
            self.0.remove(&target);
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use serde_json::json;

    use super::*;
    use crate::engine::client::kind;

    /// A Deployment's at this revision.
    fn read(name: &str, revision: u64) -> KnownScale {
        let web = json!({"metadata": {"name": name}, "spec": {"replicas": 3}});
        let stored = crate::testing::stored(&Resource::new("apps", "deployments"), name, web);
        KnownScale::read(&kind("apps", "v1", "deployments").unwrap(), &stored.key, revision, 3)
    }

    #[test]
    fn a_scale_is_read_by_one_for_all() {
        let mut scales = Scales::default();
        let first = scales.share(read("web", 1));
        let second = scales.get(first.key()).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &scales.share(read("web", 1))), "two have read it at once");
        let newer = scales.share(read("web", 2));
        assert!(!Arc::ptr_eq(&first, &newer));
        assert!(Arc::ptr_eq(&newer, &scales.get(first.key()).unwrap()));
        assert!(scales.get(read("other", 1).key()).is_none());
    }

    #[test]
    fn what_nobody_refers_to_is_not_kept() {
        let mut scales = Scales::default();
        let (one, other) = (scales.share(read("web", 1)), scales.share(read("web", 1)));
        scales.release(one);
        assert_eq!(scales.0.len(), 1, "another one holds it");
        let newer = scales.share(read("web", 2));
        scales.release(other);
        assert!(scales.get(newer.key()).is_some(), "what has gone was older");
        scales.release(newer);
        assert!(scales.0.is_empty());
    }
}
