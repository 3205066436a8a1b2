//! Label selectors of specs, compiled once and matched against a header's labels.

use std::collections::BTreeMap;

use freewheel_hub_schema::selector::{self, Operator};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector that is known to be well formed, and to match everything only where its kind means that.
#[derive(Clone, Debug)]
pub struct Selector(selector::LabelSelector);

impl From<selector::LabelSelector> for Selector {
    /// One that a Scale shows.
    fn from(selector: selector::LabelSelector) -> Self {
        Self(selector)
    }
}

impl Selector {
    /// From a workload's `spec.selector`; `None` when it is empty (it would match everything) or
    /// malformed.
    #[must_use]
    pub fn of_workload(selector: &LabelSelector) -> Option<Self> {
        Self::of_budget(selector).filter(|selector| !selector.0.is_everything())
    }

    /// From a PodDisruptionBudget's `spec.selector`, which matches everything when it is empty; `None` when it is
    /// malformed.
    #[must_use]
    pub fn of_budget(selector: &LabelSelector) -> Option<Self> {
        let value = serde_json::to_value(selector).ok()?;
        selector::LabelSelector::from_json(Some(&value), "spec.selector").ok().map(Self)
    }

    /// From a Service's `spec.selector`; `None` when it has none.
    #[must_use]
    pub fn of_service(selector: Option<&BTreeMap<String, String>>) -> Option<Self> {
        let labels = selector.filter(|s| !s.is_empty())?;
        let pairs = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        Some(Self(selector::LabelSelector::from_map(pairs)))
    }

    /// The labels that it asks for with their one value: who matches has them all.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.requirements().iter().filter_map(|requirement| {
            let Operator::In(values) = &requirement.operator else { return None };
            let value = values.first().filter(|_| values.len() == 1)?;
            Some((requirement.key.as_str(), value.as_str()))
        })
    }

    /// Whether these labels match.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn check(selector: Value, labels: Value, expected: Option<bool>) {
        let selector: LabelSelector = serde_json::from_value(selector).unwrap();
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).unwrap();
        let got = Selector::of_workload(&selector).map(|s| s.matches(&labels));
        assert_eq!(got, expected, "{selector:?}");
    }

    #[test]
    fn workload_selectors() {
        let labels = json!({"app": "web", "tier": "a"});
        check(json!({}), labels.clone(), None);
        check(json!({"matchLabels": {"app": "web"}}), labels.clone(), Some(true));
        check(json!({"matchLabels": {"app": "db"}}), labels.clone(), Some(false));
        let expression = |operator: &str, values: Value| json!({"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]});
        check(expression("In", json!(["a", "b"])), labels.clone(), Some(true));
        check(expression("NotIn", json!(["a"])), labels.clone(), Some(false));
        check(expression("NotIn", json!(["a"])), json!({}), Some(true));
        check(expression("Exists", json!([])), labels.clone(), Some(true));
        check(expression("DoesNotExist", json!([])), labels.clone(), Some(false));
        check(expression("Near", json!([])), labels, None);
    }
}
