//! Devices as `hub decommission` and `hub replace` find them, and the orders that they give
//! ([`freewheel_hub_api::device_orders`]).
//!
//! Guarantees:
//! - who lost a place to another board leaves no order behind, and takes none back that was carried out
//!   (`an_order_is_taken_back_when_another_board_has_the_place`).

use bytes::Bytes;
use freewheel_hub_api::device_orders::{
    DEVICE_LABEL, NAMESPACE, ORDER_LABEL, Order, Rename, Wipe, name,
};
use freewheel_hub_api::kinds::managed_cluster::{AGENT_KEY_ANNOTATION, DEVICE_LABELS_ANNOTATION};
use freewheel_hub_pki::letters;
use freewheel_hub_schema::time;
use freewheel_link::digest::NotADigest;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Client, ClientError};

const CLUSTERS: &str = "/apis/cluster.open-cluster-management.io/v1/managedclusters";
const JSON: &str = "application/json";
/// Letters of what an order is known by.
const ID_LETTERS: usize = 24;
/// Devices that are looked at at a time.
const PAGE_ITEMS: usize = 500;
/// Times that an object is looked at again because somebody else has just written it.
const TRIES_MAX: usize = 8;

/// Why nothing is ordered.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The hub cannot be asked, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// It is not there.
    #[error(
        "there is no device {0}, and none of this name was decommissioned: `kubectl get managedclusters` lists them"
    )]
    Unknown(String),
    /// Nobody has come as this.
    #[error(
        "no device has joined as {0} yet: `kubectl delete managedcluster {0}` removes the name"
    )]
    Unjoined(String),
    /// The name is another's by now.
    #[error("{0} was given to another device meanwhile: look at it again")]
    Changed(String),
    /// Its place will be nobody's.
    #[error(
        "{0} is being deleted: when it is gone, a new board may join under its name, and nothing is left of what it was"
    )]
    Going(String),
    /// The name is another's than of whom it was said before.
    #[error(
        "{before}. Another device is {name} now, with key {key}: if that one is meant, say so with --key {key}"
    )]
    CameLater {
        /// The name.
        name: String,
        /// The key that has it.
        key: String,
        /// What was done to the one before it.
        before: String,
    },
    /// The device that is meant is not there.
    #[error("the device {name} has key {key}, which is not the one of --key")]
    OtherKey {
        /// The name.
        name: String,
        /// The key that has it.
        key: String,
    },
    /// It has come again under another name.
    #[error(
        "the device with key {key} is {name} now, not {meant}: if it is meant, say so by that name (`hub decommission {name}`)"
    )]
    HasAnotherName {
        /// By which it was called.
        meant: String,
        /// The name that it has.
        name: String,
        /// Its key.
        key: String,
    },
    /// A key is of one device.
    #[error("--key says which device of one name is meant: give one name with it")]
    KeyOfSeveral,
    /// It can be nobody's.
    #[error("--key is what `hub decommission` tells of a device: {0}")]
    NoKey(#[from] NotADigest),
    /// A board that is to wipe itself takes nobody's place.
    #[error("the device {0} is decommissioned")]
    Decommissioned(String),
    /// Two are needed.
    #[error("{0} cannot take its own place")]
    Same(String),
    /// It is not let in.
    #[error(
        "{0} is not accepted: a board joins and is accepted (`hub accept {0}`) before it takes another's place"
    )]
    NotAccepted(String),
    /// It runs.
    #[error(
        "{0} is connected, or was until a moment ago: the hub misses who is turned off after 40 s. Turn it off, and say this \
         again when `kubectl get node {0}` says NotReady; or give --force to take its place while it runs: its pods end \
         there, and all that it holds is wiped"
    )]
    Connected(String),
}

/// A device, by its ManagedCluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub uid: String,
    /// The key that the name belongs to.
    pub key: Option<String>,
    /// The hub lets it in.
    pub accepted: bool,
    /// It is on its way out.
    pub going: bool,
    /// As it was looked at.
    pub version: String,
}

fn read(cluster: &Value) -> Device {
    let meta = &cluster["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Device {
        name: text(&meta["name"]),
        uid: text(&meta["uid"]),
        key: meta["annotations"][AGENT_KEY_ANNOTATION].as_str().map(str::to_owned),
        accepted: cluster["spec"]["hubAcceptsClient"] == true,
        going: meta["deletionTimestamp"].is_string(),
        version: text(&meta["resourceVersion"]),
    }
}

