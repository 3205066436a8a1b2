//! What is said beside the outcome of a write, to its writer and to the audit: also of a write that is refused.
//!
//! Guarantees:
//! - however much plugins have to say, it is bounded (`what_is_said_is_bounded`).

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Warnings and annotations of one write, each.
const EACH_MAX: usize = 64;
/// Bytes of one. A header holds less than it.
const NOTE_BYTES_MAX: usize = 10 << 10;

/// What is said of a write.
#[derive(Debug, Default)]
pub struct Notes(Mutex<NoteList>);

#[derive(Debug, Default)]
struct NoteList {
    warnings: Vec<String>,
    annotations: BTreeMap<String, Annotation>,
}

#[derive(Debug)]
struct Annotation {
    text: String,
    /// It may repeat what is in the object.
    is_body: bool,
}

impl Notes {
    /// To its writer, once.
    pub fn warn(&self, text: impl Into<String>) {
        let (mut notes, text) = (self.0.lock(), shortened(text.into()));
        if notes.warnings.len() < EACH_MAX && !notes.warnings.contains(&text) {
            notes.warnings.push(text);
        }
    }

    /// To the audit. What was said under a key stays.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.put(shortened(key.into()), value.into(), false);
    }

    /// The same, where the audit is told of bodies alone: this may repeat what is in one.
    pub fn annotate_body(&self, key: impl Into<String>, value: impl Into<String>) {
        self.put(shortened(key.into()), value.into(), true);
    }

    fn put(&self, key: String, text: String, is_body: bool) {
        let mut notes = self.0.lock();
        if notes.annotations.len() < EACH_MAX {
            let annotation = || Annotation { text: shortened(text), is_body };
            notes.annotations.entry(key).or_insert_with(annotation);
        }
    }

    /// Texts for `Warning:` headers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.lock().warnings.clone()
    }

    /// Annotations of the audit event, with those that are told with bodies alone, or without.
    #[must_use]
    pub fn annotations(&self, with_bodies: bool) -> BTreeMap<String, String> {
        let notes = self.0.lock();
        let shown = notes.annotations.iter().filter(|(_, one)| with_bodies || !one.is_body);
        shown.map(|(key, one)| (key.clone(), one.text.clone())).collect()
    }
}

fn shortened(mut text: String) -> String {
    let end = text.floor_char_boundary(NOTE_BYTES_MAX);
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
            notes.annotate(n.to_string(), "\u{e9}".repeat(NOTE_BYTES_MAX));
        }
        notes.warn("0");
        notes.annotate("0", "other");
        assert_eq!(notes.warnings().len(), EACH_MAX);
        assert_eq!(notes.annotations(true).len(), EACH_MAX);
        assert_eq!(notes.annotations(true)["0"].len(), NOTE_BYTES_MAX);
    }
}
