//! Which Placements a change concerns: those that may choose the cluster, and their own objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_fleet::Placement;
use freewheel_hub_fleet::placement::Predicate;
use freewheel_hub_fleet::selector::asks_for_scores;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Snapshot, Stored};
use freewheel_link::names::ClusterName;

use super::Placements;
use crate::engine::client::{everywhere, in_namespace, key as key_of};
use crate::fleet::selection::sets;
use crate::index::{PLACEMENT_LABEL, read_cluster};

/// A Placement with what is asked of it.
struct Candidate {
    key: Key,
    spec: Placement,
    /// It looks at more of a cluster than labels, claims, taints and resources.
    has_expressions: bool,
    /// It may ask what add-ons say of a cluster, by whatever name.
    asks_for_scores: bool,
}

impl Placements {
    pub(super) fn touched(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let resource = &key.resource;
        if *resource == *self.placements.storage() {
            return vec![key.clone()];
        }
        if *resource == *self.decisions.storage() {
            return self.of_decision(event);
        }
        if *resource == *self.clusters.storage() {
            return self.of_cluster(event, now);
        }
        if *resource == *self.scores.storage() {
            return self.of_score(key, now);
        }
        if *resource == *self.bindings.storage() {
            let all = self.in_namespace(&key.namespace, now).into_iter();
            return all.filter(|it| it.may_use(&key.name)).map(|it| it.key).collect();
        }
        let set = BTreeSet::from([key.name.to_string()]);
        self.bound_to(&set, now).into_iter().map(|it| it.key).collect()
    }

    fn of_decision(&self, event: &Event) -> Vec<Key> {
        let sides = event.now.iter().chain(event.before.iter());
        let named: BTreeSet<(&str, &str)> = sides
            .filter_map(|side| {
                let own = side.object.header.labels.get(PLACEMENT_LABEL)?;
                Some((&*side.key.namespace, own.as_str()))
            })
            .collect();
        let root = ClusterName::root();
        let key =
            |(namespace, name): (&str, &str)| key_of(&self.placements, &root, namespace, name);
        named.into_iter().map(key).collect()
    }

    fn of_cluster(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let facts = |side: &Option<Arc<Stored>>| side.as_ref().map(|stored| read_cluster(stored));
        let same = facts(&event.before) == facts(&event.now);
        let sides: Vec<&Arc<Stored>> = event.before.iter().chain(event.now.iter()).collect();
        let all = self.bound_to(&self.sets_of(&sides, now), now).into_iter();
        all.filter(|it| !same || it.has_expressions).map(|it| it.key).collect()
    }

    fn of_score(&self, score: &Key, now: &dyn Snapshot) -> Vec<Key> {
        let cluster = key_of(&self.clusters, &ClusterName::root(), "", &score.namespace);
        let Some(cluster) = now.get(&cluster) else { return Vec::new() };
        let all = self.bound_to(&self.sets_of(&[&cluster], now), now).into_iter();
        let asks = |it: &Candidate| {
            it.asks_for_scores || it.spec.score_resources().any(|name| *name == *score.name)
        };
        all.filter(asks).map(|it| it.key).collect()
    }

    /// Sets that a cluster is in, on one of these sides.
    fn sets_of(&self, sides: &[&Arc<Stored>], now: &dyn Snapshot) -> BTreeSet<String> {
        let all = sets(now, &self.sets).into_iter().map(|(_, set)| set);
        let is_in = |stored: &&Arc<Stored>, set: &freewheel_hub_fleet::ClusterSet| {
            set.selector().matches(&stored.object.header.labels)
        };
        all.filter(|set| sides.iter().any(|side| is_in(side, set))).map(|set| set.name).collect()
    }

    /// Placements of namespaces that are bound to one of these sets, and which may use it.
    fn bound_to(&self, names: &BTreeSet<String>, now: &dyn Snapshot) -> Vec<Candidate> {
        let mut by_namespace: std::collections::BTreeMap<String, Vec<String>> = Default::default();
        for binding in now.range(&everywhere(&self.bindings), None) {
            if names.contains(&*binding.key.name) {
                let bound = by_namespace.entry(binding.key.namespace.to_string()).or_default();
                bound.push(binding.key.name.to_string());
            }
        }
        let mut found = Vec::new();
        for (namespace, bound) in by_namespace {
            let all = self.in_namespace(&namespace, now).into_iter();
            found.extend(all.filter(|it| bound.iter().any(|set| it.may_use(set))));
        }
        found
    }

    fn in_namespace(&self, namespace: &str, now: &dyn Snapshot) -> Vec<Candidate> {
        let scope = in_namespace(&self.placements, &ClusterName::root(), namespace);
        let read = |stored: Arc<Stored>| {
            let spec = Placement::read(&stored.object.value().ok()?).ok()?;
            let has_expressions = spec.predicates.iter().any(|it| !expressions(it).is_empty());
            let asks_for_scores = spec.predicates.iter().any(|it| asks_for_scores(expressions(it)));
            Some(Candidate { key: stored.key.clone(), spec, has_expressions, asks_for_scores })
        };
        now.range(&scope, None).filter_map(read).collect()
    }
}

fn expressions(predicate: &Predicate) -> &[String] {
    &predicate.required_cluster_selector.cel_selector.cel_expressions
}

impl Candidate {
    fn may_use(&self, set: &str) -> bool {
        let asked = &self.spec.cluster_sets;
        asked.is_empty() || asked.iter().any(|name| name == set)
    }
}
