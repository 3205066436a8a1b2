//! What is wanted of an add-on on which cluster, who is given it now, and what is said of that.
//!
//! ```text
//! defaults ◀─ placement's configs ◀─ instance's own configs     (each in place of all of its kinds)
//!                    │
//!                    ▼
//!            rollout::next ─▶ who is given what is wanted now
//! ```
//!
//! Guarantees:
//! - of two placements that choose a cluster the later one sets it up (`the_later_placement_sets_a_cluster_up`);
//! - a placement is done when all whom it sets up have all that it wants (`a_placement_is_done_when_all_have_it`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_api::conditions::{Condition, INSTALL_PROGRESSING};
use freewheel_hub_fleet::add_on::configs::{Config, Configs, Desired, Reference};
use freewheel_hub_fleet::rollout::{Group, NotAStrategy, Progress, Stage, Step, Strategy, next};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A placement by which an add-on is installed.
pub(super) struct Placement {
    pub namespace: String,
    pub name: String,
    /// What it asks for beside the defaults.
    pub configs: Vec<Desired>,
    pub strategy: Strategy,
    /// Whom it chooses; nobody, when there is no such placement.
    pub groups: Arc<[Group]>,
}

impl Placement {
    /// Whether it chooses this cluster.
    pub fn chooses(&self, cluster: &str) -> bool {
        self.groups.iter().any(|group| group.clusters.contains(cluster))
    }
}

/// The add-on on one cluster.
pub(super) struct Instance {
    pub cluster: String,
    /// Its own configurations, as they are now.
    pub own: Arc<[Desired]>,
    /// What it was given, its own as they are now.
    pub references: Arc<[Reference]>,
    /// The reason of its progress, and since when that is so.
    pub progress: (String, Option<Timestamp>),
}

/// What becomes of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// It is given this now.
    pub given: Option<Arc<Configs>>,
    /// Whether it has been given what is wanted, when that is known.
    pub is_configured: Option<bool>,
}

/// What becomes of all of them.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// By cluster.
    pub changes: BTreeMap<String, Change>,
    /// `status.installProgressions`
    pub progressions: Vec<Value>,
    /// When there is more to do though nothing changes.
    pub look_again: Option<Timestamp>,
}

/// Whom one placement, or none, sets up.
struct Node<'a> {
    placement: Option<&'a Placement>,
    desired: Arc<Configs>,
    children: Vec<Child<'a>>,
    step: Step,
}

struct Child<'a> {
    instance: &'a Instance,
    desired: Arc<Configs>,
    progress: Progress,
}

/// What is to be done for these instances, with what was said before.
pub(super) fn plan<'a>(
    defaults: &[Desired],
    placements: &'a [Placement],
    instances: impl Iterator<Item = &'a Instance>,
    (said, now): (&Value, Timestamp),
) -> Result<Plan, NotAStrategy> {
    let defaults = Arc::new(Configs::of(defaults.iter().cloned()));
    let mut nodes: Vec<Node<'_>> = placements
        .iter()
        .map(|placement| {
            let desired = defaults.overridden_by(placement.configs.iter().cloned());
            Node {
                placement: Some(placement),
                desired: Arc::new(desired),
                children: Vec::new(),
                step: Step::default(),
            }
        })
        .collect();
    nodes.push(Node {
        placement: None,
        desired: defaults,
        children: Vec::new(),
        step: Step::default(),
    });
    for instance in instances {
        let chooses = |node: &&mut Node<'_>| node.chooses(&instance.cluster);
        if let Some(node) = nodes.iter_mut().rev().skip(1).find(chooses) {
            node.add(instance);
        } else if let Some(node) = nodes.last_mut() {
            node.add(instance);
        }
    }
    let mut plan = Plan::default();
    for at in 0..nodes.len() {
        let later: BTreeSet<&str> = nodes.iter().skip(at + 1).flat_map(Node::clusters).collect();
        let Some(node) = nodes.get_mut(at) else { continue };
        node.roll_out(now)?;
        plan.look_again = plan.look_again.into_iter().chain(node.step.look_again).min();
        node.changes(&mut plan.changes);
        plan.progressions.extend(node.progression(said, &later, now));
    }
    Ok(plan)
}

impl<'a> Node<'a> {
    fn clusters(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let groups = self.placement.into_iter().flat_map(|placement| &*placement.groups);
        groups.flat_map(|group| &group.clusters).map(String::as_str)
    }

    fn chooses(&self, cluster: &str) -> bool {
        self.placement.is_some_and(|placement| placement.chooses(cluster))
    }

