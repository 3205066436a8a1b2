//! RoleBinding: gives a role to somebody in one namespace.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, NameRule, Strategy, Trait};
use serde_json::Value;

use super::rbac::{
    BINDING_COLUMNS, GROUP, RoleScope, binding_row, check_binding, check_same_role, default_binding,
};

/// RoleBinding of rbac.authorization.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "RoleBinding"), "rolebindings", Rules)
        .columns(BINDING_COLUMNS)
        .names_are(NameRule::PathSegment)
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn default(&self, object: &mut Value) {
        default_binding(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check_binding(object, RoleScope::Namespace)
    }

    fn validate_update(&self, _: Option<&str>, new: &Value, old: &Value) -> Vec<FieldError> {
        check_same_role(new, old)
    }

    fn row(&self, object: &Value, now: i64) -> Vec<Value> {
        binding_row(object, now)
    }
}
