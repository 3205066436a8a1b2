//! `subsets` of core/v1 Endpoints, for `kubectl get endpoints` and older clients: pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Map, Value, json};

use super::facts::{PodEndpoint, Port};

/// Most addresses that one Endpoints object holds, as kube-controller-manager has it.
const ADDRESSES_MAX: usize = 1000;

/// Annotation of Endpoints that do not hold all addresses.
pub(super) const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

fn listed<'a>(service: &Service, pods: &'a [PodEndpoint]) -> Vec<&'a PodEndpoint> {
    let anyway = service.spec.as_ref().and_then(|s| s.publish_not_ready_addresses);
    let anyway = anyway.unwrap_or_default();
    pods.iter().filter(|f| anyway || !f.terminating).collect()
}

/// Whether some addresses are left out.
pub(super) fn is_truncated(service: &Service, pods: &[PodEndpoint]) -> bool {
    ADDRESSES_MAX < listed(service, pods).len()
}

/// Addresses grouped by their ports.
pub(super) fn subsets(service: &Service, pods: &[PodEndpoint]) -> Value {
    let mut sorted = listed(service, pods);
    sorted.sort_by(|a, b| b.ready.cmp(&a.ready).then_with(|| a.ip.cmp(&b.ip)));
    let mut groups: BTreeMap<&[Port], (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for facts in sorted.into_iter().take(ADDRESSES_MAX) {
        // Without ports there would be nothing to connect to but for headless Services.
        let (ready, not_ready) = groups.entry(&facts.ports).or_default();
        if facts.ready { ready } else { not_ready }.push(address(facts));
    }
    let subset = |(ports, (ready, not_ready)): (&[Port], (Vec<Value>, Vec<Value>))| {
        let mut subset = Map::new();
        if !ready.is_empty() {
            subset.insert("addresses".into(), json!(ready));
        }
        if !not_ready.is_empty() {
            subset.insert("notReadyAddresses".into(), json!(not_ready));
        }
        if !ports.is_empty() {
            subset.insert("ports".into(), ports.iter().map(port).collect());
        }
        Value::Object(subset)
    };
    groups.into_iter().map(subset).collect()
}

fn address(facts: &PodEndpoint) -> Value {
    let mut address = json!({"ip": facts.ip, "targetRef": {
        "kind": "Pod", "namespace": facts.namespace, "name": facts.pod, "uid": facts.uid}});
    if !facts.node.is_empty() {
        address["nodeName"] = json!(facts.node);
    }
    if let Some(hostname) = &facts.hostname {
        address["hostname"] = json!(hostname);
    }
    address
}

fn port(port: &Port) -> Value {
    let mut out = json!({"port": port.port, "protocol": port.protocol});
    if !port.name.is_empty() {
        out["name"] = json!(port.name);
    }
    if let Some(app) = &port.app {
        out["appProtocol"] = json!(app);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{facts, service};

    #[test]
    fn more_than_a_thousand_are_cut_and_that_is_said() {
        let mut pods: Vec<PodEndpoint> = (0..1000).map(|n| facts(&format!("p{n}"))).collect();
        let web = service("web", &json!({}));
        assert!(!is_truncated(&web, &pods));
        let mut unready = facts("unready");
        unready.ready = false;
        pods.insert(0, unready);
        assert!(is_truncated(&web, &pods));
        let subsets = subsets(&web, &pods);
        assert_eq!(subsets[0]["addresses"].as_array().unwrap().len(), 1000, "ready ones first");
        assert_eq!(subsets[0]["notReadyAddresses"], Value::Null);
    }

    #[test]
    fn ready_and_not_ready_are_apart_and_who_leaves_is_gone() {
        let (ready, mut unready, mut leaving) = (facts("a"), facts("b"), facts("c"));
        unready.ready = false;
        leaving.ready = false;
        leaving.terminating = true;
        let subsets = subsets(&service("web", &json!({})), &[ready, unready, leaving]);
        assert_eq!(subsets.as_array().unwrap().len(), 1);
        let names = |list: &Value| -> Vec<Value> {
            list.as_array().unwrap().iter().map(|a| a["targetRef"]["name"].clone()).collect()
        };
        assert_eq!(names(&subsets[0]["addresses"]), ["a"]);
        assert_eq!(names(&subsets[0]["notReadyAddresses"]), ["b"]);
    }
}
