//! POST to `pods/NAME/binding`, or to `bindings` with the pod's name in the body: the scheduler's word.

use bytes::Bytes;
use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Binding, Canonical, ObjectRef, WriteOptions};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::types::Typed;
use http::Response;
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::decode;
use crate::media::Wire;
use crate::path::Target;
use crate::respond;

/// Whether a path is that of the collection, which holds nothing.
pub(crate) fn is_collection(target: &Target<'_>) -> bool {
    (target.group, target.version, target.plural) == ("", "v1", "bindings")
}

/// What is asked, and how it is answered.
struct Asked {
    how: WriteOptions,
    binding: Canonical,
    warnings: Vec<String>,
    out: Wire,
}

impl Asked {
    fn read(call: &Call, body: Bytes) -> Result<Self, ApiError> {
        // What cannot be answered is not done.
        let out = call.columnless_wire()?;
        let (wire, how) = (call.body_wire()?, call.how("CreateOptions")?);
        let typed = Typed::from(&**kinds::binding());
        let (binding, warnings) = decode::object(wire, body, typed, how.field_validation)?;
        Ok(Self { how, binding, warnings, out })
    }
}

/// Binds the pod that the body names.
pub(crate) async fn bind_named(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let asked = Asked::read(call, body)?;
    let name = asked.binding.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let error = FieldError::required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid("", "Binding", "", &[error]));
    }
    let place = ObjectRef { name: name.to_owned(), ..call.object_ref() };
    run(call, (&place, true), asked).await
}

/// Binds a pod to a node, once.
pub(crate) async fn bind(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    run(call, (&call.object_ref(), false), Asked::read(call, body)?).await
}

async fn run(
    call: &Call,
    (place, is_named): (&ObjectRef, bool),
    Asked { how, binding, warnings, out }: Asked,
) -> Result<Response<Body>, ApiError> {
    decode::check_about((&place.namespace, &place.name), &binding, "Binding")?;
    let node = target(&binding, &place.name)?;
    let metadata = &binding["metadata"];
    let binding = Binding { node: &node, uid: None, metadata, is_named };
    call.hub.server.objects.bind(&how, place, &binding).await?;
    let mut response = respond::created_status(out);
    respond::warn(&mut response, &warnings);
    Ok(response)
}

fn target(binding: &Value, name: &str) -> Result<String, ApiError> {
    let text = |path: &str| binding.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    if !matches!(text("/target/kind"), "" | "Node") {
        let kind = json!(text("/target/kind"));
        errors.push(FieldError::not_supported("target.kind", &kind, &["Node", "<empty>"]));
    }
    if text("/target/name").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if errors.is_empty() {
        return Ok(text("/target/name").to_owned());
    }
    Err(ApiError::invalid("", "Binding", name, &errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_needs_a_node() {
        assert_eq!(target(&json!({}), "p").unwrap_err().code, 422);
        assert_eq!(
            target(&json!({"target": {"kind": "Pi", "name": "x"}}), "p").unwrap_err().code,
            422
        );
    }
}
