//! A kind that comes at run time, in one logical cluster.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_controllers::engine::{self, Client as ControllerClient, Controller};
use freewheel_hub_controllers::events::Recorder;
use freewheel_hub_controllers::gc::GarbageCollector;
use freewheel_hub_controllers::index::Indexes;
use freewheel_hub_controllers::namespace::NamespaceDeletion;
use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Column, Kind, Strategy, keep_all_but_status};
use freewheel_hub_schema::types::Schema;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{Client, Hub, create};

const GROUP: &str = "/clusters/pi-7/apis/example.com/v1";
const WIDGETS: &str = "/clusters/pi-7/apis/example.com/v1/namespaces/default/widgets";
const MAPS: &str = "/clusters/pi-7/api/v1/namespaces/default/configmaps";

/// What a definition says, which nobody knew when the hub was built.
struct Widgets {
    field: String,
}

impl Strategy for Widgets {
    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(subresource, new, old);
    }

    fn selectable_fields(&self, object: &Value) -> std::collections::BTreeMap<String, String> {
        let color = object["spec"]["color"].as_str().unwrap_or_default();
        [(self.field.clone(), color.to_owned())].into()
    }

    fn row(&self, object: &Value, _: i64) -> Vec<Value> {
        vec![object["metadata"]["name"].clone(), object["spec"]["size"].clone()]
    }
}

fn widgets() -> Kind {
    let column = |name: &str, kind: &str, format: &str| Column {
        name: name.to_owned().into(),
        kind: kind.to_owned().into(),
        format: format.to_owned().into(),
        description: String::new().into(),
        priority: 0,
    };
    let columns = vec![column("Name", "string", "name"), column("Size", "integer", "")];
    let strategy = Widgets { field: "spec.color".to_owned() };
    let gvk = Gvk::new("example.com".to_owned(), "v1".to_owned(), "Widget".to_owned());
    Kind::new(gvk, "widgets".to_owned(), strategy)
        .short(["wd".to_owned()])
        .columns(columns)
        .fields(["spec.color".to_owned()])
        .with_status()
}

fn pi() -> ClusterName {
    ClusterName::try_from("pi-7").unwrap()
}

/// A hub with the clusters pi-7 and pi-8, and with what empties namespaces and collects what has no owner.
async fn hub() -> (Hub, JoinSet<()>) {
    let hub = Hub::start().await;
    let group = "cluster.open-cluster-management.io/v1";
    for name in ["pi-7", "pi-8"] {
        create(&hub.objects, group, "ManagedCluster", json!({"metadata": {"name": name}})).await;
    }
    let admin = hub.admin();
    for name in ["default", "attic"] {
        let namespace = json!({"metadata": {"name": name}});
        let answer = admin.post("/clusters/pi-7/api/v1/namespaces", &namespace).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
    let objects = &hub.objects;
    let controller_client =
        |name| ControllerClient::new(objects.clone(), name, Recorder::channel(objects).0);
    let indexes = Indexes::new(objects.store(), objects.kinds()).unwrap();
    let controllers: [Arc<dyn Controller>; 2] = [
        Arc::new(NamespaceDeletion::new(controller_client("namespace-controller")).unwrap()),
        Arc::new(GarbageCollector::new(controller_client("generic-garbage-collector"), indexes)),
    ];
    let mut tasks = JoinSet::new();
    for controller in controllers {
        tasks.spawn(engine::run(objects.store().clone(), controller, CancellationToken::new()));
    }
    // They follow the store before the kind comes.
    for name in ["first", "second"] {
        let mut map = json!({"metadata": {"name": name}});
        if name == "second" {
            map["metadata"]["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "ConfigMap",
                "name": "nobody", "uid": "nobody"}]);
        }
        assert_eq!(admin.post(MAPS, &map).await.code, 201);
    }
    gone(&admin, &format!("{MAPS}/second")).await;
    (hub, tasks)
}

async fn gone(client: &Client, path: &str) {
    for _ in 0..600 {
        if client.get(path).await.code == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{path} stays: {}", client.get(path).await.text());
}

fn widget(name: &str, size: u32) -> Value {
    json!({
        "apiVersion": "example.com/v1", "kind": "Widget",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"size": size, "color": "red", "deep": {"free": [1, null, {"form": true}]}},
    })
}

async fn made(client: &Client, path: &str, object: &Value) -> Value {
    let answer = client.post(path, object).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    answer.json()
}

