//! What a Job is to do, wherever it stands: in a Job or in a CronJob's template.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value, json};

use crate::kinds::accessors::{items, set_default};
use crate::kinds::field_value::FieldValue;
use crate::kinds::template;

const INDEXED: &str = "Indexed";
/// Most pods at a time of an indexed Job, and most of its indexes that may fail.
const INDEXED_PODS_MAX: i64 = 100_000;
/// Both again, when there are more completions than that and each index is tried for itself.
const PER_INDEX_PODS_MAX: i64 = 10_000;
const RULES_MAX: usize = 20;
const EXIT_CODES_MAX: usize = 255;
const ACTIONS: &[&str] = &["Count", "FailIndex", "FailJob", "Ignore"];

/// Fills in what it does not say.
pub(super) fn default(spec: &mut Map<String, Value>) {
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        set_default(spec, "completions", 1);
    }
    set_default(spec, "parallelism", 1);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    set_default(spec, "backoffLimit", if per_index { i64::from(i32::MAX) } else { 6 });
    set_default(spec, "completionMode", "NonIndexed");
    set_default(spec, "suspend", false);
    let policed = spec.contains_key("podFailurePolicy");
    let replacement = if policed { "Failed" } else { "TerminatingOrFailed" };
    set_default(spec, "podReplacementPolicy", replacement);
    default_template(spec);
}

/// What a template that is no Job yet gets; the rest it gets when it becomes one.
pub(super) fn default_template(spec: &mut Map<String, Value>) {
    if let Some(policy) = spec.get_mut("podFailurePolicy").and_then(Value::as_object_mut) {
        for rule in items(policy, "rules") {
            for pattern in items(rule, "onPodConditions") {
                set_default(pattern, "status", "True");
            }
        }
    }
    template::default(spec);
}

/// Every mistake but those of its selector.
pub(super) fn check(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.extend(spec.child(field).at_least(0));
    }
    let per_index = spec.child("backoffLimitPerIndex");
    if spec.child("maxFailedIndexes").is_there() && !per_index.is_there() {
        errors.push(per_index.required("when maxFailedIndexes is specified"));
    }
    let manager = spec.child("managedBy");
    if manager.is_there() {
        errors.extend(manager.domain_path());
        errors.extend(manager.no_longer(names::LABEL_MAX));
    }
    errors.extend(check_mode(spec));
    let policy = spec.child("podFailurePolicy");
    if policy.is_there() {
        errors.extend(check_failure_policy(spec, &policy));
    }
    errors.extend(check_success_policy(spec));
    let replacement = spec.child("podReplacementPolicy");
    let known: &[&str] =
        if policy.is_there() { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] };
    errors.extend(replacement.one_of(known));
    let pods = spec.child("template");
    errors.extend(template::check_pods(&pods));
    let restart = pods.child("spec").child("restartPolicy");
    match restart.text() {
        "" | "Always" => errors.push(restart.required("valid values: \"OnFailure\", \"Never\"")),
        "OnFailure" if policy.is_there() => {
            let text = "only \"Never\" is supported when podFailurePolicy is specified";
            errors.push(restart.invalid(text));
        }
        "OnFailure" | "Never" => {}
        _ => errors.push(restart.not_supported(&["OnFailure", "Never"])),
    }
    errors
}

/// What is allowed, and may come out otherwise than meant.
pub(super) fn warnings(spec: &FieldValue<'_>) -> Vec<String> {
    let number = |field: &str| spec.child(field).int().unwrap_or_default();
    let many =
        INDEXED_PODS_MAX < number("completions") && PER_INDEX_PODS_MAX < number("parallelism");
    let mut warnings = Vec::new();
    if many && spec.child("completionMode").text() == INDEXED {
        warnings.push(format!(
            "{}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
             Kubernetes might not be able to track completedIndexes when a big number of indexes fail",
            spec.path
        ));
    }
    warnings.extend(template::warnings_of(&spec.child("template")));
    warnings
}

