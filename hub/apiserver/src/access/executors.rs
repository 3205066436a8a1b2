//! Who has a ManifestWork applied by a service account's rights may execute as that account, as Open Cluster Management's
//! admission asks it: `execute-as` on the work, under the account's name. Whoever may write works could otherwise use the
//! rights of any account of the cluster.
//!
//! Guarantees:
//! - a right to write works is none to execute as an account (`who_names_an_executor_may_execute_as_it`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_rbac::service_account_name;
use serde_json::Value;

use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What, user_of};
use crate::tenant::Tenant;

const GROUP: &str = "work.open-cluster-management.io";
const WORKS: &str = "manifestworks";

/// Refuses executors of those who may not execute as them.
pub(super) struct Executors {
    pub(super) authorizers: Arc<Authorizers>,
}

#[async_trait]
impl Plugin for Executors {
    fn name(&self) -> &'static str {
        "ManifestWorkExecutor"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        (kind.group(), kind.plural()) == (GROUP, WORKS)
            && matches!(review.verb, Verb::Create | Verb::Update)
            && matches!(review.actor, Actor::Person(_))
    }

    async fn validate(&self, review: &Review<'_>, new: &Value) -> Result<Claims, Refusal> {
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        let executor = |work: &Value| work.pointer("/spec/executor").cloned();
        if executor(new) == review.old.and_then(executor) {
            return Ok(Claims::default());
        }
        let Some(account) = new.pointer("/spec/executor/subject/serviceAccount") else {
            return Ok(Claims::default());
        };
        let text = |key: &str| account[key].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let root = Tenant::root();
        let what = Resource {
            group: GROUP,
            plural: WORKS,
            namespace: &review.target.namespace,
            name: &service_account_name(namespace, name),
            ..Resource::default()
        };
        let user = user_of(person);
        let (cluster, what) = (root.cluster(), What::Resource(what));
        let asked = Attributes { user: &user, verb: "execute-as", cluster, what };
        match self.authorizers.decide(&asked).await {
            Decision::Allow(_) => Ok(Claims::default()),
            Decision::Deny(_)
            | Decision::NoOpinion(_)
            | Decision::Unanswered(_)
            | Decision::Failed(_) => Err(Refusal::forbidden(format!(
                "user {} cannot manipulate the Manifestwork with executor {namespace}/{name} in namespace {}",
                user.name, review.target.namespace
            ))),
        }
    }
}
