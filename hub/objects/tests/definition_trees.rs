//! What a large definition takes of the memory while it is made and while its status is written: it is a program of its own,
//! which nothing else makes larger.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::{ObjectRef, Objects, WriteOptions};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::names::ClusterName;
use serde_json::{Map, Value, json};

/// Fields that say next to nothing: less than a megabyte of text, and thirty times that as a tree.
const FIELDS: usize = 30_000;

/// Bytes of this process in memory: as many as there are, or as many as there ever were.
fn resident(line: &str) -> usize {
    let said = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = said.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    let kibibytes = found.trim_start_matches(':').trim().trim_end_matches("kB").trim();
    kibibytes.parse::<usize>().unwrap() << 10
}

fn large() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object"}});
    let mut definition = json!({
        "metadata": {"name": "bigs.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "bigs", "kind": "Big"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]},
    });
    let field = json!({"type": "string"});
    let fields: Map<_, _> = (0..FIELDS).map(|at| (format!("p{at}"), field.clone())).collect();
    // The macro would copy it.
    let at = definition.pointer_mut("/spec/versions/0/schema/openAPIV3Schema").unwrap();
    at["properties"] = Value::Object(fields);
    definition
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_large_definition_is_one_tree_while_it_is_made() {
    let objects = Objects::new(Arc::new(MemoryStore::with_incarnation(1)));
    let kind = kinds::find("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let (kind, name) = (kind.unwrap().clone(), "bigs.example.com".to_owned());
    let place = ObjectRef { kind, cluster: ClusterName::root(), namespace: "".into(), name };
    let before = resident("VmRSS");
    let definition = large();
    let one = resident("VmRSS") - before;
    assert!(10 << 20 < one, "a tree takes {} KiB", one >> 10);
    let how = WriteOptions::default();
    objects.create(&how, &place, definition).await.unwrap();
    let made = resident("VmHWM") - before;
    assert!(2 * made < 5 * one, "{} MiB for a tree of {}", made >> 20, one >> 20);
    // What there was before is another tree.
    let said = json!([{"type": "Established", "status": "True", "reason": "Tested"}]);
    let change = |mut value: Value| {
        value["status"]["conditions"] = said.clone();
        Ok(value)
    };
    objects.modify(&how, &place, Some("status"), change).await.unwrap();
    let changed = resident("VmHWM") - before;
    assert!(2 * changed < 7 * one, "{} MiB for trees of {}", changed >> 20, one >> 20);
}
