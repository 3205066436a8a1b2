//! Labels of objects of every kind.

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, WriteOptions};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::selector::LabelSelector;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::kit::World;

/// What an object of most kinds may be called.
const NAME: &str = "every";

/// Kinds whose names have a form of their own.
fn name(plural: &str) -> &str {
    match plural {
        "ipaddresses" => "10.128.0.77",
        "apiservices" => "v1.example.com",
        "customresourcedefinitions" => "crews.example.com",
        _ => NAME,
    }
}

fn pods() -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}})
}

fn once() -> Value {
    let mut pods = pods();
    pods["spec"]["restartPolicy"] = json!("Never");
    pods
}

fn selector() -> Value {
    json!({"matchLabels": {"a": "b"}})
}

/// What an object of this kind has to say beside its metadata.
fn body(plural: &str) -> Value {
    workload(plural)
        .or_else(|| rule(plural))
        .or_else(|| device(plural))
        .unwrap_or_else(|| json!({}))
}

fn workload(plural: &str) -> Option<Value> {
    let spec = match plural {
        "pods" => pods()["spec"].take(),
        "podtemplates" => return Some(json!({"template": pods()})),
        "replicationcontrollers" => json!({"template": pods()}),
        "daemonsets" | "deployments" | "replicasets" => {
            json!({"selector": selector(), "template": pods()})
        }
        "statefulsets" => json!({"selector": selector(), "template": pods(), "serviceName": "s"}),
        "controllerrevisions" => return Some(json!({"revision": 1, "data": {"a": 1}})),
        "jobs" => json!({"template": once()}),
        "cronjobs" => json!({"schedule": "@daily", "jobTemplate": {"spec": {"template": once()}}}),
        "horizontalpodautoscalers" => json!({"maxReplicas": 2,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}),
        "poddisruptionbudgets" => json!({"selector": selector(), "minAvailable": 1}),
        "services" => json!({"ports": [{"port": 80}]}),
        "ingresses" => {
            json!({"defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}})
        }
        "networkpolicies" => json!({"podSelector": {}}),
        "limitranges" => json!({"limits": [{"type": "Container", "default": {"cpu": "1"}}]}),
        "persistentvolumeclaims" => {
            json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}})
        }
        "persistentvolumes" => {
            json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/tmp"}})
        }
        "endpointslices" => return Some(json!({"addressType": "IPv4", "endpoints": []})),
        "events" => {
            return Some(json!({"involvedObject": {"kind": "Pod", "namespace": "default",
            "name": "p"}, "reason": "Tested"}));
        }
        _ => return None,
    };
    Some(json!({"spec": spec}))
}

fn rule(plural: &str) -> Option<Value> {
    let role =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"});
    let any = json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
        "resources": ["deployments"], "operations": ["CREATE"]}]});
    let names =
        json!({"plural": "crews", "singular": "crew", "kind": "Crew", "listKind": "CrewList"});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object"}}});
    Some(match plural {
        "clusterrolebindings" | "rolebindings" => json!({"roleRef": role}),
        "priorityclasses" => json!({"value": 5}),
        "flowschemas" => json!({"spec": {"priorityLevelConfiguration": {"name": "catch-all"}}}),
        "prioritylevelconfigurations" => json!({"spec": {"type": "Limited",
            "limited": {"limitResponse": {"type": "Reject"}}}}),
        "validatingadmissionpolicies" => json!({"spec": {"matchConstraints": any,
            "validations": [{"expression": "true"}]}}),
        "mutatingadmissionpolicies" => json!({"spec": {"matchConstraints": any,
            "reinvocationPolicy": "Never", "mutations": [{"patchType": "ApplyConfiguration",
            "applyConfiguration": {"expression": "Object{}"}}]}}),
        "validatingadmissionpolicybindings" => {
            json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}})
        }
        "mutatingadmissionpolicybindings" => json!({"spec": {"policyName": "p"}}),
        "customresourcedefinitions" => json!({"spec": {"group": "example.com",
            "scope": "Namespaced", "names": names, "versions": [version]}}),
        "apiservices" => json!({"spec": {"group": "example.com", "version": "v1",
            "groupPriorityMinimum": 100, "versionPriority": 10, "insecureSkipTLSVerify": true,
            "service": {"namespace": "default", "name": "s", "port": 443}}}),
        "servicecidrs" => json!({"spec": {"cidrs": ["10.99.0.0/16"]}}),
        "ipaddresses" => json!({"spec": {"parentRef": {"group": "", "resource": "services",
            "namespace": "default", "name": "s"}}}),
        "ingressclasses" => json!({"spec": {"controller": "example.com/ingress"}}),
        "runtimeclasses" => json!({"handler": "wasm"}),
        "managedclustersetbindings" => json!({"spec": {"clusterSet": NAME}}),
        "placementdecisions" => json!({"decisions": []}),
        "clusterprofiles" => json!({"spec": {"clusterManager": {"name": "m"}}}),
        "addondeploymentconfigs"
        | "clustermanagementaddons"
        | "managedclusteraddons"
        | "placements" => json!({"spec": {}}),
        "clusterclaims" => json!({"spec": {"value": "v"}}),
        "appliedmanifestworks" => {
            json!({"spec": {"hubHash": "h", "agentID": "a", "manifestWorkName": "w"}})
        }
        "manifestworks" => json!({"spec": {"workload": {"manifests": [manifest()]}}}),
        "manifestworkreplicasets" => json!({"spec": {"placementRefs": [{"name": "all"}],
            "manifestWorkTemplate": {"workload": {"manifests": [manifest()]}}}}),
        "addontemplates" => json!({"spec": {"addonName": "a",
            "agentSpec": {"workload": {"manifests": [manifest()]}}}}),
        _ => return None,
    })
}

