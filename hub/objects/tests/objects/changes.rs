//! Updates.

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_api::pins::RESOLVED;
use freewheel_hub_objects::{DeleteOptions, OVERTAKEN, ObjectRef, WriteOptions, Written};
use freewheel_hub_schema::object::Object;
use freewheel_hub_schema::view::View;
use freewheel_hub_store::{Expect, Operation, Txn};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::kit::{World, bare_pod, config, deployment, of, pod, refused, value};

const MODIFIED: &str = r#"Operation cannot be fulfilled on configmaps "a": the object has been modified; please apply your changes to the latest version and try again"#;

fn revision(written: &Written) -> u64 {
    written.stored.revision
}

#[tokio::test]
async fn a_stale_resource_version_is_a_conflict() {
    let world = World::new().await;
    world.create("configmaps", config("a", "1")).await.unwrap();
    let stale = world.read("configmaps", "a").unwrap();
    world.update("configmaps", config("a", "2")).await.unwrap();
    let error = refused(world.update("configmaps", stale).await, 409, MODIFIED);
    assert_eq!(error.reason, "Conflict");
    let mut fresh = world.read("configmaps", "a").unwrap();
    fresh["data"]["is"] = json!("3");
    world.update("configmaps", fresh).await.unwrap();
    assert_eq!(world.read("configmaps", "a").unwrap()["data"]["is"], "3");
    let mut odd = config("a", "1");
    odd["metadata"]["resourceVersion"] = json!("abc");
    assert_eq!(world.update("configmaps", odd).await.unwrap_err().code, 400);
}

#[tokio::test]
async fn another_objects_uid_is_a_conflict() {
    let world = World::new().await;
    world.create("configmaps", config("a", "1")).await.unwrap();
    let mut value = config("a", "2");
    value["metadata"]["uid"] = json!("other");
    let error = world.update("configmaps", value).await.unwrap_err();
    assert_eq!(error.code, 409);
    assert!(error.message.contains("Precondition failed: UID in precondition: other"));
}

