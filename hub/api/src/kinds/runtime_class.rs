//! RuntimeClass: a name for what runs pods.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::accessors::{AGE, NAME, age, child, column, list, name, round_amounts, text};
use super::field_value::FieldValue;
use super::{pod_spec, resource_name};

const COLUMNS: &[Column] = &[NAME, column("Handler", "string", "What runs them."), AGE];

/// RuntimeClass of node.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("node.k8s.io", "v1", "RuntimeClass"), "runtimeclasses", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if object.get("overhead").is_some()
            && let Some(overhead) = child(object, "overhead")
        {
            round_amounts(overhead, "podFixed");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = FieldValue::of(object, "handler").named(names::dns_label);
        let overhead = FieldValue::of(object, "overhead");
        let limits =
            FieldValue { path: "overhead.limits".to_owned(), ..overhead.child("podFixed") };
        for (name, amount) in limits.entries() {
            errors.extend(resource_name::check_of_container(name, &amount));
            errors.extend(resource_name::check_amount(name, &amount));
        }
        let scheduling = FieldValue::of(object, "scheduling");
        errors.extend(scheduling.child("nodeSelector").labels());
        let tolerations = scheduling.child("tolerations");
        errors.extend(pod_spec::check_tolerations(
            list(scheduling.value, "/tolerations"),
            &tolerations.path,
        ));
        let mut seen = BTreeSet::new();
        for toleration in tolerations.items() {
            let key =
                ["key", "operator", "value", "effect"].map(|key| toleration.child(key).text());
            errors.extend((!seen.insert(key)).then(|| toleration.duplicate()));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let handler = |object| FieldValue::of(object, "handler");
        handler(new).stays(&handler(old)).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), text(object, "/handler").into(), age(object, now)]
    }
}
