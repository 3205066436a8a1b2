//! What is said of types and fields, for `explain`.

use std::collections::HashMap;

use serde_json::Value;

/// Descriptions by OpenAPI name and field; the empty field is the type itself.
#[derive(Debug, Default)]
pub struct Prose {
    texts: HashMap<String, HashMap<String, String>>,
    pattern: String,
}

impl Prose {
    /// Nothing yet. What the type of this OpenAPI name will say of `apiVersion`, `kind` and `metadata`, every kind
    /// says of them that says nothing itself.
    #[must_use]
    pub fn with_pattern(name: &str) -> Self {
        Self { texts: HashMap::new(), pattern: name.to_owned() }
    }

    /// What is said of a type (empty field) or of one of its fields.
    pub(super) fn of(&self, name: &str, field: &str) -> Option<&str> {
        self.texts.get(name)?.get(field).map(String::as_str)
    }

    /// What is said of a field that every kind has.
    pub(super) fn of_every_kind(&self, field: &str) -> Option<&str> {
        self.of(&self.pattern, field)
    }

    /// Says this of a type (empty field) or of one of its fields.
    pub fn insert(&mut self, name: &str, field: &str, text: &str) {
        self.texts.entry(name.to_owned()).or_default().insert(field.to_owned(), text.to_owned());
    }

    /// Takes what a JSON schema says of a type and of its fields.
    pub fn take(&mut self, name: &str, schema: &Value) {
        let text = |value: &Value| Some(value.get("description")?.as_str()?.to_owned());
        if let Some(text) = text(schema) {
            self.insert(name, "", &text);
        }
        let fields = schema.get("properties").and_then(Value::as_object);
        for (field, schema) in fields.into_iter().flatten() {
            if let Some(text) = text(schema) {
                self.insert(name, field, &text);
            }
        }
    }
}
