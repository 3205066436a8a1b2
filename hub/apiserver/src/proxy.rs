//! GET of `nodes/NAME/proxy/metrics`: what a device counts, asked of it and told as a kubelet would.
//!
//! ```text
//! nodes/[SCHEME:]NAME[:PORT]/proxy/…
//!   metrics            the agent, the gates of its pod network, and all below
//!   metrics/resource   the machine, its pods and their containers
//!   metrics/cadvisor   containers under the names that usual rules read
//!   stats/summary      the machine, its pods and their containers in JSON
//! ```
//!
//! A device is asked when somebody asks for it here, once for all who do so meanwhile, and counts nothing for that before.
//! Totals (the machine, the agent,
//! all guests, the gates) are of the whole device in a cluster's own API, too: the root's pods are in them.
//!
//! Guarantees:
//! - a cluster's own API shows its own device, and of that its own pods, whatever Nodes somebody makes there
//!   (`a_cluster_sees_its_own_device_and_its_own_pods`, `a_cluster_reads_its_own_device_alone`);
//! - a device that cannot be reached is a Status (`a_device_that_is_away_is_a_status`);
//! - scheme and port lead to the agent where they would to a kubelet, and nowhere else
//!   (`a_node_may_be_named_with_scheme_and_port`).

mod device;

use bytes::Bytes;
use freewheel_hub_metrics::Format;
use freewheel_hub_objects::ObjectRef;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use http::Response;
use http::header::ACCEPT;
use serde_json::Value;

use self::device::{DeviceFigures, Page};
use crate::body::Body;
use crate::call::Call;
use crate::streaming::Addressed;
use crate::{connect, media, respond};

/// About the bytes of the figures of a device with some pods.
const FIGURES_BYTES_ESTIMATE: usize = 128 << 10;

/// Where a node's agent is that names no port of its own: a kubelet's.
const AGENT_PORT: &str = "10250";

/// Answers for the path behind `proxy`.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    connect::through_proxy(call, "NodeProxyOptions", &call.rest).await?;
    let node = Addressed::read(&call.name, "node")?;
    let page = Page::of(&call.rest).ok_or_else(|| no_such_page(&call.rest))?;
    let spoke = device(call, &node)?;
    let format = media::metrics(call.header(&ACCEPT).unwrap_or_default());
    let mut held = call.slot.backlog.hold(FIGURES_BYTES_ESTIMATE).await?;
    let objects = &call.hub.server.objects;
    let counted = call.hub.server.streams.figures(&spoke).await?.figures;
    // It may have taken its time.
    call.check_still()?;
    let (snapshot, now) = (objects.store().snapshot(), objects.clock().unix_seconds());
    let figures = DeviceFigures { figures: counted, spoke, shown_in: call.tenant.name.clone() };
    let gather = move || Ok(figures.page(page, &*snapshot));
    let figures = call.worker_queue().run((), gather).await?.0;
    // All of it is there before anybody has read a byte.
    if let Some(held) = &mut held {
        held.grow(figures.most_bytes())?;
    }
    let name = node.name.to_owned();
    let made = move || {
        let mut text = figures.text(&name, format, now).map_err(ApiError::internal)?;
        text.shrink_to_fit();
        Ok(Bytes::from(text))
    };
    let text = call.worker_queue().run((), made).await?.0;
    if let Some(held) = &mut held {
        held.shrink(text.len());
    }
    let content_type = match page {
        Page::Summary => media::JSON,
        Page::All | Page::Resource | Page::Cadvisor => Format::content_type(format),
    };
    Ok(respond::compressed(200, content_type, text, call.gzip(), held).await)
}

/// The device of this Node.
fn device(call: &Call, node: &Addressed<'_>) -> Result<ClusterName, ApiError> {
    let place = ObjectRef { name: node.name.to_owned(), ..call.object_ref() };
    let stored = call.hub.server.objects.get(&place)?;
    let unavailable = |text| ApiError::new(503, "ServiceUnavailable", text);
    let own = stored.object.value()?;
    let own = own.pointer("/status/daemonEndpoints/kubeletEndpoint/Port");
    let own = own.and_then(Value::as_u64).filter(|port| *port != 0).map(|port| port.to_string());
    if !["", own.as_deref().unwrap_or(AGENT_PORT)].contains(&node.port) {
        let text = format!(
            "error trying to reach service: of the node {:?} the hub reaches its agent alone, and not the port {:?}",
            node.name, node.port
        );
        return Err(unavailable(text));
    }
    call.tenant.device(&stored.key.name).ok_or_else(|| {
        unavailable(format!("no device of this hub is behind the node {:?}", node.name))
    })
}

fn no_such_page(page: &str) -> ApiError {
    let text = format!(
        "a node does not serve {page:?}: there are metrics, metrics/resource, metrics/cadvisor and stats/summary"
    );
    respond::generic(404, "NotFound", &text)
}
