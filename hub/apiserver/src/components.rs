//! `kubectl get componentstatuses`: how the parts of the hub are.
//!
//! kube-apiserver asks a scheduler, a controller manager and etcd at the ports that they have beside it by default, and
//! has said for years not to rely on it. What is true of a hub are the checks of its `/readyz`, by their names there.
//!
//! Guarantees:
//! - each check is one component, with the reason of one that fails for those of the whole hub alone, as at
//!   `/readyz/NAME` (`components_are_the_checks_of_the_hub`).

use bytes::Bytes;
use freewheel_hub_api::kinds::component_status::{PLURAL, value};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Object};
use freewheel_hub_store::Stored;
use http::Response;
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::health::Check;
use crate::media::Shape;
use crate::{read, respond};

/// Whether a request is for them.
pub(crate) fn is_asked(call: &Call) -> bool {
    let kind = &call.view.served;
    kind.group().is_empty() && kind.plural() == PLURAL
}

/// One of them.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let check = call.hub.server.checks.iter().find(|check| check.name == call.name);
    let check = check.ok_or_else(|| ApiError::not_found("", PLURAL, &call.name))?;
    let bytes = encoder.shaped(typed(call, shown(call, check)))?;
    Ok(answer(call, encoder.wanted.content_type(), bytes).await)
}

/// Those that match.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let filter = call.filter()?;
    read::validate(&call.query, false)?;
    let mut found = Vec::new();
    for check in &call.hub.server.checks {
        let value = shown(call, check);
        let key = Key::new(call.view.served.storage(), &call.tenant.name, "", check.name);
        let object = Object::from_value(value.clone(), std::collections::BTreeMap::new())?;
        let stored = Stored { key, object, revision: 0, created: 0 };
        // As part of a list it has its type from there.
        let whole = matches!(encoder.wanted.shape, Shape::Object);
        if filter.matches(&stored) {
            found.push(Ok(if whole { value } else { typed(call, value) }));
        }
    }
    let bytes = encoder.list_of(json!({}), found.into_iter())?;
    Ok(answer(call, encoder.wanted.content_type(), bytes).await)
}

async fn answer(call: &Call, content_type: &'static str, bytes: Bytes) -> Response<Body> {
    respond::compressed(200, content_type, bytes, call.gzip(), None).await
}

/// Why it fails concerns those of the whole hub.
fn shown(call: &Call, check: &Check) -> Value {
    let wrong = check.look().err();
    let told =
        wrong.map(|why| if call.tenant.name.is_root() { why } else { "reason withheld".into() });
    value(check.name, told.as_deref())
}

fn typed(call: &Call, mut value: Value) -> Value {
    let kind = &call.view.served;
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.kind());
    value
}
