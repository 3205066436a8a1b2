//! What a claim asks of storage, wherever it stands: in a PersistentVolumeClaim or in a workload's template.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::{Map, Value, json};

use super::accessors::{set_default, text};
use super::field_value::FieldValue;
use super::resource_name;

/// The older way to name a storage class.
pub(super) const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

const MODES: &[(&str, &str)] = &[
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOnce", "RWO"),
    ("ReadWriteOncePod", "RWOP"),
];

/// Fills in what it does not say.
pub(super) fn default(spec: &mut Map<String, Value>) {
    set_default(spec, "volumeMode", "Filesystem");
}

/// Both names of a data source say the same, as long as one of them says anything; a source of another kind goes by the
/// newer name alone.
pub(super) fn unite_sources(spec: &mut Map<String, Value>) {
    let source = spec.get("dataSource").filter(|source| source.is_object()).cloned();
    let reference = spec.get("dataSourceRef").filter(|source| source.is_object()).cloned();
    match (source, reference) {
        (Some(source), None) => {
            let (group, kind) = (text(&source, "/apiGroup"), text(&source, "/kind"));
            let known = matches!(
                (group, kind),
                ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
            );
            if known {
                spec.insert("dataSourceRef".to_owned(), source);
            } else {
                spec.remove("dataSource");
            }
        }
        (None, Some(reference)) if text(&reference, "/namespace").is_empty() => {
            let mut source = reference;
            if let Some(source) = source.as_object_mut() {
                source.remove("namespace");
            }
            spec.insert("dataSource".to_owned(), source);
        }
        (None, Some(_)) | (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Every mistake of the spec.
pub(super) fn check(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let modes = check_modes(spec, "at least 1 access mode is required");
    let (missing, wrong): (Vec<_>, Vec<_>) =
        modes.into_iter().partition(|error| error.reason == "FieldValueRequired");
    errors.extend(missing);
    errors.extend(spec.child("selector").selector());
    errors.extend(wrong);
    errors.extend(check_size(spec));
    let class = spec.child("storageClassName");
    if !class.is_empty() {
        errors.extend(class.follows(names::dns_subdomain));
    }
    errors.extend(spec.child("volumeMode").one_of(&["Block", "Filesystem"]));
    errors.extend(check_sources(spec));
    let attributes = spec.child("volumeAttributesClassName");
    if !attributes.is_empty() {
        errors.extend(attributes.follows(names::dns_subdomain));
    }
    errors
}

fn check_size(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let resources = spec.child("resources");
    let size = FieldValue {
        path: format!("{}[storage]", resources.path),
        ..resources.child("requests").child("storage")
    };
    if !size.is_there() {
        return vec![size.required("")];
    }
    match size.positive() {
        Some(error) => vec![error],
        None => resource_name::check_amount("storage", &size),
    }
}

fn check_sources(spec: &FieldValue<'_>) -> Vec<FieldError> {
    let (source, reference) = (spec.child("dataSource"), spec.child("dataSourceRef"));
    let mut errors = Vec::new();
    for source in [&source, &reference].into_iter().filter(|source| source.is_there()) {
        errors.extend(source.child("name").must_be());
        errors.extend(source.child("kind").must_be());
        let (group, kind) = (source.child("apiGroup"), source.child("kind"));
        if group.is_empty() && kind.text() != "PersistentVolumeClaim" {
            let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&*source.path, kind.value, text));
        }
        if !group.is_empty() {
            errors.extend(group.follows(names::dns_subdomain));
        }
    }
    let namespace = reference.child("namespace");
    if !namespace.is_empty() {
        errors.extend(namespace.follows(names::dns_label));
    }
    let shown = json!(source.path);
    let mismatch = |text: &str| FieldError::invalid(&*spec.path, &shown, text);
    if source.is_there() && !namespace.is_empty() {
        errors.push(mismatch("may not be specified when dataSourceRef.namespace is specified"));
    } else if source.is_there() && reference.is_there() {
        let same = ["apiGroup", "kind", "name"]
            .iter()
            .all(|key| source.child(key).text() == reference.child(key).text());
        errors.extend((!same).then(|| mismatch("must match dataSourceRef")));
    }
    errors
}

/// At least one mode, and `ReadWriteOncePod` alone.
pub(super) fn check_modes(spec: &FieldValue<'_>, missing: &str) -> Vec<FieldError> {
    let modes = spec.child("accessModes");
    let known: Vec<&str> = MODES.iter().map(|(mode, _)| *mode).collect();
    let mut errors = Vec::new();
    if modes.is_empty() {
        errors.push(modes.required(missing));
    }
    for mode in modes.items().filter(|mode| !known.contains(&mode.text())) {
        errors.push(FieldValue { path: modes.path.clone(), ..mode }.not_supported(&known));
    }
    let alone = |mode: &FieldValue<'_>| mode.text() == "ReadWriteOncePod";
    let other = |mode: &FieldValue<'_>| known.contains(&mode.text()) && !alone(mode);
    if modes.items().any(|mode| alone(&mode)) && modes.items().any(|mode| other(&mode)) {
        errors.push(modes.forbidden("may not use ReadWriteOncePod with other access modes"));
    }
    errors
}

/// `RWO,ROX`
pub(super) fn modes_cell(modes: Option<&Value>) -> Value {
    let modes = modes.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let order = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    let shown = order.iter().filter(|mode| modes.contains(&json!(mode)));
    let short = |mode: &&str| MODES.iter().find(|(name, _)| name == mode).map(|(_, short)| *short);
    shown.filter_map(short).collect::<Vec<_>>().join(",").into()
}

/// Who names a class the older way is told so.
pub(super) fn warn_of_class_annotation(object: &Value) -> Vec<String> {
    let annotations = object.pointer("/metadata/annotations");
    let old = annotations.and_then(|all| all.get(CLASS_ANNOTATION)).is_some();
    let text = format!(
        "metadata.annotations[{CLASS_ANNOTATION}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
    );
    old.then_some(text).into_iter().collect()
}

/// Who asks for halves of a byte is told so.
pub(super) fn warnings(spec: &FieldValue<'_>) -> Vec<String> {
    let resources = spec.child("resources");
    let lists = ["requests", "limits"].map(|list| resources.child(list).child("storage"));
    let halves = lists.iter().filter_map(|place| {
        let amount = place.amount().filter(|amount| amount.milli_value() % 1000 != 0)?;
        let (list, _) = place.path.rsplit_once('.')?;
        Some(format!(
            "{list}[storage]: fractional byte value \"{amount}\" is invalid, must be an integer"
        ))
    });
    halves.collect()
}
