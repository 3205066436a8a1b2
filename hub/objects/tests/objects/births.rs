//! Creates.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use freewheel_hub_objects::{Canonical, FieldValidation, WriteOptions};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::{CommitError, Committed, Layer, Operation, Store, Stored, Txn};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::kit::{World, bare_pod, config, deployment, of, place, pod, refused, value};

#[tokio::test]
async fn a_new_object_gets_what_the_server_owns() {
    let world = World::new().await;
    let sent = json!({
        "metadata": {
            "name": "a", "uid": "mine", "generation": 9, "creationTimestamp": "2001-01-01T00:00:00Z",
            "deletionTimestamp": "2001-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3,
            "managedFields": [{"manager": "me"}], "labels": {"x": "y"},
        },
        "status": {"replicas": 3},
    });
    let mut whole = deployment("a");
    whole["metadata"] = sent["metadata"].clone();
    whole["status"] = sent["status"].clone();
    let written = world.create("deployments", whole).await.unwrap();
    assert!(written.changed);
    let made = value(&written.stored);
    let meta = &made["metadata"];
    assert_eq!(made["apiVersion"], "apps/v1");
    assert_eq!(made["kind"], "Deployment");
    assert_eq!(meta["namespace"], "default");
    assert_eq!(meta["generation"], 1);
    assert_eq!(meta["creationTimestamp"], "2026-01-01T00:00:00Z");
    assert_eq!(meta["labels"], json!({"x": "y"}));
    assert_eq!(meta["resourceVersion"], written.stored.revision.to_string());
    let uid = meta["uid"].as_str().unwrap();
    assert_eq!((uid.len(), &uid[14..15]), (36, "4"));
    for gone in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
        assert_eq!(meta.get(gone), None, "{gone}");
    }
    assert_eq!(meta["managedFields"][0]["manager"], "kube-apiserver");
    assert_ne!(made["status"]["replicas"], 3);
    assert_eq!(written.stored.object.header.uid, uid);
}

