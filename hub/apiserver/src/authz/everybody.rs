//! What everybody may, as upstream's roles `system:public-info-viewer`, `system:discovery` and `system:basic-user` have
//! it: strangers ask for the version and for health, others what is served and what they may.

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster, Resource, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// Paths that anybody may read in the root, and nothing below them: why a single check fails is for those whom we know.
const PUBLIC: [&str; 4] = ["/version", "/healthz", "/livez", "/readyz"];
/// Paths that everybody who is authenticated may read, with what is below them.
const DISCOVERY: [&str; 7] =
    ["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"];
/// What they may ask about themselves: a group and the resources.
const QUESTIONS: [(&[&str], &[&str]); 2] = [
    (&["authorization.k8s.io"], &["selfsubjectaccessreviews", "selfsubjectrulesreviews"]),
    (&["authentication.k8s.io"], &["selfsubjectreviews"]),
];

/// Everybody's rights.
pub(super) struct Everybody;

#[async_trait]
impl Authorizer for Everybody {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let may = match (asked.what, asked.user.is_stranger()) {
            (What::Path(path), true) => {
                asked.verb == "get" && asked.cluster.name.is_root() && is_public(path)
            }
            (What::Path(path), false) => asked.verb == "get" && describes(path),
            (What::Resource(_), true) => false,
            (What::Resource(resource), false) => asked.verb == "create" && is_question(&resource),
        };
        if may { Decision::Allow("everybody may".into()) } else { Decision::none() }
    }

    fn rules(&self, user: &User, _: Cluster<'_>, rules: &mut Rules) {
        if user.is_stranger() {
            return;
        }
        for (group, resources) in QUESTIONS {
            rules.resources(&["create"], group, resources);
        }
        let paths = DISCOVERY.iter().flat_map(|path| [(*path).to_owned(), format!("{path}/*")]);
        rules.paths(&["get"], paths.collect());
    }
}

fn is_public(path: &str) -> bool {
    PUBLIC.contains(&path.strip_suffix('/').unwrap_or(path))
}

fn describes(path: &str) -> bool {
    let below = |prefix| path.strip_prefix(prefix).map(|rest: &str| rest.chars().next());
    DISCOVERY.iter().any(|prefix| matches!(below(*prefix), Some(None | Some('/'))))
}

fn is_question(resource: &Resource<'_>) -> bool {
    let Resource { group, plural, subresource, .. } = resource;
    let asks =
        |(groups, plurals): &(&[&str], &[&str])| groups.contains(group) && plurals.contains(plural);
    subresource.is_empty() && QUESTIONS.iter().any(asks)
}
