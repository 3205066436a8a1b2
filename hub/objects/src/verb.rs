//! What a write does, or what is asked for beside writes.

/// As plugins and the log are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// A new object.
    Create,
    /// A change.
    Update,
    /// A removal, or the mark that leads to one.
    Delete,
    /// A way into something, by which nothing is written.
    Connect,
}

impl Verb {
    /// The name in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Connect => "connect",
        }
    }
}
