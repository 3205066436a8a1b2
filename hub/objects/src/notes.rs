//! What is said beside the outcome of a write, to its writer and to the audit: also of a write that is refused.
//!
//! Guarantees:
//! - however much plugins have to say, it is bounded (`what_is_said_is_bounded`).

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Warnings and annotations of one write, each.
const EACH_MAX: usize = 64;
/// Bytes of one. A header holds less than it.
const BYTES_MAX: usize = 10 << 10;

/// What is said of a write.
#[derive(Debug, Default)]
pub struct Notes(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

impl Notes {
    /// To its writer, once.
    pub fn warn(&self, text: impl Into<String>) {
        let (mut said, text) = (self.0.lock(), shortened(text.into()));
        if said.warnings.len() < EACH_MAX && !said.warnings.contains(&text) {
            said.warnings.push(text);
        }
    }

    /// To the audit. What was said under a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let mut said = self.0.lock();
        if said.annotations.len() < EACH_MAX {
            said.annotations.entry(key.into()).or_insert_with(|| shortened(value.into()));
        }
    }

    /// Texts for `Warning:` headers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().warnings.clone()
    }

    /// Annotations of the audit event.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.lock().annotations.clone()
    }
}

fn shortened(mut text: String) -> String {
    let end = text.floor_char_boundary(BYTES_MAX);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_bounded() {
        let notes = Notes::default();
        for n in 0..1_000 {
            notes.warn(n.to_string());
            notes.annotate(n.to_string(), "\u{e9}".repeat(BYTES_MAX));
        }
        notes.warn("0");
        notes.annotate("0", "other");
        assert_eq!(notes.warnings().len(), EACH_MAX);
        assert_eq!(notes.annotations().len(), EACH_MAX);
        assert_eq!(notes.annotations()["0"].len(), BYTES_MAX);
    }
}
