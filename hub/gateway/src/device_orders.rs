//! Orders to devices, as the gateway finds and answers them ([`freewheel_hub_api::device_orders`]).
//!
//! Guarantees:
//! - who is decommissioned is let in no more, whatever token it comes with
//!   (`who_is_decommissioned_comes_in_by_no_token_and_hears_so_at_every_door`);
//! - a board takes another's name only while that belongs to its key (`a_board_takes_the_place_of_another`).

use freewheel_hub_api::device_orders::{NAMESPACE, Order, Rename, Wipe, name};
use freewheel_hub_api::kinds::managed_cluster::AGENT_KEY_ANNOTATION;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::digest::Digest;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use tracing::warn;

use crate::object_refs::{CLUSTERS, object_ref};

const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "configmaps");

fn place(key: &Digest) -> Result<ObjectRef, ApiError> {
    object_ref(CONFIG_MAPS, &ClusterName::root(), NAMESPACE, &name(&key.to_string()))
}

/// What the device with this key is to do.
pub(crate) fn find(objects: &Objects, key: &Digest) -> Option<Order> {
    let stored = objects.get(&place(key).ok()?).ok()?;
    Order::read(&stored.object.value().ok()?)
}

/// Why this key is let in nowhere.
pub(crate) fn bars(objects: &Objects, key: &Digest) -> Option<Reason> {
    match find(objects, key)? {
        Order::Wipe(wipe) => Some(Reason::Decommissioned(wipe.id)),
        Order::Rename(_) => None,
    }
}

/// The ManagedCluster whose place the device with this key has taken: its name and its UID.
pub(crate) fn renamed(objects: &Objects, key: &Digest) -> Option<(ClusterName, String)> {
    let Order::Rename(Rename { to, .. }) = find(objects, key)? else { return None };
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", &to).ok()?;
    let cluster = objects.get(&place).ok()?.object.value().ok()?;
    let own = &cluster["metadata"]["annotations"][AGENT_KEY_ANNOTATION];
    let uid = cluster["metadata"]["uid"].as_str()?.to_owned();
    (*own == key.to_string()).then_some(())?;
    Some((ClusterName::try_from(to).ok()?, uid))
}

/// Notes that the device with this key has heard that it is decommissioned.
pub(crate) async fn note_told(objects: &Objects, key: &Digest) {
    let told = |wipe: Wipe, now: &str| wipe.told(now);
    if let Err(error) = change(objects, key, told).await {
        warn!(%key, %error, "cannot note that a device has heard that it is decommissioned");
    }
}

/// Keeps that the device has done what an order said, but for what it says is left.
pub(crate) async fn note_wiped(
    objects: &Objects,
    key: &Digest,
    left: &str,
) -> Result<(), ApiError> {
    change(objects, key, |wipe, now| wipe.wiped(now, left)).await
}

/// Changes an order to wipe; one that is none any more stays as it is.
async fn change(
    objects: &Objects,
    key: &Digest,
    change: impl Fn(Wipe, &str) -> Wipe + Send + Sync,
) -> Result<(), ApiError> {
    let now = time::from_unix(objects.clock().unix_seconds());
    let write = |mut value: serde_json::Value| {
        if let Some(Order::Wipe(wipe)) = Order::read(&value) {
            value["data"] = Order::Wipe(change(wipe, &now)).to_object()["data"].take();
        }
        Ok(value)
    };
    objects.modify(&WriteOptions::default(), &place(key)?, None, write).await.map(drop)
}
