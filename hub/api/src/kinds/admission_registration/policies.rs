//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules about writes, as expressions.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait, keep_all_but_status};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::expressions::{Spoken, check_conditions, too_many, where_there_is_room};
use super::{GROUP, rules};
use crate::kinds::accessors::{AGE, NAME, age, child, column, list, name, set_default, text};
use crate::kinds::place::Place;

const PARAMS: Column = column("ParamKind", "string", "What it goes by.");
const VALIDATING: &[Column] =
    &[NAME, column("Validations", "integer", "How many rules there are."), PARAMS, AGE];
const MUTATING: &[Column] =
    &[NAME, column("Mutations", "integer", "How many changes there are."), PARAMS, AGE];
const ANNOTATIONS_MAX: usize = 20;
const ANNOTATION_BYTES_MAX: usize = 5 * 1024;
/// Words that no variable of an expression may have.
const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "namespace",
    "null",
    "package",
    "return",
    "true",
    "var",
    "void",
    "while",
];

/// ValidatingAdmissionPolicy of admissionregistration.k8s.io/v1.
pub(crate) fn validating() -> Kind {
    let gvk = Gvk::new(GROUP, "v1", "ValidatingAdmissionPolicy");
    made(Kind::new(gvk, "validatingadmissionpolicies", Validating), VALIDATING).with_status()
}

/// MutatingAdmissionPolicy of admissionregistration.k8s.io/v1.
pub(crate) fn mutating() -> Kind {
    let gvk = Gvk::new(GROUP, "v1", "MutatingAdmissionPolicy");
    made(Kind::new(gvk, "mutatingadmissionpolicies", Mutating), MUTATING)
}

fn made(kind: Kind, columns: &'static [Column]) -> Kind {
    kind.cluster_scoped()
        .category(["api-extensions"])
        .columns(columns)
        .with(&[Trait::NamesWhatItReplaces])
}

struct Validating;

impl Strategy for Validating {
    fn default(&self, object: &mut Value) {
        default(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        if let Some(map) = object.as_object_mut() {
            map.insert("status".to_owned(), json!({}));
        }
    }

    fn prepare_update(&self, door: Option<&str>, new: &mut Value, old: &Value) {
        keep_all_but_status(door, new, old);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        where_there_is_room(|| check_validating(object))
    }

    fn checks_take_long(&self, _: &Value) -> bool {
        true
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(object, "/spec/validations", now)
    }
}

struct Mutating;

impl Strategy for Mutating {
    fn default(&self, object: &mut Value) {
        default(object);
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        where_there_is_room(|| check_mutating(object))
    }

