//! Keeps one pod of each DaemonSet on every node that is to have one.
//!
//! ```text
//! run        the set as it is read once
//! template   the pods, and which node one is for
//! decide     which come and go: one per node, and a rollout within its bounds
//! backoff    how often what fails on a node is replaced there
//! status     what is counted
//! ```
//!
//! Guarantees:
//! - a node that comes gets its pod at once, and one that is silent keeps it
//!   (`every_device_gets_its_daemon_and_keeps_it_while_it_is_silent`);
//! - a rollout never has more nodes without a pod that serves than may be so, whatever happens meanwhile
//!   (`a_rollout_takes_no_more_than_may_be_missing`, `a_daemon_set_is_rolled_out_and_back`), and one that surges makes
//!   the new pod first (`a_surge_makes_the_new_pod_before_the_old_one_goes`);
//! - all pods of one template run one build of its images, whenever they are made
//!   (`each_revision_of_a_daemon_set_runs_what_its_tags_stood_for`).
//!
//! A change is answered with one look at the set's whole fleet, in a large one once in a second at most: what many pods
//! report meanwhile is one look.

mod backoff;
mod decide;
mod run;
mod status;
mod template;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::Images;
use freewheel_hub_placement::daemon::{DaemonFit, daemon_fit};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use crate::control::{any, claimed, is_a, owner_reference};
use crate::engine::client::{everywhere, in_cluster, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error, Throttle};
use crate::history::{History, REVISION_LABEL, Subject, Timeline, beyond};
use crate::index::Indexes;
use crate::pod_control::PodControl;
use crate::pods::{Availability, controller_of};
use crate::selector::Selector;
use backoff::FailedPods;
use decide::{Changes, DaemonNode, Fleet, Update};
use run::{Run, daemon_pod};

/// Most pods that one set makes, and ends, before it looks again.
const PODS_AT_ONCE_MAX: usize = 500;

/// The controller.
pub struct DaemonSets {
    client: Client,
    indexes: Indexes,
    sets: Arc<Kind>,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    history: History,
    failed: FailedPods,
    /// When each set was last looked at.
    throttle: Throttle,
}