/// What is there, if it is.
async fn get_if_there(client: &Client, path: &str) -> Result<Option<Value>, ClientError> {
    match client.get(path).await {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::Refused { code: StatusCode::NOT_FOUND, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The device of this name.
pub async fn find(client: &Client, name: &str) -> Result<Option<Device>, ClientError> {
    Ok(get_if_there(client, &format!("{CLUSTERS}/{name}")).await?.as_ref().map(read))
}

/// The name of the device with this key, whichever that is.
pub async fn named(client: &Client, key: &str) -> Result<Option<String>, ClientError> {
    let mut next = String::new();
    loop {
        let page = client.get(&format!("{CLUSTERS}?limit={PAGE_ITEMS}&continue={next}")).await?;
        let mut devices = page["items"].as_array().into_iter().flatten().map(read);
        if let Some(found) = devices.find(|device| device.key.as_deref() == Some(key)) {
            return Ok(Some(found.name));
        }
        match page["metadata"]["continue"].as_str() {
            Some(more) if !more.is_empty() => more.clone_into(&mut next),
            _ => return Ok(None),
        }
    }
}

/// Whether it is in session with its hub, or was until a moment ago.
pub async fn is_connected(client: &Client, name: &str) -> Result<bool, ClientError> {
    let node = get_if_there(client, &format!("/api/v1/nodes/{name}")).await?.unwrap_or_default();
    let mut conditions = node["status"]["conditions"].as_array().into_iter().flatten();
    Ok(conditions.any(|it| it["type"] == "Ready" && it["status"] == "True"))
}

fn order_path(key: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/configmaps/{}", name(key))
}

/// The order to the device with this key.
pub async fn order(client: &Client, key: &str) -> Result<Option<Order>, ClientError> {
    Ok(get_if_there(client, &order_path(key)).await?.as_ref().and_then(Order::read))
}

/// Every order to wipe, of devices of this name or of all.
pub async fn wipes(client: &Client, device: Option<&str>) -> Result<Vec<Wipe>, ClientError> {
    let of = device.map(|name| format!("%2C{DEVICE_LABEL}%3D{name}")).unwrap_or_default();
    let selector = format!("{ORDER_LABEL}%3Dwipe{of}").replace('/', "%2F");
    let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps?labelSelector={selector}");
    let list = client.get(&path).await?;
    let orders = list["items"].as_array().into_iter().flatten().filter_map(Order::read);
    let wipes = orders.filter_map(|order| match order {
        Order::Wipe(wipe) => Some(wipe),
        Order::Rename(_) => None,
    });
    Ok(wipes.collect())
}

/// Gives an order, in the place of one that takes the device another way. What is to be wiped stays that.
pub async fn give(client: &Client, key: &str, wanted: &Order) -> Result<Order, ClientError> {
    let all = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
    let mut last = None;
    for _ in 0..TRIES_MAX {
        let there = get_if_there(client, &order_path(key)).await?;
        let known = there.as_ref().and_then(Order::read);
        if let Some(known) =
            known.filter(|known| matches!(known, Order::Wipe(_)) || known == wanted)
        {
            return Ok(known);
        }
        let mut object = wanted.to_object();
        let written = match there {
            None => client.json(Method::POST, &all, JSON, &object).await,
            Some(there) => {
                object["metadata"]["resourceVersion"] =
                    there["metadata"]["resourceVersion"].clone();
                client.json(Method::PUT, &order_path(key), JSON, &object).await
            }
        };
        match written {
            Ok(_) => return Ok(wanted.clone()),
            Err(error @ ClientError::Refused { code: StatusCode::CONFLICT, .. }) => {
                last = Some(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| ClientError::Answer("the order was not written".to_owned())))
}

/// Orders the device with this key, which was called so, to wipe all that it holds; or what was ordered before.
pub async fn wipe(client: &Client, cluster: &str, key: &str) -> Result<Wipe, ClientError> {
    let new = Wipe {
        cluster: cluster.to_owned(),
        key: key.to_owned(),
        id: letters(ID_LETTERS)?,
        ordered_at: time::now(),
        ..Wipe::default()
    };
    match give(client, key, &Order::Wipe(new.clone())).await? {
        Order::Wipe(wipe) => Ok(wipe),
        Order::Rename(_) => Ok(new),
    }
}

/// The name belongs to this key from here on: one write, of the ManagedCluster that was looked at. Its labels stay what
/// they are: the new device has not joined with them, and they are none of its to say.
pub async fn hand_over(client: &Client, device: &Device, to: &str) -> Result<(), DeviceError> {
    let path = format!("{CLUSTERS}/{}", device.name);
    let mut seen = device.clone();
    for _ in 0..TRIES_MAX {
        if seen.uid == device.uid && seen.going {
            return Err(DeviceError::Going(device.name.clone()));
        }
        if (&seen.uid, &seen.key) != (&device.uid, &device.key) {
            return Err(DeviceError::Changed(device.name.clone()));
        }
        let patch = hand_over_patch(&seen.version, to);
        match client.json(Method::PATCH, &path, "application/merge-patch+json", &patch).await {
            Ok(_) => return Ok(()),
            // Its status was written just now.
            Err(ClientError::Refused { code: StatusCode::CONFLICT, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        seen = find(client, &device.name).await?.unwrap_or_default();
    }
    Err(DeviceError::Changed(device.name.clone()))
}

/// What is sent for it, where this version was looked at.
pub fn hand_over_patch(version: &str, to: &str) -> Value {
    json!({"metadata": {
        "resourceVersion": version,
        "annotations": {AGENT_KEY_ANNOTATION: to, DEVICE_LABELS_ANNOTATION: null},
    }})
}

/// Notes that a board has the place that it was to take: from here on nobody takes its order back.
pub async fn note_taken(client: &Client, becomes: &Rename) -> Result<(), ClientError> {
    let given = order(client, &becomes.key).await?;
    if given.is_some_and(|given| is_taken(&given, &becomes.to)) {
        return Ok(());
    }
    let taken = Rename { taken_at: Some(time::now()), ..becomes.clone() };
    give(client, &becomes.key, &Order::Rename(taken)).await.map(drop)
}

fn is_taken(order: &Order, to: &str) -> bool {
    matches!(order, Order::Rename(rename) if rename.to == to && rename.taken_at.is_some())
}

/// Takes an order back that came to nothing: the one that was there before it was seen that its board does not have the
/// place. Who takes the place for it meanwhile writes it anew.
pub async fn take_back(client: &Client, becomes: &Rename) -> Result<(), ClientError> {
    let path = order_path(&becomes.key);
    let Some(there) = get_if_there(client, &path).await? else { return Ok(()) };
    let place = find(client, &becomes.to).await?;
    if !came_to_nothing(Order::read(&there).as_ref(), place.as_ref(), becomes) {
        return Ok(());
    }
    let meta = &there["metadata"];
    let only = json!({"uid": meta["uid"], "resourceVersion": meta["resourceVersion"]});
    match remove(client, &path, &only).await {
        Err(ClientError::Refused { code: StatusCode::CONFLICT, .. }) => Ok(()),
        outcome => outcome,
    }
}

/// Whether nothing has come of this order.
fn came_to_nothing(order: Option<&Order>, place: Option<&Device>, becomes: &Rename) -> bool {
    let has_it = place.is_some_and(|place| place.key.as_ref() == Some(&becomes.key));
    !has_it && matches!(order, Some(Order::Rename(there)) if there == becomes)
}

/// Deletes its ManagedCluster, which goes when all that belongs to it is gone.
pub async fn delete(client: &Client, device: &Device) -> Result<(), ClientError> {
    let path = format!("{CLUSTERS}/{}", device.name);
    remove(client, &path, &json!({"uid": device.uid})).await
}

/// Deletes what is there, if it is this.
async fn remove(client: &Client, path: &str, only: &Value) -> Result<(), ClientError> {
    let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": only});
    let body = Bytes::from(options.to_string());
    match client.send(Method::DELETE, path, JSON, body).await?.success() {
        Ok(_) | Err(ClientError::Refused { code: StatusCode::NOT_FOUND, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_taken_back_when_another_board_has_the_place() {
        let [cluster, key, to] = ["new", "k2", "pi-7"].map(str::to_owned);
        let becomes = Rename { cluster, key, to, taken_at: None };
        let given = Order::Rename(becomes.clone());
        let place = |key: &str| Device { key: Some(key.to_owned()), ..Device::default() };
        let nothing =
            |order: &Order, key: &str| came_to_nothing(Some(order), Some(&place(key)), &becomes);
        assert!(nothing(&given, "k3") && came_to_nothing(Some(&given), None, &becomes));
        assert!(!nothing(&given, "k2"), "it has it");
        let taken = Order::Rename(Rename { taken_at: Some("now".to_owned()), ..becomes.clone() });
        assert!(!nothing(&taken, "k3"), "it had it, and may come back to it");
        assert!(is_taken(&taken, "pi-7") && !is_taken(&taken, "pi-8") && !is_taken(&given, "pi-7"));
        let wiped = Order::Wipe(Wipe::default());
        assert!(!nothing(&wiped, "k3") && !came_to_nothing(None, None, &becomes));
    }

    #[test]
    fn a_device_is_known_by_its_key() {
        let cluster = json!({
            "metadata": {"name": "pi-7", "uid": "u", "resourceVersion": "7",
                "annotations": {AGENT_KEY_ANNOTATION: "sha256:ab"}},
            "spec": {"hubAcceptsClient": true},
        });
        let device = read(&cluster);
        assert_eq!((&*device.name, device.key.as_deref()), ("pi-7", Some("sha256:ab")));
        assert!(device.accepted && !device.going);
        assert_eq!(read(&json!({"metadata": {"name": "pi-8"}})).key, None);
    }
}
