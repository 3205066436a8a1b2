//! Event: what happened to an object, in the words of who saw it.
//!
//! ```text
//! v1 (involvedObject, source, count, message)  <->  events.k8s.io/v1 (regarding, deprecated*, note)
//! ```
//!
//! Guarantees: there is one event in the store, in core's form, whichever version wrote it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::look::{ALL_VERBS, column, int, name, text, wide};
use crate::error::FieldError;
use crate::kind::{Column, Kind, Strategy};
use crate::{name as names, time};

const COLUMNS: &[Column] = &[
    column("Last Seen", "string", "Time since it happened last."),
    column("Type", "string", "Normal or Warning."),
    column("Reason", "string", "What happened, in one word."),
    column("Object", "string", "What it happened to."),
    wide("Subobject", "string", "Which part of that."),
    wide("Source", "string", "Who saw it."),
    column("Message", "string", "What happened."),
    wide("First Seen", "string", "Time since it happened first."),
    wide("Count", "string", "How often."),
    Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "Its own name.",
        priority: 1,
    },
];
const FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
/// Core's name and the group's name of what differs.
const RENAMED: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

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
const SHORT: usize = 128;
/// Most bytes of a note of the newer form.
const NOTE: usize = 1024;

/// Event of core/v1, the stored form.
pub static CORE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    stored_as: None,
    strategy: &Rules,
};

/// Event of events.k8s.io/v1, a view of the same objects.
pub static EVENTS: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    namespaced: true,
    verbs: ALL_VERBS,
    subresources: &[],
    stored_as: Some(("", "events")),
    strategy: &GroupRules,
};

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check(&in_core_form(object))
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let core = in_core_form(object);
        let mut fields = BTreeMap::new();
        for field in FIELDS {
            let value = match *field {
                "source" => match text(&core, "/source/component") {
                    "" => text(&core, "/reportingComponent"),
                    component => component,
                },
                field => text(&core, &format!("/{}", field.replace('.', "/"))),
            };
            fields.insert((*field).to_owned(), value.to_owned());
        }
        fields
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        FIELDS
    }

    fn selectable_field_alias(&self, field: &str) -> Option<&'static str> {
        if field == "reportingController" {
            return Some("reportingComponent");
        }
        let rest = field.strip_prefix("regarding.")?;
        FIELDS.iter().find(|f| f.strip_prefix("involvedObject.") == Some(rest)).copied()
    }

    fn to_stored(&self, object: &mut Value) {
        rename(object, |core, group| (group, core), "v1");
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(&in_core_form(object), now)
    }

    fn counts_generation(&self) -> bool {
        false
    }
}

/// The group's version differs in what it gives back.
struct GroupRules;

impl Strategy for GroupRules {
    fn prepare_create(&self, object: &mut Value) {
        Rules.prepare_create(object);
    }

    /// What a new event of this version needs beside the rules of the stored one.
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let core = in_core_form(object);
        let mut errors = check(&core);
        errors.extend(check_new(&core));
        errors
    }

    /// An event of this version tells of more occurrences, and of nothing else.
    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (in_core_form(new), in_core_form(old));
        let mut errors = Vec::new();
        if new.get("series") != old.get("series") {
            errors.extend(check_series(&new));
        }
        // Empty and left out are the same.
        let read = |event: &Value, field: &str| match event.get(field) {
            Some(Value::String(text)) if text.is_empty() => None,
            Some(Value::Object(map)) if map.is_empty() => None,
            other => other.filter(|value| !value.is_null() && **value != json!(0)).cloned(),
        };
        for (field, shown) in IMMUTABLE {
            let (now, was) = (read(&new, field), read(&old, field));
            if now != was {
                let now = now.unwrap_or_default();
                errors.push(FieldError::invalid(*shown, &now, "field is immutable"));
            }
        }
        errors
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        Rules.selectable_fields(object)
    }

    fn selectable_field_names(&self) -> &'static [&'static str] {
        Rules.selectable_field_names()
    }

    fn selectable_field_alias(&self, field: &str) -> Option<&'static str> {
        Rules.selectable_field_alias(field)
    }

    fn to_stored(&self, object: &mut Value) {
        Rules.to_stored(object);
    }

    fn from_stored(&self, object: &mut Value) {
        rename(object, |core, group| (core, group), "events.k8s.io/v1");
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        Rules.row(object, now)
    }

    fn counts_generation(&self) -> bool {
        false
    }
}

/// What every event has to be; those with an eventTime are of the newer form.
fn check(core: &Value) -> Vec<FieldError> {
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
    let at = "reportingController";
    if controller.is_empty() {
        errors.push(FieldError::required(at, ""));
    }
    let wrong = names::qualified_name(controller);
    errors.extend(wrong.iter().map(|t| FieldError::invalid(at, &json!(controller), t)));
    for field in ["reportingInstance", "action", "reason"] {
        let value = text(core, &format!("/{field}"));
        if value.is_empty() {
            errors.push(FieldError::required(field, ""));
        }
        errors.extend(check_length(field, value, SHORT));
    }
    errors.extend(check_length("message", text(core, "/message"), NOTE));
    errors
}

