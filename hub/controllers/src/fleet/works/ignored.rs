//! Server-side apply that leaves fields to others: what is applied is known by its digest, which the object keeps.

use freewheel_hub_fleet::work::ServerSideApply;
use freewheel_hub_fleet::work::ignored::{NotAPointer, without};
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
) -> Result<Option<Value>, NotAPointer> {
    let ignored = apply.map(|it| &*it.ignore_fields).unwrap_or_default();
    if ignored.is_empty() {
        return Ok(Some(manifest));
    }
    let mut rest = without(&manifest, ignored)?;
    let hash = Digest::of(rest.to_string().as_bytes()).hex();
    let with_hash = |mut manifest: Value| {
        manifest["metadata"]["annotations"][HASH] = json!(hash);
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
