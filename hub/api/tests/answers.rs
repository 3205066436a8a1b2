//! The same bodies lead to the same objects and the same refusals as at a kube-apiserver 1.36.
//!
//! The fixture holds what one answered, without what another part decides: uid, times, revisions,
//! managed fields, allocated addresses, and the token volume and tolerations that its admission adds.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::{kinds, metadata, schema};
use serde_json::{Value, json};

/// A create as the pipeline does it, up to the commit.
fn create(mut body: Value) -> Result<Value, ApiError> {
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let kind = kinds::by_kind(&text("apiVersion"), &text("kind")).unwrap();
    if kind.namespaced {
        body["metadata"]["namespace"] = json!("default");
    }
    schema::canonicalise(&mut body, kind.group, kind.version, kind.kind)?;
    schema::apply_defaults(&mut body, kind.group, kind.version, kind.kind);
    kind.strategy.default(&mut body);
    kind.strategy.prepare_create(&mut body);
    if kind.strategy.counts_generation() {
        body["metadata"]["generation"] = json!(1);
    }
    let namespace = if kind.namespaced { "default" } else { "" };
    let mut errors = metadata::validate(kind, &body, namespace);
    errors.extend(kind.strategy.validate(&body));
    if errors.is_empty() {
        schema::canonicalise(&mut body, kind.group, kind.version, kind.kind)?;
        return Ok(body);
    }
    let name = body["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(kind.group, kind.kind, name, &errors))
}

#[test]
fn recorded_bodies_have_recorded_answers() {
    let recorded = include_str!("fixtures/kube-apiserver-answers.json");
    let cases: Vec<Value> = serde_json::from_str(recorded).unwrap();
    assert!(cases.len() > 10);
    for case in cases {
        let answer = match create(case["body"].clone()) {
            Ok(object) => object,
            Err(error) => error.to_status(),
        };
        assert_eq!(answer, case["answer"], "{}", case["case"]);
    }
}
