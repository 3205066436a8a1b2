//! ClusterRole: what may be done in all of a cluster, or in the namespace of whoever binds it.

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::gvk::Gvk;
use freewheel_hub_schema::kind::{Kind, NameRule, Strategy, Trait};
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::Value;

use super::accessors::list;
use super::rbac::{GROUP, ROLE_COLUMNS, RoleScope, check_rules, role_row};

/// ClusterRole of rbac.authorization.k8s.io/v1.
pub(crate) fn kind() -> Kind {
    Kind::new(Gvk::new(GROUP, "v1", "ClusterRole"), "clusterroles", Rules)
        .cluster_scoped()
        .columns(ROLE_COLUMNS)
        .names_are(NameRule::PathSegment)
        .with(&[Trait::CountsNoGeneration, Trait::CreatesOnUpdate])
}

struct Rules;

impl Strategy for Rules {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = check_rules(object, RoleScope::Cluster);
        if object.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            errors.extend(check_aggregation(object));
        }
        errors
    }

    fn row(&self, object: &Value, _now: i64) -> Vec<Value> {
        role_row(object)
    }
}

fn check_aggregation(object: &Value) -> Vec<FieldError> {
    const AT: &str = "aggregationRule.clusterRoleSelectors";
    let selectors = list(object, "/aggregationRule/clusterRoleSelectors");
    if selectors.is_empty() {
        let text = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        return vec![FieldError::required(AT, text)];
    }
    let wrong = |(at, selector)| {
        LabelSelector::from_json(Some(selector), &format!("{AT}[{at}]")).err().unwrap_or_default()
    };
    selectors.iter().enumerate().flat_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_aggregates_says_what() {
        let role = |rule: Value| Rules.validate(&json!({"aggregationRule": rule}));
        assert_eq!(
            role(json!({}))[0].message,
            "Required value: at least one clusterRoleSelector required if aggregationRule is non-nil"
        );
        assert_eq!(role(json!({"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})), []);
        let wrong = role(json!({"clusterRoleSelectors": [{"matchLabels": {"a b": "c"}}]}));
        assert!(wrong[0].field.starts_with("aggregationRule.clusterRoleSelectors[0]"), "{wrong:?}");
    }
}
