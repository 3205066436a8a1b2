//! autoscaling/v1 Scale: the replica count of a Deployment, a ReplicaSet or a custom resource, and nothing else of it.

use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_api::kinds;
use freewheel_hub_api::scale::{Scale, put_wanted};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_store::Stored;
use http::Response;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::apply;
use crate::body::Body;
use crate::call::Call;
use crate::converted;
use crate::decode;
use crate::encode::Encoder;
use crate::media::{Shape, Wanted, Wire, negotiate};
use crate::respond;
use crate::view::View;
use crate::write::{Form, Patch, settle};

const SUBRESOURCE: &str = "scale";

const SCALE: (&str, &str, &str) = ("autoscaling", "v1", "Scale");

/// GET
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let stored = call.hub.server.objects.get(&call.object_ref())?;
    answer(call, stored, &[]).await
}

/// PUT
pub(crate) async fn update(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    let how = call.how("UpdateOptions")?;
    let (scale, warnings) =
        decode::object(call.body_wire()?, body, SCALE.into(), how.field_validation)?;
    let name = scale.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name != call.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let kind = &call.view.stored;
    let change = |object: Value| with_scale(kind, object, &scale);
    let (objects, door) = (&call.hub.server.objects, Some(SUBRESOURCE));
    let written = objects.modify(&how, &call.object_ref(), door, change).await?;
    answer(call, written.stored, &warnings).await
}

/// PATCH
pub(crate) async fn patch(call: &Call, body: Bytes) -> Result<Response<Body>, ApiError> {
    if apply::is_apply(call) {
        return lay(call, &body).await;
    }
    let form = Form::of(call)?;
    let how = call.how("PatchOptions")?;
    let patch = Patch::read(call, (form, body), &how)?;
    let kind = &call.view.stored;
    let unknown = Mutex::new(Vec::new());
    let change = |object: Value| {
        let before = scale_of(kind, &object)?;
        let after = || patch.apply(&before, SCALE.into());
        let (mut patched, shown) = (after()?, (&patch, &after as &dyn Fn() -> _));
        *unknown.lock() = settle(&mut patched, shown, SCALE.into(), how.field_validation)?;
        with_scale(kind, object, &patched)
    };
    let (objects, door) = (&call.hub.server.objects, Some(SUBRESOURCE));
    let written = objects.modify(&how, &call.object_ref(), door, change).await?;
    answer(call, written.stored, &unknown.into_inner()).await
}

/// An apply: of the object itself, what a Scale says of it.
async fn lay(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let (how, scale, warnings) = apply::read(call, body)?;
    let config = config_of(&call.view.stored, &scale)?;
    let written = apply::laid(call, &how, Some(SUBRESOURCE), config).await?;
    answer(call, written.stored, &warnings).await
}

/// What is applied to an object by its Scale.
fn config_of(kind: &Kind, scale: &Value) -> Result<Value, ApiError> {
    let text = |key: &str| scale.get(key).and_then(Value::as_str).unwrap_or_default();
    let (version, name) = (text("apiVersion"), text("kind"));
    if (version, name) != ("autoscaling/v1", "Scale") {
        let slash = if version.contains('/') { "" } else { "/" };
        let why = format!("invalid object type: {slash}{version}, Kind={name}");
        return Err(ApiError::bad_request(why));
    }
    let mut meta = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "managedFields"] {
        if let Some(value) = scale.get("metadata").and_then(|meta| meta.get(key)) {
            meta.insert(key.to_owned(), value.clone());
        }
    }
    let mut config = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind(), "metadata": meta, "spec": {},
    });
    if let Some(replicas) = scale.pointer("/spec/replicas") {
        config["spec"]["replicas"] = replicas.clone();
    }
    Ok(config)
}

