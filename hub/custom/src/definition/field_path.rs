//! A path from a value to a field of it, as rules name the one that is wrong (`fieldPath`): `.spec.a['b.c']`.
//!
//! Guarantees:
//! - a path leads through fields and keys that the schema has (`paths_lead_to_fields`).

use crate::schema::{Additional, Schema};

/// Whether a path leads to something in values of this schema. One that says nothing does.
pub(super) fn is_valid(path: &str, schema: &Schema) -> bool {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let Some((name, behind)) = step(rest) else { return false };
        // What is escaped in another way may be any name.
        if name.contains(['\\', '"']) {
            return true;
        }
        let found = if at.properties.is_empty() {
            match &at.additional {
                Additional::Of(each) => Some(&**each),
                // Of what they are nothing is known.
                Additional::Any => return true,
                Additional::None | Additional::Unsaid => None,
            }
        } else {
            at.properties.get(&name)
        };
        let Some(found) = found else { return false };
        (at, rest) = (found, behind);
    }
    true
}

/// The name that a path begins with, and what comes behind it.
fn step(path: &str) -> Option<(String, &str)> {
    if let Some(rest) = path.strip_prefix('.') {
        let (name, behind) = token(rest);
        return (!name.is_empty()).then(|| (name.to_owned(), behind));
    }
    let (quoted, behind) = token(path.strip_prefix('[')?);
    let name = quoted.strip_prefix('\'')?.strip_suffix('\'')?;
    Some((name.replace("\\'", "'"), behind.strip_prefix(']')?))
}

/// What is up to the next sign: one of these, a name, or what is quoted.
fn token(text: &str) -> (&str, &str) {
    let end = if text.starts_with('\'') {
        let closes = |at: &usize| text.as_bytes().get(at - 1) != Some(&b'\\');
        text.match_indices('\'').map(|(at, _)| at).skip(1).find(closes).map(|at| at + 1)
    } else if text.starts_with(['.', '[', ']']) {
        Some(1)
    } else {
        text.find(['.', '[', ']'])
    };
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        let schema = Schema::read(&json!({"type": "object", "properties": {
            "a": {"type": "object", "properties": {"b.c": {"type": "string"}, "it's": {"type": "string"}}},
            "m": {"type": "object", "additionalProperties": {"type": "object", "properties": {"x": {"type": "string"}}}},
            "any": {"type": "object", "additionalProperties": true},
            "l": {"type": "array", "items": {"type": "string"}},
        }}));
        for right in [
            "",
            ".a",
            ".a['b.c']",
            "['a']['b.c']",
            ".a['it\\'s']",
            ".m.key.x",
            ".m['k.y'].x",
            ".any.b",
        ] {
            assert!(is_valid(right, &schema), "{right}");
        }
        for wrong in [
            ".nothing", "a", ".", ".a.", ".a.b", "..a", ".a[b]", ".a['b.c'", ".a['b.c", "['a'",
            ".l[0]", ".l.x", ".m.key.y", ".a ", " ",
        ] {
            assert!(!is_valid(wrong, &schema), "{wrong}");
        }
    }
}
