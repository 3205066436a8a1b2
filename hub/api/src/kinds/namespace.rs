//! Namespace: the room that names are unique in.
//!
//! Guarantees:
//! - a new one carries its own name as a label, and the finalizer that keeps it until it is empty
//!   (`a_new_namespace_is_active_labelled_and_held_by_its_finalizer`), which goes through its own door alone
//!   (`only_finalize_takes_finalizers_away`).

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, NameRule, Strategy, Trait, keep_other_half};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, list, name, text};

/// Label that every namespace carries with its own name.
pub const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer in spec.finalizers that keeps a namespace until its content is gone.
pub const FINALIZER: &str = "kubernetes";

const COLUMNS: &[Column] = &[NAME, column("Status", "string", "Active or Terminating."), AGE];

/// Namespace of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "Namespace"), "namespaces", Rules)
        .cluster_scoped()
        .short(["ns"])
        .verbs(&["create", "delete", "get", "list", "patch", "update", "watch"])
        .subresource("finalize", &["update"])
        .with_status()
        .columns(COLUMNS)
        .names_are(NameRule::DnsLabel)
        .fields(["status.phase"])
        .aliases([("name", "metadata.name")])
        .with(&[Trait::HasContent, Trait::CountsNoGeneration])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let own = text(object, "/metadata/name").to_owned();
        if own.is_empty() {
            return;
        }
        let Some(meta) = object.get_mut("metadata") else { return };
        if let Some(labels) = child(meta, "labels") {
            labels.insert(NAME_LABEL.to_owned(), own.into());
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Active"}));
        }
        let kept = list(object, "/spec/finalizers").iter().any(|f| f == FINALIZER);
        if let Some(spec) = child(object, "spec")
            && !kept
        {
            let mut all =
                spec.get("finalizers").and_then(Value::as_array).cloned().unwrap_or_default();
            all.push(FINALIZER.into());
            spec.insert("finalizers".to_owned(), all.into());
        }
    }

    fn prepare_update(&self, subresource: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(subresource, new, old);
        // spec.finalizers go through the door `finalize` alone.
        if subresource.is_none()
            && let (Some(map), Some(spec)) = (new.as_object_mut(), old.get("spec"))
        {
            map.insert("spec".to_owned(), spec.clone());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let finalizers = list(object, "/spec/finalizers").iter().enumerate();
        let wrong = finalizers.flat_map(|(i, value)| {
            let text = value.as_str().unwrap_or_default();
            let complaints = if text == FINALIZER || text.contains('/') {
                freewheel_hub_schema::name::qualified_name(text)
            } else {
                vec![
                    "name is neither a standard finalizer name nor is it fully qualified"
                        .to_owned(),
                ]
            };
            let at = format!("spec.finalizers[{i}]");
            complaints.into_iter().map(move |c| FieldError::invalid(at.clone(), value, &c))
        });
        wrong.collect()
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        BTreeMap::from([("status.phase".to_owned(), text(object, "/status/phase").to_owned())])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![name(object), text(object, "/status/phase").into(), age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_labelled_and_held_by_its_finalizer() {
        let mut object = json!({"metadata": {"name": "attic"}});
        Rules.default(&mut object);
        Rules.prepare_create(&mut object);
        assert_eq!(
            object,
            json!({
                "metadata": {"name": "attic", "labels": {NAME_LABEL: "attic"}},
                "spec": {"finalizers": ["kubernetes"]},
                "status": {"phase": "Active"},
            })
        );
        assert_eq!(Rules.validate(&object), []);
    }

    #[test]
    fn only_finalize_takes_finalizers_away() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}});
        let mut new = json!({"metadata": {"name": "a"}, "spec": {}});
        Rules.prepare_update(None, &mut new, &old);
        assert_eq!(new, old);
        let mut new = json!({"metadata": {"name": "a"}, "spec": {}});
        Rules.prepare_update(Some("finalize"), &mut new, &old);
        assert_eq!(new["spec"], json!({}));
        assert_eq!(new["status"], json!({"phase": "Active"}));
    }
}