fn manifest() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "site", "namespace": "default"}, "data": {"a": "b"}})
}

fn device(plural: &str) -> Option<Value> {
    let devices =
        json!({"requests": [{"name": "one", "exactly": {"deviceClassName": "gpio.example.com"}}]});
    Some(match plural {
        "resourceclaims" => json!({"spec": {"devices": devices}}),
        "resourceclaimtemplates" => json!({"spec": {"spec": {"devices": devices}}}),
        "deviceclasses" => json!({"spec": {}}),
        "resourceslices" => json!({"spec": {"driver": "gpio.example.com", "nodeName": "pi-7",
            "pool": {"name": "pi-7", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "line-1"}]}}),
        "csidrivers" => json!({"spec": {}}),
        "csinodes" => json!({"spec": {"drivers": []}}),
        "csistoragecapacities" => json!({"storageClassName": "s"}),
        "storageclasses" => json!({"provisioner": "example.com/disk"}),
        "volumeattachments" => json!({"spec": {"attacher": "example.com", "nodeName": "pi-7",
            "source": {"persistentVolumeName": "v"}}}),
        "volumeattributesclasses" => {
            json!({"driverName": "example.com", "parameters": {"a": "b"}})
        }
        _ => return None,
    })
}

/// Makes one, puts a label on it, and looks whether that chooses it.
async fn label(world: &World, kind: &std::sync::Arc<Kind>) -> Result<(), String> {
    let name = name(kind.plural()).to_owned();
    let namespace = if kind.namespaced { "default" } else { "" };
    let place = ObjectRef {
        kind: kind.clone(),
        cluster: ClusterName::root(),
        namespace: namespace.into(),
        name: name.clone(),
    };
    let told = |error: freewheel_hub_schema::error::ApiError| {
        format!("{} {}: {}", kind.api_version(), kind.plural(), error.message)
    };
    let mut object = body(kind.plural());
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind());
    object["metadata"] = json!({"name": name});
    let how = WriteOptions::default();
    world.objects.create(&how, &place, object).await.map_err(told)?;
    let change = |mut value: Value| {
        value["metadata"]["labels"]["colour"] = json!("blue");
        Ok(value)
    };
    let written = world.objects.modify(&how, &place, None, change).await.map_err(told)?;
    let chosen = LabelSelector::parse("colour=blue").unwrap();
    let is_chosen = chosen.matches(&written.stored.object.header.labels);
    if is_chosen { Ok(()) } else { Err(format!("{} keeps no label", kind.plural())) }
}

#[tokio::test]
async fn an_object_of_every_kind_has_labels() {
    let world = World::new().await;
    let mut failed = Vec::new();
    let mut labelled = 0;
    for kind in kinds::all() {
        let is_written = ["create", "update"].iter().all(|verb| kind.verbs.contains(verb));
        // What is asked for a certificate is made by openssl, and labelled in another test.
        if !is_written || kind.is_view() || kind.plural() == "certificatesigningrequests" {
            continue;
        }
        match label(&world, kind).await {
            Ok(()) => labelled += 1,
            Err(why) => failed.push(why),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(60 < labelled, "{labelled}");
}
