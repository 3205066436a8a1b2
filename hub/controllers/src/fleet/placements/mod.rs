//! Placements to PlacementDecisions.
//!
//! ```text
//! observe   which clusters there are for a Placement, and what it is decided from
//! foresee   what it would choose
//! apply     decisions and the status, as they are to be
//! touched   which Placements a change concerns
//! ```
//!
//! Guarantees:
//! - a change of one cluster makes Placements look again that may choose it, and no others
//!   (`a_change_of_a_cluster_concerns_placements_that_may_choose_it`);
//! - what was chosen stays chosen while nothing speaks against it (`what_was_chosen_stays`);
//! - scores alone are written as often as the Placement allows (`scores_alone_wait_for_their_turn`);
//! - whoever changes a decision, or takes one away, sees it put back (`decisions_are_put_back`);
//! - who stays chosen is in one of the decisions at any moment (`who_stays_chosen_is_in_a_decision_at_any_moment`).

mod apply;
mod foresee;
mod observe;
mod touched;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use serde_json::Value;

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Controller, Error};
use crate::index::Indexes;
pub(super) use foresee::Foreseen;

/// Whoever sets it to `true` makes the decisions of that Placement.
pub(super) const DISABLED: &str =
    "cluster.open-cluster-management.io/experimental-scheduling-disable";

/// The controller.
pub struct Placements {
    client: Client,
    indexes: Indexes,
    placements: Arc<Kind>,
    decisions: Arc<Kind>,
    clusters: Arc<Kind>,
    sets: Arc<Kind>,
    bindings: Arc<Kind>,
    scores: Arc<Kind>,
}

impl Placements {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            placements: kind(CLUSTER_GROUP, "v1beta1", "placements")?,
            decisions: kind(CLUSTER_GROUP, "v1beta1", "placementdecisions")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            sets: kind(CLUSTER_GROUP, "v1beta2", "managedclustersets")?,
            bindings: kind(CLUSTER_GROUP, "v1beta2", "managedclustersetbindings")?,
            scores: kind(CLUSTER_GROUP, "v1alpha1", "addonplacementscores")?,
        })
    }
}

/// Whether somebody else makes its decisions.
pub(super) fn is_left_to_others(placement: &Value) -> bool {
    placement["metadata"]["annotations"][DISABLED] == "true"
}

#[async_trait]
impl Controller for Placements {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = [
            &self.placements,
            &self.decisions,
            &self.clusters,
            &self.sets,
            &self.bindings,
            &self.scores,
        ];
        kinds.map(|kind| everywhere(kind)).into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        self.touched(event, now)
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let stored = self.client.snapshot().get(key);
        let Some(stored) = stored.filter(|it| !it.object.header.deleting) else { return Ok(None) };
        let object = stored.object.value().map_err(Error::api("read a Placement"))?;
        if is_left_to_others(&object) {
            return Ok(None);
        }
        let place = (&*stored.key.namespace, &*stored.key.name);
        let observed = self.observe(place, Some(&stored), &object)?;
        let decided = observed.decide().await?;
        self.apply(&stored, &object, &decided).await
    }
}
