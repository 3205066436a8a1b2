//! One PolicyRule: what it allows.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

const ALL: &str = "*";

/// What may be done, to which resources or paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct PolicyRule {
    /// `get`, `list`, …; `*` is all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub verbs: Vec<String>,
    /// Groups of the resources; empty text for core, `*` for all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names of objects; none for all.
    #[serde(deserialize_with = "list", skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths that are no resources; one that ends with `*` is all that begin so.
    #[serde(
        rename = "nonResourceURLs",
        deserialize_with = "list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub non_resource_urls: Vec<String>,
}

/// An empty list may also be written as null.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// To objects.
    Resource {
        /// The verb.
        verb: &'a str,
        /// Group, empty for core.
        group: &'a str,
        /// Plural.
        resource: &'a str,
        /// Empty for none.
        subresource: &'a str,
        /// Empty for none.
        name: &'a str,
    },
    /// To a path.
    Path {
        /// The method, in small letters.
        verb: &'a str,
        /// The path.
        path: &'a str,
    },
}

impl PolicyRule {
    /// All that there is.
    #[must_use]
    pub fn everything() -> [Self; 2] {
        let all = || vec![ALL.to_owned()];
        let resources =
            Self { verbs: all(), api_groups: all(), resources: all(), ..Self::default() };
        [resources, Self { verbs: all(), non_resource_urls: all(), ..Self::default() }]
    }

    /// Whether it allows that.
    #[must_use]
    pub fn allows(&self, request: &Request<'_>) -> bool {
        match *request {
            Request::Resource { verb, group, resource, subresource, name } => {
                has_or_all(&self.verbs, verb)
                    && has_or_all(&self.api_groups, group)
                    && self.resources.iter().any(|rule| names(rule, resource, subresource))
                    && (self.resource_names.is_empty() || has(&self.resource_names, name))
            }
            Request::Path { verb, path } => {
                has_or_all(&self.verbs, verb)
                    && self.non_resource_urls.iter().any(|rule| is_path(rule, path))
            }
        }
    }
}

/// Whether a path is what a rule names.
pub(crate) fn is_path(rule: &str, path: &str) -> bool {
    rule == path || rule.ends_with('*') && path.starts_with(rule.trim_end_matches('*'))
}

pub(crate) fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == text)
}

pub(crate) fn has_or_all(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == ALL || one == text)
}

/// Whether `pods`, `pods/log`, `*/log` or `*` of a rule names a resource and its subresource.
fn names(rule: &str, resource: &str, subresource: &str) -> bool {
    if rule == ALL {
        return true;
    }
    match rule.split_once('/') {
        None => subresource.is_empty() && rule == resource,
        Some((of, sub)) => {
            !subresource.is_empty() && sub == subresource && (of == ALL || of == resource)
        }
    }
}

/// As kube-apiserver writes it in what it says of escalations.
impl fmt::Display for PolicyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        let mut begun = false;
        for (name, list) in [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ] {
            if list.is_empty() {
                continue;
            }
            let texts: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
            let comma = if begun { ", " } else { "" };
            write!(f, "{comma}{name}:[{}]", texts.join(" "))?;
            begun = true;
        }
        f.write_str("}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rule(value: serde_json::Value) -> PolicyRule {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn allows(rule: &PolicyRule, (verb, group, path, name): (&str, &str, &str, &str), may: bool) {
        let (resource, subresource) = path.split_once('/').unwrap_or((path, ""));
        let request = Request::Resource { verb, group, resource, subresource, name };
        assert_eq!(rule.allows(&request), may, "{rule} {request:?}");
    }

    #[test]
    fn rules_name_resources_as_upstream_reads_them() {
        let some = rule(
            json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods", "pods/log", "*/scale"]}),
        );
        for (asked, may) in [
            (("get", "", "pods", ""), true),
            (("get", "", "pods", "p"), true),
            (("list", "", "pods", ""), false),
            (("get", "apps", "pods", ""), false),
            (("get", "", "pods/log", "p"), true),
            (("get", "", "pods/exec", "p"), false),
            (("get", "", "replicationcontrollers/scale", "p"), true),
            (("get", "", "replicationcontrollers", "p"), false),
        ] {
            allows(&some, asked, may);
        }
        let one = rule(
            json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]}),
        );
        allows(&one, ("delete", "apps", "deployments/status", "a"), true);
        allows(&one, ("delete", "apps", "deployments", "b"), false);
        allows(&one, ("list", "apps", "deployments", ""), false);
        // A rule about resources says nothing of paths, nor the other way round.
        assert!(!one.allows(&Request::Path { verb: "get", path: "/metrics" }));
    }

    #[test]
    fn paths_may_end_with_a_star() {
        let some = rule(json!({"verbs": ["get"], "nonResourceURLs": ["/api/*", "/version"]}));
        for (path, may) in
            [("/api/v1", true), ("/api", false), ("/version", true), ("/version/", false)]
        {
            assert_eq!(some.allows(&Request::Path { verb: "get", path }), may, "{path}");
        }
        let [resources, paths] = PolicyRule::everything();
        assert!(paths.allows(&Request::Path { verb: "post", path: "/x" }));
        allows(&resources, ("x", "y", "z/w", ""), true);
    }

    #[test]
    fn a_rule_is_written_as_upstream_writes_it() {
        let some = rule(
            json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": null}),
        );
        assert_eq!(
            some.to_string(),
            r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#
        );
    }
}
