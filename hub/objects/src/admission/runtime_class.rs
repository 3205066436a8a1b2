//! RuntimeClass: there are none here, and whoever names one is told so at once.

use async_trait::async_trait;
use freewheel_hub_schema::kind::Trait;
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;

pub(super) struct RuntimeClass;

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.creates() && review.target.kind.has(Trait::RunsOnNodes)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn mutate(&self, _: &Review<'_>, pod: &mut Value) -> Result<(), Refusal> {
        match pod.pointer("/spec/runtimeClassName").and_then(Value::as_str) {
            Some(name) => {
                Err(Refusal::forbidden(format!("pod rejected: RuntimeClass {name:?} not found")))
            }
            None => Ok(()),
        }
    }
}
