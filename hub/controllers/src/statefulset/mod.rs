//! Keeps the numbered pods of each StatefulSet, each with its own name and claims.
//!
//! ```text
//! identity   what a pod has of its own
//! decide     which come and go, in which order
//! retention  whose the claims are
//! apply, claims    what a run writes
//! status     what is counted
//! ```
//!
//! Guarantees:
//! - no ordinal has two pods: it is their name, and a pod that is on its way out has it until it is gone
//!   (`ordinals_come_and_go_in_order`);
//! - where pods are ordered, none comes before those below it serve, and none goes before those above it are gone
//!   (`pods_come_one_after_another_upwards`, `pods_go_one_after_another_downwards`, `ordinals_come_and_go_in_order`);
//! - a rollout goes from the highest ordinal down to the partition, with no more missing than may be
//!   (`a_rollout_goes_downwards_and_waits_for_each`, `a_stateful_set_is_rolled_out_by_parts_and_back`);
//! - all pods of one revision run one build of its images, whenever they are made
//!   (`each_revision_of_a_stateful_set_runs_what_its_tags_stood_for`,
//!   `a_push_in_the_middle_of_a_rollout_by_parts_mixes_nothing`);
//! - claims stay, unless the set says otherwise (`the_policy_says_whose_claims_are`).

mod apply;
mod claims;
mod decide;
mod identity;
mod retention;
mod status;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::Images;
use freewheel_hub_api::pins::Pins;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::amount::in_pods;
use crate::control::{claimed, is_a};
use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::history::{History, REVISION_LABEL, Revision, Subject, Timeline, beyond};
use crate::index::{Indexes, PodEntry};
use crate::pods::{Availability, controller_of};
use crate::selector::Selector;
use decide::{Phase, StatefulPod, Step, Update, Wanted};

/// Label of a revision with the hash of its template.
const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The controller.
pub struct StatefulSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    pods: Arc<Kind>,
    claims: Arc<Kind>,
    history: History,
    /// When each set was last looked at.
    throttle: Throttle,
}

/// One run: the set as it is, and what it asks for.
struct Run<'a> {
    stored: &'a Stored,
    value: Value,
    spec: StatefulSetSpec,
    wanted: Wanted,
    timeline: Timeline,
    /// What pods of the revision that runs are to run, once one is made.
    current_pins: OnceCell<Pins>,
    /// The same of the template's own.
    updated_pins: OnceCell<Pins>,
}

impl Run<'_> {
    /// The revision that runs.
    fn current(&self) -> Option<&Revision> {
        self.timeline.all.iter().find(|one| one.name == self.wanted.current)
    }

    fn min_ready(&self) -> Duration {
        let seconds = self.spec.min_ready_seconds.unwrap_or_default();
        Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
    }
}

impl StatefulSets {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, images: Arc<dyn Images>) -> Result<Self, Error> {
        Ok(Self {
            sets: kind("apps", "v1", "statefulsets")?,
            pods: kind("", "v1", "pods")?,
            claims: kind("", "v1", "persistentvolumeclaims")?,
            history: History::new(client.clone(), indexes.clone(), images)?,
            throttle: Throttle::default(),
            client,
            indexes,
        })
    }

    /// The sets that a pod belongs to, or could be adopted by.
    fn sets_of(&self, pod: &Stored) -> Vec<Key> {
        if let Some(owner) = pod.object.header.owners.iter().find(|owner| owner.controller) {
            if !is_a(owner, &self.sets) {
                return Vec::new();
            }
            let (cluster, namespace) = (&pod.key.cluster, &pod.key.namespace);
            return vec![key_of(&self.sets, cluster, namespace, &owner.name)];
        }
        self.indexes.selector_owners_of(&self.sets, pod)
    }

    /// The set's revisions, and what it asks for.
    async fn read<'a>(
        &self,
        stored: &'a Stored,
        typed: StatefulSet,
        selector: &Selector,
    ) -> Result<Run<'a>, Error> {
        let value = stored.object.value().map_err(Error::api("read a StatefulSet"))?;
        let subject = Subject { kind: &self.sets, stored, value: &value, hash_label: HASH_LABEL };
        let timeline = self.history.settle(&subject, selector).await?;
        let status = typed.status.unwrap_or_default();
        let named = |revision: &&Revision| status.current_revision.as_ref() == Some(&revision.name);
        let newest = timeline.newest();
        let current = timeline.all.iter().find(named).or(newest);
        let name = |revision: Option<&Revision>| revision.map(|it| it.name.clone());
        let spec = typed.spec.unwrap_or_default();
        let replicas = spec.replicas.unwrap_or(1);
        let wanted = Wanted {
            start: spec.ordinals.as_ref().and_then(|it| it.start).unwrap_or_default().into(),
            replicas: replicas.into(),
            parallel: spec.pod_management_policy.as_deref() == Some("Parallel"),
            claims: identity::has_claims(&value),
            update: update(&spec, replicas),
            current: name(current).unwrap_or_default(),
            updated: name(newest).unwrap_or_default(),
            current_replicas: status.current_replicas.unwrap_or_default().into(),
        };
        let (current_pins, updated_pins) = (OnceCell::new(), OnceCell::new());
        Ok(Run { stored, value, spec, wanted, timeline, current_pins, updated_pins })
    }

    /// The set's pods by ordinal, and when the next of them becomes available.
    async fn observe(
        &self,
        run: &Run<'_>,
        selector: &Selector,
    ) -> Result<(BTreeMap<i64, StatefulPod>, Option<Duration>), Error> {
        let set = &run.stored.key.name;
        let is_member = |pod: &Stored| identity::ordinal_of(set, &pod.key.name).is_some();
        let owner = (&*self.sets, run.stored);
        let index = (&self.pods, &*self.indexes.pods);
        let mine = claimed(&self.client, owner, index, selector, is_member).await?;
        let now = self.client.clock.now();
        let (mut pods, mut next) = (BTreeMap::new(), None);
        for entry in mine {
            let Some(ordinal) = identity::ordinal_of(set, &entry.stored.key.name) else { continue };
            let pod = stateful_pod(run, ordinal, &entry, now)?;
            if let Availability::In(rest) = pod.availability {
                next = Some(next.map_or(rest, |next: Duration| next.min(rest)));
            }
            pods.insert(ordinal, pod);
        }
        Ok((pods, next))
    }

    /// Deletes the revisions that nobody runs any more and the limit does not cover.
    async fn forget(&self, run: &Run<'_>, pods: &BTreeMap<i64, StatefulPod>) -> Result<(), Error> {
        let limit = run.spec.revision_history_limit.unwrap_or(10);
        // A negative one keeps everything.
        let Ok(limit) = usize::try_from(limit) else { return Ok(()) };
        let own = [run.wanted.current.as_str(), run.wanted.updated.as_str()];
        let running = pods.values().map(|pod| pod.revision.as_str());
        let living: HashSet<&str> = running.chain(own).collect();
        let lives = |one: &Revision| living.contains(one.name.as_str());
        let all = &run.timeline.all;
        let dead = all.iter().filter(|one| !lives(one)).count();
        self.history.forget(&beyond(all, dead.saturating_sub(limit), lives)).await
    }

    async fn report(&self, run: &Run<'_>, pods: &BTreeMap<i64, StatefulPod>) -> Result<(), Error> {
        let counted = (run.stored.object.header.generation, run.timeline.collisions);
        let old = &run.value["status"];
        let status = status::status(&run.wanted, pods.values(), counted, old);
        if status == *old {
            return Ok(());
        }
        let change = |mut value: Value| {
            value["status"] = status.clone();
            Ok(value)
        };
        let written = self.client.modify_this(&self.sets, run.stored, Some("status"), change).await;
        written.map(drop).map_err(Error::api("write the status of a StatefulSet"))
    }
}

