//! CustomResourceDefinitions, and the objects that they are about.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_controllers::definitions::{Definitions, serve_established};
use freewheel_hub_controllers::engine::{self, Client as ControllerClient, Controller};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::gc::GarbageCollector;
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_controllers::namespace::NamespaceDeletion;
use freewheel_hub_objects::Objects;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Answer, Client, Hub, create};

const DEFINITIONS: &str = "/clusters/pi-7/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const GROUP: &str = "/clusters/pi-7/apis/example.com";
const WIDGETS: &str = "/clusters/pi-7/apis/example.com/v1/namespaces/default/widgets";
const MAPS: &str = "/clusters/pi-7/api/v1/namespaces/default/configmaps";

/// A hub with the cluster pi-7, and with the controllers that this is about.
async fn hub() -> (Hub, JoinSet<()>) {
    let hub = Hub::start().await;
    let group = "cluster.open-cluster-management.io/v1";
    create(&hub.objects, group, "ManagedCluster", json!({"metadata": {"name": "pi-7"}})).await;
    for name in ["default", "attic"] {
        let namespace = json!({"metadata": {"name": name}});
        let answer = hub.admin().post("/clusters/pi-7/api/v1/namespaces", &namespace).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    let objects = &hub.objects;
    let client = |name| ControllerClient::new(objects.clone(), name, Recorder::channel(objects).0);
    let indexes = Indexes::new(objects.store(), objects.kinds()).unwrap();
    let controllers: [Arc<dyn Controller>; 3] = [
        Arc::new(Definitions::new(client("customresourcedefinition-controller")).unwrap()),
        Arc::new(NamespaceDeletion::new(client("namespace-controller")).unwrap()),
        Arc::new(GarbageCollector::new(client("generic-garbage-collector"), indexes)),
    ];
    let mut tasks = JoinSet::new();
    for controller in controllers {
        tasks.spawn(engine::run(objects.store().clone(), controller, CancellationToken::new()));
    }
    (hub, tasks)
}

fn definition() -> Value {
    let schema = json!({"type": "object", "description": "A widget of ours.", "properties": {
        "spec": {
            "type": "object", "required": ["size"],
            "x-kubernetes-validations": [
                {"rule": "self.color != 'blue' || self.size < 9", "message": "blue ones are small"}],
            "properties": {
                "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9},
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "note": {"type": "string", "nullable": true, "default": "none"},
                "port": {"x-kubernetes-int-or-string": true},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "pod": {"type": "object", "x-kubernetes-embedded-resource": true,
                    "x-kubernetes-preserve-unknown-fields": true},
            },
        },
        "status": {"type": "object", "properties": {
            "ready": {"type": "boolean"}, "replicas": {"type": "integer"}, "selector": {"type": "string"}}},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "selectableFields": [{"jsonPath": ".spec.color"}],
            }],
        },
    })
}

fn holds(object: &Value, kind: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|one| one["type"] == kind)?;
    found["status"].as_str().map(str::to_owned)
}

/// Waits until a definition says so.
async fn says(client: &Client, path: &str, kind: &str, status: &str) -> Value {
    for _ in 0..600 {
        let now = client.get(path).await.json();
        if holds(&now, kind).as_deref() == Some(status) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} never says {kind}: {}", client.get(path).await.text());
}

async fn define(client: &Client, definition: &Value) -> Value {
    let answer = client.post(DEFINITIONS, definition).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let name = definition["metadata"]["name"].as_str().unwrap();
    says(client, &format!("{DEFINITIONS}/{name}"), "Established", "True").await
}

async fn gone(client: &Client, path: &str) {
    for _ in 0..600 {
        if client.get(path).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{path} stays: {}", client.get(path).await.text());
}

fn widget(name: &str, spec: Value) -> Value {
    let mut widget =
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}});
    widget["spec"] = spec;
    widget
}

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    let answer = client.post(path, object).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

