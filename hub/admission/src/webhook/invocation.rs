//! One webhook is asked about one write. What it says beside its answer is passed on; who cannot be asked refuses, or is
//! passed over.
//!
//! Guarantees:
//! - who is refused because nobody answers is told by which configuration that is, and how to take it out of the way
//!   (`a_webhook_that_cannot_be_asked_refuses_or_not`).

use freewheel_hub_objects::{Refusal, Review};
use freewheel_hub_schema::error::{ApiError, Cause, Details};
use tracing::warn;

use super::calls::{Calls, NoAnswer};
use super::hook::Webhook;
use super::review::{Answer, Asked, denial};
use crate::policy::Seen;

/// The cause of a refusal that tells whom nobody has answered for.
pub const UNANSWERED: &str = "AdmissionWebhookUnanswered";

/// Which of the two a webhook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Mutating,
    Validating,
}

impl Sort {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Validating => "validating",
        }
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingWebhookConfiguration",
            Self::Validating => "ValidatingWebhookConfiguration",
        }
    }
}

/// One webhook, about one write.
pub(super) struct Invocation<'a> {
    pub(super) sort: Sort,
    pub(super) hook: &'a Webhook,
    pub(super) review: &'a Review<'a>,
    pub(super) seen: &'a Seen,
    /// Round and index, as the audit is told them.
    pub(super) place: &'a str,
}

impl Invocation<'_> {
    /// What it answers to a write that it lets in; nothing where it does not answer, and may be passed over.
    pub(super) async fn run(&self, calls: &Calls) -> Result<Option<Answer>, Refusal> {
        let Self { hook, review, .. } = *self;
        let answer = match self.answer(calls).await {
            Ok(answer) => answer,
            Err(NoAnswer::Busy) if hook.fails => {
                let error = ApiError::busy("as many webhooks are called as may be; try again");
                return Err(Refusal::Status(Box::new(error)));
            }
            Err(NoAnswer::Because(why)) if hook.fails => {
                self.log(&why);
                return Err(self.unanswered(&why));
            }
            Err(why) => {
                let why = match why {
                    NoAnswer::Busy => "as many webhooks are called as may be".to_owned(),
                    NoAnswer::Because(why) => why,
                };
                self.log(&why);
                let (sort, place) = (self.sort.as_str(), self.place);
                let key = format!("failed-open.{sort}.webhook.admission.k8s.io/{place}");
                review.annotate(key, hook.name.clone());
                return Ok(None);
            }
        };
        for (key, value) in &answer.annotations {
            review.annotate(format!("{}/{key}", hook.name), value);
        }
        answer.warnings.iter().for_each(|text| review.warn(text));
        if !answer.allowed {
            return Err(Refusal::Status(Box::new(denial(&hook.name, &answer.status))));
        }
        Ok(Some(answer))
    }

    fn log(&self, why: &str) {
        let Some(count) = self.hook.failures.count() else { return };
        let Webhook { name, fails, .. } = self.hook;
        let cluster = &self.review.target.cluster;
        warn!(%cluster, webhook = name, refuses = fails, count, error = why, "a webhook does not answer");
    }

    async fn answer(&self, calls: &Calls) -> Result<Answer, NoAnswer> {
        let mut asked = Asked::of(self.hook, self.seen)?;
        let body = std::mem::take(&mut asked.body);
        let answer = calls.ask(self.hook, self.review, body).await?;
        Ok(asked.read(&answer, self.sort == Sort::Mutating)?)
    }

    /// In kube-apiserver's words; and in the details what its administrator has to know.
    fn unanswered(&self, why: &str) -> Refusal {
        let (kind, name) = (self.sort.kind(), &self.hook.configuration);
        let mut error = ApiError::internal(self.hook.failed(why));
        let text = format!(
            "{kind} {name:?} has failurePolicy Fail; if its webhook is not to come back, take it out of the way: kubectl \
             delete {} {name}",
            kind.to_ascii_lowercase()
        );
        let cause = Cause { reason: UNANSWERED.to_owned(), message: text, field: String::new() };
        error.details = Some(Box::new(Details { causes: vec![cause], ..Details::default() }));
        Refusal::Status(Box::new(error))
    }
}
