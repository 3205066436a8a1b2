//! POST to `pods/NAME/binding`, or to `bindings` with the pod's name in the body: the scheduler's word.

use bytes::Bytes;
use freewheel_hub_api::conditions::{POD_SCHEDULED, Says};
use freewheel_hub_api::error::{ApiError, FieldError};
use freewheel_hub_api::{protobuf, time};
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

/// Binds the pod that the body names.
pub(crate) async fn bind_named(mut call: Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let binding = read(&call, body.clone())?;
    let name = binding.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        let error = FieldError::required("metadata.name", "name or generateName is required");
        return Err(ApiError::invalid("", "Binding", "", &[error]));
    }
    name.clone_into(&mut call.name);
    bind(&call, body).await.map_err(|error| call.tenant.told(error))
}

fn read(call: &Call, body: Bytes) -> Result<Value, ApiError> {
    let wire = call.body_wire()?;
    if wire == Wire::Protobuf {
        return protobuf::decode(&body);
    }
    serde_json::from_slice(&decode::json_bytes(wire, body)?)
        .map_err(|error| ApiError::bad_request(error.to_string()))
}

/// Binds a pod to a node, once.
pub(crate) async fn bind(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let how = call.how("CreateOptions")?;
    let binding = read(call, body)?;
    decode::check_about(call, &binding, "Binding")?;
    let node = target(&binding, &call.name)?;
    let change = |pod: Value| bound(pod, &call.name, &node, &binding);
    let door = Some("binding");
    call.hub.server.objects.modify(&how, &call.place(), door, change).await?;
    Ok(respond::created_status(call.status_wire()))
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

fn bound(mut pod: Value, name: &str, node: &str, binding: &Value) -> Result<Value, ApiError> {
    let conflict = |why: String| ApiError::conflict("", "pods/binding", name, &why);
    if pod.pointer("/metadata/deletionTimestamp").is_some() {
        return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
    }
    if let Some(taken) = pod.pointer("/spec/nodeName").and_then(Value::as_str)
        && !taken.is_empty()
    {
        return Err(conflict(format!("pod {name} is already assigned to node {taken:?}")));
    }
    pod["spec"]["nodeName"] = json!(node);
    for key in ["annotations", "labels"] {
        let Some(more) = binding.pointer(&format!("/metadata/{key}")).and_then(Value::as_object)
        else {
            continue;
        };
        for (key_of, value) in more {
            pod["metadata"][key][key_of] = value.clone();
        }
    }
    let observed = pod.pointer("/metadata/generation").and_then(Value::as_i64);
    let scheduled = Says { observed, ..Says::new(&POD_SCHEDULED, true, "", "") };
    scheduled.put(&mut pod["status"]["conditions"], &time::now());
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_bound_once() {
        let binding = json!({"target": {"kind": "Node", "name": "pi-7"}});
        let node = target(&binding, "p").unwrap();
        let pod = json!({"metadata": {"name": "p"}, "spec": {}, "status": {}});
        let pod = bound(pod, "p", &node, &binding).unwrap();
        assert_eq!(pod["spec"]["nodeName"], "pi-7");
        assert_eq!(pod["status"]["conditions"][0]["type"], "PodScheduled");
        let error = bound(pod, "p", "pi-8", &binding).unwrap_err();
        assert_eq!(
            error.message,
            r#"Operation cannot be fulfilled on pods/binding "p": pod p is already assigned to node "pi-7""#
        );
    }

    #[test]
    fn a_binding_needs_a_node() {
        assert_eq!(target(&json!({}), "p").unwrap_err().code, 422);
        assert_eq!(
            target(&json!({"target": {"kind": "Pi", "name": "x"}}), "p").unwrap_err().code,
            422
        );
    }
}