async fn verbs(admin: &Client) {
    let made = made(admin, WIDGETS, &widget("one", 1)).await;
    assert_eq!(made["spec"]["deep"], widget("one", 1)["spec"]["deep"]);
    assert_eq!(made["metadata"]["generation"], 1);
    let path = format!("{WIDGETS}/one");
    assert_eq!(admin.get(&path).await.json(), made);
    let list = admin.get(WIDGETS).await.json();
    assert_eq!(
        (&list["kind"], &list["apiVersion"]),
        (&json!("WidgetList"), &json!("example.com/v1"))
    );
    assert_eq!(list["items"], json!([made]));
    let count = |selector: &'static str| async move {
        let list = admin.get(&format!("{WIDGETS}?{selector}")).await.json();
        list["items"].as_array().unwrap().len()
    };
    assert_eq!(count("labelSelector=app%3Ddb").await, 0);
    assert_eq!(count("fieldSelector=spec.color%3Dred").await, 1);
    assert_eq!(count("fieldSelector=spec.color%3Dblue").await, 0);
    assert_eq!(admin.get(&format!("{WIDGETS}?fieldSelector=spec.x%3D1")).await.code, 400);

    let mut changed = made.clone();
    changed["spec"]["size"] = json!(2);
    let updated = admin.put(&path, &changed).await.json();
    assert_eq!(
        (&updated["spec"]["size"], &updated["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(admin.put(&path, &changed).await.code, 409);
    let patch = json!({"spec": {"size": 3}, "status": {"ready": true}});
    let patched = admin.patch(&path, "merge-patch+json", &patch).await.json();
    assert_eq!((&patched["spec"]["size"], patched.get("status")), (&json!(3), None));
    let patch = json!([{"op": "replace", "path": "/spec/size", "value": 4}]);
    assert_eq!(admin.patch(&path, "json-patch+json", &patch).await.json()["spec"]["size"], 4);
    let answer = admin.patch(&path, "strategic-merge-patch+json", &json!({})).await;
    assert_eq!(answer.code, 415);
    let patch = json!({"spec": {"size": 5}, "status": {"ready": true}});
    let patched = admin.patch(&format!("{path}/status"), "merge-patch+json", &patch).await.json();
    assert_eq!((&patched["spec"]["size"], &patched["status"]["ready"]), (&json!(4), &json!(true)));
    let other =
        json!({"apiVersion": "example.com/v2", "kind": "Widget", "metadata": {"name": "x"}});
    assert_eq!(admin.post(WIDGETS, &other).await.code, 400);

    let answer = admin.delete(&path).await.json();
    assert_eq!(
        (&answer["status"], &answer["details"]["kind"]),
        (&json!("Success"), &json!("widgets"))
    );
    assert_eq!(admin.get(&path).await.code, 404);
    for name in ["two", "three"] {
        self::made(admin, WIDGETS, &widget(name, 2)).await;
    }
    assert_eq!(admin.delete(WIDGETS).await.json()["items"].as_array().unwrap().len(), 2);
    assert_eq!(count("").await, 0);
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap().iter();
    items.map(|one| one["metadata"]["name"].as_str().unwrap()).collect()
}

/// Lists of all namespaces and in pages, and a status that is put whole.
async fn collections(admin: &Client) {
    let attic = WIDGETS.replace("default", "attic");
    for (path, name) in [(WIDGETS, "a"), (WIDGETS, "b"), (attic.as_str(), "c")] {
        made(admin, path, &widget(name, 1)).await;
    }
    let everywhere = format!("{GROUP}/widgets");
    assert_eq!(names(&admin.get(&everywhere).await.json()), ["c", "a", "b"]);
    let page = admin.get(&format!("{everywhere}?limit=2")).await.json();
    assert_eq!(names(&page), ["c", "a"]);
    let next = page["metadata"]["continue"].as_str().unwrap();
    let rest = admin.get(&format!("{everywhere}?limit=2&continue={next}")).await.json();
    assert_eq!(names(&rest), ["b"]);

    let path = format!("{WIDGETS}/a");
    let mut ready = admin.get(&path).await.json();
    ready["status"] = json!({"ready": true});
    ready["spec"]["size"] = json!(9);
    let answer = admin.put(&format!("{path}/status"), &ready).await;
    assert_eq!(answer.code, 200, "{}", answer.text());
    let put = answer.json();
    assert_eq!((&put["status"]["ready"], &put["spec"]["size"]), (&json!(true), &json!(1)));
    for path in [WIDGETS, attic.as_str()] {
        assert_eq!(admin.delete(path).await.code, 200);
    }
}

async fn descriptions(admin: &Client) {
    let resources = admin.get(GROUP).await.json();
    let names: Vec<&Value> =
        resources["resources"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["widgets", "widgets/status"]);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["wd"]));
    let aggregated =
        [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")];
    let aggregated = admin.send("GET", "/clusters/pi-7/apis", &aggregated, "").await.text();
    assert!(
        aggregated
            .contains(r#""responseKind":{"group":"example.com","version":"v1","kind":"Widget"}"#)
    );
    let groups = admin.get("/clusters/pi-7/apis").await.text();
    assert!(groups.contains("example.com/v1"), "{groups}");

    let index = admin.get("/clusters/pi-7/openapi/v3").await.json();
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    let document = admin.get(url).await.json();
    let schema = &document["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    assert_eq!(schema["x-kubernetes-preserve-unknown-fields"], true);
    let patch =
        &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    assert_eq!(patch["x-kubernetes-group-version-kind"]["group"], "example.com");
    let v2 = admin.get("/clusters/pi-7/openapi/v2").await.json();
    assert!(v2["definitions"].get("com.example.v1.WidgetList").is_some());
    assert!(v2["definitions"].get("io.k8s.api.core.v1.Pod").is_some());

    made(admin, WIDGETS, &widget("shown", 7)).await;
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = admin.send("GET", WIDGETS, &table, "").await.json();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["shown", 7]));
    let protobuf = [("accept", "application/vnd.kubernetes.protobuf")];
    assert_eq!(admin.send("GET", WIDGETS, &protobuf, "").await.code, 406);
    admin.delete(&format!("{WIDGETS}/shown")).await;
}

fn owned(mut object: Value, owner: &Value) -> Value {
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": owner["apiVersion"], "kind": owner["kind"],
        "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"],
    }]);
    object
}

