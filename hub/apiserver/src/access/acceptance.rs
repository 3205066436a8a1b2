//! Who lets a cluster in has the right to do so, as Open Cluster Management's admission asks it: `update` on
//! `managedclusters/accept` of register.open-cluster-management.io. Whoever may write a ManagedCluster could otherwise
//! accept a device of their own.
//!
//! Guarantees:
//! - a right to write clusters is none to let them in (`who_accepts_a_cluster_has_the_right_to_accept_it`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Trait;
use serde_json::Value;

use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What, user_of};
use crate::tenant::Tenant;

const REGISTER: &str = "register.open-cluster-management.io";
const CLUSTERS: &str = "managedclusters";

/// Refuses acceptances of those who have no right to them.
pub(super) struct Acceptance {
    pub(super) authorizers: Arc<Authorizers>,
}

#[async_trait]
impl Plugin for Acceptance {
    fn name(&self) -> &'static str {
        "ManagedClusterAcceptance"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.target.kind.has(Trait::StandsForSpoke)
            && matches!(review.verb, Verb::Create | Verb::Update)
            && matches!(review.actor, Actor::Person(_))
    }

    async fn validate(&self, review: &Review<'_>, new: &Value) -> Result<Claims, Refusal> {
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        let accepts =
            |cluster: &Value| cluster.pointer("/spec/hubAcceptsClient") == Some(&Value::Bool(true));
        if accepts(new) == review.old.is_some_and(accepts) {
            return Ok(Claims::default());
        }
        let name = new.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        let root = Tenant::root();
        let what = Resource {
            group: REGISTER,
            plural: CLUSTERS,
            name,
            subresource: "accept",
            ..Resource::default()
        };
        let user = user_of(person);
        let asked = Attributes {
            user: &user,
            verb: "update",
            cluster: root.cluster(),
            what: What::Resource(what),
        };
        match self.authorizers.decide(&asked).await {
            Decision::Allow(_) => Ok(Claims::default()),
            Decision::Deny(_)
            | Decision::NoOpinion(_)
            | Decision::Unanswered(_)
            | Decision::Failed(_) => Err(Refusal::forbidden(format!(
                "user {:?} cannot update the HubAcceptsClient field",
                user.name
            ))),
        }
    }
}
