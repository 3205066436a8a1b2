//! What roles give (rbac.authorization.k8s.io), by the roles and bindings of the very cluster that is asked about.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_rbac::{ClusterRights, Index, Request, Who};
use freewheel_link::names::ClusterName;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// Allows what bindings give.
pub(super) struct Roles {
    pub(super) rights: Arc<Index>,
    /// They count in the root, too: whoever says who decides there says it of no other cluster.
    pub(super) in_root: bool,
}

impl Roles {
    fn of(&self, cluster: &ClusterName) -> Option<Arc<ClusterRights>> {
        if cluster.is_root() && !self.in_root { None } else { self.rights.of(cluster) }
    }
}

#[async_trait]
impl Authorizer for Roles {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let Some(rights) = self.of(asked.cluster.name) else { return Decision::none() };
        let (request, namespace) = request(asked);
        let mut lacking = Lacking::default();
        for given in rights.given(who(asked.user), namespace) {
            match given {
                Ok(given) if given.rules.iter().any(|rule| rule.allows(&request)) => {
                    return Decision::Allow(format!("RBAC: allowed by {given}").into());
                }
                Ok(_) => {}
                Err(missing) => lacking.note(missing.to_string()),
            }
        }
        let why = lacking.reason();
        if why.is_empty() {
            Decision::none()
        } else {
            Decision::NoOpinion(format!("RBAC: {why}").into())
        }
    }

    fn rules(&self, user: &User, (cluster, namespace): (Cluster<'_>, &str), rules: &mut Rules) {
        let Some(rights) = self.of(cluster.name) else { return };
        let mut lacking = Lacking::default();
        for given in rights.given(who(user), namespace) {
            match given {
                Ok(given) => given.rules.iter().for_each(|rule| rules.add(rule)),
                Err(missing) => lacking.note(missing.to_string()),
            }
        }
        let why = lacking.reason();
        if !why.is_empty() {
            rules.lacks(why);
        }
    }
}

pub(super) fn who(user: &User) -> Who<'_> {
    Who { name: &user.name, groups: &user.groups }
}

/// What is asked, as rules see it, and the namespace whose bindings count.
fn request<'a>(asked: &Attributes<'a>) -> (Request<'a>, &'a str) {
    let verb = asked.verb;
    match asked.what {
        What::Path(path) => (Request::Path { verb, path }, ""),
        What::Resource(Resource { group, plural, subresource, namespace, name, .. }) => {
            (Request::Resource { verb, group, resource: plural, subresource, name }, namespace)
        }
    }
}

/// Roles that are not there, each once.
#[derive(Default)]
struct Lacking(Vec<String>);

impl Lacking {
    fn note(&mut self, text: String) {
        if !self.0.contains(&text) {
            self.0.push(text);
        }
    }

    fn reason(&self) -> String {
        match self.0.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }
    }
}
