//! Custom resources whose versions a webhook converts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_admission::{Address, CallError, Caller, ServicePort};
use freewheel_hub_apiserver::AccessOptions;
use freewheel_hub_controllers::definitions::Definitions;
use freewheel_hub_controllers::engine;
use freewheel_hub_controllers::engine::Client as ControllerClient;
use freewheel_hub_controllers::events::Recorder;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Client, Hub};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const DEFINITION: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/lamps.example.com";
const V1: &str = "/apis/example.com/v1/namespaces/default/lamps";
const V2: &str = "/apis/example.com/v2/namespaces/default/lamps";

/// How the webhook behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Broken,
    Renames,
    Fails,
}

/// v1 says `hostPort: a:80`, v2 `host: a` and `port: 80`.
struct Played {
    mood: Mutex<Mood>,
    calls: Mutex<Vec<Address>>,
}

fn convert(object: &mut Value, to: &str) {
    let spec = &mut object["spec"];
    if to == "example.com/v2" {
        let text = spec["hostPort"].as_str().unwrap_or_default().to_owned();
        let (host, port) = text.split_once(':').unwrap_or(("", "0"));
        *spec = json!({"host": host, "port": port.parse::<u16>().unwrap()});
    } else {
        let (host, port) = (spec["host"].as_str().unwrap_or_default(), spec["port"].as_u64());
        *spec = json!({"hostPort": format!("{host}:{}", port.unwrap_or_default())});
    }
    object["apiVersion"] = json!(to);
    object["metadata"]["annotations"]["converted-to"] = json!(to);
    object["metadata"]["finalizers"] = json!(["example.com/never"]);
}

#[async_trait]
impl Caller for Played {
    async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError> {
        self.calls.lock().push(address.clone());
        let mood = *self.mood.lock();
        if mood == Mood::Broken {
            return Err(CallError::Unreachable("connection refused".to_owned()));
        }
        let review: Value = serde_json::from_slice(&review).unwrap();
        let request = &review["request"];
        let to = request["desiredAPIVersion"].as_str().unwrap();
        let mut objects = request["objects"].as_array().unwrap().clone();
        for object in &mut objects {
            assert_ne!(object["apiVersion"], to);
            convert(object, to);
            if mood == Mood::Renames {
                object["metadata"]["name"] = json!("other");
            }
        }
        let result = match mood {
            Mood::Fails => json!({"status": "Failure", "message": "no such lamp"}),
            _ => json!({"status": "Success"}),
        };
        let answer = json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1",
            "response": {"uid": request["uid"], "convertedObjects": objects, "result": result}});
        Ok(answer.to_string().into_bytes())
    }
}

fn definition() -> Value {
    let version = |name: &str, storage: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "properties": fields},
                "status": {"type": "object", "properties": {"lit": {"type": "integer"}}}}}},
            "subresources": {"status": {}}})
    };
    let mut second = version(
        "v2",
        false,
        json!({"host": {"type": "string"}, "port": {"type": "integer", "maximum": 9_000}}),
    );
    second["subresources"]["scale"] =
        json!({"specReplicasPath": ".spec.port", "statusReplicasPath": ".status.lit"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "lamps.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "lamps", "kind": "Lamp"},
            "versions": [version("v1", true, json!({"hostPort": {"type": "string"}})), second],
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": "https://converts.example.com/crd"},
                "conversionReviewVersions": ["v1"]}},
        },
    })
}

