//! What is stored is valid: every mistake that a write makes. Where that takes long it is looked for aside, in the object
//! itself: as a tree it is many times its text, and a second one beside it is as large.
//!
//! Guarantees:
//! - a write holds one tree of what it writes, and one of what was there before
//!   (`a_large_definition_is_one_tree_while_it_is_made`).

mod turns;

use std::sync::Arc;

use freewheel_hub_schema::error::{ApiError, FieldError};
use freewheel_hub_schema::metadata;
use serde_json::Value;

use super::{Canonical, ObjectRef, meta};

pub(crate) use turns::Turns;

/// Refuses a new object with every mistake it has.
pub(super) async fn new(
    value: Canonical,
    target: &ObjectRef,
    turns: &Turns,
) -> Result<Canonical, ApiError> {
    if !target.kind.strategy.checks_take_long(&value) {
        return check_new(&value, target).map(|()| value);
    }
    let own = target.clone();
    turns.run(&target.cluster, move || check_new(&value, &own).map(|()| value)).await?
}

fn check_new(value: &Value, target: &ObjectRef) -> Result<(), ApiError> {
    let kind = &target.kind;
    let mut errors = metadata::validate(kind, value, &target.namespace);
    errors.extend(kind.strategy.validate(value));
    errors.extend(kind.strategy.validate_create(value));
    refused(target, value, &errors)
}

/// What is answered to these mistakes.
fn refused(target: &ObjectRef, value: &Value, errors: &[FieldError]) -> Result<(), ApiError> {
    let kind = &target.kind;
    if let Some(not_now) = errors.iter().find(|error| error.is_not_now()) {
        return Err(ApiError::busy(format!("{}: {}", not_now.field, not_now.message)));
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(ApiError::invalid(kind.group(), kind.kind(), meta::text(value, "name"), errors))
}

/// Refuses a change with every mistake it makes; those that were there before are nobody's fault.
pub(super) async fn change(
    subresource: Option<&str>,
    (new, old): (Canonical, &Arc<Canonical>),
    target: &ObjectRef,
    turns: &Turns,
) -> Result<Canonical, ApiError> {
    let strategy = &target.kind.strategy;
    if !strategy.checks_take_long(&new) && !strategy.checks_take_long(old) {
        return check_change(subresource, &new, old, target).map(|()| new);
    }
    let (old, own) = (Arc::clone(old), target.clone());
    let subresource = subresource.map(str::to_owned);
    let check = move || check_change(subresource.as_deref(), &new, &old, &own).map(|()| new);
    turns.run(&target.cluster, check).await?
}

fn check_change(
    subresource: Option<&str>,
    new: &Value,
    old: &Value,
    target: &ObjectRef,
) -> Result<(), ApiError> {
    let kind = &target.kind;
    let compares = kind.strategy.compares();
    let mistakes = |value: &Value| {
        let mut errors = metadata::validate(kind, value, &target.namespace);
        if !compares {
            errors.extend(kind.strategy.validate(value));
        }
        errors
    };
    let mut errors = mistakes(new);
    if !errors.is_empty() {
        // A rule that came after the object keeps nobody from writing its status or letting it go.
        let known = mistakes(old);
        errors.retain(|error| error.is_not_now() || !known.contains(error));
    }
    errors.extend(metadata::validate_update(new, old));
    errors.extend(kind.strategy.validate_update(subresource, new, old));
    refused(target, new, &errors)
}