fn update(spec: &StatefulSetSpec, replicas: i32) -> Update {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("OnDelete") {
        return Update::OnDelete;
    }
    let rolling = strategy.rolling_update;
    let partition = rolling.as_ref().map(|it| i64::from(it.partition.unwrap_or_default()));
    let most = rolling.and_then(|it| it.max_unavailable).unwrap_or(IntOrString::Int(1));
    Update::Rolling { partition, unavailable: in_pods(&most, replicas, false).max(1).into() }
}

fn stateful_pod(
    run: &Run<'_>,
    ordinal: i64,
    entry: &PodEntry,
    now: Timestamp,
) -> Result<StatefulPod, Error> {
    let labels = &entry.stored.object.header.labels;
    let named =
        labels.get(identity::POD_NAME_LABEL).is_some_and(|it| **it == *entry.stored.key.name);
    let mounted = if run.wanted.claims {
        let value = entry.stored.object.value().map_err(Error::api("read a pod"))?;
        identity::mounts_claims(&run.value, &value, ordinal)
    } else {
        true
    };
    let summary = entry.summary()?;
    Ok(StatefulPod {
        phase: match entry.phase() {
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Failed" | "Succeeded" => Phase::Ended,
            _ => Phase::Unknown,
        },
        ready: summary.is_ready(),
        availability: summary.availability(run.min_ready(), now),
        whole: named && mounted,
        revision: labels.get(REVISION_LABEL).cloned().unwrap_or_default(),
        stored: entry.stored.clone(),
    })
}

#[async_trait]
impl Controller for StatefulSets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.sets), everywhere(&self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
            return vec![key.clone()];
        }
        // Which set could adopt a pod is asked only when that may have changed, not at every report.
        if let (Some(pod), Some(before)) = (&event.now, &event.before)
            && controller_of(pod).is_none()
            && pod.object.header.labels == before.object.header.labels
            && pod.object.header.owners == before.object.header.owners
        {
            return Vec::new();
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = sides.flat_map(|pod| self.sets_of(pod)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.throttle.forget(key);
            return Ok(None);
        };
        // What it owns may be gone before it.
        if stored.object.header.deleting {
            return Ok(None);
        }
        let typed: StatefulSet = typed(&stored)?;
        let selector = typed.spec.as_ref().and_then(|spec| Selector::of_workload(&spec.selector));
        let Some(selector) = selector else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let size = typed.status.as_ref().map_or(0, |status| status.replicas);
        if let Some(rest) = self.throttle.wait(key, usize::try_from(size).unwrap_or_default()) {
            return Ok(Some(rest));
        }
        let run = self.read(&stored, typed, &selector).await?;
        let (mut pods, mut next) = self.observe(&run, &selector).await?;
        let steps: Vec<Step> = decide::decide(&run.wanted, &pods);
        let is_full = decide::ACTS_MAX <= decide::acts(&steps);
        let idle = steps.is_empty();
        let applied = self.apply(&run, &steps).await;
        // Nothing can be made in a namespace that goes: no failure of the set.
        let (applied, goes) = match applied {
            Err(error) if error.is_namespace_terminating() => (Ok(()), true),
            other => (other, false),
        };
        if !idle {
            (pods, next) = self.observe(&run, &selector).await?;
        }
        self.report(&run, &pods).await?;
        applied.map_err(Error::api("manage the pods of a StatefulSet"))?;
        self.forget(&run, &pods).await?;
        if is_full && !goes {
            // There is more to do than one look does.
            self.throttle.forget(key);
            return Ok(Some(Duration::ZERO));
        }
        Ok(next)
    }
}
