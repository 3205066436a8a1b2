//! Role: what may be done in one namespace, for bindings there to give to somebody.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, NameRule, Strategy, Trait};
use serde_json::Value;

use super::rbac::{GROUP, ROLE_COLUMNS, RoleScope, check_rules, role_row};

/// Role of rbac.authorization.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "Role"), "roles", Rules)
        .columns(ROLE_COLUMNS)
        .names_are(NameRule::PathSegment)
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        check_rules(object, RoleScope::Namespace)
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        role_row(object)
    }
}
