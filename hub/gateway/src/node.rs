//! A spoke as the API shows it: a Node in the root, a Node in its own cluster, and its ManagedCluster.
//!
//! Written when the spoke says something new of itself, when its Node was deleted, made anew or written to by somebody
//! else, and on transitions, not with heartbeats. What comes of the labels that it tells, `device_labels.rs` says.
//!
//! Guarantees:
//! - a device whose clock was never set says so on its Nodes, and in an Event of the hub's time
//!   (`a_device_whose_clock_was_never_set_is_told_of`);
//! - a label that a device has no more goes, and nobody else's (`a_label_that_a_device_has_no_more_goes_from_its_nodes`).

use freewheel_hub_api::KUBERNETES_VERSION;
use freewheel_hub_api::conditions::{
    Condition, ConditionType, NODE_CLOCK_UNSYNCHRONIZED, NODE_DISK_PRESSURE, NODE_LEDGER_DAMAGED,
    NODE_LEDGER_UNWRITABLE, NODE_MEMORY_PRESSURE, NODE_PID_PRESSURE, NODE_READONLY_FILESYSTEM,
};
use freewheel_hub_objects::{Actor, ObjectRef, Objects, WriteOptions, Written};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::{name, time};
use freewheel_link::allocatable;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::OWN_SYSTEM;
use freewheel_link::report::{NodeEventV1, NodeStatusV1};
use serde_json::{Map, Value, json};

use crate::device_labels::{self, Labels, holds, owned_by};
use crate::events;
use crate::object_refs::{CLUSTERS, NODES, NOT_THIS_SPOKES, object_ref};
use crate::spoke_identity::{SpokeIdentity, how};

/// The node's own address, as its Node object has it.
pub(crate) fn address(objects: &Objects, spoke: &ClusterName) -> Option<String> {
    let stored =
        objects.get(&object_ref(NODES, &ClusterName::root(), "", spoke.as_str()).ok()?).ok()?;
    let value = stored.object.value().ok()?;
    let addresses = value.pointer("/status/addresses")?.as_array()?;
    let internal = addresses.iter().find(|a| a["type"] == "InternalIP")?;
    internal["address"].as_str().map(str::to_owned)
}

/// Writes what a spoke says of itself to its Nodes and its ManagedCluster. Whether it is there is not for it to say.
///
/// # Errors
/// When the store cannot write, and when the name is another ManagedCluster's by now.
pub(crate) async fn write(
    objects: &Objects,
    identity: &SpokeIdentity,
    status: &NodeStatusV1,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    let other = || ApiError::new(409, NOT_THIS_SPOKES, "the name is another cluster's by now");
    identity.admit(objects).map_err(|_| other())?;
    let now = time::from_unix(objects.clock().unix_seconds());
    let told = device_labels::said(&status.labels);
    // What keeps them from its cluster keeps nothing else from being written.
    let brought = Box::pin(device_labels::bring(objects, identity, &told)).await;
    let of_nodes = device_labels::of_nodes(objects, identity, &told)?;
    let loses_its_clock = CLOCK_TROUBLE.begins(objects, spoke, status);
    for realm in [&ClusterName::root(), spoke] {
        write_node(objects, realm, identity, (status, &of_nodes), &now).await?;
    }
    let place = object_ref(CLUSTERS, &ClusterName::root(), "", spoke.as_str())?;
    let change = |mut value: Value| {
        if !identity.are_of(&value) {
            return Err(other());
        }
        value["status"]["version"] = json!({"kubernetes": version(status)});
        value["status"]["capacity"] = cluster_resources(status);
        value["status"]["allocatable"] = cluster_resources(&allocatable::of(status));
        Ok(value)
    };
    objects.modify(&how(objects, identity), &place, Some("status"), change).await?;
    if loses_its_clock {
        // Its own events have the time of that clock.
        let (reason, message) = CLOCK_TROUBLE.held;
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let at = objects.clock().unix_millis() / 1000 * 1000;
        let seen = NodeEventV1 { warning: true, reason, message, at };
        Box::pin(events::about_own(objects, identity, &seen)).await?;
    }
    if brought? {
        Box::pin(device_labels::tell_kept(objects, identity, &told)).await?;
    }
    Ok(())
}

