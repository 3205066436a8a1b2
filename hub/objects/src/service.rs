//! Addresses and node ports of Services: keys that are written in the Service's own transaction.
//!
//! ```text
//! clusterips.internal        (realm, "", "10.128.3.7")  one realm's virtual IPs
//! nodeports.internal         (realm, "", "30080")       one realm's ports on its devices
//! sharednodeports.internal   (root,  "", "30080")       counts the spokes' clusters that hold that port
//! ```
//!
//! A port of the root is open on every device, one of a spoke's cluster on its device alone: two such
//! clusters may hold the same, the root and one of them may not.
//!
//! Guarantees:
//! - no address or port is held twice where it would be open twice (`an_address_may_be_asked_for_once`,
//!   `a_node_port_is_held_once_where_it_is_open`);
//! - nor is one when many write at the same time (`many_at_once_never_share`,
//!   `a_hundred_clusters_take_the_same_port_at_once_and_leave_most_to_the_root`), who do not stand in each other's way
//!   (`a_burst_over_one_port_costs_one_commit_each`, `a_burst_that_may_choose_costs_one_commit_each`);
//! - what a Service gives up is free with the write that gives it up (`a_change_of_type_gives_back_what_it_held`,
//!   `a_deleted_service_gives_back_everything`);
//! - a Service may hold every node port there is, and can be deleted
//!   (`a_service_may_hold_every_node_port_and_can_be_deleted`);
//! - clusters of spokes leave ports to the root, whatever they take
//!   (`who_takes_all_ports_of_its_device_leaves_the_root_its_own`).
//!
//! That an update keeps what it leaves out is the kind's own rule.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use freewheel_hub_api::kinds::service::{CLUSTER_IPS, NODE_PORTS};
use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Header, Key, Object, Resource};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::pending_claims::{PendingClaims, Reserved};
use super::{Claims, ObjectRef, ip_address};
use crate::clock::{Clock, Random};
use freewheel_hub_store::{Expect, MAX_OPERATIONS, Scope, Snapshot, Store};

const FIRST_CLUSTER_IP: u32 = CLUSTER_IPS.0.to_bits();
const CLUSTER_IP_COUNT: u32 = 1 << (32 - CLUSTER_IPS.1);
/// The first addresses are left to those who ask for one, as kube-apiserver does.
const STATIC_BAND_ADDRESSES: u32 = 256;
const FIRST_NODE_PORT: u32 = *NODE_PORTS.start() as u32;
const NODE_PORT_COUNT: u32 = *NODE_PORTS.end() as u32 - FIRST_NODE_PORT + 1;
// The object itself, an address taken and one given back, each with its object, and two records for each port;
// expectations are as many.
const _: () = assert!(5 + 2 * NODE_PORT_COUNT as usize <= MAX_OPERATIONS);
/// Clusters of spokes take the last ports first, all of them the same: what any of them holds is nothing
/// for the root.
const SHARED_BAND_PORTS: u32 = 64;
/// Ports that clusters of spokes never get: what a tenant takes on its device is taken from the whole fleet's Services.
/// They lie where examples and people seldom ask for one.
const ROOT_ONLY: RangeInclusive<u32> = 31_360..=31_999;
const _: () = assert!(FIRST_NODE_PORT <= *ROOT_ONLY.start());
const _: () = assert!(*ROOT_ONLY.end() < FIRST_NODE_PORT + NODE_PORT_COUNT - SHARED_BAND_PORTS);
/// How often chance is asked before the range is searched in order.
const RANDOM_TRIES_MAX: u32 = 16;

/// What a Service was given, and that nobody else chooses it while it is on its way.
#[derive(Default)]
pub(super) struct AllocatedService {
    pub(super) claims: Claims,
    pub(super) reserved: Option<Reserved>,
}

