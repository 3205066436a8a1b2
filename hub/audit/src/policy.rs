//! What is told of requests: a Policy of audit.k8s.io/v1, as kube-apiserver reads it. The first rule that is about a
//! request decides; what no rule is about is not told of.
//!
//! Guarantees:
//! - rules are about the requests that upstream's are about (`the_first_rule_about_a_request_decides`);
//! - what a file asks for is done or refused (`a_policy_is_obeyed_or_refused`).

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::event::Stage;
use crate::level::Level;

const GROUP_VERSION: &str = "audit.k8s.io/v1";

/// Why a policy cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

/// A policy.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[expect(dead_code, reason = "a policy may have a name")]
    metadata: Option<IgnoredAny>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// A request, as rules see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Whose it is, and what they are members of; `None` where that could not be found out.
    pub user: Option<(&'a str, &'a [String])>,
    /// Its verb; of a path its method in small letters.
    pub verb: &'a str,
    /// What it is about.
    pub what: What<'a>,
}

/// What a request is about.
#[derive(Clone, Copy, Debug)]
pub enum What<'a> {
    /// Objects; empty is what is not said.
    Resource {
        /// API group.
        group: &'a str,
        /// Plural.
        plural: &'a str,
        /// Subresource.
        subresource: &'a str,
        /// Namespace.
        namespace: &'a str,
        /// Name.
        name: &'a str,
    },
    /// A path that is no resource.
    Path(&'a str),
}

/// What is told of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestAudit {
    /// How much.
    pub level: Level,
    /// Objects are told without managedFields.
    pub omit_managed_fields: bool,
    omit_stages: Vec<Stage>,
}

impl RequestAudit {
    /// Whether it is told of at this stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> bool {
        self.level != Level::None && !self.omit_stages.contains(&stage)
    }
}

impl Policy {
    /// Reads its text, YAML or JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        let read: Self =
            serde_saphyr::from_str(text).map_err(|error| PolicyError(error.to_string()))?;
        if (&*read.api_version, &*read.kind) != (GROUP_VERSION, "Policy") {
            return Err(PolicyError(format!(
                "it is {} of {}, and not Policy of {GROUP_VERSION}",
                read.kind, read.api_version
            )));
        }
        if read.rules.is_empty() {
            return Err(PolicyError("loaded illegal policy with 0 rules".to_owned()));
        }
        for (at, rule) in read.rules.iter().enumerate() {
            rule.check().map_err(|why| PolicyError(format!("rules[{at}].{why}")))?;
        }
        Ok(read)
    }

    /// What is told of a request.
    #[must_use]
    pub fn evaluate(&self, asked: &Asked<'_>) -> RequestAudit {
        let Some(rule) = self.rules.iter().find(|rule| rule.is_about(asked)) else {
            let omit_managed_fields = self.omit_managed_fields;
            return RequestAudit {
                level: Level::None,
                omit_managed_fields,
                omit_stages: Vec::new(),
            };
        };
        RequestAudit {
            level: rule.level,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
            omit_stages: [&*self.omit_stages, &*rule.omit_stages].concat(),
        }
    }
}

fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == text)
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let paths = &self.non_resource_urls;
        if !(paths.is_empty() || self.resources.is_empty() && self.namespaces.is_empty()) {
            return Err(
                "nonResourceURLs: rules cannot apply to both regular resources and non-resource URLs".to_owned()
            );
        }
        for path in paths.iter().filter(|path| *path != "*") {
            if !path.starts_with('/') {
                return Err(format!(
                    "nonResourceURLs: {path:?}: non-resource URL rules must begin with a '/' character"
                ));
            }
            if path.strip_suffix('*').unwrap_or(path).contains('*') {
                return Err(format!(
                    "nonResourceURLs: {path:?}: non-resource URL wildcards '*' must be the final character of the rule"
                ));
            }
        }
        for of_group in &self.resources {
            if of_group.group.contains('/') {
                return Err(format!("resources.group: {:?} is no API group", of_group.group));
            }
            if of_group.resources.is_empty() && !of_group.resource_names.is_empty() {
                return Err(
                    "resources.resourceNames: using resourceNames requires at least one resource"
                        .to_owned(),
                );
            }
        }
        Ok(())
    }

    fn is_about(&self, asked: &Asked<'_>) -> bool {
        let is_user = |name: &str| has(&self.users, name);
        if !self.users.is_empty() && !asked.user.is_some_and(|(name, _)| is_user(name)) {
            return false;
        }
        let is_member =
            |groups: &[String]| groups.iter().any(|group| has(&self.user_groups, group));
        if !self.user_groups.is_empty() && !asked.user.is_some_and(|(_, groups)| is_member(groups))
        {
            return false;
        }
        if !self.verbs.is_empty() && !has(&self.verbs, asked.verb) {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return self.is_about_resource(asked.what);
        }
        match asked.what {
            _ if self.non_resource_urls.is_empty() => true,
            What::Path(path) => self.non_resource_urls.iter().any(|spec| path_matches(spec, path)),
            What::Resource { .. } => false,
        }
    }

    fn is_about_resource(&self, what: What<'_>) -> bool {
        let What::Resource { group, plural, subresource, namespace, name } = what else {
            return false;
        };
        if !self.namespaces.is_empty() && !has(&self.namespaces, namespace) {
            return false;
        }
        let is_named = |of_group: &GroupResources| {
            of_group.resources.is_empty()
                || (of_group.resource_names.is_empty() || has(&of_group.resource_names, name))
                    && of_group.resources.iter().any(|spec| spec_matches(spec, plural, subresource))
        };
        self.resources.is_empty()
            || self
                .resources
                .iter()
                .filter(|of_group| of_group.group == group || of_group.group == "*")
                .any(is_named)
    }
}

