//! ValidatingAdmissionPolicy: what its expressions say of a write.
//!
//! Guarantees:
//! - it says so in kube-apiserver's words, with its codes and reasons (`a_policy_refuses_in_upstreams_words`);
//! - what cannot be evaluated is refused, or let in where the policy says `Ignore`
//!   (`what_cannot_be_evaluated_is_refused_or_ignored`);
//! - however many denials there are, the first that denies counts, and the others take some megabytes at most
//!   (`denials_are_told_as_far_as_there_is_room`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_cel::{Evaluation, Failed, Scope, UNITS_MAX, Value as Cel, of_type};
use freewheel_hub_objects::{Claims, Plugin, Refusal, Review};
use freewheel_hub_schema::error::Cause;
use serde_json::{Value, json};
use tracing::info;

use super::definition::{Binding, Policy, Validation};
use super::job::{ConfigError, Job};
use crate::admission::Admission;
use crate::attributes::Attributes;
use crate::conditions::{OUT_OF_BUDGET, compile_error, failed};

/// Denials of a request that are told of: more than anybody reads.
const DENIALS_MAX: usize = 1_000;
/// Bytes of a message that an expression may make, and of one that a policy says.
const MESSAGE_BYTES_MAX: usize = 5 * 1024;
/// Bytes of an annotation of the audit.
const ANNOTATION_BYTES_MAX: usize = 10 * 1024;

pub(crate) struct ValidatingPolicies(pub(crate) Arc<Admission>);

/// What one job says.
#[derive(Debug, Default)]
struct Outcome {
    /// Of each validation that does not let it in.
    denials: Vec<Denial>,
    annotations: Vec<(String, String)>,
    /// Annotations that could not be made, where that is a refusal.
    failures: Vec<String>,
}

impl Outcome {
    /// With as many denials as there is room for, but for the first, by which a binding denies.
    fn within(mut self, room: &mut usize) -> Self {
        self.denials.truncate((*room).max(1));
        self.failures.truncate(1);
        *room = room.saturating_sub(self.denials.len());
        self
    }
}

#[derive(Debug, Default)]
struct Denial {
    /// Which validation.
    index: usize,
    message: String,
    reason: String,
}

/// The first that is told to the writer.
struct Denied {
    policy: String,
    binding: Option<String>,
    message: String,
    reason: String,
}

#[async_trait]
impl Plugin for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        self.0.concerns(review, |config, plural| config.validating.has(plural))
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let asked = Attributes::of(review, object);
        let Some(config) = self.0.index.of(&review.target.cluster) else {
            return Ok(Claims::default());
        };
        let hooks = config.validating.about(review.target.kind.plural());
        let selected = self.0.select(&hooks, &asked).await;
        let mut denied = selected.errors.iter().find_map(config_error);
        if !selected.jobs.is_empty() {
            let seen = self.0.seen(&asked, &selected.jobs).await?;
            let jobs = selected.jobs.clone();
            let namespace = asked.home().map(Arc::new);
            let work = move || -> Vec<Outcome> {
                let (each, mut left) = (jobs.iter().zip(&seen), UNITS_MAX);
                let mut room = DENIALS_MAX;
                each.map(|(job, seen)| {
                    let param = job.params();
                    let without_namespace = seen.scope(None, param);
                    let scope = seen.scope(namespace.as_ref(), param);
                    let outcome = outcome(&job.policy, &without_namespace, &scope, &mut left);
                    outcome.within(&mut room)
                })
                .collect()
            };
            let outcomes = self.0.turns.run(&config.bounds.turns, work).await;
            let outcomes = outcomes.map_err(|error| Refusal::Status(Box::new(error)))?;
            let mut annotations = Annotations::default();
            for (job, outcome) in selected.jobs.iter().zip(outcomes) {
                tell(review, job, outcome, &mut denied, &mut annotations);
            }
            annotations.publish(review);
        }
        denied.map_or_else(|| Ok(Claims::default()), |first| Err(refusal(first)))
    }
}

fn config_error(error: &ConfigError) -> Option<Denied> {
    error.policy.fails.then(|| Denied {
        policy: error.policy.name.clone(),
        binding: error.binding.as_ref().map(|binding| binding.name.clone()),
        message: error.message(),
        reason: String::new(),
    })
}

/// What a policy says, with what is left of all units of a request.
fn outcome(policy: &Policy, of_conditions: &Scope, scope: &Scope, left: &mut u64) -> Outcome {
    let denial = |message: String| Outcome {
        denials: if policy.fails {
            vec![Denial { message, ..Denial::default() }]
        } else {
            Vec::new()
        },
        ..Outcome::default()
    };
    let rules = policy.rules();
    if !policy.conditions.is_empty() {
        match policy.conditions.hold(of_conditions, left) {
            Ok(true) => {}
            Ok(false) => return Outcome::default(),
            Err(why) => return denial(why),
        }
    }
    let mut evaluation = Evaluation::new(scope, &rules.variables, *left);
    let denials = denials(policy, &mut evaluation);
    *left = evaluation.left();
    let Some(denials) = denials else { return denial(OUT_OF_BUDGET.to_owned()) };
    let mut outcome = Outcome { denials, ..Outcome::default() };
    annotate(policy, scope, &mut outcome, left);
    outcome
}