#[track_caller]
fn refused(answer: &Answer, code: u16, text: &str) {
    assert_eq!(answer.code, code, "{}", answer.text());
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains(text), "{message}");
}

#[tokio::test]
async fn a_definition_makes_a_kind_of_its_cluster() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    assert_eq!(admin.get(WIDGETS).await.code, 404);
    let before = admin.get("/clusters/pi-7/openapi/v3").await.text();
    let answer = admin.post(DEFINITIONS, &definition()).await.json();
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget",
        "listKind": "WidgetList", "shortNames": ["wd"], "categories": ["all"]});
    assert_eq!(answer["spec"]["names"], names);
    assert_eq!(answer["spec"]["conversion"], json!({"strategy": "None"}));
    assert_eq!(answer["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(answer["metadata"]["generation"], 1);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let now = says(&admin, &path, "Established", "True").await;
    assert_eq!(now["status"]["acceptedNames"], names);
    assert_eq!(holds(&now, "NamesAccepted").as_deref(), Some("True"));
    // Who reads that, finds it served.
    made(&admin, WIDGETS, &widget("one", json!({"size": 1}))).await;

    let resources = admin.get(&format!("{GROUP}/v1")).await.json();
    let names: Vec<&Value> =
        resources["resources"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(resources["resources"][0]["singularName"], "widget");
    let index = admin.get("/clusters/pi-7/openapi/v3").await;
    assert_ne!(index.text(), before);
    let url = index.json()["paths"]["apis/example.com/v1"]["serverRelativeURL"].clone();
    let document = admin.get(url.as_str().unwrap()).await;
    assert_eq!(document.headers["cache-control"], "public, immutable");
    let one = "/apis/example.com/v1/namespaces/{namespace}/widgets/{name}";
    let patches = document.json()["paths"][one]["patch"]["requestBody"]["content"].clone();
    let patches: Vec<&String> = patches.as_object().unwrap().keys().collect();
    let known = ["apply-patch+yaml", "json-patch+json", "merge-patch+json"]
        .map(|it| format!("application/{it}"));
    assert_eq!(patches, known.iter().collect::<Vec<_>>(), "kubectl sends what it reads here");
    let schema = document.json()["components"]["schemas"]["com.example.v1.Widget"].clone();
    assert_eq!(schema["description"], "A widget of ours.");
    assert_eq!(schema["properties"]["spec"]["properties"]["size"]["maximum"], 9);
    assert!(schema["properties"]["metadata"]["allOf"].is_array());
    let v2 = admin.get("/clusters/pi-7/openapi/v2").await.json();
    assert_eq!(v2["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["type"], "object");

    // Of another cluster it is nothing.
    assert_eq!(admin.get("/apis/example.com/v1").await.code, 404);
    let root = DEFINITIONS.strip_prefix("/clusters/pi-7").unwrap();
    assert_eq!(admin.get(root).await.json()["items"], json!([]));
}

#[tokio::test]
async fn names_are_taken_once() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = json!("gadgets.example.com");
    other["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]});
    assert_eq!(admin.post(DEFINITIONS, &other).await.code, 201);
    let path = format!("{DEFINITIONS}/gadgets.example.com");
    let now = says(&admin, &path, "NamesAccepted", "False").await;
    assert_eq!(now["status"]["conditions"][0]["reason"], "ShortNamesConflict");
    assert_eq!(now["status"]["conditions"][0]["message"], r#""wd" is already in use"#);
    assert_eq!(holds(&now, "Established").as_deref(), Some("False"));
    assert_eq!(admin.get(&WIDGETS.replace("widgets", "gadgets")).await.code, 404);
    let patch = json!({"spec": {"names": {"shortNames": ["gd"]}}});
    assert_eq!(admin.patch(&path, "merge-patch+json", &patch).await.code, 200);
    says(&admin, &path, "Established", "True").await;

    let wide = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = admin.send("GET", DEFINITIONS, &wide, "").await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "Created At");
    let mut wrong = definition();
    wrong["metadata"]["name"] = json!("x.example.com");
    refused(
        &admin.post(DEFINITIONS, &wrong).await,
        422,
        r#"must be spec.names.plural+"."+spec.group"#,
    );
}

#[tokio::test]
async fn what_comes_is_pruned_defaulted_and_checked() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    let spec = json!({"size": 3, "stray": 1, "note": null, "port": "http", "free": {"any": [null, 1]},
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "odd": 1}, "spec": {"x": 1}}});
    let answer = admin.post(WIDGETS, &widget("one", spec.clone())).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    let warnings: Vec<_> = answer.headers.get_all("warning").iter().collect();
    assert_eq!(
        warnings,
        [
            r#"299 - "unknown field \"spec.pod.metadata.odd\"""#,
            r#"299 - "unknown field \"spec.stray\"""#,
        ]
    );
    assert_eq!(
        answer.json()["spec"],
        json!({
            "size": 3, "note": null, "color": "red", "port": "http", "free": {"any": [null, 1]},
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"x": 1}},
        })
    );
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    refused(
        &admin.post(&strict, &widget("two", spec)).await,
        400,
        r#"Widget in version "v1" cannot be handled as a Widget: strict decoding error: unknown field "spec.pod.metadata.odd", unknown field "spec.stray""#,
    );
    for (spec, text) in [
        (
            json!({}),
            r#"Widget.example.com "two" is invalid: [spec.size: Required value, <nil>: Invalid value: "null": some validation rules were not checked"#,
        ),
        (
            json!({"size": "x"}),
            r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
        ),
        (
            json!({"size": 10}),
            "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9",
        ),
        (
            json!({"size": 1, "color": "pink"}),
            r#"spec.color: Unsupported value: "pink": supported values: "red", "blue""#,
        ),
        (json!({"size": 1, "tags": ["a", "a"]}), r#"spec.tags[1]: Duplicate value: "a""#),
        (json!({"size": 1, "pod": {"kind": "Pod"}}), "spec.pod.apiVersion: Required value"),
    ] {
        refused(&admin.post(WIDGETS, &widget("two", spec)).await, 422, text);
    }
    let mut other = widget("two", json!({"size": 1}));
    other["apiVersion"] = json!("example.com/v2");
    refused(
        &admin.post(WIDGETS, &other).await,
        400,
        "the API version in the data (example.com/v2) does not match the expected API version (example.com/v1)",
    );
}

