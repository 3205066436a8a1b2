//! Bindings: a pod gets its node, by the scheduler or by whoever stands in for it.
//!
//! Guarantees:
//! - a pod is bound once, and not on its way out (`a_pod_is_bound_once`);
//! - nor when what its node was chosen for is gone (`a_pod_is_not_bound_to_what_is_gone`).

use freewheel_hub_api::conditions::{Condition, POD_SCHEDULED};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_hub_schema::uid::Uid;
use serde_json::{Value, json};

use super::{ObjectRef, Objects, WriteOptions, Written, meta, refusal};

/// What a pod is told.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Its node.
    pub node: &'a str,
    /// The pod that is meant; whichever has the name, when it is not said.
    pub uid: Option<&'a Uid>,
    /// `metadata` of the binding, whose labels and annotations become the pod's.
    pub metadata: &'a Value,
}

impl Objects {
    /// Binds the pod in this place.
    ///
    /// # Errors
    /// 409 when it is bound, is being deleted or is another one; and as [`Objects::modify`].
    pub async fn bind(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        binding: &Binding<'_>,
    ) -> Result<Written, ApiError> {
        let now = time::from_unix(self.clock.unix_seconds());
        let change = |pod: Value| binding.bound(pod, target, &now);
        self.modify(how, target, Some("binding"), change).await
    }
}

impl Binding<'_> {
    fn bound(&self, mut pod: Value, target: &ObjectRef, now: &str) -> Result<Value, ApiError> {
        let name = &target.name;
        let conflict = |why: String| ApiError::conflict("", "pods/binding", name, &why);
        let found = meta::text(&pod, "uid");
        if let Some(wanted) = self.uid.filter(|wanted| wanted.as_str() != found) {
            return Err(refusal::other_uid(target, wanted, found));
        }
        if pod.pointer("/metadata/deletionTimestamp").is_some() {
            let why = format!("pod {name} is being deleted, cannot be assigned to a host");
            return Err(conflict(why));
        }
        if let Some(taken) = pod.pointer("/spec/nodeName").and_then(Value::as_str)
            && !taken.is_empty()
        {
            return Err(conflict(format!("pod {name} is already assigned to node {taken:?}")));
        }
        pod["spec"]["nodeName"] = json!(self.node);
        for key in ["annotations", "labels"] {
            let more = self.metadata.get(key).and_then(Value::as_object);
            for (key_of, value) in more.into_iter().flatten() {
                pod["metadata"][key][key_of] = value.clone();
            }
        }
        let observed = meta::number(&pod, "generation");
        let scheduled = Condition { observed, ..Condition::new(&POD_SCHEDULED, true, "", "") };
        scheduled.put(&mut pod["status"]["conditions"], now);
        Ok(pod)
    }
}
