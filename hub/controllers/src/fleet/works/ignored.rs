//! Server-side apply that leaves fields to others: what is applied is known by its digest, which the object keeps.
//!
//! As upstream a manifest with `ignoreFields` is applied when it changes, or its digest is gone, and only then: what others
//! change meanwhile stays until then, also in fields that are not left to them. Only owners are put at once.
//!
//! Guarantees:
//! - a manifest of a wrong form stays one, and is told of (`a_digest_is_put_where_there_is_a_place_for_it`,
//!   `a_manifest_of_a_wrong_form_is_told_of`).

use freewheel_hub_fleet::work::ServerSideApply;
use freewheel_hub_fleet::work::ignored::{WrongPath, without};
use freewheel_hub_store::Stored;
use freewheel_link::digest::Digest;
use serde_json::{Value, json};

/// Annotation of what was applied: the digest of what was asked for, without what is left to others.
const HASH: &str = "open-cluster-management.io/config-spec-hash";

/// What is to be applied of a manifest; nothing, when that was applied already.
pub(super) fn to_apply(
    manifest: Value,
    apply: Option<&ServerSideApply>,
    there: Option<&Stored>,
) -> Result<Option<Value>, WrongPath> {
    let ignored = apply.map(|it| &*it.ignore_fields).unwrap_or_default();
    if ignored.is_empty() {
        return Ok(Some(manifest));
    }
    let mut rest = without(&manifest, ignored)?;
    let hash = Digest::of(rest.to_string().as_bytes()).hex();
    let with_hash = |mut manifest: Value| {
        put_hash(&mut manifest, &hash);
        manifest
    };
    let Some(there) = there else { return Ok(Some(with_hash(manifest))) };
    let object = there.object.value().unwrap_or_default();
    if object["metadata"]["annotations"][HASH] == *hash {
        return Ok(None);
    }
    rest = with_hash(rest);
    Ok(Some(rest))
}

/// Puts the digest on. Where there is something that is no map it stays: whoever reads the manifest says what is wrong.
fn put_hash(manifest: &mut Value, hash: &str) {
    let mut place = manifest;
    for field in ["metadata", "annotations", HASH] {
        if place.is_null() {
            *place = json!({});
        }
        let Some(map) = place.as_object_mut() else { return };
        place = map.entry(field).or_insert(Value::Null);
    }
    *place = json!(hash);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_put_where_there_is_a_place_for_it() {
        for (manifest, has_place) in [
            (json!({}), true),
            (json!({"metadata": {"annotations": null}}), true),
            (json!({"metadata": {"annotations": {"a": "b"}}}), true),
            (json!({"metadata": {"annotations": "x"}}), false),
            (json!({"metadata": [1]}), false),
            (json!("x"), false),
        ] {
            let mut with = manifest.clone();
            put_hash(&mut with, "h");
            let is_put = with["metadata"]["annotations"][HASH] == "h";
            assert_eq!((is_put, with == manifest), (has_place, !has_place), "{manifest}");
        }
    }
}
