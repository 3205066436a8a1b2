//! Which device is behind a pod, and whose share of its link a stream to it is.

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::PodClient;
use serde_json::Value;

use crate::call::Call;
use crate::flow::shares::Sharer;
use crate::tenant::Tenant;

/// For whom streams are that a call asks for: who answers for its user has them.
pub(crate) fn client(call: &Call) -> PodClient {
    PodClient::new(&call.tenant.name, Sharer::from(&*call.user).principal())
}

/// A pod that is on a device.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub(crate) spoke: ClusterName,
    pub(crate) uid: Uid,
    pub(crate) object: Value,
}

/// The pod that a call names.
///
/// # Errors
/// When there is none, or nobody runs it who may be asked for it.
pub(crate) fn locate(call: &Call) -> Result<Located, ApiError> {
    let stored = call.hub.server.objects.get(&call.object_ref())?;
    let object = stored.object.value()?;
    let node = object.pointer("/spec/nodeName").and_then(Value::as_str).unwrap_or_default();
    if node.is_empty() {
        let text = format!("pod {} does not have a host assigned", call.name);
        return Err(ApiError::bad_request(text));
    }
    let spoke = spoke_of(&call.tenant, node)?;
    Ok(Located { spoke, uid: stored.object.header.uid.clone(), object })
}

/// The device of a node. In a cluster that is its own: its owner may write there what it likes, and is told nothing of
/// other devices, not even whether they are there.
///
/// # Errors
/// When there is none of that name here.
pub(crate) fn spoke_of(whose: &Tenant, node: &str) -> Result<ClusterName, ApiError> {
    let spoke = ClusterName::try_from(node)
        .map_err(|_| ApiError::bad_request(format!("no spoke can be called {node:?}")))?;
    if !whose.name.is_root() && spoke != whose.name {
        let text = format!("no device of this cluster is behind the node {node:?}");
        return Err(ApiError::new(503, "ServiceUnavailable", text));
    }
    Ok(spoke)
}
