//! A merge patch (RFC 7386) of an object: `DOCUMENT PATCH`.

use freewheel_hub_schema::{depth, patch};
use serde_json::Value;

use crate::{object, parts};

/// It is refused, or does what the RFC says, and once.
pub(crate) fn run(bytes: &[u8]) {
    let [document, patch] = parts::parts(bytes);
    let Some(document) = parts::object(document) else { return };
    drop(patch::strict(patch, false));
    let patched = match patch::merge(&document, patch) {
        Ok(patched) => patched,
        Err(error) => return object::refused(&error, bytes),
    };
    assert!(depth::check(&patched).is_ok(), "too deep");
    let Some(said) = parts::object(patch) else { return };
    assert_eq!(patched, merged(Some(&document), &said), "not what RFC 7386 says");
    assert_eq!(patch::merge(&patched, patch).ok().as_ref(), Some(&patched), "twice is not once");
}

/// The RFC's own words (section 2).
fn merged(target: Option<&Value>, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut out = target.and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, value) in patch {
        if value.is_null() {
            out.remove(name);
        } else {
            let value = merged(out.get(name), value);
            out.insert(name.clone(), value);
        }
    }
    Value::Object(out)
}