/// What its validations say; nothing when there is no work left to ask them.
fn denials(policy: &Policy, evaluation: &mut Evaluation<'_>) -> Option<Vec<Denial>> {
    let mut denials = Vec::new();
    for (index, validation) in policy.rules().validations.iter().enumerate() {
        let why = match &validation.expression {
            Err(why) => compile_error(why),
            Ok(expression) => match evaluation.run(expression) {
                Ok(Cel::Bool(true)) => continue,
                Ok(_) => {
                    let message = message(validation, evaluation);
                    denials.push(Denial { index, message, reason: validation.reason.clone() });
                    continue;
                }
                Err(Failed::TooMuchWork) => return None,
                Err(why) => failed(expression, &why.into_message(OUT_OF_BUDGET)),
            },
        };
        if policy.fails {
            denials.push(Denial { index, message: why, reason: String::new() });
        }
    }
    Some(denials)
}

fn message(validation: &Validation, evaluation: &mut Evaluation<'_>) -> String {
    if let Some(expression) = &validation.message_expression
        && let Ok(Cel::String(text)) = evaluation.run(expression)
    {
        let text = text.trim();
        if !text.is_empty() && text.len() <= MESSAGE_BYTES_MAX && !text.contains('\n') {
            return text.to_owned();
        }
    }
    if validation.message.is_empty() {
        return format!("failed expression: {}", validation.text);
    }
    let whole = &validation.message;
    whole[..whole.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned()
}

fn annotate(policy: &Policy, scope: &Scope, outcome: &mut Outcome, left: &mut u64) {
    let rules = policy.rules();
    let mut evaluation = Evaluation::new(scope, &rules.variables, *left);
    for (key, text, expression) in &rules.annotations {
        let value = match expression {
            Err(why) => Err(compile_error(why)),
            Ok(expression) => match evaluation.run(expression) {
                Ok(Cel::String(value)) => Ok(value.trim().to_owned()),
                Ok(Cel::Null) => Ok(String::new()),
                Ok(other) => Err(format!(
                    "valueExpression '{text}' resulted in unsupported return type: {}. Return type must be either string or null.",
                    of_type(&other)
                )),
                Err(Failed::TooMuchWork) => Err(OUT_OF_BUDGET.to_owned()),
                Err(why) => Err(failed(expression, &why.into_message(OUT_OF_BUDGET))),
            },
        };
        match value {
            Ok(value) if value.is_empty() => {}
            Ok(value) => outcome.annotations.push((key.clone(), value)),
            Err(why) if policy.fails => outcome.failures.push(why),
            Err(_) => {}
        }
    }
    *left = evaluation.left();
}

/// Does with an outcome what its binding says.
fn tell(
    review: &Review<'_>,
    job: &Job,
    outcome: Outcome,
    denied: &mut Option<Denied>,
    annotations: &mut Annotations,
) {
    let (policy, binding) = (&*job.policy, &*job.binding);
    let deny = |message: String, reason: String| Denied {
        policy: policy.name.clone(),
        binding: Some(binding.name.clone()),
        message,
        reason,
    };
    for denial in outcome.denials {
        for action in &binding.actions {
            match action.as_str() {
                "Deny" if denied.is_none() => {
                    *denied = Some(deny(denial.message.clone(), denial.reason.clone()));
                }
                "Warn" => review.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, denial.message
                )),
                "Audit" => audit(review, policy, binding, &denial),
                _ => {}
            }
        }
    }
    outcome.annotations.into_iter().for_each(|(key, value)| annotations.add(policy, &key, value));
    let failed = outcome.failures.into_iter().next();
    *denied = denied.take().or_else(|| failed.map(|why| deny(why, String::new())));
}

fn audit(review: &Review<'_>, policy: &Policy, binding: &Binding, denial: &Denial) {
    let failure = json!([{
        "message": denial.message, "policy": policy.name, "binding": binding.name,
        "expressionIndex": denial.index, "validationActions": binding.actions,
    }]);
    info!(
        cluster = %review.target.cluster,
        resource = review.target.kind.plural(),
        namespace = %review.target.namespace,
        name = review.target.name,
        user = %review.actor.user(),
        policy = policy.name,
        binding = binding.name,
        message = denial.message,
        "an admission policy is not kept"
    );
    review.annotate("validation.policy.admission.k8s.io/validation_failure", failure.to_string());
}

/// What policies say to the audit: each once, several together.
#[derive(Default)]
struct Annotations(BTreeMap<String, Vec<String>>);

impl Annotations {
    fn add(&mut self, policy: &Policy, key: &str, mut value: String) {
        value.truncate(value.floor_char_boundary(ANNOTATION_BYTES_MAX));
        let values = self.0.entry(format!("{}/{key}", policy.name)).or_default();
        if !values.contains(&value) {
            values.push(value);
        }
    }

    fn publish(self, review: &Review<'_>) {
        self.0.into_iter().for_each(|(key, values)| review.annotate(key, values.join(", ")));
    }
}

fn refusal(denied: Denied) -> Refusal {
    let Denied { policy, binding, message, reason } = denied;
    let by = binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
    let why = format!("ValidatingAdmissionPolicy '{policy}'{by} denied request: {message}");
    let (code, reason) = match reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    let causes = vec![Cause { message: why.clone(), ..Cause::default() }];
    Refusal::Denied { code, reason, why, causes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denials_are_told_as_far_as_there_is_room() {
        let mut room = DENIALS_MAX;
        let told = |count: usize, room: &mut usize| {
            let denials = (0..count).map(|index| Denial { index, ..Denial::default() }).collect();
            let outcome = Outcome { denials, ..Outcome::default() }.within(room);
            (outcome.denials.len(), outcome.denials.first().map(|first| first.index))
        };
        assert_eq!(told(900, &mut room), (900, Some(0)));
        assert_eq!(told(900, &mut room), (100, Some(0)));
        assert_eq!(told(900, &mut room), (1, Some(0)), "by which its binding denies");
        assert_eq!(told(0, &mut room), (0, None));
    }
}
