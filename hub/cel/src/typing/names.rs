//! What an expression may speak of.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::value_type::Type;

/// What an expression may speak of, by name; `a.b` is one as well.
#[derive(Clone, Debug, Default)]
pub struct Names<'a>(BTreeMap<Arc<str>, Type<'a>>);

impl<'a> Names<'a> {
    /// One more.
    #[must_use]
    pub fn with(mut self, name: &str, of: Type<'a>) -> Self {
        self.put(name.into(), of);
        self
    }

    /// One more, or the same for something else.
    pub fn put(&mut self, name: Arc<str>, of: Type<'a>) {
        self.0.insert(name, of);
    }

    pub(super) fn find(&self, name: &str) -> Option<&Type<'a>> {
        self.0.get(name)
    }
}
