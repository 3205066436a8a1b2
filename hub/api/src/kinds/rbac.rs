//! What the four kinds of rbac.authorization.k8s.io share: rules, subjects and the role that a binding names.
//!
//! Guarantees:
//! - a mistake is told in kube-apiserver's words (`mistakes_in_rules_are_told_as_upstream_tells_them`,
//!   `mistakes_in_bindings_are_told_as_upstream_tells_them`);
//! - a binding never comes to mean another role (`a_binding_keeps_its_role`).

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::kind::Column;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::accessors::{AGE, NAME, age, child, column, items, list, name, set_default, text, wide};

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Columns of roles.
pub(super) const ROLE_COLUMNS: &[Column] =
    &[NAME, column("Created At", "date", "When it was made.")];

/// Columns of bindings.
pub(super) const BINDING_COLUMNS: &[Column] = &[
    NAME,
    column("Role", "string", "The role that it gives."),
    AGE,
    wide("Users", "string", "Users that it gives it to."),
    wide("Groups", "string", "Groups that it gives it to."),
    wide("ServiceAccounts", "string", "Service accounts that it gives it to."),
];

/// Whether a kind lives in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoleScope {
    Namespace,
    Cluster,
}

/// Cells of a role.
pub(super) fn role_row(object: &Value) -> Vec<Value> {
    vec![name(object), text(object, "/metadata/creationTimestamp").into()]
}

/// Cells of a binding.
pub(super) fn binding_row(object: &Value, now: i64) -> Vec<Value> {
    let role = format!("{}/{}", text(object, "/roleRef/kind"), text(object, "/roleRef/name"));
    let of = |kind: &str, says: fn(&Value) -> String| {
        let subjects = list(object, "/subjects").iter();
        let of_kind = subjects.filter(|subject| text(subject, "/kind") == kind);
        Value::from(of_kind.map(says).collect::<Vec<_>>().join(", "))
    };
    let plain = |subject: &Value| text(subject, "/name").to_owned();
    let account =
        |subject: &Value| format!("{}/{}", text(subject, "/namespace"), text(subject, "/name"));
    vec![
        name(object),
        role.into(),
        age(object, now),
        of("User", plain),
        of("Group", plain),
        of("ServiceAccount", account),
    ]
}

/// Every mistake in `rules`.
pub(super) fn check_rules(object: &Value, place: RoleScope) -> Vec<FieldError> {
    let rules = list(object, "/rules").iter().enumerate();
    rules.flat_map(|(at, rule)| check_rule(rule, place, &format!("rules[{at}]"))).collect()
}

fn check_rule(rule: &Value, place: RoleScope, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let is_empty = |field: &str| list(rule, field).is_empty();
    if is_empty("/verbs") {
        let text = "verbs must contain at least one value";
        errors.push(FieldError::required(format!("{path}.verbs"), text));
    }
    if let Some(urls) = rule.get("nonResourceURLs").filter(|_| !is_empty("/nonResourceURLs")) {
        let wrong = |text| FieldError::invalid(format!("{path}.nonResourceURLs"), urls, text);
        if place == RoleScope::Namespace {
            errors.push(wrong("namespaced rules cannot apply to non-resource URLs"));
        }
        if !["/apiGroups", "/resources", "/resourceNames"].into_iter().all(is_empty) {
            errors
                .push(wrong("rules cannot apply to both regular resources and non-resource URLs"));
        }
        return errors;
    }
    if is_empty("/apiGroups") {
        let text = "resource rules must supply at least one api group";
        errors.push(FieldError::required(format!("{path}.apiGroups"), text));
    }
    if is_empty("/resources") {
        let text = "resource rules must supply at least one resource";
        errors.push(FieldError::required(format!("{path}.resources"), text));
    }
    errors
}

/// Names the group where it is left out.
pub(super) fn default_binding(object: &mut Value) {
    if let Some(role) = child(object, "roleRef") {
        set_default(role, "apiGroup", GROUP);
    }
    let Some(object) = object.as_object_mut() else { return };
    for subject in items(object, "subjects") {
        let kind = subject.get("kind").and_then(Value::as_str);
        if matches!(kind, Some("User" | "Group")) {
            set_default(subject, "apiGroup", GROUP);
        }
    }
}

/// Every mistake of a binding, which may name roles of these kinds.
pub(super) fn check_binding(object: &Value, place: RoleScope) -> Vec<FieldError> {
    let roles: &[&str] = match place {
        RoleScope::Namespace => &["Role", "ClusterRole"],
        RoleScope::Cluster => &["ClusterRole"],
    };
    let mut errors = Vec::new();
    let of_role = |field: &str| text(object, &format!("/roleRef/{field}"));
    let (group, kind, role) = (of_role("apiGroup"), of_role("kind"), of_role("name"));
    if group != GROUP {
        errors.push(FieldError::not_supported("roleRef.apiGroup", &json!(group), &[GROUP]));
    }
    if !roles.contains(&kind) {
        errors.push(FieldError::not_supported("roleRef.kind", &json!(kind), roles));
    }
    if role.is_empty() {
        errors.push(FieldError::required("roleRef.name", ""));
    }
    let wrong = |why: &String| FieldError::invalid("roleRef.name", &json!(role), why);
    errors.extend(names::path_segment(role).iter().filter(|_| !role.is_empty()).map(wrong));
    for (at, subject) in list(object, "/subjects").iter().enumerate() {
        errors.extend(check_subject(subject, place, &format!("subjects[{at}]")));
    }
    errors
}

