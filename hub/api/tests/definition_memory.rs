//! What documents of large definitions take of the memory, while they are made and afterwards.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use freewheel_hub_api::kinds;
use freewheel_hub_custom::definition;
use freewheel_hub_schema::openapi::{document, v2, v2_protobuf};
use freewheel_hub_schema::registry::Registry;
use freewheel_link::names::ClusterName;
use serde_json::{Map, Value, json};

/// Definitions, and fields of each with two fields inside: about half a megabyte of text, and 25 times that as a tree.
const DEFINITIONS: usize = 16;
const FIELDS: usize = 6_000;
/// The most that all of it may take beside the definitions: what is kept of documents, and a few texts and one tree on
/// their way. All schemas together are 200 MiB as trees, and half as much as types.
const BYTES_MAX: usize = 140 << 20;

/// Bytes of this process in memory: as many as there are, or as many as there ever were.
fn resident(line: &str) -> usize {
    let said = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = said.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    let kibibytes = found.trim_start_matches(':').trim().trim_end_matches("kB").trim();
    kibibytes.parse::<usize>().unwrap() << 10
}

fn large_definition(number: usize) -> Value {
    let inner = json!({"a": {"type": "string"}, "b": {"type": "integer"}});
    let field = json!({"type": "object", "properties": inner});
    let fields: Map<_, _> =
        (0..FIELDS).map(|number| (format!("p{number}"), field.clone())).collect();
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": fields}});
    let names = json!({"plural": format!("big{number}s"), "singular": format!("big{number}"),
        "kind": format!("Big{number}"), "listKind": format!("Big{number}List")});
    json!({
        "metadata": {"uid": number.to_string()},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names,
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
        "status": {"acceptedNames": names},
    })
}

fn defined() -> Registry {
    let (registries, root) = (kinds::registries(), ClusterName::root());
    for number in 0..DEFINITIONS {
        let definition = large_definition(number);
        let storage = definition::storage(&definition);
        registries.put(&root, &storage, definition::kinds(&definition, None)).unwrap();
    }
    registries.of(&root)
}

#[cfg(target_os = "linux")]
#[test]
fn documents_cost_their_texts_and_the_tree_of_one_schema() {
    // What all clusters share is there before.
    drop(v2_protobuf(&kinds::registry(&ClusterName::root())));
    let registry = defined();
    let before = resident("VmRSS");
    let v3 = document(&registry, "apis/example.com/v1").unwrap().body.len();
    let sizes = [v3, v2(&registry).body.len(), v2_protobuf(&registry).body.len()];
    assert!(sizes.iter().all(|size| 4 << 20 < *size), "{sizes:?}");
    let (most, now) = (resident("VmHWM"), resident("VmRSS"));
    assert!(most - before < BYTES_MAX, "{} MiB at a time for {sizes:?}", (most - before) >> 20);
    let again = defined();
    assert_eq!(document(&again, "apis/example.com/v1").unwrap().body.len(), v3);
    let twice = resident("VmRSS");
    assert!(twice.saturating_sub(now) < BYTES_MAX, "{} MiB more", (twice - now) >> 20);
}
