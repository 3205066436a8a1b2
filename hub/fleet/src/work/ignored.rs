//! What of a manifest is left to others, once its object is there.
//!
//! Guarantees:
//! - a path leads to every place that it names, and one that leads nowhere takes nothing away
//!   (`what_is_named_is_taken_out`);
//! - a pointer to an item that a list does not have is a mistake, as upstream (`what_a_list_does_not_have_is_told`).

use std::collections::BTreeSet;

use freewheel_hub_custom::json_path::JsonPath;
use serde_json::Value;

use super::IgnoreField;

/// What names no place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongPath {
    /// It is no pointer.
    #[error("JSON Pointer error in '{0}': it does not begin with a slash")]
    NoPointer(String),
    /// Its last part leads into a list, and is no number.
    #[error("JSON Pointer error in '{pointer}': {part:?} names no place of a list")]
    NoIndex {
        /// The pointer.
        pointer: String,
        /// Its last part.
        part: String,
    },
    /// Its last part leads into a list that has not so many items.
    #[error("JSON Pointer error in '{pointer}': invalid index {at} of a list of {length}")]
    NoItem {
        /// The pointer.
        pointer: String,
        /// Which item.
        at: i64,
        /// How many there are.
        length: usize,
    },
}

/// A manifest without what is left to others as soon as its object is there.
///
/// # Errors
/// When a pointer is none, or names an item that a list does not have.
pub fn without(manifest: &Value, ignored: &[IgnoreField]) -> Result<Value, WrongPath> {
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

/// Takes out what a pointer names. In a list a number below zero counts from the end, as in upstream's library.
fn remove_pointer(manifest: &mut Value, pointer: &str) -> Result<(), WrongPath> {
    let Some(path) = pointer.strip_prefix('/') else {
        return Err(WrongPath::NoPointer(pointer.to_owned()));
    };
    let (parents, last) = path.rsplit_once('/').map_or((None, path), |(all, it)| (Some(all), it));
    let mut parent = manifest;
    for part in parents.into_iter().flat_map(|all| all.split('/')) {
        let inner = match parent {
            Value::Object(map) => map.get_mut(&unescaped(part)),
            Value::Array(items) => {
                let at = part.parse::<i64>().ok().and_then(|at| place(at, items.len()));
                items.get_mut(at.unwrap_or(usize::MAX))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        // It leads nowhere.
        let Some(inner) = inner else { return Ok(()) };
        parent = inner;
    }
    let pointer = || pointer.to_owned();
    match parent {
        Value::Object(map) => drop(map.remove(&unescaped(last))),
        Value::Array(items) => {
            let no_index = |_| WrongPath::NoIndex { pointer: pointer(), part: last.to_owned() };
            let (at, length) = (last.parse::<i64>().map_err(no_index)?, items.len());
            let no_item = || WrongPath::NoItem { pointer: pointer(), at, length };
            items.remove(place(at, length).ok_or_else(no_item)?);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    Ok(())
}

fn unescaped(part: &str) -> String {
    part.replace("~1", "/").replace("~0", "~")
}

/// Which item of so many is meant.
fn place(at: i64, length: usize) -> Option<usize> {
    let distance = usize::try_from(at.unsigned_abs()).ok()?;
    let place = if at < 0 { length.checked_sub(distance)? } else { distance };
    (place < length).then_some(place)
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

    #[test]
    fn what_a_list_does_not_have_is_told() {
        let manifest = json!({"items": [{"a": 1}, {"a": 2}, {"a": 3}], "a": "text"});
        let left = |pointer: &str| {
            let ignored = IgnoreField {
                condition: "OnSpokePresent".to_owned(),
                json_paths: Vec::new(),
                json_pointers: vec![pointer.to_owned()],
            };
            without(&manifest, &[ignored]).map(|it| it["items"].clone())
        };
        for (pointer, why) in [
            ("/items/3", "invalid index 3 of a list of 3"),
            ("/items/-4", "invalid index -4 of a list of 3"),
            ("/items/x", "\"x\" names no place of a list"),
            ("/items/-", "\"-\" names no place of a list"),
        ] {
            let told = format!("JSON Pointer error in '{pointer}': {why}");
            assert_eq!(left(pointer).unwrap_err().to_string(), told);
        }
        assert_eq!(left("/items/-1").unwrap(), json!([{"a": 1}, {"a": 2}]));
        assert_eq!(left("/items/-3/a").unwrap(), json!([{}, {"a": 2}, {"a": 3}]));
        // What lies beyond what is not there is not there either.
        for pointer in ["/items/3/a", "/items/x/a", "/a/b/c", "/items/0/b"] {
            assert_eq!(left(pointer).unwrap(), manifest["items"], "{pointer}");
        }
    }
}