fn check_subject(subject: &Value, place: RoleScope, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (kind, name, group) =
        (text(subject, "/kind"), text(subject, "/name"), text(subject, "/apiGroup"));
    if name.is_empty() {
        errors.push(FieldError::required(format!("{path}.name"), ""));
    }
    let of_group = |expected: &str| {
        let path = format!("{path}.apiGroup");
        (group != expected).then(|| FieldError::not_supported(path, &json!(group), &[expected]))
    };
    match kind {
        "ServiceAccount" => {
            let wrong =
                |why: &String| FieldError::invalid(format!("{path}.name"), &json!(name), why);
            errors
                .extend(names::dns_subdomain(name).iter().filter(|_| !name.is_empty()).map(wrong));
            errors.extend(of_group(""));
            if place == RoleScope::Cluster && text(subject, "/namespace").is_empty() {
                errors.push(FieldError::required(format!("{path}.namespace"), ""));
            }
        }
        "User" | "Group" => errors.extend(of_group(GROUP)),
        other => {
            let kinds = ["ServiceAccount", "User", "Group"];
            errors.push(FieldError::not_supported(format!("{path}.kind"), &json!(other), &kinds));
        }
    }
    errors
}

/// Whoever looked at a binding has looked at its role: that stays.
pub(super) fn check_same_role(new: &Value, old: &Value) -> Vec<FieldError> {
    let role = new.get("roleRef").unwrap_or(&Value::Null);
    if role == old.get("roleRef").unwrap_or(&Value::Null) {
        return Vec::new();
    }
    // As kube-apiserver's own type of it is written.
    let shown = json!({
        "APIGroup": text(role, "/apiGroup"),
        "Kind": text(role, "/kind"),
        "Name": text(role, "/name"),
    });
    vec![FieldError::invalid("roleRef", &shown, "cannot change roleRef")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect()
    }

    #[test]
    fn mistakes_in_rules_are_told_as_upstream_tells_them() {
        let role = json!({"rules": [
            {"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]},
            {},
            {"verbs": ["get"], "nonResourceURLs": ["/x"], "resources": ["pods"]},
        ]});
        let mut expected = vec![
            "rules[1].verbs: Required value: verbs must contain at least one value",
            "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[1].resources: Required value: resource rules must supply at least one resource",
            "rules[2].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
        ];
        assert_eq!(said(&check_rules(&role, RoleScope::Cluster)), expected);
        expected.insert(
            3,
            "rules[2].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
        );
        assert_eq!(said(&check_rules(&role, RoleScope::Namespace)), expected);
    }

    #[test]
    fn mistakes_in_bindings_are_told_as_upstream_tells_them() {
        let mut good = json!({
            "roleRef": {"kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "jane"}, {"kind": "Group", "name": "people"},
                {"kind": "ServiceAccount", "name": "a", "namespace": "n"}],
        });
        default_binding(&mut good);
        assert_eq!(good["subjects"][1]["apiGroup"], GROUP);
        assert!(good["subjects"][2].get("apiGroup").is_none());
        assert_eq!(check_binding(&good, RoleScope::Cluster), []);
        let bad = json!({
            "roleRef": {"kind": "Role", "name": "a/b"},
            "subjects": [{"kind": "User", "name": ""}, {"kind": "Robot", "name": "r"},
                {"kind": "ServiceAccount", "name": "A"}],
        });
        let found = said(&check_binding(&bad, RoleScope::Cluster));
        for expected in [
            r#"roleRef.apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io""#,
            r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
            r#"roleRef.name: Invalid value: "a/b": may not contain '/'"#,
            "subjects[0].name: Required value",
            r#"subjects[0].apiGroup: Unsupported value: "": supported values: "rbac.authorization.k8s.io""#,
            r#"subjects[1].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group""#,
            "subjects[2].namespace: Required value",
        ] {
            assert!(found.iter().any(|text| text == expected), "{expected}: {found:#?}");
        }
        // In a namespace it is the binding's own.
        let errors = said(&check_binding(&bad, RoleScope::Namespace));
        assert!(
            errors
                .iter()
                .all(|text| !text.contains("namespace:") && !text.contains("roleRef.kind"))
        );
    }

    #[test]
    fn a_binding_keeps_its_role() {
        let role = |name: &str| json!({"roleRef": {"kind": "ClusterRole", "name": name}});
        assert_eq!(check_same_role(&role("a"), &role("a")), []);
        let errors = said(&check_same_role(&role("b"), &role("a")));
        assert_eq!(
            errors,
            [
                r#"roleRef: Invalid value: {"APIGroup":"","Kind":"ClusterRole","Name":"b"}: cannot change roleRef"#
            ]
        );
    }
}
