//! IPAddress: an address, and whose it is.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, NameRule, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use crate::kinds::accessors::{NAME, column, name, text};
use crate::kinds::address::check_canonical;
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[NAME, column("ParentRef", "string", "Whose it is.")];

/// IPAddress of networking.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("networking.k8s.io", "v1", "IPAddress"), "ipaddresses", Rules)
        .cluster_scoped()
        .short(["ip"])
        .names_are(NameRule::PathSegment)
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration])
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let own = text(object, "/metadata/name");
        let mut errors: Vec<_> = check_canonical(own, "metadata.name").into_iter().collect();
        let parent = FieldValue::of(object, "spec").child("parentRef");
        if !parent.is_there() {
            errors.push(parent.required(""));
            return errors;
        }
        let (group, namespace) = (parent.child("group"), parent.child("namespace"));
        if !group.is_empty() {
            errors.extend(group.follows(names::dns_subdomain));
        }
        errors.extend(parent.child("resource").named(names::path_segment));
        errors.extend(parent.child("name").named(names::path_segment));
        if !namespace.is_empty() {
            errors.extend(namespace.follows(names::path_segment));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let parent = |object| FieldValue::of(object, "spec").child("parentRef");
        parent(new).stays(&parent(old)).into_iter().collect()
    }

    fn row(&self, object: &Value, _: i64) -> Vec<Value> {
        let parent = object.pointer("/spec/parentRef").map(|parent| {
            let of = |field: &str, before: &str| match text(parent, field) {
                "" => String::new(),
                found => format!("{before}{found}"),
            };
            let (resource, group) = (of("/resource", ""), of("/group", "."));
            let (namespace, name) = (of("/namespace", "/"), text(parent, "/name"));
            format!("{}{namespace}/{name}", format!("{resource}{group}").to_lowercase())
        });
        vec![name(object), parent.unwrap_or_else(|| "<none>".to_owned()).into()]
    }
}
