//! Who owns which fields after a write.

use freewheel_hub_objects::{Actor, Applied, Person, WriteOptions, Written};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::MAX_OBJECT_BYTES;
use serde_json::{Value, json};

use super::kit::{World, deployment, of, pod, refused, value};

fn by(manager: &str) -> WriteOptions {
    let manager = manager.to_owned();
    WriteOptions::by(Person { name: "ada".to_owned(), manager, ..Person::default() })
}

async fn apply(world: &World, manager: &str, data: &Value) -> Result<Written, ApiError> {
    let metadata = json!({"name": "a"});
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    let applied = Applied { config, force: false, may_make: true };
    world.objects.apply(&by(manager), &of("configmaps", "a"), None, &applied).await
}

/// Manager, operation, door and time of each entry, and its fields.
fn owners(object: &Value) -> Vec<(String, Value)> {
    let all = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let shown = |one: &Value| {
        let part = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        [part("manager"), part("operation"), part("subresource"), part("time")].join(" ")
    };
    all.iter().map(|one| (shown(one), one["fieldsV1"].clone())).collect()
}

#[tokio::test]
async fn every_write_says_whose_its_changes_are() {
    let world = World::new().await;
    let objects = &world.objects;
    let at = of("deployments", "d");
    let made = objects.create(&by("kubectl-create"), &at, deployment("d")).await.unwrap();
    assert_eq!(owners(&value(&made.stored))[0].0, "kubectl-create Update  2026-01-01T00:00:00Z");
    world.clock.pass(5);
    let how = WriteOptions::by(Actor::Controller("deployment-controller"));
    let told = |mut object: Value| {
        object["status"] = json!({"replicas": 1});
        object["spec"]["paused"] = json!(true);
        Ok(object)
    };
    let status = objects.modify(&how, &at, Some("status"), told).await.unwrap();
    let all = owners(&value(&status.stored));
    assert_eq!(
        all[1],
        (
            "kube-controller-manager Update status 2026-01-01T00:00:05Z".to_owned(),
            json!({"f:status": {"f:replicas": {}}})
        )
    );
    world.clock.pass(5);
    let scaled = |mut object: Value| {
        object["spec"]["replicas"] = json!(4);
        Ok(object)
    };
    let scaled = objects.modify(&by("kubectl"), &at, Some("scale"), scaled).await.unwrap();
    let all = owners(&value(&scaled.stored));
    assert_eq!(all[2].0, "kubectl Update scale 2026-01-01T00:00:10Z");
    assert_eq!(all[0].1["f:spec"].get("f:replicas"), None);
    // What an update does not change stays whose it was, times and all.
    let same = objects.modify(&by("other"), &at, None, Ok).await.unwrap();
    assert!(!same.changed);
    assert_eq!(owners(&value(&same.stored)), all);
}

/// A binding is nobody's field, as upstream.
#[tokio::test]
async fn a_binding_has_no_owner() {
    let world = World::new().await;
    world.create("pods", pod("p")).await.unwrap();
    let before = owners(&world.read("pods", "p").unwrap());
    let binding = freewheel_hub_objects::Binding {
        node: "pi-7",
        uid: None,
        metadata: &json!({}),
        is_named: false,
    };
    world.objects.bind(&by("kube-scheduler"), &of("pods", "p"), &binding).await.unwrap();
    let bound = world.read("pods", "p").unwrap();
    assert_eq!((&bound["spec"]["nodeName"], owners(&bound)), (&json!("pi-7"), before));
}

#[tokio::test]
async fn an_apply_that_changes_nothing_keeps_the_revision() {
    let world = World::new().await;
    let first = apply(&world, "a", &json!({"x": "1"})).await.unwrap();
    assert!(first.created);
    world.clock.pass(60);
    let second = apply(&world, "a", &json!({"x": "1"})).await.unwrap();
    assert!(!second.changed && !second.created);
    assert_eq!(second.stored.revision, first.stored.revision);
    let third = apply(&world, "a", &json!({"x": "2"})).await.unwrap();
    assert_eq!(owners(&value(&third.stored))[0].0, "a Apply  2026-01-01T00:01:00Z");
    let error = refused(
        apply(&world, "b", &json!({"x": "3"})).await,
        409,
        "Apply failed with 1 conflict: conflict with \"a\": .data.x",
    );
    assert_eq!(error.details.unwrap().causes[0].reason, "FieldManagerConflict");
}

#[tokio::test]
async fn owners_make_nothing_too_large() {
    let world = World::new().await;
    let filled = |name: &str, bytes: usize| {
        let mut value = deployment(name);
        value["spec"]["template"]["spec"]["containers"][0]["args"] = json!(["x".repeat(bytes)]);
        value
    };
    let small = world.create("deployments", filled("a", 10)).await.unwrap();
    let rest = small.stored.object.body.len() - 10;
    let list = value(&small.stored)["metadata"]["managedFields"].to_string().len();
    let large = world.create("deployments", filled("b", MAX_OBJECT_BYTES - rest)).await.unwrap();
    assert_eq!(large.stored.object.body.len(), MAX_OBJECT_BYTES);
    assert_eq!(owners(&value(&large.stored)).len(), 1);
    // With its owners it is larger than anything may be, without them it is not.
    let large = filled("c", MAX_OBJECT_BYTES - rest + list / 2);
    let large = world.create("deployments", large).await.unwrap();
    assert_eq!(owners(&value(&large.stored)), []);
}