async fn write_node(
    objects: &Objects,
    realm: &ClusterName,
    identity: &SpokeIdentity,
    (status, told): (&NodeStatusV1, &Labels),
    now: &str,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    let place = object_ref(NODES, realm, "", spoke.as_str())?;
    let how = how(objects, identity);
    let labels = labels(spoke, status, told);
    let relabel = |old: Option<Value>| {
        let mut value = old.unwrap_or_else(|| {
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": spoke.as_str()}, "spec": {},
                "status": node_status(spoke, &Value::Null, (status, now)),
            })
        });
        put_labels(&mut value["metadata"], how.actor.manager(), &labels, told);
        // The scheduler refuses a pod that needs a feature its spoke lacks.
        value["metadata"]["annotations"]["freewheel.dev/features"] =
            json!(status.features.to_string());
        Ok(value)
    };
    let relabelled = objects.create_or_modify(&how, &place, relabel).await;
    if relabelled.as_ref().is_ok_and(|written| written.created) {
        return Ok(());
    }
    // A Node whose labels cannot be written is one all the same, and where it is not there, neither is its status.
    let written = write_status(objects, &how, (spoke, &place), (status, now)).await;
    relabelled.and(written).map(|_| ())
}

/// Labels that the device has are its own to say, also that it has them no more; those of others stay, and so does what
/// people have made of those that it tells. The controller that copies the labels of its cluster is none of them.
fn put_labels(meta: &mut Value, manager: &str, labels: &Map<String, Value>, told: &Labels) {
    let copies = Actor::Controller("node-controller");
    let own = owned_by(meta, |owner| owner == manager);
    let others = owned_by(meta, |owner| owner != manager);
    let of_people = owned_by(meta, |owner| owner != manager && owner != copies.manager());
    if let Some(there) = meta["labels"].as_object_mut() {
        for key in own.difference(&others) {
            there.remove(key);
        }
    }
    for (key, label) in labels {
        if !(told.contains_key(key) && of_people.contains(key)) {
            meta["labels"][key.as_str()] = label.clone();
        }
    }
}

async fn write_status(
    objects: &Objects,
    how: &WriteOptions,
    (spoke, place): (&ClusterName, &ObjectRef),
    (status, now): (&NodeStatusV1, &str),
) -> Result<Written, ApiError> {
    let change = |mut value: Value| {
        let old = value.get("status").cloned().unwrap_or_default();
        value["status"] = node_status(spoke, &old, (status, now));
        Ok(value)
    };
    objects.modify(how, place, Some("status"), change).await
}

/// Whether the Nodes of a spoke are there, and their statuses say what it says of itself. Labels are everybody's.
pub(crate) async fn has(
    objects: &Objects,
    identity: &SpokeIdentity,
    status: &NodeStatusV1,
) -> bool {
    let now = time::from_unix(objects.clock().unix_seconds());
    // What comes of a write tells what of it is new.
    let how = WriteOptions { dry_run: true, ..how(objects, identity) };
    for realm in [&ClusterName::root(), &identity.cluster] {
        let Ok(place) = object_ref(NODES, realm, "", identity.cluster.as_str()) else { continue };
        let place_of = (&identity.cluster, &place);
        let written = write_status(objects, &how, place_of, (status, &now)).await;
        if written.is_ok_and(|written| written.changed) || objects.get(&place).is_err() {
            return false;
        }
    }
    true
}

fn version(status: &NodeStatusV1) -> String {
    format!("{KUBERNETES_VERSION}+freewheel-{}", status.version)
}

/// The name of the machine where it is one of a host, as kubelet asks of it; else the Node's.
fn hostname(spoke: &ClusterName, status: &NodeStatusV1) -> String {
    let hostname = status.hostname.to_ascii_lowercase();
    if name::dns_subdomain(&hostname).is_empty() { hostname } else { spoke.to_string() }
}

fn labels(spoke: &ClusterName, status: &NodeStatusV1, told: &Labels) -> Map<String, Value> {
    let mut labels: Map<String, Value> =
        told.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    let own = [
        ("kubernetes.io/hostname", spoke.as_str()),
        ("kubernetes.io/arch", &*status.architecture),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &*status.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/spoke", ""),
        ("freewheel.dev/engine-profile", &*status.profile),
    ];
    for (key, value) in own.into_iter().filter(|(key, value)| holds(key, value)) {
        labels.insert(key.to_owned(), json!(value));
    }
    labels
}

fn resources(status: &NodeStatusV1) -> Map<String, Value> {
    let amounts = [
        ("cpu", format!("{}m", status.cpu_milli)),
        ("memory", format!("{}Ki", status.memory / 1024)),
        ("ephemeral-storage", format!("{}Ki", status.storage / 1024)),
        ("pods", status.pods.to_string()),
    ];
    amounts.map(|(name, amount)| (name.to_owned(), json!(amount))).into_iter().collect()
}

fn cluster_resources(status: &NodeStatusV1) -> Value {
    json!({
        "cpu": format!("{}m", status.cpu_milli),
        "memory": format!("{}Ki", status.memory / 1024),
    })
}

