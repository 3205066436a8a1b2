//! One device of a driver: what it is, and how much of what it has.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name as names;
use serde_json::Value;

use crate::kinds::field_value::FieldValue;

/// What a name within a domain has to be.
pub(super) const ID: &str = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const ENTRIES_MAX: usize = 32;
const DOMAIN_BYTES_MAX: usize = 63;
const ID_BYTES_MAX: usize = 32;
const TEXT_BYTES_MAX: usize = 64;
const TAINTS_MAX: usize = 16;
const EFFECTS: &[&str] = &["NoExecute", "NoSchedule", "None"];

/// Whether this may name something within a domain.
pub(super) fn is_id(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

/// Every mistake of the device.
pub(super) fn check(device: &FieldValue<'_>, chooses_nodes: bool) -> Vec<FieldError> {
    let mut errors = device.child("name").named(names::dns_label);
    let (attributes, capacity) = (device.child("attributes"), device.child("capacity"));
    let entries = attributes.entries().count() + capacity.entries().count();
    if ENTRIES_MAX < entries {
        let text =
            format!("the total number of attributes and capacities must not exceed {ENTRIES_MAX}");
        errors.push(FieldError::invalid(&*device.path, &entries.into(), &text));
    }
    for (name, attribute) in attributes.entries() {
        errors.extend(check_name(&attributes, name));
        errors.extend(check_attribute(&attribute));
    }
    errors.extend(capacity.entries().flat_map(|(name, _)| check_name(&capacity, name)));
    let taints = device.child("taints");
    errors.extend(taints.no_more(TAINTS_MAX));
    for taint in taints.items() {
        errors.extend(taint.child("key").follows(names::qualified_name));
        errors.extend(taint.child("value").follows(names::label_value));
        let effect = taint.child("effect");
        errors.extend(effect.must_be());
        if !effect.is_empty() {
            errors.extend(effect.one_of(EFFECTS));
        }
    }
    let mut taken = BTreeSet::new();
    for consumed in device.child("consumesCounters").items() {
        let set = consumed.child("counterSet");
        errors.extend(set.named(names::dns_label));
        errors.extend(consumed.child("counters").must_be());
        errors.extend((!taken.insert(set.text())).then(|| set.duplicate()));
    }
    errors.extend(check_nodes(device, chooses_nodes));
    errors
}

/// A name, or a name of a domain.
fn check_name(map: &FieldValue<'_>, name: &str) -> Vec<FieldError> {
    let shown = name.into();
    let wrong = |why: &str| FieldError::invalid(&*map.path, &shown, why);
    let (domain, id) = name.split_once('/').unwrap_or(("", name));
    let mut errors = Vec::new();
    if name.contains('/') {
        if domain.is_empty() {
            errors.push(wrong("the domain must not be empty"));
        } else if DOMAIN_BYTES_MAX < domain.len() {
            errors.push(FieldError::too_long(&*map.path, DOMAIN_BYTES_MAX));
        } else {
            errors.extend(names::dns_subdomain(domain).iter().map(|why| wrong(why)));
        }
    }
    if id.is_empty() {
        errors.push(wrong("the name must not be empty"));
    } else if ID_BYTES_MAX < id.len() {
        errors.push(FieldError::too_long(&*map.path, ID_BYTES_MAX));
    } else if !is_id(id) {
        errors.push(wrong(ID));
    }
    errors
}

fn check_attribute(attribute: &FieldValue<'_>) -> Vec<FieldError> {
    let kinds = ["bool", "int", "string", "version", "bools", "ints", "strings", "versions"];
    let given = kinds.iter().filter(|kind| attribute.child(kind).is_there()).count();
    let mut errors = Vec::new();
    match given {
        0 => errors.push(attribute.required("exactly one value must be specified")),
        1 => {}
        _ => errors.push(attribute.invalid("exactly one value must be specified")),
    }
    errors.extend(attribute.child("string").no_longer(TEXT_BYTES_MAX));
    let version = attribute.child("version");
    errors.extend(version.no_longer(TEXT_BYTES_MAX));
    if version.is_there() && !is_version(version.text()) {
        let text = "must be a string compatible with semver.org spec 2.0.0";
        errors.push(version.invalid(text));
    }
    errors
}

/// `1.2.3-rc.1+build`
fn is_version(text: &str) -> bool {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let number = |part: &str| {
        let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        digits && (part == "0" || !part.starts_with('0'))
    };
    core.split('.').count() == 3 && core.split('.').all(number)
}

fn check_nodes(device: &FieldValue<'_>, chooses: bool) -> Vec<FieldError> {
    let fields = ["nodeName", "nodeSelector", "allNodes"].map(|field| device.child(field));
    let given = fields.iter().filter(|field| field.is_there()).count();
    let text = match (chooses, given) {
        (false, 0) | (true, 1) => return Vec::new(),
        (false, _) => {
            "`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        }
        (true, 0) => {
            return vec![device.required("exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec")];
        }
        (true, _) => {
            "exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec"
        }
    };
    vec![FieldError::invalid(&*device.path, &Value::Null, text)]
}