fn check_mode(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mode = spec.child("completionMode");
    let field = |name: &str| spec.child(name);
    let (completions, parallelism) = (field("completions"), field("parallelism"));
    let (per_index, failed) = (field("backoffLimitPerIndex"), field("maxFailedIndexes"));
    let mut errors: Vec<_> = mode.one_of(&["NonIndexed", INDEXED]).into_iter().collect();
    if mode.text() != INDEXED {
        let given = [per_index, failed].into_iter().filter(FieldValue::is_there);
        errors.extend(given.map(|field| field.invalid("requires indexed completion mode")));
        return errors;
    }
    if !completions.is_there() {
        errors.push(completions.required("when completion mode is Indexed"));
    }
    let most = |at: &FieldValue<'_>, most: i64, when: &str| {
        let text = format!("must be less than or equal to {most}{when}");
        at.int().filter(|number| most < *number).map(|_| at.invalid(&text))
    };
    errors.extend(most(&parallelism, INDEXED_PODS_MAX, " when completion mode is Indexed"));
    if let (Some(all), Some(some)) = (completions.int(), failed.int())
        && all < some
    {
        errors.push(failed.invalid("must be less than or equal to completions"));
    }
    errors.extend(most(&failed, INDEXED_PODS_MAX, ""));
    if completions.int().is_some_and(|all| INDEXED_PODS_MAX < all) && per_index.is_there() {
        if !failed.is_there() {
            let text = format!("must be specified when completions is above {INDEXED_PODS_MAX}");
            errors.push(failed.required(&text));
        }
        let when = format!(
            " when completions are above {INDEXED_PODS_MAX} and used with backoff limit per index"
        );
        errors.extend(most(&parallelism, PER_INDEX_PODS_MAX, &when));
        errors.extend(most(&failed, PER_INDEX_PODS_MAX, &when));
    }
    errors
}

fn check_failure_policy(spec: &FieldValue<'_>, policy: &FieldValue<'_>) -> Vec<FieldError> {
    let pod = spec.child("template").child("spec");
    let lists = ["containers", "initContainers"].map(|list| pod.child(list));
    let names: BTreeSet<&str> = lists
        .iter()
        .flat_map(FieldValue::items)
        .map(|container| container.child("name").text())
        .collect();
    let rules = policy.child("rules");
    let mut errors: Vec<_> = rules.no_more(RULES_MAX).into_iter().collect();
    for rule in rules.items() {
        let action = rule.child("action");
        match action.text() {
            "" => {
                errors.push(
                    action.required(r#"valid values: ["Count" "FailIndex" "FailJob" "Ignore"]"#),
                );
            }
            "FailIndex" if !spec.child("backoffLimitPerIndex").is_there() => {
                errors.push(action.invalid("requires the backoffLimitPerIndex to be set"));
            }
            _ => errors.extend(action.one_of(ACTIONS)),
        }
        let (codes, conditions) = (rule.child("onExitCodes"), rule.child("onPodConditions"));
        if codes.is_there() {
            errors.extend(check_exit_codes(&codes, &names));
        }
        errors.extend(check_conditions(&conditions));
        let both = match (codes.is_there(), !conditions.is_empty()) {
            (true, true) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, false) => "specifying one of OnExitCodes and OnPodConditions is required",
            (true, false) | (false, true) => continue,
        };
        errors.push(without_value(&rule, both));
    }
    errors
}

/// What is wrong is too long to be shown.
pub(super) fn without_value(at: &FieldValue<'_>, text: &str) -> FieldError {
    FieldError { message: format!("Invalid value: {text}"), ..at.invalid(text) }
}

