//! Server-side apply: a PATCH of `application/apply-patch+yaml`. What it makes, its caller has to be allowed to create.

use bytes::Bytes;
use freewheel_hub_objects::{Applied, FieldValidation, WriteOptions, Written};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_yaml as yaml;
use http::Response;
use serde_json::Value;

use crate::authz::{Attributes, Resource, What};
use crate::body::Body;
use crate::call::Call;
use crate::write::{answer, door};

/// The one form in which objects are applied.
const APPLY: &str = "application/apply-patch+yaml";

/// Whether a patch is one of these.
pub(crate) fn is_apply(call: &Call) -> bool {
    call.content_type() == APPLY
}

/// Who is asked for it has to say whom it is for.
fn check_manager(call: &Call) -> Result<(), ApiError> {
    if !call.query.field_manager.is_empty() {
        return Ok(());
    }
    let wrong = FieldError::required("fieldManager", "is required for apply patch");
    Err(ApiError::invalid("meta.k8s.io", "PatchOptions", "", &[wrong]))
}

/// Applies the body to an object or a subresource that has its kind.
pub(crate) async fn apply(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let (how, config, mut warnings) = read(call, body)?;
    let view = &call.view;
    let config = if view.is_plain() { config } else { view.inward(config) };
    let written = laid(call, &how, door(call), config).await?;
    warnings.extend(written.warnings.iter().cloned());
    answer(if written.created { 201 } else { 200 }, &encoder, written, &warnings).await
}

/// Lays `config` over what is there. What is not there is made by who may.
pub(crate) async fn laid(
    call: &Call,
    how: &WriteOptions,
    door: Option<&str>,
    config: Value,
) -> Result<Written, ApiError> {
    let (objects, place) = (&call.hub.server.objects, call.object_ref());
    let force = call.query.force.unwrap_or_default();
    let mut applied = Applied { config, force, may_make: false };
    match objects.apply(how, &place, door, &applied).await {
        Err(absent) if absent.code == 404 && door.is_none() && objects.get(&place).is_err() => {}
        outcome => return outcome,
    }
    let what = Resource {
        group: call.view.served.group(),
        version: call.view.served.version(),
        plural: call.view.served.plural(),
        namespace: call.namespace.as_str(),
        name: &call.name,
        ..Resource::default()
    };
    let (cluster, what) = (call.tenant.cluster(), What::Resource(what));
    let asked = Attributes { user: &call.user, verb: "create", cluster, what };
    call.hub.authorizers.check(&asked).await?;
    applied.may_make = true;
    objects.apply(how, &place, door, &applied).await
}

/// How to write, the body as its writer said it, and texts for warnings.
pub(crate) fn read(
    call: &Call,
    body: &Bytes,
) -> Result<(WriteOptions, Value, Vec<String>), ApiError> {
    check_manager(call)?;
    let how = call.how("PatchOptions")?;
    let (config, twice) = yaml::or_json(body)
        .map_err(|why| ApiError::bad_request(format!("error decoding YAML: {}", why.message)))?;
    if !config.is_object() {
        let what = if config.is_array() { "array" } else { "string" };
        return Err(ApiError::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot \
             unmarshal {what} into Go value of type map[string]interface {{}}"
        )));
    }
    if twice.is_empty() || how.field_validation == FieldValidation::Ignore {
        return Ok((how, config, Vec::new()));
    }
    let twice = yaml::twice(&String::from_utf8_lossy(body));
    if how.field_validation == FieldValidation::Strict {
        return Err(ApiError::bad_request(format!(
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  {}",
            twice.join("\n  ")
        )));
    }
    Ok((how, config, twice))
}
