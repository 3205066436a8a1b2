//! ValidatingAdmissionWebhook: servers that are asked about what is to be kept, all at the same time.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Claims, Plugin, Refusal, Review};
use futures::future::join_all;
use serde_json::Value;

use super::invocation::{Invocation, Sort};
use crate::admission::Admission;
use crate::attributes::Attributes;

pub(crate) struct ValidatingWebhooks(pub(crate) Arc<Admission>);

#[async_trait]
impl Plugin for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        self.0.concerns(review, |config, plural| config.validating_webhooks.has(plural))
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let Some(config) = self.0.index.of(&review.target.cluster) else {
            return Ok(Claims::default());
        };
        let (asked, config) = (Attributes::of(review, object), &*config);
        let mut wanted = Vec::new();
        for hook in config.validating_webhooks.about(review.target.kind.plural()) {
            if let Some((_, seen)) = hook.wants(&self.0, &asked, &config.bounds).await? {
                wanted.push((hook, seen));
            }
        }
        let calls = wanted.iter().enumerate().map(|(at, (hook, seen))| async move {
            let place = format!("round_0_index_{at}");
            let sort = Sort::Validating;
            Invocation { sort, hook, review, seen, place: &place }.run(&self.0.calls).await
        });
        for answer in join_all(calls).await {
            answer?;
        }
        Ok(Claims::default())
    }
}
