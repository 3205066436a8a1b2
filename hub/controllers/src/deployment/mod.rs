//! Rolls each Deployment's pods from one template to the next.
//!
//! ```text
//! observe     the Deployment and its ReplicaSets of one moment
//! revision    new sets, revisions, history
//! rolling     the next step of a rollout
//! proportion  a change of size in the middle of one
//! status      counts and conditions
//! ```
//!
//! Guarantees: during a rolling update at most `replicas + maxSurge` pods are asked for and at least
//! `replicas - maxUnavailable` available ones are kept; one ReplicaSet per template; a paused
//! Deployment scales but does not roll.

pub mod observe;
pub mod proportion;
pub mod revision;
pub mod rolling;
pub mod status;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::objects::Propagation;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use serde_json::json;

use crate::engine::desk::{everywhere, in_namespace, key as key_of, kind, typed};
use crate::engine::{Controller, Desk, Error};
use crate::pods::controller_of;
use crate::replicaset::decide::{Claim, claim};
use crate::replicaset::owner_reference;
use crate::selector::Selector;
use observe::{REVISION, Scale, Set, Sets, Strategy, Wanted};

/// The controller.
pub struct Deployments {
    desk: Desk,
    deployments: &'static Kind,
    sets: &'static Kind,
    pods: &'static Kind,
}

/// One run: the Deployment with its sets.
struct Run<'a> {
    stored: &'a Stored,
    wanted: Wanted,
    sets: Sets,
}

impl Deployments {
    /// Writes through this desk.
    pub fn new(desk: Desk) -> Result<Self, Error> {
        Ok(Self {
            desk,
            deployments: kind("apps", "v1", "deployments")?,
            sets: kind("apps", "v1", "replicasets")?,
            pods: kind("", "v1", "pods")?,
        })
    }

    fn owners_of_set(&self, set: &Stored, now: &dyn Snapshot) -> Vec<Key> {
        let (cluster, namespace) = (&set.key.cluster, &set.key.namespace);
        if let Some(owner) = set.object.header.owners.iter().find(|o| o.controller) {
            if owner.kind != self.deployments.kind {
                return Vec::new();
            }
            return vec![key_of(self.deployments, cluster, namespace, &owner.name)];
        }
        let labels = &set.object.header.labels;
        now.range(&in_namespace(self.deployments, cluster, namespace), None)
            .filter(|deployment| {
                selector(deployment).is_ok_and(|s| s.is_some_and(|s| s.matches(labels)))
            })
            .map(|deployment| deployment.key.clone())
            .collect()
    }

    /// A pod that goes may let a Recreate rollout go on.
    fn owner_of_pod(&self, pod: &Stored, now: &dyn Snapshot) -> Vec<Key> {
        let Some(owner) = pod.object.header.owners.iter().find(|o| o.controller) else {
            return Vec::new();
        };
        let key = key_of(self.sets, &pod.key.cluster, &pod.key.namespace, &owner.name);
        now.get(&key).map(|set| self.owners_of_set(&set, now)).unwrap_or_default()
    }

    async fn claimed(&self, stored: &Stored, selector: &Selector) -> Result<Vec<Set>, Error> {
        let snapshot = self.desk.snapshot();
        let uid = &stored.object.header.uid;
        let scope = in_namespace(self.sets, &stored.key.cluster, &stored.key.namespace);
        let mut mine = Vec::new();
        for set in snapshot.range(&scope, None) {
            let header = &set.object.header;
            let matches = selector.matches(&header.labels);
            let deleting = stored.object.header.deleting;
            match claim(controller_of(&set), header.deleting, matches, uid, deleting) {
                Claim::Mine => mine.push(Set::read(set)?),
                Claim::Ignore => {}
                Claim::Adopt => {
                    let reference = owner_reference(self.deployments, stored);
                    let adopted = self
                        .desk
                        .modify_at(self.sets, &set, None, |mut value| {
                            value["metadata"]["ownerReferences"] = json!([reference.clone()]);
                            Ok(value)
                        })
                        .await;
                    let adopted = adopted.map_err(Error::api("adopt a ReplicaSet"))?;
                    mine.push(Set::read(adopted.stored)?);
                }
                Claim::Release => {
                    self.desk
                        .modify(self.sets, &set.key, None, |mut value| {
                            if let Some(list) = value["metadata"]["ownerReferences"].as_array_mut()
                            {
                                list.retain(|o| o["uid"].as_str() != Some(uid));
                            }
                            Ok(value)
                        })
                        .await
                        .map_err(Error::api("release a ReplicaSet"))?;
                }
            }
        }
        Ok(mine)
    }