#[tokio::test]
async fn objects_change_and_are_chosen_and_shown() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    made(&admin, WIDGETS, &widget("one", json!({"size": 3}))).await;
    let path = format!("{WIDGETS}/one");
    let patch = json!({"spec": {"size": 0}});
    refused(
        &admin.patch(&path, "merge-patch+json", &patch).await,
        422,
        "greater than or equal to 1",
    );
    let answer = admin.patch(&path, "strategic-merge-patch+json", &json!({})).await;
    assert_eq!(answer.code, 415, "{}", answer.text());
    let patch = json!([{"op": "replace", "path": "/spec/color", "value": "blue"}]);
    let patched = admin.patch(&path, "json-patch+json", &patch).await.json();
    assert_eq!(
        (&patched["spec"]["color"], &patched["metadata"]["generation"]),
        (&json!("blue"), &json!(2))
    );
    let mut unpinned = patched.clone();
    unpinned["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    refused(&admin.put(&path, &unpinned).await, 422, "must be specified for an update");
    let asks = &admin;
    let count = |selector: &'static str| async move {
        let list = asks.get(&format!("{WIDGETS}?fieldSelector={selector}")).await;
        assert_eq!(list.code, 200, "{}", list.text());
        list.json()["items"].as_array().unwrap().len()
    };
    assert_eq!((count("spec.color%3Dblue").await, count("spec.color%3Dred").await), (1, 0));
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = admin.send("GET", WIDGETS, &table, "").await.json();
    let cells = &table["rows"][0]["cells"];
    assert_eq!((&cells[0], &cells[1]), (&json!("one"), &json!(3)));
}

