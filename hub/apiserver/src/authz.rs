//! What a caller may do: a union of authorizers, of which the first that allows or denies decides. Nobody has a right
//! that none of them gives.
//!
//! ```text
//! Attributes { user, verb, cluster, resource | path } ─▶ confined ─▶ masters ─▶ probes ─▶ cluster's administrators ─▶ nodes
//!                                                     ─▶ roles ─▶ policy file ─▶ webhooks
//! ```
//!
//! From the nodes on a file may say another order (`--authorization-config`), and who of them is asked.
//!
//! Masters come before all that has to be looked up. Requests and reviews of access ask the same.
//!
//! Guarantees:
//! - a certificate for one cluster opens that cluster and no other, the root not either
//!   (`an_administrator_of_one_cluster_is_nobody_elsewhere`,
//!   `a_certificate_for_one_cluster_opens_that_cluster_alone`);
//! - nor the next cluster of its name (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`);
//! - who is let into one cluster alone has no right elsewhere, whoever would give it
//!   (`who_is_confined_to_a_cluster_has_no_right_elsewhere`);
//! - the first opinion counts, and without one nothing may be done, or nobody knows whether it may where one of them was not
//!   answered (`the_first_opinion_counts`);
//! - whoever a file lets decide in the root, in other clusters their own roles count
//!   (`whoever_decides_in_the_root_roles_count_in_other_clusters`);
//! - what a review says is what a request is answered (`a_review_says_what_a_request_is_answered`).

mod abac;
mod admins;
mod always;
mod attributes;
mod authorizer;
mod authorizers;
mod configuration;
mod confined;
mod escalation;
mod match_conditions;
mod node;
mod probes;
mod roles;
mod subject_access_review;
mod webhook;
mod webhook_figures;

use freewheel_hub_schema::error::{ApiError, Details};
use tracing::trace;

pub use abac::{PolicyFile, PolicyFileError};
pub use admins::CLUSTER_ADMIN;
pub use attributes::{Attributes, Cluster, Resource, What};
pub use authorizer::{Authorizer, Decision, Reason, Rules};
pub use authorizers::{AuthorizerOptions, Authorizers};
pub use configuration::{
    AuthorizationConfiguration, AuthorizationConfigurationError, Member, WebhookOptions,
};
pub use confined::CONFINED;
pub(crate) use confined::{home, may_ask_for};
pub(crate) use escalation::{RoleEscalation, user_of};
pub(crate) use node::{LEASES, MIRROR, Needed, ephemeral_claim, needs, node_of, text};

impl Authorizers {
    /// Lets the caller pass or refuses in kube-apiserver's words.
    ///
    /// # Errors
    /// 403; of a stranger too, as kube-apiserver has it where it lets strangers ask.
    pub async fn check(&self, asked: &Attributes<'_>) -> Result<(), ApiError> {
        answer(asked, self.decide(asked).await)
    }
}

/// What was decided, in kube-apiserver's words.
///
/// # Errors
/// 403; of a stranger too, as kube-apiserver has it where it lets strangers ask. 500 where somebody who may have allowed it
/// has not answered.
pub(crate) fn answer(asked: &Attributes<'_>, decision: Decision) -> Result<(), ApiError> {
    match decision {
        Decision::Allow(reason) => {
            trace!(user = asked.user.name, verb = asked.verb, %reason, "allowed");
            Ok(())
        }
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(asked, &reason)),
        // Not a no: a client that reads one gives up.
        Decision::Unanswered(why) | Decision::Failed(why) => Err(ApiError::internal(why)),
    }
}

