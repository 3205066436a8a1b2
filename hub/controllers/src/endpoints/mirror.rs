//! Mirrors Endpoints that people write for Services without a selector into EndpointSlices: nobody who leads
//! traffic reads anything else.
//!
//! Guarantees:
//! - all addresses of a subset up to a thousand are mirrored, whatever else has the same ports, and what is
//!   cut is told (`many_endpoints_by_hand_are_several_slices_and_what_is_cut_is_told`);
//! - only slices of its own are touched (`endpoints_by_hand_are_mirrored`);
//! - Endpoints that ask for it (`skip-mirror`), and those that serve an election, are left alone
//!   (`endpoints_that_ask_for_it_and_those_of_an_election_are_left_alone`).

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use serde_json::{Map, Value, json};

use super::is_ending;
use super::slices::{MANAGED_BY, SERVICE_NAME};
use crate::control::owner_reference;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error, Faults};
use crate::index::{IndexTerm, Indexes};

/// The writer's name, Kubernetes' own.
const MIRROR: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Annotations that speak of the Endpoints and of nothing else.
const NOT_MIRRORED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];
/// Most addresses of one subset that are mirrored, and most endpoints of one slice.
const ADDRESSES_MAX: usize = 1000;

/// The controller.
pub struct EndpointSliceMirroring {
    client: Client,
    indexes: Indexes,
    services: Arc<Kind>,
    slices: Arc<Kind>,
    endpoints: Arc<Kind>,
}

impl EndpointSliceMirroring {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            services: kind("", "v1", "services")?,
            slices: kind("discovery.k8s.io", "v1", "endpointslices")?,
            endpoints: kind("", "v1", "endpoints")?,
        })
    }

    fn present(&self, key: &Key) -> Vec<PresentSlice> {
        let term = IndexTerm::Service(&key.cluster, &key.namespace, &key.name);
        let all = self.indexes.slices.find(term);
        let mut own: Vec<Arc<Stored>> = all.iter().map(|slice| slice.stored.clone()).collect();
        own.retain(|slice| is_mirrored(slice));
        own.sort_by(|a, b| a.key.name.cmp(&b.key.name));
        let read = |stored: Arc<Stored>| {
            // What cannot be read is like nothing that is wanted.
            let value = stored.object.value().unwrap_or_default();
            PresentSlice { stored, value }
        };
        own.into_iter().map(read).collect()
    }

    /// The slices that have to be there.
    fn wanted(&self, key: &Key) -> Result<Vec<Value>, Error> {
        let snapshot = self.client.snapshot();
        let service = key_of(&self.services, &key.cluster, &key.namespace, &key.name);
        let (Some(endpoints), Some(service)) = (snapshot.get(key), snapshot.get(&service)) else {
            return Ok(Vec::new());
        };
        let read = |stored: &Stored| stored.object.value().map_err(Error::api("read an object"));
        // Most Services select, and the Endpoints of a large one are large.
        if read(&service)?["spec"]["selector"].is_object() {
            return Ok(Vec::new());
        }
        let value = read(&endpoints)?;
        let left_alone = value["metadata"]["labels"][SKIP] == "true"
            || value["metadata"]["annotations"].get(LEADER).is_some();
        if left_alone || endpoints.object.header.deleting {
            return Ok(Vec::new());
        }
        let cut = cut(&value);
        if cut != 0 {
            let text = format!(
                "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. \
                 {cut} addresses were skipped"
            );
            let (recorder, by) = (&self.client.recorder, self.client.name());
            recorder.warning(&self.endpoints, &endpoints, by, "TooManyAddressesToMirror", text);
        }
        Ok(mirrored(&value, &owner_reference(&self.endpoints, &endpoints)))
    }

    async fn write(
        &self,
        key: &Key,
        wanted: Value,
        place: Option<Arc<Stored>>,
    ) -> Result<(), Error> {
        let Some(old) = place else {
            let made =
                self.client.create(&self.slices, &key.cluster, &key.namespace, &wanted).await;
            return made.map(drop).map_err(Error::api("create a mirrored EndpointSlice"));
        };
        let change = |mut value: Value| {
            for part in ["endpoints", "ports"] {
                value[part] = wanted[part].clone();
            }
            for part in ["labels", "annotations", "ownerReferences"] {
                value["metadata"][part] = wanted["metadata"][part].clone();
            }
            Ok(value)
        };
        let written = self.client.modify_at(&self.slices, &old, None, change).await;
        written.map(drop).map_err(Error::api("write a mirrored EndpointSlice"))
    }
}