    async fn read<'a>(&self, stored: &'a Stored, selector: &Selector) -> Result<Run<'a>, Error> {
        let wanted = Wanted::read(stored)?;
        let sets = Sets::split(self.claimed(stored, selector).await?, &wanted.template);
        Ok(Run { stored, wanted, sets })
    }

    async fn write_status(&self, run: &Run<'_>, status: &DeploymentStatus) -> Result<(), Error> {
        if run.wanted.typed.status.as_ref() == Some(status) {
            return Ok(());
        }
        let status = serde_json::to_value(status)
            .map_err(|e| Error::api("write the status of a Deployment")(ApiError::internal(e)))?;
        self.desk
            .modify(self.deployments, &run.stored.key, Some("status"), |mut value| {
                value["status"] = status.clone();
                Ok(value)
            })
            .await
            .map_err(Error::api("write the status of a Deployment"))?;
        Ok(())
    }

    async fn write_condition(
        &self,
        run: &mut Run<'_>,
        condition: DeploymentCondition,
    ) -> Result<(), Error> {
        let mut status = run.wanted.typed.status.clone().unwrap_or_default();
        status::set(&mut status, condition, self.desk.clock.now());
        self.write_status(run, &status).await?;
        run.wanted.typed.status = Some(status);
        Ok(())
    }

    /// Sees that the present template's set carries its revision, and makes it when asked to.
    async fn sync_revision(&self, run: &mut Run<'_>, create: bool) -> Result<(), Error> {
        match run.sets.new.take() {
            Some(set) => {
                let set = self.touch_set(run, set).await?;
                if run.wanted.deadline.is_some()
                    && run
                        .wanted
                        .typed
                        .status
                        .as_ref()
                        .and_then(|s| status::find(s, "Progressing"))
                        .is_none()
                {
                    let text = format!("Found new replica set {:?}", set.name);
                    let found =
                        status::condition("Progressing", "True", "FoundNewReplicaSet", text);
                    self.write_condition(run, found).await?;
                }
                run.sets.new = Some(set);
            }
            None if create => self.create_set(run).await?,
            None => return Ok(()),
        }
        self.write_revision(run).await
    }

    async fn touch_set(&self, run: &Run<'_>, set: Set) -> Result<Set, Error> {
        let revision = revision::next_revision(&run.sets);
        let annotations = revision::annotations(&run.wanted, Some(&set), revision);
        let min_ready = run.wanted.min_ready;
        let same_ready =
            set.typed.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default()
                == min_ready;
        if same_ready && set.typed.metadata.annotations.as_ref() == Some(&annotations) {
            return Ok(set);
        }
        let written = self
            .desk
            .modify_at(self.sets, &set.stored, None, |mut value| {
                revision::write_annotations(&mut value, &annotations);
                value["spec"]["minReadySeconds"] = json!(min_ready);
                Ok(value)
            })
            .await
            .map_err(Error::api("give a ReplicaSet its revision"))?;
        Set::read(written.stored)
    }

    async fn create_set(&self, run: &mut Run<'_>) -> Result<(), Error> {
        let size = rolling::new_size(&run.wanted, &run.sets);
        let owner = owner_reference(self.deployments, run.stored);
        let new = revision::new_set(&run.wanted, &run.sets, &owner, size);
        let (cluster, namespace) = (&run.stored.key.cluster, &*run.stored.key.namespace);
        match self.desk.create(self.sets, cluster, namespace, &new).await {
            Ok(made) => {
                if size > 0 {
                    let text = format!("Scaled up replica set {} from 0 to {size}", made.key.name);
                    self.event(run, "ScalingReplicaSet", text);
                }
                let name = made.key.name.to_string();
                run.sets.new = Some(Set::read(made)?);
                if run.wanted.deadline.is_some() {
                    let text = format!("Created new replica set {name:?}");
                    let made =
                        status::condition("Progressing", "True", "NewReplicaSetCreated", text);
                    self.write_condition(run, made).await?;
                }
                Ok(())
            }
            Err(taken) if taken.reason == "AlreadyExists" => self.collide(run, taken).await,
            Err(error) => {
                if run.wanted.deadline.is_some() {
                    let name = new["metadata"]["name"].as_str().unwrap_or_default();
                    let text = format!("Failed to create new replica set {name:?}: {error}");
                    let failed =
                        status::condition("Progressing", "False", "ReplicaSetCreateError", text);
                    self.write_condition(run, failed).await?;
                }
                Err(Error::api("create a ReplicaSet")(error))
            }
        }
    }

    /// The name is taken by a set with another template: the next hash will be another one.
    async fn collide(&self, run: &mut Run<'_>, taken: ApiError) -> Result<(), Error> {
        let mut status = run.wanted.typed.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
        self.write_status(run, &status).await?;
        Err(Error::api("create a ReplicaSet")(taken))
    }

    /// The Deployment shows the revision that it runs.
    async fn write_revision(&self, run: &Run<'_>) -> Result<(), Error> {
        let Some(set) = &run.sets.new else { return Ok(()) };
        let annotations = run.wanted.typed.metadata.annotations.as_ref();
        let revision = set.revision.to_string();
        if annotations.and_then(|a| a.get(REVISION)) == Some(&revision) {
            return Ok(());
        }
        self.desk
            .modify(self.deployments, &run.stored.key, None, |mut value| {
                if !value["metadata"]["annotations"].is_object() {
                    value["metadata"]["annotations"] = json!({});
                }
                value["metadata"]["annotations"][REVISION] = json!(revision);
                Ok(value)
            })
            .await
            .map_err(Error::api("write a Deployment's revision"))?;
        Ok(())
    }

    /// Gives sets their sizes; true when one really changed.
    async fn scale(&self, run: &mut Run<'_>, scales: &[Scale]) -> Result<bool, Error> {
        let notes: BTreeMap<String, String> = revision::sizes(&run.wanted).into();
        let mut moved = false;
        for Scale { set: name, to } in scales {
            let Some(set) = run.sets.new.iter().chain(&run.sets.old).find(|s| s.name == *name)
            else {
                continue;
            };
            let (from, to) = (set.replicas, *to);
            let noted = set.typed.metadata.annotations.as_ref();
            let known = noted.is_some_and(|a| notes.iter().all(|(k, v)| a.get(k) == Some(v)));
            if from == to && known {
                continue;
            }
            let written = self
                .desk
                .modify_at(self.sets, &set.stored, None, |mut value| {
                    if !value["metadata"]["annotations"].is_object() {
                        value["metadata"]["annotations"] = json!({});
                    }
                    for (key, note) in &notes {
                        value["metadata"]["annotations"][key] = json!(note);
                    }
                    value["spec"]["replicas"] = json!(to);
                    Ok(value)
                })
                .await
                .map_err(Error::api("scale a ReplicaSet"))?;
            if from != to {
                moved = true;
                let way = if from < to { "up" } else { "down" };
                let text = format!("Scaled {way} replica set {name} from {from} to {to}");
                self.event(run, "ScalingReplicaSet", text);
            }
            let updated = Set::read(written.stored)?;
            let mut all = run.sets.new.iter_mut().chain(&mut run.sets.old);
            if let Some(set) = all.find(|s| s.name == *name) {
                *set = updated;
            }
        }
        Ok(moved)
    }

    async fn roll(&self, run: &mut Run<'_>) -> Result<Option<Duration>, Error> {
        if run.wanted.strategy == Strategy::Recreate {
            self.sync_revision(run, false).await?;
            let stops = rolling::stop_old(&run.sets);
            if self.scale(run, &stops).await? || self.old_pods_run(run)? {
                return self.finish(run, false).await;
            }
        }
        self.sync_revision(run, true).await?;
        let scales = match run.wanted.strategy {
            Strategy::Rolling { .. } => rolling::rolling(&run.wanted, &run.sets),
            Strategy::Recreate => {
                let size = run.wanted.replicas;
                run.sets.new.iter().map(|s| Scale { set: s.name.clone(), to: size }).collect()
            }
        };
        let moved = self.scale(run, &scales).await?;
        self.finish(run, !moved).await
    }

    /// Writes the status; tidies up what history does not cover once the rollout is through.
    async fn finish(&self, run: &Run<'_>, tidy: bool) -> Result<Option<Duration>, Error> {
        let now = self.desk.clock.now();
        let outcome = status::rollout(&run.wanted, &run.sets, now);
        if tidy && status::is_complete(&run.wanted, &outcome.status) {
            self.tidy(run).await?;
        }
        self.write_status(run, &outcome.status).await?;
        Ok(outcome.look_again)
    }

    async fn tidy(&self, run: &Run<'_>) -> Result<(), Error> {
        for set in revision::beyond_history(&run.wanted, &run.sets) {
            let uid = &set.stored.object.header.uid;
            self.desk
                .delete(self.sets, &set.stored.key, uid, Propagation::Background)
                .await
                .map_err(Error::api("delete an old ReplicaSet"))?;
        }
        Ok(())
    }

    fn old_pods_run(&self, run: &Run<'_>) -> Result<bool, Error> {
        let snapshot = self.desk.snapshot();
        let old: Vec<&str> =
            run.sets.old.iter().map(|s| s.stored.object.header.uid.as_str()).collect();
        let scope = in_namespace(self.pods, &run.stored.key.cluster, &run.stored.key.namespace);
        for pod in snapshot.range(&scope, None) {
            if controller_of(&pod).is_some_and(|uid| old.contains(&uid))
                && !crate::pods::PodFacts::read(pod)?.is_finished()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Scaling and pausing: sizes and status, no new template.
    async fn resize(&self, run: &mut Run<'_>) -> Result<Option<Duration>, Error> {
        self.sync_revision(run, false).await?;
        let scales = proportion::scale(&run.wanted, &run.sets);
        self.scale(run, &scales).await?;
        if run.wanted.paused {
            self.tidy(run).await?;
        }
        let status = status::calculate(&run.wanted, &run.sets, self.desk.clock.now());
        self.write_status(run, &status).await?;
        Ok(None)
    }

    fn event(&self, run: &Run<'_>, reason: &'static str, text: String) {
        self.desk.recorder.normal(self.deployments, run.stored, self.desk.name(), reason, text);
    }
}

fn selector(stored: &Stored) -> Result<Option<Selector>, Error> {
    let deployment: Deployment = typed(stored)?;
    Ok(deployment.spec.and_then(|s| Selector::of_workload(&s.selector)))
}

#[async_trait]
impl Controller for Deployments {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(self.deployments), everywhere(self.sets), everywhere(self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == self.deployments.storage() {
            return vec![key.clone()];
        }
        if key.resource == self.pods.storage() {
            let gone = event.before.as_ref().filter(|_| event.now.is_none());
            return gone.map(|pod| self.owner_of_pod(pod, now)).unwrap_or_default();
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = sides.flat_map(|set| self.owners_of_set(set, now)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.desk.snapshot().get(key) else { return Ok(None) };
        let Some(selector) = selector(&stored)? else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let mut run = self.read(&stored, &selector).await?;
        if stored.object.header.deleting {
            let status = status::calculate(&run.wanted, &run.sets, self.desk.clock.now());
            return self.write_status(&run, &status).await.map(|()| None);
        }
        if let Some(said) = status::paused(&run.wanted) {
            self.write_condition(&mut run, said).await?;
        }
        if run.wanted.paused || proportion::is_scaling(&run.wanted, &run.sets) {
            return self.resize(&mut run).await;
        }
        self.roll(&mut run).await
    }
}
