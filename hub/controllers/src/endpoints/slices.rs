//! Which EndpointSlices a Service has to have: pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_store::Stored;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::facts::{PodEndpoint, Port};
use crate::engine::Error;

/// Label with the Service's name.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label with the writer's name.
pub const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The writer's name, Kubernetes' own: clients look for it.
pub const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Label of a Service without a clusterIP.
pub const HEADLESS: &str = "service.kubernetes.io/headless";
/// Endpoints per slice.
pub const ENDPOINTS_PER_SLICE: usize = 100;

/// A slice that is there.
#[derive(Clone, Debug)]
pub struct PresentSlice {
    /// As stored.
    pub stored: Arc<Stored>,
    /// As JSON.
    pub value: Value,
}

impl PresentSlice {
    /// Reads a stored slice.
    pub fn read(stored: Arc<Stored>) -> Result<Self, Error> {
        let value = stored.object.value().map_err(Error::api("read an EndpointSlice"))?;
        Ok(Self { stored, value })
    }

    fn uids(&self) -> impl Iterator<Item = &str> {
        let endpoints = self.value["endpoints"].as_array().into_iter().flatten();
        endpoints.filter_map(|e| e["targetRef"]["uid"].as_str())
    }
}

/// One write.
#[derive(Clone, Debug)]
pub enum SliceWrite {
    /// A new slice.
    Create(Value),
    /// A slice with other endpoints, ports or labels.
    Update(Arc<Stored>, Value),
    /// A slice that nobody needs.
    Delete(Arc<Stored>),
}

/// Whether it has no clusterIP.
#[must_use]
pub fn is_headless(service: &Service) -> bool {
    let ip = service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref());
    ip == Some("None")
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    let name = service.metadata.name.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

fn endpoint(facts: &PodEndpoint) -> Value {
    let mut endpoint = json!({
        "addresses": [facts.ip],
        "conditions": {
            "ready": facts.ready, "serving": facts.serving, "terminating": facts.terminating,
        },
        "targetRef": {
            "kind": "Pod", "namespace": facts.namespace, "name": facts.pod, "uid": facts.uid,
        },
    });
    if !facts.node.is_empty() {
        endpoint["nodeName"] = json!(facts.node);
    }
    if let Some(zone) = &facts.zone {
        endpoint["zone"] = json!(zone);
    }
    if let Some(hostname) = &facts.hostname {
        endpoint["hostname"] = json!(hostname);
    }
    endpoint
}

fn ports_json(ports: &[Port]) -> Value {
    let each = ports.iter().map(|p| {
        let mut port = json!({"name": p.name, "port": p.port, "protocol": p.protocol});
        if let Some(app) = &p.app {
            port["appProtocol"] = json!(app);
        }
        port
    });
    each.collect()
}

/// Compares what is there with what has to be.
#[must_use]
pub fn decide(
    service: &Service,
    owner: &Value,
    pods: &[PodEndpoint],
    present: &[PresentSlice],
) -> Vec<SliceWrite> {
    let mut by_ports: BTreeMap<&[Port], Vec<&PodEndpoint>> = BTreeMap::new();
    for facts in pods {
        by_ports.entry(&facts.ports).or_default().push(facts);
    }
    if by_ports.is_empty() {
        // One empty slice says that there are none, where no slice would say that nobody looked.
        by_ports.insert(&[], Vec::new());
    }
    let labels = labels(service);
    let mut left: Vec<&PresentSlice> = present.iter().collect();
    let mut writes = Vec::new();
    for (ports, facts) in by_ports {
        let ports = ports_json(ports);
        let same: Vec<&PresentSlice>;
        (same, left) = left.into_iter().partition(|s| same_ports(&s.value["ports"], &ports));
        writes.extend(of_ports(service, owner, &labels, &ports, &facts, &same));
    }
    writes.extend(left.into_iter().map(|slice| SliceWrite::Delete(slice.stored.clone())));
    writes
}

