//! IngressClass: who serves Ingresses.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Column, Kind, Strategy};
use freewheel_hub_schema::name as names;
use serde_json::Value;

use super::reference;
use crate::kinds::accessors::{AGE, NAME, age, column, set_default, text};
use crate::kinds::field_value::FieldValue;

const COLUMNS: &[Column] = &[
    NAME,
    column("Controller", "string", "Who serves them."),
    column("Parameters", "string", "What it goes by."),
    AGE,
];
const IS_DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
const CONTROLLER_BYTES_MAX: usize = 250;

/// IngressClass of networking.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new("networking.k8s.io", "v1", "IngressClass"), "ingressclasses", Rules)
        .cluster_scoped()
        .columns(COLUMNS)
        .without_effect("no controller of this hub acts on it yet")
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        let parameters = object.pointer_mut("/spec/parameters").and_then(Value::as_object_mut);
        if let Some(parameters) = parameters {
            set_default(parameters, "scope", "Cluster");
        }
    }

    fn prepare_create(&self, _: &mut Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let spec = FieldValue::of(object, "spec");
        let (controller, parameters) = (spec.child("controller"), spec.child("parameters"));
        let mut errors: Vec<_> = controller.no_longer(CONTROLLER_BYTES_MAX).into_iter().collect();
        errors.extend(controller.domain_path());
        if parameters.is_there() {
            errors.extend(reference::check(&parameters));
            errors.extend(check_scope(&parameters));
        }
        errors
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        let controller = |object| FieldValue::of(object, "spec").child("controller");
        controller(new).stays(&controller(old)).into_iter().collect()
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        let annotations = object.pointer("/metadata/annotations");
        let default = annotations.and_then(|all| all.get(IS_DEFAULT)) == Some(&"true".into());
        let default = if default { " (default)" } else { "" };
        let parameters = object.pointer("/spec/parameters").map(|parameters| {
            let group = match text(parameters, "/apiGroup") {
                "" => String::new(),
                group => format!(".{group}"),
            };
            format!("{}{group}/{}", text(parameters, "/kind"), text(parameters, "/name"))
        });
        vec![
            format!("{}{default}", text(object, "/metadata/name")).into(),
            text(object, "/spec/controller").into(),
            parameters.unwrap_or_else(|| "<none>".to_owned()).into(),
            age(object, now),
        ]
    }
}

fn check_scope(parameters: &FieldValue<'_>) -> Vec<FieldError> {
    let (scope, namespace) = (parameters.child("scope"), parameters.child("namespace"));
    match scope.text() {
        "" if !scope.is_there() => vec![scope.required("")],
        "Namespace" if !namespace.is_there() => {
            vec![namespace.required("`parameters.scope` is set to 'Namespace'")]
        }
        "Namespace" => namespace.follows(names::dns_label),
        "Cluster" if namespace.is_there() => {
            vec![namespace.forbidden("`parameters.scope` is set to 'Cluster'")]
        }
        "Cluster" => Vec::new(),
        _ => vec![scope.not_supported(&["Cluster", "Namespace"])],
    }
}
