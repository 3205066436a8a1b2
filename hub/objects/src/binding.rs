//! Bindings: a pod gets its node, by the scheduler or by whoever stands in for it.
//!
//! Guarantees:
//! - a pod is bound once, and not on its way out (`a_pod_is_bound_once`);
//! - nor when what its node was chosen for is gone (`a_pod_is_not_bound_to_what_is_gone`).

use freewheel_hub_api::conditions::{Condition, POD_SCHEDULED};
use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_hub_schema::uid::Uid;
use serde_json::{Value, json};

use super::{Action, ObjectRef, Objects, Verb, WriteOptions, Written, meta, refusal};

/// What a pod is told.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// Its node.
    pub node: &'a str,
    /// The pod that is meant; whichever has the name, when it is not said.
    pub uid: Option<&'a Uid>,
    /// `metadata` of the binding, whose labels and annotations become the pod's.
    pub metadata: &'a Value,
    /// It was posted to `bindings`, and not to the pod's own door.
    pub is_named: bool,
}

impl Objects {
    /// Binds the pod in this place. Rules are asked about the binding, and not about what it changes of the pod.
    ///
    /// # Errors
    /// 409 when it is bound, is being deleted or is another one; and as [`Objects::admit`] and [`Objects::modify`].
    pub async fn bind(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        binding: &Binding<'_>,
    ) -> Result<Written, ApiError> {
        let (place, subresource) = match binding.is_named {
            true => (ObjectRef { kind: kinds::binding().clone(), ..target.clone() }, None),
            false => (target.clone(), Some("binding")),
        };
        let action = Action { verb: Verb::Create, subresource, object: binding.object(target) };
        let object = self.admit(how, &place, action, check).await?;
        let now = time::from_unix(self.clock.unix_seconds());
        let node = object.pointer("/target/name").and_then(Value::as_str).unwrap_or_default();
        let binding = Binding { node, metadata: &object["metadata"], ..*binding };
        let change = |pod: Value| binding.bound(pod, target, &now);
        self.modify(how, target, Some("binding"), change).await
    }
}

/// Whoever may change a binding leaves it one.
fn check(binding: Value) -> Result<Value, ApiError> {
    match binding.pointer("/target/name").and_then(Value::as_str) {
        Some(node) if !node.is_empty() => Ok(binding),
        Some(_) | None => Err(ApiError::bad_request("a binding has to name a node in target.name")),
    }
}

impl Binding<'_> {
    /// As core/v1 has it.
    fn object(&self, target: &ObjectRef) -> Value {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Binding",
            "metadata": {"name": target.name, "namespace": target.namespace.as_str()},
            "target": {"kind": "Node", "name": self.node},
        });
        for key in ["annotations", "labels"] {
            if let Some(own) = self.metadata.get(key).filter(|own| own.is_object()) {
                object["metadata"][key] = own.clone();
            }
        }
        if let Some(uid) = self.uid {
            object["metadata"]["uid"] = json!(uid.as_str());
        }
        object
    }

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
        Condition::new(&POD_SCHEDULED, true, "", "").put_on_pod(&mut pod, now);
        Ok(pod)
    }
}
