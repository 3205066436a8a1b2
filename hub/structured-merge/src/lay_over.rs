//! What an admission policy lays over an object (`applyConfiguration`): as an apply merges, without owners.
//!
//! Guarantees:
//! - nothing that is owned as a whole is changed so, of which what is not said would go
//!   (`what_is_owned_as_a_whole_is_not_laid_over`).

use freewheel_hub_schema::truncated_text::REPEATED_BYTES_MAX;
use freewheel_hub_schema::types::Typed;
use serde_json::Value;

use crate::atom::TypeRef;
use crate::merge::merge;
use crate::ownership::{check_fits, root};

/// Places of what is owned as a whole that are told.
const WHOLES_MAX: usize = 100;

/// `patch` laid over `live`.
///
/// # Errors
/// Why it cannot be.
pub fn lay_over(typed: Typed<'_>, live: &Value, patch: &Value) -> Result<Value, String> {
    check_fits(typed, patch, false)
        .map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let mut wholes = Vec::new();
    find_wholes(root(typed), patch, &mut String::new(), &mut wholes);
    if !wholes.is_empty() {
        let wholes = wholes.join(", ");
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {wholes}"
        ));
    }
    check_fits(typed, live, true)
        .map_err(|why| format!("failed to convert original object to typed object: {why}"))?;
    Ok(merge(Some(live), Some(patch), root(typed)).unwrap_or_default())
}

fn tell(path: &str, found: &mut Vec<String>) {
    if found.len() < WHOLES_MAX {
        let short = &path[..path.floor_char_boundary(REPEATED_BYTES_MAX)];
        found.push(short.to_owned());
    }
}

/// Paths of what is owned as a whole.
fn find_wholes(typed: TypeRef<'_>, value: &Value, path: &mut String, found: &mut Vec<String>) {
    let (atom, length) = (typed.resolve(), path.len());
    if let (Value::Object(fields), Some(map)) = (value, &atom.map) {
        if map.atomic {
            tell(path, found);
        }
        for (key, value) in fields {
            path.push('.');
            path.push_str(key);
            find_wholes(map.at(key), value, path, found);
            path.truncate(length);
        }
    }
    if let (Value::Array(items), Some(list)) = (value, &atom.list) {
        if list.atomic {
            tell(path, found);
        }
        for (index, item) in items.iter().enumerate() {
            path.push_str(&format!("[{index}]"));
            find_wholes(list.element, item, path, found);
            path.truncate(length);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const POD: (&str, &str, &str) = ("", "v1", "Pod");

    fn pod() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "hello"}]}})
    }

    #[test]
    fn what_is_laid_over_is_merged_by_key() {
        let patch = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"b": "2"}},
            "spec": {"containers": [{"name": "c", "env": [{"name": "E", "value": "1"}]}],
                "initContainers": [{"name": "i", "image": "first"}]}});
        let laid = lay_over(POD.into(), &pod(), &patch).unwrap();
        assert_eq!(laid["metadata"]["labels"], json!({"a": "1", "b": "2"}));
        assert_eq!(laid["spec"]["containers"][0]["image"], "hello");
        assert_eq!(laid["spec"]["containers"][0]["env"][0]["name"], "E");
        assert_eq!(laid["spec"]["initContainers"][0]["name"], "i");
    }

    #[test]
    fn what_is_owned_as_a_whole_is_not_laid_over() {
        let args = json!({"apiVersion": "v1", "kind": "Pod",
            "spec": {"containers": [{"name": "c", "args": ["x"]}]}});
        let why = lay_over(POD.into(), &pod(), &args).unwrap_err();
        assert_eq!(
            why,
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.containers[0].args"
        );
        let unknown = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"wrong": 1}});
        let why = lay_over(POD.into(), &pod(), &unknown).unwrap_err();
        assert!(why.contains("field not declared in schema"), "{why}");
    }
}
