//! How a namespace ends: when it is empty. That nothing new comes in meanwhile is admission's.

use freewheel_hub_schema::kind::{Kind, Trait};
use serde_json::{Value, json};

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
