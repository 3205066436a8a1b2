//! Mistakes as they are found: no more of them are kept, and no more of each, than anybody is told.
//!
//! Guarantees:
//! - however many mistakes somebody makes, and however long, they take a few megabytes at most
//!   (`mistakes_are_kept_in_short_and_not_endlessly`).

use crate::error::FieldError;

/// Mistakes that are kept: more than an answer tells ([`crate::error::MAX_CAUSES`]), which says how many more there are.
const MISTAKES_MAX: usize = 1_000;

/// Mistakes of one object.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Whether no more are kept, so that nobody need look for them.
    #[must_use]
    pub fn is_full(&self) -> bool {
        MISTAKES_MAX <= self.0.len()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more.
    pub fn push(&mut self, error: FieldError) {
        self.push_with(|| error);
    }

    /// One more, which is made where there is room for it.
    pub fn push_with(&mut self, make: impl FnOnce() -> FieldError) {
        if !self.is_full() {
            self.0.push(make().in_short());
        }
    }

    /// All of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    /// They are all there is.
    #[must_use]
    pub fn as_slice(&self) -> &[FieldError] {
        &self.0
    }
}

impl Extend<FieldError> for FieldErrors {
    fn extend<I: IntoIterator<Item = FieldError>>(&mut self, errors: I) {
        for error in errors {
            if self.is_full() {
                return;
            }
            self.push(error);
        }
    }
}

impl IntoIterator for FieldErrors {
    type Item = FieldError;
    type IntoIter = std::vec::IntoIter<FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ApiError;

    #[test]
    fn mistakes_are_kept_in_short_and_not_endlessly() {
        let mut errors = FieldErrors::default();
        let long = "x".repeat(100_000);
        let error = || FieldError::invalid(&*long, &json!(long), &long);
        errors.extend(std::iter::repeat_with(error).take(1_500));
        let mut made = 0;
        errors.push_with(|| {
            made += 1;
            error()
        });
        assert!(errors.is_full() && made == 0);
        let bytes: usize = errors.0.iter().map(|e| e.field.len() + e.message.len()).sum();
        assert!(bytes < 4 << 20, "{bytes}");
        // The answer is the one that the whole of them would have had.
        let whole: Vec<FieldError> = std::iter::repeat_with(error).take(MISTAKES_MAX).collect();
        let told = |errors: &[FieldError]| ApiError::invalid("", "Pod", "p", errors);
        assert_eq!(told(&errors.into_vec()), told(&whole));
    }
}
