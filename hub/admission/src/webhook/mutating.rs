//! MutatingAdmissionWebhook: servers that are asked what is to be made of what is written, one after the other.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Claims, Invoked, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Kind;
use serde_json::{Value, json};

use super::hook::Webhook;
use super::invocation::{Invocation, Sort};
use super::patching::patched;
use super::wanted::internal;
use crate::admission::Admission;
use crate::attributes::{Attributes, Shown, converted};
use crate::policy::Form;

const NAME: &str = "MutatingAdmissionWebhook";
const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const PATCH: &str = "patch.webhook.admission.k8s.io/";
/// Bytes of a patch with who made it that the audit is told.
const PATCH_BYTES_MAX: usize = 10 << 10;

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
            let (sort, place) = (Sort::Mutating, &*place);
            let call = Invocation { sort, hook, review, seen: &seen, place };
            let changed = self.ask(&call, &version).await?;
            if let Some(new) = changed {
                let own = converted(&new, &version, &review.target.kind).await;
                *object = own.map_err(|error| Refusal::Status(Box::new(error)))?;
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
        call: &Invocation<'_>,
        version: &Arc<Kind>,
    ) -> Result<Option<Value>, Refusal> {
        let Some(answer) = call.run(&self.0.calls).await? else { return Ok(None) };
        let patch =
            answer.patch.as_deref().map(|patch| operations(call.hook, patch)).transpose()?;
        let patch = patch.filter(|patch| !patch.as_array().is_some_and(Vec::is_empty));
        let new = match &patch {
            Some(patch) => after(call, version, patch.clone())?,
            None => None,
        };
        tell(call, patch.filter(|_| new.is_some()));
        Ok(new)
    }
}

/// Tells the audit whether somebody has changed an object, and where it is told of bodies by what.
fn tell(call: &Invocation<'_>, patch: Option<Value>) {
    let Invocation { hook, review, place, .. } = call;
    let mut annotation = json!({"configuration": hook.configuration, "webhook": hook.name});
    let by = annotation.clone();
    annotation["mutated"] = json!(patch.is_some());
    review.annotate(format!("{MUTATION}{place}"), annotation.to_string());
    if let Some(patch) = patch {
        let mut annotation = by;
        annotation["patchType"] = json!("JSONPatch");
        let short = annotation.to_string();
        annotation["patch"] = patch;
        let whole = annotation.to_string();
        let shown = if whole.len() <= PATCH_BYTES_MAX { whole } else { short };
        review.annotate_body(format!("{PATCH}{place}"), shown);
    }
}

fn operations(hook: &Webhook, patch: &[u8]) -> Result<Value, Refusal> {
    serde_json::from_slice(patch).map_err(|error| {
        internal(hook.failed(&format!("received undecodable patch in webhook response: {error}")))
    })
}

/// What an object is after a patch, where that is another.
fn after(
    call: &Invocation<'_>,
    version: &Arc<Kind>,
    operations: Value,
) -> Result<Option<Value>, Refusal> {
    let (seen, shown) = (call.seen, Shown::of(call.review));
    // What goes, and what a door makes of an object, is not the object.
    if seen.object.is_null() || shown == Shown::Scale {
        return Err(internal(format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            call.hook.name
        )));
    }
    let form = Form::of(shown, &seen.object, version);
    let new = patched(&seen.object, operations, &form).map_err(internal)?;
    Ok((new != *seen.object).then_some(new))
}
