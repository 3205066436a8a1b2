//! Operations and resources, by pattern.

use freewheel_hub_schema::kind::Kind;
use serde_json::Value;

use crate::attributes::Attributes;

/// RuleWithOperations, with or without names.
#[derive(Debug)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Resource and subresource, which is empty for the object itself.
    resources: Vec<(String, String)>,
    scope: Scope,
    names: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
}

impl Rule {
    pub(super) fn list(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::read).collect()
    }

    fn read(rule: &Value) -> Self {
        let texts = |key: &str| -> Vec<String> {
            let list = rule[key].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let split = |text: String| match text.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (text, String::new()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources").into_iter().map(split).collect(),
            scope: match rule["scope"].as_str() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                _ => Scope::All,
            },
            names: texts("resourceNames"),
        }
    }

    /// Plurals that it names; `None` where that is any.
    pub(super) fn plurals(&self) -> Option<Vec<&str>> {
        let named = |(resource, _): &'_ (String, String)| (resource != "*").then_some(());
        self.resources.iter().map(named).collect::<Option<Vec<()>>>()?;
        Some(self.resources.iter().map(|(resource, _)| resource.as_str()).collect())
    }

    /// Whether it is about this write, seen in this version.
    pub(super) fn is_about(&self, asked: &Attributes<'_>, version: &Kind) -> bool {
        let subresource = asked.subresource();
        let has_door =
            || subresource.is_empty() || version.subresource_named(subresource).is_some();
        self.has_scope(asked)
            && has(&self.operations, asked.operation)
            && has(&self.groups, version.group())
            && has(&self.versions, version.version())
            && self.resources.iter().any(|(resource, door)| {
                (resource == "*" || resource == version.plural())
                    && (door == "*" || door == subresource)
            })
            && (self.names.is_empty() || self.names.iter().any(|name| name == asked.name))
            && has_door()
    }

    fn has_scope(&self, asked: &Attributes<'_>) -> bool {
        let is_in_cluster = asked.is_about_namespace() || asked.namespace.is_empty();
        match self.scope {
            Scope::All => true,
            Scope::Cluster => is_in_cluster,
            Scope::Namespaced => !is_in_cluster,
        }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}