struct World {
    hub: Hub,
    admin: Client,
    played: Arc<Played>,
    _controller: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        Self::of(&definition()).await
    }

    async fn of(definition: &Value) -> Self {
        let played = Arc::new(Played { mood: Mutex::new(Mood::Good), calls: Mutex::default() });
        let options = AccessOptions { webhooks: Some(played.clone()), ..AccessOptions::default() };
        let hub = Hub::with(options).await;
        let recorder = Recorder::channel(&hub.objects).0;
        let client = ControllerClient::new(hub.objects.clone(), "definitions", recorder);
        let controller = Arc::new(Definitions::new(client).unwrap());
        let store = hub.objects.store().clone();
        let controller = tokio::spawn(engine::run(store, controller, CancellationToken::new()));
        let admin = hub.admin();
        let world = Self { hub, admin, played, _controller: controller };
        let made = world.admin.post(DEFINITIONS, definition).await;
        assert_eq!(made.code, 201, "{}", made.text());
        world.until(|world| async move { world.admin.get(V2).await.code == 200 }).await;
        world
    }

    async fn until<'a, F: Future<Output = bool>>(&'a self, holds: impl Fn(&'a Self) -> F) {
        for _ in 0..600 {
            if holds(self).await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it never holds");
    }

    fn mood(&self, mood: Mood) {
        *self.played.mood.lock() = mood;
    }

    fn calls(&self) -> usize {
        self.played.calls.lock().len()
    }

    /// As it is stored.
    fn stored(&self, name: &str) -> Value {
        let kinds = self.hub.objects.kinds().of(&freewheel_link::names::ClusterName::root());
        let place = freewheel_hub_objects::ObjectRef {
            kind: kinds.by_kind("example.com/v1", "Lamp").unwrap().clone(),
            cluster: freewheel_link::names::ClusterName::root(),
            namespace: "default".into(),
            name: name.to_owned(),
        };
        self.hub.objects.get(&place).unwrap().object.value().unwrap()
    }
}

fn first(name: &str, target: &str) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Lamp", "metadata": {"name": name},
        "spec": {"hostPort": target}})
}

fn second(name: &str, host: &str, port: u16) -> Value {
    json!({"apiVersion": "example.com/v2", "kind": "Lamp", "metadata": {"name": name},
        "spec": {"host": host, "port": port}})
}

#[tokio::test]
async fn an_object_is_read_and_written_in_every_version() {
    let world = World::new().await;
    let admin = &world.admin;
    assert_eq!(admin.post(V1, &first("one", "a:80")).await.code, 201);
    assert_eq!(world.calls(), 0, "what is stored as it came is nobody's to convert");
    let read = admin.get(&format!("{V2}/one")).await.json();
    assert_eq!(read["apiVersion"], "example.com/v2");
    assert_eq!(read["spec"], json!({"host": "a", "port": 80}));
    assert_eq!(read["metadata"]["annotations"]["converted-to"], "example.com/v2");
    assert!(read["metadata"].get("finalizers").is_none(), "{read}");
    assert!(read["metadata"]["resourceVersion"].is_string());

    let made = admin.post(V2, &second("two", "b", 81)).await;
    assert_eq!(made.code, 201, "{}", made.text());
    assert_eq!(made.json()["spec"], json!({"host": "b", "port": 81}));
    assert_eq!(world.stored("two")["spec"], json!({"hostPort": "b:81"}));
    assert_eq!(world.stored("two")["apiVersion"], "example.com/v1");
    let refused = admin.post(V2, &second("three", "b", 9_001)).await;
    assert_eq!(refused.code, 422, "{}", refused.text());

    let mut changed = admin.get(&format!("{V2}/two")).await.json();
    changed["spec"]["port"] = json!(82);
    let put = admin.put(&format!("{V2}/two"), &changed).await;
    assert_eq!((put.code, &put.json()["spec"]["port"]), (200, &json!(82)), "{}", put.text());
    let same = admin.put(&format!("{V2}/two"), &put.json()).await.json();
    assert_eq!(same["metadata"]["resourceVersion"], put.json()["metadata"]["resourceVersion"]);
    let patch = json!({"spec": {"host": "c"}});
    let patched = admin.patch(&format!("{V2}/two"), "merge-patch+json", &patch).await.json();
    assert_eq!(patched["spec"], json!({"host": "c", "port": 82}));
    let path = format!("{V2}/two?fieldManager=me&force=true");
    let applied = admin.patch(&path, "apply-patch+yaml", &second("two", "d", 83)).await;
    assert_eq!(applied.code, 200, "{}", applied.text());
    assert_eq!(applied.json()["spec"], json!({"host": "d", "port": 83}));
    let status = json!({"status": {"lit": 3}});
    let lit = admin.patch(&format!("{V2}/two/status"), "merge-patch+json", &status).await;
    assert_eq!(lit.json()["status"], json!({"lit": 3}), "{}", lit.text());
    let scale = admin.get(&format!("{V2}/two/scale")).await.json();
    assert_eq!(
        (&scale["spec"], &scale["status"]),
        (&json!({"replicas": 83}), &json!({"replicas": 3}))
    );
    let more = json!({"spec": {"replicas": 84}});
    let scaled = admin.patch(&format!("{V2}/two/scale"), "merge-patch+json", &more).await;
    assert_eq!(scaled.json()["spec"], json!({"replicas": 84}), "{}", scaled.text());
    assert_eq!(world.stored("two")["spec"], json!({"hostPort": "d:84"}));

    let list = admin.get(V2).await.json();
    let ports: Vec<&Value> =
        list["items"].as_array().unwrap().iter().map(|item| &item["spec"]["port"]).collect();
    assert_eq!(ports, [&json!(80), &json!(84)]);
    let all = admin.delete(V2).await;
    assert_eq!(all.json()["items"][1]["spec"]["host"], "d", "{}", all.text());
}

