//! What is read of FlowSchemas, once per version.

use std::sync::Arc;

use freewheel_hub_store::Stored;
use serde_json::Value;

use super::IndexTerm;
use super::entry::Entry;

/// A FlowSchema, which is found by the level that it names.
#[derive(Debug)]
pub struct SchemaEntry {
    /// The stored object.
    pub stored: Arc<Stored>,
    level: String,
}

/// The level that a schema names.
pub(crate) fn level_of(schema: &Value) -> &str {
    let name = schema.pointer("/spec/priorityLevelConfiguration/name");
    name.and_then(Value::as_str).unwrap_or_default()
}

impl Entry for SchemaEntry {
    fn read(stored: Arc<Stored>) -> Self {
        let level = level_of(&stored.object.value().unwrap_or_default()).to_owned();
        Self { stored, level }
    }

    fn stored(&self) -> &Arc<Stored> {
        &self.stored
    }

    fn terms<'a>(&'a self, name: &mut dyn FnMut(IndexTerm<'a>)) {
        name(IndexTerm::Level(&self.stored.key.cluster, &self.level));
    }
}