/// It owns and is owned, and goes with its namespace.
async fn ends(admin: &Client) {
    let parent = made(admin, WIDGETS, &widget("parent", 1)).await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "of-widget"}});
    made(admin, MAPS, &owned(map, &parent)).await;
    let child = made(admin, WIDGETS, &owned(widget("child", 1), &parent)).await;
    made(admin, WIDGETS, &owned(widget("grandchild", 1), &child)).await;
    admin.delete(&format!("{WIDGETS}/parent")).await;
    gone(admin, &format!("{MAPS}/of-widget")).await;
    gone(admin, &format!("{WIDGETS}/grandchild")).await;
    gone(admin, &format!("{WIDGETS}/child")).await;

    let attic = WIDGETS.replace("default", "attic");
    made(admin, &attic, &widget("inside", 1)).await;
    made(admin, WIDGETS, &widget("outside", 1)).await;
    assert_eq!(admin.delete("/clusters/pi-7/api/v1/namespaces/attic").await.code, 200);
    gone(admin, "/clusters/pi-7/api/v1/namespaces/attic").await;
    assert_eq!(admin.get(&format!("{attic}/inside")).await.code, 404);
    assert_eq!(admin.get(&format!("{WIDGETS}/outside")).await.code, 200);
    admin.delete(&format!("{WIDGETS}/outside")).await;
}

#[tokio::test]
async fn a_kind_that_comes_at_run_time_is_a_kind_like_any_other() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    let pi_8 = |path: &str| format!("/clusters/pi-8{path}");
    let described =
        ["/apis", "/openapi/v3", "/"].map(|path| [path.to_owned(), pi_8(path)]).concat();
    let mut before = Vec::new();
    for path in &described {
        before.push(admin.get(path).await.text());
    }
    assert_eq!(admin.get(WIDGETS).await.code, 404);
    let kind = hub.objects.kinds().add(&pi(), widgets()).unwrap();

    verbs(&admin).await;
    collections(&admin).await;
    descriptions(&admin).await;
    ends(&admin).await;

    let mut watch = admin.watch(&format!("{WIDGETS}?watch=1")).await;
    made(&admin, WIDGETS, &widget("seen", 1)).await;
    let brief = |kind: &str| (kind.to_owned(), "seen".to_owned());
    assert_eq!(watch.brief().await, brief("ADDED"));
    let patch = json!({"spec": {"size": 2}});
    admin.patch(&format!("{WIDGETS}/seen"), "merge-patch+json", &patch).await;
    assert_eq!(watch.brief().await, brief("MODIFIED"));
    admin.delete(&format!("{WIDGETS}/seen")).await;
    assert_eq!(watch.brief().await, brief("DELETED"));

    // The root knows nothing of it, nor does another spoke's cluster.
    for group in ["/apis/example.com/v1".to_owned(), pi_8("/apis/example.com/v1")] {
        assert_eq!(admin.get(&group).await.code, 404, "{group}");
        let widgets = format!("{group}/namespaces/default/widgets");
        assert_eq!(admin.get(&widgets).await.code, 404, "{widgets}");
        assert_eq!(admin.post(&widgets, &widget("one", 1)).await.code, 404, "{widgets}");
    }
    for (path, before) in described.iter().zip(&before) {
        assert_eq!(admin.get(path).await.text(), *before, "{path}");
    }

    let path = Gvr::new("example.com", "v1", "widgets");
    let held = Arc::downgrade(&kind);
    drop(kind);
    drop(hub.objects.kinds().remove(&pi(), &path));
    let end = watch.next().await.unwrap();
    assert_eq!((&end["type"], &end["object"]["code"]), (&json!("ERROR"), &json!(410)));
    assert!(watch.next().await.is_none());
    assert_eq!(admin.get(WIDGETS).await.code, 404);
    let groups = admin.get("/clusters/pi-7/apis").await.text();
    assert!(!groups.contains("example.com"), "{groups}");
    for _ in 0..600 {
        if held.upgrade().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("somebody holds a kind that is gone");
}