#[tokio::test]
async fn rules_are_asked_and_wrong_ones_are_not_kept() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    let mut wrong = definition();
    let rules = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations";
    *wrong.pointer_mut(rules).unwrap() = json!([{"rule": "self.weight > 1"}]);
    refused(
        &admin.post(DEFINITIONS, &wrong).await,
        422,
        "compilation failed: ERROR: <input>:1:5: undefined field 'weight'",
    );
    define(&admin, &definition()).await;
    let blue = widget("one", json!({"size": 9, "color": "blue"}));
    refused(&admin.post(WIDGETS, &blue).await, 422, "spec: Invalid value: blue ones are small");
    let blue = widget("one", json!({"size": 10, "color": "pink"}));
    refused(&admin.post(WIDGETS, &blue).await, 422, "some validation rules were not checked");
    made(&admin, WIDGETS, &widget("one", json!({"size": 9}))).await;
    let patch = json!({"spec": {"color": "blue"}});
    let answer = admin.patch(&format!("{WIDGETS}/one"), "merge-patch+json", &patch).await;
    refused(&answer, 422, "blue ones are small");
}

#[tokio::test]
async fn status_and_scale_have_doors_of_their_own() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    let mut object = widget("one", json!({"size": 2}));
    object["status"] = json!({"ready": true});
    let made = made(&admin, WIDGETS, &object).await;
    assert_eq!(made.get("status"), None);
    let (path, status) = (format!("{WIDGETS}/one"), format!("{WIDGETS}/one/status"));
    let patch =
        json!({"spec": {"size": 5}, "status": {"ready": true, "replicas": 1, "selector": "a=b"}});
    let patched = admin.patch(&status, "merge-patch+json", &patch).await.json();
    assert_eq!((&patched["spec"]["size"], &patched["status"]["ready"]), (&json!(2), &json!(true)));
    assert_eq!(patched["metadata"]["generation"], 1);
    let wrong = json!({"status": {"ready": "yes"}});
    refused(
        &admin.patch(&status, "merge-patch+json", &wrong).await,
        422,
        r#"status.ready: Invalid value: "string": ready in body must be of type boolean"#,
    );
    let patched =
        admin.patch(&path, "merge-patch+json", &json!({"status": {"ready": false}})).await;
    assert_eq!(patched.json()["status"]["ready"], true);

    let scale = format!("{path}/scale");
    let found = admin.get(&scale).await.json();
    assert_eq!(found["spec"], json!({"replicas": 2}));
    assert_eq!(found["status"], json!({"replicas": 1, "selector": "a=b"}));
    let scaled = admin.patch(&scale, "merge-patch+json", &json!({"spec": {"replicas": 7}})).await;
    assert_eq!(scaled.code, 200, "{}", scaled.text());
    let now = admin.get(&path).await.json();
    assert_eq!((&now["spec"]["size"], &now["metadata"]["generation"]), (&json!(7), &json!(2)));
    let answer = admin.patch(&scale, "merge-patch+json", &json!({"spec": {"replicas": 70}})).await;
    refused(&answer, 422, "less than or equal to 9");

    let mut plain = definition();
    plain["metadata"]["name"] = json!("plains.example.com");
    plain["spec"]["names"] = json!({"plural": "plains", "kind": "Plain"});
    plain["spec"]["versions"][0].as_object_mut().unwrap().remove("subresources");
    define(&admin, &plain).await;
    let plains = WIDGETS.replace("widgets", "plains");
    let mut object =
        json!({"metadata": {"name": "one"}, "spec": {"size": 1}, "status": {"ready": true}});
    let made = self::made(&admin, &plains, &object).await;
    assert_eq!(made["status"]["ready"], true);
    object = made;
    object["status"]["ready"] = json!(false);
    let put = admin.put(&format!("{plains}/one"), &object).await.json();
    assert_eq!(
        (&put["status"]["ready"], &put["metadata"]["generation"]),
        (&json!(false), &json!(2))
    );
    assert_eq!(admin.get(&format!("{plains}/one/status")).await.code, 404);
}

