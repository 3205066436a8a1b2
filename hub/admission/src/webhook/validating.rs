//! ValidatingAdmissionWebhook: servers that are asked about what is to be kept, all at the same time.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Claims, Plugin, Refusal, Review};
use futures::future::join_all;
use serde_json::Value;
use tracing::warn;

use super::hook::Webhook;
use super::review::{Asked, denial};
use super::wanted::internal;
use crate::admission::Admission;
use crate::attributes::Attributes;
use crate::index::Bounds;
use crate::policy::Seen;

const FAILED_OPEN: &str = "failed-open.validating.webhook.admission.k8s.io/";

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
        let asked = Attributes::of(review, object);
        let mut wanted = Vec::new();
        for hook in config.validating_webhooks.about(review.target.kind.plural()) {
            if let Some((_, seen)) = hook.wants(&self.0, &asked, &config.bounds).await? {
                wanted.push((hook, seen));
            }
        }
        let calls = wanted
            .iter()
            .enumerate()
            .map(|(at, (hook, seen))| self.ask((review, &config.bounds), hook, (at, seen)));
        for answer in join_all(calls).await {
            answer?;
        }
        Ok(Claims::default())
    }
}

impl ValidatingWebhooks {
    async fn ask(
        &self,
        (review, bounds): (&Review<'_>, &Bounds),
        hook: &Webhook,
        (at, seen): (usize, &Seen),
    ) -> Result<(), Refusal> {
        let answer = async {
            let mut asked = Asked::of(hook, seen)?;
            let body = std::mem::take(&mut asked.body);
            asked.read(&self.0.calls.ask(hook, (review, bounds), body).await?, false)
        };
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(why) if hook.fails => return Err(internal(hook.failed(&why))),
            Err(why) => {
                warn!(
                    webhook = hook.name,
                    error = why,
                    "a webhook does not answer, and may be passed over"
                );
                review.annotate(format!("{FAILED_OPEN}round_0_index_{at}"), hook.name.clone());
                return Ok(());
            }
        };
        for (key, value) in answer.annotations {
            review.annotate(format!("{}/{key}", hook.name), value);
        }
        answer.warnings.into_iter().for_each(|text| review.warn(text));
        if answer.allowed {
            return Ok(());
        }
        Err(Refusal::Status(Box::new(denial(&hook.name, &answer.status))))
    }
}
