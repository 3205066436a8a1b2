//! Event: what happened to an object, in the words of who saw it.
//!
//! ```text
//! v1 (involvedObject, source, count, message)  <->  events.k8s.io/v1 (regarding, deprecated*, note)
//! ```
//!
//! ```text
//! check     the rules of both versions
//! ```
//!
//! Guarantees:
//! - there is one event in the store, in core's form, whichever version wrote it (`both_versions_are_one_event`).

mod check;

use std::borrow::Cow;
use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::{Gvk, Gvr};
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::time;
use serde_json::{Map, Value};

use super::accessors::{column, int, name, text, wide};

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
        name: Cow::Borrowed("Name"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed("Its own name."),
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

/// Event of core/v1, the stored form.
pub(crate) fn core() -> Kind {
    either(Kind::new(Gvk::new("", "v1", "Event"), "events", Rules))
}

/// Event of events.k8s.io/v1, a view of the same objects.
pub(crate) fn kind() -> Kind {
    either(Kind::new(Gvk::new("events.k8s.io", "v1", "Event"), "events", GroupRules))
        .stored_as(Gvr::new("", "v1", "events"))
}

/// What both have. There are more of them than of all else, so nobody looks for their owners.
fn either(kind: Kind) -> Kind {
    let regarding = FIELDS.iter().filter_map(|field| {
        let rest = field.strip_prefix("involvedObject.")?;
        Some((format!("regarding.{rest}"), (*field).to_owned()))
    });
    let reporting = ("reportingController".to_owned(), "reportingComponent".to_owned());
    kind.short(["ev"])
        .columns(COLUMNS)
        .fields(FIELDS.iter().copied())
        .aliases(regarding.chain([reporting]))
        .with(&[
            Trait::HasNoOwners,
            Trait::CountsNoGeneration,
            Trait::CreatesOnUpdate,
            Trait::CountsInNoQuota,
        ])
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check::stored(&in_core_form(object), "reportingComponent")
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

    fn to_stored(&self, object: &mut Value) {
        rename(object, |core, group| (group, core), "v1");
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(&in_core_form(object), now)
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
        let mut errors = check::stored(&core, "reportingController");
        errors.extend(check::new(&core));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        check::change(&in_core_form(new), &in_core_form(old))
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        Rules.selectable_fields(object)
    }

    fn to_stored(&self, object: &mut Value) {
        Rules.to_stored(object);
    }

    fn from_stored(&self, object: &mut Value) -> Result<(), String> {
        rename(object, |core, group| (core, group), "events.k8s.io/v1");
        Ok(())
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        Rules.row(object, now)
    }
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
    use serde_json::json;

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
        GroupRules.from_stored(&mut view).unwrap();
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

    #[test]
    fn an_event_lives_beside_its_object() {
        assert_eq!(Rules.validate(&core()), []);
        let mut event = core();
        event["involvedObject"]["namespace"] = json!("attic");
        assert_eq!(Rules.validate(&event)[0].field, "involvedObject.namespace");
        event["involvedObject"]["namespace"] = json!("");
        assert_eq!(Rules.validate(&event), []);
    }
}