fn node_status(spoke: &ClusterName, old: &Value, (status, now): (&NodeStatusV1, &str)) -> Value {
    let pressures = [
        (
            &NODE_MEMORY_PRESSURE,
            "KubeletHasSufficientMemory",
            "the device has sufficient memory available",
        ),
        (&NODE_DISK_PRESSURE, "KubeletHasNoDiskPressure", "the device has no disk pressure"),
        (&NODE_PID_PRESSURE, "KubeletHasSufficientPID", "the device has sufficient PID available"),
    ];
    let mut out = old.as_object().cloned().unwrap_or_default();
    let mut conditions = out.remove("conditions").unwrap_or_default();
    for (kind, fine, message) in pressures {
        let condition = if status.pressure.iter().any(|held| held == kind.name) {
            let reason = format!("KubeletHas{}", kind.name);
            Condition::new(kind, true, reason, "the device reports pressure")
        } else {
            Condition::new(kind, false, fine, message)
        };
        condition.put(&mut conditions, now);
    }
    let troubles = DISK_TROUBLES.iter().chain([&CLOCK_TROUBLE]);
    for condition in troubles.filter_map(|trouble| trouble.condition(old, status)) {
        condition.put(&mut conditions, now);
    }
    out.insert("conditions".into(), conditions);
    for (list, own) in
        [("capacity", resources(status)), ("allocatable", resources(&allocatable::of(status)))]
    {
        // What somebody says that the device has beside that (`nvidia.com/gpu`) stays.
        let mut all = old.get(list).and_then(Value::as_object).cloned().unwrap_or_default();
        all.extend(own);
        out.insert(list.into(), all.into());
    }
    let own = !status.address.is_unspecified();
    let own = own.then(|| json!({"type": "InternalIP", "address": status.address}));
    let host = json!({"type": "Hostname", "address": hostname(spoke, status)});
    out.insert("addresses".into(), own.into_iter().chain([host]).collect());
    let info = json!({
        "architecture": status.architecture, "bootID": status.boot_id,
        "containerRuntimeVersion": "wasmtime://48.0", "kernelVersion": status.kernel,
        "kubeProxyVersion": "", "kubeletVersion": version(status),
        "machineID": status.machine_id, "operatingSystem": OWN_SYSTEM,
        "osImage": status.os_image, "systemUUID": status.machine_id,
    });
    out.insert("nodeInfo".into(), info);
    out.insert("daemonEndpoints".into(), json!({"kubeletEndpoint": {"Port": 0}}));
    Value::Object(out)
}

/// What may be wrong with a device, beside that it is short of something.
struct Trouble {
    kind: &'static ConditionType,
    /// Reason and message while it is so, and when it is so no more.
    held: (&'static str, &'static str),
    over: (&'static str, &'static str),
}

static CLOCK_TROUBLE: Trouble = Trouble {
    kind: &NODE_CLOCK_UNSYNCHRONIZED,
    held: (
        "ClockIsNotSet",
        "the device's clock was never set, or is days behind the hub's: what it says of times (of its pods, their restarts and \
         logs) is wrong until somebody sets it, best by a time service; `spoke doctor` there compares the two",
    ),
    over: ("ClockIsSet", "the device's clock is set"),
};

/// The second as node-problem-detector says it.
static DISK_TROUBLES: [Trouble; 3] = [
    Trouble {
        kind: &NODE_LEDGER_DAMAGED,
        held: (
            "LedgerCannotBeRead",
            "the device runs what is left of its ledger until it has the hub's plan; its storage may be failing",
        ),
        over: ("LedgerHolds", "the device's ledger holds"),
    },
    Trouble {
        kind: &NODE_READONLY_FILESYSTEM,
        held: (
            "FilesystemIsReadOnly",
            "the device's disk is read-only: its pods run, and it keeps no plan; its storage may be failing",
        ),
        over: ("FilesystemIsNotReadOnly", "Filesystem is not read-only"),
    },
    Trouble {
        kind: &NODE_LEDGER_UNWRITABLE,
        held: (
            "LedgerCannotBeWritten",
            "the device's disk takes no writes: its pods run, and it keeps no plan; it is full, or failing",
        ),
        over: ("LedgerIsWritten", "the device's disk takes writes"),
    },
];

impl Trouble {
    fn holds(&self, status: &NodeStatusV1) -> bool {
        status.pressure.iter().any(|held| held == self.kind.name)
    }

    /// Whether it holds of a device on whose Node in the root nobody reads of it yet.
    fn begins(&self, objects: &Objects, spoke: &ClusterName, status: &NodeStatusV1) -> bool {
        let node = || object_ref(NODES, &ClusterName::root(), "", spoke.as_str());
        let is_told = || node().and_then(|node| objects.get(&node)?.object.value());
        self.holds(status) && !is_told().is_ok_and(|node| self.kind.holds(&node))
    }

