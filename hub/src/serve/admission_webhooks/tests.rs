//! Webhooks over TLS, by address and behind Services.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_api::kinds;
use freewheel_hub_api::streams::{ByteStream, ExecOptions, LogOptions, SpokeFigures, SpokeStreams};
use freewheel_hub_apiserver::{Access, AccessOptions};
use freewheel_hub_objects::{ObjectRef, Objects, Person, WriteOptions, stored_value};
use freewheel_hub_pki::Pki;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::memory_transport;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::{PodClient, Principal};
use freewheel_link::transport::{Priority, Transport as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::serve::webhook::tests::acceptor;

type Says = fn(&Value) -> Value;

/// A webhook over TLS that says this; what it does not answer within, it never does.
async fn webhook(pki: &Pki, says: Says) -> String {
    named(pki, "", says).await
}

/// The same, of this name.
async fn named(pki: &Pki, name: &str, says: Says) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let acceptor = acceptor(pki, name);
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(socket).await else { continue };
            let mut asked = Vec::new();
            let review: Value = loop {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).await.unwrap();
                asked.extend_from_slice(&part[..read]);
                let at = asked.windows(4).position(|four| four == b"\r\n\r\n");
                let body = at.map(|at| serde_json::from_slice(&asked[at + 4..]));
                if let Some(Ok(review)) = body {
                    break review;
                }
            };
            let mut response = says(&review["request"]);
            if response == Value::Null {
                std::mem::forget(stream);
                continue;
            }
            response["uid"] = review["request"]["uid"].clone();
            let answer = json!({"kind": review["kind"], "apiVersion": review["apiVersion"], "response": response});
            let answer = answer.to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
            stream.write_all(format!("{head}{answer}").as_bytes()).await.unwrap();
        }
    });
    url
}

fn objects(streams: Option<Arc<dyn SpokeStreams>>) -> Objects {
    let webhooks = Arc::new(AdmissionWebhooks::default());
    let options = AccessOptions { webhooks: Some(webhooks.clone()), ..AccessOptions::default() };
    let (access, store) = Access::over(Arc::new(MemoryStore::new()), options);
    if let Some(streams) = streams {
        webhooks.reach_services(ServiceDialer::new(store.clone(), streams));
    }
    access.guard(Objects::new(store))
}

/// A device on whose pods this port leads to that address.
struct Device {
    port: u16,
    to: String,
}

#[async_trait]
impl SpokeStreams for Device {
    async fn logs(
        &self,
        _: &ClusterName,
        _: &Uid,
        _: LogOptions,
        _: PodClient,
    ) -> Result<ByteStream, ApiError> {
        Err(ApiError::internal("there are no logs"))
    }

    async fn port_forward(
        &self,
        spoke: &ClusterName,
        _: &Uid,
        port: u16,
        client: PodClient,
    ) -> Result<Stream, ApiError> {
        assert_eq!((spoke.as_str(), port), ("pi-7", self.port));
        // It is the root's webhook.
        let root = ClusterName::root();
        assert_eq!(client, PodClient::new(&root, Principal::Hub(root.clone())));
        let mut socket = TcpStream::connect(&self.to).await.unwrap();
        let (hub, device) = memory_transport::pair();
        let near = hub.open(Priority::Tunnels).await.unwrap();
        tokio::spawn(async move {
            let mut far = device.accept().await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut far, &mut socket).await;
            drop(hub);
        });
        Ok(near)
    }

    async fn exec(
        &self,
        _: &ClusterName,
        _: &Uid,
        _: ExecOptions,
        _: PodClient,
    ) -> Result<Stream, ApiError> {
        Err(ApiError::internal("there are no commands"))
    }

    fn reaches(&self, _: &ClusterName) -> Result<(), ApiError> {
        Ok(())
    }

    async fn figures(&self, _: &ClusterName) -> Result<SpokeFigures, ApiError> {
        Err(ApiError::internal("there are no figures"))
    }
}

