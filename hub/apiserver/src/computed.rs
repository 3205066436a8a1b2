//! Objects that nobody writes: they are made for whoever asks, of what the hub knows.
//!
//! ```text
//! components  how the parts of the hub are
//! operators   what the hub and the agents of clusters are
//! ```
//!
//! Guarantees:
//! - selectors, tables and encodings are those of any kind (`components_are_the_checks_of_the_hub`,
//!   `what_hub_and_agents_are_is_told_as_elsewhere`).

mod components;
mod operators;

use std::collections::BTreeMap;

use bytes::Bytes;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Object};
use freewheel_hub_store::Stored;
use http::Response;
use serde_json::{Value, json};

use crate::body::Body;
use crate::call::Call;
use crate::media::Shape;
use crate::{read, respond};

/// All objects of a kind that has such ones.
type Objects = fn(&Call) -> Result<Vec<Value>, ApiError>;

/// How the objects of a request are made; `None` where they are stored.
pub(crate) fn objects(call: &Call) -> Option<Objects> {
    if components::is_asked(call) {
        Some(components::all)
    } else if operators::is_asked(call) {
        Some(operators::all)
    } else {
        None
    }
}

/// One of them.
pub(crate) async fn get(call: &Call, objects: Objects) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let kind = &call.view.served;
    let found = objects(call)?.into_iter().find(|one| one["metadata"]["name"] == *call.name);
    let found =
        found.ok_or_else(|| ApiError::not_found(kind.group(), kind.plural(), &call.name))?;
    let bytes = encoder.shaped(typed(call, found))?;
    Ok(answer(call, encoder.wanted.content_type(), bytes).await)
}

/// Those that match.
pub(crate) async fn list(call: &Call, objects: Objects) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let filter = call.filter()?;
    read::validate(&call.query, false)?;
    let mut found = Vec::new();
    for value in objects(call)? {
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let key = Key::new(call.view.served.storage(), &call.tenant.name, "", name);
        let object = Object::from_value(value.clone(), BTreeMap::new())?;
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

fn typed(call: &Call, mut value: Value) -> Value {
    let kind = &call.view.served;
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.kind());
    value
}