/// Fills in addresses and ports of `new` and says what to write for them.
pub(super) fn claim(
    (store, pending_claims): (&dyn Store, &Arc<PendingClaims>),
    (clock, chance): (&dyn Clock, &dyn Random),
    place: &ObjectRef,
    new: &mut Value,
    old: Option<&Value>,
) -> Result<AllocatedService, ApiError> {
    if !place.kind.has(Trait::HoldsAddresses) {
        return Ok(AllocatedService::default());
    }
    let had = old.map(|old| held(old, place)).unwrap_or_default();
    let (has, reserved) = pending_claims.choose(|pending_claims| {
        let snapshot = store.snapshot();
        let ledger =
            ServiceAllocator { snapshot: &*snapshot, pending_claims, chance, place, had: &had };
        ledger.give_address(new)?;
        ledger.give_ports(new)?;
        let has = held(new, place);
        let more = has.difference(&had).cloned().collect();
        Ok::<_, ApiError>((has, more))
    })?;
    let mut claims = Claims::default();
    for key in has.difference(&had) {
        claims.take(key.clone(), owner(place));
        if key.resource == addresses() {
            let object = ip_address::born((clock, chance), place, &key.name)?;
            claims.take(ip_address::key(&key.cluster, &key.name), object);
        }
        share(&mut claims, key, true);
    }
    for key in had.difference(&has) {
        give_back(&mut claims, key);
    }
    Ok(AllocatedService { claims, reserved: Some(reserved) })
}

/// What frees everything a Service holds.
pub(super) fn release(old: &Value, place: &ObjectRef) -> Claims {
    let mut claims = Claims::default();
    if place.kind.has(Trait::HoldsAddresses) {
        held(old, place).iter().for_each(|key| give_back(&mut claims, key));
    }
    claims
}

fn give_back(claims: &mut Claims, key: &Key) {
    claims.give_back(key.clone());
    if key.resource == addresses() {
        claims.give_back(ip_address::key(&key.cluster, &key.name));
    }
    share(claims, key, false);
}

/// Keeps the root and the clusters of spokes apart: the root takes a port only while no cluster holds
/// it, and each of them counts itself in and out.
fn share(claims: &mut Claims, key: &Key, takes: bool) {
    if key.resource != node_ports() {
        return;
    }
    let shared = shared_key(&key.name);
    match (key.cluster.is_root(), takes) {
        (true, true) => claims.expect(Expect::AtMost(shared, 0)),
        (true, false) => {}
        (false, true) => {
            claims.expect(Expect::Absent(port_key(&ClusterName::root(), &key.name)));
            claims.count(shared, 1);
        }
        (false, false) => claims.count(shared, -1),
    }
}

fn owner(place: &ObjectRef) -> Object {
    // The name of a Service with generateName is known by now: create settles it first.
    let body = json!({
        "realm": place.cluster.as_str(), "namespace": place.namespace, "name": place.name,
    });
    Object { header: Header::default(), body: Bytes::from(body.to_string()) }
}

fn addresses() -> Resource {
    Resource::new("internal", "clusterips")
}

fn address_key(place: &ObjectRef, address: &str) -> Key {
    Key::new(&addresses(), &place.cluster, "", address)
}

fn node_ports() -> Resource {
    Resource::new("internal", "nodeports")
}

fn port_key(cluster: &ClusterName, port: &str) -> Key {
    Key::new(&node_ports(), cluster, "", port)
}

fn shared_key(port: &str) -> Key {
    let resource = Resource::new("internal", "sharednodeports");
    Key::new(&resource, &ClusterName::root(), "", port)
}

/// The keys of everything the Service's spec names.
fn held(service: &Value, place: &ObjectRef) -> BTreeSet<Key> {
    let mut keys = BTreeSet::new();
    if !is_external_name(service)
        && let Some(address) = service.pointer("/spec/clusterIP").and_then(Value::as_str)
        && address.parse::<Ipv4Addr>().is_ok()
    {
        keys.insert(address_key(place, address));
    }
    let numbers = ports(service).filter_map(node_port);
    keys.extend(numbers.map(|port| port_key(&place.cluster, &port.to_string())));
    keys
}

fn ports(service: &Value) -> impl Iterator<Item = &Value> {
    service.pointer("/spec/ports").and_then(Value::as_array).into_iter().flatten()
}

fn node_port(port: &Value) -> Option<u64> {
    port.get("nodePort").and_then(Value::as_u64).filter(|port| *port != 0)
}

fn kind_of(service: &Value) -> &str {
    service.pointer("/spec/type").and_then(Value::as_str).unwrap_or("ClusterIP")
}

