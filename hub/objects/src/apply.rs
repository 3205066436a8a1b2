//! Apply: what is there is changed, what is not there is made, by one word of its writer.
//!
//! Guarantees:
//! - whoever is faster, the word counts, and counts once (`what_many_apply_at_once_all_counts`,
//!   `what_goes_while_it_is_applied_is_made_anew`).

use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use super::update::UPDATE_TRIES_MAX;
use super::{ObjectRef, Objects, WriteOptions, Written, refusal};

impl Objects {
    /// Makes what is there, or nothing, into what `change` says; again when somebody was faster. `change` may run
    /// several times. The object has to have a name.
    ///
    /// # Errors
    /// What `change` answers, and as [`Objects::create`] and [`Objects::modify`].
    pub async fn create_or_modify<F>(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        change: F,
    ) -> Result<Written, ApiError>
    where
        F: Fn(Option<Value>) -> Result<Value, ApiError> + Send + Sync,
    {
        for _ in 0..UPDATE_TRIES_MAX {
            if self.get(target).is_err() {
                match self.create(how, target, change(None)?).await {
                    Err(taken) if taken.reason == "AlreadyExists" => {}
                    outcome => return outcome,
                }
            }
            match self.modify(how, target, None, |old| change(Some(old))).await {
                Err(gone) if gone.code == 404 && self.get(target).is_err() => {}
                outcome => return outcome,
            }
        }
        Err(refusal::modified(target))
    }
}
