//! New custom resources need a definition that is there and stays: what comes while it goes would be left behind.

use async_trait::async_trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Expect;
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::Claims;

pub(super) struct DefinitionLifecycle;

#[async_trait]
impl Plugin for DefinitionLifecycle {
    fn name(&self) -> &'static str {
        "DefinitionLifecycle"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.form().is_some()
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, _: &Value) -> Result<Claims, Refusal> {
        let target = review.target;
        let definitions = Resource::new("apiextensions.k8s.io", "customresourcedefinitions");
        // Both are called by plural and group.
        let name = target.kind.storage().as_str();
        let key = Key::new(&definitions, &target.cluster, "", name);
        let found = review.state().get(&key).filter(|found| !found.object.header.deleting);
        let Some(found) = found else {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Refusal::forbidden(why));
        };
        let mut claims = Claims::default();
        // It begins to go by a write: whoever is faster goes first.
        claims.expect(Expect::Revision(key, found.revision));
        Ok(claims)
    }
}
