//! MutatingAdmissionPolicy: what its expressions make of what is written.
//!
//! Guarantees:
//! - what they make is never larger than a request, and all of them together make as much work as one may
//!   (`policies_double_a_text_until_it_is_too_large`, `all_policies_of_a_request_share_what_they_may_use`);
//! - policies are asked one after the other, each about what those before it have made (`a_policy_changes_what_is_written`);
//! - one that wants to be asked again, and whose object others have changed, is asked once more
//!   (`a_policy_is_asked_again_where_it_says_so`);
//! - who converts objects holds up no policy of another cluster (`a_slow_conversion_holds_up_no_other_clusters_policy`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_cel::{Evaluation, UNITS_MAX};
use freewheel_hub_objects::{Invoked, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::error::{ApiError, Cause, Details};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::job::{ConfigError, Job, Seen, Selected};
use super::patch::{Form, changed};
use crate::admission::Admission;
use crate::attributes::{Attributes, Shown, converted};
use crate::index::Bounds;

const NAME: &str = "MutatingAdmissionPolicy";
/// Policies that do not let a write in, and are told of.
const FAILURES_MAX: usize = 200;
/// How long all conversions may take that the policies of one write need.
const CONVERSIONS_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct MutatingPolicies(pub(crate) Arc<Admission>);

/// A policy that does not let a write in.
struct PolicyError {
    policy: String,
    binding: Option<String>,
    why: String,
    reason: &'static str,
}

impl PolicyError {
    /// Of one that cannot be asked.
    fn of(error: &ConfigError) -> Self {
        Self {
            policy: error.policy.name.clone(),
            binding: error.binding.as_ref().map(|binding| binding.name.clone()),
            why: error.message(),
            reason: "",
        }
    }

    fn message(&self) -> String {
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
        let (jobs, seen, namespace, errors) = {
            let asked = Attributes::of(review, object);
            // What a door makes of an object is not the object.
            if asked.shown() == Shown::Scale {
                return Ok(());
            }
            let hooks = config.mutating.about(review.target.kind.plural());
            let Selected { jobs, errors, .. } = self.0.select(&hooks, &asked).await;
            let seen = self.0.seen(&asked, &jobs).await?;
            (jobs, seen, asked.home().map(Arc::new), errors)
        };
        let mut failed: Vec<PolicyError> =
            errors.iter().filter(|error| error.policy.fails).map(PolicyError::of).collect();
        if !jobs.is_empty() {
            let is_second = review.rounds.is_second();
            let mut invoked = review.rounds.of(NAME);
            invoked.begin(is_second, object);
            let shown = Shown::of(review);
            let run = Run { shown, invoked, is_second, failed, namespace, left: UNITS_MAX };
            let run = self.run(run, (&jobs, &seen), review, (object, &config.bounds)).await;
            let mut run = run.map_err(|error| Refusal::Status(Box::new(error)))?;
            run.invoked.end(object);
            review.rounds.remember(NAME, run.invoked);
            failed = run.failed;
        }
        if failed.is_empty() { Ok(()) } else { Err(refusal(&failed, review, object)) }
    }
}

impl MutatingPolicies {
    /// Asks all of them: in one turn those that follow each other and see the object in the same version. Who converts it
    /// from one to the next is waited for between two turns.
    async fn run(
        &self,
        mut run: Run,
        (jobs, seen): (&[Job], &[Seen]),
        review: &Review<'_>,
        (object, bounds): (&mut Value, &Bounds),
    ) -> Result<Run, ApiError> {
        let before = object.clone();
        let (kind, deadline) = (&review.target.kind, Instant::now() + CONVERSIONS_TIMEOUT);
        let (mut is_another, mut from) = (false, 0);
        for together in jobs.chunk_by(|one, next| one.version.id() == next.version.id()) {
            let (Some(first), Some(seen)) = (together.first(), seen.get(from)) else { break };
            from += together.len();
            let version = &first.version;
            let shown = match is_another {
                false => Ok(Value::clone(&seen.object)),
                true => in_time(deadline, converted(object, kind, version)).await,
            };
            let shown = match shown {
                Ok(shown) => shown,
                Err(why) => {
                    together.iter().for_each(|job| run.fail(job, why.clone()));
                    continue;
                }
            };
            let (together, seen) = (together.to_vec(), seen.clone());
            let work = move || run.ask(&together, &seen, shown);
            let (back, changed) = self.0.turns.run(&bounds.turns, work).await?;
            run = back;
            let Some((new, by)) = changed else { continue };
            match in_time(deadline, converted(&new, version, kind)).await {
                Ok(own) => (*object, is_another) = (own, true),
                // What each of them changed is lost.
                Err(why) => by.iter().for_each(|job| run.fail(job, why.clone())),
            }
        }
        if *object != before {
            run.invoked.changed();
            review.rounds.ask_again();
        }
        Ok(run)
    }
}

/// What is converted before this moment.
async fn in_time(
    deadline: Instant,
    converted: impl Future<Output = Result<Value, ApiError>>,
) -> Result<Value, String> {
    match timeout_at(deadline, converted).await {
        Ok(converted) => converted.map_err(|error| error.message),
        Err(_) => Err(format!(
            "the conversions that the policies of a request need may take {}s together",
            CONVERSIONS_TIMEOUT.as_secs()
        )),
    }
}

/// The policies that are asked, one after the other.
struct Run {
    shown: Shown,
    invoked: Invoked,
    is_second: bool,
    failed: Vec<PolicyError>,
    /// That the object is in.
    namespace: Option<Arc<Value>>,
    /// Units that are left for all policies together.
    left: u64,
}

impl Run {
    /// Asks some that see the object like this; answers what they have made of it, and which of them have.
    fn ask(mut self, jobs: &[Job], seen: &Seen, shown: Value) -> (Self, Option<(Value, Vec<Job>)>) {
        let (mut shown, mut by) = (shown, Vec::new());
        for job in jobs {
            let seen = seen.with(shown.clone());
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
            let new = self.one(job, &seen);
            if new != shown {
                shown = new;
                by.push(job.clone());
                self.invoked.changed();
            }
            if job.policy.reinvoked {
                self.invoked.asked(&job.id());
            }
        }
        let changed = (!by.is_empty()).then_some((shown, by));
        (self, changed)
    }

    fn one(&mut self, job: &Job, seen: &Seen) -> Value {
        let rules = job.policy.rules();
        let mut shown = Value::clone(&seen.object);
        let form = Form::of(self.shown, &shown, &job.version);
        for mutation in &rules.mutations {
            let scope = seen.with(shown.clone()).scope(self.namespace.as_ref(), job.params());
            let mut evaluation = Evaluation::new(&scope, &rules.variables, self.left);
            let new = changed(mutation, &shown, &form, &mut evaluation);
            self.left = evaluation.left();
            match new {
                Ok(new) => shown = new,
                Err(why) => self.fail(job, why),
            }
        }
        shown
    }

    fn fail(&mut self, job: &Job, why: String) {
        // Of the others nobody is told.
        if job.policy.fails && self.failed.len() < FAILURES_MAX {
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
    let message = first.map(PolicyError::message).unwrap_or_default();
    let reason = if reason.is_empty() { "Forbidden" } else { reason };
    let mut error = ApiError::new(403, reason, message);
    let kind = &review.target.kind;
    error.details = Some(Box::new(Details {
        name: Attributes::of(review, object).name.to_owned(),
        group: kind.group().to_owned(),
        kind: kind.plural().to_owned(),
        causes: failed
            .iter()
            .map(|one| Cause { message: one.message(), ..Cause::default() })
            .collect(),
        ..Details::default()
    }));
    Refusal::Status(Box::new(error))
}
