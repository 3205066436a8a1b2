//! Which requests a rule of a FlowSchema is about.
//!
//! Guarantees:
//! - subjects, verbs, groups, resources, scopes and paths match as upstream has them (`subjects_match`,
//!   `resources_match`, `paths_match`).

use std::collections::HashSet;

use serde::Deserialize;

use crate::request::{Request, Resource, What};

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// A rule of a FlowSchema.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind")]
enum Subject {
    User {
        user: Named,
    },
    Group {
        group: Named,
    },
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        service_account: Account,
    },
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster_scope: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

/// A request, as rules look at it: its caller may be in many groups.
pub(crate) struct Caller<'a> {
    request: &'a Request<'a>,
    groups: HashSet<&'a str>,
    /// Namespace and name, of a service account.
    account: Option<(&'a str, &'a str)>,
}

impl<'a> Caller<'a> {
    pub(crate) fn of(request: &'a Request<'a>) -> Self {
        let groups = request.groups.iter().map(String::as_str).collect();
        let account = request.user.strip_prefix(ACCOUNT_PREFIX);
        Self { request, groups, account: account.and_then(|account| account.split_once(':')) }
    }
}

impl Rule {
    /// How many texts a request is compared with at most, to find out whether it is meant.
    pub(crate) fn terms(&self) -> usize {
        let of_resources = |rule: &ResourceRule| {
            rule.verbs.len() + rule.api_groups.len() + rule.resources.len() + rule.namespaces.len()
        };
        let of_paths = |rule: &PathRule| rule.verbs.len() + rule.urls.len();
        let resources = self.resource_rules.iter().map(of_resources).sum::<usize>();
        let paths = self.non_resource_rules.iter().map(of_paths).sum::<usize>();
        1 + self.subjects.len() + resources + paths
    }

    pub(crate) fn matches(&self, caller: &Caller<'_>) -> bool {
        if !self.subjects.iter().any(|subject| subject.is(caller)) {
            return false;
        }
        let request = caller.request;
        match &request.what {
            What::Resource(what) => {
                self.resource_rules.iter().any(|rule| rule.matches(request.verb, what))
            }
            What::Path(path) => {
                self.non_resource_rules.iter().any(|rule| rule.matches(request.verb, path))
            }
        }
    }
}

impl Subject {
    fn is(&self, caller: &Caller<'_>) -> bool {
        match self {
            Self::User { user } => user.name == "*" || user.name == caller.request.user,
            Self::Group { group } => group.name == "*" || caller.groups.contains(&*group.name),
            Self::ServiceAccount { service_account: Account { namespace, name } } => {
                let is = |(its, own)| its == namespace && (name == "*" || name == own);
                caller.account.is_some_and(is)
            }
        }
    }
}

/// Whether a list names this, or everything.
fn names(list: &[String], one: &str) -> bool {
    list.iter().any(|it| it == "*" || it == one)
}

impl ResourceRule {
    fn matches(&self, verb: &str, what: &Resource<'_>) -> bool {
        let resource = |it: &String| match it.split_once('/') {
            Some((plural, sub)) => (plural, sub) == (what.plural, what.subresource),
            None => it == "*" || (it == what.plural && what.subresource.is_empty()),
        };
        names(&self.verbs, verb)
            && names(&self.api_groups, what.group)
            && self.resources.iter().any(resource)
            && if what.namespace.is_empty() {
                self.cluster_scope
            } else {
                names(&self.namespaces, what.namespace)
            }
    }
}

impl PathRule {
    fn matches(&self, verb: &str, path: &str) -> bool {
        // A path is also all that is beneath it.
        let leads = |url: &String| {
            let place = url.strip_suffix('*').unwrap_or(url);
            let place = place.strip_suffix('/').unwrap_or(place);
            url == "*"
                || url == path
                || path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/'))
        };
        names(&self.verbs, verb) && self.urls.iter().any(leads)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rule(value: Value) -> Rule {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn subjects_match() {
        let groups = ["people".to_owned()];
        let account = |namespace: &str, name: &str| {
            json!({"kind": "ServiceAccount",
                "serviceAccount": {"namespace": namespace, "name": name}})
        };
        let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| json!({"kind": "Group", "group": {"name": name}});
        let robot = "system:serviceaccount:kube-system:robot";
        for (subject, name, is) in [
            (user("ann"), "ann", true),
            (user("ann"), "bob", false),
            (user("*"), "bob", true),
            (group("people"), "ann", true),
            (group("robots"), "ann", false),
            (group("*"), "ann", true),
            (account("kube-system", "robot"), robot, true),
            (account("kube-system", "*"), robot, true),
            (account("kube-system", "rob"), robot, false),
            (account("kube", "*"), robot, false),
            (account("default", "*"), robot, false),
            (account("kube-system", "*"), "ann", false),
        ] {
            let rule = rule(json!({"subjects": [subject],
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/api"]}]}));
            let what = What::Path("/api");
            let request = Request { user: name, groups: &groups, verb: "get", what };
            assert_eq!(rule.matches(&Caller::of(&request)), is, "{rule:?} {name}");
        }
    }

    #[test]
    fn resources_match() {
        let rule = rule(json!({"subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [
                {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "pods/log"],
                 "namespaces": ["a"]},
                {"verbs": ["*"], "apiGroups": ["apps"], "resources": ["*"], "namespaces": ["*"]},
                {"verbs": ["*"], "apiGroups": [""], "resources": ["nodes"], "clusterScope": true}]}));
        for (verb, group, resource, namespace, is) in [
            ("get", "", "pods", "a", true),
            ("get", "", "pods/log", "a", true),
            ("get", "", "pods/exec", "a", false),
            ("delete", "", "pods", "a", false),
            ("list", "", "pods", "b", false),
            ("list", "", "pods", "", false),
            ("delete", "apps", "deployments/scale", "b", true),
            ("list", "apps", "deployments", "", false),
            ("update", "", "nodes", "", true),
            ("update", "", "nodes/status", "", false),
        ] {
            let (plural, subresource) = resource.split_once('/').unwrap_or((resource, ""));
            let what = What::Resource(Resource { group, plural, subresource, namespace });
            let request = Request { user: "ann", groups: &[], verb, what };
            assert_eq!(rule.matches(&Caller::of(&request)), is, "{request:?}");
        }
    }

    #[test]
    fn paths_match() {
        for (url, path, is) in [
            ("/healthz", "/healthz", true),
            ("/healthz", "/healthz/etcd", true),
            ("/healthz", "/healthzy", false),
            ("/apis/*", "/apis/apps", true),
            ("/apis/*", "/api", false),
            ("*", "/anything", true),
        ] {
            let rule = rule(json!({"subjects": [{"kind": "User", "user": {"name": "*"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": [url]}]}));
            let request = Request { user: "ann", groups: &[], verb: "get", what: What::Path(path) };
            assert_eq!(rule.matches(&Caller::of(&request)), is, "{url} {path}");
        }
    }
}
