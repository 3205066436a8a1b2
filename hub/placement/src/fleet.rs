//! All nodes of all realms and the one ledger of each device, kept up to date by events.
//!
//! ```text
//! root: Node pi-7 ─┐
//!                  ├─▶ the device pi-7        pi-8: Node pi-7 ─▶ nothing but a name: a ledger of its own
//! pi-7: Node pi-7 ─┘
//! ```
//!
//! Guarantees:
//! - a realm books on its own device and the root on every one; whatever else a realm names, it moves nobody's ledger
//!   (`what_one_tenant_writes_moves_no_ledger_of_another`);
//! - what a device has is the root's word where the root has one (`what_one_tenant_writes_moves_no_ledger_of_another`).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};

use freewheel_hub_schema::uid::Uid;
use freewheel_link::names::ClusterName;

use crate::extended::Extended;
use crate::node::{Node, Pairs};
use crate::pod_request::{HostPort, PodRequest};
use crate::resources::{Amount as _, Resources};

/// What a device has and what of it is taken, by pods of every realm.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeviceResources {
    pub(crate) allocatable: Resources,
    /// The root's Node has said so: the owner of the device's own cluster may write there what they like.
    by_root: bool,
    pub(crate) used: Resources,
    /// What is taken of what only some devices have; a Node says how much there is.
    pub(crate) extended: Extended,
    /// What is taken as scores count it.
    pub(crate) weight: Resources,
    pub(crate) ports: Vec<HostPort>,
    /// Pods per spreading group.
    pub(crate) groups: Vec<(u64, u32)>,
}

impl DeviceResources {
    pub(crate) fn in_group(&self, group: u64) -> u32 {
        self.groups.iter().find(|(g, _)| *g == group).map_or(0, |(_, n)| *n)
    }
}

/// A Node in its realm's list.
#[derive(Debug)]
pub(crate) struct NodeSlot {
    pub(crate) node: Node,
    /// Its labels as sorted numbers.
    pub(crate) pairs: Box<[u32]>,
    pub(crate) device: usize,
}

/// The Nodes of one realm.
#[derive(Debug, Default)]
pub(crate) struct RealmNodes {
    pub(crate) slots: Vec<NodeSlot>,
    by_name: HashMap<String, usize>,
}

impl RealmNodes {
    /// Where the Node of this name is.
    pub(crate) fn slot_of(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// What a placed pod took.
#[derive(Clone, Debug)]
struct Placed {
    device: usize,
    requests: Resources,
    extended: Extended,
    weight: Resources,
    ports: Vec<HostPort>,
    group: u64,
}

/// The incremental snapshot that decisions are made on.
#[derive(Debug, Default)]
pub struct Fleet {
    pub(crate) pairs: Pairs,
    pub(crate) ledgers: Vec<DeviceResources>,
    pub(crate) realms: BTreeMap<ClusterName, RealmNodes>,
    device_of: HashMap<String, usize>,
    placed: HashMap<Uid, Placed>,
    eased: u64,
}

impl Fleet {
    /// Without nodes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a Node of a realm, or takes over what changed of it; true when anything did.
    pub fn set_node(&mut self, realm: &ClusterName, node: Node) -> bool {
        let known =
            self.realms.get(realm).and_then(|r| Some(&r.slots[*r.by_name.get(&*node.name)?]));
        if known.is_some_and(|slot| slot.node == node) {
            return false;
        }
        self.eased += 1;
        let device = self.device(realm, &node.name);
        let ledger = &mut self.ledgers[device];
        // One that knows something wins over an empty one.
        if node.allocatable != Resources::default() && (realm.is_root() || !ledger.by_root) {
            ledger.allocatable = node.allocatable;
            ledger.by_root = realm.is_root();
        }
        let pairs = self.pairs.number(&node.labels);
        let name = node.name.to_string();
        let slot = NodeSlot { node, pairs, device };
        let realm = self.realms.entry(realm.clone()).or_default();
        match realm.by_name.get(&name) {
            Some(at) => realm.slots[*at] = slot,
            None => {
                realm.by_name.insert(name, realm.slots.len());
                realm.slots.push(slot);
            }
        }
        true
    }

    /// Forgets a Node of a realm. What its pods took stays booked until they go.
    pub fn remove_node(&mut self, realm: &ClusterName, name: &str) {
        let Some(list) = self.realms.get_mut(realm) else { return };
        let Some(at) = list.by_name.remove(name) else { return };
        self.eased += 1;
        let device = list.slots.swap_remove(at).device;
        if realm.is_root() {
            self.ledgers[device].by_root = false;
        }
        if let Some(moved) = list.slots.get(at) {
            list.by_name.insert(moved.node.name.to_string(), at);
        }
        if list.slots.is_empty() {
            self.realms.remove(realm);
        }
    }

    /// Counts up whenever a pod that fitted nowhere might fit: a Node came, went or changed, or a pod
    /// left. As long as it stands still, a refusal stands.
    #[must_use]
    pub fn eased(&self) -> u64 {
        self.eased
    }

    /// How many Nodes a realm has.
    #[must_use]
    pub fn nodes(&self, realm: &ClusterName) -> usize {
        self.realms.get(realm).map_or(0, |r| r.slots.len())
    }

    /// Books a pod on a device, whether or not a Node of it is known.
    pub fn place(&mut self, uid: &Uid, node: &str, request: &PodRequest) {
        let device = self.device(&request.realm, node);
        let same = |p: &Placed| {
            p.device == device && p.requests == request.requests && p.extended == request.extended
        };
        if self.placed.get(uid).is_some_and(same) {
            return;
        }
        self.remove(uid);
        let ledger = &mut self.ledgers[device];
        ledger.used.add(request.requests);
        ledger.extended.add(&request.extended);
        ledger.weight.add(request.weight);
        ledger.ports.extend(&request.ports);
        if request.group != 0 {
            match ledger.groups.iter_mut().find(|(g, _)| *g == request.group) {
                Some((_, count)) => *count += 1,
                None => ledger.groups.push((request.group, 1)),
            }
        }
        let placed = Placed {
            device,
            requests: request.requests,
            extended: request.extended.clone(),
            weight: request.weight,
            ports: request.ports.clone(),
            group: request.group,
        };
        self.placed.insert(uid.clone(), placed);
    }

    /// Frees what a pod took; true when it had taken something.
    pub fn remove(&mut self, uid: &str) -> bool {
        let Some(placed) = self.placed.remove(uid) else { return false };
        self.eased += 1;
        let ledger = &mut self.ledgers[placed.device];
        ledger.used.take(placed.requests);
        ledger.extended.take(&placed.extended);
        ledger.weight.take(placed.weight);
        for port in &placed.ports {
            if let Some(at) = ledger.ports.iter().position(|p| p == port) {
                ledger.ports.swap_remove(at);
            }
        }
        if let Some(at) = ledger.groups.iter().position(|(g, _)| *g == placed.group) {
            ledger.groups[at].1 -= 1;
            if ledger.groups[at].1 == 0 {
                ledger.groups.swap_remove(at);
            }
        }
        true
    }

    fn device(&mut self, realm: &ClusterName, name: &str) -> usize {
        let own = realm.is_root() || realm.as_str() == name;
        // No name has a slash.
        let name = if own { Cow::from(name) } else { Cow::from(format!("{realm}/{name}")) };
        if let Some(device) = self.device_of.get(&*name) {
            return *device;
        }
        self.ledgers.push(DeviceResources::default());
        self.device_of.insert(name.into_owned(), self.ledgers.len() - 1);
        self.ledgers.len() - 1
    }
}
