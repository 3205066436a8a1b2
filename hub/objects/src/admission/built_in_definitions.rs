//! The definition of a kind that is built in is there to be read: what it says is the hub's, and nothing goes with it.
//!
//! Guarantees:
//! - whoever installs what the hub has, changes or removes it, is told so
//!   (`what_is_built_in_has_definitions_that_stay`).

use async_trait::async_trait;
use freewheel_hub_api::kinds;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::Resource;
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::{Claims, ObjectRef, Verb};

pub(super) struct BuiltInDefinitions;

#[async_trait]
impl Plugin for BuiltInDefinitions {
    fn name(&self) -> &'static str {
        "BuiltInDefinitions"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.stores
            && review.subresource.is_none()
            && review.target.kind.has(Trait::DefinesKinds)
            && !review.actor.is_controller()
            && is_built_in(review.target)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let same = review.old.is_some_and(|old| old.get("spec") == object.get("spec"));
        if review.verb == Verb::Update && same {
            return Ok(Claims::default());
        }
        let name = &review.target.name;
        let why = format!(
            "this hub serves {name} itself: there is nothing to install, and its definition is the hub's own"
        );
        Err(Refusal::forbidden(why))
    }
}

/// Whether its cluster serves what it is about without a definition.
fn is_built_in(definition: &ObjectRef) -> bool {
    let (plural, group) = definition.name.split_once('.').unwrap_or((&definition.name, ""));
    let registry = kinds::registry(&definition.cluster);
    registry
        .by_storage(&Resource::new(group, plural))
        .is_some_and(|kind| kind.has(Trait::HasDefinition))
}
