//! Which autoscalers choose which pods, by the selectors of their targets as they were last seen.
//!
//! Guarantees:
//! - two that choose the same pods are found, and what that costs follows the labels of the pods
//!   (`who_chooses_the_same_pods_is_found`).

use std::collections::{BTreeMap, BTreeSet};

use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::Key;
use freewheel_link::names::ClusterName;

use crate::selector::Selector;

/// Labels of a pod.
type Labels = BTreeMap<String, String>;
/// Where, and one label that is asked for with its value, if there is one.
type Term = (ClusterName, NamespaceName, Option<(String, String)>);

/// The selectors of all autoscalers.
#[derive(Debug, Default)]
pub struct Selectors {
    by_term: BTreeMap<Term, BTreeMap<Key, Selector>>,
    terms: BTreeMap<Key, Term>,
}

impl Selectors {
    /// The target of this one has this selector now.
    pub fn put(&mut self, autoscaler: &Key, selector: &Selector) {
        self.remove(autoscaler);
        let asked = selector.pairs().next().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let term = (autoscaler.cluster.clone(), autoscaler.namespace.clone(), asked);
        self.terms.insert(autoscaler.clone(), term.clone());
        self.by_term.entry(term).or_default().insert(autoscaler.clone(), selector.clone());
    }

    /// This one is gone.
    pub fn remove(&mut self, autoscaler: &Key) {
        let Some(term) = self.terms.remove(autoscaler) else { return };
        if let Some(all) = self.by_term.get_mut(&term) {
            all.remove(autoscaler);
            if all.is_empty() {
                self.by_term.remove(&term);
            }
        }
    }

    /// Who chooses one of these pods, of which this autoscaler has chosen all.
    #[must_use]
    pub fn choosing(&self, autoscaler: &Key, pods: &BTreeSet<&Labels>) -> BTreeSet<&Key> {
        let (cluster, namespace) = (&autoscaler.cluster, &autoscaler.namespace);
        let mut found = BTreeSet::new();
        for labels in pods {
            let asked = labels.iter().map(|(key, value)| Some((key.clone(), value.clone())));
            for asked in asked.chain([None]) {
                let term = (cluster.clone(), namespace.clone(), asked);
                let all = self.by_term.get(&term).into_iter().flatten();
                let matching = all.filter(|(_, selector)| selector.matches(labels));
                found.extend(matching.map(|(key, _)| key));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;
    use freewheel_hub_schema::selector::LabelSelector;

    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        let resource = Resource::new("autoscaling", "horizontalpodautoscalers");
        Key::new(&resource, &ClusterName::root(), namespace, name)
    }

    fn selector(text: &str) -> Selector {
        Selector::from(LabelSelector::parse(text).unwrap())
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn who_chooses_the_same_pods_is_found() {
        let mut all = Selectors::default();
        all.put(&key("shop", "web"), &selector("app=web"));
        all.put(&key("shop", "tier"), &selector("tier in (front,back),app"));
        all.put(&key("shop", "other"), &selector("app=other"));
        all.put(&key("else", "web"), &selector("app=web"));
        let (front, plain) =
            (labels(&[("app", "web"), ("tier", "front")]), labels(&[("app", "web")]));
        let names = |all: &Selectors, pods: &[&Labels]| -> Vec<String> {
            let found = all.choosing(&key("shop", "web"), &pods.iter().copied().collect());
            found.iter().map(|key| key.name.to_string()).collect()
        };
        assert_eq!(names(&all, &[&front, &plain]), ["tier", "web"]);
        assert_eq!(names(&all, &[&plain]), ["web"]);
        all.put(&key("shop", "tier"), &selector("tier=back"));
        assert_eq!(names(&all, &[&front]), ["web"]);
        all.put(&key("shop", "other"), &selector("app=web,tier=front"));
        assert_eq!(names(&all, &[&front]), ["other", "web"]);
        all.remove(&key("shop", "other"));
        assert_eq!(names(&all, &[&front]), ["web"]);
        assert_eq!((all.terms.len(), all.by_term.len()), (3, 3));
    }
}
