//! Which generation of its pods a spoke has seen. What it reports of a pod says so; a change that changes no status, as a
//! toleration more or a limit that is kept for the next start, has no report.
//!
//! ```text
//! look ─▶ pods that were changed ─▶ the spoke holds as much ─▶ a moment for its report ─▶ written where that is missing
//! ```
//!
//! Guarantees:
//! - a generation is seen once the spoke holds durably what it asks for
//!   (`a_generation_is_observed_when_its_plan_is_acknowledged`), which is written also where nothing is reported of the
//!   pod, and of no pod that lacks nothing (`a_generation_is_observed_though_nothing_is_reported_of_it`).

use std::collections::BTreeSet;

use freewheel_hub_api::conditions::{ConditionOwner, told_by_spoke};
use freewheel_hub_objects::Objects;
use freewheel_hub_plan::{Changes, Source as _};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Revision, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::bound_pods::node_of;
use crate::object_refs::{PODS, is_here, object_ref};
use crate::spoke_identity::{SpokeIdentity, how};
use crate::view::PlanView;

/// Pods of which it may have to be written, one session's. They are bound to its spoke: there are no more of them than
/// its plan is made of.
#[derive(Default)]
pub(crate) struct Unobserved {
    pods: Mutex<BTreeSet<Key>>,
    due: Notify,
}

impl Unobserved {
    /// Takes in what a look has found changed.
    pub(crate) fn look(&self, changes: &Changes, view: &PlanView<'_>, spoke: &ClusterName) {
        let mut changed = changes.pods.clone();
        if changes.everything {
            let realms = [ClusterName::root(), spoke.clone()];
            changed.extend(realms.iter().flat_map(|realm| view.bound(realm, spoke.as_str())));
        }
        let is_lacking = |key: &Key| view.at.get(key).is_some_and(|pod| may_lack(&pod, spoke));
        let (lacking, rest): (BTreeSet<Key>, BTreeSet<Key>) =
            changed.into_iter().partition(is_lacking);
        let mut pods = self.pods.lock();
        if changes.everything {
            pods.clear();
        }
        pods.retain(|key| !rest.contains(key));
        pods.extend(lacking);
    }

    /// The spoke holds more than before.
    pub(crate) fn note_reached(&self) {
        self.due.notify_one();
    }

    /// Resolves when some of them may be due. Cancel safe.
    pub(crate) async fn due(&self) {
        loop {
            self.due.notified().await;
            if !self.pods.lock().is_empty() {
                return;
            }
        }
    }

    pub(crate) fn take(&self) -> BTreeSet<Key> {
        std::mem::take(&mut *self.pods.lock())
    }

    /// It is not done with these.
    pub(crate) fn put_back(&self, pods: impl IntoIterator<Item = Key>) {
        self.pods.lock().extend(pods);
    }
}

/// Whether it was changed since it was made. Of a first generation its first report says enough, and what is on its way
/// out says how it ends.
fn may_lack(pod: &Stored, spoke: &ClusterName) -> bool {
    let header = &pod.object.header;
    1 < header.generation && !header.deleting && node_of(pod) == Some(spoke.as_str())
}

/// Whether its status tells of an older generation than it has.
pub(crate) fn lacks(pod: &Stored) -> bool {
    let told = pod.object.value().ok();
    let told = told.and_then(|pod| pod.pointer("/status/observedGeneration")?.as_i64());
    told.unwrap_or_default() < pod.object.header.generation
}

/// The pod's generation when the spoke has surely seen it: what it holds is as new as the pod, or the pod never changed
/// since it was made.
pub(crate) fn seen(pod: &Value, reached: Revision) -> Option<i64> {
    let generation = pod.pointer("/metadata/generation").and_then(Value::as_i64)?;
    let revision = pod.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let revision: Revision = revision.and_then(|text| text.parse().ok())?;
    (generation <= 1 || revision <= reached).then_some(generation)
}

/// Puts it into a pod's status, and into the conditions that are the spoke's own.
pub(crate) fn put(status: &mut Value, generation: i64, is_own: impl Fn(&str) -> bool) {
    status["observedGeneration"] = json!(generation);
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition["type"].as_str().is_some_and(&is_own) {
            condition["observedGeneration"] = json!(generation);
        }
    }
}

/// Writes it into a pod as it is now, if the spoke holds all of that.
///
/// # Errors
/// When the pod is another one by now, or the store cannot write.
pub(crate) async fn write(
    objects: &Objects,
    identity: &SpokeIdentity,
    pod: &Stored,
    reached: Revision,
) -> Result<(), ApiError> {
    let (key, uid) = (&pod.key, &pod.object.header.uid);
    let place = object_ref(PODS, &key.cluster, &key.namespace, &key.name)?;
    let is_own =
        |kind: &str| told_by_spoke(kind).is_some_and(|it| it.owner == ConditionOwner::Spoke);
    let change = |mut value: Value| {
        is_here(&value, &identity.cluster, uid)?;
        if let Some(generation) = seen(&value, reached) {
            put(&mut value["status"], generation, is_own);
        }
        Ok(value)
    };
    objects.modify(&how(objects, identity), &place, Some("status"), change).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(generation: i64, revision: &str, reached: Revision, expected: Option<i64>) {
        let pod = json!({"metadata": {"generation": generation, "resourceVersion": revision}});
        assert_eq!(seen(&pod, reached), expected, "{pod} {reached}");
    }

    #[test]
    fn a_generation_is_observed_when_its_plan_is_acknowledged() {
        check(1, "70", 0, Some(1));
        check(2, "70", 69, None);
        check(2, "70", 70, Some(2));
        assert_eq!(seen(&json!({"metadata": {}}), 9), None);
        let mut status = json!({"conditions": [{"type": "PodScheduled"}, {"type": "Ready"}]});
        put(&mut status, 3, |kind| kind == "Ready");
        assert_eq!(status["observedGeneration"], 3);
        assert_eq!(status["conditions"][1]["observedGeneration"], 3);
        assert!(
            status["conditions"][0].get("observedGeneration").is_none(),
            "that is the scheduler's"
        );
    }
}