fn check_length(field: &str, value: &str, most: usize) -> Option<FieldError> {
    let text = format!("can have at most {most} characters");
    (most < value.len()).then(|| FieldError::invalid(field, &json!(""), &text))
}

/// What events.k8s.io/v1 asks of a new event beside that.
fn check_new(core: &Value) -> Vec<FieldError> {
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

fn in_core_form(object: &Value) -> Cow<'_, Value> {
    if object.get("involvedObject").is_some() {
        return Cow::Borrowed(object);
    }
    let mut core = object.clone();
    Rules.to_stored(&mut core);
    Cow::Owned(core)
}

fn rename(
    object: &mut Value,
    direction: impl Fn(&'static str, &'static str) -> (&'static str, &'static str),
    api_version: &str,
) {
    let Some(map) = object.as_object_mut() else { return };
    for (core, group) in RENAMED {
        let (from, to) = direction(core, group);
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
    if map.contains_key("apiVersion") {
        map.insert("apiVersion".to_owned(), api_version.into());
    }
}

fn row(core: &Value, now: i64) -> Vec<Value> {
    let since = |pointer: &str| match text(core, pointer) {
        "" => None,
        moment => Some(time::age(moment, now)),
    };
    let first = since("/firstTimestamp")
        .or_else(|| since("/eventTime"))
        .unwrap_or_else(|| "<unknown>".to_owned());
    let (last, count) = match core.get("series").and_then(Value::as_object) {
        Some(series) => (
            since("/series/lastObservedTime").unwrap_or_else(|| "<unknown>".to_owned()),
            series_count(series),
        ),
        None => (
            since("/lastTimestamp").unwrap_or_else(|| first.clone()),
            // A single event of the newer form has no count.
            int(core, "/count").max(1),
        ),
    };
    vec![
        last.into(),
        text(core, "/type").into(),
        text(core, "/reason").into(),
        target(core).into(),
        text(core, "/involvedObject/fieldPath").into(),
        source(core).into(),
        text(core, "/message").trim().into(),
        first.into(),
        count.into(),
        name(core),
    ]
}

fn series_count(series: &Map<String, Value>) -> i64 {
    series.get("count").and_then(Value::as_i64).unwrap_or_default()
}

fn target(core: &Value) -> String {
    let kind = text(core, "/involvedObject/kind").to_lowercase();
    match text(core, "/involvedObject/name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(core: &Value) -> String {
    let either = |a: &str, b: &str| match text(core, a) {
        "" => text(core, b).to_owned(),
        found => found.to_owned(),
    };
    let component = either("/source/component", "/reportingComponent");
    let instance = either("/source/host", "/reportingInstance");
    if instance.is_empty() { component } else { format!("{component}, {instance}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn core() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": "e", "namespace": "default"},
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
            "reason": "Started", "message": " Started container ", "type": "Normal",
            "source": {"component": "spoke", "host": "pi-7"},
            "firstTimestamp": "1970-01-01T00:00:00Z", "lastTimestamp": "1970-01-01T00:01:00Z", "count": 3,
        })
    }

    #[test]
    fn both_versions_are_one_event() {
        let mut view = core();
        GroupRules.from_stored(&mut view);
        assert_eq!(view["apiVersion"], "events.k8s.io/v1");
        assert_eq!(view["regarding"]["name"], "web");
        assert_eq!(view["note"], " Started container ");
        assert_eq!(view["deprecatedCount"], 3);
        assert_eq!(Rules.row(&view, 120), Rules.row(&core(), 120));
        GroupRules.to_stored(&mut view);
        assert_eq!(view, core());
    }

    #[test]
    fn a_row_tells_when_what_and_how_often() {
        let row = Rules.row(&core(), 120);
        let cells = json!([
            "60s",
            "Normal",
            "Started",
            "pod/web",
            "",
            "spoke, pi-7",
            "Started container",
            "2m",
            3,
            "e"
        ]);
        assert_eq!(Value::Array(row), cells);
    }

    fn fields(errors: &[FieldError]) -> Vec<&str> {
        errors.iter().map(|error| error.field.as_str()).collect()
    }

    #[test]
    fn an_event_lives_beside_its_object() {
        assert_eq!(Rules.validate(&core()), []);
        let mut event = core();
        event["involvedObject"]["namespace"] = json!("attic");
        assert_eq!(Rules.validate(&event)[0].field, "involvedObject.namespace");
        event["involvedObject"]["namespace"] = json!("");
        assert_eq!(Rules.validate(&event), []);
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
