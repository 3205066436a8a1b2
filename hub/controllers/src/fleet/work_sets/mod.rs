//! ManifestWorkReplicaSets: a ManifestWork for each cluster that their placements choose, in the order of a rollout.
//!
//! ```text
//! PlacementDecisions ─▶ groups ─┐
//! works that are as wanted ─────┴▶ rollout::next ─▶ who gets the template now ─▶ ManifestWorks
//! ```
//!
//! How far a work is, its conditions say: Progressing and Degraded, which rules of the template make. Where no rule makes
//! Progressing, a work is done when all of it is applied and available.
//!
//! Guarantees:
//! - a template goes on only as far as those that have it are well (`a_rollout_waits_for_those_that_have_it`);
//! - who is no longer chosen loses the work (`a_set_follows_its_placements`), and nobody else does, whatever becomes of
//!   the Placement and its decisions (`a_placement_that_is_replaced_takes_no_work_away`);
//! - a set goes with its works; under `Foreground` after them (`a_set_goes_after_its_works_if_it_is_asked_to`).

mod choice;
mod own;
mod status;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_fleet::rollout::{Group, Progress, Stage, Strategy, next};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde::Deserialize as _;
use serde_json::{Value, json};

use super::api_group::{CLUSTER_GROUP, WORK_GROUP};
use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes, WORK_SET_LABEL};
use choice::Choice;
use own::Own;
use summary::Summary;

const FINALIZER: &str = "work.open-cluster-management.io/manifest-work-cleanup";
const WORK_PLACEMENT_LABEL: &str = "work.open-cluster-management.io/placementname";
const GROUP_INDEX_LABEL: &str = "cluster.open-cluster-management.io/decision-group-index";
const GROUP_NAME_LABEL: &str = "cluster.open-cluster-management.io/decision-group-name";
/// Bytes of a label's value.
const LABEL_BYTES_MAX: usize = 63;
/// Bytes of a set's name in its works' names: what is applied has a name in front of that.
const NAME_BYTES_MAX: usize = 120;

/// The controller.
pub struct WorkSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    works: Arc<Kind>,
    placements: Arc<Kind>,
    decisions: Arc<Kind>,
}