/// By whichever entry it comes.
#[tokio::test]
async fn what_is_stored_is_canonical_whatever_was_said() {
    let world = World::new().await;
    let mut said = bare_pod("a");
    said["spec"]["containers"][0]["resources"]["limits"] = json!({"cpu": "1000m"});
    said["spec"]["volumes"] = json!([]);
    said["spec"]["hostname"] = json!(null);
    said["spec"]["unheardOf"] = json!({"x": 1});
    let limits = "/spec/containers/0/resources/limits";
    let check = |stored: &Stored| {
        let made = value(stored);
        assert_eq!(made.pointer(limits).unwrap()["cpu"], "1");
        for gone in ["volumes", "hostname", "unheardOf"] {
            assert_eq!(made["spec"].get(gone), None, "{gone}");
        }
    };
    check(&world.create("pods", said.clone()).await.unwrap().stored);
    let at = of("pods", "a");
    let image = json!("other");
    said["spec"]["containers"][0]["image"] = image.clone();
    let how = WriteOptions::default();
    let change = |mut whole: Value| {
        whole["spec"]["unheardOf"] = json!(1);
        whole["spec"]["containers"][0]["image"] = image.clone();
        Ok(whole)
    };
    check(&world.objects.modify(&how, &at, None, change).await.unwrap().stored);
    let mut whole = world.read("pods", "a").unwrap();
    whole["spec"]["volumes"] = json!([]);
    whole["metadata"]["labels"] = json!({"x": "y"});
    check(&world.objects.update(&how, &at, None, whole.clone()).await.unwrap().stored);
    said["metadata"]["name"] = json!("b");
    let (decoded, beyond) = Canonical::from_json(said.to_string().as_bytes(), &*at.kind).unwrap();
    assert_eq!(beyond, [r#"unknown field "spec.unheardOf""#]);
    let dry = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let other = of("pods", "");
    check(&world.objects.create(&dry, &other, decoded).await.unwrap().stored);
}

#[tokio::test]
async fn the_same_seed_makes_the_same_objects() {
    let mut uids = Vec::new();
    for seed in [7, 7, 8] {
        let world = World::seeded(seed);
        let made = world.create("namespaces", json!({"metadata": {"generateName": "n-"}})).await;
        let made = value(&made.unwrap().stored);
        uids.push((made["metadata"]["uid"].to_string(), made["metadata"]["name"].to_string()));
    }
    assert_eq!(uids[0], uids[1]);
    assert_ne!(uids[0], uids[2]);
}

#[tokio::test]
async fn generated_names_differ_and_namespaces_are_labelled_with_them() {
    let world = World::new().await;
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let mut value = pod("");
        value["metadata"] = json!({"generateName": "web-"});
        let written = world.create("pods", value).await.unwrap();
        let name = written.stored.key.name.to_string();
        assert!(name.starts_with("web-") && name.len() == 9, "{name}");
        names.insert(name);
    }
    assert_eq!(names.len(), 50);
    let made = world.create("namespaces", json!({"metadata": {"generateName": "n-"}})).await;
    let made = value(&made.unwrap().stored);
    let label = &made["metadata"]["labels"]["kubernetes.io/metadata.name"];
    assert_eq!(label, &made["metadata"]["name"]);
}

#[tokio::test]
async fn a_taken_name_is_refused() {
    let world = World::new().await;
    world.create("configmaps", config("a", "1")).await.unwrap();
    let again = world.create("configmaps", config("a", "2")).await;
    let error = refused(again, 409, r#"configmaps "a" already exists"#);
    assert_eq!(error.reason, "AlreadyExists");
    let other = place("configmaps", "pi-7", "default", "a");
    world.objects.create(&WriteOptions::default(), &other, config("a", "2")).await.unwrap();
    assert_eq!(world.read("configmaps", "a").unwrap()["data"]["is"], "1");
}

#[tokio::test]
async fn content_needs_a_namespace_that_stays() {
    let world = World::new().await;
    let elsewhere = place("configmaps", "root", "nowhere", "a");
    let missing =
        world.objects.create(&WriteOptions::default(), &elsewhere, config("a", "1")).await;
    refused(missing, 404, r#"namespaces "nowhere" not found"#);
    world.create("namespaces", json!({"metadata": {"name": "attic"}})).await.unwrap();
    world.delete("namespaces", "attic").await.unwrap();
    let closing = place("configmaps", "root", "attic", "a");
    let late = world.objects.create(&WriteOptions::default(), &closing, config("a", "1")).await;
    let message = "configmaps \"a\" is forbidden: unable to create new content in namespace attic because it is being terminated";
    let error = refused(late, 403, message);
    assert!(error.is_namespace_terminating());
    assert_eq!(error.details.unwrap().causes[0].reason, "NamespaceTerminating");
}

/// Something happens to the namespace `default` just before the next ConfigMap is written.
struct Meanwhile(MemoryStore, Arc<Mutex<Option<&'static str>>>);

#[async_trait]
impl Layer for Meanwhile {
    fn below(&self) -> &dyn Store {
        &self.0
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let of_a_map = |one: &Operation| one.key().resource.as_str() == "configmaps";
        let due = txn.operations.iter().any(of_a_map);
        if let Some(what) = self.1.lock().unwrap().take_if(|_| due) {
            let key = of("namespaces", "default").key();
            let mut object = self.0.snapshot().get(&key).unwrap().object.clone();
            let mut steps = vec![Operation::Delete(key.clone())];
            match what {
                "marked" => object.header.deleting = true,
                "labelled" => drop(object.header.labels.insert("x".to_owned(), "y".to_owned())),
                _ => object.header.uid = format!("{}x", object.header.uid).into(),
            }
            match what {
                "gone" => {}
                "remade" => steps.push(Operation::Put(key, object)),
                _ => steps = vec![Operation::Put(key, object)],
            }
            for step in steps {
                let txn = Txn { expect: Vec::new(), operations: vec![step] };
                self.0.commit(txn).now_or_never().unwrap().unwrap();
            }
        }
        self.0.commit(txn).await
    }
}

#[tokio::test]
async fn content_that_is_on_its_way_when_its_namespace_changes_is_looked_at_again() {
    for (what, code) in [("marked", 403), ("gone", 404), ("labelled", 201), ("remade", 201)] {
        let armed = Arc::default();
        let store = Meanwhile(MemoryStore::with_incarnation(1), Arc::clone(&armed));
        let world = World::over(Arc::new(store)).await;
        *armed.lock().unwrap() = Some(what);
        match world.create("configmaps", config("a", "1")).await {
            Ok(made) => assert_eq!(
                (201, json!("1")),
                (code, value(&made.stored)["data"]["is"].clone()),
                "{what}"
            ),
            Err(error) => assert_eq!(error.code, code, "{what}: {error}"),
        }
        assert_eq!(*armed.lock().unwrap(), None, "{what}");
        assert_eq!(world.read("configmaps", "a").is_some(), code == 201, "{what}");
    }
}

#[tokio::test]
async fn what_contradicts_the_path_is_refused() {
    let world = World::new().await;
    let mut value = config("a", "1");
    value["metadata"]["namespace"] = json!("other");
    let message =
        "the namespace of the provided object does not match the namespace sent on the request";
    refused(world.create("configmaps", value).await, 400, message);
    let mut value = config("a", "1");
    value["metadata"]["resourceVersion"] = json!("3");
    let message = "resourceVersion should not be set on objects to be created";
    refused(world.create("configmaps", value).await, 400, message);
    let at = of("configmaps", "a");
    let named = world.objects.update(&WriteOptions::default(), &at, None, config("b", "1")).await;
    let message = "the name of the object (b) does not match the name on the URL (a)";
    refused(named, 400, message);
    assert_eq!(world.create("configmaps", json!([])).await.unwrap_err().code, 400);
    assert_eq!(world.create("configmaps", Value::Null).await.unwrap_err().code, 400);
}

#[tokio::test]
async fn every_mistake_is_named() {
    let world = World::new().await;
    let error = world.create("pods", json!({"metadata": {"name": "Bad_"}, "spec": {}})).await;
    let error = error.unwrap_err();
    assert_eq!((error.code, error.reason), (422, "Invalid"));
    let fields: Vec<_> = error.details.unwrap().causes.into_iter().map(|c| c.field).collect();
    assert_eq!(fields, ["metadata.name", "spec.containers"]);
    let nameless = world.create("pods", json!({"metadata": {}, "spec": pod("x")["spec"]})).await;
    let message =
        r#"Pod "" is invalid: metadata.name: Required value: name or generateName is required"#;
    refused(nameless, 422, message);
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused() {
    let world = World::new().await;
    let message = r#"Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 3"#;
    let sent = json!({"metadata": {"name": "s"}, "data": {"a": "not base64"}});
    refused(world.create("secrets", sent).await, 400, message);
}

#[tokio::test]
async fn unknown_fields_are_refused_told_or_dropped() {
    let world = World::new().await;
    let mut value = pod("a");
    value["spec"]["contaniers"] = json!([]);
    let how = |field_validation| WriteOptions {
        dry_run: true,
        field_validation,
        ..WriteOptions::default()
    };
    let at = of("pods", "");
    let strict = how(FieldValidation::Strict);
    let message = r#"Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "spec.contaniers""#;
    refused(world.objects.create(&strict, &at, value.clone()).await, 400, message);
    let warned =
        world.objects.create(&how(FieldValidation::Warn), &at, value.clone()).await.unwrap();
    assert_eq!(warned.warnings, [r#"unknown field "spec.contaniers""#]);
    let ignored = world.objects.create(&how(FieldValidation::Ignore), &at, value).await.unwrap();
    assert!(ignored.warnings.is_empty());
    assert!(ignored.stored.object.value().unwrap()["spec"].get("contaniers").is_none());
}

#[tokio::test]
async fn an_update_makes_nothing_for_who_may_not() {
    let world = World::new().await;
    let lease = json!({"metadata": {"name": "a"}});
    let at = of("leases", "a");
    let how = WriteOptions { makes_nothing: true, ..WriteOptions::default() };
    let gone = world.objects.update(&how, &at, None, lease.clone()).await;
    assert_eq!(gone.map(drop).unwrap_err().code, 404);
    let made = world.objects.update(&WriteOptions::default(), &at, None, lease).await.unwrap();
    assert!(made.created);
}

#[tokio::test]
async fn what_is_too_deep_is_not_stored() {
    let world = World::new().await;
    let nested = |levels: usize| (0..levels).fold(json!(1), |inside, _| json!([inside]));
    let revision = |name: &str, levels: usize| json!({"metadata": {"name": name}, "revision": 1, "data": {"a": nested(levels)}});
    world.create("controllerrevisions", revision("fits", 80)).await.unwrap();
    assert_eq!(
        value(&world.objects.get(&of("controllerrevisions", "fits")).unwrap())["revision"],
        1
    );
    let deep = world.create("controllerrevisions", revision("deep", 110)).await;
    refused(deep, 400, "the object is nested more than 100 levels deep");
}

#[tokio::test]
async fn a_dry_run_says_everything_and_writes_nothing() {
    let world = World::new().await;
    let how = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let before = world.objects.store().snapshot().revision();
    let made = world.objects.create(&how, &of("pods", ""), pod("a")).await.unwrap();
    assert!(made.changed);
    assert_eq!(made.stored.revision, 0);
    assert!(value(&made.stored)["metadata"]["uid"].is_string());
    assert!(value(&made.stored)["metadata"].get("resourceVersion").is_none());
    world.create("configmaps", config("a", "1")).await.unwrap();
    let taken = world.objects.create(&how, &of("configmaps", ""), config("a", "1")).await;
    assert_eq!(taken.unwrap_err().reason, "AlreadyExists");
    let at = of("configmaps", "a");
    let changed = world.objects.update(&how, &at, None, config("a", "2")).await.unwrap();
    assert_eq!((changed.changed, changed.stored.revision), (true, before + 1));
    world.objects.delete(&how, &at, &Default::default()).await.unwrap();
    assert_eq!(world.read("configmaps", "a").unwrap()["data"]["is"], "1");
    assert_eq!(world.objects.store().snapshot().revision(), before + 1);
}

#[tokio::test]
async fn too_large_an_object_is_refused() {
    let world = World::new().await;
    let mut value = pod("a");
    value["spec"]["containers"][0]["args"] = json!(["x".repeat(2_000_000)]);
    let error = world.create("pods", value).await.unwrap_err();
    assert_eq!((error.code, error.reason), (413, "RequestEntityTooLarge"));
}

#[tokio::test]
async fn written_text_of_a_secret_is_stored_encoded() {
    let world = World::new().await;
    let sent =
        json!({"metadata": {"name": "s"}, "stringData": {"a": "text"}, "data": {"b": "eA=="}});
    let made = value(&world.create("secrets", sent).await.unwrap().stored);
    assert_eq!(made["data"], json!({"a": "dGV4dA==", "b": "eA=="}));
    assert!(made.get("stringData").is_none());
}

#[tokio::test]
async fn a_pod_names_only_what_is_there() {
    let world = World::new().await;
    let with = |name: &str, field: &str, text: &str| {
        let mut pod = pod(name);
        pod["spec"][field] = json!(text);
        pod
    };
    for (field, text, why) in [
        (
            "serviceAccountName",
            "robot",
            "error looking up service account default/robot: serviceaccount \"robot\" not found",
        ),
        ("priorityClassName", "gold", "no PriorityClass with name gold was found"),
        ("runtimeClassName", "gvisor", "pod rejected: RuntimeClass \"gvisor\" not found"),
    ] {
        let refusal = format!("pods \"p\" is forbidden: {why}");
        let error = refused(world.create("pods", with("p", field, text)).await, 403, &refusal);
        assert_eq!((error.reason, error.details.unwrap().name.as_str()), ("Forbidden", "p"));
    }
    world.create("serviceaccounts", json!({"metadata": {"name": "robot"}})).await.unwrap();
    let robot = with("p", "serviceAccountName", "robot");
    assert_eq!(value(&world.create("pods", robot).await.unwrap().stored)["spec"]["priority"], 0);
    let critical = with("q", "priorityClassName", "system-cluster-critical");
    let made = value(&world.create("pods", critical).await.unwrap().stored);
    assert_eq!(made["spec"]["priority"], 2_000_000_000);
    // What names a pod that is yet to come is let in: its pods are not.
    let mut web = deployment("web");
    web["spec"]["template"]["spec"]["serviceAccountName"] = json!("later");
    world.create("deployments", web).await.unwrap();
    let mut unnamed = with("", "serviceAccountName", "later");
    unnamed["metadata"] = json!({"generateName": "web-"});
    let error = world.create("pods", unnamed).await.unwrap_err();
    assert!(error.message.starts_with("pods \"web-\" is forbidden"), "{}", error.message);
}

/// One worker serves everybody here.
#[tokio::test]
async fn rules_of_a_definition_are_read_aside() {
    let world = World::new().await;
    let rule = |n: usize| json!({"rule": format!("self.size() < {n} || self.all(x, x != '{n}')")});
    let rules: Vec<Value> = (0..500).map(rule).collect();
    let list = json!({"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 5},
        "x-kubernetes-validations": rules});
    let schema = json!({"type": "object", "properties": {"spec": list}});
    let version = json!({"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": schema}});
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    let definition = json!({"metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}});
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let others = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::task::yield_now().await;
        }
    });
    world.create("customresourcedefinitions", definition).await.unwrap();
    others.abort();
    let turns = turns.load(Ordering::Relaxed);
    assert!(500 < turns, "others had {turns} turns meanwhile");
}
