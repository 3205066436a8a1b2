//! Strategic merges are checked against what apimachinery makes of the same patches.

use serde_json::{Value, json};

use super::{json, merge, strategic, strict};
use crate::gvk::split_api_version;

#[test]
fn strategic_patches_give_what_go_gives() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/strategic.in.json")).unwrap();
    let answers: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/strategic.json")).unwrap();
    assert_eq!(cases.len(), answers.len());
    for (case, answer) in cases.iter().zip(&answers) {
        let name = &case["case"];
        assert_eq!(name, &answer["case"]);
        let (group, version) = split_api_version(case["apiVersion"].as_str().unwrap());
        let kind = case["kind"].as_str().unwrap();
        let patch = case["patch"].to_string();
        let result = strategic(&case["original"], patch.as_bytes(), (group, version, kind));
        match answer.get("result") {
            Some(expected) => assert_eq!(&result.unwrap(), expected, "{name}"),
            None => assert_eq!(result.unwrap_err().code, 400, "{name}"),
        }
    }
}

#[test]
fn kinds_without_merge_keys_refuse_strategic_patches() {
    let error = strategic(
        &json!({}),
        b"{}",
        ("cluster.open-cluster-management.io", "v1", "ManagedCluster"),
    );
    assert_eq!(error.unwrap_err().code, 415);
}

#[test]
fn a_json_patch_that_does_not_apply_is_rejected() {
    let document = json!({"data": {"a": "1"}});
    let patch = br#"[{"op": "test", "path": "/data/a", "value": "b"}]"#;
    let error = json(&document, patch).unwrap_err();
    assert_eq!((error.code, error.reason), (422, "Invalid"));
    assert_eq!(error.message, "the server rejected our request due to an error in our request");
    let patch = br#"[{"op": "replace", "path": "/data/a", "value": "b"}, {"op": "add", "path": "/data/c", "value": "d"}]"#;
    assert_eq!(json(&document, patch).unwrap(), json!({"data": {"a": "b", "c": "d"}}));
    assert_eq!(json(&document, b"{}").unwrap_err().code, 400);
}

#[test]
fn what_a_patch_says_twice_is_named() {
    let twice = br#"{"data": {"a": "1", "a": "2"}}"#;
    assert_eq!(strict(twice, false).unwrap(), ["duplicate field \"data.a\""]);
    let odd = br#"[{"op": "add", "op": "add", "path": "/a", "value": 1, "x": 2}]"#;
    assert_eq!(
        strict(odd, true).unwrap(),
        ["json patch unknown field \"[0].x\"", "json patch duplicate field \"[0].op\""]
    );
    assert_eq!(strict(b"{", false).unwrap_err().code, 400);
}

#[test]
fn a_json_patch_is_bounded_in_operations_and_copies() {
    let operation = json!({"op": "test", "path": "", "value": {}});
    let many = Value::Array(vec![operation; 10_001]).to_string();
    assert_eq!(json(&json!({}), many.as_bytes()).unwrap_err().code, 413);
    // Each copy doubles the document.
    let doubling: Vec<Value> =
        (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/n{n}")})).collect();
    let doubling = Value::Array(doubling).to_string();
    assert_eq!(json(&json!({"a": "b"}), doubling.as_bytes()).unwrap_err().code, 422);
}

#[test]
fn a_merge_patch_removes_with_null() {
    let document = json!({"data": {"a": "1", "b": "2"}});
    let patch = br#"{"data": {"a": null, "c": "3"}}"#;
    assert_eq!(merge(&document, patch).unwrap(), json!({"data": {"b": "2", "c": "3"}}));
    assert_eq!(merge(&document, b"[]").unwrap_err().code, 400);
    assert_eq!(merge(&document, b"{").unwrap_err().code, 400);
}

fn nested(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inside, _| json!([inside]))
}

#[test]
fn a_json_patch_is_bounded_in_depth() {
    let inner = |levels: usize| format!("/x{}", "/0".repeat(levels));
    let start = json!({"op": "add", "path": "/x", "value": nested(60)});
    let refused = |last: Value| {
        let patch = json!([start, last]).to_string();
        assert_eq!(json(&json!({}), patch.as_bytes()).unwrap_err().code, 422, "{last}");
    };
    refused(json!({"op": "copy", "from": "/x", "path": inner(60)}));
    refused(json!({"op": "add", "path": inner(60), "value": nested(60)}));
    refused(json!({"op": "replace", "path": inner(59), "value": nested(60)}));
    let moved = json!([start, {"op": "add", "path": "/y", "value": nested(60)},
        {"op": "move", "from": "/y", "path": inner(60)}]);
    assert_eq!(json(&json!({}), moved.to_string().as_bytes()).unwrap_err().code, 422);
    // Each copy doubles the depth: ten of them would be more than a stack takes.
    let copies = (0..10).map(|n| json!({"op": "copy", "from": "/x", "path": inner(60 << n)}));
    let doubling = Value::from_iter([start.clone()].into_iter().chain(copies));
    assert_eq!(json(&json!({}), doubling.to_string().as_bytes()).unwrap_err().code, 422);
    let fits = json!([start, {"op": "copy", "from": "/x/0", "path": inner(40)}]).to_string();
    assert!(json(&json!({}), fits.as_bytes()).is_ok());
}

#[test]
fn what_patches_make_is_no_deeper_than_what_is_sent() {
    let document = json!({"metadata": {"name": "a"}});
    for (levels, good) in [(99, true), (100, false), (120, false)] {
        let patch = json!({"x": nested(levels)}).to_string();
        let pod = ("", "v1", "Pod");
        assert_eq!(merge(&document, patch.as_bytes()).is_ok(), good, "merge {levels}");
        assert_eq!(strategic(&document, patch.as_bytes(), pod).is_ok(), good, "strategic {levels}");
    }
}