    /// It is there from the first time on that it held.
    fn condition(&self, old: &Value, status: &NodeStatusV1) -> Option<Condition<'static>> {
        let named = |list: &[Value]| list.iter().any(|held| held["type"] == self.kind.name);
        let holds = self.holds(status);
        let before = old.get("conditions").and_then(Value::as_array);
        let (reason, text) = if holds { self.held } else { self.over };
        (holds || before.is_some_and(|list| named(list)))
            .then(|| Condition::new(self.kind, holds, reason, text))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn said<'a>(value: &'a Value, kind: &str) -> Option<&'a str> {
        let conditions = value["conditions"].as_array().unwrap();
        conditions.iter().find(|held| held["type"] == kind)?["status"].as_str()
    }

    fn of(old: &Value, status: &NodeStatusV1, now: &str) -> Value {
        node_status(&ClusterName::try_from("pi-7").unwrap(), old, (status, now))
    }

    fn device(pressure: &[&str]) -> NodeStatusV1 {
        NodeStatusV1 {
            address: Ipv4Addr::LOCALHOST.into(),
            hostname: String::new(),
            architecture: String::new(),
            kernel: String::new(),
            os_image: String::new(),
            machine_id: String::new(),
            boot_id: String::new(),
            version: String::new(),
            profile: String::new(),
            features: 0,
            cpu_milli: 1,
            memory: 1,
            storage: 1,
            pods: 1,
            labels: Vec::new(),
            pressure: pressure.iter().map(|&held| held.to_owned()).collect(),
            parts: freewheel_link::part::Parts::default(),
        }
    }

    #[test]
    fn what_somebody_says_that_the_device_has_stays() {
        let said = json!({"cpu": "64", "nvidia.com/gpu": "2"});
        let old = json!({"capacity": said, "allocatable": said});
        let now = of(&old, &device(&[]), "1");
        for list in ["capacity", "allocatable"] {
            assert_eq!(now[list]["nvidia.com/gpu"], "2", "{list}");
            assert_ne!(now[list]["cpu"], "64", "{list}");
        }
    }

    #[test]
    fn whether_a_node_is_ready_is_not_for_its_device_to_say() {
        let ready = json!({"type": "Ready", "status": "False", "reason": "PlansDoNotLand"});
        let old = json!({"conditions": [ready]});
        assert_eq!(of(&old, &device(&[]), "1")["conditions"][0], ready);
    }

    #[test]
    fn what_is_wrong_with_a_device_is_a_condition_from_the_first_time_on() {
        for kind in
            ["LedgerDamaged", "ReadonlyFilesystem", "LedgerUnwritable", "ClockUnsynchronized"]
        {
            let never = of(&Value::Null, &device(&[]), "1");
            assert_eq!(said(&never, kind), None);
            let now = of(&never, &device(&[kind]), "2");
            assert_eq!(said(&now, kind), Some("True"));
            assert_eq!(said(&of(&now, &device(&[]), "3"), kind), Some("False"));
        }
    }

    #[test]
    fn what_is_no_name_of_a_host_is_none() {
        let host = |hostname: &str| {
            let device = NodeStatusV1 { hostname: hostname.to_owned(), ..device(&[]) };
            of(&Value::Null, &device, "1")["addresses"][1]["address"].clone()
        };
        assert_eq!(host("Raspberry.local"), "raspberry.local");
        for odd in ["", "a b", "a\0b", "pi_7", "-"] {
            assert_eq!(host(odd), "pi-7", "{odd:?}");
        }
    }

    #[test]
    fn a_device_without_an_address_has_none() {
        let device = NodeStatusV1 { address: Ipv4Addr::UNSPECIFIED.into(), ..device(&[]) };
        let addresses = of(&Value::Null, &device, "1")["addresses"].clone();
        assert_eq!(addresses, json!([{"type": "Hostname", "address": "pi-7"}]));
    }

    #[test]
    fn one_bad_label_costs_a_node_no_other() {
        let mut device = device(&[]);
        let said = [("site", "a"), ("a b", "x"), ("x", "a\nb"), ("kubernetes.io/x", "y")];
        device.labels = said.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        device.profile = "odd one".to_owned();
        let told = device_labels::said(&device.labels);
        let labels = labels(&ClusterName::try_from("pi-7").unwrap(), &device, &told);
        assert_eq!(labels["site"], "a");
        for none in ["a b", "x", "kubernetes.io/x", "freewheel.dev/engine-profile"] {
            assert!(!labels.contains_key(none), "{none}");
        }
    }
}