impl WorkSets {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            sets: kind(WORK_GROUP, "v1alpha1", "manifestworkreplicasets")?,
            works: kind(WORK_GROUP, "v1", "manifestworks")?,
            placements: kind(CLUSTER_GROUP, "v1beta1", "placements")?,
            decisions: kind(CLUSTER_GROUP, "v1beta1", "placementdecisions")?,
        })
    }

    fn works_of(&self, set: &Key) -> Vec<Own> {
        let (root, label) = (ClusterName::root(), label(set));
        let found = self.indexes.works.find(IndexTerm::Label(&root, "", WORK_SET_LABEL, &label));
        let read = |stored: &Arc<Stored>| {
            let placement = stored.object.header.labels.get(WORK_PLACEMENT_LABEL).cloned();
            let object = stored.object.value().ok()?;
            Some(Own { stored: stored.clone(), object, placement: placement.unwrap_or_default() })
        };
        found.iter().filter_map(|entry| read(&entry.stored)).collect()
    }

    async fn delete(&self, work: &Own) -> Result<(), Error> {
        let uid = &work.stored.object.header.uid;
        let key = &work.stored.key;
        let deleted = self.client.delete(&self.works, key, uid, Propagation::Background).await;
        deleted.map(drop).map_err(Error::api("delete a ManifestWork of a set"))
    }

    async fn end(&self, set: &Arc<Stored>, object: &Value) -> Result<Option<Duration>, Error> {
        let works = self.works_of(&set.key);
        for work in works.iter().filter(|work| !work.stored.object.header.deleting) {
            self.delete(work).await?;
        }
        let waits = object["spec"]["cascadeDeletionPolicy"] == "Foreground";
        if waits && !self.works_of(&set.key).is_empty() {
            // Each that goes brings it here.
            return Ok(None);
        }
        let free = |mut value: Value| {
            if let Some(list) = value["metadata"]["finalizers"].as_array_mut() {
                list.retain(|it| it != FINALIZER);
            }
            Ok(value)
        };
        let freed = self.client.modify_this(&self.sets, set, None, free).await;
        if let Err(error) = freed
            && error.code != 404
        {
            return Err(Error::api("let a ManifestWorkReplicaSet go")(error));
        }
        Ok(None)
    }

    /// One placement of a set: what is given to whom now.
    async fn roll_out(
        &self,
        set: &Arc<Stored>,
        object: &Value,
        reference: &Value,
        (groups, works): (&[Group], &[Own]),
    ) -> Result<(Summary, Option<Timestamp>), Error> {
        let placement = reference["name"].as_str().unwrap_or_default();
        let template = &object["spec"]["manifestWorkTemplate"];
        let chosen: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
        let own: Vec<&Own> = works.iter().filter(|work| work.placement == placement).collect();
        let is_chosen = |work: &&&Own| chosen.iter().any(|it| **it == *work.stored.key.namespace);
        for gone in own.iter().filter(|work| !is_chosen(work)) {
            self.delete(gone).await?;
        }
        let kept: Vec<&Own> = own.iter().filter(|work| is_chosen(work)).copied().collect();
        let as_wanted: Vec<&Own> =
            kept.iter().filter(|work| work.object["spec"] == *template).copied().collect();
        let progress: BTreeMap<String, Progress> = as_wanted
            .iter()
            .map(|work| (work.stored.key.namespace.to_string(), progress(&work.object)))
            .collect();
        let strategy = Strategy::deserialize(&reference["rolloutStrategy"]).unwrap_or_default();
        let step = next(&strategy, groups, &progress, self.client.clock.now())
            .map_err(|error| Error::Refused(error.to_string()))?;
        for cluster in step.to_apply() {
            self.give(set, object, placement, cluster).await?;
        }
        let summary = Summary::of(placement, groups, &kept, &as_wanted, &progress);
        Ok((summary, step.look_again))
    }

    async fn give(
        &self,
        set: &Arc<Stored>,
        object: &Value,
        placement: &str,
        cluster: &str,
    ) -> Result<(), Error> {
        let name = work_name(&set.key, placement);
        let key = key_of(&self.works, &ClusterName::root(), cluster, &name);
        let labels = &object["metadata"]["labels"];
        let spec = &object["spec"]["manifestWorkTemplate"];
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            for (label, text) in labels.as_object().into_iter().flatten() {
                value["metadata"]["labels"][label] = text.clone();
            }
            value["metadata"]["labels"][WORK_SET_LABEL] = json!(label(&set.key));
            value["metadata"]["labels"][WORK_PLACEMENT_LABEL] = json!(placement);
            value["spec"] = spec.clone();
            Ok(value)
        };
        let client = self.client.while_there(set);
        let given = client.create_or_modify(&self.works, &key, change).await;
        given.map(drop).map_err(Error::api("write a ManifestWork of a set"))
    }

    async fn sync(&self, set: &Arc<Stored>, object: &Value) -> Result<Option<Duration>, Error> {
        let works = self.works_of(&set.key);
        let refs = object["spec"]["placementRefs"].as_array().cloned().unwrap_or_default();
        let named = |work: &&Own| refs.iter().any(|it| it["name"] == *work.placement);
        for left in works.iter().filter(|work| !named(work)) {
            self.delete(left).await?;
        }
        let (mut summaries, mut later) = (Vec::new(), None);
        for reference in &refs {
            let placement = reference["name"].as_str().unwrap_or_default();
            let groups = match self.choice(&set.key.namespace, placement)? {
                Choice::Groups(groups) => groups,
                Choice::NotFound => return self.write_not_found(set).await.map(|()| None),
                // The Placement's status brings it here again.
                Choice::Unsettled => return Ok(None),
            };
            let (summary, again) = self.roll_out(set, object, reference, (&groups, &works)).await?;
            summaries.push(summary);
            later = later.into_iter().chain(again).min();
        }
        self.write_status(set, &summaries).await?;
        let now = self.client.clock.now();
        Ok(later
            .map(|at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }
}

/// How far a work is that is as wanted, as it says itself.
fn progress(work: &Value) -> Progress {
    let generation = &work["metadata"]["generation"];
    let of = |kind: &str| {
        let all = work["status"]["conditions"].as_array();
        all.and_then(|all| all.iter().find(|it| it["type"] == kind))
    };
    let since = |it: &Value| it["lastTransitionTime"].as_str().and_then(|at| at.parse().ok());
    let seen = |it: &&Value| it["observedGeneration"] == *generation;
    let to_apply = Progress { stage: Stage::ToApply, since: None };
    let applied = of("Applied").filter(seen).filter(|it| it["status"] == "True");
    if applied.is_none() || of("Degraded").is_some_and(|it| !seen(&it)) {
        return to_apply;
    }
    let degraded = of("Degraded").filter(|it| it["status"] == "True");
    match (of("Progressing"), degraded) {
        (Some(it), _) if !seen(&it) => to_apply,
        (Some(it), _) if it["status"] == "False" => {
            Progress { stage: Stage::Succeeded, since: since(it) }
        }
        (Some(_), Some(it)) => Progress { stage: Stage::Failed, since: since(it) },
        (Some(it), None) => Progress { stage: Stage::Progressing, since: since(it) },
        (None, _) => {
            let there = of("Available").filter(seen);
            let is_there = there.is_some_and(|it| it["status"] == "True");
            let stage = if is_there { Stage::Succeeded } else { Stage::Progressing };
            Progress { stage, since: there.and_then(since) }
        }
    }
}

/// Whose a work is, as a label can say it.
fn label(set: &Key) -> String {
    let plain = format!("{}.{}", set.namespace, set.name);
    if plain.len() <= LABEL_BYTES_MAX {
        return plain;
    }
    let hash = Digest::of(plain.as_bytes()).hex();
    let cut: String = plain.chars().take(LABEL_BYTES_MAX - 33).collect();
    format!("{cut}-{}", hash.get(..32).unwrap_or_default())
}

/// What the works of a set are called that are of one placement.
fn work_name(set: &Key, placement: &str) -> String {
    let hash = Digest::of(format!("{}/{}/{placement}", set.namespace, set.name).as_bytes()).hex();
    let cut: String = set.name.chars().take(NAME_BYTES_MAX).collect();
    format!("{}-{}", cut.trim_end_matches(['.', '-']), hash.get(..10).unwrap_or_default())
}

#[async_trait]
impl Controller for WorkSets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = [&self.sets, &self.works, &self.placements, &self.decisions];
        kinds.map(|kind| everywhere(kind)).into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
            return vec![key.clone()];
        }
        let root = ClusterName::root();
        if key.resource == *self.works.storage() {
            let sides = event.now.iter().chain(event.before.iter());
            let labels: BTreeSet<&String> =
                sides.filter_map(|side| side.object.header.labels.get(WORK_SET_LABEL)).collect();
            if labels.is_empty() {
                return Vec::new();
            }
            let all = now.range(&everywhere(&self.sets), None);
            let whose = all.filter(|set| labels.contains(&label(&set.key)));
            return whose.map(|set| set.key.clone()).collect();
        }
        // A Placement, or decisions of one: sets of its namespace say whom they name.
        let all = now.range(&in_namespace(&self.sets, &root, &key.namespace), None);
        all.map(|set| set.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.client.snapshot().get(key) else { return Ok(None) };
        let object = set.object.value().map_err(Error::api("read a ManifestWorkReplicaSet"))?;
        if set.object.header.deleting {
            return self.end(&set, &object).await;
        }
        let held = object["metadata"]["finalizers"].as_array();
        if !held.is_some_and(|all| all.iter().any(|it| it == FINALIZER)) {
            let hold = |mut value: Value| {
                let list = &mut value["metadata"]["finalizers"];
                match list.as_array_mut() {
                    Some(list) => list.push(json!(FINALIZER)),
                    None => *list = json!([FINALIZER]),
                }
                Ok(value)
            };
            let held = self.client.modify_this(&self.sets, &set, None, hold).await;
            held.map_err(Error::api("hold a ManifestWorkReplicaSet"))?;
            return Ok(None);
        }
        self.sync(&set, &object).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::object::Resource;

    #[test]
    fn long_names_are_cut_and_told_apart() {
        let resource = Resource::new(WORK_GROUP, "manifestworkreplicasets");
        let key = |name: &str| Key::new(&resource, &ClusterName::root(), "site", name);
        assert_eq!(label(&key("web")), "site.web");
        let (a, b) = ("x".repeat(200), format!("{}y", "x".repeat(199)));
        let labels = [label(&key(&a)), label(&key(&b))];
        assert!(labels[0] != labels[1] && labels.iter().all(|it| it.len() <= LABEL_BYTES_MAX));
        assert!(work_name(&key(&a), "p") != work_name(&key(&b), "p"));
        assert!(work_name(&key(&a), "p") != work_name(&key(&a), "q"));
        assert!(work_name(&key(&a), "p").len() < 140);
    }

    #[test]
    fn a_work_says_how_far_it_is() {
        let work = |conditions: &[(&str, &str, i64)]| {
            let one = |(kind, status, observed): &(&str, &str, i64)| json!({"type": kind, "status": status, "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            json!({"metadata": {"generation": 2}, "status": {"conditions": conditions.iter().map(one).collect::<Vec<_>>()}})
        };
        for (conditions, expected) in [
            (&[][..], Stage::ToApply),
            (&[("Applied", "True", 1)], Stage::ToApply),
            (&[("Applied", "False", 2)], Stage::ToApply),
            (&[("Applied", "True", 2)], Stage::Progressing),
            (&[("Applied", "True", 2), ("Available", "True", 2)], Stage::Succeeded),
            (&[("Applied", "True", 2), ("Progressing", "True", 1)], Stage::ToApply),
            (&[("Applied", "True", 2), ("Progressing", "True", 2)], Stage::Progressing),
            (
                &[("Applied", "True", 2), ("Progressing", "True", 2), ("Degraded", "True", 2)],
                Stage::Failed,
            ),
            (&[("Applied", "True", 2), ("Progressing", "False", 2)], Stage::Succeeded),
        ] {
            assert_eq!(progress(&work(conditions)).stage, expected, "{conditions:?}");
        }
    }
}
