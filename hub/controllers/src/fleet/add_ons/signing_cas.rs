//! Which CAs of custom signers sign for which add-ons on clusters, so that who changes one is heard by those.
//!
//! Guarantees:
//! - of an add-on that is signed for no more nothing is kept (`who_is_signed_for_is_known_as_long_as_it_is`).

use std::collections::{BTreeSet, HashMap};

use freewheel_hub_schema::object::Key;

/// The CAs' Secrets, by the keys of ManagedClusterAddOns.
#[derive(Default)]
pub(super) struct SigningCas {
    of: HashMap<Key, BTreeSet<Key>>,
    signed: HashMap<Key, BTreeSet<Key>>,
}

impl SigningCas {
    /// That these sign for an add-on on a cluster now, and no others.
    pub fn set(&mut self, instance: &Key, cas: BTreeSet<Key>) {
        let before = self.of.remove(instance).unwrap_or_default();
        for gone in before.difference(&cas) {
            if let Some(signed) = self.signed.get_mut(gone) {
                signed.remove(instance);
                if signed.is_empty() {
                    self.signed.remove(gone);
                }
            }
        }
        for ca in &cas {
            self.signed.entry(ca.clone()).or_default().insert(instance.clone());
        }
        if !cas.is_empty() {
            self.of.insert(instance.clone(), cas);
        }
    }

    /// Whom this one signs for.
    pub fn signed(&self, ca: &Key) -> Vec<Key> {
        self.signed.get(ca).into_iter().flatten().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    use super::*;

    #[test]
    fn who_is_signed_for_is_known_as_long_as_it_is() {
        let resource = Resource::new("", "secrets");
        let key = |name: &str| Key::new(&resource, &ClusterName::root(), "n", name);
        let mut cas = SigningCas::default();
        cas.set(&key("a"), BTreeSet::from([key("one"), key("two")]));
        cas.set(&key("b"), BTreeSet::from([key("two")]));
        assert_eq!(cas.signed(&key("two")), [key("a"), key("b")]);
        cas.set(&key("a"), BTreeSet::from([key("one")]));
        assert_eq!(cas.signed(&key("two")), [key("b")]);
        for gone in ["a", "b"] {
            cas.set(&key(gone), BTreeSet::new());
        }
        assert!(cas.of.is_empty() && cas.signed.is_empty());
    }
}
