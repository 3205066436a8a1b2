//! What a caller may do: a union of authorizers, of which the first that allows or denies decides. Nobody has a right
//! that none of them gives.
//!
//! ```text
//! Attributes { user, verb, cluster, resource | path } ─▶ unserved ─▶ everybody ─▶ masters ─▶ cluster's administrators
//! ```
//!
//! Roles and webhooks are further members of [`Authorizers::default`]. Requests and reviews of access ask the same.
//!
//! Guarantees:
//! - a certificate for one cluster opens that cluster and no other, the root not either
//!   (`an_administrator_of_one_cluster_is_nobody_elsewhere`,
//!   `a_certificate_for_one_cluster_opens_that_cluster_alone`);
//! - nor the next cluster of its name (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`);
//! - the first opinion counts, and without one nothing may be done (`the_first_opinion_counts`);
//! - what a review says is what a request is answered (`a_review_says_what_a_request_is_answered`).

mod admins;
mod attributes;
mod authorizer;
mod everybody;
mod unserved;

use async_trait::async_trait;
use freewheel_hub_schema::error::{ApiError, Details};
use tracing::trace;

use crate::authn::{User, unauthorized};
pub use admins::CLUSTER_ADMIN;
use admins::{ClusterAdmins, Masters};
pub use attributes::{Attributes, Cluster, Resource, What};
pub use authorizer::{Authorizer, Decision, Reason, Rules};
use everybody::Everybody;
use unserved::Impersonation;

/// All who decide, in the order in which they are asked.
pub struct Authorizers(Vec<Box<dyn Authorizer>>);

impl Default for Authorizers {
    fn default() -> Self {
        Self(vec![
            // Before all who may do everything: this nobody may.
            Box::new(Impersonation),
            Box::new(Everybody),
            Box::new(Masters),
            Box::new(ClusterAdmins),
        ])
    }
}

#[async_trait]
impl Authorizer for Authorizers {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for member in &self.0 {
            match member.decide(asked).await {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n").into())
    }

    fn rules(&self, user: &User, cluster: Cluster<'_>, rules: &mut Rules) {
        self.0.iter().for_each(|member| member.rules(user, cluster, rules));
    }
}

impl Authorizers {
    /// Lets the caller pass or refuses in kube-apiserver's words.
    ///
    /// # Errors
    /// 401 for a stranger, 403 for everybody else.
    pub async fn check(&self, asked: &Attributes<'_>) -> Result<(), ApiError> {
        match self.decide(asked).await {
            Decision::Allow(reason) => {
                trace!(user = asked.user.name, verb = asked.verb, %reason, "allowed");
                Ok(())
            }
            Decision::Deny(_) | Decision::NoOpinion(_) if asked.user.is_stranger() => {
                Err(unauthorized())
            }
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(asked, &reason)),
        }
    }
}

fn forbidden(asked: &Attributes<'_>, reason: &str) -> ApiError {
    let (user, verb) = (&asked.user.name, asked.verb);
    let (mut message, details) = match &asked.what {
        What::Path(path) => {
            (format!("forbidden: User {user:?} cannot {verb} path {path:?}"), Details::default())
        }
        What::Resource(what) => {
            let details = Details {
                name: what.name.to_owned(),
                group: what.group.to_owned(),
                kind: what.plural.to_owned(),
                ..Details::default()
            };
            (refused(asked, what), details)
        }
    };
    if !reason.is_empty() {
        message.push_str(": ");
        message.push_str(reason);
    }
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::new(details));
    error
}

fn refused(asked: &Attributes<'_>, what: &Resource<'_>) -> String {
    let resource = if what.subresource.is_empty() {
        what.plural.to_owned()
    } else {
        format!("{}/{}", what.plural, what.subresource)
    };
    let qualified = if what.group.is_empty() {
        what.plural.to_owned()
    } else {
        format!("{}.{}", what.plural, what.group)
    };
    let subject =
        if what.name.is_empty() { qualified } else { format!("{qualified} {:?}", what.name) };
    let place = if what.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", what.namespace)
    };
    format!(
        "{subject} is forbidden: User {:?} cannot {} resource {resource:?} in API group {:?} {place}",
        asked.user.name, asked.verb, what.group
    )
}

#[cfg(test)]
mod tests {
    use freewheel_hub_pki::MASTERS;
    use freewheel_hub_schema::uid::Uid;
    use freewheel_link::names::ClusterName;

    use super::*;
    use crate::authn::AUTHENTICATED;

