//! Request bodies as values.

use bytes::Bytes;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::{protobuf, schema};
use freewheel_hub_store::objects::FieldValidation;
use serde_json::Value;

use crate::media::Wire;

/// YAML 1.2, so that `y` and `no` are names. Nesting and size limits are the parser's defaults: anchors
/// cannot blow up.
fn yaml_to_json(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| {
        ApiError::bad_request("error converting YAML to JSON: the body is not UTF-8")
    })?;
    let options = serde_saphyr::options! { strict_booleans: true, with_snippet: false };
    let value: Value = serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        ApiError::bad_request(format!("error converting YAML to JSON: {error}"))
    })?;
    serde_json::to_vec(&value).map(Bytes::from).map_err(ApiError::internal)
}

/// A body as JSON bytes, for what reads JSON itself; protobuf has no such form.
///
/// # Errors
/// 400 for YAML that is none, 415 for protobuf.
pub(crate) fn json_bytes(wire: Wire, bytes: Bytes) -> Result<Bytes, ApiError> {
    match wire {
        Wire::Json => Ok(bytes),
        Wire::Yaml => yaml_to_json(&bytes),
        Wire::Protobuf => {
            Err(ApiError::new(415, "UnsupportedMediaType", "the body must be JSON or YAML here"))
        }
    }
}

/// An object of this kind, canonical, and texts for warnings.
///
/// # Errors
/// 400 when it is no such object, or has unknown or duplicate fields and `validation` is strict.
pub(crate) fn object(
    wire: Wire,
    bytes: Bytes,
    (group, version, kind): (&str, &str, &str),
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    if wire == Wire::Protobuf {
        let value = protobuf::decode(&bytes)?;
        check_kind(&value, (group, version, kind))?;
        return Ok((value, Vec::new()));
    }
    let bytes = json_bytes(wire, bytes)?;
    let decoded = schema::decode_json(&bytes, group, version, kind)?;
    match validation {
        FieldValidation::Strict if !decoded.strict.is_empty() => {
            Err(schema::strict_error(version, kind, &decoded.strict))
        }
        FieldValidation::Ignore => Ok((decoded.value, Vec::new())),
        FieldValidation::Strict | FieldValidation::Warn => Ok((decoded.value, decoded.strict)),
    }
}

/// The triple that [`object`] takes.
pub(crate) fn gvk(kind: &'static Kind) -> (&'static str, &'static str, &'static str) {
    (kind.group, kind.version, kind.kind)
}

fn check_kind(value: &Value, (group, version, kind): (&str, &str, &str)) -> Result<(), ApiError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let expected = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    if (found_kind, found_version) == (kind, expected.as_str()) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the API version in the data ({found_version}, Kind={found_kind}) does not match the expected API version ({expected}, Kind={kind})"
    )))
}
