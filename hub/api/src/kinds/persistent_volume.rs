//! PersistentVolume: a piece of storage that a claim may be bound to.

use std::collections::BTreeMap;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait, keep_other_half};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, name, set_default, text, text_or, wide};
use super::field_value::FieldValue;
use super::pod_spec::check_node_selector;
use super::volume_claim_spec::{
    CLASS_ANNOTATION, check_modes, modes_cell, warn_of_class_annotation,
};
use super::volume_words::{HOST_PATH_TYPES, check_driver};

const COLUMNS: &[Column] = &[
    NAME,
    column("Capacity", "string", "How much it holds."),
    column("Access Modes", "string", "How it may be mounted."),
    column("Reclaim Policy", "string", "What becomes of it after its claim."),
    column("Status", "string", "Whether it is free, bound or released."),
    column("Claim", "string", "Whose it is."),
    column("StorageClass", "string", "Its class."),
    column("VolumeAttributesClass", "string", "Its class of attributes."),
    column("Reason", "string", "Why it failed."),
    AGE,
    wide("VolumeMode", "string", "A file system or a block device."),
];
/// Where the storage may be, in the order in which a second one is told of.
const SOURCES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

/// When its phase changed last.
const CHANGED: &str = "lastPhaseTransitionTime";

/// PersistentVolume of core/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("", "v1", "PersistentVolume"), "persistentvolumes", Rules)
        .cluster_scoped()
        .short(["pv"])
        .with_status()
        .columns(COLUMNS)
        .aliases([("name", "metadata.name")])
        .with(&[Trait::CountsNoGeneration, Trait::ShowsTheDeleted])
        .without_effect("no controller of this hub binds it yet, and no spoke mounts it")
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = child(object, "spec") {
            set_default(spec, "persistentVolumeReclaimPolicy", "Retain");
            set_default(spec, "volumeMode", "Filesystem");
            if let Some(path) = spec.get_mut("hostPath").and_then(Value::as_object_mut) {
                set_default(path, "type", "");
            }
        }
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"phase": "Pending"}));
        }
    }

    fn born(&self, object: &mut Value) {
        let now = text(object, "/metadata/creationTimestamp").to_owned();
        if let Some(status) = child(object, "status") {
            status.insert(CHANGED.to_owned(), now.into());
        }
    }

    /// When its phase changed last stays, where nobody says that it has changed.
    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_other_half(door, new, old);
        let (now, was) = (new.pointer("/status/phase"), old.pointer("/status/phase"));
        let changed = old.pointer("/status/lastPhaseTransitionTime").filter(|_| now == was);
        if let (Some(changed), Some(status)) = (changed, child(new, "status")) {
            set_default(status, CHANGED, changed.clone());
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check_spec(&FieldValue::of(object, "spec"))
    }

    fn validate_update(&self, door: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        if door.is_some() {
            return Vec::new();
        }
        let (now, was) = (FieldValue::of(new, "spec"), FieldValue::of(old, "spec"));
        let mut errors = Vec::new();
        let source = |spec: &FieldValue<'_>| -> Vec<Value> {
            let mut found: Vec<_> = SOURCES
                .iter()
                .map(|source| spec.value.get(*source).cloned().unwrap_or_default())
                .collect();
            // A secret for expanding may still be added.
            if let Some(csi) = found.last_mut().and_then(Value::as_object_mut)
                && was.child("csi").child("controllerExpandSecretRef").is_empty()
            {
                csi.remove("controllerExpandSecretRef");
            }
            found
        };
        if source(&now) != source(&was) {
            let text = "spec.persistentvolumesource is immutable after creation";
            errors.push(FieldError::forbidden("spec.persistentvolumesource", text));
        }
        let mode = FieldValue { path: "volumeMode".to_owned(), ..now.child("volumeMode") };
        errors.extend(mode.stays(&was.child("volumeMode")));
        let class = "volumeAttributesClassName";
        if was.child(class).is_there() && !now.child(class).is_there() {
            errors
                .push(now.child(class).forbidden("update from non-nil value to nil is forbidden"));
        }
        errors
    }

    fn warnings(&self, object: &Value) -> Vec<String> {
        let mut found = warn_of_class_annotation(object);
        if text(object, "/spec/persistentVolumeReclaimPolicy") == "Recycle" {
            found.push("spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.".to_owned());
        }
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
        let claim = object
            .pointer("/spec/claimRef")
            .map(|claim| format!("{}/{}", text(claim, "/namespace"), text(claim, "/name")));
        let annotations = object.pointer("/metadata/annotations");
        let class = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).and_then(Value::as_str);
        vec![
            name(object),
            text_or(object, "/spec/capacity/storage", "0").into(),
            modes_cell(object.pointer("/spec/accessModes")),
            text(object, "/spec/persistentVolumeReclaimPolicy").into(),
            phase.into(),
            claim.unwrap_or_default().into(),
            class.unwrap_or_else(|| text(object, "/spec/storageClassName")).into(),
            text_or(object, "/spec/volumeAttributesClassName", "<unset>").into(),
            text(object, "/status/reason").into(),
            age(object, now),
            text_or(object, "/spec/volumeMode", "<unset>").into(),
        ]
    }
}