fn is_external_name(service: &Value) -> bool {
    kind_of(service) == "ExternalName"
}

fn wants_ports(service: &Value) -> bool {
    let allocate = service.pointer("/spec/allocateLoadBalancerNodePorts").and_then(Value::as_bool);
    match kind_of(service) {
        "NodePort" => true,
        "LoadBalancer" => allocate != Some(false),
        _ => false,
    }
}

struct ServiceAllocator<'a> {
    snapshot: &'a dyn Snapshot,
    pending_claims: &'a BTreeSet<Key>,
    chance: &'a dyn Random,
    place: &'a ObjectRef,
    had: &'a BTreeSet<Key>,
}

impl ServiceAllocator<'_> {
    fn is_free(&self, key: &Key) -> bool {
        self.had.contains(key) || (self.snapshot.get(key).is_none() && !self.is_spoken_for(key))
    }

    /// Whether somebody has made an IPAddress of it.
    fn is_spoken_for(&self, key: &Key) -> bool {
        let object = || self.snapshot.get(&ip_address::key(&key.cluster, &key.name));
        key.resource == addresses() && object().is_some()
    }

    /// Whether nobody has it, nor will in a moment.
    fn may_be_chosen(&self, key: &Key) -> bool {
        self.is_free(key) && !self.pending_claims.contains(key)
    }

    fn refuse(&self, error: FieldError) -> ApiError {
        ApiError::invalid(
            self.place.kind.group(),
            self.place.kind.kind(),
            &self.place.name,
            &[error],
        )
    }

    fn give_address(&self, service: &mut Value) -> Result<(), ApiError> {
        if is_external_name(service) {
            return Ok(());
        }
        let Some(spec) = service.get_mut("spec").and_then(Value::as_object_mut) else {
            return Ok(());
        };
        let first = spec.get("clusterIPs").and_then(|list| list.get(0)?.as_str());
        let one = spec.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty());
        let wanted = one.or(first).unwrap_or_default().to_owned();
        let address = match wanted.as_str() {
            "None" => wanted,
            "" => self.any_address()?,
            _ => self.this_address(wanted)?,
        };
        spec.entry("clusterIPs").or_insert_with(|| json!([address]));
        spec.insert("clusterIP".to_owned(), Value::String(address));
        spec.entry("ipFamilies").or_insert_with(|| json!(["IPv4"]));
        spec.entry("ipFamilyPolicy").or_insert_with(|| json!("SingleStack"));
        Ok(())
    }

    fn any_address(&self) -> Result<String, ApiError> {
        let dynamic = CLUSTER_IP_COUNT - STATIC_BAND_ADDRESSES - 1;
        let start = self.chance.below(dynamic);
        let random = (0..RANDOM_TRIES_MAX).map(|_| self.chance.below(dynamic));
        let searched = (0..dynamic).map(|step| (start + step) % dynamic);
        let found = random.chain(searched).find_map(|offset| {
            let address =
                Ipv4Addr::from(FIRST_CLUSTER_IP + STATIC_BAND_ADDRESSES + offset).to_string();
            self.may_be_chosen(&address_key(self.place, &address)).then_some(address)
        });
        found.ok_or_else(|| ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    fn this_address(&self, wanted: String) -> Result<String, ApiError> {
        let refused = |why: &str| {
            let text = format!("failed to allocate IP {wanted}: {why}");
            self.refuse(FieldError::invalid("spec.clusterIPs", &json!([wanted]), &text))
        };
        let Ok(address) = wanted.parse::<Ipv4Addr>() else {
            // Not an address at all: the kind's validation says so with the field.
            return Ok(wanted);
        };
        let offset = u32::from(address).wrapping_sub(FIRST_CLUSTER_IP);
        if offset == 0 || CLUSTER_IP_COUNT - 1 <= offset {
            let (base, prefix) = CLUSTER_IPS;
            return Err(refused(&format!(
                "the provided IP is not in the valid range. \
                 The range of valid IPs is {base}/{prefix}"
            )));
        }
        if !self.is_free(&address_key(self.place, &wanted)) {
            return Err(refused("provided IP is already allocated"));
        }
        Ok(wanted)
    }

    fn give_ports(&self, service: &mut Value) -> Result<(), ApiError> {
        let wants = wants_ports(service);
        let mut seen: BTreeSet<u64> = ports(service).filter_map(node_port).collect();
        let list = service.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
        for (index, port) in list.into_iter().flatten().enumerate() {
            if let Some(given) = node_port(port) {
                self.check_port(index, given)?;
            } else if wants && let Some(map) = port.as_object_mut() {
                let found = self.any_port(&mut seen)?;
                map.insert("nodePort".to_owned(), json!(found));
            }
        }
        Ok(())
    }

    fn check_port(&self, index: usize, port: u64) -> Result<(), ApiError> {
        let field = format!("spec.ports[{index}].nodePort");
        let last = FIRST_NODE_PORT + NODE_PORT_COUNT - 1;
        if port < u64::from(FIRST_NODE_PORT) || u64::from(last) < port {
            let why = format!(
                "provided port is not in the valid range. \
                 The range of valid ports is {FIRST_NODE_PORT}-{last}"
            );
            return Err(self.refuse(FieldError::invalid(field, &json!(port), &why)));
        }
        match self.holder(&port.to_string()) {
            None => Ok(()),
            Some(why) => Err(self.refuse(FieldError::invalid(field, &json!(port), &why))),
        }
    }

    /// Why a port is not to be had; `None` when it is.
    fn holder(&self, port: &str) -> Option<String> {
        const TAKEN: &str = "provided port is already allocated";
        let own = port_key(&self.place.cluster, port);
        if self.had.contains(&own) {
            return None;
        }
        if self.snapshot.get(&own).is_some() {
            return Some(TAKEN.to_owned());
        }
        if !self.place.cluster.is_root() {
            if port.parse().is_ok_and(|port| ROOT_ONLY.contains(&port)) {
                let (first, last) = (ROOT_ONLY.start(), ROOT_ONLY.end());
                let text = format!("ports {first}-{last} are kept for Services of the hub's root");
                return Some(text);
            }
            let root = self.snapshot.get(&port_key(&ClusterName::root(), port));
            return root
                .map(|_| format!("{TAKEN}: a Service of the hub's root has it on every device"));
        }
        self.snapshot.get(&shared_key(port))?;
        let scope = Scope { resource: node_ports(), cluster: None, namespace: None };
        let mut all = self.snapshot.range(&scope, None);
        let holder = all.find(|stored| *stored.key.name == *port);
        let owner: Value = holder
            .and_then(|stored| serde_json::from_slice(&stored.object.body).ok())
            .unwrap_or_default();
        let text = |key: &str| owner[key].as_str().unwrap_or_default().to_owned();
        let (realm, namespace, name) = (text("realm"), text("namespace"), text("name"));
        Some(format!(
            "{TAKEN}: Service {namespace}/{name} of the cluster {realm} has it on its device"
        ))
    }

    fn is_free_port(&self, port: u32) -> bool {
        if !self.place.cluster.is_root() && ROOT_ONLY.contains(&port) {
            return false;
        }
        let port = port.to_string();
        let own = port_key(&self.place.cluster, &port);
        let other = match self.place.cluster.is_root() {
            true => shared_key(&port),
            false => port_key(&ClusterName::root(), &port),
        };
        self.had.contains(&own) || (self.may_be_chosen(&own) && self.snapshot.get(&other).is_none())
    }

    /// A free port that was not `seen` yet. What it looks at is seen: no port is looked up twice for one Service.
    fn any_port(&self, seen: &mut BTreeSet<u64>) -> Result<u64, ApiError> {
        let root = self.place.cluster.is_root();
        let start = self.chance.below(if root { NODE_PORT_COUNT } else { SHARED_BAND_PORTS });
        let mut all = (0..NODE_PORT_COUNT).map(|step| match root {
            true => FIRST_NODE_PORT + (start + step) % NODE_PORT_COUNT,
            false => FIRST_NODE_PORT + (2 * NODE_PORT_COUNT - 1 - start - step) % NODE_PORT_COUNT,
        });
        all.find(|port| seen.insert(u64::from(*port)) && self.is_free_port(*port))
            .map(u64::from)
            .ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))
    }
}
