//! What a Job's status may say, and what it may not take back.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::time;
use serde_json::Value;

use super::job_spec::{read_indexes, read_interval, without_value};
use crate::kinds::accessors::{condition, flag, int, text};
use crate::kinds::field_value::FieldValue;

/// Every mistake of a new status: of most things only if they, or what they have to fit, have changed.
pub(super) fn check(new: &Value, old: &Value) -> Vec<FieldError> {
    if new.get("status") == old.get("status") {
        return Vec::new();
    }
    let status = FieldValue::of(new, "status");
    let changed = Changed { new, old };
    let mut errors = Vec::new();
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.extend(status.child(field).at_least(0));
    }
    errors.extend(check_uncounted(&status.child("uncountedTerminatedPods")));
    errors.extend(check_conditions(&changed, &status));
    errors.extend(check_times(&changed, &status));
    errors.extend(check_finished(&changed, &status));
    errors.extend(check_indexes(&changed, &status));
    errors.extend(check_change(new, old, &status));
    errors
}

/// A status before and after.
struct Changed<'a> {
    new: &'a Value,
    old: &'a Value,
}

impl Changed<'_> {
    /// Whether one of these fields has changed.
    fn field(&self, names: &[&str]) -> bool {
        let of = |object: &Value, name: &str| object.pointer(&format!("/status/{name}")).cloned();
        names.iter().any(|name| of(self.new, name) != of(self.old, name))
    }

    /// Whether one of these conditions has become true, or is it no more.
    fn truth(&self, names: &[&str]) -> bool {
        names.iter().any(|name| is(self.new, name) != is(self.old, name))
    }

    /// Whether it is over, and was not, or the other way round.
    fn end(&self) -> bool {
        is_finished(self.new) != is_finished(self.old)
    }
}

fn is(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|found| text(found, "/status") == "True")
}

fn is_finished(object: &Value) -> bool {
    is(object, "Complete") || is(object, "Failed")
}

fn check_uncounted(uncounted: &FieldValue<'_>) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for list in ["succeeded", "failed"].map(|list| uncounted.child(list)) {
        for uid in list.items() {
            if uid.text().is_empty() {
                errors.push(uid.invalid("must not be empty"));
            } else if !seen.insert(uid.text()) {
                errors.push(uid.duplicate());
            }
        }
    }
    errors
}