fn place(cluster: &str, version: &str, kind: &str) -> ObjectRef {
    let cluster = ClusterName::try_from(cluster).unwrap();
    let kind = kinds::registry(&cluster).by_kind(version, kind).unwrap().clone();
    let namespace = if kind.namespaced { "default" } else { "" }.into();
    ObjectRef { kind, cluster, namespace, name: String::new() }
}

async fn create(objects: &Objects, place: &ObjectRef, value: Value) -> Result<Value, ApiError> {
    let how = WriteOptions::by(Person { name: "ada".to_owned(), ..Person::default() });
    let written = objects.create(&how, place, value).await?;
    stored_value(&written.stored)
}

async fn configure(objects: &Objects, cluster: &str, kind: &str, hook: Value) {
    let mut hook = hook;
    hook["name"] = json!("asks.example.com");
    hook["admissionReviewVersions"] = json!(["v1"]);
    hook["sideEffects"] = json!("None");
    hook["rules"] = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["configmaps"]}]);
    let value = json!({"metadata": {"name": kind.to_lowercase()}, "webhooks": [hook]});
    let place = place(cluster, "admissionregistration.k8s.io/v1", kind);
    create(objects, &place, value).await.unwrap();
}

async fn bootstrapped(cluster: &str) -> Objects {
    bootstrapped_with(cluster, None).await
}

async fn bootstrapped_with(cluster: &str, streams: Option<Arc<dyn SpokeStreams>>) -> Objects {
    let objects = objects(streams);
    create(&objects, &place(cluster, "v1", "Namespace"), json!({"metadata": {"name": "default"}}))
        .await
        .unwrap();
    objects
}

fn bundle(pki: &Pki) -> Value {
    json!(STANDARD.encode(&pki.ca_pem))
}

fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"key": "value"}})
}