impl DaemonSets {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, images: Arc<dyn Images>) -> Result<Self, Error> {
        Ok(Self {
            sets: kind("apps", "v1", "daemonsets")?,
            pods: kind("", "v1", "pods")?,
            nodes: kind("", "v1", "nodes")?,
            history: History::new(client.clone(), indexes.clone(), images)?,
            failed: FailedPods::default(),
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

    /// The set's revisions, and what its pods are to be.
    async fn read<'a>(
        &self,
        stored: &'a Stored,
        typed: DaemonSet,
        selector: Selector,
    ) -> Result<(Run<'a>, Timeline), Error> {
        let value = stored.object.value().map_err(Error::api("read a DaemonSet"))?;
        let hash_label = REVISION_LABEL;
        let subject = Subject { kind: &self.sets, stored, value: &value, hash_label };
        let timeline = self.history.settle(&subject, &selector).await?;
        let hash = timeline.newest().map(|it| it.label(REVISION_LABEL).unwrap_or(&it.name));
        let hash = hash.unwrap_or_default().to_owned();
        let pod = template::pod_of(&value, &owner_reference(&self.sets, stored), &hash);
        let Some(request) = template::request(&stored.key.cluster, &pod) else {
            return Err(Error::Refused("its template cannot be read".into()));
        };
        Ok((Run { stored, value, typed, selector, hash, pod, request }, timeline))
    }

    /// The nodes with the set's pods, and when the next of those becomes available.
    async fn observe(&self, run: &Run<'_>) -> Result<(Fleet, Option<Duration>), Error> {
        let owner = (&*self.sets, run.stored);
        let index = (&self.pods, &*self.indexes.pods);
        let mine = claimed(&self.client, owner, index, &run.selector, any).await?;
        let mut fleet = Fleet { nodes: self.nodes_for(run), elsewhere: Vec::new() };
        let now = self.client.clock.now();
        let mut next: Option<Duration> = None;
        for entry in mine {
            let Some(pod) = daemon_pod(run, &entry, now)? else { continue };
            if let Availability::In(rest) = pod.availability {
                next = Some(next.map_or(rest, |next| next.min(rest)));
            }
            let target = if pod.bound {
                Some(entry.node().to_owned())
            } else {
                let value = entry.stored.object.value().map_err(Error::api("read a pod"))?;
                template::target(&value).map(str::to_owned)
            };
            let Some(target) = target else { continue };
            match fleet.nodes.get_mut(&*target) {
                Some(node) => node.pods.push(pod),
                None => fleet.elsewhere.push(pod),
            }
        }
        Ok((fleet, next))
    }

    fn nodes_for(&self, run: &Run<'_>) -> std::collections::BTreeMap<Arc<str>, DaemonNode> {
        let snapshot = self.client.snapshot();
        let scope = in_cluster(&self.nodes, &run.stored.key.cluster);
        let keys: Vec<Key> = snapshot.range(&scope, None).map(|node| node.key.clone()).collect();
        self.indexes.nodes.look(|nodes| {
            let fit = |key: &Key| -> Option<(Arc<str>, DaemonFit)> {
                let node = nodes.get(key)?.as_placed()?;
                Some((node.name.clone(), daemon_fit(node, &run.request, run.node_name())))
            };
            let fits = keys.iter().filter_map(fit);
            fits.map(|(name, fit)| (name, DaemonNode { fit, pods: Vec::new() })).collect()
        })
    }

    /// Makes the newest revision's pods of these nodes, as many as one look makes.
    async fn make(
        &self,
        control: &PodControl<'_>,
        run: &Run<'_>,
        timeline: &Timeline,
        nodes: &[Arc<str>],
    ) -> Result<(), ApiError> {
        let Some(newest) = timeline.newest().filter(|_| !nodes.is_empty()) else { return Ok(()) };
        let pins = self.history.pins(newest).await.inspect_err(|error| {
            control.tell_refused(error);
        })?;
        let mut pod = run.pod.clone();
        pins.write(&mut pod);
        let of_node = |at: usize| {
            nodes.get(at).map_or_else(Value::default, |node| template::for_node(&pod, node))
        };
        control.create_all(nodes.len().min(PODS_AT_ONCE_MAX), of_node).await
    }

    /// Makes and ends pods; whether anything was to be done, and when what has to wait is due.
    async fn apply(
        &self,
        run: &Run<'_>,
        timeline: &Timeline,
        changes: Changes,
    ) -> Result<(bool, Option<Duration>), ApiError> {
        let Changes { create, mut delete, failed, ended } = changes;
        let mut wait: Option<Duration> = None;
        let (uid, generation) =
            (&run.stored.object.header.uid, run.stored.object.header.generation);
        for (node, pod) in failed {
            match self.failed.may_go(uid, generation, &node) {
                Ok(()) => {
                    self.tell(run, "FailedDaemonPod", ("failed", "kill"), (&node, &pod));
                    delete.push(pod);
                }
                Err(rest) => wait = Some(wait.map_or(rest, |wait| wait.min(rest))),
            }
        }
        for (node, pod) in ended {
            self.tell(run, "SucceededDaemonPod", ("succeeded", "delete"), (&node, &pod));
            delete.push(pod);
        }
        let any = !create.is_empty() || !delete.is_empty();
        let control =
            PodControl { client: &self.client, owner: (&self.sets, run.stored), pods: &self.pods };
        let made = self.make(&control, run, timeline, &create).await;
        let gone = control.delete_all(delete.iter().take(PODS_AT_ONCE_MAX).map(|pod| &**pod)).await;
        gone?;
        match made {
            Ok(()) if PODS_AT_ONCE_MAX < create.len().max(delete.len()) => {
                // There is more to do than one look does.
                self.throttle.forget(&run.stored.key);
                Ok((any, Some(Duration::ZERO)))
            }
            // Nothing can be made in a namespace that goes: no failure of the set, nor to be tried again.
            Err(error) if !error.is_namespace_terminating() => Err(error),
            Ok(()) | Err(_) => Ok((any, wait)),
        }
    }

    fn tell(
        &self,
        run: &Run<'_>,
        reason: &'static str,
        (state, act): (&str, &str),
        (node, pod): (&str, &Stored),
    ) {
        let (namespace, name) = (&pod.key.namespace, &pod.key.name);
        let text = format!(
            "Found {state} daemon pod {namespace}/{name} on node {node}, will try to {act} it"
        );
        let (recorder, by) = (&self.client.recorder, self.client.name());
        if state == "failed" {
            recorder.warning(&self.sets, run.stored, by, reason, text);
        } else {
            recorder.normal(&self.sets, run.stored, by, reason, text);
        }
    }

    /// One pod for each node, then the next step of a rollout, then what history is too much.
    async fn manage(
        &self,
        run: &Run<'_>,
        fleet: &Fleet,
        timeline: &Timeline,
    ) -> Result<(bool, Option<Duration>), Error> {
        let failed = Error::api("manage the pods of a DaemonSet");
        let changes = decide::manage(fleet, run.surges());
        let (mut any, wait) = self.apply(run, timeline, changes).await.map_err(failed)?;
        if !any {
            let desired = fleet.nodes.values().filter(|node| node.fit.should_run).count();
            let changes = match run.update(i32::try_from(desired).unwrap_or(i32::MAX)) {
                Update::OnDelete => Changes::default(),
                Update::Rolling { surge: 0, unavailable } => decide::replace(fleet, unavailable),
                Update::Rolling { surge, .. } => decide::surge(fleet, surge),
            };
            let failed = Error::api("roll out a DaemonSet");
            any = self.apply(run, timeline, changes).await.map_err(failed)?.0;
        }
        self.forget(run, fleet, timeline).await?;
        Ok((any, wait))
    }

    async fn forget(&self, run: &Run<'_>, fleet: &Fleet, timeline: &Timeline) -> Result<(), Error> {
        let Some((_, old)) = timeline.all.split_last() else { return Ok(()) };
        let limit = run.typed.spec.as_ref().and_then(|spec| spec.revision_history_limit);
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or_default();
        let Some(excess) = old.len().checked_sub(limit).filter(|excess| *excess != 0) else {
            return Ok(());
        };
        let pods = fleet.nodes.values().flat_map(|node| &node.pods).chain(&fleet.elsewhere);
        let living: HashSet<&str> = pods
            .filter_map(|pod| pod.stored.object.header.labels.get(REVISION_LABEL))
            .map(String::as_str)
            .collect();
        let lives = |one: &crate::history::Revision| {
            one.label(REVISION_LABEL).is_some_and(|hash| living.contains(hash))
        };
        self.history.forget(&beyond(old, excess, lives)).await
    }

    async fn report(&self, run: &Run<'_>, fleet: &Fleet, collisions: i32) -> Result<(), Error> {
        let generation = run.stored.object.header.generation;
        let status = status::status(fleet, generation, collisions, &run.value["status"]);
        if status == run.value["status"] {
            return Ok(());
        }
        let change = |mut value: Value| {
            value["status"] = status.clone();
            Ok(value)
        };
        let written = self.client.modify_this(&self.sets, run.stored, Some("status"), change).await;
        written.map(drop).map_err(Error::api("write the status of a DaemonSet"))
    }
}

/// Whether a change of a node may make or end a daemon: it came, went, or has other labels or taints.
fn concerns_daemons(event: &Event) -> bool {
    let (Some(now), Some(before)) = (&event.now, &event.before) else { return true };
    let taints = |node: &Stored| typed::<Node>(node).ok().and_then(|node| node.spec?.taints);
    now.object.header.labels != before.object.header.labels || taints(now) != taints(before)
}

#[async_trait]
impl Controller for DaemonSets {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        [&self.sets, &self.pods, &self.nodes].map(|kind| everywhere(kind)).into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
            return vec![key.clone()];
        }
        if key.resource == *self.nodes.storage() {
            if !concerns_daemons(event) {
                return Vec::new();
            }
            let sets = in_cluster(&self.sets, &key.cluster);
            return now.range(&sets, None).map(|set| set.key.clone()).collect();
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
        // What it owns may be gone before it, so that nothing could be counted.
        if stored.object.header.deleting {
            return Ok(None);
        }
        let typed: DaemonSet = typed(&stored)?;
        let selector = typed.spec.as_ref().and_then(|spec| Selector::of_workload(&spec.selector));
        let Some(selector) = selector else {
            let text = "This daemon set is selecting all pods. A non-empty selector is required.";
            let (recorder, by) = (&self.client.recorder, self.client.name());
            recorder.warning(&self.sets, &stored, by, "SelectingAll", text.to_owned());
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let size = typed.status.as_ref().map_or(0, |status| status.desired_number_scheduled);
        if let Some(rest) = self.throttle.wait(key, usize::try_from(size).unwrap_or_default()) {
            return Ok(Some(rest));
        }
        let (run, timeline) = self.read(&stored, typed, selector).await?;
        let (mut fleet, mut next) = self.observe(&run).await?;
        let managed = self.manage(&run, &fleet, &timeline).await;
        if !matches!(managed, Ok((false, _))) {
            (fleet, next) = self.observe(&run).await?;
        }
        self.report(&run, &fleet, timeline.collisions).await?;
        let (_, wait) = managed?;
        Ok([next, wait].into_iter().flatten().min())
    }
}
