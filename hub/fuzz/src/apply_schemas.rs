//! The same of kinds with random schemas, by decisions of bytes.

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::types::{Schema, Typed};
use serde_json::json;

use crate::choices::Choices;
use crate::pipeline::{Again, Pipeline, Write};
use crate::shape;

/// Writes of one input.
const WRITES_MAX: usize = 8;

/// Each is refused, or made, with owners that are well formed.
pub(crate) fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let said = shape::schema(&mut choices);
    let gvk = Gvk::new("example.com", "v1", "Widget");
    let Ok(schema) = Schema::structural(&gvk, &said) else { panic!("not structural: {said}") };
    let (group, version, kind) = ("example.com", "v1", "Widget");
    let typed = Typed { group, version, kind, facts: Some(schema.facts()), form: None };
    let mut pipeline = Pipeline::of(typed);
    for _ in 0..WRITES_MAX {
        if choices.is_over() {
            return;
        }
        let manager = ["a", "b", "c"][choices.of(3)];
        let (is_update, force) = (choices.once_in(3), choices.once_in(2));
        let spec = shape::value(&said["properties"]["spec"], &mut choices);
        let object = json!({
            "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "x"}, "spec": spec,
        });
        let write = Write { manager, force, object };
        if is_update {
            pipeline.update(&write);
        } else {
            pipeline.apply(&write, Again::Anything);
        }
    }
}
