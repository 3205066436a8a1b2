//! What a Job's status may say, and what it may not take back.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::time;
use serde_json::Value;

use super::job_spec::{read_indexes, without_value};
use crate::kinds::accessors::{condition, flag, int, text};
use crate::kinds::place::Place;

/// Every mistake of a new status.
pub(super) fn check(new: &Value, old: &Value) -> Vec<FieldError> {
    if new.get("status") == old.get("status") {
        return Vec::new();
    }
    let status = Place::of(new, "status");
    let mut errors = Vec::new();
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.extend(status.child(field).at_least(0));
    }
    errors.extend(check_conditions(new, &status));
    errors.extend(check_times(new, &status));
    errors.extend(check_finished(new, &status));
    errors.extend(check_indexes(new, &status));
    errors.extend(check_change(new, old, &status));
    errors
}

fn is(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|found| text(found, "/status") == "True")
}

fn check_conditions(new: &Value, status: &Place<'_>) -> Vec<FieldError> {
    let (complete, failed) = (is(new, "Complete"), is(new, "Failed"));
    let (target, met) = (is(new, "FailureTarget"), is(new, "SuccessCriteriaMet"));
    let conditions = status.child("conditions");
    let rules = [
        (complete && failed, "cannot set Complete=True and Failed=true conditions"),
        (complete && target, "cannot set Complete=True and FailureTarget=true conditions"),
        (
            failed && !target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete && !met,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
    ];
    let broken = rules.iter().filter(|(broken, _)| *broken);
    broken.map(|(_, text)| without_value(&conditions, text)).collect()
}

fn check_times(new: &Value, status: &Place<'_>) -> Vec<FieldError> {
    let (start, end) = (status.child("startTime"), status.child("completionTime"));
    let mut errors = Vec::new();
    match (end.is_there(), is(new, "Complete")) {
        (true, false) => errors.push(
            end.invalid("cannot set completionTime when there is no Complete=True condition"),
        ),
        (false, true) => {
            errors.push(end.required("completionTime is required for Complete jobs"));
        }
        (true, true) | (false, false) => {}
    }
    let times = (time::parse_unix(start.text()), time::parse_unix(end.text()));
    if let (Some(from), Some(to)) = times
        && to < from
    {
        errors.push(end.invalid("must be equal to or after `startTime`"));
    }
    errors
}

fn check_finished(new: &Value, status: &Place<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (active, ready) = (status.child("active"), status.child("ready"));
    if active.int().unwrap_or_default() < ready.int().unwrap_or_default() {
        errors.push(ready.invalid("cannot set more ready pods than active"));
    }
    if !is(new, "Complete") && !is(new, "Failed") {
        return errors;
    }
    if 0 < active.int().unwrap_or_default() {
        errors.push(active.invalid("active>0 is invalid for finished job"));
    }
    let terminating = status.child("terminating");
    if 0 < terminating.int().unwrap_or_default() {
        errors.push(terminating.invalid("terminating>0 is invalid for finished job"));
    }
    let never = flag(new, "/spec/suspend") && int(new, "/spec/completions") == 0;
    let start = status.child("startTime");
    if !start.is_there() && !never {
        errors.push(start.required("startTime is required for finished job"));
    }
    let uncounted = status.child("uncountedTerminatedPods");
    if !uncounted.child("succeeded").is_empty() || !uncounted.child("failed").is_empty() {
        errors.push(uncounted.invalid("must be empty for finished job"));
    }
    errors
}

fn check_indexes(new: &Value, status: &Place<'_>) -> Vec<FieldError> {
    let (completed, failed) = (status.child("completedIndexes"), status.child("failedIndexes"));
    let all = int(new, "/spec/completions");
    let mut errors = Vec::new();
    for (at, field) in [(&completed, "completedIndexes"), (&failed, "failedIndexes")] {
        if let Err(why) = read_indexes(at.text(), all) {
            errors.push(at.invalid(&format!("error parsing {field}: {why}")));
        }
    }
    if !completed.is_empty() && text(new, "/spec/completionMode") != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(completed.invalid(text));
    }
    if failed.is_there() && new.pointer("/spec/backoffLimitPerIndex").is_none() {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(failed.invalid(text));
    }
    errors
}

/// What was said for good stays said.
fn check_change(new: &Value, old: &Value, status: &Place<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let conditions = status.child("conditions");
    for kind in ["Failed", "Complete", "FailureTarget"] {
        if is(old, kind) && !is(new, kind) {
            let text = format!("cannot disable the terminal {kind}=True condition");
            errors.push(without_value(&conditions, &text));
        }
    }
    if is(old, "SuccessCriteriaMet") && !is(new, "SuccessCriteriaMet") {
        let text = "cannot disable the SuccessCriteriaMet=True condition";
        errors.push(without_value(&conditions, text));
    }
    let indexed = text(new, "/spec/completionMode") == "Indexed"
        && int(new, "/spec/completions") == int(new, "/spec/parallelism");
    for (field, may_fall) in [("failed", false), ("succeeded", indexed)] {
        let now = status.child(field);
        if !may_fall
            && int(new, &format!("/status/{field}")) < int(old, &format!("/status/{field}"))
        {
            errors.push(now.invalid(&format!("cannot decrease the {field} counter")));
        }
    }
    let before = Place::of(old, "status");
    let (end, was) = (status.child("completionTime"), before.child("completionTime"));
    if end.is_there() && was.is_there() {
        errors.extend(end.stays(&was));
    }
    let (start, was) = (status.child("startTime"), before.child("startTime"));
    let resumes = is(old, "Suspended") && !is(new, "Suspended");
    if was.is_there() && start.value != was.value && !flag(new, "/spec/suspend") && !resumes {
        errors.push(start.invalid("field is immutable for unsuspended job once set"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn told(status: &Value, old: &Value, expected: &[&str]) {
        let job = |status: &Value| json!({"spec": {"completions": 1, "parallelism": 1}, "status": status});
        let found = check(&job(status), &job(old));
        let fields: Vec<_> = found.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, expected, "{found:?}");
    }

    #[test]
    fn what_was_said_for_good_stays_said() {
        let conditions = json!([{"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]);
        let done = json!({"succeeded": 1, "startTime": "2026-01-01T00:00:00Z",
            "completionTime": "2026-01-01T00:00:01Z", "conditions": conditions});
        told(&done, &json!({}), &[]);
        told(
            &json!({"conditions": conditions}),
            &json!({}),
            &["status.completionTime", "status.startTime"],
        );
        told(&json!({"failed": 1}), &json!({"failed": 2}), &["status.failed"]);
        told(&json!({"ready": 2, "active": 1}), &json!({}), &["status.ready"]);
        let both = json!([{"type": "Failed", "status": "True"}, {"type": "FailureTarget", "status": "True"},
            {"type": "SuccessCriteriaMet", "status": "True"}]);
        let at = "status.conditions";
        told(
            &json!({"startTime": "2026-01-01T00:00:00Z", "conditions": both}),
            &json!({}),
            &[at, at],
        );
    }
}