fn check_conditions(changed: &Changed<'_>, status: &FieldValue<'_>) -> Vec<FieldError> {
    let is = |kind| is(changed.new, kind);
    let (complete, failed) = (is("Complete"), is("Failed"));
    let (target, met) = (is("FailureTarget"), is("SuccessCriteriaMet"));
    let has_policy = changed.new.pointer("/spec/successPolicy").is_some();
    let conditions = status.child("conditions");
    let rules = [
        (
            complete && failed && changed.truth(&["Complete", "Failed"]),
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            complete && target && changed.truth(&["Complete", "FailureTarget"]),
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            failed && !target && (changed.truth(&["Failed"]) || changed.field(&["failedIndexes"])),
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            complete && !met && changed.truth(&["Complete", "SuccessCriteriaMet"]),
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions"),
        (met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions"),
        (
            has_policy && complete && !met,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    let broken = rules.iter().filter(|(broken, _)| *broken);
    broken.map(|(_, text)| without_value(&conditions, text)).collect()
}

fn check_times(changed: &Changed<'_>, status: &FieldValue<'_>) -> Vec<FieldError> {
    let (start, end) = (status.child("startTime"), status.child("completionTime"));
    let mut errors = Vec::new();
    if changed.truth(&["Complete"]) || changed.field(&["completionTime"]) {
        match (end.is_there(), is(changed.new, "Complete")) {
            (true, false) => errors.push(
                end.invalid("cannot set completionTime when there is no Complete=True condition"),
            ),
            (false, true) => {
                errors.push(end.required("completionTime is required for Complete jobs"));
            }
            (true, true) | (false, false) => {}
        }
    }
    let times = (time::parse_unix(start.text()), time::parse_unix(end.text()));
    if let (Some(from), Some(to)) = times
        && to < from
        && changed.field(&["startTime", "completionTime"])
    {
        errors.push(end.invalid("must be equal to or after `startTime`"));
    }
    errors
}

fn check_finished(changed: &Changed<'_>, status: &FieldValue<'_>) -> Vec<FieldError> {
    let new = changed.new;
    let number = |place: &FieldValue<'_>| place.int().unwrap_or_default();
    let mut errors = Vec::new();
    let (active, ready) = (status.child("active"), status.child("ready"));
    if number(&active) < number(&ready) && changed.field(&["active", "ready"]) {
        errors.push(ready.invalid("cannot set more ready pods than active"));
    }
    let judged = |field: &str| is_finished(new) && (changed.end() || changed.field(&[field]));
    if 0 < number(&active) && judged("active") {
        errors.push(active.invalid("active>0 is invalid for finished job"));
    }
    let terminating = status.child("terminating");
    if 0 < number(&terminating) && judged("terminating") {
        errors.push(terminating.invalid("terminating>0 is invalid for finished job"));
    }
    let never =
        flag(new, "/spec/suspend") && new.pointer("/spec/completions") == Some(&Value::from(0));
    let start = status.child("startTime");
    if !start.is_there() && !never && judged("startTime") {
        errors.push(start.required("startTime is required for finished job"));
    }
    let uncounted = status.child("uncountedTerminatedPods");
    let left = !uncounted.child("succeeded").is_empty() || !uncounted.child("failed").is_empty();
    if left && judged("uncountedTerminatedPods") {
        errors.push(uncounted.invalid("must be empty for finished job"));
    }
    errors
}

fn check_indexes(changed: &Changed<'_>, status: &FieldValue<'_>) -> Vec<FieldError> {
    let new = changed.new;
    let (completed, failed) = (status.child("completedIndexes"), status.child("failedIndexes"));
    let (its, theirs) = (changed.field(&["completedIndexes"]), changed.field(&["failedIndexes"]));
    let completions = new.pointer("/spec/completions").and_then(Value::as_i64);
    let per_index = new.pointer("/spec/backoffLimitPerIndex").is_some();
    let mut errors = Vec::new();
    let read = |at: &FieldValue<'_>, field: &str| {
        let why = read_indexes(at.text(), completions?).err()?;
        Some(at.invalid(&format!("error parsing {field}: {why}")))
    };
    errors.extend(read(&completed, "completedIndexes").filter(|_| its));
    errors.extend(read(&failed, "failedIndexes").filter(|_| theirs && per_index));
    if its && !completed.is_empty() && text(new, "/spec/completionMode") != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.push(completed.invalid(text));
    }
    if theirs && failed.is_there() && !per_index {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.push(failed.invalid(text));
    }
    if let Some(all) = completions.filter(|_| its || theirs)
        && let Some(index) = shared_index(completed.text(), failed.text(), all)
    {
        let text = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.push(failed.invalid(&text));
    }
    errors
}

/// The first index that both name.
fn shared_index(completed: &str, failed: &str, completions: i64) -> Option<i64> {
    let intervals = |text: &str| -> Vec<(i64, i64)> {
        text.split(',').filter_map(|part| read_interval(part, completions).ok()).collect()
    };
    let (completed, failed) = (intervals(completed), intervals(failed));
    let (mut completed, mut failed) = (completed.iter().peekable(), failed.iter().peekable());
    while let (Some(c), Some(f)) = (completed.peek(), failed.peek()) {
        if c.0 <= f.1 && f.0 <= c.1 {
            return Some(c.0.max(f.0));
        }
        if c.0 <= f.0 {
            completed.next()
        } else {
            failed.next()
        };
    }
    None
}

/// What was said for good stays said.
fn check_change(new: &Value, old: &Value, status: &FieldValue<'_>) -> Vec<FieldError> {
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
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && is(new, "SuccessCriteriaMet") {
        let text =
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
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
    let before = FieldValue::of(old, "status");
    let (end, was) = (status.child("completionTime"), before.child("completionTime"));
    if end.is_there() && was.is_there() {
        errors.extend(end.stays(&was));
    }
    let (start, was) = (status.child("startTime"), before.child("startTime"));
    let goes_on = condition(new, "Suspended").is_some_and(|c| text(c, "/status") == "False");
    let resumes = is(old, "Suspended") && goes_on;
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
        let listed = json!({"uncountedTerminatedPods": {"succeeded": ["a", ""], "failed": ["a"]}});
        let at = "status.uncountedTerminatedPods";
        told(&listed, &json!({}), &[&format!("{at}.succeeded[1]"), &format!("{at}.failed[0]")]);
        let both = json!([{"type": "Failed", "status": "True"}, {"type": "FailureTarget", "status": "True"},
            {"type": "SuccessCriteriaMet", "status": "True"}]);
        let at = "status.conditions";
        told(
            &json!({"startTime": "2026-01-01T00:00:00Z", "conditions": both}),
            &json!({}),
            &[at, at],
        );
    }

    #[test]
    fn what_has_not_changed_is_not_judged_again() {
        let odd = json!({"active": 1, "conditions": [{"type": "Complete", "status": "True"}]});
        let mut same = odd.clone();
        same["failed"] = json!(1);
        told(&same, &odd, &[]);
        let mut other = odd.clone();
        other["active"] = json!(2);
        told(&other, &odd, &["status.active"]);
    }

    #[test]
    fn no_index_both_succeeds_and_fails() {
        assert_eq!(shared_index("0-3,7", "4,6-9", 10), Some(7));
        assert_eq!(shared_index("0-3,8", "4,6-7", 10), None);
        assert_eq!(shared_index("x,5", "5", 10), Some(5));
        assert_eq!(shared_index("", "5", 10), None);
    }
}
