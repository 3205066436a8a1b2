//! Mistakes of a definition, and what its check may still do: each walk over a schema stops where there is no more of either.
//!
//! Guarantees:
//! - no definition makes more work than one may, whatever it says (`a_check_of_a_definition_is_bounded`).

use std::collections::HashMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;

use crate::work::Work;

/// Mistakes that one walk has found.
pub(super) struct Mistakes<'a> {
    found: FieldErrors,
    work: &'a Work,
    /// What is wrong with each pattern: the same one stands in many places.
    patterns: HashMap<String, Option<String>>,
}

impl<'a> Mistakes<'a> {
    pub(super) fn within(work: &'a Work) -> Self {
        Self { found: FieldErrors::default(), work, patterns: HashMap::new() }
    }

    /// Whether one more node is to be looked at.
    pub(super) fn goes_on(&self) -> bool {
        !self.found.is_full() && self.work.step(0)
    }

    pub(super) fn work(&self) -> &'a Work {
        self.work
    }

    pub(super) fn len(&self) -> usize {
        self.found.len()
    }

    pub(super) fn push(&mut self, error: FieldError) {
        self.found.push(error);
    }

    /// What is wrong with a pattern, which is looked at once.
    pub(super) fn of_pattern(
        &mut self,
        pattern: &str,
        look: impl FnOnce(&Work) -> Option<String>,
    ) -> Option<String> {
        if let Some(known) = self.patterns.get(pattern) {
            return known.clone();
        }
        let wrong = look(self.work);
        self.patterns.insert(pattern.to_owned(), wrong.clone());
        wrong
    }

    pub(super) fn into_vec(self) -> Vec<FieldError> {
        self.found.into_vec()
    }
}

impl Extend<FieldError> for Mistakes<'_> {
    fn extend<I: IntoIterator<Item = FieldError>>(&mut self, errors: I) {
        self.found.extend(errors);
    }
}