/// Ports as stored may lack an empty name.
fn same_ports(stored: &Value, wanted: &Value) -> bool {
    let normal = |ports: &Value| -> Vec<(String, Value, Value, Value)> {
        let list = ports.as_array().into_iter().flatten();
        let mut all: Vec<_> = list
            .map(|p| {
                let name = p["name"].as_str().unwrap_or_default().to_owned();
                (name, p["port"].clone(), p["protocol"].clone(), p["appProtocol"].clone())
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    normal(stored) == normal(wanted)
}

fn of_ports(
    service: &Service,
    owner: &Value,
    labels: &BTreeMap<String, String>,
    ports: &Value,
    facts: &[&PodEndpoint],
    same: &[&PresentSlice],
) -> Vec<SliceWrite> {
    let mut waiting: BTreeMap<&str, &PodEndpoint> =
        facts.iter().map(|f| (f.uid.as_str(), *f)).collect();
    let mut kept: Vec<Vec<Value>> = same
        .iter()
        .map(|slice| slice.uids().filter_map(|uid| waiting.remove(uid)).map(endpoint).collect())
        .collect();
    let mut fresh: Vec<&PodEndpoint> = waiting.into_values().collect();
    fresh.sort_by(|a, b| b.pod.cmp(&a.pod));
    for endpoints in &mut kept {
        while endpoints.len() < ENDPOINTS_PER_SLICE {
            let Some(facts) = fresh.pop() else { break };
            endpoints.push(endpoint(facts));
        }
    }
    let is_only = |index: usize| index == 0 && facts.is_empty();
    let mut writes = Vec::new();
    for (index, (slice, endpoints)) in same.iter().zip(kept).enumerate() {
        if endpoints.is_empty() && !is_only(index) {
            writes.push(SliceWrite::Delete(slice.stored.clone()));
            continue;
        }
        let value = slice_value(service, owner, labels, ports, &endpoints);
        let old = slice.value["endpoints"].as_array().cloned().unwrap_or_default();
        if old != endpoints || slice.stored.object.header.labels != *labels {
            writes.push(SliceWrite::Update(slice.stored.clone(), value));
        }
    }
    fresh.reverse();
    let new =
        fresh.chunks(ENDPOINTS_PER_SLICE).map(|chunk| chunk.iter().map(|f| endpoint(f)).collect());
    let mut new: Vec<Vec<Value>> = new.collect();
    if facts.is_empty() && same.is_empty() {
        new.push(Vec::new());
    }
    writes.extend(
        new.iter().map(|some| SliceWrite::Create(slice_value(service, owner, labels, ports, some))),
    );
    writes
}

fn slice_value(
    service: &Service,
    owner: &Value,
    labels: &BTreeMap<String, String>,
    ports: &Value,
    endpoints: &[Value],
) -> Value {
    let name = service.metadata.name.as_deref().unwrap_or_default();
    json!({
        "metadata": {"generateName": format!("{name}-"), "labels": labels,
            "ownerReferences": [owner]},
        "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, present_slice, service};

    fn web() -> Service {
        service("web", &json!({"ports": [{"port": 80}]}))
    }

    #[test]
    fn nobody_behind_it_is_one_empty_slice() {
        let writes = decide(&web(), &json!({}), &[], &[]);
        let [SliceWrite::Create(slice)] = writes.as_slice() else { panic!("{writes:?}") };
        assert_eq!(slice["endpoints"], json!([]));
        assert_eq!(slice["metadata"]["labels"][SERVICE_NAME], "web");
        let there = present_slice(slice.clone());
        assert!(decide(&web(), &json!({}), &[], &[there]).is_empty(), "and stays so");
    }

    #[test]
    fn slices_hold_a_hundred_and_keep_who_stays() {
        let mut pods: Vec<PodEndpoint> = (0..150).map(|n| facts(&format!("p{n:03}"))).collect();
        let created = decide(&web(), &json!({}), &pods, &[]);
        let present: Vec<PresentSlice> = created
            .into_iter()
            .map(|w| match w {
                SliceWrite::Create(slice) => present_slice(slice),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(present.iter().map(|p| p.uids().count()).collect::<Vec<_>>(), [100, 50]);
        assert!(decide(&web(), &json!({}), &pods, &present).is_empty());
        pods.remove(0);
        pods.push(facts("q"));
        let writes = decide(&web(), &json!({}), &pods, &present);
        let [SliceWrite::Update(_, slice)] = writes.as_slice() else { panic!("{}", writes.len()) };
        assert_eq!(slice["endpoints"].as_array().unwrap().len(), 100, "one left, one came");
    }

    #[test]
    fn other_ports_are_other_slices() {
        let mut other = facts("b");
        other.ports[0].port = 9;
        let writes = decide(&web(), &json!({}), &[facts("a"), other], &[]);
        assert_eq!(writes.len(), 2);
    }
}