#[tokio::test]
async fn a_schema_that_comes_later_says_what_is_read() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    let first = define(&admin, &definition()).await;
    made(&admin, WIDGETS, &widget("one", json!({"size": 1, "port": 80}))).await;
    let mut watch = admin.watch(&format!("{WIDGETS}?watch=1")).await;
    assert_eq!(watch.brief().await, ("ADDED".to_owned(), "one".to_owned()));

    let mut newer = first.clone();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = newer.pointer_mut(properties).unwrap().as_object_mut().unwrap();
    fields.remove("port");
    fields.insert("shape".to_owned(), json!({"type": "string", "default": "round"}));
    fields.insert("size".to_owned(), json!({"type": "integer", "minimum": 3}));
    let mut second = newer["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["deprecated"] = json!(true);
    newer["spec"]["versions"].as_array_mut().unwrap().push(second);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let put = admin.put(&path, &newer).await;
    assert_eq!(put.code, 200, "{}", put.text());
    let newest = format!("{}/one", WIDGETS.replace("/v1/", "/v2/"));
    for _ in 0..600 {
        if admin.get(&newest).await.code == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let end = watch.next().await.unwrap();
    assert_eq!((&end["type"], &end["object"]["code"]), (&json!("ERROR"), &json!(410)));
    let read = admin.get(&format!("{WIDGETS}/one")).await.json();
    assert_eq!(read["spec"], json!({"size": 1, "color": "red", "note": "none", "shape": "round"}));
    let answer = admin.get(&newest).await;
    assert_eq!(answer.json()["apiVersion"], "example.com/v2");
    assert_eq!(answer.headers["warning"], r#"299 - "example.com/v2 Widget is deprecated""#);
    // What was let in before the rule is let be, until it is touched.
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"color": "blue"}});
    let patched = admin.patch(&newest, "merge-patch+json", &patch).await;
    assert_eq!(patched.code, 200, "{}", patched.text());
    refused(
        &admin.patch(&newest, "merge-patch+json", &json!({"spec": {"size": 2}})).await,
        422,
        "should be greater than or equal to 3",
    );
    let group = admin.get(GROUP).await.json();
    assert_eq!(group["preferredVersion"]["version"], "v2");

    let mut moved = admin.get(&path).await.json();
    moved["spec"]["versions"][0]["storage"] = json!(false);
    moved["spec"]["versions"][0]["served"] = json!(false);
    moved["spec"]["versions"][1]["storage"] = json!(true);
    let moved = admin.put(&path, &moved).await.json();
    assert_eq!(moved["status"]["storedVersions"], json!(["v1", "v2"]));
    for _ in 0..600 {
        if admin.get(WIDGETS).await.code == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(admin.get(&newest).await.json()["spec"]["color"], "blue");
}

