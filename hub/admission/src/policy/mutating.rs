//! MutatingAdmissionPolicy: what its expressions make of what is written.
//!
//! Guarantees:
//! - what they make is never larger than a request, and all of them together make as much work as one may
//!   (`policies_double_a_text_until_it_is_too_large`, `all_policies_of_a_request_share_what_they_may_use`);
//! - policies are asked one after the other, each about what those before it have made (`a_policy_changes_what_is_written`);
//! - one that wants to be asked again, and whose object others have changed, is asked once more
//!   (`a_policy_is_asked_again_where_it_says_so`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_cel::{Evaluation, UNITS_MAX};
use freewheel_hub_objects::{Invoked, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::error::{ApiError, Cause, Details};
use freewheel_hub_schema::kind::Kind;
use serde_json::Value;
use tokio::runtime::Handle;

use super::job::{Job, Seen, Selected};
use super::patch::{Form, changed};
use crate::admission::Admission;
use crate::attributes::{Attributes, Shown, converted};

const NAME: &str = "MutatingAdmissionPolicy";

pub(crate) struct MutatingPolicies(pub(crate) Arc<Admission>);

/// A policy that does not let a write in.
struct PolicyError {
    policy: String,
    binding: Option<String>,
    why: String,
    reason: &'static str,
}

impl PolicyError {
    fn told(&self) -> String {
        let Self { policy, binding, why, .. } = self;
        match binding {
            Some(binding) => {
                format!("policy '{policy}' with binding '{binding}' denied request: {why}")
            }
            None => format!("policy {policy:?} denied request: {why}"),
        }
    }
}

#[async_trait]
impl Plugin for MutatingPolicies {
    fn name(&self) -> &'static str {
        NAME
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.verb != Verb::Delete
            && self.0.concerns(review, |config, plural| config.mutating.has(plural))
    }

    async fn mutate(&self, review: &Review<'_>, object: &mut Value) -> Result<(), Refusal> {
        let Some(config) = self.0.index.of(&review.target.cluster) else { return Ok(()) };
        let (jobs, errors) = {
            let asked = Attributes::of(review, object);
            // What a door makes of an object is not the object.
            if asked.shown() == Shown::Scale {
                return Ok(());
            }
            let hooks = config.mutating.about(review.target.kind.plural());
            let Selected { jobs, errors } = self.0.select(&hooks, &asked).await;
            let seen = self.0.seen(&asked, &jobs).await?;
            let namespace = asked.home().map(Arc::new);
            ((jobs, seen, namespace), errors)
        };
        let mut failed: Vec<PolicyError> = errors
            .iter()
            .filter(|error| error.policy.fails)
            .map(|error| PolicyError {
                policy: error.policy.name.clone(),
                binding: error.binding.as_ref().map(|binding| binding.name.clone()),
                why: error.told(),
                reason: "",
            })
            .collect();
        if !jobs.0.is_empty() {
            let is_second = review.rounds.is_second();
            let mut invoked = review.rounds.of(NAME);
            invoked.begin(is_second, object);
            let run = Run {
                kind: review.target.kind.clone(),
                shown: Shown::of(review),
                object: object.clone(),
                invoked,
                is_second,
                failed: Vec::new(),
                handle: Handle::current(),
                left: UNITS_MAX,
            };
            let work = move || run.all(&jobs.0, &jobs.1, jobs.2.as_ref());
            let run = self.0.turns.run(&config.bounds.turns, work).await;
            let mut run = run.map_err(|error| Refusal::Status(Box::new(error)))?;
            failed.append(&mut run.failed);
            if *object != run.object {
                run.invoked.changed();
                review.rounds.ask_again();
                *object = run.object;
            }
            run.invoked.end(object);
            review.rounds.remember(NAME, run.invoked);
        }
        if failed.is_empty() { Ok(()) } else { Err(refusal(&failed, review, object)) }
    }
}

/// The policies that are asked, one after the other.
struct Run {
    kind: Arc<Kind>,
    shown: Shown,
    object: Value,
    invoked: Invoked,
    is_second: bool,
    failed: Vec<PolicyError>,
    /// It runs on a thread of its own, and somebody may have to be asked who converts.
    handle: Handle,
    /// Units that are left for all policies together.
    left: u64,
}

impl Run {
    fn all(mut self, jobs: &[Job], seen: &[Seen], namespace: Option<&Arc<Value>>) -> Self {
        for (job, seen) in jobs.iter().zip(seen) {
            let shown = converted(&self.object, &self.kind, &job.version);
            let seen = match self.handle.block_on(shown) {
                Ok(shown) => seen.with(shown),
                Err(why) => {
                    self.fail(job, why.message);
                    continue;
                }
            };
            if !job.policy.conditions.is_empty() {
                match job.policy.conditions.hold(&seen.scope(None, job.params()), &mut self.left) {
                    Ok(true) => {}
                    Ok(false) => continue,
                    Err(why) => {
                        self.fail(job, why);
                        continue;
                    }
                }
            }
            if !self.invoked.is_due(self.is_second, &job.id()) {
                continue;
            }
            self.one(job, &seen, namespace);
            if job.policy.reinvoked {
                self.invoked.asked(&job.id());
            }
        }
        self
    }

    fn one(&mut self, job: &Job, seen: &Seen, namespace: Option<&Arc<Value>>) {
        let mut shown = Value::clone(&seen.object);
        let form = Form::of(self.shown, &shown, &job.version);
        for mutation in &job.policy.mutations {
            let scope = seen.with(shown.clone()).scope(namespace, job.params());
            let mut evaluation = Evaluation::new(&scope, &job.policy.variables, self.left);
            let new = changed(mutation, &shown, &form, &mut evaluation);
            self.left = evaluation.left();
            match new {
                Ok(new) => shown = new,
                Err(why) => self.fail(job, why),
            }
        }
        if shown != *seen.object {
            match self.handle.block_on(converted(&shown, &job.version, &self.kind)) {
                Ok(own) => self.object = own,
                Err(why) => return self.fail(job, why.message),
            }
            self.invoked.changed();
        }
    }

    fn fail(&mut self, job: &Job, why: String) {
        if job.policy.fails {
            self.failed.push(PolicyError {
                policy: job.policy.name.clone(),
                binding: Some(job.binding.name.clone()),
                why,
                reason: "Invalid",
            });
        }
    }
}

/// In kube-apiserver's words, which are those of a 403 with another reason.
fn refusal(failed: &[PolicyError], review: &Review<'_>, object: &Value) -> Refusal {
    let first = failed.first();
    let reason = first.map_or("", |first| first.reason);
    let message = first.map(PolicyError::told).unwrap_or_default();
    let reason = if reason.is_empty() { "Forbidden" } else { reason };
    let mut error = ApiError::new(403, reason, message);
    let kind = &review.target.kind;
    error.details = Some(Box::new(Details {
        name: Attributes::of(review, object).name.to_owned(),
        group: kind.group().to_owned(),
        kind: kind.plural().to_owned(),
        causes: failed
            .iter()
            .map(|one| Cause { message: one.told(), ..Cause::default() })
            .collect(),
        ..Details::default()
    }));
    Refusal::Status(Box::new(error))
}