async fn answer(
    call: &Call,
    stored: Arc<Stored>,
    warnings: &[String],
) -> Result<Response<Body>, ApiError> {
    let accept = call.headers.get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let wanted = negotiate(accept, |wanted: Wanted| {
        wanted.shape == Shape::Object || wanted.wire != Wire::Protobuf
    })?;
    let view = View::of(kinds::scale());
    let encoder = Encoder { view, wanted, ..call.encoder()? };
    let stored = converted::one(&call.view.served, stored).await?;
    let object = call.view.outward(freewheel_hub_objects::stored_value(&stored)?)?;
    let scale = scale_of(&call.view.stored, &object)?;
    let bytes = encoder.shaped(scale)?;
    let mut response = respond::whole(200, wanted.content_type(), bytes);
    respond::warn(&mut response, warnings);
    Ok(response)
}

fn scale_of(kind: &Kind, object: &Value) -> Result<Value, ApiError> {
    let mut meta = serde_json::Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.get("metadata").and_then(|meta| meta.get(key)) {
            meta.insert(key.to_owned(), value.clone());
        }
    }
    let scale = Scale::of(kind, object).map_err(ApiError::internal)?;
    let Scale { wanted, current, selector } = scale;
    let mut spec = json!({});
    if wanted != 0 {
        spec["replicas"] = json!(wanted);
    }
    let mut status = json!({"replicas": current});
    if let Some(selector) = selector {
        status["selector"] = json!(selector);
    }
    Ok(json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta, "spec": spec,
        "status": status,
    }))
}

fn with_scale(kind: &Kind, mut object: Value, scale: &Value) -> Result<Value, ApiError> {
    let invalid = |value: &Value, why: &str| {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let error = FieldError::invalid("spec.replicas", value, why);
        ApiError::invalid("autoscaling", "Scale", name, &[error])
    };
    let replicas = match scale.pointer("/spec/replicas") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_i64()
            .and_then(|replicas| i32::try_from(replicas).ok())
            .ok_or_else(|| invalid(value, "must be a 32-bit integer"))?,
    };
    if replicas < 0 {
        return Err(invalid(&json!(replicas), "must be greater than or equal to 0"));
    }
    let uid = scale.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let own = object.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    if !uid.is_empty() && uid != own {
        let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
        return Err(ApiError::conflict(kind.group(), kind.plural(), name, &why));
    }
    put_wanted(kind, &mut object, replicas);
    // What the client saw must still hold, if it says what it saw.
    if let Some(version) = scale.pointer("/metadata/resourceVersion").filter(|v| v.is_string()) {
        object["metadata"]["resourceVersion"] = version.clone();
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        json!({
            "metadata": {"name": "d", "namespace": "default", "uid": "u", "resourceVersion": "5",
                "labels": {"x": "y"}},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {}},
            "status": {"replicas": 1},
        })
    }

    #[test]
    fn a_scale_shows_the_replicas() {
        let kind = freewheel_hub_api::kinds::find("apps", "v1", "deployments").unwrap();
        assert_eq!(
            scale_of(kind, &deployment()).unwrap(),
            json!({
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {"name": "d", "namespace": "default", "uid": "u", "resourceVersion": "5"},
                "spec": {"replicas": 2}, "status": {"replicas": 1, "selector": "app=web"},
            })
        );
    }

    #[test]
    fn a_scale_changes_the_replicas_only() {
        let kind = freewheel_hub_api::kinds::find("apps", "v1", "deployments").unwrap();
        let scaled = with_scale(kind, deployment(), &json!({"spec": {"replicas": 7}})).unwrap();
        let mut want = deployment();
        want["spec"]["replicas"] = json!(7);
        assert_eq!(scaled, want);
        let error = with_scale(kind, deployment(), &json!({"spec": {"replicas": -1}})).unwrap_err();
        assert_eq!(error.code, 422);
        let other = json!({"metadata": {"uid": "v"}, "spec": {"replicas": 1}});
        assert_eq!(with_scale(kind, deployment(), &other).unwrap_err().code, 409);
    }
}
