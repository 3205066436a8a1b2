//! What of a manifest is left to others, once its object is there.
//!
//! Guarantees:
//! - a path leads to every place that it names, and one that leads nowhere takes nothing away
//!   (`what_is_named_is_taken_out`).

use std::collections::BTreeSet;

use freewheel_hub_custom::json_path::JsonPath;
use serde_json::Value;

use super::IgnoreField;

/// What names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("JSON Pointer error in '{pointer}': {why}")]
pub struct NotAPointer {
    pointer: String,
    why: &'static str,
}

/// A manifest without what is left to others as soon as its object is there.
///
/// # Errors
/// When a pointer is none.
pub fn without(manifest: &Value, ignored: &[IgnoreField]) -> Result<Value, NotAPointer> {
    let mut out = manifest.clone();
    for field in ignored.iter().filter(|it| it.condition != "OnSpokeChange") {
        for path in &field.json_paths {
            remove_path(&mut out, path);
        }
        for pointer in &field.json_pointers {
            remove_pointer(&mut out, pointer)?;
        }
    }
    Ok(out)
}

/// Takes out what a path names: its last part, of all maps that the rest leads to.
fn remove_path(manifest: &mut Value, path: &str) {
    let Some((parents, last)) = path.rsplit_once('.') else { return };
    let parents = if parents.is_empty() {
        vec![String::new()]
    } else {
        let Some(parents) = JsonPath::read(parents) else { return };
        let wanted: BTreeSet<*const Value> =
            parents.all(manifest).into_iter().map(std::ptr::from_ref).collect();
        let mut found = Vec::new();
        find(manifest, &wanted, String::new(), &mut found);
        found
    };
    for parent in parents {
        let map = manifest.pointer_mut(&parent).and_then(Value::as_object_mut);
        map.and_then(|map| map.remove(last));
    }
}

/// Where these values are.
fn find(value: &Value, wanted: &BTreeSet<*const Value>, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                find(inner, wanted, format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                find(inner, wanted, format!("{at}/{i}"), found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if wanted.contains(&std::ptr::from_ref(value)) {
        found.push(at);
    }
}

fn remove_pointer(manifest: &mut Value, pointer: &str) -> Result<(), NotAPointer> {
    let wrong = |why| NotAPointer { pointer: pointer.to_owned(), why };
    if !pointer.starts_with('/') {
        return Err(wrong("it does not begin with a slash"));
    }
    let Some((parent, last)) = pointer.rsplit_once('/') else { return Ok(()) };
    match manifest.pointer_mut(parent) {
        Some(Value::Object(map)) => {
            map.remove(&last.replace("~1", "/").replace("~0", "~"));
        }
        Some(Value::Array(items)) => {
            let at: usize = last.parse().map_err(|_| wrong("it names no place of a list"))?;
            if at < items.len() {
                items.remove(at);
            }
        }
        // It leads nowhere.
        Some(_) | None => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_named_is_taken_out() {
        let manifest = json!({"metadata": {"annotations": {"a/b": "1", "c": "2"}},
            "spec": {"replicas": 3, "containers": [{"name": "x", "image": "1"}, {"name": "y", "image": "2"}]}});
        let ignored = |paths: &[&str], pointers: &[&str]| {
            let all = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
            let condition = "OnSpokePresent".to_owned();
            vec![IgnoreField { condition, json_paths: all(paths), json_pointers: all(pointers) }]
        };
        let paths = [".spec.replicas", ".spec.containers[*].image", ".nothing.here", "none"];
        let left = without(&manifest, &ignored(&paths, &[])).unwrap();
        assert_eq!(left["spec"], json!({"containers": [{"name": "x"}, {"name": "y"}]}));
        let pointers = ["/metadata/annotations/a~1b", "/spec/containers/0", "/no/where"];
        let left = without(&manifest, &ignored(&[], &pointers)).unwrap();
        assert_eq!(left["metadata"]["annotations"], json!({"c": "2"}));
        assert_eq!(left["spec"]["containers"], json!([{"name": "y", "image": "2"}]));
        assert_eq!(without(&manifest, &ignored(&[".spec"], &[])).unwrap()["spec"], Value::Null);
        let wrong = without(&manifest, &ignored(&[], &["spec"])).unwrap_err();
        assert_eq!(
            wrong.to_string(),
            "JSON Pointer error in 'spec': it does not begin with a slash"
        );
        let mut later = ignored(&[".spec"], &[]);
        later[0].condition = "OnSpokeChange".to_owned();
        assert_eq!(without(&manifest, &later).unwrap(), manifest);
    }
}
