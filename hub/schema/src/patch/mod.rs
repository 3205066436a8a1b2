//! The three patches: RFC 6902, RFC 7386, and Kubernetes' strategic merge.
//!
//! Each takes the document and the request's body, and gives the patched document, which is not yet
//! canonical: run [`crate::types::canonicalise`] on it.
//!
//! ```text
//! operation   one operation of a JSON patch, as evanphx/json-patch has it
//! strategic   merging maps and lists by the table's merge keys, with the $ directives
//! order       the order of a merged list
//! ```
//!
//! Guarantees:
//! - a small patch cannot make a large document: operations are counted, and what copies add is bounded
//!   (`a_json_patch_is_bounded_in_operations_and_copies`);
//! - nor a deep one: what an operation puts somewhere is refused before it is there, and what comes out is no deeper than
//!   an object may be (`a_json_patch_is_bounded_in_depth`, `what_patches_make_is_no_deeper_than_what_is_sent`).

mod operation;
mod order;
pub(crate) mod strategic;
#[cfg(test)]
mod tests;

use json_patch::PatchOperation;
use serde_json::Value;

use crate::depth;
use crate::error::ApiError;
use crate::types::{Typed, parse_json};

/// As kube-apiserver has it.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many unknown fields of operations are named.
const UNKNOWN_FIELDS_MAX: usize = 100;

/// How many bytes the copies of one JSON patch may add: as much as a request may hold.
const COPIED_BYTES_MAX: usize = 3 << 20;

/// Applies a JSON patch (`application/json-patch+json`).
///
/// # Errors
/// 400 when the body is no patch, 413 for too many operations, 422 when it does not apply.
pub fn json(document: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let bad = |why: String| ApiError::bad_request(format!("error decoding patch: {why}"));
    // Of a field that an operation has twice, the last counts.
    let (operations, _) = parse_json(patch).map_err(bad)?;
    operations_on(document, operations).map_err(|failed| match failed {
        NotPatched::Test => rejected(),
        NotPatched::Because(error) => error,
    })
}

/// Why a document is not patched.
#[derive(Debug)]
pub enum NotPatched {
    /// What the patch looks at first is not so.
    Test,
    /// As [`json`] says it.
    Because(ApiError),
}

impl From<ApiError> for NotPatched {
    fn from(error: ApiError) -> Self {
        Self::Because(error)
    }
}

/// Applies the operations of a JSON patch.
///
/// # Errors
/// As [`json`], and apart from that where one of them is a test that fails.
pub fn operations_on(document: &Value, operations: Value) -> Result<Value, NotPatched> {
    let operations: Vec<PatchOperation> = serde_json::from_value(operations)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if MAX_OPERATIONS < operations.len() {
        let text = format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is \
             {MAX_OPERATIONS}, got {}",
            operations.len()
        );
        return Err(ApiError::new(413, "RequestEntityTooLarge", text).into());
    }
    let mut out = document.clone();
    let mut copied = 0;
    for operation in operations {
        if let PatchOperation::Copy(copy) = &operation {
            copied += copy.from.resolve(&out).map_or(0, size);
            if COPIED_BYTES_MAX < copied {
                return Err(rejected().into());
            }
        }
        let is_test = matches!(operation, PatchOperation::Test(_));
        operation::apply(&mut out, operation).map_err(|operation::DoesNotApply| match is_test {
            true => NotPatched::Test,
            false => rejected().into(),
        })?;
    }
    depth::check(&out)?;
    Ok(out)
}

/// What strict validation refuses of the patch itself, whatever it is applied to: fields that are there
/// twice, and in a JSON patch (`is_json`) fields that no operation has.
///
/// # Errors
/// 400 when the body is no JSON.
pub fn strict(patch: &[u8], is_json: bool) -> Result<Vec<String>, ApiError> {
    const FIELDS: [&str; 4] = ["from", "op", "path", "value"];
    let (value, twice) = parse_json(patch)
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    let prefix = if is_json { "json patch " } else { "" };
    let twice = twice.iter().map(|path| format!("{prefix}duplicate field {path:?}"));
    let operations = value.as_array().filter(|_| is_json).into_iter().flatten().enumerate();
    let unknown = operations.flat_map(|(i, operation)| {
        let keys = operation.as_object().into_iter().flat_map(|map| map.keys());
        let unknown = keys.filter(|key| !FIELDS.contains(&key.as_str()));
        unknown.map(move |key| format!("{prefix}unknown field \"[{i}].{key}\"")).collect::<Vec<_>>()
    });
    Ok(unknown.take(UNKNOWN_FIELDS_MAX).chain(twice).collect())
}

/// Applies a merge patch (`application/merge-patch+json`).
///
/// # Errors
/// 400 when the body is no JSON object.
pub fn merge(document: &Value, patch: &[u8]) -> Result<Value, ApiError> {
    let patch = object(patch)?;
    let mut out = document.clone();
    json_patch::merge(&mut out, &patch);
    depth::check(&out)?;
    Ok(out)
}

/// Applies a strategic merge patch (`application/strategic-merge-patch+json`) to a built-in kind.
///
/// # Errors
/// 400 when the body is no JSON object or uses a directive wrongly, 415 for a kind without merge keys
/// (those from CRDs).
pub fn strategic<'a>(
    document: &Value,
    patch: &[u8],
    typed: impl Into<Typed<'a>>,
) -> Result<Value, ApiError> {
    let Some(one) = typed.into().facts.filter(|one| !one.crd) else {
        let text = "the body of the request was in an unknown format - accepted media types include: \
                    application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
        return Err(ApiError::new(415, "UnsupportedMediaType", text));
    };
    let (Value::Object(document), Value::Object(patch)) = (document, object(patch)?) else {
        return Err(ApiError::bad_request("invalid JSON document"));
    };
    let merged = strategic::merge(document.clone(), patch, one).map_err(ApiError::bad_request)?;
    let merged = Value::Object(merged);
    depth::check(&merged)?;
    Ok(merged)
}

fn rejected() -> ApiError {
    let mut error = ApiError::new(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
    );
    error.details = Some(Box::default());
    error
}

fn object(patch: &[u8]) -> Result<Value, ApiError> {
    let bad =
        |why: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding patch: {why}"));
    let (value, _) = parse_json(patch).map_err(|error| bad(&error))?;
    if value.is_object() { Ok(value) } else { Err(bad(&"a patch is a JSON object")) }
}

/// About how many bytes a value takes.
fn size(value: &Value) -> usize {
    8 + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