    fn user(group: &str) -> User {
        let groups = vec![group.to_owned(), AUTHENTICATED.to_owned()];
        User { name: "x".to_owned(), groups, ..User::default() }
    }

    /// What a caller gets to hear in the root.
    async fn check(user: &User, verb: &str, what: What<'_>) -> Result<(), String> {
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        let asked = Attributes { user, verb, cluster, what };
        Authorizers::default().check(&asked).await.map_err(|error| error.message)
    }

    #[tokio::test]
    async fn only_masters_pass_and_others_read_why() {
        let pods = Resource { plural: "pods", namespace: "default", ..Resource::default() };
        let pods = What::Resource(pods);
        assert!(check(&user(MASTERS), "list", pods).await.is_ok());
        assert_eq!(
            check(&user("people"), "list", pods).await.unwrap_err(),
            r#"pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "default""#
        );
        assert_eq!(check(&User::anonymous(), "list", pods).await.unwrap_err(), "Unauthorized");
    }

    #[tokio::test]
    async fn an_administrator_of_one_cluster_is_nobody_elsewhere() {
        let caller = user("freewheel:cluster-admin:pi-7:u-1");
        let secrets = Resource { plural: "secrets", ..Resource::default() };
        for (name, uid, may) in [
            ("pi-7", Some("u-1"), true),
            ("pi-7", Some("u-2"), false),
            ("pi-8", Some("u-1"), false),
            ("root", Some("u-1"), false),
            ("pi-7", Some(""), false),
            ("pi-7", None, false),
        ] {
            let (name, uid) = (ClusterName::try_from(name).unwrap(), uid.map(Uid::from));
            let cluster = Cluster { name: &name, uid: uid.as_ref() };
            let what = What::Resource(secrets);
            let asked = Attributes { user: &caller, verb: "delete", cluster, what };
            let decision = Authorizers::default().decide(&asked).await;
            assert_eq!(matches!(decision, Decision::Allow(_)), may, "{name} {uid:?}");
            let (mut few, mut rules) = (Rules::default(), Rules::default());
            Authorizers::default().rules(&user("people"), cluster, &mut few);
            Authorizers::default().rules(&caller, cluster, &mut rules);
            assert_eq!(format!("{few:?}") != format!("{rules:?}"), may, "{name} {uid:?}");
        }
    }

    #[tokio::test]
    async fn everybody_known_may_discover() {
        for path in ["/api", "/apis/apps/v1", "/readyz/store", "/version/"] {
            assert!(check(&user("people"), "get", What::Path(path)).await.is_ok(), "{path}");
        }
        assert_eq!(
            check(&user("people"), "get", What::Path("/metrics")).await.unwrap_err(),
            r#"forbidden: User "x" cannot get path "/metrics""#
        );
        for path in ["/apisx", "/"] {
            assert!(check(&user("people"), "get", What::Path(path)).await.is_err(), "{path}");
        }
        let nobody = User::anonymous();
        assert!(check(&nobody, "get", What::Path("/readyz/")).await.is_ok());
        for (verb, path) in [("get", "/readyz/store"), ("get", "/api"), ("head", "/version")] {
            assert!(check(&nobody, verb, What::Path(path)).await.is_err(), "{verb} {path}");
        }
    }

    /// Says always the same.
    struct Condition(Decision);

    #[async_trait]
    impl Authorizer for Condition {
        async fn decide(&self, _: &Attributes<'_>) -> Decision {
            self.0.clone()
        }

        fn rules(&self, _: &User, _: Cluster<'_>, _: &mut Rules) {}
    }

    #[tokio::test]
    async fn the_first_opinion_counts() {
        let allow = || Decision::Allow("yes".into());
        let deny = || Decision::Deny("no".into());
        let none = |why: &'static str| Decision::NoOpinion(why.into());
        let user = user("people");
        for (members, decided) in [
            (vec![none("a"), allow(), deny()], allow()),
            (vec![none("a"), deny(), allow()], deny()),
            (vec![none("a"), Decision::none(), none("b")], none("a\nb")),
            (vec![], Decision::none()),
        ] {
            let members = members.into_iter().map(|one| Box::new(Condition(one)) as Box<_>);
            let cluster = Cluster { name: &ClusterName::root(), uid: None };
            let what = What::Path("/x");
            let asked = Attributes { user: &user, verb: "get", cluster, what };
            let union = Authorizers(members.collect());
            assert_eq!(union.decide(&asked).await, decided);
            assert_eq!(union.check(&asked).await.is_ok(), decided == allow());
        }
    }
}
