//! VolumeAttachment: a volume that is to be at a node.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};
use std::borrow::Cow;

use super::UNUSED;
use crate::kinds::accessors::{AGE, NAME, age, column, flag, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::volume_words::check_driver;

const COLUMNS: &[Column] = &[
    NAME,
    Column {
        name: Cow::Borrowed("Attacher"),
        kind: Cow::Borrowed("string"),
        format: Cow::Borrowed("name"),
        description: Cow::Borrowed("Who attaches it."),
        priority: 0,
    },
    column("PV", "string", "The volume."),
    column("Node", "string", "The node."),
    column("Attached", "boolean", "Whether it is there."),
    AGE,
];
/// Most bytes of what was told of an attachment, and of a failure.
const METADATA_BYTES_MAX: usize = 256 * 1024;
const MESSAGE_BYTES_MAX: usize = 1024;

/// VolumeAttachment of storage.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("storage.k8s.io", "v1", "VolumeAttachment"), "volumeattachments", Rules)
        .cluster_scoped()
        .with_status()
        .columns(COLUMNS)
        .with(&[Trait::CountsNoGeneration, Trait::NamesWhatItReplaces, Trait::ShowsTheDeleted])
        .without_effect(UNUSED)
}

struct Rules;

impl Strategy for Rules {
    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({"attached": false}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = check_driver(&spec.child("attacher"));
        let source = spec.child("source");
        let (volume, inline) =
            (source.child("persistentVolumeName"), source.child("inlineVolumeSpec"));
        let text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        match (volume.is_there(), inline.is_there()) {
            (false, false) => errors.push(source.required(text)),
            (true, true) => errors.push(source.forbidden(text)),
            (true, false) if volume.is_empty() => {
                errors.push(volume.required("must specify non empty persistentVolumeName"));
            }
            (true, false) => {}
            (false, true) if inline.child("csi").is_there() => {}
            (false, true) => {
                let text = "has to be specified in the context of inline volumes";
                errors.push(inline.child("csi").required(text));
            }
        }
        errors.extend(spec.child("nodeName").follows(names::dns_subdomain));
        errors.extend(check_status(&FieldValue::of(object, "status")));
        if volume.is_there() {
            errors.extend(volume.follows(names::dns_subdomain));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        FieldValue::of(new, "spec").stays(&FieldValue::of(old, "spec")).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        vec![
            name(object),
            text(object, "/spec/attacher").into(),
            text(object, "/spec/source/persistentVolumeName").into(),
            text(object, "/spec/nodeName").into(),
            flag(object, "/status/attached").into(),
            age(object, now),
        ]
    }
}

fn check_status(status: &FieldValue<'_>) -> Vec<FieldError> {
    let metadata = status.child("attachmentMetadata");
    let bytes: usize = metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    let mut errors = Vec::new();
    if METADATA_BYTES_MAX < bytes {
        errors.push(FieldError::too_long(&*metadata.path, METADATA_BYTES_MAX));
    }
    for failure in ["attachError", "detachError"].map(|failure| status.child(failure)) {
        let message = failure.child("message");
        if MESSAGE_BYTES_MAX < message.text().len() {
            errors.push(FieldError::too_long(message.path, METADATA_BYTES_MAX));
        }
        errors.extend(failure.child("errorCode").within(0, i64::from(i32::MAX)));
    }
    errors
}
