//! ReplicaSet: a number of pods of one template.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Selection, Strategy};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, int, name, set_default, wide};
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

/// ReplicaSet of apps/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("apps", "v1", "ReplicaSet"), "replicasets", Rules)
        .short(["rs"])
        .category(["all"])
        .with_scale()
        .with_status()
        .selects_by(Selection::LabelSelector)
        .scaled_by("Deployment")
        .columns(COLUMNS)
        .keeps(RESOLVED)
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
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
        let mut errors = template::check_counts(object, &["replicas", "minReadySeconds"]);
        errors.extend(template::check_selector(object, "replicaset"));
        errors.extend(template::check(object, "ReplicaSet"));
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        template::selector_stays(new, old)
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        template::warnings(object)
    }

    fn pod_template(&self) -> Option<&'static str> {
        Some("/spec/template")
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let mut row = vec![
            name(object),
            int(object, "/spec/replicas").into(),
            int(object, "/status/replicas").into(),
            int(object, "/status/readyReplicas").into(),
            age(object, now),
        ];
        row.extend(template::wide_cells(object));
        row
    }
}
