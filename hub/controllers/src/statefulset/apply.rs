//! What a run writes: pods and their claims, told in events of the set.

use std::sync::Arc;

use freewheel_hub_api::pins::Pins;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Stored;
use futures::future::join_all;
use serde_json::Value;

use super::decide::Step;
use super::{Run, StatefulSets, identity};
use crate::control::owner_reference;
use crate::history::Revision;

impl StatefulSets {
    /// Does one after another, or, where pods wait for nobody, in bursts of 1, 2, 4, …
    pub(super) async fn apply(&self, run: &Run<'_>, steps: &[Step]) -> Result<(), ApiError> {
        let mut batch = 1;
        let mut rest = steps;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let outcomes = join_all(now.iter().map(|step| self.step(run, step))).await;
            outcomes.into_iter().collect::<Result<(), _>>()?;
            rest = later;
            batch = if run.wanted.parallel { batch * 2 } else { 1 };
        }
        Ok(())
    }

    async fn step(&self, run: &Run<'_>, step: &Step) -> Result<(), ApiError> {
        match step {
            Step::Create { ordinal, updated } => self.create(run, *ordinal, *updated).await,
            Step::Claims { ordinal, pod } => {
                self.create_claims(run, *ordinal).await?;
                self.own_claims(run, *ordinal, &pod.object.header.uid).await
            }
            Step::Fix { ordinal, pod } => self.fix(run, *ordinal, pod).await,
            Step::Delete(pod) => self.delete(run, pod).await,
        }
    }

    async fn create(&self, run: &Run<'_>, ordinal: i64, updated: bool) -> Result<(), ApiError> {
        if self.has_stale_claim(run, ordinal) {
            // Nobody tells when it is gone: it is looked for again.
            let name = format!("{}-{ordinal}", run.stored.key.name);
            let why = "a claim of the pod before it is still there";
            return Err(ApiError::conflict("", "pods", &name, why));
        }
        let name = format!("{}-{ordinal}", run.stored.key.name);
        let made = match self.pins(run, updated).await {
            Ok(pins) => {
                let pod = self.pod_of(run, ordinal, updated, pins);
                self.create_with_claims(run, ordinal, &pod).await
            }
            Err(error) => Err(error),
        };
        if made
            .as_ref()
            .is_err_and(|error| error.reason == "AlreadyExists" || error.is_namespace_terminating())
        {
            return made.map(drop);
        }
        self.tell_pod(run, "Create", &name, made.as_ref().err());
        made.map(drop)
    }

    /// The pod of an ordinal, of the template's own revision or of the one that runs.
    fn pod_of(&self, run: &Run<'_>, ordinal: i64, updated: bool, pins: &Pins) -> Value {
        let (template, revision) = if updated {
            (run.value["spec"]["template"].clone(), &run.wanted.updated)
        } else {
            let template = run.current().map(Revision::template).unwrap_or_default();
            (template, &run.wanted.current)
        };
        let owner = owner_reference(&self.sets, run.stored);
        let mut pod = identity::pod_of(&run.value, &template, &owner, (ordinal, revision));
        pins.write(&mut pod);
        pod
    }

    /// What the pods of that revision are to run: asked once in a run, however many it makes.
    async fn pins<'r>(&self, run: &'r Run<'_>, updated: bool) -> Result<&'r Pins, ApiError> {
        let (cell, revision) = if updated {
            (&run.updated_pins, run.timeline.newest())
        } else {
            (&run.current_pins, run.current())
        };
        let ask = || async {
            match revision {
                Some(revision) => self.history.pins(revision).await,
                None => Ok(Pins::default()),
            }
        };
        cell.get_or_try_init(ask).await
    }

    async fn create_with_claims(
        &self,
        run: &Run<'_>,
        ordinal: i64,
        pod: &Value,
    ) -> Result<Arc<Stored>, ApiError> {
        self.create_claims(run, ordinal).await?;
        let (cluster, namespace) = (&run.stored.key.cluster, &*run.stored.key.namespace);
        let made = self.client.create(&self.pods, cluster, namespace, pod).await;
        if made.as_ref().is_err_and(|error| error.reason == "AlreadyExists") {
            return made;
        }
        let uid = made.as_ref().map_or("", |made| made.object.header.uid.as_str());
        self.own_claims(run, ordinal, uid).await?;
        made
    }

    async fn fix(&self, run: &Run<'_>, ordinal: i64, pod: &Stored) -> Result<(), ApiError> {
        let fixed = self.fix_with_claims(run, ordinal, pod).await;
        self.tell_pod(run, "Update", &pod.key.name, fixed.as_ref().err());
        fixed
    }

    async fn fix_with_claims(
        &self,
        run: &Run<'_>,
        ordinal: i64,
        pod: &Stored,
    ) -> Result<(), ApiError> {
        self.create_claims(run, ordinal).await?;
        self.own_claims(run, ordinal, &pod.object.header.uid).await?;
        let change = |mut value: Value| {
            identity::label(&mut value, ordinal);
            if !identity::mounts_claims(&run.value, &value, ordinal) {
                identity::mount_claims(&run.value, &mut value["spec"], ordinal);
            }
            Ok(value)
        };
        self.client.modify_at(&self.pods, pod, None, change).await.map(drop)
    }

    async fn delete(&self, run: &Run<'_>, pod: &Stored) -> Result<(), ApiError> {
        let uid = &pod.object.header.uid;
        let gone = self.client.delete(&self.pods, &pod.key, uid, Propagation::Background).await;
        self.tell_pod(run, "Delete", &pod.key.name, gone.as_ref().err());
        gone.map(drop)
    }

    fn tell_pod(&self, run: &Run<'_>, verb: &'static str, pod: &str, failed: Option<&ApiError>) {
        let set = &run.stored.key.name;
        let (done, not_done) = match verb {
            "Create" => ("SuccessfulCreate", "FailedCreate"),
            "Update" => ("SuccessfulUpdate", "FailedUpdate"),
            _ => ("SuccessfulDelete", "FailedDelete"),
        };
        match failed {
            None => {
                self.tell(run, done, format!("{verb} Pod {pod} in StatefulSet {set} successful"));
            }
            Some(error) => self.warn(
                run,
                not_done,
                format!("{verb} Pod {pod} in StatefulSet {set} failed error: {error}"),
            ),
        }
    }

    pub(super) fn tell(&self, run: &Run<'_>, reason: &'static str, text: String) {
        let (recorder, by) = (&self.client.recorder, self.client.name());
        recorder.normal(&self.sets, run.stored, by, reason, text);
    }

    pub(super) fn warn(&self, run: &Run<'_>, reason: &'static str, text: String) {
        let (recorder, by) = (&self.client.recorder, self.client.name());
        recorder.warning(&self.sets, run.stored, by, reason, text);
    }
}