    fn checks_take_long(&self, _: &Value) -> bool {
        true
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        row(object, "/spec/mutations", now)
    }
}

fn default(object: &mut Value) {
    let Some(spec) = child(object, "spec") else { return };
    set_default(spec, "failurePolicy", "Fail");
    if let Some(resources) = spec.get_mut("matchConstraints").and_then(Value::as_object_mut) {
        rules::default_match(resources);
    }
}

fn row(object: &Value, parts: &str, now: i64) -> Vec<Value> {
    let params = object
        .pointer("/spec/paramKind")
        .map(|params| format!("{}/{}", text(params, "/apiVersion"), text(params, "/kind")));
    let params = params.unwrap_or_else(|| "<unset>".to_owned());
    vec![name(object), list(object, parts).len().into(), params.into(), age(object, now)]
}

fn check_validating(object: &Value) -> Vec<FieldError> {
    let spec = Place::of(object, "spec");
    let (spoken, mut errors) = match check(&spec, false) {
        Ok(checked) => checked,
        Err(too_many) => return vec![too_many],
    };
    let (validations, annotations) = (spec.child("validations"), spec.child("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let text = "validations or auditAnnotations must contain at least one item";
        errors.extend([validations.required(text), annotations.required(text)]);
        return errors;
    }
    for validation in validations.items() {
        errors.extend(check_validation(&validation));
        errors.extend(spoken.check(&validation.child("expression"), true));
        errors.extend(spoken.check(&validation.child("messageExpression"), false));
    }
    errors.extend(check_annotations(&annotations, text(object, "/metadata/name")));
    for annotation in annotations.items() {
        errors.extend(spoken.check(&annotation.child("valueExpression"), false));
    }
    errors
}

fn check_mutating(object: &Value) -> Vec<FieldError> {
    let spec = Place::of(object, "spec");
    let (spoken, mut errors) = match check(&spec, true) {
        Ok(checked) => checked,
        Err(too_many) => return vec![too_many],
    };
    let mutations = spec.child("mutations");
    if mutations.is_empty() {
        errors.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        errors.extend(check_mutation(&mutation));
        for way in ["applyConfiguration", "jsonPatch"] {
            errors.extend(spoken.check(&mutation.child(way).child("expression"), true));
        }
    }
    let again = spec.child("reinvocationPolicy");
    errors.extend(again.must_be());
    if !again.is_empty() {
        errors.extend(again.one_of(&["IfNeeded", "Never"]));
    }
    errors
}

/// What both have; nothing else is looked at where it is too much.
fn check(spec: &Place<'_>, mutates: bool) -> Result<(Spoken, Vec<FieldError>), FieldError> {
    let lists = ["matchConditions", "variables", "validations", "auditAnnotations", "mutations"];
    if let Some(too_many) = too_many("spec", &lists.map(|list| spec.child(list))) {
        return Err(too_many);
    }
    let policy = spec.child("failurePolicy");
    let mut errors: Vec<_> = policy.must_be().into_iter().collect();
    if !policy.is_empty() {
        errors.extend(policy.one_of(&["Fail", "Ignore"]));
    }
    let params = spec.child("paramKind");
    if params.is_there() {
        errors.extend(check_params(&params));
    }
    let resources = spec.child("matchConstraints");
    if resources.is_there() {
        errors.extend(rules::check_match(&resources, mutates));
        errors.extend(resources.child("resourceRules").must_be());
    } else {
        errors.push(resources.required(""));
    }
    let conditions = spec.child("matchConditions");
    errors.extend(rules::check_conditions(&conditions));
    errors.extend(check_conditions(&conditions, params.is_there()));
    let mut taken = BTreeSet::new();
    for variable in spec.child("variables").items() {
        let name = variable.child("name");
        if !name.is_empty() && !taken.insert(name.text()) {
            // The second would hide the first.
            errors.push(name.duplicate());
        }
        if name.text().trim().is_empty() {
            errors.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            errors.push(name.invalid("must be a valid CEL identifier"));
        }
        let missing = "expression is not specified";
        errors.extend(rules::check_expression(&variable.child("expression"), missing));
    }
    let (spoken, wrong) = Spoken::of(spec, mutates);
    errors.extend(wrong);
    Ok((spoken, errors))
}

fn is_identifier(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    let inner = |c: char| letter(c) || c.is_ascii_digit();
    name.starts_with(letter) && name.chars().all(inner) && !RESERVED.contains(&name)
}

fn check_params(params: &Place<'_>) -> Vec<FieldError> {
    let (version, kind) = (params.child("apiVersion"), params.child("kind"));
    let mut errors = Vec::new();
    let parts: Vec<&str> = version.text().split('/').collect();
    match parts.as_slice() {
        [""] => errors.push(version.required("")),
        [of] | ["", of] | [_, of] => {
            let group = parts.first().filter(|_| 1 < parts.len()).filter(|group| !group.is_empty());
            let wrong = group.map(|group| names::dns_subdomain(group)).unwrap_or_default();
            errors.extend((!wrong.is_empty()).then(|| version.invalid(&wrong.join(","))));
            let wrong = names::dns1035_label(of);
            if of.is_empty() {
                errors.push(version.invalid("version must be specified"));
            } else if !wrong.is_empty() {
                errors.push(version.invalid(&wrong.join(",")));
            }
        }
        _ => {
            let text = format!("unexpected GroupVersion string: {}", version.text());
            errors.push(version.invalid(&text));
        }
    }
    let wrong = names::dns1035_label(&kind.text().to_lowercase());
    if kind.is_empty() {
        errors.push(kind.required(""));
    } else if !wrong.is_empty() {
        let text = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
        errors.push(kind.invalid(&text));
    }
    errors
}

fn check_validation(validation: &Place<'_>) -> Vec<FieldError> {
    let missing = "expression is not specified";
    let mut errors: Vec<_> =
        rules::check_expression(&validation.child("expression"), missing).into_iter().collect();
    let (message, computed) = (validation.child("message"), validation.child("messageExpression"));
    for at in [&computed, &message] {
        if !at.text().is_empty() && at.text().trim().is_empty() {
            errors.push(at.invalid("must be non-empty if specified"));
        }
    }
    if message.text().trim().contains(['\n', '\r']) {
        errors.push(message.invalid("must not contain line breaks"));
    }
    let reasons = &["Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized"];
    errors.extend(validation.child("reason").one_of(reasons));
    errors
}

fn check_annotations(annotations: &Place<'_>, own: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    if ANNOTATIONS_MAX < annotations.items().count() {
        let text = format!("must not have more than {ANNOTATIONS_MAX} auditAnnotations");
        errors.push(annotations.invalid(&text));
    }
    for annotation in annotations.items() {
        let (key, value) = (annotation.child("key"), annotation.child("valueExpression"));
        if own.is_empty() {
            errors.push(key.invalid("requires metadata.name be non-empty"));
        } else {
            let whole = json!(format!("{own}/{}", key.text()));
            errors.extend(Place::at(&whole, &*key.path).follows(names::qualified_name));
        }
        errors.extend(rules::check_expression(&value, "valueExpression is not specified"));
        if ANNOTATION_BYTES_MAX < value.text().trim().len() {
            let text = format!("must not exceed {ANNOTATION_BYTES_MAX} bytes in length");
            errors.push(value.required(&text));
        }
        errors.extend((!taken.insert(key.text())).then(|| key.duplicate()));
    }
    errors
}

fn check_mutation(mutation: &Place<'_>) -> Vec<FieldError> {
    let kind = mutation.child("patchType");
    let (patch, apply) = (mutation.child("jsonPatch"), mutation.child("applyConfiguration"));
    let (own, other) = match kind.text() {
        "" => return vec![kind.required("")],
        "JSONPatch" => (patch, apply),
        "ApplyConfiguration" => (apply, patch),
        _ => return vec![kind.not_supported(&["ApplyConfiguration", "JSONPatch"])],
    };
    let mut errors = Vec::new();
    if own.is_there() {
        errors.extend(rules::check_expression(&own.child("expression"), ""));
    } else {
        errors.push(own.required(&format!("must be specified when patchType is {}", kind.text())));
    }
    if other.is_there() {
        let field = other.path.rsplit('.').next().unwrap_or_default();
        let text = format!("must not be specified when patchType is {}", kind.text());
        errors.push(FieldError::invalid(&*other.path, &json!(format!("{{{field}}}")), &text));
    }
    errors
}