#[tokio::test]
async fn defaults_make_no_object_too_large() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    let mut definition = definition();
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let fields = definition.pointer_mut(properties).unwrap();
    fields["list"] = json!({"type": "array", "items": {"type": "object",
        "properties": {"long": {"type": "string"}}}});
    let defined = define(&admin, &definition).await;
    let items = vec![json!({}); 100];
    made(&admin, WIDGETS, &widget("early", json!({"size": 1, "list": items}))).await;

    let mut newer = defined.clone();
    newer.pointer_mut(properties).unwrap()["list"]["items"]["properties"]["long"]["default"] =
        json!("D".repeat(50_000));
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let put = admin.put(&path, &newer).await;
    assert_eq!(put.code, 200, "{}", put.text());
    let late = widget("late", json!({"size": 1, "list": items}));
    let mut refusal = admin.post(&format!("{WIDGETS}?dryRun=All"), &late).await;
    for _ in 0..600 {
        if refusal.code != 201 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        refusal = admin.post(&format!("{WIDGETS}?dryRun=All"), &late).await;
    }
    refused(&refusal, 413, "would add more than 1572864 bytes to it");
    // What is there already says what is wrong with it, and may go.
    for path in [WIDGETS, &format!("{WIDGETS}/early")] {
        refused(&admin.get(path).await, 500, "widgets.example.com \"early\" cannot be read");
    }
    let gone = admin.delete(&format!("{WIDGETS}/early")).await;
    assert_eq!(gone.code, 200, "{}", gone.text());
    assert_eq!(admin.get(WIDGETS).await.code, 200);
}

#[tokio::test]
async fn a_definition_goes_after_its_objects() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let held = made(&admin, WIDGETS, &held).await;
    made(&admin, WIDGETS, &widget("free", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let deleted = admin.delete(&path).await;
    assert_eq!(deleted.code, 200, "{}", deleted.text());
    gone(&admin, &format!("{WIDGETS}/free")).await;
    let going = says(&admin, &path, "Terminating", "True").await;
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["customresourcecleanup.apiextensions.k8s.io"])
    );
    let late = admin.post(WIDGETS, &widget("late", json!({"size": 1}))).await;
    refused(&late, 403, "create not allowed while custom resource definition is terminating");
    assert!(
        admin.get(&format!("{WIDGETS}/held")).await.json()["metadata"]["deletionTimestamp"]
            .is_string()
    );
    let free = json!({"metadata": {"finalizers": []}});
    let path_of_held = format!("{WIDGETS}/held");
    assert_eq!(admin.patch(&path_of_held, "merge-patch+json", &free).await.code, 200, "{held}");
    gone(&admin, &path).await;
    gone(&admin, WIDGETS).await;
    // The next one of its name begins with nothing.
    define(&admin, &definition()).await;
    assert_eq!(admin.get(WIDGETS).await.json()["items"], json!([]));
}

#[tokio::test]
async fn what_is_established_is_served_from_the_start() {
    let (hub, controllers) = hub().await;
    define(&hub.admin(), &definition()).await;
    drop(controllers);
    let again = Objects::new(hub.objects.store().clone());
    let pi = ClusterName::try_from("pi-7").unwrap();
    let found = |objects: &Objects| {
        let registry = objects.kinds().of(&pi);
        registry.find("example.com", "v1", "widgets").map(|kind| kind.origin().to_owned())
    };
    assert_eq!(found(&again), None);
    serve_established(&again);
    // And is not another when its controller looks at it.
    assert_eq!(found(&again), found(&hub.objects));
    assert!(found(&again).is_some());
}

#[tokio::test]
async fn custom_resources_own_and_are_owned_and_go_with_their_namespace() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    define(&admin, &definition()).await;
    let owner = made(&admin, WIDGETS, &widget("owner", json!({"size": 1}))).await;
    let reference = json!([{"apiVersion": "example.com/v1", "kind": "Widget", "name": "owner",
        "uid": owner["metadata"]["uid"]}]);
    let map = json!({"metadata": {"name": "owned", "ownerReferences": reference}});
    made(&admin, MAPS, &map).await;
    let attic = WIDGETS.replace("default", "attic");
    made(&admin, &attic, &widget("inside", json!({"size": 1}))).await;
    admin.delete(&format!("{WIDGETS}/owner")).await;
    gone(&admin, &format!("{MAPS}/owned")).await;
    admin.delete("/clusters/pi-7/api/v1/namespaces/attic").await;
    gone(&admin, "/clusters/pi-7/api/v1/namespaces/attic").await;
    assert_eq!(admin.get(&attic).await.json()["items"], json!([]));
}
