//! Which writes somebody is asked about: namespace, labels, and rules of operations and resources.
//!
//! Guarantees:
//! - a rule that names one version of a kind finds what is written in another, and is shown it in the one that it names,
//!   unless it says `Exact` (`a_rule_for_one_version_finds_the_others`).

mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registry;
use freewheel_hub_schema::selector::LabelSelector;
use serde_json::Value;

use crate::attributes::Attributes;
use rule::Rule;

/// Which writes.
#[derive(Debug)]
pub(crate) struct Selection {
    namespace: LabelSelector,
    object: LabelSelector,
    rules: Vec<Rule>,
    exclude: Vec<Rule>,
    exact: bool,
    /// Nothing was said of resources: it is about all of them.
    everything: bool,
}

/// The namespace of the request is not there.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoNamespace;

impl Selection {
    /// From MatchResources of a policy or a binding; what is not there selects everything.
    pub(crate) fn of_policy(resources: Option<&Value>) -> Self {
        let empty = Value::Null;
        let rules_object = resources.unwrap_or(&empty);
        let rules = Rule::list(&rules_object["resourceRules"]);
        let everything = rules.is_empty();
        Self {
            exclude: Rule::list(&rules_object["excludeResourceRules"]),
            everything,
            ..Self::new(rules_object, rules)
        }
    }

    /// From a webhook, which without rules is asked about nothing.
    pub(crate) fn of_webhook(hook: &Value) -> Self {
        Self::new(hook, Rule::list(&hook["rules"]))
    }

    fn new(configuration: &Value, rules: Vec<Rule>) -> Self {
        Self {
            namespace: selector(&configuration["namespaceSelector"]),
            object: selector(&configuration["objectSelector"]),
            rules,
            exclude: Vec::new(),
            exact: configuration["matchPolicy"] == "Exact",
            everything: false,
        }
    }

    /// Plurals of the resources that it can be about; `None` where that may be any.
    pub(crate) fn plurals(&self) -> Option<Vec<&str>> {
        if self.everything {
            return None;
        }
        self.rules.iter().map(Rule::plurals).collect::<Option<Vec<_>>>().map(|all| all.concat())
    }

    /// The version in which who selects so is shown a write; nothing where it is not asked.
    pub(crate) fn of(
        &self,
        asked: &Attributes<'_>,
        registry: &Registry,
    ) -> Result<Option<Arc<Kind>>, NoNamespace> {
        let in_namespace = self.is_in_namespace(asked);
        if in_namespace == Ok(false) || !self.has_labels(asked) {
            return Ok(None);
        }
        if version_of(&self.exclude, self.exact, asked, registry).is_some() {
            return Ok(None);
        }
        let found = if self.everything {
            Some(asked.kind().clone())
        } else {
            version_of(&self.rules, self.exact, asked, registry)
        };
        if found.is_some() {
            in_namespace?;
        }
        Ok(found)
    }

    fn is_in_namespace(&self, asked: &Attributes<'_>) -> Result<bool, NoNamespace> {
        if self.namespace.is_everything()
            || asked.namespace.is_empty() && !asked.is_about_namespace()
        {
            return Ok(true);
        }
        if asked.is_about_namespace() && asked.subresource().is_empty() && asked.object.is_some() {
            let labels = asked.object.and_then(|object| object.pointer("/metadata/labels"));
            return Ok(self.namespace.matches_json(labels));
        }
        let cluster = &asked.review.target.cluster;
        let key = Key::new(&Resource::new("", "namespaces"), cluster, "", asked.namespace);
        let home = asked.review.state().get(&key).ok_or(NoNamespace)?;
        Ok(self.namespace.matches(&home.object.header.labels))
    }

    fn has_labels(&self, asked: &Attributes<'_>) -> bool {
        let has = |object: Option<&Value>| {
            // What has no metadata has no labels that it might lack.
            let meta = object.and_then(|object| object.get("metadata"));
            meta.is_some_and(|meta| self.object.matches_json(meta.get("labels")))
        };
        self.object.is_everything() || has(asked.object) || has(asked.old)
    }
}

/// What was not said selects everything; what is no selector, which validation has refused, nothing.
fn selector(selector: &Value) -> LabelSelector {
    if selector.is_null() {
        return LabelSelector::everything();
    }
    LabelSelector::from_json(Some(selector), "").unwrap_or_else(|_| LabelSelector::nothing())
}

/// The version that a rule is about, of those in which the same object is served.
fn version_of(
    rules: &[Rule],
    exact: bool,
    asked: &Attributes<'_>,
    registry: &Registry,
) -> Option<Arc<Kind>> {
    if rules.is_empty() {
        return None;
    }
    let own = asked.kind();
    if rules.iter().any(|rule| rule.is_about(asked, own)) {
        return Some(own.clone());
    }
    if exact {
        return None;
    }
    let others: BTreeMap<(&str, &str), &Arc<Kind>> = registry
        .all()
        .filter(|kind| kind.storage() == own.storage() && kind.id() != own.id())
        .map(|kind| ((kind.group(), kind.version()), kind))
        .collect();
    let mut found =
        rules.iter().flat_map(|rule| others.values().filter(|kind| rule.is_about(asked, kind)));
    found.next().map(|kind| Arc::clone(kind))
}
