//! What a file of policies gives (`--authorization-policy-file`): a JSON object on each line, as in
//! abac.authorization.k8s.io/v1beta1. It counts in the root.
//!
//! Guarantees:
//! - both samples that everybody begins with do what they say (`a_policy_gives_what_its_line_says`);
//! - a file that cannot be read as that is told with its line (`a_line_that_is_no_policy_is_told`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_rbac::PolicyRule;
use serde::Deserialize;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

const API_VERSION: &str = "abac.authorization.kubernetes.io/v1beta1";
const ALL: &str = "*";

/// Why a file of policies is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the policy file {why}")]
pub struct PolicyFileError {
    line: usize,
    why: String,
}

/// One line.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    api_version: String,
    kind: String,
    spec: Policy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    user: String,
    group: String,
    namespace: String,
    resource: String,
    api_group: String,
    readonly: bool,
    #[serde(rename = "nonResourcePath")]
    path: String,
}

/// Allows what a file says.
#[derive(Clone, Debug, Default)]
pub struct PolicyFile(Arc<Vec<Policy>>);

impl PolicyFile {
    /// Reads its text.
    ///
    /// # Errors
    /// When a line is no policy.
    pub fn read(text: &str) -> Result<Self, PolicyFileError> {
        let mut policies = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: String| PolicyFileError { line: number + 1, why };
            let read: Line = serde_json::from_str(line)
                .map_err(|error| wrong(format!("is no policy: {error}")))?;
            if (&*read.api_version, &*read.kind) != (API_VERSION, "Policy") {
                let (version, kind) = (read.api_version, read.kind);
                return Err(wrong(format!(
                    "is {kind} of {version}, and not Policy of {API_VERSION}"
                )));
            }
            policies.push(read.spec);
        }
        Ok(Self(Arc::new(policies)))
    }
}

impl Policy {
    /// Whom a line names neither by a user nor by a group, it names not.
    fn is_about(&self, user: &User) -> bool {
        // A star is everybody who is known, as at kube-apiserver: a file opens nothing to strangers.
        let known = || !user.is_stranger();
        let named = |own: &str, is: bool| own.is_empty() || is || own == ALL && known();
        let is_anybody = !self.user.is_empty() || !self.group.is_empty();
        is_anybody
            && named(&self.user, self.user == user.name)
            && named(&self.group, user.is_in(&self.group))
    }

    fn allows(&self, asked: &Attributes<'_>) -> bool {
        let reads = matches!(asked.verb, "get" | "list" | "watch");
        let is = |own: &str, asked: &str| own == ALL || own == asked;
        let what = match asked.what {
            What::Path(path) => {
                let own = &*self.path;
                is(own, path) || own.ends_with(ALL) && path.starts_with(own.trim_end_matches(ALL))
            }
            What::Resource(Resource { group, plural, namespace, .. }) => {
                is(&self.namespace, namespace)
                    && is(&self.resource, plural)
                    && is(&self.api_group, group)
            }
        };
        self.is_about(asked.user) && (reads || !self.readonly) && what
    }

    fn rules(&self, namespace: &str) -> Vec<PolicyRule> {
        let verbs: &[&str] = if self.readonly { &["get", "list", "watch"] } else { &[ALL] };
        let verbs: Vec<String> = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        let mut rules = Vec::new();
        let here = self.namespace == ALL || self.namespace == namespace;
        if here && !self.resource.is_empty() {
            rules.push(PolicyRule {
                verbs: verbs.clone(),
                api_groups: vec![self.api_group.clone()],
                resources: vec![self.resource.clone()],
                ..PolicyRule::default()
            });
        }
        if !self.path.is_empty() {
            let non_resource_urls = vec![self.path.clone()];
            rules.push(PolicyRule { verbs, non_resource_urls, ..PolicyRule::default() });
        }
        rules
    }
}

