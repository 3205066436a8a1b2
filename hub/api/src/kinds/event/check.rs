//! What a valid event is, in core's form.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::super::accessors::{int, text};

/// What of an event never changes through events.k8s.io/v1: the stored name, and the one in errors.
const IMMUTABLE: &[(&str, &str)] = &[
    ("involvedObject", "involvedObject"),
    ("reason", "reason"),
    ("message", "message"),
    ("source", "source"),
    ("firstTimestamp", "firstTimestamp"),
    ("lastTimestamp", "lastTimestamp"),
    ("count", "count"),
    ("type", "type"),
    ("eventTime", "eventTime"),
    ("action", "action"),
    ("related", "related"),
    ("reportingComponent", "reportingController"),
    ("reportingInstance", "reportingInstance"),
];
/// Most bytes of who reports, what was done and why.
const SHORT_TEXT_BYTES_MAX: usize = 128;
/// Most bytes of a note of the newer form.
const NOTE_BYTES_MAX: usize = 1024;

/// What every event has to be; those with an eventTime are of the newer form. `reporter` is what a version calls the field
/// of who reports: that alone is told by the name that it was written under.
pub(super) fn stored(core: &Value, reporter: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (own, theirs) =
        (text(core, "/metadata/namespace"), text(core, "/involvedObject/namespace"));
    let newer = !text(core, "/eventTime").is_empty();
    // What lives in no namespace is told about in `default`.
    let fits = match (newer, theirs) {
        (false, "") => matches!(own, "" | "default"),
        (false, theirs) => own == theirs,
        (true, "") => matches!(own, "" | "default" | "kube-system"),
        (true, _) => true,
    };
    if !fits {
        let at = "involvedObject.namespace";
        errors.push(FieldError::invalid(at, &json!(theirs), "does not match event.namespace"));
    }
    if !newer {
        return errors;
    }
    let controller = text(core, "/reportingComponent");
    if controller.is_empty() {
        errors.push(FieldError::required(reporter, ""));
    }
    let wrong = names::qualified_name(controller);
    errors.extend(wrong.iter().map(|t| FieldError::invalid(reporter, &json!(controller), t)));
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(core, &format!("/{field}"));
        if value.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        errors.extend(check_length(field, value, SHORT_TEXT_BYTES_MAX));
    }
    errors.extend(check_length("message", text(core, "/message"), NOTE_BYTES_MAX));
    errors
}

fn check_length(field: &str, value: &str, most: usize) -> Option<FieldError> {
    let text = format!("can have at most {most} characters");
    (most < value.len()).then(|| FieldError::invalid(field, &json!(""), &text))
}

/// What events.k8s.io/v1 asks of a new event beside that.
pub(super) fn new(core: &Value) -> Vec<FieldError> {
    let mut errors = check_series(core);
    if text(core, "/eventTime").is_empty() {
        errors.push(FieldError::required("eventTime", ""));
    }
    let kind = text(core, "/type");
    if !matches!(kind, "Normal" | "Warning") {
        let why = format!("has invalid value: {kind}");
        errors.push(FieldError::invalid("type", &json!(""), &why));
    }
    let is_set = |field: &str| match core.get(field) {
        Some(Value::Object(map)) => map.values().any(|value| value.as_str() != Some("")),
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        Some(value) => !value.is_null(),
        None => false,
    };
    for field in ["firstTimestamp", "lastTimestamp", "count", "source"] {
        if is_set(field) {
            errors.push(FieldError::invalid(field, &json!(""), "needs to be unset"));
        }
    }
    errors
}

fn check_series(core: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if core.get("series").is_none_or(Value::is_null) {
        return errors;
    }
    if int(core, "/series/count") < 2 {
        errors.push(FieldError::invalid("series.count", &json!(""), "should be at least 2"));
    }
    if text(core, "/series/lastObservedTime").is_empty() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
    errors
}

/// An event of events.k8s.io/v1 tells of more occurrences, and of nothing else.
pub(super) fn change(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if new.get("series") != old.get("series") {
        errors.extend(check_series(new));
    }
    // Empty and left out are the same.
    let read = |event: &Value, field: &str| match event.get(field) {
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::Object(map)) if map.is_empty() => None,
        other => other.filter(|value| !value.is_null() && **value != json!(0)).cloned(),
    };
    for (field, shown) in IMMUTABLE {
        let (now, was) = (read(new, field), read(old, field));
        if now != was {
            let now = now.unwrap_or_default();
            errors.push(FieldError::invalid(*shown, &now, "field is immutable"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::kind::Strategy as _;

    use super::super::{GroupRules, Rules};
    use super::*;

    fn fields(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    fn newer() -> Value {
        json!({
            "metadata": {"name": "e", "namespace": "default"}, "eventTime": "2026-01-01T00:00:00.000000Z",
            "regarding": {"kind": "Pod", "name": "web", "namespace": "attic"}, "type": "Normal",
            "reason": "Started", "action": "Start", "reportingController": "a.b/c", "reportingInstance": "c-1",
        })
    }

    #[test]
    fn an_event_of_the_newer_form_says_who_did_what() {
        // It may be told of elsewhere.
        assert_eq!(GroupRules.validate(&newer()), []);
        assert_eq!(Rules.validate(&newer()), []);
        let mut nobodys = newer();
        nobodys["reportingController"] = json!("");
        let (core, group) = (Rules.validate(&nobodys), GroupRules.validate(&nobodys));
        assert_eq!(fields(&core)[0], "reportingComponent");
        assert_eq!(fields(&group)[0], "reportingController");
        let mut bare = newer();
        for field in
            ["eventTime", "type", "reportingController", "reportingInstance", "action", "reason"]
        {
            let mut event = newer();
            event.as_object_mut().unwrap().remove(field);
            assert!(!GroupRules.validate(&event).is_empty(), "{field}");
            bare.as_object_mut().unwrap().remove(field);
        }
        bare["regarding"]["namespace"] = json!("default");
        assert_eq!(fields(&GroupRules.validate(&bare)), ["eventTime", "type"]);
        let mut event = newer();
        event["series"] = json!({"count": 1});
        event["deprecatedCount"] = json!(1);
        event["deprecatedSource"] = json!({"component": "x"});
        assert_eq!(
            fields(&GroupRules.validate(&event)),
            ["series.count", "series.lastObservedTime", "count", "source"]
        );
        event = newer();
        event["regarding"]["namespace"] = json!("");
        event["metadata"]["namespace"] = json!("kube-system");
        assert_eq!(GroupRules.validate(&event), []);
        event["metadata"]["namespace"] = json!("attic");
        assert_eq!(fields(&GroupRules.validate(&event)), ["involvedObject.namespace"]);
    }

    #[test]
    fn an_event_of_the_newer_form_counts_and_changes_nothing_else() {
        let mut counted = newer();
        counted["series"] = json!({"count": 2, "lastObservedTime": "2026-01-01T00:00:01.000000Z"});
        assert_eq!(GroupRules.validate_update(None, &counted, &newer()), []);
        counted["note"] = json!("other");
        assert_eq!(fields(&GroupRules.validate_update(None, &counted, &newer())), ["message"]);
    }
}
