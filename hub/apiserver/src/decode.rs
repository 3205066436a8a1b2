//! Request bodies as values.

use bytes::Bytes;
use freewheel_hub_objects::{Canonical, FieldValidation};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::protobuf;
use freewheel_hub_schema::types::{self, Typed};
use freewheel_hub_yaml as yaml;
use serde_json::Value;

use crate::media::Wire;

fn yaml_to_json(bytes: &[u8]) -> Result<Bytes, ApiError> {
    let (value, _) = yaml::read(bytes)?;
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

/// The version that a body says it is of, as far as it can be read.
pub(crate) fn said_version(wire: Wire, bytes: &[u8]) -> Option<String> {
    let (value, _) = match wire {
        Wire::Json => types::parse_json(bytes).ok()?,
        Wire::Yaml => yaml::read(bytes).ok()?,
        Wire::Protobuf => (protobuf::decode(bytes).ok()?, Vec::new()),
    };
    value.get("apiVersion").and_then(Value::as_str).map(str::to_owned)
}

/// Whether what is asked has the shape of a question after others had a say in it: what is left out would be another
/// question, and its answer taken for this one's. `texts` and `lists` of texts are JSON pointers; what is absent or null is
/// as good as empty.
///
/// # Errors
/// 400 with the place.
pub(crate) fn check_shape(value: &Value, texts: &[&str], lists: &[&str]) -> Result<(), ApiError> {
    let wrong = |path: &str, wanted: &str| {
        let place = path.trim_start_matches('/').replace('/', ".");
        ApiError::bad_request(format!(
            "json: cannot unmarshal into field {place:?}: {wanted} is wanted"
        ))
    };
    if !value.is_object() {
        return Err(wrong("", "an object"));
    }
    let parents = texts.iter().chain(lists).filter_map(|path| path.rsplit_once('/'));
    for (parent, _) in parents {
        if value.pointer(parent).is_some_and(|it| !it.is_object() && !it.is_null()) {
            return Err(wrong(parent, "an object"));
        }
    }
    for path in texts {
        if value.pointer(path).is_some_and(|it| !it.is_string() && !it.is_null()) {
            return Err(wrong(path, "a string"));
        }
    }
    for path in lists {
        let is_text = |list: &Vec<Value>| list.iter().all(Value::is_string);
        if value
            .pointer(path)
            .is_some_and(|it| !it.is_null() && !it.as_array().is_some_and(is_text))
        {
            return Err(wrong(path, "a list of strings"));
        }
    }
    Ok(())
}

/// An object of this kind, canonical, and texts for warnings.
///
/// # Errors
/// 400 when it is no such object, or has unknown or duplicate fields and `validation` is strict.
#[expect(clippy::needless_pass_by_value, reason = "a body ends where it is decoded")]
pub(crate) fn object(
    wire: Wire,
    bytes: Bytes,
    typed: Typed<'_>,
    validation: FieldValidation,
) -> Result<(Canonical, Vec<String>), ApiError> {
    let (value, strict) = match wire {
        Wire::Protobuf => {
            let value = Canonical::from_protobuf(&bytes)?;
            check_kind(&value, typed)?;
            return Ok((value, Vec::new()));
        }
        Wire::Yaml => Canonical::from_read(yaml::read(&bytes)?, &bytes, typed)?,
        Wire::Json => Canonical::from_json(&bytes, typed)?,
    };
    match validation {
        FieldValidation::Strict if !strict.is_empty() => {
            Err(types::strict_error(typed.version, typed.kind, &strict))
        }
        FieldValidation::Ignore => Ok((value, Vec::new())),
        FieldValidation::Strict | FieldValidation::Warn => Ok((value, strict)),
    }
}

/// Whether the body of a `what` speaks of the object in the path.
///
/// # Errors
/// 400 when it is another kind or speaks of another object.
pub(crate) fn check_about(
    (own_namespace, own_name): (&str, &str),
    value: &Value,
    what: &str,
) -> Result<(), ApiError> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let kind = text("/kind");
    if !kind.is_empty() && kind != what {
        return Err(ApiError::bad_request(format!("the body is a {kind} and no {what}")));
    }
    if text("/metadata/name") != own_name {
        let why = format!("name in URL does not match name in {what} object");
        return Err(ApiError::bad_request(why));
    }
    let namespace = text("/metadata/namespace");
    if !namespace.is_empty() && namespace != own_namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

fn check_kind(value: &Value, typed: Typed<'_>) -> Result<(), ApiError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let (expected, kind) = (typed.api_version(), typed.kind);
    let (found_version, found_kind) = (text("apiVersion"), text("kind"));
    if (found_kind, found_version) == (kind, expected.as_str()) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "the API version in the data ({found_version}, Kind={found_kind}) does not match the expected API version ({expected}, Kind={kind})"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_key_that_is_there_twice_is_told() {
        let text = "data:\n  a: x\n  a: z\n";
        let (value, twice) = yaml::read(text.as_bytes()).unwrap();
        assert_eq!((value, twice), (json!({"data": {"a": "z"}}), vec!["data.a".to_owned()]));
        let kind = ("", "v1", "ConfigMap").into();
        let error = object(Wire::Yaml, text.into(), kind, FieldValidation::Strict).unwrap_err();
        assert!(error.message.ends_with("duplicate field \"data.a\""), "{}", error.message);
    }
}
