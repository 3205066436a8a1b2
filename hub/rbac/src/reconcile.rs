//! What clusters have from the start over what is there: missing parts are added, and nothing is taken away.

use serde_json::Value;

use crate::cover::missing;
use crate::rule::PolicyRule;

/// The annotation by which somebody keeps an object as it is.
pub const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// What is to be done about an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// It is to be this.
    Write(Value),
    /// It gives another role, and no write changes that: it has to go first.
    Replace,
}

/// Whether somebody keeps an object as it is.
#[must_use]
pub fn is_kept(there: &Value) -> bool {
    there["metadata"]["annotations"][AUTO_UPDATE] == "false"
}

/// A role that is there, beside the one that is to be.
#[must_use]
pub fn role(there: &Value, wanted: &Value) -> Step {
    let mut new = there.clone();
    add_metadata(&mut new, wanted);
    if wanted.get("aggregationRule").is_some() {
        let selectors = "/aggregationRule/clusterRoleSelectors";
        let mut all = list(there, selectors);
        let lacking = list(wanted, selectors).into_iter().filter(|one| !all.contains(one));
        let lacking: Vec<Value> = lacking.collect();
        all.extend(lacking);
        new["aggregationRule"]["clusterRoleSelectors"] = all.into();
    } else {
        let lacking = missing(&rules(there), &rules(wanted));
        if !lacking.is_empty() {
            let mut all = list(there, "/rules");
            all.extend(lacking.iter().map(|rule| serde_json::json!(rule)));
            new["rules"] = all.into();
        }
    }
    step(there, new)
}

/// A binding that is there, beside the one that is to be.
#[must_use]
pub fn binding(there: &Value, wanted: &Value) -> Step {
    let role = |value: &Value| (value["roleRef"]["kind"].clone(), value["roleRef"]["name"].clone());
    if role(there) != role(wanted) {
        return Step::Replace;
    }
    let mut new = there.clone();
    add_metadata(&mut new, wanted);
    let mut all = list(there, "/subjects");
    let lacking: Vec<Value> =
        list(wanted, "/subjects").into_iter().filter(|one| !all.contains(one)).collect();
    if !lacking.is_empty() {
        all.extend(lacking);
        new["subjects"] = all.into();
    }
    step(there, new)
}

fn step(there: &Value, new: Value) -> Step {
    if *there == new { Step::Keep } else { Step::Write(new) }
}

fn rules(role: &Value) -> Vec<PolicyRule> {
    let rules = role.get("rules").cloned().unwrap_or_default();
    serde_json::from_value(rules).unwrap_or_default()
}

fn list(value: &Value, path: &str) -> Vec<Value> {
    value.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default()
}

/// Labels and annotations that are missing, and no others.
fn add_metadata(new: &mut Value, wanted: &Value) {
    for map in ["labels", "annotations"] {
        let Some(wanted) = wanted["metadata"][map].as_object() else { continue };
        for (key, value) in wanted {
            let there = &mut new["metadata"][map][key];
            if there.is_null() {
                *there = value.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pods(verbs: &[&str]) -> Value {
        json!({"metadata": {"name": "r"},
            "rules": [{"verbs": verbs, "apiGroups": [""], "resources": ["pods"]}]})
    }

    #[test]
    fn missing_rights_are_added_and_others_stay() {
        assert_eq!(role(&pods(&["get", "list", "x"]), &pods(&["get", "list"])), Step::Keep);
        let Step::Write(new) = role(&pods(&["get"]), &pods(&["get", "list"])) else { panic!() };
        let added = json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"]});
        assert_eq!(new["rules"][1], added);
        assert_eq!(new["rules"][0]["verbs"], json!(["get"]));
        let mut kept = pods(&["get"]);
        assert!(!is_kept(&kept));
        kept["metadata"]["annotations"][AUTO_UPDATE] = json!("false");
        assert!(is_kept(&kept));
    }

    #[test]
    fn a_role_that_is_made_of_others_keeps_what_it_is_made_of() {
        let of = |label: &str| json!({"matchLabels": {label: "true"}});
        let there = json!({"metadata": {}, "aggregationRule": {"clusterRoleSelectors": [of("own")]},
            "rules": [{"verbs": ["get"]}]});
        let wanted = json!({"aggregationRule": {"clusterRoleSelectors": [of("admin")]}});
        let Step::Write(new) = role(&there, &wanted) else { panic!() };
        assert_eq!(new["aggregationRule"]["clusterRoleSelectors"], json!([of("own"), of("admin")]));
        assert_eq!(new["rules"], there["rules"]);
    }

    #[test]
    fn missing_subjects_are_added_and_another_role_is_another_binding() {
        let binding_of = |role: &str, users: &[&str]| {
            let user = |name| json!({"kind": "User", "name": name});
            let subjects: Vec<_> = users.iter().map(user).collect();
            json!({"metadata": {}, "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": subjects})
        };
        let there = binding_of("a", &["x", "y"]);
        assert_eq!(binding(&there, &binding_of("a", &["y"])), Step::Keep);
        let wanted = binding_of("a", &["x", "y", "z"]);
        assert_eq!(binding(&there, &wanted), Step::Write(wanted.clone()));
        assert_eq!(binding(&there, &binding_of("b", &["x"])), Step::Replace);
    }
}