fn is_mirrored(slice: &Stored) -> bool {
    slice.object.header.labels.get(MANAGED_BY).is_some_and(|manager| manager == MIRROR)
}

/// A slice of our own that is there, also as JSON.
struct PresentSlice {
    stored: Arc<Stored>,
    value: Value,
}

/// How alike a slice that is there and one that has to be are to be: which of their parts are the same.
type Alike = &'static [&'static str];
const SAME: Alike = &["addressType", "ports", "endpoints"];
const SAME_SHAPE: Alike = &["addressType", "ports"];
const SAME_FAMILY: Alike = &["addressType"];

fn alike(parts: Alike, old: &Value, wanted: &Value) -> bool {
    let same = |old: &Value, part: &str| {
        let none = Vec::new();
        match (&old[part], &wanted[part]) {
            (Value::String(old), Value::String(wanted)) => old == wanted,
            (old, wanted) => old.as_array().unwrap_or(&none) == wanted.as_array().unwrap_or(&none),
        }
    };
    parts.iter().all(|part| same(old, part))
}

/// Takes what is wanted and its place from the lists, where there is one.
fn pair_up(
    wanted: &mut Vec<Value>,
    present: &mut Vec<PresentSlice>,
    parts: Alike,
) -> Vec<(Value, Option<Arc<Stored>>)> {
    let mut pairs = Vec::new();
    for value in std::mem::take(wanted) {
        match present.iter().position(|old| alike(parts, &old.value, &value)) {
            Some(at) => pairs.push((value, Some(present.remove(at).stored))),
            None => wanted.push(value),
        }
    }
    pairs
}

/// A subset's addresses that are mirrored and whether they are ready, and how many are not.
fn addresses(subset: &Value) -> (impl Iterator<Item = (&Value, bool)>, usize) {
    let list = |key: &str| subset[key].as_array().into_iter().flatten();
    let ready = list("addresses").map(|address| (address, true));
    let all = ready.chain(list("notReadyAddresses").map(|address| (address, false)));
    let much = list("addresses").count() + list("notReadyAddresses").count();
    (all.take(ADDRESSES_MAX), much.saturating_sub(ADDRESSES_MAX))
}

/// How many addresses are not mirrored.
fn cut(endpoints: &Value) -> usize {
    let subsets = endpoints["subsets"].as_array().into_iter().flatten();
    subsets.map(|subset| addresses(subset).1).sum()
}

/// One slice per family and set of ports, or several when subsets have the same ports: pure.
fn mirrored(endpoints: &Value, owner: &Value) -> Vec<Value> {
    let mut groups: BTreeMap<(bool, String), (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let ports: Vec<Value> =
            subset["ports"].as_array().into_iter().flatten().map(port).collect();
        let same_ports = json!(ports).to_string();
        for (address, ready) in addresses(subset).0 {
            let ip = address["ip"].as_str().and_then(|ip| ip.parse::<IpAddr>().ok());
            let Some(ip) = ip else { continue };
            let group = groups.entry((ip.is_ipv6(), same_ports.clone()));
            let (_, list) = group.or_insert_with(|| (ports.clone(), Vec::new()));
            list.push(endpoint(address, &ip, ready));
        }
    }
    let meta = metadata(endpoints, owner);
    let mut slices = Vec::new();
    for ((six, _), (ports, mut list)) in groups {
        let mut taken = HashSet::new();
        list.retain(|endpoint| taken.insert(endpoint["addresses"].to_string()));
        slices.extend(list.chunks(ADDRESSES_MAX).map(|part| {
            json!({
                "metadata": meta, "addressType": if six { "IPv6" } else { "IPv4" },
                "endpoints": part, "ports": ports,
            })
        }));
    }
    slices
}

