//! ClusterRoles that are made of others, which their labels say.
//!
//! Guarantees:
//! - what was taken from a chosen role is gone, also where all that is left is too much for one role
//!   (`what_does_not_fit_is_left_out_and_counted`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_schema::selector::LabelSelector;
use freewheel_hub_store::Stored;
use serde_json::Value;

/// The rules of a role that is made of others.
#[derive(Debug, Default, PartialEq)]
pub struct Gathered {
    /// Each once, by the names of the roles that they are from.
    pub rules: Vec<Value>,
    /// How many did not fit.
    pub left_out: usize,
}

/// The rules of a role that is made of others; `None` for one that is not. `all` are the cluster's roles by name, and the
/// rules take at most `bytes`.
#[must_use]
pub fn rules(role: &Value, all: &[Arc<Stored>], bytes: usize) -> Option<Gathered> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let own = role["metadata"]["name"].as_str().unwrap_or_default();
    let (mut gathered, mut seen, mut left) = (Gathered::default(), BTreeSet::new(), bytes);
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_json(Some(selector), "") else { continue };
        let chosen = all.iter().filter(|other| {
            &*other.key.name != own && selector.matches(&other.object.header.labels)
        });
        for rule in chosen.flat_map(|other| rules_of(other)) {
            let text = rule.to_string();
            // With the comma after it.
            let fits = left.checked_sub(text.len() + 1);
            if !seen.insert(text) {
                continue;
            }
            match fits {
                Some(rest) => {
                    left = rest;
                    gathered.rules.push(rule);
                }
                None => gathered.left_out += 1,
            }
        }
    }
    Some(gathered)
}

fn rules_of(role: &Stored) -> Vec<Value> {
    match role.object.value().ok().map(|mut role| role["rules"].take()) {
        Some(Value::Array(rules)) => rules,
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use freewheel_hub_schema::object::{Key, Object, Resource};
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;

    fn stored(name: &str, rules: &[Value]) -> Arc<Stored> {
        let role = json!({"metadata": {"name": name, "labels": {"a": "b"}}, "rules": rules});
        let resource = Resource::new(crate::GROUP, "clusterroles");
        let key = Key::new(&resource, &ClusterName::root(), "", name);
        let object = Object::from_value(role, BTreeMap::new()).unwrap();
        Arc::new(Stored { key, object, revision: 1, created: 1 })
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_counted() {
        let rule = |name: &str| json!({"verbs": ["get"], "apiGroups": [name], "resources": ["x"]});
        let all = [
            stored("one", &[rule("a"), rule("b")]),
            stored("own", &[rule("gone")]),
            stored("two", &[rule("b"), rule("c")]),
        ];
        let selectors = json!([{"matchLabels": {"a": "b"}}, {"matchLabels": {"a": "b"}}]);
        let own = json!({"metadata": {"name": "own"}, "rules": [rule("gone")],
            "aggregationRule": {"clusterRoleSelectors": selectors}});
        let whole = rules(&own, &all, 10_000).unwrap();
        assert_eq!(whole, Gathered { rules: vec![rule("a"), rule("b"), rule("c")], left_out: 0 });
        let two = 2 * (rule("a").to_string().len() + 1);
        let cut = rules(&own, &all, two).unwrap();
        assert_eq!(cut, Gathered { rules: vec![rule("a"), rule("b")], left_out: 1 });
        assert_eq!(rules(&own, &all, 0).unwrap().rules, Vec::<Value>::new());
        assert_eq!(rules(&json!({"rules": []}), &all, 10_000), None);
    }
}
