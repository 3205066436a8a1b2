//! What a value is to be: its kind by name, and what is known of it.

use super::facts::TypeFacts;
use crate::kind::Form;

/// What a value is to be: its kind by name, and what is known of it.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// API group, empty for core.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Kind.
    pub kind: &'a str,
    /// Nothing for a kind without a schema: it is free beside its metadata.
    pub facts: Option<TypeFacts<'a>>,
    /// The form that came with the kind, which then says what its objects are.
    pub form: Option<&'a dyn Form>,
}

impl Typed<'_> {
    /// `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        let Self { group, version, .. } = self;
        if group.is_empty() { (*version).to_owned() } else { format!("{group}/{version}") }
    }
}

/// Group, version and kind, as the committed table knows them.
impl<'a> From<(&'a str, &'a str, &'a str)> for Typed<'a> {
    fn from((group, version, kind): (&'a str, &'a str, &'a str)) -> Self {
        Self { group, version, kind, facts: TypeFacts::find(group, version, kind), form: None }
    }
}
