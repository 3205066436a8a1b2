//! What labels of a namespace ask of its pods.

use std::sync::Arc;

use freewheel_hub_objects::{Notes, WriteOptions};
use serde_json::{Value, json};

use super::kit::{World, bare_pod, deployment, of, refused};

const WRONG: &str =
    "violates PodSecurity \"baseline:latest\": hostPort (container \"c\" uses hostPort 8080)";

/// One that takes a port of its node.
fn greedy(name: &str) -> Value {
    let mut pod = bare_pod(name);
    pod["spec"]["containers"][0]["ports"] = json!([{"containerPort": 80, "hostPort": 8080}]);
    pod
}

async fn label(world: &World, label: &str, level: &str) {
    let at = format!("/metadata/labels/pod-security.kubernetes.io~1{label}");
    let labelled = |mut namespace: Value| {
        namespace["metadata"]["labels"][format!("pod-security.kubernetes.io/{label}")] =
            json!(level);
        Ok(namespace)
    };
    let how = WriteOptions::default();
    world.objects.modify(&how, &of("namespaces", "default"), None, labelled).await.unwrap();
    let namespace = world.read("namespaces", "default").unwrap();
    assert_eq!(namespace.pointer(&at).unwrap(), level);
}

fn heard() -> (WriteOptions, Arc<Notes>) {
    let notes = Arc::new(Notes::default());
    (WriteOptions { notes: Some(notes.clone()), ..WriteOptions::default() }, notes)
}

#[tokio::test]
async fn a_pod_keeps_to_the_standard_of_its_namespace() {
    let world = World::new().await;
    world.create("pods", greedy("before")).await.unwrap();
    label(&world, "enforce", "baseline").await;
    refused(
        world.create("pods", greedy("a")).await,
        403,
        &format!("pods \"a\" is forbidden: {WRONG}"),
    );
    world.create("pods", bare_pod("b")).await.unwrap();
    // What runs goes on, and may be written unless it is to run something else.
    let annotations = json!({"a": "b"});
    world.set("pods", "before", "/metadata/annotations", annotations).await.unwrap();
    let image = "/spec/containers/0/image";
    let other = world.set("pods", "before", image, json!("other")).await;
    refused(other, 403, &format!("pods \"before\" is forbidden: {WRONG}"));
    let (how, notes) = heard();
    label(&world, "enforce", "privileged").await;
    label(&world, "warn", "baseline").await;
    label(&world, "audit", "baseline").await;
    world.objects.create(&how, &of("pods", "c"), greedy("c")).await.unwrap();
    let would = WRONG.replace("violates", "would violate");
    assert!(notes.warnings().contains(&would), "{:?}", notes.warnings());
    let told = notes.annotations(false);
    assert_eq!(told["pod-security.kubernetes.io/audit-violations"], would);
    assert_eq!(told["pod-security.kubernetes.io/enforce-policy"], "privileged:latest");
}

#[tokio::test]
async fn a_template_is_warned_of() {
    let world = World::new().await;
    label(&world, "enforce", "baseline").await;
    let (how, notes) = heard();
    let mut set = deployment("web");
    set["spec"]["template"]["spec"] = greedy("x")["spec"].clone();
    world.objects.create(&how, &of("deployments", "web"), set).await.unwrap();
    let would = WRONG.replace("violates", "would violate");
    assert!(notes.warnings().contains(&would), "{:?}", notes.warnings());
}

#[tokio::test]
async fn a_namespace_asks_for_a_standard_that_there_is() {
    let world = World::new().await;
    let namespace = |level: &str| {
        let labels = json!({"pod-security.kubernetes.io/enforce": level});
        json!({"metadata": {"name": "attic", "labels": labels}})
    };
    let why = "must be one of privileged, baseline, restricted";
    let at = "metadata.labels[pod-security.kubernetes.io/enforce]";
    let message = format!("Namespace \"attic\" is invalid: {at}: Invalid value: \"none\": {why}");
    refused(world.create("namespaces", namespace("none")).await, 422, &message);
    world.create("namespaces", namespace("restricted")).await.unwrap();
    refused(world.update("namespaces", namespace("none")).await, 422, &message);
}

#[tokio::test]
async fn a_stricter_namespace_names_pods_that_do_not_keep_to_it() {
    let world = World::new().await;
    for name in ["b", "a", "c"] {
        world.create("pods", greedy(name)).await.unwrap();
    }
    world.create("pods", bare_pod("d")).await.unwrap();
    let (how, notes) = heard();
    let labelled = |mut namespace: Value| {
        namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = json!("baseline");
        Ok(namespace)
    };
    world.objects.modify(&how, &of("namespaces", "default"), None, labelled).await.unwrap();
    assert_eq!(
        notes.warnings(),
        [
            "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): hostPort",
        ]
    );
}
