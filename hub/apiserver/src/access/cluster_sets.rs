//! Who puts a cluster into a set has the right to do so, and so has who binds a namespace to one, as Open Cluster
//! Management's admission asks it: `create` on `managedclustersets/join` of the old and of the new set, and on
//! `managedclustersets/bind`. Whoever may write a cluster could otherwise put it under somebody else's placements, and
//! whoever owns a namespace choose from all clusters.
//!
//! Guarantees:
//! - a right to write clusters or bindings is none to move or bind (`sets_are_joined_and_bound_by_right`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Trait;
use serde_json::Value;

use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What, user_of};
use crate::tenant::Tenant;

const GROUP: &str = "cluster.open-cluster-management.io";
const SETS: &str = "managedclustersets";
const SET_LABEL: &str = "/metadata/labels/cluster.open-cluster-management.io~1clusterset";

/// Refuses moves and bindings of those who have no right to them.
pub(super) struct ClusterSets {
    pub(super) authorizers: Arc<Authorizers>,
}

impl ClusterSets {
    /// Whether the caller may do this with a set; and who the caller is.
    async fn may(&self, review: &Review<'_>, subresource: &str, set: &str) -> Result<(), String> {
        let Actor::Person(person) = review.actor else { return Ok(()) };
        let root = Tenant::root();
        let named = Resource { name: set, subresource, ..Resource::default() };
        let what = Resource { group: GROUP, plural: SETS, ..named };
        let user = user_of(person);
        let (cluster, what) = (root.cluster(), What::Resource(what));
        let asked = Attributes { user: &user, verb: "create", cluster, what };
        match self.authorizers.decide(&asked).await {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(_)
            | Decision::NoOpinion(_)
            | Decision::Unanswered(_)
            | Decision::Failed(_) => Err(user.name.clone()),
        }
    }
}

#[async_trait]
impl Plugin for ClusterSets {
    fn name(&self) -> &'static str {
        "ManagedClusterSetMembership"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        let kind = &review.target.kind;
        let joins =
            kind.has(Trait::StandsForSpoke) && matches!(review.verb, Verb::Create | Verb::Update);
        let binds = kind.has(Trait::BindsClusterSet) && review.creates();
        (joins || binds) && matches!(review.actor, Actor::Person(_))
    }

    async fn validate(&self, review: &Review<'_>, new: &Value) -> Result<Claims, Refusal> {
        let text = |object: &Value, pointer: &str| -> String {
            object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        if review.target.kind.has(Trait::BindsClusterSet) {
            let set = text(new, "/spec/clusterSet");
            let refused =
                |user| format!("user {user:?} is not allowed to bind cluster set {set:?}");
            self.may(review, "bind", &set)
                .await
                .map_err(|user| Refusal::forbidden(refused(user)))?;
            return Ok(Claims::default());
        }
        let before = review.old.map(|old| text(old, SET_LABEL)).unwrap_or_default();
        let after = text(new, SET_LABEL);
        if before == after {
            return Ok(Claims::default());
        }
        for set in [before, after].iter().filter(|set| !set.is_empty()) {
            let refused = |user| {
                format!(
                    "user {user:?} cannot add/remove a ManagedCluster to/from ManagedClusterSet {set:?}"
                )
            };
            self.may(review, "join", set)
                .await
                .map_err(|user| Refusal::forbidden(refused(user)))?;
        }
        Ok(Claims::default())
    }
}
