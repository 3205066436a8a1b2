//! Puts `metadata.resourceVersion` into what is stored, with and without parsing it.

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use freewheel_hub_store::{Revision, Stored};

/// The object as JSON in its stored version with its `metadata.resourceVersion` (none at revision 0:
/// a dry run's).
///
/// # Errors
/// When the store held something that is no JSON: an internal error.
pub fn stored_value(stored: &Stored) -> Result<Value, ApiError> {
    let mut value = stored.object.value()?;
    put_version(&mut value, stored.revision);
    Ok(value)
}

fn put_version(value: &mut Value, revision: Revision) {
    if revision != 0
        && let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        meta.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    }
}

/// As [`stored_value`], but as bytes and without parsing the body.
#[must_use]
pub fn stored_bytes(stored: &Stored) -> Bytes {
    stored_bytes_at(stored, stored.revision)
}

/// As [`stored_bytes`] with another revision: a watch tells of a removed object at the revision of
/// its removal.
#[must_use]
pub fn stored_bytes_at(stored: &Stored, revision: Revision) -> Bytes {
    let body = &stored.object.body;
    let Some(at) = place_for_version(body).filter(|_| revision != 0) else {
        return body.clone();
    };
    let text = format!("\"resourceVersion\":\"{revision}\"");
    let (head, tail) = body.split_at(at);
    let mut out = Vec::with_capacity(body.len() + text.len() + 1);
    out.extend_from_slice(head);
    if head.last() != Some(&b'{') && head.last() != Some(&b',') {
        out.push(b',');
    }
    out.extend_from_slice(text.as_bytes());
    if tail.first() == Some(&b'"') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
    out.into()
}

/// Where in the top object's `metadata` the key belongs by order. Bodies are compact and sorted.
fn place_for_version(body: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        let (key, value) = key_at(body, at)?;
        if key == b"metadata" {
            return place_in(body, value + 1);
        }
        at = skip_value(body, value)? + 1;
    }
}

fn place_in(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        if body.get(at) == Some(&b'}') {
            return Some(at);
        }
        let (key, value) = key_at(body, at)?;
        if b"resourceVersion".as_slice() < key {
            return Some(at);
        }
        at = skip_value(body, value)?;
        if body.get(at) == Some(&b',') {
            at += 1;
        }
    }
}

/// The key that starts at `at`, and where its value starts.
fn key_at(body: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let end = skip_string(body, at)?;
    (body.get(end) == Some(&b':')).then_some((body.get(at + 1..end - 1)?, end + 1))
}

/// Past the string whose opening quote is at `at`.
fn skip_string(body: &[u8], at: usize) -> Option<usize> {
    if body.get(at) != Some(&b'"') {
        return None;
    }
    let mut from = at + 1;
    loop {
        let quote = from + memchr::memchr2(b'"', b'\\', body.get(from..)?)?;
        if body.get(quote) == Some(&b'"') {
            return Some(quote + 1);
        }
        from = quote + 2;
    }
}

/// Past the value that starts at `at`: the comma or bracket after it.
fn skip_value(body: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match body.get(at)? {
            b'"' => {
                at = skip_string(body, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b',' if depth == 0 => return Some(at),
            b'}' | b']' if depth == 0 => return Some(at),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freewheel_hub_schema::object::{Key, Object, Resource};
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(value: Value) {
        let resource = Resource::new("", "configmaps");
        let key = Key::new(&resource, &ClusterName::root(), "default", "a");
        let object = Object::from_value(value, BTreeMap::new()).unwrap();
        let stored = Stored { key, object, revision: 42, created: 7 };
        let expected = serde_json::to_vec(&stored_value(&stored).unwrap()).unwrap();
        let bytes = stored_bytes(&stored);
        assert_eq!(String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn the_revision_lands_where_parsing_would_put_it() {
        check(json!({"metadata": {}}));
        check(json!({"metadata": {"name": "a"}}));
        check(json!({"metadata": {"uid": "u"}}));
        check(json!({"metadata": {"name": "a", "uid": "u"}, "spec": {"x": [1, {"y": "}"}]}}));
        check(json!({"kind": "X", "data": {"metadata": "{\"uid\":"}, "metadata": {"name": "a"}}));
        check(json!({"a": {"metadata": {"uid": "no"}}, "metadata": {"name": "\\\"", "uid": "u"}}));
        check(json!({"a": [], "b": {}, "c": true, "d": "\u{1F600}\n\\", "metadata": {"uid": ""}}));
    }

    #[test]
    fn a_dry_runs_object_has_no_revision() {
        let resource = Resource::new("", "configmaps");
        let key = Key::new(&resource, &ClusterName::root(), "default", "a");
        let object =
            Object::from_value(json!({"metadata": {"uid": "u"}}), BTreeMap::new()).unwrap();
        let stored = Stored { key, object, revision: 0, created: 0 };
        assert_eq!(stored_bytes(&stored), stored.object.body);
        assert!(stored_value(&stored).unwrap()["metadata"].get("resourceVersion").is_none());
    }
}