fn check_conditions(conditions: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors: Vec<_> = conditions.no_more(RULES_MAX).into_iter().collect();
    for pattern in conditions.items() {
        errors.extend(pattern.child("type").follows(names::qualified_name));
        let status = pattern.child("status");
        if status.is_empty() {
            errors.push(status.required(r#"valid values: ["False" "True" "Unknown"]"#));
        } else {
            errors.extend(status.one_of(&["False", "True", "Unknown"]));
        }
    }
    errors
}

fn check_exit_codes(codes: &FieldValue<'_>, names: &BTreeSet<&str>) -> Vec<FieldError> {
    let (operator, values) = (codes.child("operator"), codes.child("values"));
    let mut errors = Vec::new();
    if operator.is_empty() {
        errors.push(operator.required(r#"valid values: ["In" "NotIn"]"#));
    } else {
        errors.extend(operator.one_of(&["In", "NotIn"]));
    }
    let container = codes.child("containerName");
    if container.is_there() && !names.contains(container.text()) {
        let text = "must be one of the container or initContainer names in the pod template";
        errors.push(container.invalid(text));
    }
    if values.is_empty() {
        errors.push(values.invalid("at least one value is required"));
    }
    errors.extend(values.no_more(EXIT_CODES_MAX));
    let mut seen = BTreeSet::new();
    let mut ordered = true;
    for value in values.items() {
        let code = value.int().unwrap_or_default();
        if operator.text() == "In" && code == 0 {
            errors.push(value.invalid("must not be 0 for the In operator"));
        }
        ordered &= seen.last().is_none_or(|last| *last <= code);
        if !seen.insert(code) {
            errors.push(value.duplicate());
        }
    }
    errors.extend((!ordered).then(|| values.invalid("must be ordered")));
    errors
}

fn check_success_policy(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let policy = spec.child("successPolicy");
    if !policy.is_there() {
        return Vec::new();
    }
    if spec.child("completionMode").text() != INDEXED {
        return vec![policy.invalid("requires indexed completion mode")];
    }
    let all = spec.child("completions").int().unwrap_or_default();
    let rules = policy.child("rules");
    let mut errors = Vec::new();
    if rules.is_empty() {
        let text = "at least one rules must be specified when the successPolicy is specified";
        errors.push(rules.required(text));
    }
    errors.extend(rules.no_more(RULES_MAX));
    for rule in rules.items() {
        let (count, indexes) = (rule.child("succeededCount"), rule.child("succeededIndexes"));
        if !count.is_there() && !indexes.is_there() {
            let text = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(rule.required(text));
        }
        let total = read_indexes(indexes.text(), all);
        if let Err(why) = &total {
            errors.push(indexes.invalid(&format!("error parsing succeededIndexes: {why}")));
        }
        errors.extend(count.at_least(0));
        let number = count.int().unwrap_or_default();
        if all < number {
            let text = format!(
                "must be less than or equal to {all} (the number of specified completions)"
            );
            errors.push(count.invalid(&text));
        }
        if let Ok(total) = total
            && indexes.is_there()
            && total < number
        {
            let text = format!(
                "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
            );
            errors.push(count.invalid(&text));
        }
    }
    errors
}

/// How many indexes `1,3-5` are, of a Job with so many.
pub(super) fn read_indexes(text: &str, completions: i64) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let mut last: Option<i64> = None;
    let mut total = 0;
    for part in text.split(',') {
        let (first, end) = read_interval(part, completions)?;
        if let Some(last) = last.filter(|last| first <= *last) {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        total += end - first + 1;
        last = Some(end);
    }
    Ok(total)
}

/// The ends of `3-5`, or of `1`.
pub(super) fn read_interval(part: &str, completions: i64) -> Result<(i64, i64), String> {
    let number = |text: &str| -> Result<i64, String> {
        let found = text
            .parse::<i32>()
            .map_err(|_| format!("cannot convert string to integer for index: {text:?}"))?;
        let found = i64::from(found);
        if completions <= found {
            return Err(format!("too large index: {text:?}"));
        }
        Ok(found)
    };
    match part.split('-').collect::<Vec<_>>().as_slice() {
        [one] => number(one).map(|one| (one, one)),
        [first, end] => {
            let (first, end) = (number(first)?, number(end)?);
            if end <= first {
                return Err(format!("non-increasing order, previous: {first}, current: {end}"));
            }
            Ok((first, end))
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated by '-'"
        )),
    }
}

/// What may change of a template as long as nothing runs: where its pods may be, and what they may use.
pub(super) fn drop_what_may_change(template: &mut Value) {
    if let Some(meta) = template.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|key, _| key != "labels" && key != "annotations");
    }
    let Some(spec) = template.get_mut("spec").and_then(Value::as_object_mut) else { return };
    spec.retain(|key, _| {
        !matches!(key.as_str(), "nodeSelector" | "tolerations" | "schedulingGates")
    });
    if let Some(affinity) = spec.get_mut("affinity").and_then(Value::as_object_mut) {
        affinity.remove("nodeAffinity");
    }
    if spec.get("affinity") == Some(&json!({})) {
        spec.remove("affinity");
    }
    for list in ["containers", "initContainers"] {
        items(spec, list).for_each(|container| drop(container.remove("resources")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_counted() {
        assert_eq!(read_indexes("0,2-4", 5), Ok(4));
        assert_eq!(read_indexes("", 5), Ok(0));
        for wrong in ["5", "a", "1-2-3", "2-1", "1,1", "1,0"] {
            assert!(read_indexes(wrong, 5).is_err(), "{wrong}");
        }
    }
}
