//! The Lease of a Node, where clients look for its last sign of life.
//!
//! Guarantees:
//! - it is written when the Node comes and when its session begins or ends, never per heartbeat
//!   (`every_node_has_a_lease_that_is_written_per_transition`).
//!
//! The API server shows the present as the time of renewal while the session is up.

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::{kind::Kind, time};
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Where the Leases of Nodes are.
pub const NAMESPACE: &str = "kube-node-lease";
/// How long a spoke may be silent until its Node is not Ready, in seconds.
const LEASE_SECONDS: u32 = 40;

/// Makes a Lease say what is known; all else in it stays.
pub(super) fn put_holder(
    lease: &mut Value,
    nodes: &Kind,
    node: &Stored,
    renewed: Option<Timestamp>,
) {
    let name = &*node.key.name;
    lease["metadata"]["ownerReferences"] = json!([{
        "apiVersion": nodes.api_version(), "kind": nodes.kind(), "name": name,
        "uid": node.object.header.uid,
    }]);
    lease["spec"]["holderIdentity"] = json!(name);
    lease["spec"]["leaseDurationSeconds"] = json!(LEASE_SECONDS);
    if let Some(renewed) = renewed {
        lease["spec"]["renewTime"] = json!(time::micros(renewed));
    }
}

/// Whether nothing can be made there yet, or any more: its namespace comes and goes on its own.
pub(super) fn has_no_room(error: &ApiError) -> bool {
    error.code == 404 || error.is_namespace_terminating()
}
