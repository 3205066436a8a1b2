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
//! - a cluster that is silent keeps it when the Placement is replaced, unless the old decisions were collected before
//!   the new one is looked at: nobody knows of it then, as upstream
//!   (`a_placement_that_is_replaced_keeps_who_is_silent`);
//! - a set goes with its works; under `Foreground` after them (`a_set_goes_after_its_works_if_it_is_asked_to`);
//! - where it is asked for, what fails in a later wave goes back in all that have it, or what came between, whenever the
//!   hub ends (`what_fails_in_a_later_wave_goes_back_in_all`, `what_came_between_goes_back_too`), and nobody new is begun
//!   with then (`who_has_nothing_is_not_begun_with_while_a_rollout_is_aborted`), or while it rests
//!   (`a_paused_rollout_begins_with_nobody_new`), or with who has a maintenance window before that opens
//!   (`a_cluster_waits_for_its_maintenance_window`).

mod given;
mod kept;
mod names;
mod phase;
mod status;
mod summary;
mod view;
mod windows;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::rollout_annotations::RolloutControl;
use freewheel_hub_fleet::rollout::Group;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::api_group::{CLUSTER_GROUP, WORK_GROUP};
use super::choice::{Choice, choice};
use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error, Faults, Throttle};
use crate::index::{
    IndexTerm, Indexes, WORK_PLACEMENT_LABEL, WORK_SET_LABEL, WorkEntry, spec_digest,
};
use kept::Kept;
use names::{is_cut, label, may_be_cut, work_name};
pub(super) use phase::is_aborted;
use phase::{KeptTemplate, Phase, Told};
use summary::{RolledOut, Summary};
pub(super) use view::PlacementView;

const FINALIZER: &str = "work.open-cluster-management.io/manifest-work-cleanup";
/// Works of which is read what is new before others get a turn.
const WORKS_READ_AT_ONCE: usize = 16;

/// The controller.
pub struct WorkSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    works: Arc<Kind>,
    placements: Arc<Kind>,
    decisions: Arc<Kind>,
    clusters: Arc<Kind>,
    throttle: Throttle,
}

/// A set as it is looked at once.
struct Look<'a> {
    set: &'a Arc<Stored>,
    object: &'a Value,
    template: &'a Value,
    phase: Phase,
    kept: Option<Kept>,
    /// What clusters get back, where they do.
    back: Option<Value>,
}

impl Look<'_> {
    fn kept_template(&self) -> KeptTemplate {
        match &self.kept {
            None => KeptTemplate::None,
            Some(kept) if kept.is(spec_digest(self.template)) => KeptTemplate::Same,
            Some(_) => KeptTemplate::Earlier,
        }
    }
}

