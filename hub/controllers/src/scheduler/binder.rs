//! What the scheduler writes.

use std::sync::Arc;

use freewheel_hub_api::conditions::{Condition, POD_SCHEDULED};
use freewheel_hub_objects::{Binding, WriteOptions};
use freewheel_hub_placement::Refusal;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Expect, Stored};
use serde_json::Value;

use crate::engine::client::object_ref;
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Error};

pub(super) struct Binder {
    pub(super) client: Client,
    pub(super) pods: Arc<Kind>,
}

impl Binder {
    /// Writes the binding; false when the pod is gone, bound already, or its Node is not `there` any more.
    pub(super) async fn bind(
        &self,
        pod: &Key,
        uid: &Uid,
        (node, there): (&str, &Expect),
    ) -> Result<bool, Error> {
        let Some(stored) = self.client.snapshot().get(pod).filter(|s| self.is_open(s, uid)) else {
            return Ok(false);
        };
        let binding = Binding { node, uid: Some(uid), metadata: &Value::Null, is_named: false };
        let how = WriteOptions { expect: vec![there.clone()], ..self.client.how().clone() };
        // Before its node can know: what that tells of the pod comes after.
        let at = self.client.clock.now();
        match self.client.objects().bind(&how, &object_ref(&self.pods, pod), &binding).await {
            Ok(_) => {
                let name = format!("{}/{}", pod.namespace, pod.name);
                let text = format!("Successfully assigned {name} to {node}");
                let (about, by) = ((&self.pods, &*stored), "default-scheduler");
                self.client.recorder.normal_at(at, about, by, "Scheduled", text);
                Ok(true)
            }
            Err(error) if error.code == 413 => {
                let why = error.message.strip_prefix("Request entity too large: ");
                let why = why.unwrap_or(&error.message);
                self.warn(&stored, format!("the pod cannot be assigned to {node}: {why}"));
                Ok(false)
            }
            Err(error) if matches!(error.code, 404 | 409) => Ok(false),
            Err(error) => Err(Error::api("bind a pod")(error)),
        }
    }

    fn is_open(&self, stored: &Stored, uid: &Uid) -> bool {
        let header = &stored.object.header;
        let bound = header.fields.get("spec.nodeName").is_some_and(|n| !n.is_empty());
        header.uid == *uid && !header.deleting && !bound
    }

    /// Says on the pod that its gates keep it from every node.
    pub(super) async fn gate(&self, pod: &Key, uid: &Uid) -> Result<(), Error> {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        self.hold(pod, uid, ("SchedulingGated", message)).await
    }

    /// Writes condition PodScheduled=False.
    async fn hold(&self, pod: &Key, uid: &Uid, why: (&str, &str)) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let written = self
            .client
            .modify(&self.pods, pod, Some("status"), |mut value| {
                if value["metadata"]["uid"] == *uid && value["spec"]["nodeName"].is_null() {
                    let condition = Condition::new(&POD_SCHEDULED, false, why.0, why.1);
                    condition.put_on_pod(&mut value, &now);
                }
                Ok(value)
            })
            .await;
        if let Err(error) = written
            && error.code != 404
        {
            return Err(Error::api("say why a pod has no node")(error));
        }
        Ok(())
    }

    /// Says on the pod why it has no node.
    pub(super) async fn refuse(&self, pod: &Key, uid: &Uid, why: &Refusal) -> Result<(), Error> {
        let Some(stored) = self.client.snapshot().get(pod).filter(|s| self.is_open(s, uid)) else {
            return Ok(());
        };
        let message = why.to_string();
        let held = self.hold(pod, uid, ("Unschedulable", &message)).await;
        // A pod as large as an object may be has no room for the condition.
        self.warn(&stored, message);
        match held {
            Err(full) if full.code() == Some(413) => Ok(()),
            held => held,
        }
    }

    fn warn(&self, pod: &Stored, message: String) {
        let recorder = &self.client.recorder;
        recorder.warning(&self.pods, pod, "default-scheduler", "FailedScheduling", message);
    }
}
