//! Which autoscalers choose which pods, by the selectors of their targets as they were last seen.
//!
//! Guarantees:
//! - two that choose the same pods are found (`who_chooses_the_same_pods_is_found`), and no more than are to be named;
//!   until then the labels of each pod that differ are compared with the different selectors of its namespace that ask
//!   for one of them first, or for none (`no_more_are_looked_for_than_are_named`);
//! - a selector is kept once, however many autoscalers have it (`no_more_are_looked_for_than_are_named`), and has up to
//!   [`SELECTOR_BYTES_MAX`] bytes of text (`a_selector_has_its_bound`), of which the beginning is told
//!   (`of_a_long_selector_the_beginning_is_told`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::selector::LabelSelector;
use freewheel_hub_schema::truncated_text::{REPEATED_BYTES_MAX, shortened};
use freewheel_link::names::ClusterName;

use crate::selector::Selector;

/// Longest text of a selector: a custom resource says whatever it likes, and what is read of it takes many times as much.
pub const SELECTOR_BYTES_MAX: usize = 16 * 1024;
/// So many of those that choose the same pods are named.
const NAMED_MAX: usize = 10;

/// Labels of a pod.
type Labels = BTreeMap<String, String>;
/// Where, and one label that is asked for with its value, if there is one.
type Term = (ClusterName, NamespaceName, Option<(String, String)>);

/// The selectors of all autoscalers.
#[derive(Debug, Default)]
pub struct Selectors {
    /// By their texts below that.
    by_term: BTreeMap<Term, BTreeMap<Arc<str>, Shared>>,
    /// Where each autoscaler's is.
    places: BTreeMap<Key, (Term, Arc<str>)>,
}

/// A selector of as many as have it.
#[derive(Debug)]
struct Shared {
    selector: Selector,
    of: BTreeSet<Key>,
}

impl Selectors {
    /// The target of this one has this selector now, which is read from this text.
    pub fn put(&mut self, autoscaler: &Key, text: &str, selector: &Selector) {
        if self.places.get(autoscaler).is_some_and(|(_, known)| **known == *text) {
            return;
        }
        self.remove(autoscaler);
        let asked = selector.pairs().next().map(|(key, value)| (key.to_owned(), value.to_owned()));
        let term = (autoscaler.cluster.clone(), autoscaler.namespace.clone(), asked);
        let all = self.by_term.entry(term.clone()).or_default();
        let known = all.get_key_value(text).map(|(known, _)| known.clone());
        let text: Arc<str> = known.unwrap_or_else(|| text.into());
        let new = || Shared { selector: selector.clone(), of: BTreeSet::new() };
        all.entry(text.clone()).or_insert_with(new).of.insert(autoscaler.clone());
        self.places.insert(autoscaler.clone(), (term, text));
    }

    /// This one is gone.
    pub fn remove(&mut self, autoscaler: &Key) {
        let Some((term, text)) = self.places.remove(autoscaler) else { return };
        let Some(all) = self.by_term.get_mut(&term) else { return };
        if let Some(shared) = all.get_mut(&text) {
            shared.of.remove(autoscaler);
            if shared.of.is_empty() {
                all.remove(&text);
            }
        }
        if all.is_empty() {
            self.by_term.remove(&term);
        }
    }

    /// Who chooses one of these pods, of which this autoscaler has chosen all: as many as are named.
    #[must_use]
    pub fn choosing(&self, autoscaler: &Key, pods: &BTreeSet<&Labels>) -> BTreeSet<&Key> {
        let (cluster, namespace) = (&autoscaler.cluster, &autoscaler.namespace);
        let mut found = BTreeSet::new();
        for labels in pods {
            let asked = labels.iter().map(|(key, value)| Some((key.clone(), value.clone())));
            for asked in asked.chain([None]) {
                let term = (cluster.clone(), namespace.clone(), asked);
                let all = self.by_term.get(&term).into_iter().flat_map(BTreeMap::values);
                let matching = all.filter(|shared| shared.selector.matches(labels));
                for key in matching.flat_map(|shared| &shared.of) {
                    found.insert(key);
                    if found.len() == NAMED_MAX {
                        return found;
                    }
                }
            }
        }
        found
    }
}

/// Reads the selector of a scale, or says why that cannot be.
pub fn read(text: &str) -> Result<Selector, String> {
    let bytes = text.len();
    if SELECTOR_BYTES_MAX < bytes {
        return Err(format!("it has {bytes} bytes, and may have {SELECTOR_BYTES_MAX}"));
    }
    let read = LabelSelector::parse(text).map(Selector::from);
    read.map_err(|error| shortened(error.message, REPEATED_BYTES_MAX))
}

