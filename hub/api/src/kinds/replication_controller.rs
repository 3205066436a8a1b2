//! ReplicationController: a number of pods of one template, chosen by plain labels.

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Selection, Strategy, Trait};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, int, map, name, set_default, text, wide};
use super::field_value::FieldValue;
use super::template;
use crate::pins::RESOLVED;

const COLUMNS: &[Column] = &[
    NAME,
    column("Desired", "integer", "Pods wanted."),
    column("Current", "integer", "Pods there are."),
    column("Ready", "integer", "Pods that are ready."),
    AGE,
    wide("Containers", "string", "Names of the template's containers."),
    wide("Images", "string", "Images of the template's containers."),
    wide("Selector", "string", "Which pods are its own."),
];

/// ReplicationController of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "ReplicationController"), "replicationcontrollers", Rules)
        .short(["rc"])
        .category(["all"])
        .with_scale()
        .with_status()
        .selects_by(Selection::Labels)
        .columns(COLUMNS)
        .fields(["status.replicas"])
        .keeps(RESOLVED)
        .with(&[Trait::LeavesItsOwn, Trait::CountedByPlural])
}

struct Rules;

impl Strategy for Rules {
    /// What it does not say of its pods and of itself, its template's labels say.
    fn default(&self, object: &mut Value) {
        let labels = object.pointer("/spec/template/metadata/labels").cloned();
        let labels = labels.filter(|labels| *labels != json!({}) && labels.is_object());
        if let Some(labels) = labels {
            if let Some(spec) = child(object, "spec")
                && spec.get("selector").is_none_or(|selector| *selector == json!({}))
            {
                spec.insert("selector".to_owned(), labels.clone());
            }
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut)
                && meta.get("labels").is_none_or(|labels| *labels == json!({}))
            {
                meta.insert("labels".to_owned(), labels);
            }
        }
        let Some(spec) = child(object, "spec") else { return };
        set_default(spec, "replicas", 1);
        template::default(spec);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"replicas": 0}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = template::check_counts(object, &["minReadySeconds"]);
        let spec = FieldValue::of(object, "spec");
        let (selector, pods) = (spec.child("selector"), spec.child("template"));
        errors.extend(selector.must_be());
        errors.extend(template::check_counts(object, &["replicas"]));
        errors.extend(pods.must_be());
        if !pods.is_empty() {
            let wanted = map(selector.value, "").map(|(key, value)| (key, text(value, "")));
            let labels = pods.child("metadata").child("labels");
            if !LabelSelector::from_map(wanted).matches_json(Some(labels.value)) {
                errors.push(labels.invalid("`selector` does not match template `labels`"));
            }
            errors.extend(template::check_pods(&pods));
            errors.extend(template::check_for_ever(&pods, "ReplicationController"));
        }
        errors
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, _: &Value) -> Vec<FieldError> {
        if door != Some("status") {
            return Vec::new();
        }
        let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
        template::check_replicas(new, &parts)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        let replicas = int(object, "/status/replicas").to_string();
        BTreeMap::from([("status.replicas".to_owned(), replicas)])
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let [names, images] = template::container_cells(spec);
        vec![
            name(object),
            int(object, "/spec/replicas").into(),
            int(object, "/status/replicas").into(),
            int(object, "/status/readyReplicas").into(),
            age(object, now),
            names,
            images,
            template::labels_cell(spec.get("selector")),
        ]
    }
}