/// What is not known of a set's placements.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Unknown {
    /// One has not decided yet: its status brings the set here again.
    is_unsettled: bool,
    /// One is not there, or nobody has decided.
    is_missing: bool,
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
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            throttle: Throttle::default(),
        })
    }

    /// All works of a set.
    pub(super) fn works_of(&self, set: &Key) -> Vec<Arc<WorkEntry>> {
        let (root, label) = (ClusterName::root(), label(set));
        self.indexes.works.find(IndexTerm::Label(&root, "", WORK_SET_LABEL, &label))
    }

    async fn delete(&self, work: &WorkEntry) -> Result<(), Error> {
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
        Kept::forget(&self.client, &set.key).await?;
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
        look: &Look<'_>,
        reference: &Value,
        (groups, works): (&[Group], &[Arc<WorkEntry>]),
        faults: &mut Faults,
    ) -> RolledOut {
        let placement = reference["name"].as_str().unwrap_or_default();
        let view = PlacementView::of(placement, spec_digest(look.template), groups, works);
        for work in &view.gone {
            faults.note(self.delete(work).await);
        }
        let mut out = RolledOut::of(Summary::of(&view));
        let (now, closed) = (self.client.clock.now(), self.closed(look.object, &view));
        let step = match view.next(&reference["rolloutStrategy"], &closed.clusters, now) {
            Ok(step) => step,
            Err(wrong) => return RolledOut { wrong: Some(wrong), ..out },
        };
        let (spec, clusters): (&Value, BTreeSet<&str>) = match (look.phase, &look.back) {
            (Phase::Forward, _) => (look.template, step.to_apply().collect()),
            (Phase::Back, Some(before)) => (before, view.to_take_back(spec_digest(before))),
            (Phase::Paused, _) | (Phase::Back, None) => (look.template, BTreeSet::new()),
        };
        for cluster in clusters {
            // One that resists holds up no other.
            faults.note(self.give(look, spec, (placement, cluster)).await);
        }
        out.failed = view.failed(&step);
        out.is_over = view.is_over(&reference["rolloutStrategy"], now);
        out.look_again = step.look_again;
        if look.phase == Phase::Forward && !step.waiting.is_empty() {
            out.look_again = out.look_again.into_iter().chain(closed.look_again(now)).min();
            (out.waiting, out.opens) = (step.waiting, closed.opens);
        }
        out
    }

    async fn give(
        &self,
        look: &Look<'_>,
        spec: &Value,
        (placement, cluster): (&str, &str),
    ) -> Result<(), Error> {
        let set = look.set;
        let name = work_name(&set.key, placement);
        let key = key_of(&self.works, &ClusterName::root(), cluster, &name);
        let labels = &look.object["metadata"]["labels"];
        let now = rfc3339(self.client.clock.now());
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            for (label, text) in labels.as_object().into_iter().flatten() {
                value["metadata"]["labels"][label] = text.clone();
            }
            value["metadata"]["labels"][WORK_SET_LABEL] = json!(label(&set.key));
            value["metadata"]["labels"][WORK_PLACEMENT_LABEL] = json!(placement);
            given::put(&mut value, spec, &now);
            Ok(value)
        };
        let client = self.client.while_there(set);
        let given = client.create_or_modify(&self.works, &key, change).await;
        given.map(drop).map_err(Error::api("write a ManifestWork of a set"))
    }

    fn look<'a>(&self, set: &'a Arc<Stored>, object: &'a Value) -> Result<Look<'a>, Error> {
        let (phase, kept) = (Phase::of(object), Kept::of(&*self.client.snapshot(), set));
        let template = &object["spec"]["manifestWorkTemplate"];
        let digest = spec_digest(template);
        // What is aborted though all had it is what there is to have: nobody is given anything.
        let before = kept.as_ref().filter(|kept| phase == Phase::Back && !kept.is(digest));
        let back = before.map(Kept::template);
        Ok(Look { set, object, template, phase, kept, back: back.transpose()? })
    }

    /// Says that a rollout is aborted, before any work is touched: that brings the set here again.
    async fn say_aborted(&self, look: &Look<'_>) -> Result<Option<Duration>, Error> {
        let told = Told::of(look.object, look.kept_template(), 0);
        self.tell(look, &told);
        self.write_told(look.set, &told, false).await?;
        Ok(None)
    }

    fn tell(&self, look: &Look<'_>, told: &Told) {
        if let Some((reason, message)) = told.news(look.object) {
            let (recorder, name) = (&self.client.recorder, self.client.name());
            recorder.warning(&self.sets, look.set, name, reason, message);
        }
    }

    /// What is kept and what is said, when a set's placements were looked at: these, of those that are known.
    async fn conclude(
        &self,
        look: &Look<'_>,
        (all, unknown): (&[RolledOut], Unknown),
        faults: &mut Faults,
    ) -> Result<(), Error> {
        let digest = spec_digest(look.template);
        let is_asked_for = RolloutControl::of(look.object).rollback.is_some();
        let kept = look.kept.as_ref();
        let is_known = unknown == Unknown::default();
        let is_over = is_known && all.iter().all(|one| one.is_over) && look.phase != Phase::Back;
        let has_clusters = all.iter().any(|one| 0 < one.summary.desired);
        let is_new = is_over && has_clusters && kept.is_none_or(|kept| !kept.is(digest));
        if is_asked_for && is_new {
            faults.note(Kept::put(&self.client, look.set, look.template).await);
        } else if !is_asked_for && kept.is_some() && look.phase != Phase::Back {
            faults.note(Kept::forget(&self.client, &look.set.key).await);
        }
        let failed: BTreeSet<&String> = all.iter().flat_map(|one| &one.failed).collect();
        let waiting: BTreeSet<&String> = all.iter().flat_map(|one| &one.waiting).collect();
        let opens = all.iter().filter_map(|one| one.opens).min();
        let told = Told::of(look.object, look.kept_template(), failed.len());
        let told = told.of_waiting(waiting.len(), opens);
        self.tell(look, &told);
        if is_known {
            return self.write_status(look.set, all, &told).await;
        }
        // What is counted of some is not what is counted of all.
        self.write_told(look.set, &told, unknown.is_missing).await
    }

    async fn sync(&self, set: &Arc<Stored>, object: &Value) -> Result<Option<Duration>, Error> {
        let works = self.works_of(&set.key);
        if let Some(rest) = self.throttle.wait(&set.key, works.len()) {
            return Ok(Some(rest));
        }
        let look = self.look(set, object)?;
        if look.phase == Phase::Back && !is_aborted(object) {
            return self.say_aborted(&look).await;
        }
        read_all(&works).await;
        let refs = object["spec"]["placementRefs"].as_array().cloned().unwrap_or_default();
        let named =
            |work: &&Arc<WorkEntry>| refs.iter().any(|it| it["name"] == *work.facts().placement);
        let mut faults = Faults::default();
        for left in works.iter().filter(|work| !named(work)) {
            faults.note(self.delete(left).await);
        }
        let (mut all, mut later, mut unknown) = (Vec::new(), None, Unknown::default());
        for reference in &refs {
            let placement = reference["name"].as_str().unwrap_or_default();
            match self.choice(&set.key.namespace, placement)? {
                Choice::Groups(groups) => {
                    let given = (&*groups, &*works);
                    let one = self.roll_out(&look, reference, given, &mut faults).await;
                    later = later.into_iter().chain(one.look_again).min();
                    all.push(one);
                }
                // The Placement's status brings it here again.
                Choice::Unsettled => unknown.is_unsettled = true,
                Choice::NotFound => unknown.is_missing = true,
            }
        }
        self.conclude(&look, (&*all, unknown), &mut faults).await?;
        faults.end()?;
        let now = self.client.clock.now();
        Ok(later
            .map(|at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default()))
    }

    /// The sets that this label of a work may be of.
    fn labelled(&self, wanted: &str, now: &dyn Snapshot) -> Vec<Key> {
        let root = ClusterName::root();
        let plain = wanted.split_once('.');
        let plain = plain.map(|(namespace, name)| key_of(&self.sets, &root, namespace, name));
        let mut found: Vec<Key> = plain.into_iter().collect();
        if may_be_cut(wanted) {
            let all = now.range(&everywhere(&self.sets), None);
            let cut = all.filter(|set| is_cut(&set.key) && label(&set.key) == wanted);
            found.extend(cut.map(|set| set.key.clone()));
        }
        found
    }

    /// Whom a Placement chooses.
    pub(super) fn choice(&self, namespace: &str, placement: &str) -> Result<Choice, Error> {
        let of = (&*self.client.snapshot(), &*self.placements);
        let chosen = choice(of, &self.indexes, (namespace, placement));
        chosen.map_err(Error::api("read a Placement"))
    }
}

/// Reads what is new of works, and lets others work meanwhile.
async fn read_all(works: &[Arc<WorkEntry>]) {
    for some in works.chunks(WORKS_READ_AT_ONCE) {
        for work in some {
            work.facts();
        }
        tokio::task::yield_now().await;
    }
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
            return labels.iter().flat_map(|label| self.labelled(label, now)).collect();
        }
        // A Placement, or decisions of one: sets of its namespace say whom they name.
        let all = now.range(&in_namespace(&self.sets, &root, &key.namespace), None);
        all.map(|set| set.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(set) = self.client.snapshot().get(key) else {
            self.throttle.forget(key);
            return Ok(None);
        };
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
