//! ClusterManager and Klusterlet: what the hub and the agent of a cluster are.
//!
//! Guarantees:
//! - the root has the one ClusterManager, and the cluster of a spoke the Klusterlet of its agent
//!   (`what_hub_and_agents_are_is_told_as_elsewhere`).

use freewheel_hub_api::kinds;
use freewheel_hub_api::kinds::fleet::operators::{
    CLUSTER_MANAGERS, GROUP, cluster_manager, klusterlet,
};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::time;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use crate::call::Call;

/// Whether a request is for one of them.
pub(crate) fn is_asked(call: &Call) -> bool {
    call.view.served.group() == GROUP
}

/// Those that the cluster of the request has.
pub(crate) fn all(call: &Call) -> Result<Vec<Value>, ApiError> {
    if call.view.served.plural() == CLUSTER_MANAGERS {
        return Ok(vec![of_hub(call)?]);
    }
    let clusters = kinds::find("cluster.open-cluster-management.io", "v1", "managedclusters");
    let name = call.tenant.name.as_str();
    let stored = clusters.and_then(|kind| {
        let key = Key::new(kind.storage(), &ClusterName::root(), "", name);
        call.hub.server.objects.store().snapshot().get(&key)
    });
    let Some(stored) = stored else { return Ok(Vec::new()) };
    Ok(klusterlet(&stored.object.value()?).into_iter().collect())
}

/// A hub is as old as the first thing in it.
fn of_hub(call: &Call) -> Result<Value, ApiError> {
    let objects = &call.hub.server.objects;
    let now = objects.clock().unix_seconds();
    let first = Key::new(&Resource::new("", "namespaces"), &ClusterName::root(), "", "kube-system");
    let first = objects.store().snapshot().get(&first);
    let first = first.map(|stored| stored.object.value()).transpose()?;
    let made = first.as_ref().and_then(|it| it["metadata"]["creationTimestamp"].as_str());
    let mut since = now;
    let mut wrong = Vec::new();
    for check in &call.hub.server.checks {
        if let Some((why, from)) = check.failing(now) {
            since = since.min(from);
            wrong.push((check.name, why));
        }
    }
    let (now, since) = (time::from_unix(now), time::from_unix(since));
    Ok(cluster_manager(made.unwrap_or(&now), &since, &wrong))
}
