//! Actions: what is asked of an object, by a door of its own, and is not stored as an object: a connection to a pod, an
//! eviction, a binding, a request for a token.
//!
//! Guarantees:
//! - who has a say in writes has one in actions, of which each shows what was asked for
//!   (`who_has_a_say_in_writes_has_one_in_actions`);
//! - no action begins in a namespace that goes (`nothing_is_asked_for_in_a_namespace_that_goes`).

use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use super::{ObjectRef, Objects, Review, Verb, WriteOptions};

/// An action, before it is done.
#[derive(Clone, Debug)]
pub struct Action<'a> {
    /// `Create` for what is posted, `Connect` for a way in.
    pub verb: Verb,
    /// The door; `None` for what is posted to a collection that holds nothing.
    pub subresource: Option<&'a str>,
    /// What is asked for, with its own apiVersion and kind.
    pub object: Value,
}

impl Objects {
    /// What those who have a say make of an action on this object, which need not be there. `check` looks at it after
    /// those who may change it, and before those who may only refuse it.
    ///
    /// # Errors
    /// What they, or `check`, say against it.
    pub async fn admit<F>(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        action: Action<'_>,
        check: F,
    ) -> Result<Value, ApiError>
    where
        F: FnOnce(Value) -> Result<Value, ApiError> + Send,
    {
        let Action { verb, subresource, object } = action;
        let review = Review { subresource, stores: false, ..self.review(how, verb, target) };
        Box::pin(self.admission.admit(&review, object, check)).await
    }
}
