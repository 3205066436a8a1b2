//! PersistentVolumeClaim: a request for storage.

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait, keep_other_half};
use freewheel_hub_schema::quantity::{Format, Quantity};
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, name, text, text_or, wide};
use super::field_value::FieldValue;
use super::pod_spec::requirements::{self, Amounts};
use super::volume_claim_spec::{self as claim_spec, CLASS_ANNOTATION, modes_cell};
use crate::quota::{OF_CLASS, is_of_storage};

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "string", "Whether it is bound."),
    column("Volume", "string", "The volume that it is bound to."),
    column("Capacity", "string", "How much that holds."),
    column("Access Modes", "string", "How that may be mounted."),
    column("StorageClass", "string", "The class that it asks for."),
    column("VolumeAttributesClass", "string", "The class of attributes that it asks for."),
    AGE,
    wide("VolumeMode", "string", "A file system or a block device."),
];

/// PersistentVolumeClaim of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "PersistentVolumeClaim"), "persistentvolumeclaims", Rules)
        .short(["pvc"])
        .with_status()
        .columns(COLUMNS)
        .aliases([("name", "metadata.name")])
        .with(&[
            Trait::AsksForStorage,
            Trait::GrowsInQuota,
            Trait::CountsNoGeneration,
            Trait::ShowsTheDeleted,
        ])
        .without_effect("no controller of this hub binds it yet, and no spoke mounts it")
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            claim_spec::default(spec);
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            claim_spec::unite_sources(spec);
        }
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(door, new, old);
        if let Some(spec) = child(new, "spec").filter(|_| door.is_none()) {
            claim_spec::unite_sources(spec);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        claim_spec::check(&FieldValue::of(object, "spec"))
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door.is_some() {
            return Vec::new();
        }
        let (now, was) = (FieldValue::of(new, "spec"), FieldValue::of(old, "spec"));
        let mut errors = Vec::new();
        if compared(new, old) != compared(old, old) {
            let text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
            errors.push(now.forbidden(text));
        }
        errors.extend(check_size(new, old));
        let mode = FieldValue { path: "volumeMode".to_owned(), ..now.child("volumeMode") };
        errors.extend(mode.stays(&was.child("volumeMode")));
        let class = now.child("volumeAttributesClassName");
        let applied = !text(old, "/status/currentVolumeAttributesClassName").is_empty();
        if applied
            && class.value != was.child("volumeAttributesClassName").value
            && class.is_empty()
        {
            let to = if class.is_there() { "empty string" } else { "nil" };
            let text = format!(
                "update to {to} is forbidden when status.currentVolumeAttributesClassName is not nil"
            );
            errors.push(class.forbidden(&text));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut found = claim_spec::warn_of_class_annotation(object);
        found.extend(claim_spec::warnings(&FieldValue::of(object, "spec")));
        found
    }

    fn selectable_fields(&self, object: &Value) -> BTreeMap<String, String> {
        BTreeMap::from([("name".to_owned(), text(object, "/metadata/name").to_owned())])
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let phase = match text(object, "/metadata/deletionTimestamp") {
            "" => text(object, "/status/phase"),
            _ => "Terminating",
        };
        let volume = text(object, "/spec/volumeName");
        let bound = !volume.is_empty();
        let annotations = object.pointer("/metadata/annotations");
        let class = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).and_then(Value::as_str);
        let capacity = if bound { text_or(object, "/status/capacity/storage", "0") } else { "" };
        vec![
            name(object),
            phase.into(),
            volume.into(),
            capacity.into(),
            modes_cell(object.pointer("/status/accessModes").filter(|_| bound)),
            class.unwrap_or_else(|| text(object, "/spec/storageClassName")).into(),
            text_or(object, "/spec/volumeAttributesClassName", "<unset>").into(),
            age(object, now),
            text_or(object, "/spec/volumeMode", "<unset>").into(),
        ]
    }

    fn is_quota_name(&self, name: &str) -> bool {
        name == "persistentvolumeclaims" || is_of_storage(name)
    }

    fn quota_usage(&self, object: &Value) -> BTreeMap<String, Quantity> {
        quota_usage(&object["spec"])
    }
}

/// The spec without what may still change: the volume until it has one; of a bound claim its size and its class of
/// attributes.
fn compared(object: &Value, old: &Value) -> Value {
    let mut spec = object.get("spec").cloned().unwrap_or_default();
    let bound = text(old, "/status/phase") == "Bound";
    let Some(map) = spec.as_object_mut() else { return spec };
    if text(old, "/spec/volumeName").is_empty() {
        map.remove("volumeName");
    }
    let unset = old.pointer("/spec/storageClassName").is_none();
    let annotations = old.pointer("/metadata/annotations");
    let named = annotations.and_then(|all| all.get(CLASS_ANNOTATION));
    // A class that was not chosen yet may be; one that was named the older way may be named the newer one.
    if unset && named.is_none_or(|class| map.get("storageClassName") == Some(class)) {
        map.remove("storageClassName");
    }
    if bound {
        map.remove("volumeAttributesClassName");
        if let Some(requests) = map
            .get_mut("resources")
            .and_then(|resources| resources.get_mut("requests"))
            .and_then(Value::as_object_mut)
        {
            requests.remove("storage");
        }
    }
    spec
}

/// A claim may shrink to more than it has.
fn check_size(new: &Value, old: &Value) -> Option<FieldError> {
    let size = |object| {
        FieldValue::of(object, "spec").child("resources").child("requests").child("storage")
    };
    let has = FieldValue::of(old, "status")
        .child("capacity")
        .child("storage")
        .amount()
        .unwrap_or_default();
    let (now, was) = (size(new), size(old));
    let shrinks = now.amount()? < was.amount()?;
    let text = "field can not be less than status.capacity";
    (shrinks && now.amount()? <= has).then(|| now.forbidden(text))
}

/// What a claim counts for, by the names of quotas.
fn quota_usage(spec: &Value) -> Amounts {
    let one = Quantity::of_milli(1000, Format::Decimal);
    let mut used = Amounts::from([("persistentvolumeclaims".to_owned(), one)]);
    let size = requirements::of_container(spec, "requests").remove("storage").unwrap_or_default();
    used.insert("requests.storage".to_owned(), size);
    if let Some(class) = spec["storageClassName"].as_str().filter(|class| !class.is_empty()) {
        used.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), one);
        used.insert(format!("{class}{OF_CLASS}requests.storage"), size);
    }
    used
}