/// What is told of pods that all these choose.
#[must_use]
pub fn ambiguous(text: &str, choosing: &BTreeSet<&Key>) -> String {
    let name = |key: &&Key| format!("{{{} {}}}", key.name, &*key.namespace);
    let names = choosing.iter().map(name).collect::<Vec<_>>().join(" ");
    let text = shortened(text.to_owned(), REPEATED_BYTES_MAX);
    format!("pods by selector {text} are controlled by multiple HPAs: [{names}]")
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::Resource;

    use super::*;

    fn key(namespace: &str, name: &str) -> Key {
        let resource = Resource::new("autoscaling", "horizontalpodautoscalers");
        Key::new(&resource, &ClusterName::root(), namespace, name)
    }

    fn put(all: &mut Selectors, autoscaler: &Key, text: &str) {
        all.put(autoscaler, text, &read(text).unwrap());
    }

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn who_chooses_the_same_pods_is_found() {
        let mut all = Selectors::default();
        put(&mut all, &key("shop", "web"), "app=web");
        put(&mut all, &key("shop", "tier"), "tier in (front,back),app");
        put(&mut all, &key("shop", "other"), "app=other");
        put(&mut all, &key("else", "web"), "app=web");
        let (front, plain) =
            (labels(&[("app", "web"), ("tier", "front")]), labels(&[("app", "web")]));
        let names = |all: &Selectors, pods: &[&Labels]| -> Vec<String> {
            let found = all.choosing(&key("shop", "web"), &pods.iter().copied().collect());
            found.iter().map(|key| key.name.to_string()).collect()
        };
        assert_eq!(names(&all, &[&front, &plain]), ["tier", "web"]);
        assert_eq!(names(&all, &[&plain]), ["web"]);
        put(&mut all, &key("shop", "tier"), "tier=back");
        assert_eq!(names(&all, &[&front]), ["web"]);
        put(&mut all, &key("shop", "other"), "app=web,tier=front");
        assert_eq!(names(&all, &[&front]), ["other", "web"]);
        all.remove(&key("shop", "other"));
        assert_eq!(names(&all, &[&front]), ["web"]);
        assert_eq!((all.places.len(), all.by_term.len()), (3, 3));
    }

    #[test]
    fn no_more_are_looked_for_than_are_named() {
        let mut all = Selectors::default();
        for number in 0..1000 {
            put(&mut all, &key("shop", &format!("web-{number:03}")), "app=web");
        }
        let shared = |all: &Selectors| all.by_term.values().map(BTreeMap::len).sum::<usize>();
        assert_eq!(shared(&all), 1, "a selector is kept once");
        let (web, asking) = (labels(&[("app", "web")]), key("shop", "web-500"));
        let found = all.choosing(&asking, &BTreeSet::from([&web]));
        let text = "pods by selector app=web are controlled by multiple HPAs: [{web-000 shop} \
            {web-001 shop} {web-002 shop} {web-003 shop} {web-004 shop} {web-005 shop} \
            {web-006 shop} {web-007 shop} {web-008 shop} {web-009 shop}]";
        assert_eq!(ambiguous("app=web", &found), text);
        for number in 0..1000 {
            all.remove(&key("shop", &format!("web-{number:03}")));
        }
        assert_eq!((all.places.len(), all.by_term.len()), (0, 0));
    }

    #[test]
    fn a_selector_has_its_bound() {
        let of_bytes = |bytes: usize| format!("{:bytes$}", "app=web");
        assert!(read(&of_bytes(SELECTOR_BYTES_MAX)).is_ok());
        let why = read(&of_bytes(SELECTOR_BYTES_MAX + 1)).unwrap_err();
        assert_eq!(why, "it has 16385 bytes, and may have 16384");
        let why = read("app web").unwrap_err();
        assert!(why.starts_with("unable to parse requirement: found 'web'"), "{why}");
    }

    #[test]
    fn of_a_long_selector_the_beginning_is_told() {
        let text = format!("app in ({}web)", "web,".repeat(3999));
        let told = ambiguous(&text, &BTreeSet::from([&key("shop", "web")]));
        assert!(told.len() < 1200 && told.ends_with("HPAs: [{web shop}]"), "{told}");
        let why = read(&format!("app {}", "x".repeat(16_000))).unwrap_err();
        assert!(why.len() < 1200 && why.ends_with(" bytes)"), "{why}");
    }
}
