//! MutatingAdmissionWebhook: servers that are asked what is to be made of what is written, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Claims, Invoked, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Kind;
use serde_json::{Value, json};
use tracing::warn;

use super::hook::Webhook;
use super::patching::patched;
use super::review::{Asked, denial};
use super::wanted::internal;
use crate::admission::Admission;
use crate::attributes::{Attributes, Shown, converted};
use crate::index::Bounds;
use crate::policy::Seen;

const NAME: &str = "MutatingAdmissionWebhook";
const FAILED_OPEN: &str = "failed-open.mutating.webhook.admission.k8s.io/";
const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";

pub(crate) struct MutatingWebhooks(pub(crate) Arc<Admission>);

#[async_trait]
impl Plugin for MutatingWebhooks {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        self.0.concerns(review, |config, plural| config.mutating_webhooks.has(plural))
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        let mut invoked = review.rounds.of(NAME);
        invoked.begin(review.rounds.is_second(), object);
        let outcome = self.ask_all(review, object, &mut invoked).await;
        invoked.end(object);
        review.rounds.remember(NAME, invoked);
        outcome
    }

    /// Of what goes, nothing is made, but they are asked.
    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        if review.verb == Verb::Delete {
            self.ask_all(review, &mut object.clone(), &mut Invoked::default()).await?;
        }
        Ok(Claims::default())
    }
}

impl MutatingWebhooks {
    async fn ask_all(
        &self,
        review: &Review<'_>,
        object: &mut Value,
        invoked: &mut Invoked,
    ) -> Result<(), Refusal> {
        let Some(config) = self.0.index.of(&review.target.cluster) else { return Ok(()) };
        let is_second = review.rounds.is_second();
        let hooks = config.mutating_webhooks.about(review.target.kind.plural());
        for (at, hook) in hooks.into_iter().enumerate() {
            let wanted = {
                let asked = Attributes::of(review, object);
                hook.wants(&self.0, &asked, &config.bounds).await?
            };
            let Some((version, seen)) = wanted else { continue };
            if !invoked.is_due(is_second, &hook.id()) {
                continue;
            }
            let place = format!("round_{}_index_{at}", u8::from(is_second));
            let changed =
                self.ask((review, &config.bounds), hook, (&version, &seen, &place)).await?;
            if let Some(new) = changed {
                *object = converted(&new, &version, &review.target.kind);
                invoked.changed();
                review.rounds.ask_again();
            }
            if hook.reinvoked {
                invoked.asked(&hook.id());
            }
        }
        Ok(())
    }

    /// What one makes of an object, where that is another.
    async fn ask(
        &self,
        (review, bounds): (&Review<'_>, &Bounds),
        hook: &Webhook,
        (version, seen, place): (&Arc<Kind>, &Seen, &str),
    ) -> Result<Option<Value>, Refusal> {
        let answer = async {
            let mut asked = Asked::of(hook, seen)?;
            let body = std::mem::take(&mut asked.body);
            asked.read(&self.0.calls.ask(hook, (review, bounds), body).await?, true)
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
                review.annotate(format!("{FAILED_OPEN}{place}"), hook.name.clone());
                return Ok(None);
            }
        };
        for (key, value) in answer.annotations {
            review.annotate(format!("{}/{key}", hook.name), value);
        }
        answer.warnings.into_iter().for_each(|text| review.warn(text));
        if !answer.allowed {
            return Err(Refusal::Status(Box::new(denial(&hook.name, &answer.status))));
        }
        let new = match answer.patch {
            Some(patch) => after(review, hook, (version, seen), &patch)?,
            None => None,
        };
        let mut said = json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": new.is_some()});
        review.annotate(format!("{MUTATION}{place}"), said.to_string());
        if new.is_some() {
            said["patchType"] = json!("JSONPatch");
            if let Some(map) = said.as_object_mut() {
                map.remove("mutated");
            }
            review.annotate(format!("{PATCH}{place}"), said.to_string());
        }
        Ok(new)
    }
}

/// What an object is after a patch, where that is another.
fn after(
    review: &Review<'_>,
    hook: &Webhook,
    (version, seen): (&Arc<Kind>, &Seen),
    patch: &[u8],
) -> Result<Option<Value>, Refusal> {
    let operations: Value = serde_json::from_slice(patch).map_err(|error| {
        internal(hook.failed(&format!("received undecodable patch in webhook response: {error}")))
    })?;
    if operations.as_array().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    // What goes, and what a door makes of an object, is not the object.
    if seen.object.is_null() || Shown::by(review.subresource) != Shown::Object {
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        )));
    }
    let new = patched(&seen.object, operations, version).map_err(internal)?;
    Ok((new != *seen.object).then_some(new))
}
