//! PodSecurity: pods keep to the standard that labels of their namespace ask for, or are refused; whoever writes what makes
//! pods is warned.
//!
//! ```text
//! Namespace  its labels are valid; of a stricter one its writer hears which pods there do not keep to it
//! Pod        refused, warned of, told to the audit
//! workloads  warned of, told to the audit: their pods are refused when they come
//! ```
//!
//! Guarantees:
//! - what a namespace enforces its pods keep to, whoever makes them (`a_pod_keeps_to_the_standard_of_its_namespace`);
//! - who writes a template hears that its pods will not be let in (`a_template_is_warned_of`);
//! - labels that say no standard are refused (`a_namespace_asks_for_a_standard_that_there_is`);
//! - who asks for more than is kept to already hears of it, and nothing that runs ends
//!   (`a_stricter_namespace_names_pods_that_do_not_keep_to_it`).

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use freewheel_hub_api::pod_security::{PREFIX, Policy, Standard};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Scope, Stored};
use serde_json::Value;

use super::plugin::Plugin;
use super::refusal::Refusal;
use super::review::Review;
use crate::{Claims, Verb};

/// Pods that are looked at when their namespace asks for more. Upstream looks at three times as many, in a second at most;
/// here somebody else's request waits for its turn meanwhile.
const PODS_MAX: usize = 1_000;

pub(super) struct PodSecurity;

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        let runs = kind.has(Trait::RunsOnNodes);
        let comes_later = review.verb == Verb::Update
            && review.subresource == Some("ephemeralcontainers")
            && review.stores;
        (review.asks_for_it()
            && (runs || kind.has(Trait::HasContent) || kind.strategy.pod_template().is_some()))
            || (runs && comes_later)
    }

    fn keeps_form(&self) -> bool {
        true
    }

    async fn validate(&self, review: &Review<'_>, object: &Value) -> Result<Claims, Refusal> {
        let kind = &review.target.kind;
        if kind.has(Trait::HasContent) {
            check_namespace(review, object)?;
        } else if kind.has(Trait::RunsOnNodes) {
            check_pod(review, object)?;
        } else if let Some(template) =
            kind.strategy.pod_template().and_then(|at| object.pointer(at))
        {
            let (policy, errors) = policy(review);
            if !errors.is_empty() || !policy.is_privileged() {
                tell_errors(review, &errors);
                tell_audit(review, policy.audit, template);
                warn(review, policy.warn, template);
            }
        }
        Ok(Claims::default())
    }
}

/// What the namespace of an object asks for. Where there is none, somebody else refuses the object.
fn policy(review: &Review<'_>) -> (Policy, Vec<FieldError>) {
    let target = review.target;
    let namespaces = Resource::new("", "namespaces");
    let key = Key::new(&namespaces, &target.cluster, "", target.namespace.as_str());
    let found = review.state().get(&key);
    found.map_or_else(
        || Policy::of(&BTreeMap::new()),
        |namespace| Policy::of(&namespace.object.header.labels),
    )
}

fn check_pod(review: &Review<'_>, pod: &Value) -> Result<(), Refusal> {
    if review.old.is_some_and(|old| images(pod).is_subset(&images(old))) {
        // Nothing that is looked at changes in a pod, but for what it runs.
        return Ok(());
    }
    let (policy, errors) = policy(review);
    tell_errors(review, &errors);
    review.annotate(format!("{PREFIX}enforce-policy"), policy.enforce.to_string());
    tell_audit(review, policy.audit, pod);
    let wrong = policy.enforce.violations(pod);
    if wrong.is_empty() {
        warn(review, policy.warn, pod);
        return Ok(());
    }
    Err(Refusal::forbidden(format!("violates PodSecurity \"{}\": {wrong}", policy.enforce)))
}

/// What it runs, and in which of its containers.
fn images(pod: &Value) -> BTreeSet<[&str; 3]> {
    let lists = ["initContainers", "containers", "ephemeralContainers"].into_iter();
    let containers = lists.flat_map(move |list| {
        let all = pod["spec"][list].as_array().into_iter().flatten();
        all.map(move |one| [list, text(&one["name"]), text(&one["image"])])
    });
    containers.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn tell_errors(review: &Review<'_>, errors: &[FieldError]) {
    if errors.is_empty() {
        return;
    }
    let mistakes: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    let mistakes = match mistakes.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    review.annotate(format!("{PREFIX}error"), format!("Failed to parse policy: {mistakes}"));
}

fn would_violate(standard: Standard, pod: &Value) -> Option<String> {
    let wrong = standard.violations(pod);
    (!wrong.is_empty()).then(|| format!("would violate PodSecurity \"{standard}\": {wrong}"))
}

fn tell_audit(review: &Review<'_>, standard: Standard, pod: &Value) {
    if let Some(violations) = would_violate(standard, pod) {
        review.annotate(format!("{PREFIX}audit-violations"), violations);
    }
}

fn warn(review: &Review<'_>, standard: Standard, pod: &Value) {
    if let Some(violations) = would_violate(standard, pod) {
        review.warn(violations);
    }
}

fn check_namespace(review: &Review<'_>, namespace: &Value) -> Result<(), Refusal> {
    let (policy, errors) = Policy::of(&labels(namespace));
    let (before, known) = review.old.map(|old| Policy::of(&labels(old))).unzip();
    if !errors.is_empty() && known.is_none_or(|known| known != errors) {
        return Err(Refusal::Invalid(errors));
    }
    if before.is_some_and(|before| policy.enforce.asks_more_than(before.enforce)) {
        warn_of_pods(review, policy.enforce);
    }
    Ok(())
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), text(value).to_owned())).collect()
}

/// Which pods of the namespace do not keep to what it is to enforce: by what is wrong with them, the first of each and how
/// many more.
fn warn_of_pods(review: &Review<'_>, enforce: Standard) {
    let namespace = &review.target.name;
    let pods = Resource::new("", "pods");
    let scope = Scope {
        namespace: Some(namespace.as_str().into()),
        ..review.everywhere_in_its_cluster(&pods)
    };
    let (mut total, mut controllers) = (0, BTreeSet::new());
    let state = review.state();
    // Pods of one controller are alike: one of each goes before their others.
    let (first, others): (Vec<_>, Vec<_>) = state.range(&scope, None).partition(|pod| {
        total += 1;
        let controller = pod.object.header.owners.iter().find(|owner| owner.controller);
        controller.is_none_or(|owner| controllers.insert(owner.uid.clone()))
    });
    let looked_at = first.into_iter().chain(others).take(PODS_MAX);
    let mut wrong: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for pod in looked_at {
        let violations = pod.object.value().map(|pod| enforce.violations(&pod));
        if let Some(violations) = violations.ok().filter(|violations| !violations.is_empty()) {
            wrong.entry(violations.reasons()).or_default().insert(name(&pod));
        }
    }
    if PODS_MAX < total {
        review.warn(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {total} existing pods"
        ));
    }
    if !wrong.is_empty() {
        review.warn(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut told: Vec<String> = wrong.iter().map(|(why, pods)| told_of(pods, why)).collect();
    told.sort();
    told.into_iter().for_each(|told| review.warn(told));
}

fn name(pod: &Stored) -> String {
    pod.key.name.to_string()
}

fn told_of(pods: &BTreeSet<String>, why: &str) -> String {
    let first = pods.first().map(String::as_str).unwrap_or_default();
    match pods.len() {
        0 | 1 => format!("{first}: {why}"),
        2 => format!("{first} (and 1 other pod): {why}"),
        many => format!("{first} (and {} other pods): {why}", many - 1),
    }
}