/// `pods`, `pods/log`, `pods/*`, `*/log`, `*`.
fn spec_matches(spec: &str, plural: &str, subresource: &str) -> bool {
    match spec.split_once('/') {
        None => spec == "*" || (spec == plural && subresource.is_empty()),
        Some((of, "*")) if of == plural => true,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((of, sub)) => of == plural && sub == subresource,
    }
}

fn path_matches(spec: &str, path: &str) -> bool {
    match spec.strip_suffix('*') {
        Some(begin) => path.starts_with(begin),
        None => spec == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &str) -> String {
        format!(
            "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nrules: [{rules}]"
        )
    }

    fn of(plural: &'static str, subresource: &'static str) -> What<'static> {
        let group = if plural == "deployments" { "apps" } else { "" };
        What::Resource { group, plural, subresource, namespace: "prod", name: "web" }
    }

    #[track_caller]
    fn check(rules: &str, verb: &str, what: What<'_>, level: Level) {
        let groups = ["ops".to_owned(), "system:authenticated".to_owned()];
        let asked = Asked { user: Some(("jane", &groups)), verb, what };
        let read = Policy::read(&policy(rules)).unwrap();
        assert_eq!(read.evaluate(&asked).level, level, "{rules}: {verb} {what:?}");
    }

    #[test]
    fn the_first_rule_about_a_request_decides() {
        let secrets = of("secrets", "");
        let first = "{level: None, users: [bob]}, {level: Metadata, resources: [{resources: [secrets, configmaps]}]}, \
                     {level: RequestResponse}";
        check(first, "get", secrets, Level::Metadata);
        check(first, "get", of("pods", ""), Level::RequestResponse);
        check("{level: Request, users: [bob]}", "get", secrets, Level::None);
        for (rule, verb, what, is) in [
            ("userGroups: [ops]", "get", secrets, true),
            ("userGroups: [dev]", "get", secrets, false),
            ("verbs: [create, update]", "get", secrets, false),
            ("verbs: [create, update]", "update", secrets, true),
            ("namespaces: [prod]", "get", secrets, true),
            ("namespaces: ['']", "get", secrets, false),
            ("namespaces: [prod]", "get", What::Path("/metrics"), false),
            ("resources: [{group: apps}]", "get", of("deployments", "scale"), true),
            ("resources: [{group: ''}]", "get", of("deployments", ""), false),
            (
                "resources: [{group: '*', resources: [deployments]}]",
                "get",
                of("deployments", ""),
                true,
            ),
            ("resources: [{resources: [pods]}]", "get", of("pods", "log"), false),
            ("resources: [{resources: [pods/log]}]", "get", of("pods", "log"), true),
            ("resources: [{resources: ['pods/*']}]", "get", of("pods", "log"), true),
            ("resources: [{resources: ['pods/*']}]", "get", of("pods", ""), true),
            ("resources: [{resources: ['*/log']}]", "get", of("pods", "log"), true),
            ("resources: [{resources: ['*/log']}]", "get", of("pods", ""), false),
            ("resources: [{resources: ['*']}]", "get", of("pods", "log"), true),
            ("resources: [{resources: [pods], resourceNames: [web]}]", "get", of("pods", ""), true),
            ("resources: [{resources: [pods], resourceNames: [db]}]", "get", of("pods", ""), false),
            ("nonResourceURLs: ['/api*', /version]", "get", What::Path("/version"), true),
            ("nonResourceURLs: ['/api*', /version]", "get", What::Path("/apis/apps"), true),
            ("nonResourceURLs: ['/api*', /version]", "get", What::Path("/metrics"), false),
            ("nonResourceURLs: ['*']", "get", secrets, false),
        ] {
            let level = if is { Level::Request } else { Level::None };
            check(&format!("{{level: Request, {rule}}}"), verb, what, level);
        }
        let nobody = Asked { user: None, verb: "get", what: secrets };
        let told = |rules: &str| Policy::read(&policy(rules)).unwrap().evaluate(&nobody);
        assert_eq!(told("{level: Metadata, userGroups: [ops]}").level, Level::None);
        let all = told("{level: Metadata, omitStages: [Panic], omitManagedFields: true}");
        let stages =
            [Stage::RequestReceived, Stage::ResponseStarted, Stage::ResponseComplete, Stage::Panic];
        assert_eq!(stages.map(|stage| all.at(stage)), [false, true, true, false]);
        assert!(all.omit_managed_fields);
        assert!(!told("{level: None}").at(Stage::ResponseComplete));
    }

    #[test]
    fn a_policy_is_obeyed_or_refused() {
        for (rules, why) in [
            ("", "0 rules"),
            ("{level: Everything}", "Everything"),
            ("{users: [a]}", "level"),
            ("{level: Metadata, user: [a]}", "user"),
            ("{level: Metadata, omitStages: [Never]}", "Never"),
            ("{level: Metadata, nonResourceURLs: [api]}", "must begin with"),
            ("{level: Metadata, nonResourceURLs: ['/*/x']}", "must be the final character"),
            ("{level: Metadata, nonResourceURLs: [/x], namespaces: [a]}", "cannot apply to both"),
            ("{level: Metadata, resources: [{resourceNames: [a]}]}", "at least one resource"),
            ("{level: Metadata, resources: [{group: apps/v1}]}", "is no API group"),
        ] {
            let said = Policy::read(&policy(rules)).unwrap_err().to_string();
            assert!(said.contains(why), "{why}: {said}");
        }
        let said = Policy::read("apiVersion: v1\nkind: Pod").unwrap_err().to_string();
        assert!(said.contains("and not Policy of audit.k8s.io/v1"), "{said}");
    }
}