#[async_trait]
impl Authorizer for PolicyFile {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if asked.cluster.name.is_root() && self.0.iter().any(|policy| policy.allows(asked)) {
            return Decision::Allow("a line of the policy file allows it".into());
        }
        if self.0.is_empty() {
            Decision::none()
        } else {
            Decision::NoOpinion("No policy matched.".into())
        }
    }

    fn rules(&self, user: &User, (cluster, namespace): (Cluster<'_>, &str), rules: &mut Rules) {
        if !cluster.name.is_root() {
            return;
        }
        let own = self.0.iter().filter(|policy| policy.is_about(user));
        own.flat_map(|policy| policy.rules(namespace)).for_each(|rule| rules.add(&rule));
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authn::AUTHENTICATED;

    async fn may(file: &str, user: &str, verb: &str, what: What<'_>) -> bool {
        let groups = vec!["people".to_owned()];
        let user = User { name: user.to_owned(), groups, ..User::default() };
        let allows = |name: &'static str| {
            let (file, user) = (PolicyFile::read(file).unwrap(), user.clone());
            async move {
                let name = ClusterName::try_from(name).unwrap();
                let cluster = Cluster { name: &name, uid: None };
                let asked = Attributes { user: &user, verb, cluster, what };
                matches!(file.decide(&asked).await, Decision::Allow(_))
            }
        };
        assert!(!allows("pi-7").await, "it counts in the root");
        allows("root").await
    }

    #[tokio::test]
    async fn a_policy_gives_what_its_line_says() {
        const ALL: &str = r#"{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"chaitu","namespace":"*","resource":"*","apiGroup":"*"}}"#;
        const READS: &str = r#"{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"chaitu","namespace":"*","resource":"*","apiGroup":"*","readonly":true}}"#;
        let pods =
            What::Resource(Resource { plural: "pods", namespace: "n", ..Resource::default() });
        for (file, user, verb, is) in [
            (ALL, "chaitu", "delete", true),
            (ALL, "chaitu", "list", true),
            (ALL, "somebody", "list", false),
            (READS, "chaitu", "list", true),
            (READS, "chaitu", "delete", false),
        ] {
            assert_eq!(may(file, user, verb, pods).await, is, "{user} {verb}");
        }
        assert!(!may(ALL, "chaitu", "get", What::Path("/version")).await);
        let line = |spec: &str| {
            format!(
                r#"# one{}{{"apiVersion":"{API_VERSION}","kind":"Policy","spec":{spec}}}"#,
                '\n'
            )
        };
        let paths = line(r#"{"group":"people","nonResourcePath":"/api*","readonly":true}"#);
        assert!(may(&paths, "x", "get", What::Path("/apis")).await);
        assert!(!may(&paths, "x", "get", What::Path("/version")).await);
        assert!(!may(&paths, "x", "get", pods).await);
        let one = line(r#"{"user":"x","group":"others","resource":"*","namespace":"n"}"#);
        assert!(!may(&one, "x", "get", pods).await, "both have to be so");
        let one = line(r#"{"user":"x","resource":"pods","namespace":"n"}"#);
        assert!(may(&one, "x", "get", pods).await);
        let other =
            What::Resource(Resource { plural: "pods", namespace: "m", ..Resource::default() });
        assert!(!may(&one, "x", "get", other).await);
        assert!(!may(&line(r#"{"resource":"*","namespace":"*"}"#), "x", "get", pods).await);
    }

    #[test]
    fn a_star_is_everybody_but_strangers() {
        let groups = vec![AUTHENTICATED.to_owned()];
        let jane = User { name: "jane".to_owned(), groups, ..User::default() };
        for spec in [r#"{"user":"*"}"#, r#"{"group":"*"}"#, r#"{"user":"*","group":"*"}"#] {
            let policy: Policy = serde_json::from_str(spec).unwrap();
            assert!(policy.is_about(&jane), "{spec}");
            assert!(!policy.is_about(&User::anonymous()), "{spec}");
        }
        let named: Policy = serde_json::from_str(r#"{"user":"system:anonymous"}"#).unwrap();
        assert!(named.is_about(&User::anonymous()) && !named.is_about(&jane));
    }

    #[test]
    fn a_line_that_is_no_policy_is_told() {
        for (file, why) in [
            ("\n{", "line 2 of the policy file is no policy"),
            (
                r#"{"apiVersion":"v1","kind":"Pod","spec":{}}"#,
                "line 1 of the policy file is Pod of v1",
            ),
        ] {
            let said = PolicyFile::read(file).unwrap_err().to_string();
            assert!(said.starts_with(why), "{said}");
        }
    }
}