fn check_spec(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = check_modes(spec, "");
    errors.extend(check_capacity(&spec.child("capacity")));
    let policy = spec.child("persistentVolumeReclaimPolicy");
    errors.extend(policy.one_of(&["Delete", "Recycle", "Retain"]));
    let affinity = spec.child("nodeAffinity");
    if affinity.is_there() {
        let required = affinity.child("required");
        if required.is_there() {
            errors.extend(check_node_selector(required.value, &required.path));
        } else {
            errors.push(required.required("must specify required node constraints"));
        }
    }
    errors.extend(check_sources(spec));
    let path = spec.child("hostPath").child("path");
    if path.text() == "/" && policy.text() == "Recycle" {
        errors.push(policy.forbidden("may not be 'recycle' for a hostPath mount of '/'"));
    }
    let class = spec.child("storageClassName");
    if !class.is_empty() {
        errors.extend(class.follows(names::dns_subdomain));
    }
    errors.extend(spec.child("volumeMode").one_of(&["Block", "Filesystem"]));
    let attributes = spec.child("volumeAttributesClassName");
    if attributes.is_there() {
        if attributes.is_empty() {
            errors.push(attributes.required("an empty string is disallowed"));
        } else {
            errors.extend(attributes.follows(names::dns_subdomain));
        }
        if !spec.child("csi").is_there() {
            let text = "has to be specified when using volumeAttributesClassName";
            errors.push(spec.child("csi").required(text));
        }
    }
    errors
}

fn check_capacity(capacity: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    errors.extend(capacity.must_be());
    let entries = capacity.entries().count();
    if !capacity.child("storage").is_there() || 1 < entries {
        errors.push(capacity.not_supported(&["storage"]));
    }
    errors.extend(capacity.entries().filter_map(|(_, amount)| amount.positive()));
    errors
}

fn check_sources(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut found = 0;
    for source in SOURCES.iter().map(|source| spec.child(source)).filter(FieldValue::is_there) {
        if 0 < found {
            errors.push(source.forbidden("may not specify more than 1 volume type"));
            continue;
        }
        found += 1;
        errors.extend(check_source(&source));
        if source.path.ends_with(".local") && !spec.child("nodeAffinity").is_there() {
            let affinity = spec.child("nodeAffinity");
            errors.push(affinity.required("Local volume requires node affinity"));
        }
    }
    if found == 0 {
        errors.push(spec.required("must specify a volume type"));
    }
    errors
}

fn check_source(source: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = source.child("path");
    match source.path.rsplit('.').next().unwrap_or_default() {
        "hostPath" | "local" if path.is_empty() => errors.push(path.required("")),
        "hostPath" | "local" => {
            if path.text().split('/').any(|part| part == "..") {
                errors.push(path.invalid("must not contain '..'"));
            }
            errors.extend(source.child("type").one_of(HOST_PATH_TYPES));
        }
        "nfs" => {
            errors.extend(source.child("server").must_be());
            errors.extend(path.must_be());
            if !path.text().starts_with('/') {
                errors.push(path.invalid("must be an absolute path"));
            }
        }
        "csi" => {
            errors.extend(check_driver(&source.child("driver")));
            errors.extend(source.child("volumeHandle").must_be());
            for secret in ["controllerPublish", "controllerExpand", "nodePublish", "nodeExpand"] {
                let secret = source.child(&format!("{secret}SecretRef"));
                if secret.is_there() {
                    errors.extend(secret.child("name").named(names::dns_subdomain));
                    errors.extend(secret.child("namespace").named(names::dns_label));
                }
            }
        }
        // What their makers alone know is taken as it is: no spoke mounts any of them.
        _ => {}
    }
    errors
}