#[tokio::test]
async fn a_webhook_behind_a_service_is_called_by_its_name() {
    let mut behind = definition();
    behind["spec"]["conversion"]["webhook"]["clientConfig"] = json!({"caBundle": "Y2E=",
        "service": {"namespace": "hooks", "name": "converts", "path": "/crd"}});
    let world = World::of(&behind).await;
    let service = "/spec/conversion/webhook/clientConfig/service/port";
    assert_eq!(world.admin.get(DEFINITION).await.json().pointer(service), Some(&json!(443)));
    assert_eq!(world.admin.post(V1, &first("one", "a:80")).await.code, 201);
    let read = world.admin.get(&format!("{V2}/one")).await.json();
    assert_eq!(read["spec"], json!({"host": "a", "port": 80}));
    let address = world.played.calls.lock().pop().unwrap();
    assert_eq!(address.url, "https://converts.hooks.svc:443/crd?timeout=30s");
    assert_eq!(address.authorities, "ca");
    let port = ServicePort {
        cluster: freewheel_link::names::ClusterName::root(),
        namespace: "hooks".to_owned(),
        name: "converts".to_owned(),
        port: 443,
    };
    assert_eq!(address.service, Some(port));
}

#[tokio::test]
async fn watchers_see_the_version_that_they_watch() {
    let world = World::new().await;
    let admin = &world.admin;
    for (name, target) in [("one", "a:80"), ("two", "b:81")] {
        assert_eq!(admin.post(V1, &first(name, target)).await.code, 201);
    }
    let mut watch = admin.watch(&format!("{V2}?watch=1")).await;
    for (name, host) in [("one", "a"), ("two", "b")] {
        let event = watch.next().await.unwrap();
        assert_eq!(event["type"], "ADDED");
        assert_eq!(
            (&event["object"]["metadata"]["name"], &event["object"]["spec"]["host"]),
            (&json!(name), &json!(host))
        );
    }
    let patch = json!({"spec": {"hostPort": "c:82"}});
    admin.patch(&format!("{V1}/one"), "merge-patch+json", &patch).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["spec"]),
        (&json!("MODIFIED"), &json!({"host": "c", "port": 82}))
    );
    let before = world.calls();
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(admin.watch(&format!("{V2}?watch=1&fieldSelector=metadata.name=one")).await);
    }
    for other in &mut others {
        assert_eq!(other.next().await.unwrap()["object"]["spec"]["host"], "c");
    }
    assert_eq!(world.calls(), before, "what was converted for one is there for the others");
    admin.delete(&format!("{V1}/one")).await;
    let event = watch.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]["spec"]["host"]),
        (&json!("DELETED"), &json!("c"))
    );
}

