//! metrics.k8s.io: what nodes and pods take, in the form of metrics-server, from what their devices count.
//!
//! ```text
//! Nodes and Pods that are asked for ─▶ their devices ─▶ of each one sample ─▶ what it says of them
//! measured  what devices say of some nodes or pods, for the API and for whoever else in the hub looks
//! samples   who is asked, when, and how long an answer counts
//! sample    one answer of a device, and what came of it since the answer before
//! ```
//!
//! Devices are asked when somebody asks here: for one object its own device, for a list those of its objects. Nothing
//! is read from the store but the objects themselves, whose names and labels these have. Who does not answer in time is
//! left out, as by metrics-server, which ignores `limit` as well.
//!
//! Guarantees:
//! - a cluster's own API shows its own device and of that its own pods (`a_cluster_sees_what_its_own_device_says_of_it`);
//! - selectors, tables, and what is not known are as at metrics-server (`metrics_are_told_as_by_metrics_server`,
//!   `what_nobody_measured_is_not_found`), in protobuf too (`metrics_are_told_in_protobuf`);
//! - for one pod no other device is asked than its own (`a_pod_s_own_device_alone_is_asked`).

mod doubtful;
mod measured;
mod sample;
mod samples;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_api::kinds::resource_metrics::GROUP;
use freewheel_hub_schema::duration::GoDuration;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::quantity::{Format, Quantity};
use freewheel_hub_schema::time;
use freewheel_hub_store::Stored;
use http::Response;
use serde_json::{Value, json};

pub use self::measured::{ContainerUsage, PodUsage, Usage};
use self::measured::{Measured, Question, Taken, place};
use self::sample::Use;
use crate::body::Body;
use crate::call::Call;
use crate::encode::Encoder;
use crate::lease::Renewal;
use crate::media::Shape;
use crate::memory_account::Held;
use crate::{read, respond};

/// What waits for one device takes about so many bytes.
const WAITING_BYTES: usize = 2 << 10;

/// Whether a request is for what is measured.
pub(crate) fn is_asked(call: &Call) -> bool {
    call.view.served.group() == GROUP
}

/// Of one node or pod, for whose answer this is held.
pub(crate) async fn get(call: &Call, held: Option<Held>) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let stored = match call.hub.server.objects.get(&call.object_ref()) {
        Ok(stored) => stored,
        // It speaks of the Node or Pod, and not of what is measured of it.
        Err(error) => return Ok(respond::failure_in(call.status_wire(), &error)),
    };
    let found = measured(call, vec![stored]).await.pop();
    call.check_still()?;
    let measured = found.ok_or_else(|| not_measured(call))?;
    let kind = &encoder.view.served;
    let mut value = value(&measured, &now(call));
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.kind());
    let bytes = encoder.shaped(value)?;
    Ok(respond::compressed(200, encoder.wanted.content_type(), bytes, call.gzip(), held).await)
}

/// Of all that match.
pub(crate) async fn list(call: &Call) -> Result<Response<Body>, ApiError> {
    let encoder = call.encoder()?;
    let filter = call.filter()?;
    read::validate(&call.query, false)?;
    let snapshot = call.hub.server.objects.store().fresh().await;
    call.tenant.check(&*snapshot)?;
    let scope = call.scope();
    let all = || snapshot.range(&scope, None).filter(|stored| filter.matches(stored));
    let bodies: Vec<usize> = all().map(|stored| stored.object.body.len()).collect();
    let (renewal, gzip) = (Renewal::default(), call.gzip());
    let bytes = read::estimate(&encoder, &renewal, gzip.is_some(), bodies.iter().copied());
    let room = read::room(call, bytes + bodies.len() * WAITING_BYTES).await?;
    let found = all().collect();
    drop(snapshot);
    let measured = measured(call, found).await;
    call.check_still()?;
    let (now, content_type) = (now(call), encoder.wanted.content_type());
    let write = move || written(&encoder, measured, &now);
    let (bytes, room) = call.worker_queue().run(room, write).await?;
    respond::large(content_type, bytes, gzip, room).await
}

fn written(encoder: &Encoder, measured: Vec<Measured>, now: &str) -> Result<Bytes, ApiError> {
    let values = measured.into_iter().map(|one| {
        let mut value = value(&one, now);
        // As part of a list it has its type from there.
        if !matches!(encoder.wanted.shape, Shape::Object) {
            value["apiVersion"] = json!(encoder.view.served.api_version());
            value["kind"] = json!(encoder.view.served.kind());
        }
        Ok(value)
    });
    encoder.list_of(json!({}), values)
}

fn now(call: &Call) -> String {
    time::from_unix(call.hub.server.objects.clock().unix_seconds())
}

/// What their devices say of these, in their order.
async fn measured(call: &Call, all: Vec<Arc<Stored>>) -> Vec<Measured> {
    let server = &call.hub.server;
    let (tenant, store) = (&call.tenant, &**server.objects.store());
    let question = Question { tenant, store, are_pods: call.view.served.namespaced };
    server.usage.measured(&question, all).await
}

/// In the words of metrics-server, in which a resource is called otherwise than in its path.
fn not_measured(call: &Call) -> ApiError {
    if call.view.served.namespaced {
        let name = format!("{}/{}", &*call.namespace, call.name);
        return ApiError::not_found(GROUP, "podmetrics", &name);
    }
    ApiError::not_found(GROUP, "nodemetrics", &call.name)
}

/// Without its type.
fn value(measured: &Measured, now: &str) -> Value {
    let (namespace, name) = place(&measured.stored.key);
    let mut meta = json!({"name": name, "creationTimestamp": now});
    if !namespace.is_empty() {
        meta["namespace"] = json!(namespace);
    }
    let labels = &measured.stored.object.header.labels;
    if !labels.is_empty() {
        meta["labels"] = json!(labels);
    }
    let mut value = json!({
        "metadata": meta, "timestamp": time::from_unix(measured.at), "window": length(measured.window),
    });
    match &measured.taken {
        Taken::Node(taken) => value["usage"] = usage(*taken),
        Taken::Pod(_) => {
            let one = |(name, taken)| json!({"name": name, "usage": usage(taken)});
            value["containers"] = measured.containers().map(one).collect();
        }
    }
    value
}

fn usage(taken: Use) -> Value {
    json!({
        "cpu": Quantity::of_nano(taken.cpu_nanos.into(), Format::Decimal).to_string(),
        "memory": Quantity::of(taken.memory.into(), Format::Binary).to_string(),
    })
}

/// To the millisecond.
fn length(window: Duration) -> String {
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    GoDuration::of_nanos(millis.saturating_mul(1_000_000)).to_string()
}