fn metadata(endpoints: &Value, owner: &Value) -> Value {
    let meta = &endpoints["metadata"];
    let map = |key: &str| meta[key].as_object().cloned().unwrap_or_default();
    let name = meta["name"].as_str().unwrap_or_default();
    let mut labels = map("labels");
    labels.insert(SERVICE_NAME.into(), json!(name));
    labels.insert(MANAGED_BY.into(), json!(MIRROR));
    let mut annotations = map("annotations");
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    json!({
        "generateName": format!("{name}-"), "namespace": meta["namespace"], "labels": labels,
        "annotations": annotations, "ownerReferences": [owner],
    })
}

fn port(port: &Value) -> Value {
    let mut out = json!({
        "name": port["name"].as_str().unwrap_or_default(), "port": port["port"],
        "protocol": port["protocol"].as_str().unwrap_or("TCP"),
    });
    copy(port, &mut out, &["appProtocol"]);
    out
}

fn endpoint(address: &Value, ip: &IpAddr, ready: bool) -> Value {
    let mut out = json!({"addresses": [ip.to_string()], "conditions": {"ready": ready}});
    copy(address, &mut out, &["hostname", "nodeName", "targetRef"]);
    out
}

fn copy(from: &Value, to: &mut Value, keys: &[&str]) {
    let none = Map::new();
    let from = from.as_object().unwrap_or(&none);
    for (key, value) in from.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
        to[key.as_str()] = value.clone();
    }
}

#[async_trait]
impl Controller for EndpointSliceMirroring {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        [&self.services, &self.slices, &self.endpoints].map(|kind| everywhere(kind)).to_vec()
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let of = |name: &str| key_of(&self.endpoints, &key.cluster, &key.namespace, name);
        if key.resource != *self.slices.storage() {
            return vec![of(&key.name)];
        }
        let sides = event.now.iter().chain(event.before.iter()).filter(|slice| is_mirrored(slice));
        sides.filter_map(|s| s.object.header.labels.get(SERVICE_NAME)).map(|n| of(n)).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let mut present = self.present(key);
        let mut wanted = self.wanted(key)?;
        let mut pairs = Vec::new();
        // A slice that is right as it is stays; one of the same family and ports is next, then any of the
        // family: the ports of a slice may change, its family may not.
        for same in [SAME, SAME_SHAPE, SAME_FAMILY] {
            pairs.extend(pair_up(&mut wanted, &mut present, same));
        }
        pairs.extend(wanted.into_iter().map(|wanted| (wanted, None)));
        let mut faults = Faults::default();
        for (wanted, place) in pairs {
            match self.write(key, wanted, place).await {
                Err(error) if is_ending(&error) => return Ok(None),
                other => _ = faults.note(other),
            }
        }
        for left in present {
            let uid = &left.stored.object.header.uid;
            let deleted =
                self.client.delete(&self.slices, &left.stored.key, uid, Propagation::Background);
            let doing = "delete a mirrored EndpointSlice";
            faults.note(deleted.await.map(drop).map_err(Error::api(doing)));
        }
        faults.end().map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_and_set_of_ports_is_a_slice() {
        let endpoints = json!({
            "metadata": {"name": "db", "namespace": "default", "labels": {"a": "b"},
                "annotations": {"mine": "1", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
            "subsets": [
                {"addresses": [{"ip": "10.0.0.1", "hostname": "one"}, {"ip": "2001:db8::1"}],
                    "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"name": "sql", "port": 5432}]},
                {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80, "protocol": "TCP"}]},
            ],
        });
        let slices = mirrored(&endpoints, &json!({"kind": "Endpoints"}));
        let told: Vec<_> = slices
            .iter()
            .map(|slice| {
                let count = slice["endpoints"].as_array().unwrap().len();
                (
                    slice["addressType"].as_str().unwrap(),
                    slice["ports"][0]["port"].as_i64().unwrap(),
                    count,
                )
            })
            .collect();
        assert_eq!(told, [("IPv4", 80, 1), ("IPv4", 5432, 2), ("IPv6", 5432, 1)]);
        let sql = &slices[1];
        assert_eq!(sql["endpoints"][0]["hostname"], "one");
        assert_eq!(sql["endpoints"][1]["conditions"]["ready"], false);
        assert_eq!(sql["metadata"]["annotations"], json!({"mine": "1"}));
        assert_eq!(
            sql["metadata"]["labels"],
            json!({"a": "b", SERVICE_NAME: "db", MANAGED_BY: MIRROR})
        );
    }
}
