//! The metadata that the server owns, on the way in.
//!
//! Guarantees:
//! - uid, creationTimestamp, generation, deletionTimestamp and deletionGracePeriodSeconds are never taken from a
//!   writer (`a_new_object_gets_what_the_server_owns`, `the_server_keeps_what_it_owns`).

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::{name, time};
use serde_json::{Map, Value, json};

use super::ObjectRef;
use crate::clock::{Clock, Random};
use freewheel_hub_store::Revision;

/// What a writer may not set.
const SERVERS_OWN: [&str; 6] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "resourceVersion",
    "uid",
];

/// The object's metadata, made when it is missing.
pub(super) fn of(value: &mut Value) -> Result<&mut Map<String, Value>, ApiError> {
    let top = value.as_object_mut().ok_or_else(|| ApiError::bad_request("not an object"))?;
    let meta = top.entry("metadata").or_insert_with(|| json!({}));
    meta.as_object_mut().ok_or_else(|| ApiError::bad_request("metadata: not an object"))
}

/// `metadata.<key>` as text, empty when unset.
pub(super) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get("metadata").and_then(|meta| meta.get(key)?.as_str()).unwrap_or_default()
}

/// `metadata.<key>` as a number.
pub(super) fn number(value: &Value, key: &str) -> Option<i64> {
    value.get("metadata").and_then(|meta| meta.get(key)?.as_i64())
}

/// `metadata.finalizers`.
pub(super) fn finalizers(value: &Value) -> Vec<String> {
    let list = value.get("metadata").and_then(|meta| meta.get("finalizers")?.as_array());
    list.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The resourceVersion that the writer wants to replace; none means whatever is there.
pub(super) fn wanted_revision(value: &Value) -> Result<Option<Revision>, ApiError> {
    match text(value, "resourceVersion") {
        "" | "0" => Ok(None),
        version => version.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "invalid resource version: resourceVersion: Invalid value: {version:?}: \
                 strconv.ParseUint: parsing {version:?}: invalid syntax"
            ))
        }),
    }
}

/// Type, namespace and name must agree with the place; what is missing is filled in.
pub(super) fn settle(value: &mut Value, target: &ObjectRef) -> Result<(), ApiError> {
    let kind = &target.kind;
    let top = value.as_object_mut().ok_or_else(|| ApiError::bad_request("not an object"))?;
    for (key, ours) in [("apiVersion", kind.api_version()), ("kind", kind.kind())] {
        match top.get(key).and_then(Value::as_str) {
            Some(theirs) if theirs == ours => {}
            None | Some("") => {
                top.insert(key.to_owned(), ours.into());
            }
            Some(theirs) => {
                return Err(ApiError::bad_request(format!(
                    "{key} in the data ({theirs}) does not match the expected {key} ({ours})"
                )));
            }
        }
    }
    let meta = of(value)?;
    let namespace = meta.get("namespace").and_then(Value::as_str).unwrap_or_default();
    if kind.namespaced && namespace.is_empty() {
        meta.insert("namespace".to_owned(), json!(target.namespace));
    } else if kind.namespaced && namespace != target.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    } else if !kind.namespaced {
        meta.remove("namespace");
    }
    let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() && !target.name.is_empty() {
        meta.insert("name".to_owned(), json!(target.name));
    } else if !target.name.is_empty() && name != target.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// A new object has nothing yet of what the server owns.
pub(super) fn wipe(value: &mut Value) -> Result<(), ApiError> {
    let meta = of(value)?;
    if meta.get("resourceVersion").and_then(Value::as_str).is_some_and(|v| !v.is_empty()) {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    SERVERS_OWN.iter().for_each(|key| drop(meta.remove(*key)));
    Ok(())
}

/// Metadata of a birth: generated name, UID, time, first generation. Answers whether it made up the
/// name.
pub(super) fn stamp(
    value: &mut Value,
    kind: &Kind,
    clock: &dyn Clock,
    chance: &dyn Random,
) -> Result<bool, ApiError> {
    let meta = of(value)?;
    let random = chance.bytes();
    let named = meta.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    let base = meta.get("generateName").and_then(Value::as_str).filter(|base| !base.is_empty());
    let base = base.filter(|_| !named);
    let generated = base.is_some();
    if let Some(base) = base {
        let [.., a, b, c, d, e] = chance.bytes();
        let name = name::generate(base, [a, b, c, d, e]);
        meta.insert("name".to_owned(), Value::String(name));
    }
    let uid = uuid::Builder::from_random_bytes(random).into_uuid().hyphenated().to_string();
    meta.insert("uid".to_owned(), Value::String(uid));
    let now = time::from_unix(clock.unix_seconds());
    meta.insert("creationTimestamp".to_owned(), Value::String(now));
    if !kind.has(Trait::CountsNoGeneration) {
        meta.insert("generation".to_owned(), json!(1));
    }
    Ok(generated)
}

/// Metadata of a change: everything the server owns stays as it is in `old`.
pub(super) fn keep_servers_own(new: &mut Value, old: &Value) -> Result<(), ApiError> {
    let old = old.get("metadata").and_then(Value::as_object);
    let meta = of(new)?;
    for key in SERVERS_OWN.into_iter().chain(["generateName"]) {
        match old.and_then(|old| old.get(key)) {
            Some(value) => {
                meta.insert(key.to_owned(), value.clone());
            }
            None => drop(meta.remove(key)),
        }
    }
    meta.remove("resourceVersion");
    Ok(())
}

/// Counts the generation up when what the user asks for has changed. A binding is the scheduler's
/// answer to that, not another question.
pub(super) fn count_generation(
    subresource: Option<&str>,
    new: &mut Value,
    old: &Value,
    kind: &Kind,
) -> Result<(), ApiError> {
    let answer = matches!(subresource, Some("binding" | "status" | "approval" | "finalize"));
    let fixed = [Trait::CountsNoGeneration, Trait::CountsOneGeneration];
    if answer || fixed.iter().any(|one| kind.has(*one)) || !asks_for_else(new, old, kind) {
        return Ok(());
    }
    let next = number(old, "generation").unwrap_or_default() + 1;
    of(new)?.insert("generation".to_owned(), json!(next));
    Ok(())
}

fn asks_for_else(new: &Value, old: &Value, kind: &Kind) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else { return true };
    let asked = |map: &Map<String, Value>, key: &str| {
        let counts = match key {
            "metadata" | "apiVersion" | "kind" => false,
            "status" => kind.has(Trait::CountsStatus),
            _ => true,
        };
        counts && map.contains_key(key)
    };
    let changed = |key: &String| asked(new, key) && new.get(key) != old.get(key);
    let removed = |key: &String| asked(old, key) && !new.contains_key(key);
    let annotations = kind.has(Trait::CountsAnnotations)
        && new.get("metadata").and_then(|m| m.get("annotations"))
            != old.get("metadata").and_then(|m| m.get("annotations"));
    new.keys().any(changed) || old.keys().any(removed) || annotations
}
