//! What kubectl looks for in the documents of the kinds that are built in.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::openapi::{document, index, v2, v2_protobuf};
use freewheel_hub_schema::patch;
use freewheel_hub_schema::registry::Registry;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

fn root() -> Registry {
    kinds::registry(&ClusterName::root())
}

/// Where the document of its group and version is.
fn path(kind: &Kind) -> String {
    match kind.group() {
        "" => format!("api/{}", kind.version()),
        group => format!("apis/{group}/{}", kind.version()),
    }
}

fn read(path: &str) -> Value {
    serde_json::from_slice(&document(&root(), path).unwrap().body).unwrap()
}

#[test]
fn the_index_names_every_group_version_with_its_hash() {
    let index = index(&root(), "/clusters/pi-7");
    for kind in kinds::all() {
        let path = path(kind);
        let hash = document(&root(), &path).unwrap().hash;
        let url = format!("/clusters/pi-7/openapi/v3/{path}?hash={hash}");
        assert_eq!(index["paths"][&path]["serverRelativeURL"], url);
    }
    assert!(document(&root(), "apis/nothing/v1").is_none());
}

#[test]
fn every_patch_operation_takes_field_validation_and_dry_run() {
    for kind in kinds::all().iter().filter(|kind| kind.verbs.contains(&"patch")) {
        let document = read(&path(kind));
        let paths = document["paths"].as_object().unwrap();
        let gvk = json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()});
        let patches: Vec<&Value> = paths
            .values()
            .filter_map(|path| path.get("patch"))
            .filter(|patch| patch["x-kubernetes-group-version-kind"] == gvk)
            .collect();
        assert!(!patches.is_empty(), "{kind:?}");
        for patch in patches {
            assert_eq!(patch["x-kubernetes-action"], "patch");
            let parameters = patch["parameters"].as_array().unwrap();
            for name in ["fieldValidation", "dryRun", "fieldManager", "force"] {
                assert!(parameters.iter().any(|p| p["name"] == name && p["in"] == "query"));
            }
        }
    }
}

#[test]
fn a_patch_that_is_offered_is_taken() {
    for kind in kinds::all() {
        let document = read(&path(kind));
        let gvk = json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()});
        let paths = document["paths"].as_object().unwrap().values();
        let patches = paths.filter_map(|path| path.get("patch"));
        let taken = patch::strategic(&json!({}), b"{}", &**kind).is_ok();
        for one in patches.filter(|patch| patch["x-kubernetes-group-version-kind"] == gvk) {
            let offered = one["requestBody"]["content"].as_object().unwrap();
            let strategic = offered.contains_key("application/strategic-merge-patch+json");
            assert_eq!(strategic, taken, "{kind:?}");
        }
    }
}

#[test]
fn every_kind_has_a_schema_with_its_kind_and_a_description() {
    for kind in kinds::all() {
        let document = read(&path(kind));
        let gvk = json!({"group": kind.group(), "version": kind.version(), "kind": kind.kind()});
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let of_kind = |schema: &&Value| {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| kinds.contains(&gvk))
        };
        let schema = schemas.values().find(of_kind).unwrap();
        assert!(schema["description"].is_string(), "{kind:?}");
        for (name, field) in schema["properties"].as_object().unwrap() {
            assert!(field["description"].is_string(), "{kind:?} {name}");
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let paths: BTreeSet<String> = kinds::all().iter().map(|kind| path(kind)).collect();
    for path in paths {
        let document = read(&path);
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut seen = 0;
        references(&document, &mut |target| {
            let name = target.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{path}: {target}");
            seen += 1;
        });
        assert!(10 < seen);
    }
    let document: Value = serde_json::from_slice(&v2(&root()).body).unwrap();
    references(&document, &mut |target| {
        let name = target.strip_prefix("#/definitions/").unwrap();
        assert!(document["definitions"].get(name).is_some(), "{target}");
    });
    assert_eq!(document["swagger"], "2.0");
}

fn references(value: &Value, seen: &mut impl FnMut(&str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                seen(target);
            }
            map.values().for_each(|value| references(value, seen));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, seen)),
        _ => {}
    }
}

#[test]
fn documents_are_of_a_reasonable_size() {
    let size = document(&root(), "api/v1").unwrap().body.len();
    assert!((100_000..1_000_000).contains(&size), "{size}");
}

#[test]
fn pod_spec_is_explained() {
    let document = read("api/v1");
    let schemas = &document["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(spec["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.core.v1.PodSpec");
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert!(containers["description"].as_str().unwrap().contains("containers"));
}

#[test]
fn the_protobuf_form_of_v2_goes_by_the_same_hash() {
    let protobuf = v2_protobuf(&root());
    assert_eq!(protobuf.hash, v2(&root()).hash);
    // Document.swagger, then Document.info.title.
    assert!(protobuf.body.starts_with(b"\x0a\x032.0\x12"));
}
