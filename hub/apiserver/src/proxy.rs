//! GET of `nodes/NAME/proxy/metrics`: what a device counts, asked of it and told as a kubelet would.
//!
//! ```text
//! nodes/NAME/proxy/metrics            the agent, the gates of its pod network, and all below
//! nodes/NAME/proxy/metrics/resource   the machine, its pods and their containers
//! ```
//!
//! A device is asked when somebody asks for it here, and counts nothing for that before. Totals (the machine, the agent,
//! all guests, the gates) are of the whole device in a cluster's own API, too: the root's pods are in them.
//!
//! Guarantees:
//! - a cluster's own API shows its own device, and of that its own pods, whatever Nodes somebody makes there
//!   (`a_cluster_sees_its_own_device_and_its_own_pods`, `a_cluster_reads_its_own_device_alone`);
//! - a device that cannot be reached is a Status (`a_device_that_is_away_is_a_status`).

use bytes::Bytes;
use freewheel_hub_metrics::Format;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use http::Response;
use http::header::ACCEPT;

use crate::body::Body;
use crate::call::Call;
use crate::device::{DeviceFigures, Page};
use crate::{media, respond};

/// About the bytes of the figures of a device with some pods.
const FIGURES: usize = 128 << 10;

/// Answers for the path behind `proxy`.
pub(crate) async fn get(call: &Call) -> Result<Response<Body>, ApiError> {
    let page = match call.rest.as_str() {
        "metrics" => Page::All,
        "metrics/resource" => Page::Resource,
        _ => return Err(no_such_page(&call.rest)),
    };
    let spoke = device(call)?;
    let format = media::metrics(call.header(&ACCEPT).unwrap_or_default());
    let mut held = call.slot.backlog.hold(FIGURES).await?;
    let told = call.hub.server.streams.figures(&spoke).await?;
    // It may have taken its time.
    call.check_still()?;
    let shown_in = call.tenant.name.clone();
    let figures = DeviceFigures { told, spoke, shown_in };
    // All of it is there before anybody has read a byte.
    if let Some(held) = &mut held {
        held.grow(figures.most_bytes())?;
    }
    let node = call.name.clone();
    let made = move || {
        let mut text = figures.text(&node, page, format).map_err(ApiError::internal)?;
        text.shrink_to_fit();
        Ok(Bytes::from(text))
    };
    let text = call.worker_queue().run((), made).await?.0;
    if let Some(held) = &mut held {
        held.shrink(text.len());
    }
    Ok(respond::compressed(200, Format::content_type(format), text, call.gzip(), held).await)
}

/// The device of this Node. In a cluster that is its own: its owner may write Nodes of any name there.
fn device(call: &Call) -> Result<ClusterName, ApiError> {
    let stored = call.hub.server.objects.get(&call.object_ref())?;
    let named = ClusterName::try_from(&*stored.key.name).ok();
    let whose = &call.tenant.name;
    let is_here = |name: &ClusterName| !name.is_root() && (whose.is_root() || name == whose);
    named.filter(is_here).ok_or_else(|| {
        let text = format!("no device of this hub is behind the node {:?}", call.name);
        ApiError::new(503, "ServiceUnavailable", text)
    })
}

fn no_such_page(page: &str) -> ApiError {
    let text = format!("a node does not serve {page:?}: there are metrics and metrics/resource");
    respond::generic(404, "NotFound", &text)
}
