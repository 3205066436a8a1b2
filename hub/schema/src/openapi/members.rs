//! Members of a JSON object, each as text from when it is made: a tree of values is many times as large.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Members by name.
#[derive(Default)]
pub(super) struct Members(BTreeMap<String, Box<str>>);

impl Members {
    /// One more, in place of what has its name.
    pub(super) fn put(&mut self, name: String, value: &Value) {
        self.0.insert(name, value.to_string().into());
    }

    /// Writes them behind what is written of the object already, from `start` on; their names.
    pub(super) fn write(self, start: usize, text: &mut String) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        // With two quotes, a colon and a comma.
        text.reserve(self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        for (name, value) in self.0 {
            if start < text.len() {
                text.push(',');
            }
            text.push_str(&Value::from(name.as_str()).to_string());
            text.push(':');
            text.push_str(&value);
            names.insert(name);
        }
        names
    }
}
