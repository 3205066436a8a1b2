//! One version of a custom resource: its schema, as text until somebody asks.
//!
//! Guarantees:
//! - a version that nobody uses costs its text (`a_schema_is_read_when_it_is_asked`).

use std::sync::{Arc, OnceLock};

use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::Form;
use freewheel_hub_schema::types::{self, TypeFacts};
use serde_json::{Value, json};

use crate::schema::Schema;
use crate::{component, defaults, embedded, prune};

/// Bytes of a schema of which an object may ask much, however small it is.
const LARGE_BYTES: usize = 256 << 10;

/// One version.
#[derive(Debug)]
pub struct Version {
    gvk: Gvk,
    text: Box<str>,
    tree: OnceLock<Schema>,
    facts: OnceLock<Option<types::Schema>>,
}

impl Version {
    /// Of this schema, the `openAPIV3Schema` of a definition; without one, whatever comes is kept.
    #[must_use]
    pub fn new(gvk: Gvk, schema: Option<&Value>) -> Self {
        let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        let text = schema.unwrap_or(&open).to_string().into();
        Self { gvk, text, tree: OnceLock::new(), facts: OnceLock::new() }
    }

    /// Its schema.
    #[must_use]
    pub fn schema(&self) -> &Schema {
        self.tree.get_or_init(|| Schema::read(&self.json()))
    }

    /// Whether it says much.
    pub(crate) fn is_large(&self) -> bool {
        LARGE_BYTES < self.text.len()
    }

    /// `example.com/v1`
    #[must_use]
    pub fn api_version(&self) -> String {
        format!("{}/{}", self.gvk.group, self.gvk.version)
    }

    fn json(&self) -> Value {
        // Our own text, so it parses.
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// What the walks ask a version.
#[derive(Debug)]
pub(crate) struct FormOf(pub(crate) Arc<Version>);

impl Form for FormOf {
    fn prune(&self, object: &mut Value) -> Result<Vec<String>, String> {
        let schema = self.0.schema();
        let mut unknown = embedded::coerce(schema, object)?;
        unknown.extend(prune::prune(schema, object));
        unknown.sort();
        prune::drop_nulls(schema, object);
        Ok(unknown)
    }

    fn default(&self, object: &mut Value) -> Result<(), String> {
        defaults::fill_in(self.0.schema(), object)
    }

    fn facts(&self) -> Option<TypeFacts<'_>> {
        let read = || types::Schema::structural(&self.0.gvk, &self.0.json()).ok();
        self.0.facts.get_or_init(read).as_ref().map(types::Schema::facts)
    }

    fn component(&self) -> Value {
        component::of(self.0.json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_read_when_it_is_asked() {
        let schema =
            json!({"type": "object", "properties": {"a": {"type": "string", "default": "x"}}});
        let gvk = Gvk::new("example.com", "v1", "Widget");
        let version = Arc::new(Version::new(gvk, Some(&schema)));
        let form = FormOf(version.clone());
        assert!(version.tree.get().is_none() && version.facts.get().is_none());
        let mut object = json!({"a": null, "b": 1});
        assert_eq!(form.prune(&mut object).unwrap(), ["b"]);
        form.default(&mut object).unwrap();
        assert_eq!(object, json!({"a": "x"}));
        assert!(version.tree.get().is_some() && form.facts().is_some());
    }
}