#[tokio::test]
async fn a_webhook_that_fails_harms_its_own_kind_alone() {
    let world = World::new().await;
    let admin = &world.admin;
    assert_eq!(admin.post(V1, &first("one", "a:80")).await.code, 201);
    let mut watch = admin.watch(&format!("{V2}?watch=1&resourceVersion=0&sendInitialEvents=false&resourceVersionMatch=NotOlderThan")).await;
    world.mood(Mood::Broken);
    let failed = admin.get(&format!("{V2}/one")).await;
    assert_eq!(failed.code, 500);
    assert_eq!(
        failed.json()["message"],
        "conversion webhook for example.com/v1, Kind=Lamp failed: Post \"https://converts.example.com/crd?timeout=30s\": connection refused"
    );
    assert_eq!(admin.get(V2).await.code, 500);
    assert_eq!(admin.post(V2, &second("two", "b", 81)).await.code, 500);
    assert_eq!(admin.get(&format!("{V1}/one")).await.code, 200, "it is stored as it is read");
    let patch = json!({"spec": {"hostPort": "c:82"}});
    assert_eq!(admin.patch(&format!("{V1}/one"), "merge-patch+json", &patch).await.code, 200);
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["code"]), (&json!("ERROR"), &json!(500)));
    assert_eq!(admin.get("/api/v1/namespaces/default/configmaps").await.code, 200);
    world.mood(Mood::Renames);
    let wrong = admin.get(&format!("{V2}/one")).await;
    assert!(wrong.text().contains("must have the same name: one != other"), "{}", wrong.text());
    world.mood(Mood::Fails);
    let failed = admin.get(&format!("{V2}/one")).await;
    assert!(failed.text().contains("failed: no such lamp"), "{}", failed.text());
    world.mood(Mood::Good);
    assert_eq!(admin.get(&format!("{V2}/one")).await.code, 200);
    // What is stored in its own version can be taken away whatever the webhook does.
    world.mood(Mood::Broken);
    assert_eq!(admin.delete(&format!("{V1}/one")).await.code, 200);
}

#[tokio::test]
async fn objects_move_to_another_stored_version_by_being_written() {
    let world = World::new().await;
    let admin = &world.admin;
    assert_eq!(admin.post(V1, &first("one", "a:80")).await.code, 201);
    let mut moved = admin.get(DEFINITION).await.json();
    moved["spec"]["versions"][0]["storage"] = json!(false);
    moved["spec"]["versions"][1]["storage"] = json!(true);
    let put = admin.put(DEFINITION, &moved).await.json();
    assert_eq!(put["status"]["storedVersions"], json!(["v1", "v2"]));
    world
        .until(|world| async move {
            let kinds = world.hub.objects.kinds().of(&freewheel_link::names::ClusterName::root());
            kinds.by_kind("example.com/v2", "Lamp").is_some_and(|kind| kind.stored_as.is_none())
        })
        .await;
    assert_eq!(world.stored("one")["apiVersion"], "example.com/v1");
    let read = admin.get(&format!("{V2}/one")).await.json();
    assert_eq!(read["spec"], json!({"host": "a", "port": 80}));
    let mut gone = admin.get(DEFINITION).await.json();
    gone["spec"]["versions"].as_array_mut().unwrap().remove(0);
    let refused = admin.put(DEFINITION, &gone).await;
    assert_eq!(refused.code, 422);
    assert!(refused.text().contains("v1 was previously a storage version"), "{}", refused.text());
    // Nothing is another but where it is stored.
    let written = admin.put(&format!("{V2}/one"), &read).await;
    assert_eq!(written.code, 200, "{}", written.text());
    assert_eq!(world.stored("one")["apiVersion"], "example.com/v2");
    assert_eq!(world.stored("one")["spec"], json!({"host": "a", "port": 80}));
    assert_eq!(admin.get(&format!("{V1}/one")).await.json()["spec"]["hostPort"], "a:80");
    let only = json!({"status": {"storedVersions": ["v2"]}});
    let said = admin.patch(&format!("{DEFINITION}/status"), "merge-patch+json", &only).await;
    assert_eq!(said.code, 200, "{}", said.text());
    let mut gone = admin.get(DEFINITION).await.json();
    gone["spec"]["versions"].as_array_mut().unwrap().remove(0);
    assert_eq!(admin.put(DEFINITION, &gone).await.code, 200);
    world.until(|world| async move { world.admin.get(V1).await.code == 404 }).await;
    assert_eq!(admin.get(&format!("{V2}/one")).await.json()["spec"]["host"], "a");
}