fn gadget() -> Value {
    json!({"type": "object", "properties": {"spec": {
        "type": "object",
        "required": ["size"],
        "properties": {
            "size": {"type": "integer", "format": "int32", "default": 7},
            "color": {"type": "string", "enum": ["red", "blue"]},
        },
    }}})
}

/// Its fields have owners, as those of any kind.
async fn applies(admin: &Client, path: &str) {
    let apply = async |manager: &str, color: &str, force: bool| {
        let config = json!({"apiVersion": "example.com/v1", "kind": "Gadget",
            "metadata": {"name": "applied"}, "spec": {"color": color}});
        let at = format!("{path}/applied?fieldManager={manager}&force={force}");
        admin.patch(&at, "apply-patch+yaml", &config).await
    };
    let made = apply("a", "red", false).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["spec"], json!({"color": "red", "size": 7}));
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "a");
    let taken = apply("b", "blue", false).await;
    assert_eq!(taken.code, 409, "{}", taken.text());
    let forced = apply("b", "blue", true).await;
    assert_eq!(forced.code, 200, "{}", forced.text());
    assert_eq!(forced.json()["spec"], json!({"color": "blue", "size": 7}));
}

#[tokio::test]
async fn a_schema_that_comes_with_a_kind_prunes_defaults_and_explains() {
    let (hub, _controllers) = hub().await;
    let admin = hub.admin();
    let strategy = Widgets { field: "spec.color".to_owned() };
    let gvk = Gvk::new("example.com", "v1", "Gadget");
    let kind = Kind::new(gvk.clone(), "gadgets", strategy)
        .with_schema(Schema::structural(&gvk, &gadget()).unwrap());
    hub.objects.kinds().add(&pi(), kind).unwrap();
    let path = WIDGETS.replace("widgets", "gadgets");
    let gadget = json!({"metadata": {"name": "one"}, "spec": {"color": "red", "stray": 1}});
    let answer = admin.post(&path, &gadget).await;
    assert_eq!(answer.code, 201, "{}", answer.text());
    assert_eq!(answer.headers["warning"], r#"299 - "unknown field \"spec.stray\"""#);
    assert_eq!(answer.json()["spec"], json!({"color": "red", "size": 7}));
    assert_eq!(admin.post(&format!("{path}?fieldValidation=Strict"), &gadget).await.code, 400);
    let wrong = json!({"spec": {"size": "large"}});
    let answer = admin.patch(&format!("{path}/one"), "merge-patch+json", &wrong).await;
    assert_eq!(answer.code, 422, "{}", answer.text());
    applies(&admin, &path).await;

    let document = admin.get("/clusters/pi-7/openapi/v3/apis/example.com/v1").await.json();
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["com.example.v1.Gadget"]["properties"]["spec"]["allOf"][0]["$ref"];
    assert_eq!(*spec, "#/components/schemas/com.example.v1.Gadget.spec");
    let spec = &schemas["com.example.v1.Gadget.spec"];
    assert_eq!(spec["required"], json!(["size"]));
    assert_eq!(spec["properties"]["color"]["enum"], json!(["red", "blue"]));
    let list = &schemas["com.example.v1.GadgetList"]["properties"]["items"]["items"]["$ref"];
    assert_eq!(*list, "#/components/schemas/com.example.v1.Gadget");
}