    fn add(&mut self, instance: &'a Instance) {
        let desired = if instance.own.is_empty() {
            self.desired.clone()
        } else {
            Arc::new(self.desired.overridden_by(instance.own.iter().cloned()))
        };
        let (reason, since) = &instance.progress;
        let progress = desired.progress(&instance.references, reason, *since);
        self.children.push(Child { instance, desired, progress });
    }

    fn roll_out(&mut self, now: Timestamp) -> Result<(), NotAStrategy> {
        let progress = self.children.iter();
        let progress: BTreeMap<String, Progress> =
            progress.map(|it| (it.instance.cluster.clone(), it.progress.clone())).collect();
        self.step = match self.placement {
            Some(placement) => next(&placement.strategy, &placement.groups, &progress, now)?,
            // Nobody has asked for an order.
            None => {
                let open = progress.into_iter().filter(|(_, it)| it.stage != Stage::Succeeded);
                let rolling = open.map(|(cluster, it)| (cluster, it.stage)).collect();
                Step { rolling, ..Step::default() }
            }
        };
        Ok(())
    }

    fn changes(&self, changes: &mut BTreeMap<String, Change>) {
        for child in &self.children {
            let is_rolling = self.step.rolling.contains_key(&child.instance.cluster);
            let change = match child.progress.stage {
                _ if is_rolling => {
                    Change { given: Some(child.desired.clone()), is_configured: Some(true) }
                }
                Stage::Succeeded => Change { given: None, is_configured: Some(true) },
                Stage::ToApply => Change { given: None, is_configured: Some(false) },
                Stage::Progressing | Stage::Failed | Stage::TimedOut => Change::default(),
            };
            changes.insert(child.instance.cluster.clone(), change);
        }
    }

