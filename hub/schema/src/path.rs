//! Where a walk over a value is: steps on the stack of the walk, which are text only when somebody is told.
//!
//! Guarantees:
//! - what is told of a path is short, however long its names are (`a_path_is_told_in_short`).

use std::fmt::{self, Display, Write as _};

use crate::truncated_text::TruncatedText;

/// Where a walk is.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

/// How it came there.
#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    /// It begins here.
    Root(&'a str),
    /// `.name`, and `name` where nothing stands before it.
    Field(&'a str),
    /// `.name`, whatever stands before it.
    Dotted(&'a str),
    /// `[name]`
    Key(&'a str),
    /// `[0]`
    Index(usize),
    /// `.labels[name]`
    Entry(&'a str, &'a str),
    /// `.ports[0]`
    Item(&'a str, usize),
}

impl<'a> Path<'a> {
    /// It begins under this path, which may be empty.
    #[must_use]
    pub const fn root(text: &'a str) -> Self {
        Self { parent: None, step: Step::Root(text) }
    }

    /// A field: `spec.name`, and `name` at an empty root.
    #[must_use]
    pub const fn field(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Field(name) }
    }

    /// A field with its dot, also at an empty root.
    #[must_use]
    pub const fn dotted(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Dotted(name) }
    }

    /// A key of a map: `labels[name]`.
    #[must_use]
    pub const fn key(&'a self, name: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Key(name) }
    }

    /// An element of a list: `ports[0]`.
    #[must_use]
    pub const fn index(&'a self, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Index(index) }
    }

    /// A key of a map that is a field: `labels[name]`.
    #[must_use]
    pub const fn entry(&'a self, field: &'a str, key: &'a str) -> Self {
        Self { parent: Some(self), step: Step::Entry(field, key) }
    }

    /// An element of a list that is a field: `ports[0]`.
    #[must_use]
    pub const fn item(&'a self, field: &'a str, index: usize) -> Self {
        Self { parent: Some(self), step: Step::Item(field, index) }
    }

    /// Whether it is an empty root.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self.step, Step::Root(text) if text.is_empty())
    }

    /// As it is told: as a whole, or its beginning and how long it is.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = TruncatedText::default();
        // It takes whatever is written to it.
        let _ = write!(text, "{self}");
        text.end()
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let dot = if self.parent.is_some_and(Path::is_empty) { "" } else { "." };
        match self.step {
            Step::Root(text) => f.write_str(text),
            Step::Field(name) => write!(f, "{dot}{name}"),
            Step::Dotted(name) => write!(f, ".{name}"),
            Step::Key(name) => write!(f, "[{name}]"),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Entry(field, key) => write!(f, "{dot}{field}[{key}]"),
            Step::Item(field, index) => write!(f, "{dot}{field}[{index}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(path: Path<'_>) -> Self {
        path.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::truncated_text::REPEATED_BYTES_MAX;

    #[test]
    fn a_path_is_its_steps() {
        let (empty, spec) = (Path::root(""), Path::root("spec"));
        let ports = spec.field("ports");
        let port = ports.index(3);
        assert_eq!(port.field("name").text(), "spec.ports[3].name");
        assert_eq!(spec.key("a.b").text(), "spec[a.b]");
        assert_eq!(spec.entry("labels", "a.b").text(), "spec.labels[a.b]");
        assert_eq!(empty.item("ports", 3).text(), "ports[3]");
        assert_eq!((empty.field("a").text(), empty.dotted("a").text()), ("a".into(), ".a".into()));
        assert!(empty.is_empty() && !spec.is_empty());
    }

    #[test]
    fn a_path_is_told_in_short() {
        let (long, root) = ("ä".repeat(700_000), Path::root("spec"));
        let inside = root.field(&long);
        let told = inside.index(7).text();
        assert!(told.len() < REPEATED_BYTES_MAX + 32, "{}", told.len());
        assert!(told.starts_with("spec.ää") && told.ends_with("ä… (1400008 bytes)"), "{told}");
    }
}
