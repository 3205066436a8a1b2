//! A spoke as the API shows it: a Node in the root, a Node in its own cluster, and its ManagedCluster.
//!
//! Written when the spoke says something new of itself, when its Node was deleted, made anew or written to by somebody
//! else, and on transitions, not with heartbeats.

use freewheel_hub_api::KUBERNETES_VERSION;
use freewheel_hub_api::conditions::{
    Condition, NODE_DISK_PRESSURE, NODE_LEDGER_DAMAGED, NODE_MEMORY_PRESSURE, NODE_PID_PRESSURE,
};
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions, Written};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::time;
use freewheel_link::allocatable;
use freewheel_link::labels::is_reserved;
use freewheel_link::names::ClusterName;
use freewheel_link::report::NodeStatusV1;
use serde_json::{Map, Value, json};

use crate::object_refs::{CLUSTERS, NO_PLACE, NODES, object_ref};
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
    let other = || ApiError::new(409, NO_PLACE, "the name is another cluster's by now");
    identity.admit(objects).map_err(|_| other())?;
    let now = time::from_unix(objects.clock().unix_seconds());
    for realm in [&ClusterName::root(), spoke] {
        write_node(objects, realm, identity, status, &now).await?;
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
    objects.modify(&how(objects, identity), &place, Some("status"), change).await.map(|_| ())
}

async fn write_node(
    objects: &Objects,
    realm: &ClusterName,
    identity: &SpokeIdentity,
    status: &NodeStatusV1,
    now: &str,
) -> Result<(), ApiError> {
    let spoke = &identity.cluster;
    let place = object_ref(NODES, realm, "", spoke.as_str())?;
    let how = how(objects, identity);
    let labels = labels(spoke, status);
    let relabel = |old: Option<Value>| {
        let mut value = old.unwrap_or_else(|| {
            json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": spoke.as_str()}, "spec": {},
                "status": node_status(&Value::Null, status, now),
            })
        });
        // Labels of others stay; those that the device has are its own to say.
        for (key, label) in &labels {
            value["metadata"]["labels"][key.as_str()] = label.clone();
        }
        // The scheduler refuses a pod that needs a feature its spoke lacks.
        value["metadata"]["annotations"]["freewheel.dev/features"] =
            json!(status.features.to_string());
        Ok(value)
    };
    if objects.create_or_modify(&how, &place, relabel).await?.created {
        return Ok(());
    }
    write_status(objects, &how, &place, (status, now)).await.map(|_| ())
}

async fn write_status(
    objects: &Objects,
    how: &WriteOptions,
    place: &ObjectRef,
    (status, now): (&NodeStatusV1, &str),
) -> Result<Written, ApiError> {
    let change = |mut value: Value| {
        let old = value.get("status").cloned().unwrap_or_default();
        value["status"] = node_status(&old, status, now);
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
        let written = write_status(objects, &how, &place, (status, &now)).await;
        if written.is_ok_and(|written| written.changed) || objects.get(&place).is_err() {
            return false;
        }
    }
    true
}

fn version(status: &NodeStatusV1) -> String {
    format!("{KUBERNETES_VERSION}+freewheel-{}", status.version)
}

fn labels(spoke: &ClusterName, status: &NodeStatusV1) -> Map<String, Value> {
    let mut labels = Map::new();
    for (key, value) in status.labels.iter().filter(|(key, _)| !is_reserved(key)) {
        labels.insert(key.clone(), json!(value));
    }
    let own = [
        ("kubernetes.io/hostname", spoke.as_str()),
        ("kubernetes.io/arch", &*status.architecture),
        ("kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", &*status.architecture),
        ("beta.kubernetes.io/os", "linux"),
        ("node-role.kubernetes.io/spoke", ""),
        ("freewheel.dev/engine-profile", &*status.profile),
    ];
    for (key, value) in own {
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

fn node_status(old: &Value, status: &NodeStatusV1, now: &str) -> Value {
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
    if let Some(condition) = ledger(old, status) {
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
    let addresses = json!([
        {"type": "InternalIP", "address": status.address},
        {"type": "Hostname", "address": status.hostname},
    ]);
    out.insert("addresses".into(), addresses);
    let info = json!({
        "architecture": status.architecture, "bootID": status.boot_id,
        "containerRuntimeVersion": "wasmtime://48.0", "kernelVersion": status.kernel,
        "kubeProxyVersion": "", "kubeletVersion": version(status),
        "machineID": status.machine_id, "operatingSystem": "linux",
        "osImage": status.os_image, "systemUUID": status.machine_id,
    });
    out.insert("nodeInfo".into(), info);
    out.insert("daemonEndpoints".into(), json!({"kubeletEndpoint": {"Port": 0}}));
    Value::Object(out)
}

/// That the device could not read its own ledger; there from the first time on that it could not.
fn ledger(old: &Value, status: &NodeStatusV1) -> Option<Condition<'static>> {
    let kind = &NODE_LEDGER_DAMAGED;
    if status.pressure.iter().any(|held| held == kind.name) {
        let text = "the device runs what is left of its ledger until it has the hub's plan; \
                    its storage may be failing";
        return Some(Condition::new(kind, true, "LedgerCannotBeRead", text));
    }
    let before = old.get("conditions").and_then(Value::as_array)?;
    let before = before.iter().any(|held| held["type"] == kind.name);
    before.then(|| Condition::new(kind, false, "LedgerHolds", "the device's ledger holds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(value: &Value) -> Option<&str> {
        let conditions = value["conditions"].as_array().unwrap();
        conditions.iter().find(|held| held["type"] == "LedgerDamaged")?["status"].as_str()
    }

    fn device(pressure: &[&str]) -> NodeStatusV1 {
        NodeStatusV1 {
            address: std::net::Ipv4Addr::LOCALHOST.into(),
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
        let now = node_status(&old, &device(&[]), "1");
        for list in ["capacity", "allocatable"] {
            assert_eq!(now[list]["nvidia.com/gpu"], "2", "{list}");
            assert_ne!(now[list]["cpu"], "64", "{list}");
        }
    }

    #[test]
    fn whether_a_node_is_ready_is_not_for_its_device_to_say() {
        let ready = json!({"type": "Ready", "status": "False", "reason": "PlansDoNotLand"});
        let old = json!({"conditions": [ready]});
        assert_eq!(node_status(&old, &device(&[]), "1")["conditions"][0], ready);
    }

    #[test]
    fn a_damaged_ledger_is_a_condition_from_the_first_time_on() {
        let never = node_status(&Value::Null, &device(&[]), "1");
        assert_eq!(ledger(&never), None);
        let now = node_status(&never, &device(&["LedgerDamaged"]), "2");
        assert_eq!(ledger(&now), Some("True"));
        assert_eq!(ledger(&node_status(&now, &device(&[]), "3")), Some("False"));
    }
}
