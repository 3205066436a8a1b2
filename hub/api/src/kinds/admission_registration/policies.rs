//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: rules about writes, as expressions.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{
    Column, FieldPaths, Kind, Strategy, Trait, keep_all_but_status, reset_all_but_status,
};
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::expressions::{Outcome, Spoken, check_conditions, too_many, where_there_is_room};
use super::{GROUP, rules};
use crate::kinds::accessors::{AGE, NAME, age, child, column, list, name, set_default, text};
use crate::kinds::field_value::FieldValue;

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

    fn reset_fields(&self, door: Option<&str>) -> FieldPaths {
        reset_all_but_status(door)
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
    let spec = FieldValue::of(object, "spec");
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
        errors.extend(spoken.check(&validation.child("expression"), true, Outcome::Bool));
        let message = validation.child("messageExpression");
        errors.extend(spoken.check(&message, false, Outcome::Text));
    }
    errors.extend(check_annotations(&annotations, text(object, "/metadata/name")));
    for annotation in annotations.items() {
        let value = annotation.child("valueExpression");
        errors.extend(spoken.check(&value, false, Outcome::Annotation));
    }
    errors
}

fn check_mutating(object: &Value) -> Vec<FieldError> {
    let spec = FieldValue::of(object, "spec");
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
        let kind = mutation.child("patchType");
        for (own, way, outcome) in [
            ("ApplyConfiguration", "applyConfiguration", Outcome::Object),
            ("JSONPatch", "jsonPatch", Outcome::Patch),
        ] {
            if kind.text() == own {
                let expression = mutation.child(way).child("expression");
                errors.extend(spoken.check(&expression, true, outcome));
            }
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
fn check(spec: &FieldValue<'_>, mutates: bool) -> Result<(Spoken, Vec<FieldError>), FieldError> {
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

fn check_params(params: &FieldValue<'_>) -> Vec<FieldError> {
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

fn check_validation(validation: &FieldValue<'_>) -> Vec<FieldError> {
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

fn check_annotations(annotations: &FieldValue<'_>, own: &str) -> Vec<FieldError> {
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
            errors.extend(FieldValue::at(&whole, &*key.path).follows(names::qualified_name));
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

fn check_mutation(mutation: &FieldValue<'_>) -> Vec<FieldError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(spec: &Value, mutates: bool) -> Vec<String> {
        let mut object = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": {
            "namespaceSelector": {}, "objectSelector": {}, "matchPolicy": "Equivalent",
            "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                "resources": ["pods"]}]}, "failurePolicy": "Fail"}});
        let own = object["spec"].as_object_mut().unwrap();
        own.append(&mut spec.as_object().unwrap().clone());
        let kind = if mutates { super::mutating() } else { super::validating() };
        let errors = kind.strategy.validate(&object);
        errors.into_iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    fn refused(more: &Value) -> Vec<String> {
        let mut spec = json!({"validations": [{"expression": "true"}]});
        spec.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
        told(&spec, false)
    }

    fn mutation(kind: &str, way: &str, expression: &str) -> Value {
        json!({"reinvocationPolicy": "Never",
            "mutations": [{"patchType": kind, way: {"expression": expression}}]})
    }

    #[test]
    fn expressions_that_cannot_be_right_are_refused() {
        let validation = |expression: &str| json!({"validations": [{"expression": expression}]});
        let message =
            |it: &str| json!({"validations": [{"expression": "true", "messageExpression": it}]});
        let condition = |it: &str| json!({"matchConditions": [{"name": "c", "expression": it}]});
        let annotation =
            |it: &str| json!({"auditAnnotations": [{"key": "k", "valueExpression": it}]});
        let variable = |it: &str| json!({"variables": [{"name": "v", "expression": it}]});
        let uses = json!({"variables": [{"name": "v", "expression": "'x'"}],
            "validations": [{"expression": "variables.v == 1"}]});
        let first = "spec.validations[0].expression";
        for (more, field, why) in [
            (validation("'a'"), first, "must evaluate to bool but got string"),
            (validation("timestamp('x')"), first, {
                "must evaluate to bool but got google.protobuf.Timestamp"
            }),
            (validation("1 + 'a'"), first, {
                "compilation failed: ERROR: <input>:1:3: found no matching overload for '_+_' applied to '(int, string)'\n | 1 + 'a'\n | ..^"
            }),
            (validation("request.nothing == 1"), first, "undefined field 'nothing'"),
            (validation("request.userInfo.name == 'x'"), first, "undefined field 'name'"),
            (validation("namespaceObject.metadata.uid == 'x'"), first, "undefined field 'uid'"),
            (uses, first, "applied to '(string, int)'"),
            (message("1"), "spec.validations[0].messageExpression", {
                "must evaluate to string but got int"
            }),
            (annotation("1"), "spec.auditAnnotations[0].valueExpression", {
                "must evaluate to one of [string null_type] but got int"
            }),
            (condition("[1]"), "spec.matchConditions[0].expression", {
                "must evaluate to bool but got list(int)"
            }),
            (condition("request.name == 1"), "spec.matchConditions[0].expression", {
                "applied to '(string, int)'"
            }),
            (variable("1 + 'a'"), "spec.variables[0].expression", "applied to '(int, string)'"),
        ] {
            let told = refused(&more);
            let [one] = &told[..] else { panic!("{why}: {told:?}") };
            assert!(one.starts_with(&format!("{field}: Invalid value: ")), "{one}");
            assert!(one.contains(why), "{one}");
        }
        for (kind, way, expression, why) in [
            ("ApplyConfiguration", "applyConfiguration", "{'a': 1}", {
                "must evaluate to Object but got map(string, int)"
            }),
            ("JSONPatch", "jsonPatch", "['x']", {
                "must evaluate to list(JSONPatch) but got list(string)"
            }),
        ] {
            let told = told(&mutation(kind, way, expression), true);
            assert!(told.len() == 1 && told[0].contains(why), "{told:?}");
        }
    }

    #[test]
    fn expressions_that_may_be_right_are_taken() {
        for right in [
            "object.spec.ready",
            "object.spec.replicas > 1 && object.spec == oldObject.spec && params.a.b == 1",
            "object == null || oldObject != null || namespaceObject == null",
            "namespaceObject.metadata.labels['a'] == 'b' && namespaceObject.status.phase == 'Active'",
            "namespaceObject.metadata.creationTimestamp < timestamp('2026-01-01T00:00:00Z')",
            "request.userInfo.groups.exists(g, g == 'x') && 'a' in request.userInfo.extra",
            "request.kind.group == '' && request.requestResource.resource == 'pods' && !request.dryRun",
            "request.options.gracePeriodSeconds == 1 && has(request.namespace)",
            "variables.names.all(n, n != '') && variables.count + 1 > 0 && variables.any.thing",
            "authorizer.requestResource.check('create').allowed()",
        ] {
            let spec = json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
                "variables": [{"name": "names", "expression": "object.spec.list.map(x, string(x.name))"},
                    {"name": "count", "expression": "size(variables.names)"},
                    {"name": "any", "expression": "object.spec.any"}],
                "auditAnnotations": [{"key": "k", "valueExpression": "'y' + object.x"},
                    {"key": "l", "valueExpression": "null"}],
                "validations": [{"expression": right, "messageExpression": "object.metadata.name"}]});
            let told = refused(&spec);
            assert!(told.is_empty(), "{right}: {told:?}");
        }
        for (kind, way, right) in [
            ("ApplyConfiguration", "applyConfiguration", "Object{spec: Object.spec{replicas: 1}}"),
            ("ApplyConfiguration", "applyConfiguration", {
                "object.spec.a ? Object{} : Object{spec: Object.spec{a: [1]}}"
            }),
            ("JSONPatch", "jsonPatch", "[JSONPatch{op: 'add', path: '/x', value: 1}]"),
            ("JSONPatch", "jsonPatch", {
                "object.spec.a ? [] : [JSONPatch{op: 'remove', path: '/x'}] + [JSONPatch{op: 'test', path: '/y'}]"
            }),
        ] {
            let told = told(&mutation(kind, way, right), true);
            assert!(told.is_empty(), "{right}: {told:?}");
        }
    }
}
