//! What came of a work's manifests.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_objects::ObjectRef;
use freewheel_hub_store::Stored;
use serde_json::Value;

/// What came of one manifest.
pub(super) struct OneResult {
    /// `resourceMeta`
    pub meta: Value,
    /// Which resource it is; nothing, when its kind is not served.
    pub target: Option<ObjectRef>,
    /// The object, if it is there, or why it could not be applied.
    pub outcome: Result<Option<Arc<Stored>>, String>,
    /// It goes with the work.
    pub owned: bool,
}

/// What came of all of them, in the order in which the work has them.
pub(super) struct Outcome {
    pub results: Vec<OneResult>,
    pub look_again: Option<Duration>,
}

/// Whether two `resourceMeta` are of one resource, wherever the work has it.
pub(super) fn same_resource(a: &Value, b: &Value) -> bool {
    ["group", "version", "kind", "namespace", "name"].iter().all(|field| {
        let text = |it: &Value| it[*field].as_str().unwrap_or_default().to_owned();
        text(a) == text(b)
    })
}
