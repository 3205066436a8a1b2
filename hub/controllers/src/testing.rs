//! Builders that mention only what a test is about.

pub(crate) mod clock;

use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Object, Resource};
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::deployment::observe::{
    DESIRED_REPLICAS_ANNOTATION, MAX_REPLICAS_ANNOTATION, REVISION_ANNOTATION, Set, Strategy,
    Wanted,
};
use crate::endpoints::facts::{PodEndpoint, Port};
use crate::endpoints::slices::PresentSlice;
use crate::engine::clock::rfc3339;
use crate::index::{Entry, PodEntry};
use crate::pods::PodFacts;

fn at(second: i64) -> String {
    rfc3339(Timestamp::from_second(second).unwrap())
}

/// An object as it lies in the store.
pub(crate) fn stored(resource: &Resource, name: &str, value: Value) -> Arc<Stored> {
    let key = Key::new(resource, &ClusterName::root(), "default", name);
    let field = |path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default();
    let fields = std::collections::BTreeMap::from([
        ("spec.nodeName".to_owned(), field("/spec/nodeName").to_owned()),
        ("status.phase".to_owned(), field("/status/phase").to_owned()),
    ]);
    let object = Object::from_value(value, fields).unwrap();
    Arc::new(Stored { key, object, revision: 1, created: 1 })
}

/// A pod in the making.
#[derive(Clone)]
pub(crate) struct PodBuilder {
    name: String,
    value: Value,
}

pub(crate) fn pod(name: &str) -> PodBuilder {
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "creationTimestamp": at(1), "labels": {}, "annotations": {}},
        "spec": {"containers": [{"name": "c", "ports": []}]},
        "status": {"conditions": []},
    });
    PodBuilder { name: name.to_owned(), value }
}

impl PodBuilder {
    fn set(mut self, path: &str, value: Value) -> Self {
        let (parent, last) = path.rsplit_once('/').unwrap();
        self.value.pointer_mut(parent).unwrap()[last] = value;
        self
    }

    pub(crate) fn phase(self, phase: &str) -> Self {
        self.set("/status/phase", json!(phase))
    }

    pub(crate) fn running(self) -> Self {
        self.phase("Running")
    }

    pub(crate) fn on(self, node: &str) -> Self {
        self.set("/spec/nodeName", json!(node))
    }

    pub(crate) fn ip(self, ip: &str) -> Self {
        self.set("/status/podIP", json!(ip))
    }

    pub(crate) fn ready_at(self, second: i64) -> Self {
        let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": at(second)});
        self.set("/status/conditions", json!([ready]))
    }

    pub(crate) fn deleting(self) -> Self {
        self.set("/metadata/deletionTimestamp", json!(at(2)))
    }

    pub(crate) fn created(self, second: i64) -> Self {
        self.set("/metadata/creationTimestamp", json!(at(second)))
    }

    pub(crate) fn label(self, key: &str, value: &str) -> Self {
        self.set(&format!("/metadata/labels/{key}"), json!(value))
    }

    pub(crate) fn cost(mut self, cost: i32) -> Self {
        let annotations = &mut self.value["metadata"]["annotations"];
        annotations["controller.kubernetes.io/pod-deletion-cost"] = json!(cost.to_string());
        self
    }

    pub(crate) fn restarts(self, count: i32) -> Self {
        let status = json!({"name": "c", "restartCount": count, "ready": true, "image": "",
            "imageID": ""});
        self.set("/status/containerStatuses", json!([status]))
    }

    pub(crate) fn port(self, name: &str, number: i32) -> Self {
        let port = json!({"name": name, "containerPort": number});
        self.set("/spec/containers/0/ports", json!([port]))
    }

    pub(crate) fn entry(self) -> PodEntry {
        PodEntry::read(self.facts().stored)
    }

    pub(crate) fn facts(self) -> PodFacts {
        PodFacts::read(stored(&Resource::new("", "pods"), &self.name, self.value)).unwrap()
    }
}

/// A ReplicaSet in the making.
pub(crate) struct SetBuilder {
    name: String,
    value: Value,
}

pub(crate) fn replica_set(name: &str) -> SetBuilder {
    let value = json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}"),
            "annotations": {}},
        "spec": {"replicas": 0, "selector": {}, "template": {"spec": {"containers": []}}},
        "status": {"replicas": 0},
    });
    SetBuilder { name: name.to_owned(), value }
}

impl SetBuilder {
    pub(crate) fn size(mut self, replicas: i32) -> Self {
        self.value["spec"]["replicas"] = json!(replicas);
        self
    }

    pub(crate) fn actual(mut self, replicas: i32) -> Self {
        self.value["status"]["replicas"] = json!(replicas);
        self
    }

    pub(crate) fn available(mut self, replicas: i32) -> Self {
        self.value["status"]["availableReplicas"] = json!(replicas);
        self.value["status"]["readyReplicas"] = json!(replicas);
        self
    }

    pub(crate) fn asked(mut self, desired: i32, max: i32) -> Self {
        self.value["metadata"]["annotations"][DESIRED_REPLICAS_ANNOTATION] =
            json!(desired.to_string());
        self.value["metadata"]["annotations"][MAX_REPLICAS_ANNOTATION] = json!(max.to_string());
        self
    }

    pub(crate) fn revision(mut self, revision: i64) -> Self {
        self.value["metadata"]["annotations"][REVISION_ANNOTATION] = json!(revision.to_string());
        self
    }

    pub(crate) fn set(self) -> Set {
        Set::read(stored(&Resource::new("apps", "replicasets"), &self.name, self.value)).unwrap()
    }
}

/// A Deployment `web` that wants this many pods.
pub(crate) fn wanted(replicas: i32) -> Wanted {
    Wanted {
        name: "web".into(),
        generation: 1,
        replicas,
        strategy: Strategy::Rolling { surge: 1, unavailable: 0 },
        paused: false,
        min_ready: 0,
        deadline: None,
        history: None,
        template: json!({}),
        typed: Deployment::default(),
    }
}

impl Wanted {
    pub(crate) fn rolling(mut self, surge: i32, unavailable: i32) -> Self {
        self.strategy = Strategy::Rolling { surge, unavailable };
        self
    }
}

/// A Service with this spec.
pub(crate) fn service(name: &str, spec: &Value) -> Service {
    let value = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
    serde_json::from_value(value).unwrap()
}

/// A ready pod behind a Service.
pub(crate) fn facts(name: &str) -> PodEndpoint {
    PodEndpoint {
        ip: "10.64.0.2".into(),
        node: "n".into(),
        zone: None,
        namespace: "default".into(),
        pod: name.into(),
        uid: format!("uid-{name}").into(),
        hostname: None,
        ready: true,
        serving: true,
        terminating: false,
        ports: vec![Port { name: String::new(), port: 80, protocol: "TCP".into(), app: None }],
    }
}

/// A slice as if it had been stored.
pub(crate) fn present_slice(value: Value) -> PresentSlice {
    let resource = Resource::new("discovery.k8s.io", "endpointslices");
    PresentSlice::read(stored(&resource, "slice", value)).unwrap()
}
