//! The plan of a spoke, from objects as they are at rest.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use freewheel_hub_api::http_annotations::{HTTP_CONCURRENCY, HTTP_REUSE};
use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
use freewheel_hub_api::pins::{Pins, RESOLVED};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_link::digest::Digest;
use freewheel_link::limits;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{
    ConfigV1, DownwardFileV1, DownwardSourceV1, DownwardV1, EnvSourceV1, Kind, ModuleV1, PodCidrV1,
    PodStorageV1, PodV1, ProjectionV1, Record, RecordKey, ServiceV1, StorageV1, VolumeSourceV1,
    feature,
};
use freewheel_link::profile::Profile;
use freewheel_link::record_set::Sealed;
use serde_json::{Value, json};

use super::*;
use crate::whole::{Plan, records};

mod ended;
mod large;
mod probes;

/// Knows every image but `gone`.
pub(crate) struct AnyImage;

#[async_trait]
impl Images for AnyImage {
    fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem> {
        match reference {
            "gone" => Err(ImageProblem { reason: "ErrImagePull", message: "no such image".into() }),
            other => {
                let component = Digest::of(other.as_bytes());
                Ok(Resolved { manifest: Digest::of(&component.0), component })
            }
        }
    }

    fn manifest_of(&self, _: &str, _: &Digest) -> Option<Digest> {
        None
    }

    fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        tokio::sync::watch::channel(0).1
    }

    async fn artifact(
        &self,
        _: &Digest,
        _: Profile,
        _: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        Err(ImageProblem { reason: "ErrImagePull", message: "not asked for here".into() })
    }

    fn compiling(&self, _: &Digest, _: Profile) -> Option<u64> {
        None
    }

    fn note_profile(&self, _: Profile) {}
}

