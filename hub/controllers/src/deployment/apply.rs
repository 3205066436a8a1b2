//! What a run writes: sets, their sizes and revisions, the status.

use std::collections::BTreeMap;

use freewheel_hub_api::conditions::{Condition, DEPLOYMENT_PROGRESSING};
use freewheel_hub_schema::error::ApiError;
use k8s_openapi::api::apps::v1::DeploymentStatus;
use serde_json::json;

use super::observe::{REVISION_ANNOTATION, Scale, Set};
use super::{Deployments, Rollout, revision, rolling, status};
use crate::control::owner_reference;
use crate::engine::Error;

impl Deployments {
    pub(super) async fn write_status(
        &self,
        run: &Rollout<'_>,
        status: &DeploymentStatus,
    ) -> Result<(), Error> {
        if run.wanted.typed.status.as_ref() == Some(status) {
            return Ok(());
        }
        let status = serde_json::to_value(status)
            .map_err(|e| Error::api("write the status of a Deployment")(ApiError::internal(e)))?;
        self.client
            .modify_this(&self.deployments, run.stored, Some("status"), |mut value| {
                value["status"] = status.clone();
                Ok(value)
            })
            .await
            .map_err(Error::api("write the status of a Deployment"))?;
        Ok(())
    }

    pub(super) async fn write_condition(
        &self,
        run: &mut Rollout<'_>,
        condition: Condition<'_>,
    ) -> Result<(), Error> {
        let mut status = run.wanted.typed.status.clone().unwrap_or_default();
        status::set(&mut status, &condition, self.client.clock.now());
        self.write_status(run, &status).await?;
        run.wanted.typed.status = Some(status);
        Ok(())
    }

    /// Sees that the present template's set carries its revision, and makes it when asked to.
    pub(super) async fn sync_revision(
        &self,
        run: &mut Rollout<'_>,
        create: bool,
    ) -> Result<(), Error> {
        match run.sets.new.take() {
            Some(set) => {
                let set = self.touch_set(run, set).await?;
                if run.wanted.deadline.is_some()
                    && run
                        .wanted
                        .typed
                        .status
                        .as_ref()
                        .and_then(|s| status::find(s, &DEPLOYMENT_PROGRESSING))
                        .is_none()
                {
                    let text = format!("Found new replica set {:?}", set.name);
                    let found = status::progressing(true, "FoundNewReplicaSet", text);
                    self.write_condition(run, found).await?;
                }
                run.sets.new = Some(set);
            }
            None if create => self.create_set(run).await?,
            None => return Ok(()),
        }
        self.write_revision(run).await
    }

    async fn touch_set(&self, run: &Rollout<'_>, set: Set) -> Result<Set, Error> {
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
            .client
            .modify_at(&self.sets, &set.stored, None, |mut value| {
                revision::write_annotations(&mut value, &annotations);
                value["spec"]["minReadySeconds"] = json!(min_ready);
                Ok(value)
            })
            .await
            .map_err(Error::api("give a ReplicaSet its revision"))?;
        Set::read(written.stored)
    }

    async fn create_set(&self, run: &mut Rollout<'_>) -> Result<(), Error> {
        let size = rolling::new_size(&run.wanted, &run.sets);
        let owner = owner_reference(&self.deployments, run.stored);
        let new = revision::new_set(&run.wanted, &run.sets, &owner, size);
        let (cluster, namespace) = (&run.stored.key.cluster, &*run.stored.key.namespace);
        match self.client.create(&self.sets, cluster, namespace, &new).await {
            Ok(made) => {
                if size > 0 {
                    let text = format!("Scaled up replica set {} from 0 to {size}", made.key.name);
                    self.event(run, "ScalingReplicaSet", text);
                }
                let name = made.key.name.to_string();
                run.sets.new = Some(Set::read(made)?);
                if run.wanted.deadline.is_some() {
                    let text = format!("Created new replica set {name:?}");
                    let made = status::progressing(true, "NewReplicaSetCreated", text);
                    self.write_condition(run, made).await?;
                }
                Ok(())
            }
            Err(taken) if taken.reason == "AlreadyExists" => self.collide(run, taken).await,
            Err(error) if error.is_namespace_terminating() => {
                Err(Error::Refused("its namespace is being deleted".into()))
            }
            Err(error) => {
                let name = new["metadata"]["name"].as_str().unwrap_or_default();
                let text = format!("Failed to create new replica set {name:?}: {error}");
                let (recorder, writer) = (&self.client.recorder, self.client.name());
                let (kind, reason) = (&self.deployments, "ReplicaSetCreateError");
                recorder.warning(kind, run.stored, writer, reason, text.clone());
                if run.wanted.deadline.is_some() {
                    let failed = status::progressing(false, "ReplicaSetCreateError", text);
                    self.write_condition(run, failed).await?;
                }
                Err(Error::api("create a ReplicaSet")(error))
            }
        }
    }

    /// The name is taken by a set with another template: the next hash will be another one.
    async fn collide(&self, run: &mut Rollout<'_>, taken: ApiError) -> Result<(), Error> {
        let mut status = run.wanted.typed.status.clone().unwrap_or_default();
        status.collision_count = Some(status.collision_count.unwrap_or_default() + 1);
        self.write_status(run, &status).await?;
        Err(Error::api("create a ReplicaSet")(taken))
    }

    /// The Deployment shows the revision that it runs.
    async fn write_revision(&self, run: &Rollout<'_>) -> Result<(), Error> {
        let Some(set) = &run.sets.new else { return Ok(()) };
        let annotations = run.wanted.typed.metadata.annotations.as_ref();
        let revision = set.revision.to_string();
        if annotations.and_then(|a| a.get(REVISION_ANNOTATION)) == Some(&revision) {
            return Ok(());
        }
        self.client
            .modify_this(&self.deployments, run.stored, None, |mut value| {
                if !value["metadata"]["annotations"].is_object() {
                    value["metadata"]["annotations"] = json!({});
                }
                value["metadata"]["annotations"][REVISION_ANNOTATION] = json!(revision);
                Ok(value)
            })
            .await
            .map_err(Error::api("write a Deployment's revision"))?;
        Ok(())
    }

    /// Gives sets their sizes; true when one really changed.
    pub(super) async fn scale(
        &self,
        run: &mut Rollout<'_>,
        scales: &[Scale],
    ) -> Result<bool, Error> {
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
                .client
                .modify_at(&self.sets, &set.stored, None, |mut value| {
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

    pub(super) fn event(&self, run: &Rollout<'_>, reason: &'static str, text: String) {
        self.client.recorder.normal(
            &self.deployments,
            run.stored,
            self.client.name(),
            reason,
            text,
        );
    }
}
