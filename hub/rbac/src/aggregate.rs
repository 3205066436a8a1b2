//! ClusterRoles that are made of others, which their labels say.

use std::sync::Arc;

use freewheel_hub_schema::selector::LabelSelector;
use freewheel_hub_store::Stored;
use serde_json::Value;

/// The rules of a role that is made of others; `None` for one that is not. `all` are the cluster's roles by name.
#[must_use]
pub fn rules(role: &Value, all: &[Arc<Stored>]) -> Option<Vec<Value>> {
    let selectors = role.pointer("/aggregationRule/clusterRoleSelectors")?.as_array()?;
    let own = role["metadata"]["name"].as_str().unwrap_or_default();
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let Ok(selector) = LabelSelector::from_json(Some(selector), "") else { continue };
        let chosen = all.iter().filter(|other| {
            &*other.key.name != own && selector.matches(&other.object.header.labels)
        });
        for other in chosen {
            let of_it =
                other.object.value().ok().and_then(|mut value| match value["rules"].take() {
                    Value::Array(rules) => Some(rules),
                    _ => None,
                });
            for rule in of_it.into_iter().flatten() {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
    }
    Some(rules)
}
