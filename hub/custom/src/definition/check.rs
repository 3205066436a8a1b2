//! Whether a definition may be stored, with kube-apiserver's words.
//!
//! It looks at a definition as its older form had it: what all versions say alike stands at the top, under
//! `spec.validation`, `spec.subresources`, `spec.additionalPrinterColumns` and `spec.selectableFields`, and so do
//! mistakes in it.
//!
//! Guarantees:
//! - what kube-apiserver refuses is refused with its words (`definitions_are_refused_as_by_kube_apiserver`);
//! - no definition makes more work than one may, nor mistakes that take more memory than the hub has
//!   (`a_check_of_a_definition_is_bounded`, `mistakes_in_long_names_are_told_in_short`);
//! - what an established definition is known by never changes (`names_that_are_in_use_stay`).

mod versions;

use std::collections::HashSet;

use freewheel_hub_cel::{NoRoom, STACK_BYTES, on_a_stack_of};
use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::field_errors::FieldErrors;
use freewheel_hub_schema::name;
use serde_json::{Value, json};

use super::accessors::{flag, list, text};
use super::approval;
use crate::work::Work;

pub(super) use versions::SHARED;

/// Every mistake of a definition.
#[must_use]
pub fn check(definition: &Value) -> Vec<FieldError> {
    // Rules in it are parsed there, all on one stack.
    on_a_stack_of(STACK_BYTES, || check_within(definition, &Work::default())).unwrap_or_else(
        |why| match why {
            NoRoom::NoThread => vec![FieldError::not_now("spec", &why.to_string())],
            NoRoom::Panicked => vec![FieldError::invalid("spec", &Value::Null, &why.to_string())],
        },
    )
}

fn check_within(definition: &Value, work: &Work) -> Vec<FieldError> {
    let mut errors = FieldErrors::default();
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
    errors.extend(versions::check(definition, work));
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
    let errors = errors.into_vec();
    let over = work.is_over().then(|| {
        let why = "it takes more work to check its schemas than a definition may make: make them smaller, or what they say in patterns, rules and defaults";
        FieldError::invalid("spec.versions", &Value::Null, why)
    });
    over.into_iter().chain(errors).collect()
}

/// Every mistake of a status.
#[must_use]
pub fn check_status(definition: &Value) -> Vec<FieldError> {
    check_names(definition.pointer("/status/acceptedNames"), "status.acceptedNames").into_vec()
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

fn check_names(names: Option<&Value>, at: &str) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let Some(names) = names else { return errors };
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

fn check_stored_versions(definition: &Value) -> FieldErrors {
    const FIELD: &str = "status.storedVersions";
    let mut errors = FieldErrors::default();
    let stored = list(definition, "/status/storedVersions");
    let shown = json!(stored);
    if stored.is_empty() {
        errors.push(FieldError::invalid(FIELD, &shown, "must have at least one stored version"));
        return errors;
    }
    let versions = list(definition, "/spec/versions");
    let known: HashSet<&str> = stored.iter().filter_map(Value::as_str).collect();
    let storage = versions.iter().filter(|version| flag(version, "/storage"));
    // There may be one, and whoever has more is told so elsewhere.
    for version in storage.take(2) {
        let own = text(version, "/name");
        if !known.contains(own) {
            let why = format!("must have the storage version {own}");
            errors.push(FieldError::invalid(FIELD, &shown, &why));
        }
    }
    let known: HashSet<&str> = versions.iter().map(|version| text(version, "/name")).collect();
    for (index, one) in stored.iter().enumerate() {
        let own = one.as_str().unwrap_or_default();
        if !known.contains(own) {
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
