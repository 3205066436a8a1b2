//! What a namespace allows: content while it is there and not going away, an end when it is empty.

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::{Kind, Trait};
use freewheel_hub_api::object::{Key, Resource};
use serde_json::{Value, json};

use super::{Place, refusal};
use freewheel_hub_store::{Expect, Snapshot};

/// Namespaces that every cluster needs.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// New content needs its namespace: what must still hold when it commits.
pub(super) fn admit(snapshot: &dyn Snapshot, place: &Place) -> Result<Option<Expect>, ApiError> {
    if !place.kind.namespaced {
        return Ok(None);
    }
    let key = Key::new(&Resource::new("", "namespaces"), &place.cluster, "", &place.namespace);
    let Some(found) = snapshot.get(&key) else { return Err(missing(place)) };
    if found.object.header.deleting {
        return Err(refusal::namespace_terminating(place));
    }
    // It begins to go by a write: whoever is faster goes first.
    Ok(Some(Expect::Revision(key, found.revision)))
}

/// 404 for the namespace of the place.
fn missing(place: &Place) -> ApiError {
    ApiError::not_found("", "namespaces", &place.namespace)
}

/// Some namespaces may not be deleted.
pub(super) fn check_mortal(place: &Place) -> Result<(), ApiError> {
    if place.kind.has(Trait::HasContent) && IMMORTAL.contains(&place.name.as_str()) {
        return Err(refusal::forbidden(place, "this namespace may not be deleted"));
    }
    Ok(())
}

/// Whether content still has to be taken out of it (`spec.finalizers`).
pub(super) fn has_content(object: &Value, kind: &Kind) -> bool {
    let list = object.pointer("/spec/finalizers").and_then(Value::as_array);
    kind.has(Trait::HasContent) && list.is_some_and(|list| !list.is_empty())
}

/// A namespace that is told to go says so.
pub(super) fn close(object: &mut Value, kind: &Kind) {
    if !kind.has(Trait::HasContent) {
        return;
    }
    let Some(top) = object.as_object_mut() else { return };
    let status = top.entry("status").or_insert_with(|| json!({}));
    if let Some(status) = status.as_object_mut() {
        status.insert("phase".to_owned(), json!("Terminating"));
    }
}

/// The `finalize` subresource: `spec.finalizers` of `asked` on everything else of `old`.
pub(super) fn finalize(asked: &Value, old: &Value) -> Value {
    let mut new = old.clone();
    let list = asked.pointer("/spec/finalizers").filter(|list| **list != json!([]));
    if let Some(top) = new.as_object_mut() {
        let spec = top.entry("spec").or_insert_with(|| json!({}));
        if let Some(spec) = spec.as_object_mut() {
            match list {
                Some(list) => spec.insert("finalizers".to_owned(), list.clone()),
                None => spec.remove("finalizers"),
            };
        }
    }
    new
}
