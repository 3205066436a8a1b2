//! Defaults of what is defaulted change nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::{metadata, types};
use serde_json::{Value, json};

/// A create as the pipeline does it, up to the commit.
fn create(mut body: Value) -> Result<Value, ApiError> {
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let kind = kinds::by_kind(&text("apiVersion"), &text("kind")).unwrap();
    if kind.namespaced {
        body["metadata"]["namespace"] = json!("default");
    }
    types::canonicalise(&mut body, &**kind)?;
    types::apply_defaults(&mut body, &**kind);
    kind.strategy.default(&mut body);
    kind.strategy.prepare_create(&mut body);
    if !kind.has(Trait::CountsNoGeneration) {
        body["metadata"]["generation"] = json!(1);
    }
    let namespace = if kind.namespaced { "default" } else { "" };
    let mut errors = metadata::validate(kind, &body, namespace);
    errors.extend(kind.strategy.validate(&body));
    if errors.is_empty() {
        types::canonicalise(&mut body, &**kind)?;
        return Ok(body);
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(kind.group(), kind.kind(), name, &errors))
}

#[test]
fn defaults_of_defaulted_objects_change_nothing() {
    let full = json!([
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "hostNetwork": true,
            "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always"}],
            "containers": [{
                "name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
                "readinessProbe": {"httpGet": {"port": "web"}},
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                "resources": {"limits": {"cpu": "0.0001", "memory": "0.5Gi"}, "requests": {"cpu": "0.0001"}},
            }],
            "volumes": [
                {"name": "e"}, {"name": "s", "secret": {"secretName": "s"}},
                {"name": "d", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
            ],
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "ExternalName", "externalName": "example.com"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": "0.5"}}},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}},
        {"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster", "metadata": {"name": "pi-7"}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "e"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.64.0.1"]}], "ports": [{"port": 80}]},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"},
            "subsets": [{"addresses": [{"ip": "10.64.0.1"}], "ports": [{"port": 80}]}]},
    ]);
    for body in full.as_array().unwrap() {
        let name = body["metadata"]["name"].as_str().unwrap();
        let once =
            create(body.clone()).unwrap_or_else(|error| panic!("{} {name}: {error}", body["kind"]));
        let kind =
            kinds::by_kind(body["apiVersion"].as_str().unwrap(), body["kind"].as_str().unwrap())
                .unwrap();
        let mut twice = once.clone();
        types::apply_defaults(&mut twice, &**kind);
        kind.strategy.default(&mut twice);
        assert_eq!(twice, once, "{}", body["kind"]);
        types::canonicalise(&mut twice, &**kind).unwrap();
        assert_eq!(twice, once, "{}", body["kind"]);
    }
}
