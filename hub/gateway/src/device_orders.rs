//! Orders to devices, as the gateway finds and answers them ([`freewheel_hub_api::device_orders`]).
//!
//! Guarantees:
//! - who is decommissioned is let in no more, whatever token it comes with
//!   (`who_is_decommissioned_comes_in_by_no_token_and_hears_so_at_every_door`);
//! - a receipt is of the key that the order is for, and of no other word that it has ever signed
//!   (`a_receipt_is_signed_by_the_key_for_this_very_order`);
//! - a board takes another's name only while that belongs to its key (`a_board_takes_the_place_of_another`).

use freewheel_hub_api::device_orders::{NAMESPACE, Order, Rename, Wipe, name};
use freewheel_hub_api::kinds::managed_cluster::AGENT_KEY_ANNOTATION;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_pki::{Request, VerifiedRequest};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::digest::Digest;
use freewheel_link::join::{JoinRefusal, WipedV1};
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;
use tracing::{info, warn};

use crate::joining::Refusal;
use crate::object_refs::{CLUSTERS, object_ref};
use crate::spoke_identity::SpokeIdentity;

const CONFIG_MAPS: (&str, &str, &str) = ("", "v1", "configmaps");

fn place(key: &Digest) -> Result<ObjectRef, ApiError> {
    object_ref(CONFIG_MAPS, &ClusterName::root(), NAMESPACE, &name(&key.to_string()))
}

/// What the device with this key is to do.
fn find(objects: &Objects, key: &Digest) -> Option<Order> {
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

/// Who the device with this certificate is by now, where it has taken another's place.
pub(crate) fn successor(objects: &Objects, identity: &SpokeIdentity) -> Option<SpokeIdentity> {
    let (cluster, uid) = renamed(objects, &identity.key)?;
    Some(SpokeIdentity { cluster, uid, ..identity.clone() })
}

/// Notes that the device with this key has heard that it is decommissioned.
pub(crate) async fn note_told(objects: &Objects, key: &Digest) {
    let told = |wipe: Wipe, now: &str| wipe.told(now);
    if let Err(error) = change(objects, key, told).await {
        warn!(%key, %error, "cannot note that a device has heard that it is decommissioned");
    }
}

/// Keeps the receipt of a device that has wiped what it held.
pub(crate) async fn wiped(objects: &Objects, said: &WipedV1) -> Result<(), Refusal> {
    let odd = |text: &str| Refusal(JoinRefusal::Request, text.to_owned());
    let request = VerifiedRequest::read(&said.csr).map_err(|error| odd(&error.to_string()))?;
    let key = request.fingerprint();
    let Some(Order::Wipe(wipe)) = find(objects, &key) else {
        let text = "there is no order for this key".to_owned();
        return Err(Refusal(JoinRefusal::Unknown, text));
    };
    let request = Request::read(&said.csr).map_err(|error| odd(&error.to_string()))?;
    let (names, _) = request.claims().map_err(|error| odd(&error.to_string()))?;
    if names != [WipedV1::statement(&wipe.id)] {
        return Err(odd("what is signed is no receipt of this key's order"));
    }
    change(objects, &key, |wipe, now| wipe.wiped(now)).await?;
    info!(cluster = wipe.cluster, %key, "a decommissioned device has wiped what it held");
    Ok(())
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
