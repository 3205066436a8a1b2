//! Whether a definition may be stored, with kube-apiserver's words.
//!
//! It looks at a definition as its older form had it: what all versions say alike stands at the top, under
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns` and `spec.selectableFields`, and so do
//! mistakes in it.
//!
//! Guarantees:
//! - what kube-apiserver refuses is refused with its words (`definitions_are_refused_as_by_kube_apiserver`);
//! - what an established definition is known by never changes (`names_that_are_in_use_stay`).

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::name;
use serde_json::{Value, json};

use super::accessors::{flag, list, text};
use super::{approval, rules};
use crate::json_path::JsonPath;

/// Fields that a version may let selectors name.
const SELECTABLE_FIELDS_MAX: usize = 8;
const COLUMN_TYPES: &str = "boolean,date,integer,number,string";
const COLUMN_FORMATS: &str = "byte,date,date-time,double,float,int32,int64,password";

/// Every mistake of a definition.
#[must_use]
pub fn check(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let group = text(definition, "/spec/group");
    let (own, plural) =
        (text(definition, "/metadata/name"), text(definition, "/spec/names/plural"));
    if own != format!("{plural}.{group}") {
        let why = r#"must be spec.names.plural+"."+spec.group"#;
        errors.push(FieldError::invalid("metadata.name", &json!(own), why));
    }
    errors.extend(check_group(group));
    let scope = text(definition, "/spec/scope");
    match scope {
        "" => errors.push(FieldError::required("spec.scope", "")),
        "Cluster" | "Namespaced" => {}
        other => {
            let known = ["Cluster", "Namespaced"];
            errors.push(FieldError::not_supported("spec.scope", &json!(other), &known));
        }
    }
    errors.extend(check_versions(definition));
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(definition, &format!("/spec/names/{key}")).is_empty() {
            errors.push(FieldError::required(format!("spec.names.{key}"), ""));
        }
    }
    errors.extend(check_names(definition.pointer("/spec/names"), "spec.names"));
    errors.extend(check_conversion(definition));
    errors.extend(check_status(definition));
    errors.extend(check_stored_versions(definition));
    errors.extend(approval::check(definition, group));
    if flag(definition, "/spec/preserveUnknownFields") {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.push(FieldError::invalid("spec.preserveUnknownFields", &json!(true), why));
    }
    errors
}

/// Every mistake of a status.
#[must_use]
pub fn check_status(definition: &Value) -> Vec<FieldError> {
    check_names(definition.pointer("/status/acceptedNames"), "status.acceptedNames")
}

/// What a change may not touch.
#[must_use]
pub fn check_change(new: &Value, old: &Value) -> Vec<FieldError> {
    let conditions = list(old, "/status/conditions");
    let established = conditions
        .iter()
        .any(|one| text(one, "/type") == "Established" && text(one, "/status") == "True");
    let mut fields =
        vec![("/spec/group", "spec.group"), ("/spec/names/plural", "spec.names.plural")];
    if established {
        fields.insert(0, ("/spec/names/kind", "spec.names.kind"));
        fields.insert(0, ("/spec/scope", "spec.scope"));
    }
    let changed =
        fields.into_iter().filter(|(pointer, _)| text(new, pointer) != text(old, pointer));
    let error = |(pointer, field): (&str, &str)| {
        FieldError::invalid(field, &json!(text(new, pointer)), "field is immutable")
    };
    changed.map(error).collect()
}

fn check_group(group: &str) -> Option<FieldError> {
    if group.is_empty() {
        return Some(FieldError::required("spec.group", ""));
    }
    let wrong = name::dns_subdomain(group);
    let why = if !wrong.is_empty() {
        wrong.join(",")
    } else if !group.contains('.') {
        "should be a domain with at least one dot".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid("spec.group", &json!(group), &why))
}

fn check_versions(definition: &Value) -> Vec<FieldError> {
    let versions = list(definition, "/spec/versions");
    let mut errors = Vec::new();
    let (mut names, mut twice) = (BTreeSet::new(), false);
    for (index, version) in versions.iter().enumerate() {
        let at = format!("spec.versions[{index}]");
        let own = text(version, "/name");
        twice |= !names.insert(own);
        if version.pointer("/schema/openAPIV3Schema").is_none() {
            errors.push(FieldError::required(format!("{at}.schema.openAPIV3Schema"), ""));
        }
        let wrong = name::dns1035_label(own);
        if !wrong.is_empty() {
            errors.push(FieldError::invalid(format!("{at}.name"), &json!(own), &wrong.join(",")));
        }
        errors.extend(check_deprecation(version, &at));
        errors.extend(check_parts(versions, index, &at));
    }
    let shown = definition.pointer("/spec/versions").cloned().unwrap_or_default();
    let stored = versions.iter().filter(|version| flag(version, "/storage")).count();
    for (wrong, why) in [
        (twice, "must contain unique version names"),
        (stored != 1, "must have exactly one version marked as storage version"),
    ] {
        if wrong {
            errors.push(FieldError::invalid("spec.versions", &shown, why));
        }
    }
    errors
}

/// What a version says that all may say alike: then it stands at the top, and is looked at once.
fn check_parts(versions: &[Value], index: usize, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(version) = versions.get(index) else { return errors };
    let at_top = |key: &str| {
        let first = versions.first().and_then(|version| version.get(key));
        versions.iter().all(|version| version.get(key) == first)
    };
    let place = |key: &str, top: &str| {
        let shared = at_top(key);
        let place = if shared { format!("spec.{top}") } else { format!("{at}.{key}") };
        (index == 0 || !shared).then_some(place)
    };
    if let Some(place) = place("schema", "validation") {
        let has_status = |one: &Value| one.pointer("/subresources/status").is_some();
        let has_status = match at_top("schema") {
            true => versions.iter().any(has_status),
            false => has_status(version),
        };
        errors.extend(rules::check(version.get("schema"), &place, has_status));
    }
    if let Some(place) = place("subresources", "subresources") {
        errors.extend(check_scale(version.pointer("/subresources/scale"), &place));
    }
    if let Some(place) = place("additionalPrinterColumns", "additionalPrinterColumns") {
        for (index, column) in list(version, "/additionalPrinterColumns").iter().enumerate() {
            errors.extend(check_column(column, &format!("{place}[{index}]")));
        }
    }
    if let Some(place) = place("selectableFields", "selectableFields") {
        errors.extend(check_selectable(version, &place));
    }
    errors
}

fn check_deprecation(version: &Value, at: &str) -> Vec<FieldError> {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    if flag(version, "/deprecated") {
        if 256 < warning.len() {
            wrong.push("must be <= 256 characters long".to_owned());
        }
        if warning.is_empty() {
            wrong.push("must not be an empty string".to_owned());
        }
        if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
            wrong.push(format!(
                "must only contain printable UTF-8 characters; non-printable character found at index {at}"
            ));
        }
    } else {
        wrong.push("can only be set for deprecated versions".to_owned());
    }
    let field = format!("{at}.deprecationWarning");
    wrong.iter().map(|why| FieldError::invalid(field.clone(), &json!(warning), why)).collect()
}

fn check_scale(scale: Option<&Value>, at: &str) -> Vec<FieldError> {
    let Some(scale) = scale else { return Vec::new() };
    let mut errors = Vec::new();
    let mut check = |key: &str, under: &[&str], whose: &str| {
        let (path, field) = (text(scale, &format!("/{key}")), format!("{at}.scale.{key}"));
        if path.is_empty() {
            if key != "labelSelectorPath" {
                errors.push(FieldError::required(field, ""));
            }
        } else if !path.starts_with('.') {
            let why = "must be a simple json path starting with .";
            errors.push(FieldError::invalid(field, &json!(path), why));
        } else if !under.iter().any(|under| path.starts_with(under)) {
            let why = format!("should be a json path under {whose}");
            errors.push(FieldError::invalid(field, &json!(path), &why));
        }
    };
    check("specReplicasPath", &[".spec."], ".spec");
    check("statusReplicasPath", &[".status."], ".status");
    check("labelSelectorPath", &[".spec.", ".status."], "either .spec or .status");
    errors
}

fn check_column(column: &Value, at: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let own = |key: &str| text(column, &format!("/{key}"));
    if own("name").is_empty() {
        errors.push(FieldError::required(format!("{at}.name"), ""));
    }
    let (types, formats) =
        (format!("must be one of {COLUMN_TYPES}"), format!("must be one of {COLUMN_FORMATS}"));
    if own("type").is_empty() {
        errors.push(FieldError::required(format!("{at}.type"), &types));
    } else if !COLUMN_TYPES.split(',').any(|known| known == own("type")) {
        errors.push(FieldError::invalid(format!("{at}.type"), &json!(own("type")), &types));
    }
    if !own("format").is_empty() && !COLUMN_FORMATS.split(',').any(|known| known == own("format")) {
        errors.push(FieldError::invalid(format!("{at}.format"), &json!(own("format")), &formats));
    }
    let path = own("jsonPath");
    if path.is_empty() {
        errors.push(FieldError::required(format!("{at}.JSONPath"), ""));
    } else if !path.starts_with('.') {
        let why = "must be a simple json path starting with .";
        errors.push(FieldError::invalid(format!("{at}.JSONPath"), &json!(path), why));
    } else if JsonPath::read(path).is_none() {
        // kube-apiserver keeps such a column and shows nothing in it.
        let why = "is no JSONPath that this hub follows";
        errors.push(FieldError::invalid(format!("{at}.JSONPath"), &json!(path), why));
    }
    errors
}

fn check_selectable(version: &Value, at: &str) -> Vec<FieldError> {
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, field) in list(version, "/selectableFields").iter().enumerate() {
        let (path, field) = (text(field, "/jsonPath"), format!("{at}[{index}].jsonPath"));
        let mut wrong =
            |why: &str| errors.push(FieldError::invalid(field.clone(), &json!(path), why));
        if path.is_empty() {
            errors.push(FieldError::required(field, ""));
            continue;
        }
        let mut schema = version.pointer("/schema/openAPIV3Schema");
        for name in path.strip_prefix('.').unwrap_or_default().split('.') {
            schema = schema.and_then(|schema| {
                let named = schema.get("properties").and_then(|all| all.get(name));
                named.or_else(|| schema.get("additionalProperties").filter(|each| each.is_object()))
            });
        }
        let Some(schema) = schema else {
            wrong("is an invalid path: does not refer to a valid field");
            continue;
        };
        if path.starts_with(".metadata") {
            wrong("must not point to fields in metadata");
        }
        if !matches!(text(schema, "/type"), "string" | "boolean" | "integer") {
            wrong(
                "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
            );
        }
        if !seen.insert(path) {
            errors.push(FieldError::duplicate(field, &json!(path)));
        }
    }
    if SELECTABLE_FIELDS_MAX < seen.len() {
        errors.push(FieldError::too_many(at, seen.len(), SELECTABLE_FIELDS_MAX));
    }
    errors
}

fn check_names(names: Option<&Value>, at: &str) -> Vec<FieldError> {
    let Some(names) = names else { return Vec::new() };
    let mut errors = Vec::new();
    let own = |key: &str| text(names, &format!("/{key}"));
    let mut label = |value: &str, field: String, mixed: bool| {
        let wrong =
            name::dns1035_label(&if mixed { value.to_lowercase() } else { value.to_owned() });
        if value.is_empty() && !field.ends_with(']') || wrong.is_empty() {
            return;
        }
        let prefix = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
        let why = format!("{prefix}{}", wrong.join(","));
        errors.push(FieldError::invalid(field, &json!(value), &why));
    };
    label(own("plural"), format!("{at}.plural"), false);
    label(own("singular"), format!("{at}.singular"), false);
    label(own("kind"), format!("{at}.kind"), true);
    label(own("listKind"), format!("{at}.listKind"), true);
    for key in ["shortNames", "categories"] {
        for (index, one) in list(names, &format!("/{key}")).iter().enumerate() {
            label(one.as_str().unwrap_or_default(), format!("{at}.{key}[{index}]"), false);
        }
    }
    if !own("kind").is_empty() && own("kind") == own("listKind") {
        let why = "kind and listKind may not be the same";
        errors.push(FieldError::invalid(format!("{at}.listKind"), &json!(own("listKind")), why));
    }
    errors
}

/// Who converts objects. Where the webhook is, is looked at with those that are asked about writes.
fn check_conversion(definition: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let Some(conversion) = definition.pointer("/spec/conversion") else { return errors };
    match text(conversion, "/strategy") {
        "None" => {
            if conversion.pointer("/webhook/clientConfig").is_some() {
                let why = "should not be set when strategy is not set to Webhook";
                errors.push(FieldError::forbidden("spec.conversion.webhookClientConfig", why));
            }
            if !list(conversion, "/webhook/conversionReviewVersions").is_empty() {
                let why = "should not be set when strategy is not set to Webhook";
                errors.push(FieldError::forbidden("spec.conversion.conversionReviewVersions", why));
            }
        }
        "" => errors.push(FieldError::required("spec.conversion.strategy", "")),
        "Webhook" => errors.extend(check_converted(definition)),
        other => {
            let known = ["None", "Webhook"];
            errors.push(FieldError::not_supported(
                "spec.conversion.strategy",
                &json!(other),
                &known,
            ));
        }
    }
    errors
}

/// Selectors look at what is stored: what a webhook makes of it in another version is known when it is read.
fn check_converted(definition: &Value) -> Vec<FieldError> {
    let versions = list(definition, "/spec/versions").iter().enumerate();
    let others = versions.filter(|(_, version)| !flag(version, "/storage"));
    let named = others.filter(|(_, version)| !list(version, "/selectableFields").is_empty());
    let error = |(index, _): (usize, &Value)| {
        let why = "where a webhook converts, the storage version alone may have selectable fields: selectors look at what is stored";
        FieldError::forbidden(format!("spec.versions[{index}].selectableFields"), why)
    };
    named.map(error).collect()
}

fn check_stored_versions(definition: &Value) -> Vec<FieldError> {
    const FIELD: &str = "status.storedVersions";
    let stored = list(definition, "/status/storedVersions");
    let shown = json!(stored);
    if stored.is_empty() {
        return vec![FieldError::invalid(FIELD, &shown, "must have at least one stored version")];
    }
    let mut errors = Vec::new();
    let versions = list(definition, "/spec/versions");
    for version in versions.iter().filter(|version| flag(version, "/storage")) {
        let own = text(version, "/name");
        if !stored.iter().any(|one| one == own) {
            let why = format!("must have the storage version {own}");
            errors.push(FieldError::invalid(FIELD, &shown, &why));
        }
    }
    for (index, one) in stored.iter().enumerate() {
        let own = one.as_str().unwrap_or_default();
        if !versions.iter().any(|version| text(version, "/name") == own) {
            let why = format!(
                "missing from spec.versions; {own} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in {own} and removes {own} from status.storedVersions"
            );
            errors.push(FieldError::invalid(format!("{FIELD}[{index}]"), one, &why));
        }
    }
    errors
}

#[cfg(test)]
mod tests;
