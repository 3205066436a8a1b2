//! A subresource as discovery lists it.

use crate::gvk::Text;

/// Verbs of a subresource that is read and written.
pub const READ_WRITE: &[&str] = &["get", "patch", "update"];

/// A subresource as discovery lists it.
#[derive(Clone, Debug)]
pub struct Subresource {
    /// `status`
    pub name: Text,
    /// Kind of its body: `Scale` for `scale`.
    pub kind: Text,
    /// Group and version of its body where they differ from the parent's.
    pub group_version: Option<(Text, Text)>,
    /// Verbs, sorted.
    pub verbs: &'static [&'static str],
}
