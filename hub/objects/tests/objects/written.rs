//! Kinds by whose names objects are written, and others.

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{Applied, DeleteOptions, ObjectRef, WriteOptions};
use freewheel_hub_schema::error::ApiError;
use serde_json::{Value, json};

use super::kit::{World, of, place};

/// The place of an object of this kind, in `default`, if it lives in namespaces.
fn by_kind(api_version: &str, kind: &str, name: &str) -> ObjectRef {
    let kind = kinds::by_kind(api_version, kind).unwrap().clone();
    let namespace = if kind.namespaced { "default" } else { "" };
    ObjectRef { kind, ..place("pods", "root", namespace, name) }
}

async fn every_write(world: &World, target: &ObjectRef, object: &Value) -> Vec<ApiError> {
    let (objects, how) = (&world.objects, &WriteOptions::default());
    let changed = |_: Value| Ok(object.clone());
    let made = |_: Option<Value>| Ok(object.clone());
    let applied = Applied { config: object.clone(), force: true, may_make: true };
    [
        objects.create(how, target, object.clone()).await,
        objects.update(how, target, None, object.clone()).await,
        objects.modify(how, target, None, changed).await,
        objects.create_or_modify(how, target, made).await,
        objects.apply(how, target, None, &applied).await,
    ]
    .into_iter()
    .map(Result::unwrap_err)
    .collect()
}

#[tokio::test]
async fn nobody_lays_a_view_over_what_it_shows() {
    let world = World::new().await;
    let before = world.pod("web", "pi-7").await.stored;
    let target = by_kind("metrics.k8s.io/v1beta1", "PodMetrics", "web");
    let figures = json!({"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics",
        "metadata": {"name": "web", "namespace": "default"}, "timestamp": "2026-01-01T00:00:00Z", "window": "1s",
        "containers": []});
    for error in every_write(&world, &target, &figures).await {
        assert_eq!((error.code, error.reason), (405, "MethodNotAllowed"), "{error}");
    }
    let how = WriteOptions::default();
    let error = world.objects.delete(&how, &target, &DeleteOptions::default()).await.unwrap_err();
    assert_eq!(error.code, 405);
    let now = world.objects.get(&of("pods", "web")).unwrap();
    assert_eq!((now.revision, &now.object), (before.revision, &before.object));
}

#[tokio::test]
async fn nothing_is_stored_by_a_name_that_is_none() {
    let world = World::new().await;
    let revision = world.objects.store().snapshot().revision();
    for (api_version, kind) in [
        ("metrics.k8s.io/v1beta1", "PodMetrics"),
        ("metrics.k8s.io/v1beta1", "NodeMetrics"),
        ("events.k8s.io/v1", "Event"),
        ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ("v1", "ComponentStatus"),
    ] {
        let target = by_kind(api_version, kind, "web");
        let object = json!({"metadata": {"name": "web"}});
        let how = WriteOptions::default();
        let error = world.objects.create(&how, &target, object).await.unwrap_err();
        assert_eq!((error.code, error.reason), (405, "MethodNotAllowed"), "{kind}: {error}");
    }
    assert_eq!(world.objects.store().snapshot().revision(), revision);
}
