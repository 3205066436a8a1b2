//! From client-side apply to server-side apply: the annotation in which kubectl keeps what it applied last.
//!
//! Both are kubectl's word, so that what the annotation says, and is still so, is no conflict for it; and the annotation
//! follows what is applied now, for who goes back.

use serde_json::Value;

use crate::atom::TypeRef;
use crate::compare::compare_as_said;
use crate::conflict::ConflictWith;
use crate::content;
use crate::mistakes;
use crate::scalar;
use crate::set::Set;

/// The only applier that this is about.
pub(crate) const KUBECTL: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Bytes of all annotations of an object at most.
const ANNOTATIONS_BYTES_MAX: usize = 256 << 10;

/// Conflicts that are left when kubectl applies; none means that it may be forced.
pub(crate) fn conflicts_left(
    conflicts: Vec<ConflictWith>,
    live: &Value,
    typed: TypeRef<'_>,
    api_version: &str,
) -> Vec<ConflictWith> {
    let Some(allowed) = allowed(live, typed, api_version) else { return conflicts };
    let left = |ConflictWith(mut one): ConflictWith| {
        one.fields.remove(&allowed);
        (!one.fields.is_empty()).then_some(ConflictWith(one))
    };
    conflicts.into_iter().filter_map(left).collect()
}

/// What was applied by the client and is still so.
fn allowed(live: &Value, typed: TypeRef<'_>, api_version: &str) -> Option<Set> {
    let last: Value = serde_json::from_str(annotation(live)?).ok()?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    for value in [live, &last] {
        if mistakes::of(value, typed, false).message().is_some() {
            return None;
        }
    }
    let mut set = content::of(&last, typed);
    let comparison = compare_as_said(&last, live, typed);
    for other in [&comparison.modified, &comparison.added, &comparison.removed] {
        set.remove(other);
    }
    Some(set)
}

fn annotation(object: &Value) -> Option<&str> {
    let text = object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str();
    text.filter(|text| !text.is_empty())
}

/// Says what kubectl has applied now, where the annotation is kept.
pub(crate) fn follow(object: &mut Value, config: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut config = config.clone();
    if let Some(meta) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        match meta.get_mut("annotations").and_then(Value::as_object_mut) {
            Some(annotations) => {
                annotations.remove(ANNOTATION);
                // Go reads them as texts.
                let nulls = annotations.values_mut().filter(|value| value.is_null());
                nulls.for_each(|value| *value = Value::String(String::new()));
            }
            None => drop(meta.remove("annotations")),
        }
    }
    let Some(annotations) =
        object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut)
    else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(scalar::json(&config) + "\n"));
    let bytes: usize =
        annotations.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if ANNOTATIONS_BYTES_MAX < bytes {
        annotations.remove(ANNOTATION);
    }
}
