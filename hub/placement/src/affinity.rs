//! Node selectors with operators (nodeAffinity).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

/// One term: all of its rules hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    labels: Vec<Rule>,
    fields: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
    Above(i64),
    Below(i64),
    /// A malformed rule holds nowhere.
    Never,
}

impl Term {
    /// From the API's form.
    #[must_use]
    pub fn read(term: &NodeSelectorTerm) -> Self {
        let rules = |list: &Option<Vec<NodeSelectorRequirement>>| {
            list.iter().flatten().map(Rule::read).collect()
        };
        Self { labels: rules(&term.match_expressions), fields: rules(&term.match_fields) }
    }

    /// Whether a Node with this name and these labels matches. A term without rules matches none.
    #[must_use]
    pub fn matches(&self, name: &str, labels: &BTreeMap<String, String>) -> bool {
        if self.labels.is_empty() && self.fields.is_empty() {
            return false;
        }
        self.labels.iter().all(|r| r.holds(labels.get(&r.key).map(String::as_str)))
            && self.fields.iter().all(|r| r.holds((r.key == "metadata.name").then_some(name)))
    }
}

impl Term {
    /// The only Node that can match, when the term names one.
    #[must_use]
    pub fn only_node(&self) -> Option<&str> {
        self.fields.iter().find_map(|rule| match &rule.test {
            Test::In(names) if rule.key == "metadata.name" => match names.as_slice() {
                [name] => Some(name.as_str()),
                _ => None,
            },
            _ => None,
        })
    }
}

impl Rule {
    fn read(requirement: &NodeSelectorRequirement) -> Self {
        let values = || requirement.values.clone().unwrap_or_default();
        let number = || values().first().and_then(|v| v.parse::<i64>().ok());
        let test = match requirement.operator.as_str() {
            "In" => Test::In(values()),
            "NotIn" => Test::NotIn(values()),
            "Exists" => Test::Exists,
            "DoesNotExist" => Test::Absent,
            "Gt" => number().map_or(Test::Never, Test::Above),
            "Lt" => number().map_or(Test::Never, Test::Below),
            _ => Test::Never,
        };
        Self { key: requirement.key.clone(), test }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|v| values.iter().any(|w| w == v)),
            Test::NotIn(values) => value.is_none_or(|v| !values.iter().any(|w| w == v)),
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::Above(bound) => number().is_some_and(|n| n > *bound),
            Test::Below(bound) => number().is_some_and(|n| n < *bound),
            Test::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(operator: &str, values: &serde_json::Value, expected: bool) {
        let term =
            json!({"matchExpressions": [{"key": "ram", "operator": operator, "values": values}]});
        let term = Term::read(&serde_json::from_value(term).unwrap());
        let labels = BTreeMap::from([("ram".to_owned(), "8".to_owned())]);
        assert_eq!(term.matches("pi", &labels), expected, "{operator}");
    }

    #[test]
    fn operators() {
        check("In", &json!(["4", "8"]), true);
        check("NotIn", &json!(["4", "8"]), false);
        check("Exists", &json!([]), true);
        check("DoesNotExist", &json!([]), false);
        check("Gt", &json!(["4"]), true);
        check("Lt", &json!(["4"]), false);
        check("Gt", &json!(["x"]), false);
        check("Near", &json!(["8"]), false);
    }

    #[test]
    fn names_are_fields_and_no_rule_matches_nothing() {
        let term =
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["pi"]}]});
        let term = Term::read(&serde_json::from_value(term).unwrap());
        assert!(term.matches("pi", &BTreeMap::new()));
        assert!(!term.matches("po", &BTreeMap::new()));
        assert_eq!(term.only_node(), Some("pi"));
        assert!(!Term::read(&NodeSelectorTerm::default()).matches("pi", &BTreeMap::new()));
    }
}
