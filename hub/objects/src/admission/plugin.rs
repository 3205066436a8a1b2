//! Who has a say in writes.

use async_trait::async_trait;
use serde_json::Value;

use super::refusal::Refusal;
use super::review::Review;
use crate::{Claims, ObjectRef};

/// Has a say in writes.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// What it is known by, for the log.
    fn name(&self) -> &'static str;

    /// Whether it has a say in this one. It is not asked any more about others.
    fn handles(&self, review: &Review<'_>) -> bool;

    /// Whether what it makes of a canonical object is canonical. Nobody is taken at a word that was not given.
    fn keeps_form(&self) -> bool {
        false
    }

    /// Changes what is asked for, before its kind looks at it. Not asked about a delete.
    async fn mutate(&self, _review: &Review<'_>, _object: &mut Value) -> Result<(), Refusal> {
        Ok(())
    }

    /// Looks at the object as it is to be, or of a delete as it is. Answers what has to hold, and what is to be
    /// written, where it is.
    async fn validate(&self, _review: &Review<'_>, _object: &Value) -> Result<Claims, Refusal> {
        Ok(Claims::default())
    }

    /// What is given back when the object is gone.
    fn release(&self, _place: &ObjectRef, _gone: &Value) -> Claims {
        Claims::default()
    }
}