#[tokio::test]
async fn what_is_absent_cannot_be_updated() {
    let world = World::new().await;
    refused(world.update("configmaps", config("a", "1")).await, 404, r#"configmaps "a" not found"#);
}

#[tokio::test]
async fn a_write_whose_reason_is_gone_is_not_made() {
    let world = World::new().await;
    let reason = world.create("configmaps", config("reason", "1")).await.unwrap().stored;
    let how = WriteOptions { expect: vec![Expect::still(&reason)], ..WriteOptions::default() };
    let objects = &world.objects;
    let write = async || {
        let change = |mut value: Value| {
            value["data"]["is"] = json!(value["data"]["is"].as_str().unwrap().to_owned() + "+");
            Ok(value)
        };
        [
            objects.create(&how, &of("configmaps", "new"), config("new", "1")).await.map(drop),
            objects.update(&how, &of("configmaps", "a"), None, config("a", "2")).await.map(drop),
            objects.modify(&how, &of("configmaps", "b"), None, change).await.map(drop),
            objects.delete(&how, &of("configmaps", "c"), &DeleteOptions::default()).await.map(drop),
        ]
    };
    let state = || ["new", "a", "b", "c"].map(|name| world.read("configmaps", name));
    for name in ["a", "b", "c"] {
        world.create("configmaps", config(name, "1")).await.unwrap();
    }
    world.delete("configmaps", "reason").await.unwrap();
    world.create("configmaps", config("reason", "2")).await.unwrap();
    let before = state();
    for outcome in write().await {
        let refused = outcome.unwrap_err();
        assert_eq!((refused.code, refused.reason), (409, OVERTAKEN), "{refused}");
        assert!(refused.message.contains("gone, or another by now"), "{refused}");
    }
    assert_eq!(state(), before);
    let next = objects.get(&of("configmaps", "reason")).unwrap();
    let how = WriteOptions { expect: vec![Expect::still(&next)], ..WriteOptions::default() };
    objects.create(&how, &of("configmaps", "new"), config("new", "1")).await.unwrap();
}

#[tokio::test]
async fn an_update_that_changes_nothing_keeps_the_revision() {
    let world = World::new().await;
    let made = world.create("deployments", deployment("a")).await.unwrap();
    let same = world.update("deployments", value(&made.stored)).await.unwrap();
    assert_eq!((same.changed, revision(&same)), (false, revision(&made)));
    // The same thing said in other words, and without what the server filled in.
    let again = world.update("deployments", deployment("a")).await.unwrap();
    assert_eq!((again.changed, revision(&again)), (false, revision(&made)));
    let unchanged =
        world.objects.modify(&WriteOptions::default(), &of("deployments", "a"), None, Ok).await;
    assert!(!unchanged.unwrap().changed);
    assert_eq!(world.objects.store().snapshot().revision(), revision(&made));
}

#[tokio::test]
async fn the_server_keeps_what_it_owns() {
    let world = World::new().await;
    let made = value(&world.create("configmaps", config("a", "1")).await.unwrap().stored);
    world.clock.pass(100);
    let mut sent = config("a", "2");
    sent["metadata"]["creationTimestamp"] = json!("2001-01-01T00:00:00Z");
    sent["metadata"]["generation"] = json!(7);
    sent["metadata"]["deletionTimestamp"] = json!("2001-01-01T00:00:00Z");
    let now = value(&world.update("configmaps", sent).await.unwrap().stored);
    for key in ["uid", "creationTimestamp", "generation", "deletionTimestamp", "name"] {
        assert_eq!(now["metadata"].get(key), made["metadata"].get(key), "{key}");
    }
}

#[tokio::test]
async fn the_generation_counts_changes_of_what_is_asked_for() {
    let world = World::new().await;
    world.create("deployments", deployment("a")).await.unwrap();
    let generation =
        |world: &World| world.read("deployments", "a").unwrap()["metadata"]["generation"].clone();
    world.set("deployments", "a", "/metadata/labels", json!({"x": "y"})).await.unwrap();
    assert_eq!(generation(&world), 1);
    world.set("deployments", "a", "/spec/replicas", json!(3)).await.unwrap();
    assert_eq!(generation(&world), 2);
    let status = |mut value: Value| {
        value["status"] = json!({"observedGeneration": 2});
        value["spec"]["replicas"] = json!(9);
        Ok(value)
    };
    let at = of("deployments", "a");
    world.objects.modify(&WriteOptions::default(), &at, Some("status"), status).await.unwrap();
    assert_eq!(generation(&world), 2);
    world.create("configmaps", config("c", "1")).await.unwrap();
    assert!(world.read("configmaps", "c").unwrap()["metadata"].get("generation").is_none());
}

#[tokio::test]
async fn a_binding_is_no_new_generation() {
    let world = World::new().await;
    world.pod("a", "").await;
    let bind = |mut value: Value| {
        value["spec"]["nodeName"] = json!("pi-7");
        Ok(value)
    };
    let at = of("pods", "a");
    world.objects.modify(&WriteOptions::default(), &at, Some("binding"), bind).await.unwrap();
    let now = world.read("pods", "a").unwrap();
    assert_eq!(
        (&now["spec"]["nodeName"], &now["metadata"]["generation"]),
        (&json!("pi-7"), &json!(1))
    );
    let found = world.objects.get(&at).unwrap();
    assert_eq!(found.object.header.fields["spec.nodeName"], "pi-7");
}

#[tokio::test]
async fn the_main_door_and_the_status_door_open_their_own_half() {
    let world = World::new().await;
    world.create("deployments", deployment("a")).await.unwrap();
    let both = |mut value: Value| {
        value["spec"]["replicas"] = json!(5);
        value["status"] = json!({"replicas": 4});
        value["metadata"]["labels"] = json!({"x": "y"});
        Ok(value)
    };
    let at = of("deployments", "a");
    world.objects.modify(&WriteOptions::default(), &at, Some("status"), both).await.unwrap();
    let now = world.read("deployments", "a").unwrap();
    assert_eq!((&now["spec"]["replicas"], &now["status"]["replicas"]), (&json!(1), &json!(4)));
    assert!(now["metadata"].get("labels").is_none());
    let main = |mut value: Value| {
        value["spec"]["replicas"] = json!(5);
        value["status"] = json!({});
        Ok(value)
    };
    world.objects.modify(&WriteOptions::default(), &at, None, main).await.unwrap();
    let now = world.read("deployments", "a").unwrap();
    assert_eq!((&now["spec"]["replicas"], &now["status"]["replicas"]), (&json!(5), &json!(4)));
}

#[tokio::test]
async fn a_change_is_validated() {
    let world = World::new().await;
    world.pod("a", "").await;
    let error = world.set("pods", "a", "/spec/containers/0/name", json!("B_")).await.unwrap_err();
    assert_eq!((error.code, error.reason), (422, "Invalid"));
    let error = world.set("pods", "a", "/metadata/labels", json!({"a b": "c"})).await.unwrap_err();
    assert_eq!(error.code, 422);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn modify_loses_no_change() {
    let world = Arc::new(World::new().await);
    world.create("configmaps", config("a", "0")).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..16 {
        let world = Arc::clone(&world);
        writers.spawn(async move {
            for round in 0..10 {
                let key = format!("k{writer}-{round}");
                let pointer = format!("/data/{key}");
                world.set("configmaps", "a", &pointer, json!("1")).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let data = world.read("configmaps", "a").unwrap()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 161);
}

#[tokio::test]
async fn modify_gives_up_on_a_foreign_resource_version() {
    let world = World::new().await;
    world.create("configmaps", config("a", "1")).await.unwrap();
    let runs = Mutex::new(0);
    let change = |mut value: Value| {
        *runs.lock() += 1;
        value["metadata"]["resourceVersion"] = json!("1");
        value["data"]["is"] = json!("2");
        Ok(value)
    };
    let outcome =
        world.objects.modify(&WriteOptions::default(), &of("configmaps", "a"), None, change).await;
    refused(outcome, 409, MODIFIED);
    assert_eq!(*runs.lock(), 1);
}

#[tokio::test]
async fn events_of_both_groups_are_one() {
    let world = World::new().await;
    let registry = kinds::registry(&ClusterName::root());
    let view = View::find(&registry, "events.k8s.io", "v1", "events").unwrap();
    let at = |name: &str| ObjectRef { kind: view.stored.clone(), ..of("events", name) };
    let sent = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "note": "hello",
        "reason": "Tested", "action": "Test", "type": "Normal", "reportingController": "test",
        "reportingInstance": "test-1",
        "regarding": {"kind": "Pod", "name": "p", "namespace": "default"},
    });
    let sent = view.taken_in(sent).unwrap();
    world.objects.create(&WriteOptions::default(), &at(""), sent).await.unwrap();
    let stored = value(&world.objects.get(&at("e")).unwrap());
    assert_eq!((&stored["apiVersion"], &stored["message"]), (&json!("v1"), &json!("hello")));
    assert_eq!(stored["involvedObject"]["name"], "p");
    let change = |live: Value| {
        let mut shown = view.outward(live)?;
        assert_eq!(shown["note"], "hello");
        shown["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        view.taken_in(shown)
    };
    let written =
        world.objects.modify(&WriteOptions::default(), &at("e"), None, change).await.unwrap();
    assert_eq!(value(&written.stored)["message"], "hello");
    assert_eq!(value(&written.stored)["series"]["count"], 2);
}

#[tokio::test]
async fn a_rule_that_came_later_does_not_hold_an_object_fast() {
    let world = World::new().await;
    let made = world.create("pods", pod("a")).await.unwrap();
    let mut older = made.stored.object.value().unwrap();
    older["spec"]["volumes"] = json!([{"name": "v", "hostPath": {"path": "/", "type": ""}}]);
    let object = Object::from_value(older, made.stored.object.header.fields.clone()).unwrap();
    let put = Operation::Put(made.stored.key.clone(), object);
    world.objects.store().commit(Txn { expect: vec![], operations: vec![put] }).await.unwrap();

    let running = |mut value: Value| {
        value["status"]["phase"] = json!("Running");
        Ok(value)
    };
    let how = WriteOptions::default();
    world.objects.modify(&how, &of("pods", "a"), Some("status"), running).await.unwrap();
    assert_eq!(world.read("pods", "a").unwrap()["status"]["phase"], "Running");
    let worse = world.set("pods", "a", "/metadata/labels", json!({"a b": "c"})).await;
    assert_eq!(worse.unwrap_err().code, 422);
}

#[tokio::test]
async fn only_who_changes_the_spec_is_warned_about_it() {
    let world = World::new().await;
    let mut loud = pod("a");
    loud["spec"]["hostNetwork"] = json!(true);
    assert_eq!(world.create("pods", loud).await.unwrap().warnings.len(), 1);
    let labelled = world.set("pods", "a", "/metadata/labels", json!({"x": "y"})).await.unwrap();
    assert_eq!(labelled.warnings, Vec::<String>::new());
    let image = world.set("pods", "a", "/spec/containers/0/image", json!("other")).await.unwrap();
    assert_eq!(image.warnings.len(), 1);
}

#[tokio::test]
async fn a_kind_without_a_spec_warns_of_what_changes() {
    let world = World::new().await;
    let plural = "storageclasses";
    let class = json!({"metadata": {"name": "a"}, "provisioner": "example.com/disks"});
    world.create(plural, class).await.unwrap();
    let grows = |mut whole: Value| {
        whole["allowVolumeExpansion"] = json!(true);
        Ok(whole)
    };
    let at = of(plural, "a");
    let how = WriteOptions::default();
    let changed = world.objects.modify(&how, &at, None, grows).await.unwrap();
    assert_eq!(changed.warnings.len(), 1, "{:?}", changed.warnings);
    let labels = |mut whole: Value| {
        whole["metadata"]["labels"] = json!({"x": "y"});
        Ok(whole)
    };
    let labelled = world.objects.modify(&how, &at, None, labels).await.unwrap();
    assert_eq!(labelled.warnings, Vec::<String>::new());
}

#[tokio::test]
async fn what_images_stand_for_is_written_by_the_hub_alone() {
    let world = World::new().await;
    let pins = |of: &str| json!({ RESOLVED: json!({"hello": Digest::of(of.as_bytes()).to_string()}).to_string() });
    let hub = WriteOptions::by(freewheel_hub_objects::Actor::Controller("image-controller"));
    let left_out = |at: &str| {
        format!(
            "{at}.annotations[{RESOLVED}]: what images stand for is looked up by the hub, and this is left out"
        )
    };
    let revision = json!({"metadata": {"name": "a"}, "revision": 1,
        "data": {"spec": {"template": deployment("a")["spec"]["template"]}}});
    for (plural, mut object, has_status) in [
        ("pods", bare_pod("a"), true),
        ("replicasets", deployment("a"), true),
        ("controllerrevisions", revision, false),
    ] {
        object["metadata"]["annotations"] = pins("elsewhere");
        let made = world.create(plural, object.clone()).await.unwrap();
        assert_eq!(value(&made.stored)["metadata"].get("annotations"), None, "{plural}");
        assert_eq!(made.warnings, [left_out("metadata")]);
        let here = |mut value: Value| {
            value["metadata"]["annotations"] = pins("here");
            Ok(value)
        };
        world.objects.modify(&hub, &of(plural, "a"), None, here).await.unwrap();
        for annotations in [json!({}), pins("elsewhere"), Value::Null] {
            object["metadata"]["annotations"] = annotations.clone();
            let sent = world.update(plural, object.clone()).await.unwrap();
            assert_eq!(value(&sent.stored)["metadata"]["annotations"], pins("here"), "{plural}");
            let tells = annotations == pins("elsewhere");
            assert_eq!(!sent.warnings.is_empty(), tells, "{:?}", sent.warnings);
            if !has_status {
                continue;
            }
            let how = WriteOptions::default();
            let status = of(plural, "a");
            let sent = world.objects.update(&how, &status, Some("status"), object.clone()).await;
            assert_eq!(value(&sent.unwrap().stored)["metadata"]["annotations"], pins("here"));
        }
    }
    let mut copied = deployment("b");
    copied["metadata"]["annotations"] = pins("elsewhere");
    copied["spec"]["template"]["metadata"]["annotations"] = pins("elsewhere");
    let made = world.create("deployments", copied).await.unwrap();
    assert_eq!(value(&made.stored)["metadata"].get("annotations"), None);
    let template = &value(&made.stored)["spec"]["template"]["metadata"];
    assert_eq!(template.get("annotations"), None);
    assert_eq!(made.warnings, [left_out("spec.template.metadata")]);
}