/// 403 in kube-apiserver's words.
pub(crate) fn forbidden(asked: &Attributes<'_>, reason: &str) -> ApiError {
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
    use std::sync::Arc;

    use async_trait::async_trait;
    use freewheel_hub_pki::MASTERS;
    use freewheel_hub_rbac::Index;
    use freewheel_hub_schema::object::{Header, Key, Object, Resource as Storage};
    use freewheel_hub_schema::uid::Uid;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Store, Txn};
    use freewheel_link::names::ClusterName;
    use serde_json::json;

    use super::*;
    use crate::authn::{AUTHENTICATED, User};

    fn user(group: &str) -> User {
        let groups = vec![group.to_owned(), AUTHENTICATED.to_owned()];
        User { name: "x".to_owned(), groups, ..User::default() }
    }

    /// Where nobody was given a role.
    fn authorizers() -> Authorizers {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (rights, _) = Index::over(store.clone());
        Authorizers::over(&store, &rights, vec![AuthorizerOptions::Node, AuthorizerOptions::Rbac])
    }

    /// What a caller gets to hear in the root.
    async fn check(user: &User, verb: &str, what: What<'_>) -> Result<(), String> {
        let cluster = Cluster { name: &ClusterName::root(), uid: None };
        let asked = Attributes { user, verb, cluster, what };
        authorizers().check(&asked).await.map_err(|error| error.message)
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
        assert_eq!(
            check(&User::anonymous(), "list", pods).await.unwrap_err(),
            r#"pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default""#
        );
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
            let decision = authorizers().decide(&asked).await;
            assert_eq!(matches!(decision, Decision::Allow(_)), may, "{name} {uid:?}");
            let (mut few, mut rules) = (Rules::default(), Rules::default());
            authorizers().rules(&user("people"), (cluster, ""), &mut few);
            authorizers().rules(&caller, (cluster, ""), &mut rules);
            assert_eq!(format!("{few:?}") != format!("{rules:?}"), may, "{name} {uid:?}");
        }
    }

    #[tokio::test]
    async fn whoever_decides_in_the_root_roles_count_in_other_clusters() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (rights, store) = Index::over(store);
        for name in ["root", "pi-7"] {
            let cluster = ClusterName::try_from(name).unwrap();
            let put = |plural: &str, body: serde_json::Value| {
                let resource = Storage::new("rbac.authorization.k8s.io", plural);
                let key = Key::new(&resource, &cluster, "", "x");
                let body = body.to_string().into();
                Operation::Put(key, Object { header: Header::default(), body })
            };
            let rule = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
            let subject = json!({"kind": "Group", "name": "people"});
            let role = json!({"kind": "ClusterRole", "name": "x"});
            let operations = vec![
                put("clusterroles", json!({"rules": [rule]})),
                put("clusterrolebindings", json!({"roleRef": role, "subjects": [subject]})),
            ];
            store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        }
        let secrets = What::Resource(Resource { plural: "secrets", ..Resource::default() });
        for (chosen, in_root) in
            [(AuthorizerOptions::Rbac, true), (AuthorizerOptions::Always(false), false)]
        {
            let all = Authorizers::over(&store, &rights, vec![chosen]);
            for (name, may) in [("root", in_root), ("pi-7", true), ("pi-8", false)] {
                let name = ClusterName::try_from(name).unwrap();
                let cluster = Cluster { name: &name, uid: None };
                let user = user("people");
                let asked = Attributes { user: &user, verb: "get", cluster, what: secrets };
                let decision = all.decide(&asked).await;
                assert_eq!(matches!(decision, Decision::Allow(_)), may, "{name} {in_root}");
            }
        }
    }

    #[tokio::test]
    async fn who_is_confined_to_a_cluster_has_no_right_elsewhere() {
        let groups = ["freewheel:cluster:pi-7:u-1", "freewheel:cluster-admin:pi-8:u-8", MASTERS];
        let groups = groups.map(str::to_owned).to_vec();
        let caller = User { name: "x".to_owned(), groups, ..User::default() };
        let secrets = What::Resource(Resource { plural: "secrets", ..Resource::default() });
        for (name, uid, may) in [
            ("pi-7", Some("u-1"), true),
            ("pi-7", Some("u-2"), false),
            ("pi-8", Some("u-8"), false),
            ("root", None, false),
        ] {
            let (name, uid) = (ClusterName::try_from(name).unwrap(), uid.map(Uid::from));
            let cluster = Cluster { name: &name, uid: uid.as_ref() };
            for what in [secrets, What::Path("/readyz")] {
                let asked = Attributes { user: &caller, verb: "get", cluster, what };
                let decision = authorizers().decide(&asked).await;
                assert_eq!(matches!(decision, Decision::Allow(_)), may, "{name} {uid:?} {what:?}");
            }
            let mut rules = Rules::default();
            authorizers().rules(&caller, (cluster, ""), &mut rules);
            assert_eq!(serde_json::to_string(&rules).unwrap().contains('*'), may, "{name}");
        }
        assert!(may_ask_for(&caller, "pi-7") && !may_ask_for(&caller, "pi-8"));
        assert!(may_ask_for(&user("people"), "pi-8"));
    }

    #[tokio::test]
    async fn everybody_may_ask_whether_the_hub_is_well() {
        for caller in [user("people"), User::anonymous()] {
            for path in ["/readyz", "/readyz/", "/livez", "/healthz"] {
                assert!(check(&caller, "get", What::Path(path)).await.is_ok(), "{path}");
            }
            for (verb, path) in [("get", "/readyz/store"), ("get", "/api"), ("head", "/readyz")] {
                assert!(check(&caller, verb, What::Path(path)).await.is_err(), "{verb} {path}");
            }
        }
        assert_eq!(
            check(&user("people"), "get", What::Path("/metrics")).await.unwrap_err(),
            r#"forbidden: User "x" cannot get path "/metrics""#
        );
    }

    /// Says always the same.
    struct Condition(Decision);

    #[async_trait]
    impl Authorizer for Condition {
        async fn decide(&self, _: &Attributes<'_>) -> Decision {
            self.0.clone()
        }

        fn rules(&self, _: &User, _: (Cluster<'_>, &str), _: &mut Rules) {}
    }

    #[tokio::test]
    async fn the_first_opinion_counts() {
        let allow = || Decision::Allow("yes".into());
        let deny = || Decision::Deny("no".into());
        let none = |why: &'static str| Decision::NoOpinion(why.into());
        let lost = |why: &'static str| Decision::Unanswered(why.into());
        let failed = || Decision::Failed("z".into());
        let user = user("people");
        for (members, decided) in [
            (vec![none("a"), allow(), deny()], allow()),
            (vec![none("a"), deny(), allow()], deny()),
            (vec![none("a"), Decision::none(), none("b")], none("a\nb")),
            (vec![], Decision::none()),
            (vec![lost("x"), allow()], allow()),
            (vec![lost("x"), deny()], deny()),
            (vec![lost("x"), failed(), allow()], failed()),
            (vec![none("a"), lost("x"), none("b"), lost("y")], lost("x\ny")),
        ] {
            let members = members.into_iter().map(|one| Box::new(Condition(one)) as Box<_>);
            let cluster = Cluster { name: &ClusterName::root(), uid: None };
            let what = What::Path("/x");
            let asked = Attributes { user: &user, verb: "get", cluster, what };
            let union = Authorizers::of(members.collect());
            assert_eq!(union.decide(&asked).await, decided);
            assert_eq!(union.check(&asked).await.is_ok(), decided == allow());
        }
    }
}
