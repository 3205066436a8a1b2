//! Who allows everything, or denies it (`AlwaysAllow`, `AlwaysDeny`), in the root. To strangers nothing is allowed: the hub
//! stands where everybody reaches it, and kube-apiserver turns them away by itself where everything is allowed. Whom a
//! review names without groups is none of them: with a request they would be known.
//!
//! Guarantees:
//! - without a credential nobody has a right by it (`everything_is_allowed_to_who_is_known_and_nothing_to_strangers`).

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// Always says the same.
pub(super) struct Always(pub(super) bool);

#[async_trait]
impl Authorizer for Always {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        match self.0 {
            // What somebody decides for the root is nothing in the clusters of devices.
            _ if !asked.cluster.name.is_root() => Decision::none(),
            true if asked.user.is_anonymous() => Decision::none(),
            true => Decision::Allow("".into()),
            false => Decision::NoOpinion("Everything is forbidden.".into()),
        }
    }

    fn rules(&self, user: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if self.0 && cluster.name.is_root() && !user.is_anonymous() {
            rules.everything();
        }
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authn::{ANONYMOUS, AUTHENTICATED};
    use crate::authz::{Resource, What};

    #[tokio::test]
    async fn everything_is_allowed_to_who_is_known_and_nothing_to_strangers() {
        let groups = vec![AUTHENTICATED.to_owned()];
        let known = User { name: "jane".to_owned(), groups, ..User::default() };
        let named = |name: &str| User { name: name.to_owned(), ..User::default() };
        let (jane, nobody) = (named("jane"), named(ANONYMOUS));
        for (user, cluster, may) in [
            (&known, "root", true),
            (&jane, "root", true),
            (&nobody, "root", false),
            (&known, "pi-7", false),
            (&User::anonymous(), "root", false),
            (&User::anonymous(), "pi-7", false),
        ] {
            let name = ClusterName::try_from(cluster).unwrap();
            let cluster = Cluster { name: &name, uid: None };
            let what = What::Resource(Resource { plural: "secrets", ..Resource::default() });
            let decision =
                Always(true).decide(&Attributes { user, verb: "get", cluster, what }).await;
            let decided = if may { Decision::Allow("".into()) } else { Decision::none() };
            assert_eq!(decision, decided, "{} {name}", user.name);
            let mut rules = Rules::default();
            Always(true).rules(user, (cluster, ""), &mut rules);
            assert_eq!(serde_json::to_string(&rules).unwrap().contains('*'), may);
        }
    }
}
