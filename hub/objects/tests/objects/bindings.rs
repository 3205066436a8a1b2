//! Pods get their nodes.

use freewheel_hub_objects::{Binding, DeleteOptions, OVERTAKEN, WriteOptions};
use freewheel_hub_store::Expect;
use serde_json::{Value, json};

use super::kit::{World, of, pod, refused, value};

const PLAIN: &Value = &Value::Null;

fn to<'a>(node: &'a str, metadata: &'a Value) -> Binding<'a> {
    Binding { node, uid: None, metadata, is_named: false }
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let world = World::new().await;
    let (how, at) = (WriteOptions::default(), of("pods", "a"));
    let made = world.create("pods", pod("a")).await.unwrap();
    let other = Binding { uid: Some(&"other".into()), ..to("pi-7", PLAIN) };
    let uid = &made.stored.object.header.uid;
    refused(
        world.objects.bind(&how, &at, &other).await,
        409,
        &format!(
            "Operation cannot be fulfilled on pods \"a\": Precondition failed: UID in precondition: other, UID in object \
             meta: {uid}"
        ),
    );
    let metadata = json!({"labels": {"x": "y"}, "annotations": {"z": "1"}});
    let binding = Binding { uid: Some(uid), ..to("pi-7", &metadata) };
    let bound = value(&world.objects.bind(&how, &at, &binding).await.unwrap().stored);
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["generation"]),
        (&json!("pi-7"), &json!(1))
    );
    assert_eq!(bound["metadata"]["labels"], metadata["labels"]);
    assert_eq!(bound["metadata"]["annotations"], metadata["annotations"]);
    assert_eq!(
        bound["status"]["conditions"],
        json!([{"type": "PodScheduled", "status": "True", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    );
    refused(
        world.objects.bind(&how, &at, &to("pi-8", PLAIN)).await,
        409,
        r#"Operation cannot be fulfilled on pods/binding "a": pod a is already assigned to node "pi-7""#,
    );
    world.delete_with("pods", "a", DeleteOptions::default()).await.unwrap();
    refused(
        world.objects.bind(&how, &at, &to("pi-8", PLAIN)).await,
        409,
        "Operation cannot be fulfilled on pods/binding \"a\": pod a is being deleted, cannot be assigned to a host",
    );
}

#[tokio::test]
async fn a_pod_is_not_bound_to_what_is_gone() {
    let world = World::new().await;
    let node = world.create("nodes", json!({"metadata": {"name": "pi-7"}})).await.unwrap();
    world.create("pods", pod("a")).await.unwrap();
    let how = WriteOptions { expect: vec![Expect::still(&node.stored)], ..WriteOptions::default() };
    world.delete("nodes", "pi-7").await.unwrap();
    let at = of("pods", "a");
    let error = world.objects.bind(&how, &at, &to("pi-7", PLAIN)).await.unwrap_err();
    assert_eq!(error.reason, OVERTAKEN);
    assert_eq!(world.read("pods", "a").unwrap()["spec"].get("nodeName"), None);
}
