//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy, Trait};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::{GROUP, rules};
use crate::kinds::accessors::{AGE, NAME, age, column, name, text};
use crate::kinds::field_value::FieldValue;
use crate::kinds::template;

const COLUMNS: &[Column] = &[
    NAME,
    column("PolicyName", "string", "Which policy."),
    column("ParamRef", "string", "What it goes by."),
    AGE,
];

/// ValidatingAdmissionPolicyBinding of admissionregistration.k8s.io/v1.
pub(crate) fn validating() -> Kind {
    let rules = Rules { mutates: false };
    made("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", rules)
}

/// MutatingAdmissionPolicyBinding of admissionregistration.k8s.io/v1.
pub(crate) fn mutating() -> Kind {
    let rules = Rules { mutates: true };
    made("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", rules)
}

fn made(kind: &'static str, plural: &'static str, rules: Rules) -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", kind), plural, rules)
        .cluster_scoped()
        .category(["api-extensions"])
        .columns(COLUMNS)
        .with(&[Trait::NamesWhatItReplaces])
}

struct Rules {
    mutates: bool,
}

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let resources = object.pointer_mut("/spec/matchResources").and_then(Value::as_object_mut);
        if let Some(resources) = resources {
            rules::default_match(resources);
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let mut errors = spec.child("policyName").named(names::dns_subdomain);
        let params = spec.child("paramRef");
        if params.is_there() {
            errors.extend(check_params(&params));
        }
        let resources = spec.child("matchResources");
        if resources.is_there() {
            errors.extend(rules::check_match(&resources, self.mutates));
        }
        if !self.mutates {
            errors.extend(check_actions(&spec.child("validationActions")));
        }
        errors
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let params = object.pointer("/spec/paramRef");
        let params = match params.map(|params| (text(params, "/name"), text(params, "/namespace")))
        {
            None => "<unset>".into(),
            Some(("", _)) => {
                template::selector_cell(params.and_then(|params| params.get("selector")))
            }
            Some((name, "")) => format!("*/{name}").into(),
            Some((name, namespace)) => format!("{namespace}/{name}").into(),
        };
        vec![name(object), text(object, "/spec/policyName").into(), params, age(object, now)]
    }
}

fn check_params(params: &FieldValue<'_>) -> Vec<FieldError> {
    const BOTH: &str = "name and selector are mutually exclusive";
    let (name, selector) = (params.child("name"), params.child("selector"));
    let mut errors = Vec::new();
    if !name.is_empty() {
        errors.extend(name.follows(names::path_segment));
        errors.extend(selector.is_there().then(|| name.forbidden(BOTH)));
    }
    if selector.is_there() {
        errors.extend(selector.selector());
        errors.extend((!name.is_empty()).then(|| selector.forbidden(BOTH)));
    }
    if name.is_empty() && !selector.is_there() {
        errors.push(params.required("one of name or selector must be specified"));
    }
    let missing = params.child("parameterNotFoundAction");
    errors.extend(missing.must_be());
    if !missing.is_empty() {
        errors.extend(missing.one_of(&["Deny", "Allow"]));
    }
    errors
}

fn check_actions(actions: &FieldValue<'_>) -> Vec<FieldError> {
    const BOTH: &str = "must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)";
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for action in actions.items() {
        errors.extend(action.one_of(&["Audit", "Deny", "Warn"]));
        errors.extend((!seen.insert(action.text())).then(|| action.duplicate()));
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        errors.push(actions.invalid(BOTH));
    }
    if seen.is_empty() {
        errors.push(actions.required("at least one validation action is required"));
    }
    errors
}