/// Objects by (realm, resource), each written at the revision of its place.
#[derive(Default)]
struct World(BTreeMap<(String, &'static str), Vec<StoredObject>>);

impl World {
    fn with(mut self, realm: &str, resource: &'static str, value: &Value) -> Self {
        let revision = 10 + self.0.values().map(Vec::len).sum::<usize>() as u64;
        self.0.entry((realm.to_owned(), resource)).or_default().push(found(value, revision));
        self
    }

    fn of(&self, realm: &ClusterName, resource: &'static str) -> Vec<(Value, StoredObject)> {
        let list = self.0.get(&(realm.to_string(), resource)).cloned().unwrap_or_default();
        list.into_iter().map(|f| (serde_json::from_slice(&f.body).unwrap(), f)).collect()
    }

    fn one(
        &self,
        realm: &ClusterName,
        resource: &'static str,
        ns: &str,
        n: &str,
    ) -> Option<StoredObject> {
        let meta = |v: &Value| v["metadata"]["namespace"] == ns && v["metadata"]["name"] == n;
        self.of(realm, resource).into_iter().find(|(v, _)| meta(v)).map(|(_, f)| f)
    }

    fn plan(&self) -> Plan {
        let services = [ClusterName::root(), spoke()].map(|realm| self.services(&realm));
        records(&spoke(), services, self, &AnyImage, &NodeSettings::default())
    }

    fn services(&self, realm: &ClusterName) -> Arc<ServiceSet> {
        let mut set = ServiceSet::default();
        for (value, found) in self.of(realm, "services") {
            let name = value["metadata"]["name"].as_str().unwrap();
            let told = ServiceRecord::of(realm, &found, |_, _| self.slices(realm, name));
            set.put(&service_key(realm, "default", name), told);
        }
        Arc::new(set)
    }

    fn slices(&self, realm: &ClusterName, service: &str) -> Vec<StoredObject> {
        let its = |v: &Value| v["metadata"]["labels"]["kubernetes.io/service-name"] == service;
        let all = self.of(realm, "endpointslices").into_iter();
        all.filter(|(v, _)| its(v)).map(|(_, f)| f).collect()
    }
}

impl Source for World {
    fn bound(&self, realm: &ClusterName, node: &str) -> Vec<Key> {
        let here = |v: &Value| v["spec"]["nodeName"] == node;
        let text = |v: &Value, field: &str| v["metadata"][field].as_str().unwrap().to_owned();
        let key = |v: Value| {
            Key::new(&Resource::new("", "pods"), realm, &text(&v, "namespace"), &text(&v, "name"))
        };
        self.of(realm, "pods").into_iter().filter(|(v, _)| here(v)).map(|(v, _)| key(v)).collect()
    }
    fn pod(&self, key: &Key, _: &str) -> Option<StoredObject> {
        self.one(&key.cluster, "pods", &key.namespace, &key.name)
    }
    fn config_map(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject> {
        self.one(realm, "configmaps", namespace, name)
    }
    fn secret(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<StoredObject> {
        self.one(realm, "secrets", namespace, name)
    }
    fn pod_cidrs(&self, realm: &ClusterName, _: &str) -> Vec<(String, u64)> {
        if realm.is_root() { vec![("10.64.3.0".to_owned(), 7)] } else { Vec::new() }
    }
}

fn spoke() -> ClusterName {
    ClusterName::try_from("pi-7").unwrap()
}

fn found(value: &Value, revision: u64) -> StoredObject {
    StoredObject { body: serde_json::to_vec(value).unwrap().into(), revision, created: revision }
}

fn pod(name: &str, spec: &Value) -> Value {
    let mut spec = spec.clone();
    spec["nodeName"] = json!("pi-7");
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "web", "image": "hello"}]);
    }
    json!({"apiVersion": "v1", "kind": "Pod", "spec": spec,
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")}})
}

/// Whether a spoke that holds `old` has to be sent `new`.
fn differs(old: &Record, new: &Record) -> bool {
    Sealed::from(old.clone()).digest() != Sealed::from(new.clone()).digest()
}

fn translate(value: &Value) -> Result<(Record, PodV1), Refused> {
    pod_record(&ClusterName::root(), &found(value, 5), &AnyImage)
}

fn service(name: &str, node_port: Option<u16>) -> Value {
    let mut port = json!({"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"});
    if let Some(node_port) = node_port {
        port["nodePort"] = json!(node_port);
    }
    json!({"metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": "10.128.0.9", "ports": [port]}})
}

fn keys(plan: &Plan) -> Vec<String> {
    plan.records.keys().map(|k| format!("{} {} {}", k.realm, k.kind.0, k.key)).collect()
}

#[test]
fn a_pod_comes_with_the_configuration_it_names_and_no_other() {
    let spec = json!({"containers": [{"name": "web", "image": "hello",
        "envFrom": [{"configMapRef": {"name": "all"}}],
        "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "p"}}}]}],
        "volumes": [{"name": "v", "configMap": {"name": "absent"}}]});
    let named = |name: &str| json!({"metadata": {"name": name, "namespace": "default"}, "data": {"k": "djE="}});
    let plan = World::default()
        .with("root", "pods", &pod("a", &spec))
        .with("root", "configmaps", &named("all"))
        .with("root", "configmaps", &named("other"))
        .with("root", "secrets", &named("pass"))
        .plan();
    assert_eq!(plan.refused, []);
    assert_eq!(
        keys(&plan),
        [
            "root 1 uid-a",
            "root 2 default/all",
            "root 3 default/pass",
            "root 5 10.64.3.0/24",
            "root 6 node"
        ]
    );
    let body = |kind: Kind| -> ConfigV1 {
        plan.records.values().find(|r| r.key.kind == kind).unwrap().body().unwrap()
    };
    assert_eq!(body(Kind::CONFIG_MAP_V1).data, [("k".to_owned(), b"djE=".to_vec())]);
    assert_eq!(body(Kind::SECRET_V1).data, [("k".to_owned(), b"v1".to_vec())]);
}

#[test]
fn services_come_where_pods_are_and_node_ports_everywhere() {
    let bare = World::default()
        .with("root", "services", &service("inner", None))
        .with("root", "services", &service("outer", Some(30080)))
        .with("pi-7", "services", &service("own", Some(30081)));
    assert_eq!(
        keys(&bare.plan()),
        ["pi-7 4 default/own", "root 4 default/outer", "root 5 10.64.3.0/24", "root 6 node"]
    );
    let busy = bare.with("root", "pods", &pod("a", &json!({})));
    assert!(keys(&busy.plan()).contains(&"root 4 default/inner".to_owned()));
}

#[test]
fn a_service_knows_its_endpoints_and_their_ports() {
    let slice = |name: &str, ip: &str, ready: bool, port: &str| {
        json!({"metadata": {"name": name, "namespace": "default",
                "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ip], "nodeName": "pi-1", "conditions": {"ready": ready}}],
            "ports": [{"name": port, "port": 8080, "protocol": "TCP"}]})
    };
    let plan = World::default()
        .with("root", "services", &service("web", Some(30080)))
        .with("root", "endpointslices", &slice("s2", "10.64.0.9", false, "http"))
        .with("root", "endpointslices", &slice("s1", "10.64.0.2", true, "other"))
        .plan();
    let record = plan.records.values().find(|r| r.key.kind == Kind::SERVICE_V1).unwrap();
    let body: ServiceV1 = record.body().unwrap();
    let seen: Vec<_> =
        body.endpoints.iter().map(|e| (e.ip.to_string(), e.ready, e.ports.clone())).collect();
    assert_eq!(
        seen,
        [("10.64.0.2".to_owned(), true, vec![0]), ("10.64.0.9".to_owned(), false, vec![8080])]
    );
    assert_eq!(record.revision, 12, "the newest slice's");
    assert_eq!(body.ports[0].node_port, Some(30080));
    assert_eq!(body.cluster_ip, Some([10, 128, 0, 9].into()));
}

#[test]
fn a_headless_service_has_no_address_and_an_external_one_a_name() {
    let translate = |spec: &Value| -> ServiceV1 {
        let value = json!({"metadata": {"name": "s", "namespace": "n"}, "spec": spec});
        service_record(&spoke(), &found(&value, 1), |_, _| vec![]).unwrap().body().unwrap()
    };
    assert_eq!(translate(&json!({"clusterIP": "None"})).cluster_ip, None);
    let external = translate(&json!({"type": "ExternalName", "externalName": "db.example"}));
    assert_eq!(external.external_name.as_deref(), Some("db.example"));
    let sticky = json!({"clusterIP": "10.128.0.2", "sessionAffinity": "ClientIP"});
    assert_eq!(translate(&sticky).affinity_seconds, Some(10_800));
}

#[test]
fn every_field_that_a_spoke_needs_is_in_the_record() {
    let spec = json!({
        "restartPolicy": "OnFailure", "priority": -7, "terminationGracePeriodSeconds": 5, "activeDeadlineSeconds": 60,
        "hostname": "h", "subdomain": "s", "serviceAccountName": "robot", "enableServiceLinks": false,
        "hostAliases": [{"ip": "10.1.1.1", "hostnames": ["x", "y"]}],
        "initContainers": [{"name": "side", "image": "proxy", "restartPolicy": "Always"}],
        "containers": [{"name": "web", "image": "r.example:5000/app/hello:v1", "args": ["--x"],
            "ports": [{"containerPort": 80, "hostPort": 8080, "protocol": "UDP"}],
            "resources": {"limits": {"memory": "64Mi", "cpu": "500m"}, "requests": {"cpu": "1"}},
            "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "L", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
            "volumeMounts": [{"name": "d", "mountPath": "/d", "subPath": "x", "readOnly": true}]}],
        "volumes": [{"name": "d", "emptyDir": {"sizeLimit": "1Mi"}}]});
    let mut value = pod("a", &spec);
    value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    value["metadata"]["deletionGracePeriodSeconds"] = json!(3);
    value["metadata"]["annotations"] =
        json!({HTTP_REUSE: "8", format!("{HTTP_CONCURRENCY}.web"): "2"});
    let (record, body) = translate(&value).unwrap();
    assert_eq!(record.needs, feature::SIDECARS);
    assert_eq!(record.body::<PodV1>().unwrap(), body, "postcard reads back what it wrote");
    assert_eq!((body.grace_seconds, body.deadline_seconds, body.deleting), (5, Some(60), Some(3)));
    assert_eq!(body.priority, -7);
    assert_eq!(body.host_aliases.len(), 2);
    assert!(body.init[0].sidecar);
    let web = &body.containers[0];
    assert_eq!(web.args, ["hello", "--x"]);
    assert_eq!((web.http.reuse, web.http.concurrency), (Some(8), 2));
    assert_eq!(body.init[0].http.concurrency, 64);
    assert_eq!((web.memory_limit, web.cpu_limit_milli), (Some(64 << 20), Some(500)));
    assert_eq!(web.requests, (None, Some(1000)));
    assert_eq!(web.ports[0].host_port, Some(8080));
    assert_eq!(web.env[0].source, EnvSourceV1::Field("metadata.name".to_owned()));
}

#[test]
fn a_projected_volume_shows_the_pod_beside_its_configuration() {
    let memory = json!({"containerName": "web", "resource": "limits.memory", "divisor": "1Mi"});
    let items = json!([
        {"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o400},
        {"path": "m", "resourceFieldRef": memory}]);
    let sources = json!([
        {"secret": {"name": "pass"}},
        {"downwardAPI": {"items": items}},
        {"configMap": {"name": "all"}}]);
    let spec = json!({"volumes": [
        {"name": "p", "projected": {"sources": sources, "defaultMode": 0o440}},
        {"name": "d", "downwardAPI": {"items": items, "defaultMode": 0o444}}]});
    let (_, body) = translate(&pod("a", &spec)).unwrap();
    let file = |path: &str, source, mode| DownwardFileV1 { path: path.to_owned(), source, mode };
    let resource = ["web", "limits.memory", "1Mi"].map(str::to_owned);
    let [of, what, divisor] = resource;
    let files = vec![
        file("l", DownwardSourceV1::Field("metadata.labels".to_owned()), Some(0o400)),
        file("m", DownwardSourceV1::Resource(of, what, divisor), None),
    ];
    let VolumeSourceV1::Projected(many) = &body.volumes[0].source else {
        panic!("{:?}", body.volumes)
    };
    assert_eq!(many.len(), 3);
    let projected = DownwardV1 { files: files.clone(), mode: 0o440 };
    assert_eq!(many[1], ProjectionV1::Downward(projected));
    let own = DownwardV1 { files, mode: 0o444 };
    assert_eq!(body.volumes[1].source, VolumeSourceV1::Downward(own));
    let named: Vec<_> = config_of(&body).into_iter().map(|(_, _, name)| name).collect();
    assert_eq!(named, ["all", "pass"]);
}

#[test]
fn a_pod_asks_for_the_tokens_that_its_volumes_show() {
    let token = |path: &str, audience: &str, seconds: u64| json!({"serviceAccountToken": {"path": path, "audience": audience, "expirationSeconds": seconds}});
    let sources = json!([
        token("vault", "https://vault/x", 600),
        token("token", "", 3607),
        token("again", "", 3607)
    ]);
    let spec = json!({"serviceAccountName": "builder",
        "volumes": [{"name": "t", "projected": {"sources": sources}}]});
    let (_, body) = translate(&pod("a", &spec)).unwrap();
    let asked = TokensAsked::of(&ClusterName::root(), &body).unwrap();
    let whose = (&*asked.namespace, &*asked.account, &*asked.pod, &*asked.uid, &*asked.node);
    assert_eq!(whose, ("default", "builder", "a", "uid-a", "pi-7"));
    let texts: Vec<String> = asked.tokens.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["600/https://vault/x", "3607/"]);
    let record = asked.record(&["for the vault".to_owned(), "for the API".to_owned()]).unwrap();
    assert_eq!((record.key.kind, &*record.key.key), (Kind::POD_TOKENS_V1, "default/uid-a"));
    let tokens: ConfigV1 = record.body().unwrap();
    let VolumeSourceV1::Projected(files) = &body.volumes[0].source else { panic!("{body:?}") };
    let shown: Vec<_> = files
        .iter()
        .map(|one| {
            let ProjectionV1::Config(one) = one else { panic!("{one:?}") };
            let (key, path, _) = &one.items[0];
            let value = tokens.data.iter().find(|(have, _)| have == key).unwrap().1.clone();
            (path.clone(), String::from_utf8(value).unwrap())
        })
        .collect();
    let expected = [("vault", "for the vault"), ("token", "for the API"), ("again", "for the API")];
    assert_eq!(shown, expected.map(|(path, text)| (path.to_owned(), text.to_owned())));
    assert!(!format!("{tokens:?}").contains("for the"), "a token is nobody's to log");
    let (_, body) = translate(&pod("b", &json!({}))).unwrap();
    assert_eq!(TokensAsked::of(&ClusterName::root(), &body), None);
}

#[test]
fn an_image_that_cannot_be_had_is_said_per_container() {
    let (_, body) =
        translate(&pod("a", &json!({"containers": [{"name": "web", "image": "gone"}]}))).unwrap();
    let missing = ModuleV1::Missing("ErrImagePull".to_owned(), "no such image".to_owned());
    assert_eq!(body.containers[0].module, missing);
}

#[test]
fn what_no_spoke_can_do_is_refused_and_disturbs_nothing_else() {
    let bad = pod("bad", &json!({"volumes": [{"name": "h", "hostPath": {"path": "/etc"}}]}));
    let plan = World::default()
        .with("root", "pods", &bad)
        .with("root", "pods", &pod("good", &json!({})))
        .plan();
    assert!(keys(&plan).contains(&"root 1 uid-good".to_owned()));
    let [refused] = plan.refused.as_slice() else { panic!("{:?}", plan.refused) };
    assert_eq!((refused.reason, &*refused.uid), ("UnsupportedField", "uid-bad"));
    assert!(refused.message.contains("\"h\""), "{}", refused.message);
}

#[test]
fn what_is_beyond_all_devices_is_the_most_that_a_record_says() {
    let most = "9223372036854775807";
    let spec = json!({
        "terminationGracePeriodSeconds": i64::MAX, "activeDeadlineSeconds": 1_i64 << 32,
        "containers": [{"name": "web", "image": "hello", "resources": {
            "limits": {"memory": most, "cpu": "1099511627776", "ephemeral-storage": most},
            "requests": {"memory": "16Ei", "cpu": "1e99"}}}],
        "volumes": [{"name": "d", "emptyDir": {"sizeLimit": most}}]});
    let (_, body) = translate(&pod("a", &spec)).unwrap();
    assert_eq!((body.grace_seconds, body.deadline_seconds), (u32::MAX, Some(u32::MAX)));
    let web = &body.containers[0];
    assert_eq!((web.memory_limit, web.cpu_limit_milli), (Some(i64::MAX as u64), Some(u32::MAX)));
    assert_eq!(web.requests, (Some(u64::MAX), Some(u32::MAX)));
    let VolumeSourceV1::EmptyDir(size) = &body.volumes[0].source else { panic!("{body:?}") };
    assert_eq!(*size, Some(i64::MAX as u64));
}

#[test]
fn malformed_objects_are_refused_never_a_panic() {
    for value in [
        json!(null),
        json!({"metadata": 5}),
        json!({"metadata": {"name": "x"}}),
        pod("x", &json!({"containers": 5})),
        pod("x", &json!({"restartPolicy": "Sometimes"})),
        pod("x", &json!({"containers": [{"name": "c", "ports": [{"containerPort": 70000}]}]})),
        pod(
            "x",
            &json!({"containers": [{"name": "c", "ports": [{"containerPort": 7, "protocol": "SCTP"}]}]}),
        ),
        pod(
            "x",
            &json!({"containers": [{"name": "c", "resources": {"limits": {"memory": "much"}}}]}),
        ),
    ] {
        assert!(translate(&value).is_err(), "{value}");
    }
    let no_json = StoredObject { body: Bytes::from_static(b"\xff{"), revision: 1, created: 1 };
    assert_eq!(config_map_record(&spoke(), &no_json).unwrap_err().reason, "Malformed");
    assert!(!has_node_port(&no_json));
    assert!(pod_cidr_record(&spoke(), "10.64.3.7", 1).is_err());
    assert!(pod_cidr_record(&spoke(), "here", 1).is_err());
    let cidr: PodCidrV1 = pod_cidr_record(&spoke(), "10.64.3.0", 1).unwrap().body().unwrap();
    assert_eq!(cidr.prefix, 24);
}

#[test]
fn only_a_changed_body_is_worth_a_push() {
    let mut value = pod("a", &json!({}));
    let (old, _) = translate(&value).unwrap();
    value["status"] = json!({"phase": "Running"});
    let (new, _) = pod_record(&ClusterName::root(), &found(&value, 9), &AnyImage).unwrap();
    assert_ne!(old.revision, new.revision);
    assert!(!differs(&old, &new));
    value["metadata"]["labels"] = json!({"a": "b"});
    assert!(differs(&old, &translate(&value).unwrap().0));
}

#[test]
fn a_pod_gets_what_its_image_was_when_it_was_looked_up_and_writing_that_down_is_no_change() {
    let mut value = pod("a", &json!({}));
    value["metadata"]["annotations"] = json!({"a": "b"});
    let (before, _) = translate(&value).unwrap();
    let manifest = Digest::of(b"manifest");
    value["metadata"]["annotations"][RESOLVED] =
        json!(json!({"hello": manifest.to_string(), "other": manifest.to_string()}).to_string());
    assert_eq!(Pins::of(&value).apply("hello"), format!("hello@{manifest}"));
    let (_, after) = translate(&value).unwrap();
    let pinned = Digest::of(format!("hello@{manifest}").as_bytes());
    assert_eq!(after.containers[0].module, ModuleV1::Component(pinned));
    assert_eq!(after.containers[0].image, "hello", "as it is written");
    assert_eq!(after.annotations, [("a".to_owned(), "b".to_owned())]);
    // What no container has, and what cannot be read, changes nothing.
    for text in [json!({"other": manifest.to_string()}).to_string(), "?".to_owned()] {
        value["metadata"]["annotations"][RESOLVED] = json!(text);
        assert!(!differs(&before, &translate(&value).unwrap().0));
    }
}

#[test]
fn a_limit_of_zero_is_none() {
    let resources = json!({"limits": {"cpu": "0", "memory": "0"}, "requests": {"cpu": "0"}});
    let container = json!({"name": "web", "image": "hello", "resources": resources});
    let (_, pod) = translate(&pod("x", &json!({"containers": [container]}))).unwrap();
    let web = &pod.containers[0];
    assert_eq!((web.memory_limit, web.cpu_limit_milli), (None, None));
}

#[test]
fn what_a_pod_says_of_the_disk_is_a_part_of_its_record() {
    let resources = json!({"limits": {"ephemeral-storage": "1Gi"},
        "requests": {"ephemeral-storage": "100M", "cpu": "1"}});
    let loud = json!({"containers": [
        {"name": "web", "image": "hello", "resources": resources},
        {"name": "quiet", "image": "hello"}]});
    // A word in another place is no limit.
    let mention =
        json!({"containers": [{"name": "web", "image": "hello", "args": ["ephemeral-storage"]}]});
    let plan = World::default()
        .with("root", "pods", &pod("loud", &loud))
        .with("root", "pods", &pod("mention", &mention))
        .plan();
    assert_eq!(plan.refused, []);
    let pods = plan.records.values().filter(|r| r.key.kind == Kind::POD_V1);
    let pods: Vec<PodV1> = pods.map(|record| record.body().unwrap()).collect();
    let storage = |pod: &PodV1| pod.parts.get::<PodStorageV1>().unwrap();
    let web =
        StorageV1 { container: "web".to_owned(), limit: Some(1 << 30), request: Some(100_000_000) };
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        let said = storage(pod).map(|storage| storage.containers);
        assert_eq!(said, (pod.uid == "uid-loud").then(|| vec![web.clone()]), "{}", pod.uid);
    }
    let bad = json!({"containers": [{"name": "web", "image": "hello",
        "resources": {"limits": {"ephemeral-storage": "much"}}}]});
    let plan = World::default().with("root", "pods", &pod("bad", &bad)).plan();
    assert_eq!(plan.refused.len(), 1, "{:?}", plan.refused);
    assert!(!keys(&plan).contains(&"root 1 uid-bad".to_owned()), "it would run without limits");
}

fn config_map(name: &str, bytes: usize) -> Value {
    json!({"metadata": {"name": name, "namespace": "default"}, "data": {"k": "x".repeat(bytes)}})
}

#[test]
fn what_the_api_accepts_becomes_a_record_that_the_link_carries() {
    let exactly = config_map("m", limits::API_DATA_BYTES_MAX - 1);
    let record = config_map_record(&spoke(), &found(&exactly, 1)).unwrap();
    assert!(record.weight() <= limits::RECORD_BYTES_MAX);
    let value = "x".repeat(1_500_000);
    let container = json!({"name": "c", "image": "i", "env": [{"name": "E", "value": value}]});
    let (record, _) = translate(&pod("env", &json!({"containers": [container]}))).unwrap();
    assert!(1_500_000 < record.weight() && record.weight() <= limits::RECORD_BYTES_MAX);
    // As many containers as an object can name: their records are longer than their JSON.
    let tiny: Vec<Value> =
        (0..30_000).map(|i| json!({"name": format!("c{i}"), "image": "i"})).collect();
    let many = pod("many", &json!({"containers": tiny}));
    assert!(many.to_string().len() < limits::API_OBJECT_BYTES_MAX);
    let (record, _) = translate(&many).unwrap();
    assert!(record.weight() <= limits::RECORD_BYTES_MAX, "{}", record.weight());
}

#[test]
fn a_service_with_more_endpoints_than_a_message_holds_is_carried_and_one_beyond_all_bounds_is_told()
{
    let slice = |slice: u32, endpoints: u32| {
        let address = |i| Ipv4Addr::from(0x0a40_0000 + slice * 1000 + i).to_string();
        let endpoint = |i| json!({"addresses": [address(i)], "nodeName": "n".repeat(60)});
        let all: Vec<Value> = (0..endpoints).map(endpoint).collect();
        found(
            &json!({"addressType": "IPv4", "endpoints": all, "ports": [{"name": "http", "port": 8080}]}),
            3,
        )
    };
    let told = |slices: u32| {
        let slices = |_: &str, _: &str| (0..slices).map(|i| slice(i, 1000)).collect();
        service_record(&ClusterName::root(), &found(&service("web", None), 2), slices)
    };
    let large = told(20).unwrap();
    assert!(limits::FRAME_BYTES_MAX < large.weight() && large.weight() <= limits::RECORD_BYTES_MAX);
    assert_eq!(large.body::<ServiceV1>().unwrap().endpoints.len(), 20_000);
    let refused = told(150).unwrap_err();
    assert_eq!((refused.resource, &*refused.name, refused.reason), ("services", "web", "TooLarge"));
}
