//! DaemonSet: one pod of a template on every node that it fits.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Selection, Strategy, keep_other_half};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, int, name, set_default, wide};
use super::field_value::FieldValue;
use super::template;

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "Nodes that are to have one."),
    column("Current", "integer", "Nodes that have one."),
    column("Ready", "integer", "Nodes with one that is ready."),
    column("Up-to-date", "integer", "Nodes with one of the newest template."),
    column("Available", "integer", "Nodes with one that has been ready for long enough."),
    column("Node Selector", "string", "Labels that its nodes have."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Which pods are its own."),
];
const COUNTED: &[&str] = &[
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
];

/// DaemonSet of apps/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apps", "v1", "DaemonSet"), "daemonsets", Rules)
        .short(["ds"])
        .category(["all"])
        .with_status()
        .selects_by(Selection::LabelSelector)
        .columns(COLUMNS)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "revisionHistoryLimit", 10);
        set_default(spec, "updateStrategy", json!({}));
        if let Some(strategy) = spec.get_mut("updateStrategy").and_then(Value::as_object_mut) {
            set_default(strategy, "type", "RollingUpdate");
            if strategy.get("type") == Some(&"RollingUpdate".into()) {
                set_default(strategy, "rollingUpdate", json!({}));
                if let Some(rolling) =
                    strategy.get_mut("rollingUpdate").and_then(Value::as_object_mut)
                {
                    set_default(rolling, "maxUnavailable", 1);
                    set_default(rolling, "maxSurge", 0);
                }
            }
        }
        template::default(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            let status = json!({
                "currentNumberScheduled": 0, "desiredNumberScheduled": 0, "numberMisscheduled": 0, "numberReady": 0,
            });
            map.insert("status".to_owned(), status);
        }
        let count = annotation(object).unwrap_or_default().max(1);
        count_templates(object, count);
    }

    /// Its template is counted, in an annotation that nobody else may change.
    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(door, new, old);
        if door.is_some() {
            return;
        }
        let same = new.pointer("/spec/template") == old.pointer("/spec/template");
        let count = annotation(old).unwrap_or(1);
        count_templates(new, if same { count } else { count + 1 });
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let (selector, pods) = (spec.child("selector"), spec.child("template"));
        let mut errors = Vec::new();
        match LabelSelector::from_json(Some(selector.value), &selector.path) {
            Err(wrong) => errors.extend(wrong),
            Ok(wanted) => {
                let labels = pods.child("metadata").child("labels");
                if !wanted.matches_json(Some(labels.value)) {
                    errors.push(labels.invalid("`selector` does not match template `labels`"));
                }
                if selector.is_there() && wanted.is_everything() {
                    errors.push(selector.invalid("empty selector is invalid for daemonset"));
                }
            }
        }
        errors.extend(template::check(object, "DaemonSet"));
        errors.extend(spec.child("minReadySeconds").at_least(0));
        errors.extend(check_strategy(&spec.child("updateStrategy")));
        errors.extend(spec.child("revisionHistoryLimit").at_least(0));
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door != Some("status") {
            return template::selector_stays(new, old);
        }
        let status = FieldValue::of(new, "status");
        let mut errors: Vec<_> =
            COUNTED.iter().filter_map(|field| status.child(field).at_least(0)).collect();
        errors.extend(template::collisions_grow(new, old));
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let count = |field: &str| Value::from(int(object, &format!("/status/{field}")));
        let mut row = vec![
            name(object),
            count("desiredNumberScheduled"),
            count("currentNumberScheduled"),
            count("numberReady"),
            count("updatedNumberScheduled"),
            count("numberAvailable"),
            template::labels_cell(object.pointer("/spec/template/spec/nodeSelector")),
            age(object, now),
        ];
        row.extend(template::wide_cells(object));
        row
    }
}

/// Where the older API kept how many templates there were.
const GENERATION: &str = "deprecated.daemonset.template.generation";

fn annotation(object: &Value) -> Option<i64> {
    object.pointer("/metadata/annotations")?.get(GENERATION)?.as_str()?.parse().ok()
}

fn count_templates(object: &mut Value, count: i64) {
    let Some(meta) = object.get_mut("metadata") else { return };
    if let Some(annotations) = child(meta, "annotations") {
        annotations.insert(GENERATION.to_owned(), count.to_string().into());
    }
}

fn check_strategy(strategy: &FieldValue<'_>) -> Vec<FieldError> {
    let rolling = strategy.child("rollingUpdate");
    match strategy.child("type").text() {
        "OnDelete" => Vec::new(),
        "RollingUpdate" if !rolling.is_there() => vec![rolling.required("")],
        "RollingUpdate" => {
            let (unavailable, surge) = (rolling.child("maxUnavailable"), rolling.child("maxSurge"));
            let mut errors = template::check_amount(&unavailable);
            errors.extend(template::check_amount(&surge));
            match (template::is_some(&unavailable), template::is_some(&surge)) {
                (true, true) => {
                    errors.push(surge.invalid("may not be set when maxUnavailable is non-zero"));
                }
                (false, false) => {
                    errors.push(unavailable.required("cannot be 0 when maxSurge is 0"));
                }
                (true, false) | (false, true) => {}
            }
            errors
        }
        _ => vec![strategy.not_supported(&["OnDelete", "RollingUpdate"])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_counted() {
        let mut old = json!({"metadata": {"name": "d"}, "spec": {"template": {"a": 1}}});
        Rules.prepare_create(&mut old);
        assert_eq!(annotation(&old), Some(1));
        let mut new = json!({"metadata": {"name": "d"}, "spec": {"template": {"a": 1}, "x": 1}});
        Rules.prepare_update(None, &mut new, &old);
        assert_eq!(annotation(&new), Some(1));
        new["spec"]["template"] = json!({"a": 2});
        Rules.prepare_update(None, &mut new, &old);
        assert_eq!(annotation(&new), Some(2));
    }
}
