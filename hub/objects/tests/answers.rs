//! The same bodies lead to the same objects and the same refusals as at a kube-apiserver 1.36.
//!
//! The fixture holds what one answered, without what another part decides: uid, times, revisions,
//! managed fields, allocated addresses, and the token volume that its admission adds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions, stored_value};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

/// A create that writes nothing.
async fn create(objects: &Objects, body: Value) -> Result<Value, ApiError> {
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let kind = kinds::by_kind(&text("apiVersion"), &text("kind")).unwrap().clone();
    let namespace = if kind.namespaced { "default" } else { "" };
    let place = ObjectRef {
        kind,
        cluster: ClusterName::root(),
        namespace: namespace.into(),
        name: String::new(),
    };
    let how = WriteOptions { dry_run: true, ..WriteOptions::default() };
    let mut sent = body.clone();
    let is_pod = place.kind.plural() == "pods";
    if let Some(spec) = sent.get_mut("spec").and_then(Value::as_object_mut).filter(|_| is_pod) {
        // The name of the volume is made by chance.
        spec.insert("automountServiceAccountToken".to_owned(), json!(false));
    }
    let made = objects.create(&how, &place, sent).await?;
    let mut made = stored_value(&made.stored)?;
    for key in ["uid", "creationTimestamp", "managedFields"] {
        made["metadata"].as_object_mut().unwrap().remove(key);
    }
    if let Some(spec) = made.get_mut("spec").and_then(Value::as_object_mut) {
        let asked = |key: &str| body["spec"].get(key).is_some();
        spec.retain(|key, _| !matches!(key.as_str(), "clusterIP" | "clusterIPs") || asked(key));
        if is_pod {
            spec.remove("automountServiceAccountToken");
        }
    }
    Ok(made)
}

#[tokio::test]
async fn recorded_bodies_have_recorded_answers() {
    let objects = Objects::new(Arc::new(MemoryStore::new()));
    let home = kinds::find("", "v1", "namespaces").unwrap().clone();
    let name = "default".to_owned();
    let home = ObjectRef { kind: home, cluster: ClusterName::root(), namespace: "".into(), name };
    objects.create(&WriteOptions::default(), &home, json!({})).await.unwrap();
    let recorded = include_str!("fixtures/kube-apiserver-answers.json");
    let cases: Vec<Value> = serde_json::from_str(recorded).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let answer = match create(&objects, case["body"].clone()).await {
            Ok(object) => object,
            Err(error) => error.to_status(),
        };
        assert_eq!(answer, case["answer"], "{}", case["case"]);
    }
}
