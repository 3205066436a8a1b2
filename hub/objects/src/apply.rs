//! Apply: what is there is changed, what is not there is made, by one word of its writer.
//!
//! ```text
//! create_or_modify   a controller's word: what it makes of what is there
//! apply              server-side apply: an object with some fields, all of them its applier's
//! ```
//!
//! Guarantees:
//! - whoever is faster, the word counts, and counts once (`what_many_apply_at_once_all_counts`,
//!   `what_goes_while_it_is_applied_is_made_anew`).

use freewheel_hub_schema::error::ApiError;
use serde_json::Value;

use super::owners::{Owners, Writer};
use super::update::{self, Attempt, UPDATE_TRIES_MAX};
use super::{ObjectRef, Objects, Proposal, WriteOptions, Written, create, refusal};

/// What is applied.
#[derive(Clone, Debug)]
pub struct Applied {
    /// The fields that its applier wants, in the form in which it said them.
    pub config: Value,
    /// Take what others own.
    pub force: bool,
    /// Make what is not there.
    pub may_make: bool,
}

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

    /// Lays an object's fields over what is there, or makes it. The actor's manager owns them then, and what it applied
    /// before and leaves out goes, unless somebody else owns that.
    ///
    /// # Errors
    /// 409 where others own what would become another, 500 for what is not of the kind's schema, as kube-apiserver has
    /// it; and as [`Objects::create`] and [`Objects::modify`].
    pub async fn apply(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        subresource: Option<&str>,
        applied: &Applied,
    ) -> Result<Written, ApiError> {
        target.check_is_written()?;
        let writer = Writer { clock: &*self.clock, how, target, subresource };
        let Applied { config, force, may_make } = applied;
        let may_make = *may_make && subresource.is_none();
        for _ in 0..UPDATE_TRIES_MAX {
            if may_make && self.get(target).is_err() {
                let new = Proposal::Any(writer.apply(None, config, *force)?).form(how, target)?;
                match Box::pin(create::create(self, how, target, new, Owners::Said)).await {
                    Err(taken) if taken.reason == "AlreadyExists" => {}
                    outcome => return outcome,
                }
            }
            let owners = Owners::Said;
            let attempt = Attempt { objects: self, how, target, subresource, owners };
            let change = |live: Value| writer.apply(Some(&live), config, *force);
            match Box::pin(update::modify(attempt, change)).await {
                Err(gone) if gone.code == 404 && may_make && self.get(target).is_err() => {}
                outcome => return outcome,
            }
        }
        Err(refusal::modified(target))
    }
}