#[tokio::test]
async fn webhooks_are_asked_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), false).unwrap();
    let objects = bootstrapped("root").await;
    let changes = webhook(&pki, |_| {
        let patch = json!([{"op": "add", "path": "/data/added", "value": "yes"}]);
        json!({"allowed": true, "patchType": "JSONPatch", "patch": STANDARD.encode(patch.to_string())})
    });
    let client = json!({"url": changes.await, "caBundle": bundle(&pki)});
    configure(&objects, "root", "MutatingWebhookConfiguration", json!({"clientConfig": client}))
        .await;
    let decides = webhook(&pki, |request| {
        let object = &request["object"];
        if object["metadata"]["name"] == "slow" {
            return Value::Null;
        }
        let right = object["data"]["added"] == "yes" && request["userInfo"]["username"] == "ada";
        let named = object["metadata"]["name"] != "bad";
        json!({"allowed": right && named, "status": {"code": 403, "message": "not that one", "reason": "Forbidden"}})
    });
    let client = json!({"url": format!("{}/decide", decides.await), "caBundle": bundle(&pki)});
    let hook = json!({"clientConfig": client, "timeoutSeconds": 1});
    configure(&objects, "root", "ValidatingWebhookConfiguration", hook).await;
    let at = place("root", "v1", "ConfigMap");
    let made = create(&objects, &at, config_map("good")).await.unwrap();
    assert_eq!(made["data"], json!({"key": "value", "added": "yes"}));
    let refused = create(&objects, &at, config_map("bad")).await.unwrap_err();
    assert_eq!((refused.code, refused.reason), (403, "Forbidden"));
    assert_eq!(
        refused.message,
        "admission webhook \"asks.example.com\" denied the request: not that one"
    );
    let late = create(&objects, &at, config_map("slow")).await.unwrap_err();
    assert_eq!(late.code, 500);
    assert!(late.message.starts_with("Internal error occurred: failed calling webhook \"asks.example.com\": failed to call webhook: Post \"https://127.0.0.1:"), "{}", late.message);
    assert!(
        late.message.ends_with("/decide?timeout=1s\": context deadline exceeded"),
        "{}",
        late.message
    );
    // One that nobody vouches for is told nothing.
    let other = tempfile::tempdir().unwrap();
    let stranger = Pki::open(other.path(), false).unwrap();
    let address = Address {
        url: webhook(&stranger, |_| json!({"allowed": true})).await,
        authorities: pki.ca_pem.clone(),
        service: None,
        of_tenant: false,
    };
    let caller = AdmissionWebhooks::default();
    let call = caller.call(&address, b"{}".to_vec());
    let outcome = tokio::time::timeout(Duration::from_secs(20), call).await.unwrap();
    assert!(matches!(outcome, Err(CallError::Unreachable(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_tenants_webhook_reaches_nothing_of_the_host_and_its_networks() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), false).unwrap();
    let own = webhook(&pki, |_| json!({"allowed": true})).await;
    for url in [&*own, "https://100.100.100.200:443/", "https://10.1.2.3:9443/"] {
        let objects = bootstrapped("pi-7").await;
        let client = json!({"url": url, "caBundle": bundle(&pki)});
        let hook = json!({"clientConfig": client});
        configure(&objects, "pi-7", "ValidatingWebhookConfiguration", hook).await;
        let refused = create(&objects, &place("pi-7", "v1", "ConfigMap"), config_map("a")).await;
        let refused = refused.unwrap_err().message;
        let address = url.trim_start_matches("https://").trim_end_matches('/');
        assert!(refused.contains(&format!("dial tcp: {address}")), "{refused}");
        assert!(refused.contains("is not everybody's to reach"), "{refused}");
    }
}

/// Service `checks` of two ports, whose `tls` is a pod's 8443 on pi-7.
async fn service(objects: &Objects) {
    let ports = json!([{"name": "plain", "port": 80}, {"name": "tls", "port": 443}]);
    let service = json!({"metadata": {"name": "checks"}, "spec": {"ports": ports}});
    create(objects, &place("root", "v1", "Service"), service).await.unwrap();
}

/// The pod behind it.
async fn endpoint(objects: &Objects) {
    let at = |version: &str, kind: &str| place("root", version, kind);
    let account = json!({"metadata": {"name": "default"}});
    create(objects, &at("v1", "ServiceAccount"), account).await.unwrap();
    let pod = json!({"metadata": {"name": "checks-1"}, "spec": {"nodeName": "pi-7",
        "containers": [{"name": "c", "image": "checks"}]}});
    create(objects, &at("v1", "Pod"), pod).await.unwrap();
    let pod = ObjectRef { name: "checks-1".to_owned(), ..at("v1", "Pod") };
    let has_address = |mut pod: Value| {
        pod["status"]["podIP"] = json!("10.64.0.2");
        Ok(pod)
    };
    let hub = WriteOptions::default();
    objects.modify(&hub, &pod, Some("status"), has_address).await.unwrap();
    let ports = json!([{"name": "plain", "port": 8080}, {"name": "tls", "port": 8443}]);
    let endpoint = json!({"addresses": ["10.64.0.2"], "conditions": {"ready": true},
        "targetRef": {"kind": "Pod", "name": "checks-1", "namespace": "default"}});
    let slice = json!({"metadata": {"name": "checks-a", "labels": {"kubernetes.io/service-name": "checks"}},
        "addressType": "IPv4", "ports": ports, "endpoints": [endpoint]});
    create(objects, &at("discovery.k8s.io/v1", "EndpointSlice"), slice).await.unwrap();
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_reached_in_its_pod() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), false).unwrap();
    let says: Says = |request| {
        let named = request["object"]["metadata"]["name"] != "bad";
        json!({"allowed": named, "status": {"message": "not that one"}})
    };
    let refused = async |name: &str, tries: &'static [&'static str]| {
        let url = named(&pki, name, says).await;
        let to = url.trim_start_matches("https://").to_owned();
        let device = Arc::new(Device { port: 8443, to });
        let objects = bootstrapped_with("root", Some(device)).await;
        let hook = json!({"clientConfig": {"caBundle": bundle(&pki),
            "service": {"namespace": "default", "name": "checks", "path": "/maps"}}});
        configure(&objects, "root", "ValidatingWebhookConfiguration", hook).await;
        let maps = place("root", "v1", "ConfigMap");
        let early = create(&objects, &maps, config_map("good")).await.unwrap_err();
        assert!(early.message.ends_with("?timeout=10s\": service \"checks\" not found"), "{early}");
        service(&objects).await;
        endpoint(&objects).await;
        let mut told = Vec::new();
        for name in tries {
            told.push(create(&objects, &maps, config_map(name)).await.map_err(|why| why.message));
        }
        told
    };
    let told = refused("checks.default.svc", &["good", "bad"]).await;
    assert!(told[0].is_ok(), "{told:?}");
    let bad = told[1].as_ref().unwrap_err();
    assert!(bad.ends_with("denied the request: not that one"), "{bad}");
    // Who shows a certificate of another name is told nothing.
    let told = refused("other.default.svc", &["good"]).await;
    let stranger = told[0].as_ref().unwrap_err();
    let post = "Post \"https://checks.default.svc:443/maps?timeout=10s\": dial tcp: ";
    assert!(stranger.contains(post), "{stranger}");
}

