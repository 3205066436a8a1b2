//! Server-side apply, and other writes, of one object of a built-in kind: `HOW OBJECT HOW OBJECT …`, where the first byte
//! of HOW says who writes and how.

use freewheel_hub_schema::types::Typed;
use serde_json::json;

use crate::choices::Choices;
use crate::pipeline::{Again, Pipeline, Write};
use crate::{object, parts};

/// Writes of one input.
const WRITES_MAX: usize = 6;

/// Each is refused, or made, and then changes nothing when it is made again.
pub(crate) fn run(bytes: &[u8]) {
    let mut inputs = parts::all(bytes);
    let mut writes = Vec::new();
    while let (Some(how), Some(body)) = (inputs.next(), inputs.next()) {
        writes.extend(parts::object(body).map(|object| (how, object)));
    }
    let Some(kind) = writes.iter().find_map(|(_, value)| object::of_value(value)) else { return };
    let typed = Typed::from(&*kind);
    let mut pipeline = Pipeline::of(typed);
    for (how, mut object) in writes.into_iter().take(WRITES_MAX) {
        let mut choices = Choices(how);
        let manager = ["kubectl", "a", "b"][choices.of(3)];
        let (is_update, force) = (choices.once_in(3), choices.once_in(2));
        object["apiVersion"] = json!(typed.api_version());
        object["kind"] = json!(typed.kind);
        if object.get("metadata").is_none_or(|meta| !meta.is_object()) {
            object["metadata"] = json!({"name": "x"});
        }
        let write = Write { manager, force, object };
        if is_update {
            pipeline.update(&write);
        } else {
            pipeline.apply(&write, Again::Nothing);
        }
    }
}
