//! What a value was before a change, as far as parts of both can be told to be the same.
//!
//! ```text
//! field of an object    the one of the same name
//! element of a list     of type map: the one with the same keys; of any other: none
//! ```

use std::collections::HashMap;

use serde_json::Value;

use crate::schema::{List, Schema};

/// What a part of an object was before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Before<'a>(Option<&'a Value>);

/// The same of a list whose elements are told apart.
#[derive(Debug, Default)]
pub struct ListBefore<'a> {
    keys: Option<&'a [Box<str>]>,
    elements: HashMap<String, &'a Value>,
}

impl<'a> Before<'a> {
    /// It is new.
    #[must_use]
    pub const fn nothing() -> Self {
        Self(None)
    }

    /// It was this.
    #[must_use]
    pub const fn of(old: &'a Value) -> Self {
        Self(Some(old))
    }

    /// What it was.
    #[must_use]
    pub const fn value(self) -> Option<&'a Value> {
        self.0
    }

    /// Whether it was the same.
    #[must_use]
    pub fn is(self, new: &Value) -> bool {
        self.0 == Some(new)
    }

    /// One of its fields.
    #[must_use]
    pub fn field(self, name: &str) -> Self {
        Self(self.0.and_then(|old| old.get(name)))
    }

    /// Its elements.
    #[must_use]
    pub fn list<'b>(self, schema: &'b Schema) -> ListBefore<'b>
    where
        'a: 'b,
    {
        let (List::Map(keys), Some(Value::Array(old))) = (&schema.list, self.0) else {
            return ListBefore::default();
        };
        let elements = old.iter().map(|element| (key_of(keys, element), element)).collect();
        ListBefore { keys: Some(keys), elements }
    }
}

impl<'a> ListBefore<'a> {
    /// What an element was.
    #[must_use]
    pub fn element(&self, element: &Value) -> Before<'a> {
        let Some(keys) = self.keys else { return Before::nothing() };
        Before(self.elements.get(&key_of(keys, element)).copied())
    }
}

fn key_of(keys: &[Box<str>], element: &Value) -> String {
    let values = keys.iter().map(|key| element.get(&**key).unwrap_or(&Value::Null).to_string());
    values.collect::<Vec<_>>().join("\u{0}")
}