/// Widgets of two versions, which whoever is behind Service `checks` converts.
fn definition(pki: &Pki) -> Value {
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
    };
    let service = json!({"namespace": "default", "name": "checks", "path": "/convert"});
    json!({"metadata": {"name": "widgets.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [version("v1", true), version("v2", false)],
        "conversion": {"strategy": "Webhook", "webhook": {
            "clientConfig": {"caBundle": bundle(pki), "service": service},
            "conversionReviewVersions": ["v1"]}}}})
}

#[tokio::test]
async fn a_conversion_webhook_behind_a_service_is_reached_in_its_pod() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open(dir.path(), false).unwrap();
    let says: Says = |request| {
        let mut objects = request["objects"].clone();
        for object in objects.as_array_mut().unwrap() {
            object["apiVersion"] = request["desiredAPIVersion"].clone();
            object["spec"]["converted"] = json!(true);
        }
        json!({"result": {"status": "Success"}, "convertedObjects": objects})
    };
    let url = named(&pki, "checks.default.svc", says).await;
    let to = url.trim_start_matches("https://").to_owned();
    let objects = bootstrapped_with("root", Some(Arc::new(Device { port: 8443, to }))).await;
    let definitions = place("root", "apiextensions.k8s.io/v1", "CustomResourceDefinition");
    let definition = create(&objects, &definitions, definition(&pki)).await.unwrap();
    let converter = objects.conversions().unwrap().of(&ClusterName::root(), &definition).unwrap();
    let convert = async || {
        let widget = json!({"apiVersion": "example.com/v1", "kind": "Widget",
            "metadata": {"name": "w", "namespace": "default"}, "spec": {"size": 1}});
        let converted = converter.convert("example.com/v2", vec![widget]).await;
        converted.map_err(|error| (error.code, error.message))
    };
    let failed = |why: &str| {
        let post = "Post \"https://checks.default.svc:443/convert?timeout=30s\"";
        let kind = "example.com/v1, Kind=Widget";
        Err((500, format!("conversion webhook for {kind} failed: {post}: {why}")))
    };
    assert_eq!(convert().await, failed("service \"checks\" not found"));
    service(&objects).await;
    assert_eq!(convert().await, failed("no endpoints available for service \"checks\""));
    endpoint(&objects).await;
    let converted = convert().await.unwrap();
    assert_eq!(converted[0]["apiVersion"], "example.com/v2");
    assert_eq!(converted[0]["spec"], json!({"size": 1, "converted": true}));
}