    /// How many are at this stage by what the placement wants, and are not under way.
    fn count(&self, stage: Stage) -> usize {
        let own = |it: &Child<'_>| -> Vec<Config> {
            it.instance.own.iter().map(|own| own.config.clone()).collect()
        };
        let counts = |it: &&Child<'_>| {
            it.progress.stage == stage
                && !self.step.rolling.contains_key(&it.instance.cluster)
                && (Arc::ptr_eq(&it.desired, &self.desired)
                    || it.desired.is_same_but_for(&self.desired, &own(it)))
        };
        self.children.iter().filter(counts).count()
    }

    /// Its item of `status.installProgressions`.
    fn progression(&self, said: &Value, later: &BTreeSet<&str>, now: Timestamp) -> Option<Value> {
        let placement = self.placement?;
        let chosen: BTreeSet<&str> = self.clusters().collect();
        let total = chosen.len();
        let configured = chosen.iter().filter(|cluster| !later.contains(**cluster)).count();
        let is_rolling = |it: &&Child<'_>| self.step.rolling.contains_key(&it.instance.cluster);
        let rolling = self.children.iter().filter(is_rolling).count();
        let (done, failed) = (self.count(Stage::Succeeded), self.count(Stage::Failed));
        let timed_out = self.step.timed_out.len();
        let is_done = done == configured && !(configured == 0 && done == 0);
        let rest = format!("{failed} failed {timed_out} timeout.");
        let (reason, text) = if is_done {
            let text = format!(
                "selected clusters {total}. configured addons {done}/{configured} completed with no errors, {rest}"
            );
            ("Completed", text)
        } else {
            let under_way = rolling + done;
            let text = format!(
                "selected clusters {total}. configured addons {under_way}/{configured} progressing..., {rest}"
            );
            ("Progressing", text)
        };
        let mut item = self.references(placement, said);
        if is_done {
            let references = item["configReferences"].as_array_mut();
            for reference in references.into_iter().flatten() {
                reference["lastAppliedConfig"] = reference["desiredConfig"].clone();
                reference["lastKnownGoodConfig"] = reference["desiredConfig"].clone();
            }
        }
        let condition = Condition::new(&INSTALL_PROGRESSING, !is_done, reason, text);
        let now = crate::engine::clock::rfc3339(now);
        condition.put(&mut item["conditions"], &now);
        Some(item)
    }

    /// What it wants, with what was said of that before.
    fn references(&self, placement: &Placement, said: &Value) -> Value {
        let mut item = json!({"namespace": placement.namespace, "name": placement.name});
        let mut all = said.as_array().into_iter().flatten();
        let before =
            all.find(|it| it["name"] == item["name"] && it["namespace"] == item["namespace"]);
        let config = |it: &Value| Reference::read(it).map(|it| it.desired.config);
        let of = |it: &Value| {
            let references = before.and_then(|before| before["configReferences"].as_array());
            references.into_iter().flatten().find(|old| config(old) == config(it)).cloned()
        };
        let mut references: Vec<Value> = self.desired.iter().map(Desired::reference).collect();
        let is_known = references.iter().all(|it| of(it).is_some());
        if let Some(before) = before.filter(|_| is_known) {
            item["conditions"] = before["conditions"].clone();
            for reference in &mut references {
                let Some(old) = of(reference) else { continue };
                for field in ["lastAppliedConfig", "lastKnownGoodConfig"] {
                    if !old[field].is_null() {
                        reference[field] = old[field].clone();
                    }
                }
            }
        }
        if !references.is_empty() {
            item["configReferences"] = json!(references);
        }
        item
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, hash: &str) -> Desired {
        let config = Config { resource: "c".into(), name: name.into(), ..Config::default() };
        Desired { config, hash: hash.into() }
    }

    fn placement(
        name: &str,
        clusters: &[&str],
        configs: &[Desired],
        strategy: &Value,
    ) -> Placement {
        let clusters = clusters.iter().map(|it| (*it).to_owned()).collect();
        Placement {
            namespace: "d".into(),
            name: name.into(),
            configs: configs.to_vec(),
            strategy: Strategy::read(strategy).unwrap(),
            groups: [Group { clusters, ..Group::default() }].into(),
        }
    }

    fn instance(cluster: &str, given: &[Desired], applied: bool) -> Instance {
        let reference =
            |it: &Desired| Reference { desired: it.clone(), applied: applied.then(|| it.clone()) };
        let references = given.iter().map(reference).collect();
        let progress = (String::new(), None);
        Instance { cluster: cluster.into(), own: Arc::default(), references, progress }
    }

    #[test]
    fn the_later_placement_sets_a_cluster_up() {
        let (a, b) = (one("x", "1"), one("y", "1"));
        let placements = [
            placement("all", &["pi-1", "pi-2"], &[], &Value::Null),
            placement("some", &["pi-2"], std::slice::from_ref(&b), &Value::Null),
        ];
        let instances = [
            instance("pi-1", &[], false),
            instance("pi-2", &[], false),
            instance("pi-3", &[], false),
        ];
        let plan = plan(
            std::slice::from_ref(&a),
            &placements,
            instances.iter(),
            (&Value::Null, Timestamp::UNIX_EPOCH),
        )
        .unwrap();
        let given = |cluster: &str| (*plan.changes[cluster].given.clone().unwrap()).clone();
        assert_eq!(given("pi-1"), Configs::of([a.clone()]));
        assert_eq!(given("pi-2"), Configs::of([b]));
        assert_eq!(given("pi-3"), Configs::of([a]), "nobody has chosen it");
        let text = |at: usize| plan.progressions[at]["conditions"][0]["message"].as_str().unwrap();
        assert_eq!(
            text(0),
            "selected clusters 2. configured addons 1/1 progressing..., 0 failed 0 timeout."
        );
        assert_eq!(
            text(1),
            "selected clusters 1. configured addons 1/1 progressing..., 0 failed 0 timeout."
        );
    }

    #[test]
    fn a_placement_is_done_when_all_have_it() {
        let wanted = one("x", "2");
        let two = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1}});
        let placements = [placement("all", &["pi-1", "pi-2"], &[], &two)];
        let of = |first: Instance, second: Instance, said: &Value| {
            plan(
                std::slice::from_ref(&wanted),
                &placements,
                [first, second].iter(),
                (said, Timestamp::UNIX_EPOCH),
            )
            .unwrap()
        };
        let old = one("x", "1");
        let begun = of(
            instance("pi-1", std::slice::from_ref(&old), true),
            instance("pi-2", std::slice::from_ref(&old), true),
            &Value::Null,
        );
        assert!(begun.changes["pi-1"].given.is_some());
        assert_eq!(begun.changes["pi-2"], Change { given: None, is_configured: Some(false) });
        let waits = of(
            instance("pi-1", std::slice::from_ref(&wanted), false),
            instance("pi-2", std::slice::from_ref(&old), true),
            &Value::Null,
        );
        assert_eq!(waits.changes["pi-2"].is_configured, Some(false), "the first is at it");
        let done = |said: &Value| {
            of(
                instance("pi-1", std::slice::from_ref(&wanted), true),
                instance("pi-2", std::slice::from_ref(&wanted), true),
                said,
            )
        };
        let all = done(&Value::Null);
        let item = &all.progressions[0];
        assert_eq!(item["conditions"][0]["reason"], "Completed");
        assert_eq!(
            item["conditions"][0]["message"],
            "selected clusters 2. configured addons 2/2 completed with no errors, 0 failed 0 timeout."
        );
        assert_eq!(
            item["configReferences"][0]["lastAppliedConfig"],
            json!({"name": "x", "specHash": "2"})
        );
        assert_eq!(done(&json!(all.progressions)).progressions, all.progressions);
    }
}
