//! What the scheduler writes.

use std::sync::Arc;

use freewheel_hub_api::conditions::{POD_SCHEDULED, Says};
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::{Key, Object};
use freewheel_hub_api::uid::Uid;
use freewheel_hub_placement::Refusal;
use freewheel_hub_store::{CommitError, Expect, Operation, Stored, Txn};
use serde_json::{Value, json};

use crate::engine::clock::rfc3339;
use crate::engine::{Desk, Error};

/// How often a binding is tried again because the pod changed otherwise.
const TRIES: usize = 8;

pub(super) struct Hand {
    pub(super) desk: Desk,
    pub(super) pods: Arc<Kind>,
}

impl Hand {
    /// Writes the binding; false when the pod is gone, bound already, or its Node is not `there` any more.
    pub(super) async fn bind(
        &self,
        pod: &Key,
        uid: &Uid,
        (node, there): (&str, &Expect),
    ) -> Result<bool, Error> {
        for _ in 0..TRIES {
            let snapshot = self.desk.snapshot();
            let Some(stored) = snapshot.get(pod).filter(|s| self.is_open(s, uid)) else {
                return Ok(false);
            };
            let object = self.bound(&stored, node)?;
            // Before its node can know: what that tells of the pod comes after.
            let at = self.desk.clock.now();
            let txn = Txn {
                expect: vec![Expect::Revision(pod.clone(), stored.revision), there.clone()],
                operations: vec![Operation::Put(pod.clone(), object)],
            };
            match self.desk.objects().store().commit(txn).await {
                Ok(_) => {
                    let name = format!("{}/{}", pod.namespace, pod.name);
                    let text = format!("Successfully assigned {name} to {node}");
                    let (about, by) = ((&self.pods, &*stored), "default-scheduler");
                    self.desk.recorder.normal_at(at, about, by, "Scheduled", text);
                    return Ok(true);
                }
                Err(CommitError::Unmet { index: 0, .. }) => {}
                Err(CommitError::Unmet { .. }) => return Ok(false),
                Err(CommitError::TooLarge(why)) => {
                    self.warn(&stored, format!("the pod cannot be assigned to {node}: {why}"));
                    return Ok(false);
                }
                Err(source) => return Err(Error::Commit { doing: "bind a pod", source }),
            }
        }
        Ok(false)
    }

    fn is_open(&self, stored: &Stored, uid: &Uid) -> bool {
        let header = &stored.object.header;
        let bound = header.fields.get("spec.nodeName").is_some_and(|n| !n.is_empty());
        header.uid == *uid && !header.deleting && !bound
    }

    fn bound(&self, stored: &Stored, node: &str) -> Result<Object, Error> {
        let mut value = stored.object.value().map_err(Error::api("read a pod"))?;
        value["spec"]["nodeName"] = json!(node);
        let now = rfc3339(self.desk.clock.now());
        put_scheduled(&mut value, Says::new(&POD_SCHEDULED, true, "", ""), &now);
        let fields = self.pods.strategy.selectable_fields(&value);
        Object::from_value(value, fields).map_err(Error::api("bind a pod"))
    }

    /// Says on the pod that its gates keep it from every node.
    pub(super) async fn gate(&self, pod: &Key, uid: &Uid) -> Result<(), Error> {
        let message = "Scheduling is blocked due to non-empty scheduling gates";
        self.hold(pod, uid, ("SchedulingGated", message)).await
    }

    /// Writes condition PodScheduled=False.
    async fn hold(&self, pod: &Key, uid: &Uid, why: (&str, &str)) -> Result<(), Error> {
        let now = rfc3339(self.desk.clock.now());
        let written = self
            .desk
            .modify(&self.pods, pod, Some("status"), |mut value| {
                if value["metadata"]["uid"] == *uid && value["spec"]["nodeName"].is_null() {
                    let says = Says::new(&POD_SCHEDULED, false, why.0, why.1);
                    put_scheduled(&mut value, says, &now);
                }
                Ok(value)
            })
            .await;
        match written {
            Err(error) if error.code != 404 => Err(Error::api("say why a pod has no node")(error)),
            _ => Ok(()),
        }
    }

    /// Says on the pod why it has no node.
    pub(super) async fn refuse(&self, pod: &Key, uid: &Uid, why: &Refusal) -> Result<(), Error> {
        let Some(stored) = self.desk.snapshot().get(pod).filter(|s| self.is_open(s, uid)) else {
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
        let recorder = &self.desk.recorder;
        recorder.warning(&self.pods, pod, "default-scheduler", "FailedScheduling", message);
    }
}

/// Sets condition PodScheduled.
fn put_scheduled(pod: &mut Value, says: Says<'_>, now: &str) {
    let observed = pod["metadata"]["generation"].as_i64();
    Says { observed, ..says }.put(&mut pod["status"]["conditions"], now);
}
