//! Sets as `fieldsV1` holds them, and questions that are answered without reading one.
//!
//! ```text
//! {"f:spec": {"f:ports": {".": {}, "k:{\"port\":80}": {".": {}, "f:port": {}}}}}
//! ```
//!
//! Guarantees:
//! - what was written is read again, and what a later version may write is left out
//!   (`a_set_is_written_as_it_was_read`).

use serde_json::{Map, Value};

use crate::path::{NotAStep, PathElement};
use crate::set::{Node, Set};

/// The mark of what is in a set beside what is inside of it.
const ITSELF: &str = ".";

/// It is no set.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("parsing key as path element: {0:?}")]
pub(crate) struct NotASet(String);

/// A set from `fieldsV1`.
pub(crate) fn read(fields: &Map<String, Value>) -> Result<Set, NotASet> {
    let mut out = Set::default();
    for (key, inner) in fields {
        if key == ITSELF {
            continue;
        }
        let step = match PathElement::read(key) {
            Ok(step) => step,
            Err(NotAStep::Unknown) => continue,
            Err(NotAStep::Broken) => return Err(NotASet(key.clone())),
        };
        let children = inner.as_object().map(read).transpose()?.unwrap_or_default();
        let member = children.nodes.is_empty() || inner.get(ITSELF).is_some();
        out.nodes.insert(step, Node { member, children });
    }
    Ok(out)
}

/// A set as `fieldsV1`.
pub(crate) fn write(set: &Set) -> Map<String, Value> {
    let mut out = Map::new();
    for (step, node) in &set.nodes {
        let mut inner = write(&node.children);
        if node.member && !inner.is_empty() {
            inner.insert(ITSELF.to_owned(), Value::Object(Map::new()));
        }
        if node.member || !inner.is_empty() {
            out.insert(step.text(), Value::Object(inner));
        }
    }
    out
}

/// Whether something is in both.
pub(crate) fn touches(fields: &Map<String, Value>, set: &Set) -> bool {
    if fields.len() < set.nodes.len() {
        return fields.iter().any(|(key, inner)| {
            let (Ok(step), Value::Object(inner)) = (PathElement::read(key), inner) else {
                return false;
            };
            let node = set.nodes.get(&step);
            node.is_some_and(|node| {
                (node.member && is_member(inner)) || touches(inner, &node.children)
            })
        });
    }
    set.nodes.iter().any(|(step, node)| {
        let Some(Value::Object(inner)) = fields.get(&step.text()) else { return false };
        (node.member && is_member(inner)) || touches(inner, &node.children)
    })
}

/// Whether all of the set is in `fieldsV1`.
pub(crate) fn has_all(fields: &Map<String, Value>, set: &Set) -> bool {
    set.nodes.iter().all(|(step, node)| {
        let Some(Value::Object(inner)) = fields.get(&step.text()) else {
            return !node.member && node.children.is_empty();
        };
        (!node.member || is_member(inner)) && has_all(inner, &node.children)
    })
}

fn is_member(inner: &Map<String, Value>) -> bool {
    inner.is_empty() || inner.contains_key(ITSELF)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else { panic!("no object") };
        map
    }

    #[test]
    fn a_set_is_written_as_it_was_read() {
        let text = fields(json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}},
                "f:finalizers": {"v:\"x\"": {}}},
        }));
        assert_eq!(write(&read(&text).unwrap()), text);
        let later = fields(json!({"f:a": {}, "z:1": {"f:b": {}}, "f:c": {".": {}}}));
        assert_eq!(write(&read(&later).unwrap()), fields(json!({"f:a": {}, "f:c": {}})));
        assert!(read(&fields(json!({"a": {}}))).is_err());
    }

    #[test]
    fn a_set_is_looked_up_without_reading_it() {
        let text = fields(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {"f:d": {}}}));
        for (paths, touched, has) in [
            (&[&["a"][..]][..], true, true),
            (&[&["a", "b"]], true, true),
            (&[&["c"]], false, false),
            (&[&["c", "d"], &["a", "x"]], true, false),
            (&[&["x"]], false, false),
        ] {
            let set = Set::of_fields(paths);
            assert_eq!((touches(&text, &set), has_all(&text, &set)), (touched, has), "{paths:?}");
        }
    }
}
