//! PlacementDecisions of SIG Multicluster: whom placements have chosen, beside the PlacementDecisions of Open Cluster
//! Management, for tools that know nothing of those.
//!
//! ```text
//! PlacementDecision of cluster.open-cluster-management.io ─▶ one of multicluster.x-k8s.io of its name, which it owns
//! ```
//!
//! Guarantees:
//! - they say what those say, come with them and go with them (`whom_placements_choose_is_shown_beside_their_clusters`);
//! - what others have made is theirs (`a_decision_of_somebody_else_is_left_alone`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::fleet::cluster_profile::GROUP;
use freewheel_hub_api::kinds::fleet::multicluster_decision::shown;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

/// The controller.
pub struct MulticlusterDecisions {
    client: Client,
    decisions: Arc<Kind>,
    shown: Arc<Kind>,
}

impl MulticlusterDecisions {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let decisions = kind(CLUSTER_GROUP, "v1beta1", "placementdecisions")?;
        let shown = kind(GROUP, "v1alpha1", "placementdecisions")?;
        Ok(Self { client, decisions, shown })
    }

    /// Whether it shows a decision, this one or one that had its name before.
    fn is_own(&self, stored: &Stored) -> bool {
        let api_version = self.decisions.api_version();
        let mut owners = stored.object.header.owners.iter();
        owners.any(|it| {
            it.controller && it.kind == self.decisions.kind() && it.api_version == api_version
        })
    }

    async fn show(
        &self,
        key: &Key,
        (decision, there): (&Arc<Stored>, Option<Arc<Stored>>),
    ) -> Result<(), Error> {
        let value = decision.object.value().map_err(Error::api("read a PlacementDecision"))?;
        let mut wanted = shown(&value);
        wanted["metadata"]["ownerReferences"] = json!([{
            "apiVersion": self.decisions.api_version(), "kind": self.decisions.kind(),
            "name": &*decision.key.name, "uid": decision.object.header.uid.as_str(),
            "controller": true,
        }]);
        let client = self.client.while_there(decision);
        let Some(there) = there else {
            let made = client.create(&self.shown, &key.cluster, &key.namespace, &wanted).await;
            return made.map(drop).map_err(Error::api("show a PlacementDecision"));
        };
        let change = |mut value: Value| {
            for (name, label) in wanted["metadata"]["labels"].as_object().into_iter().flatten() {
                value["metadata"]["labels"][name] = label.clone();
            }
            value["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"].clone();
            for field in ["decisions", "schedulerName"] {
                value[field] = wanted[field].clone();
            }
            Ok(value)
        };
        let kept = client.modify_this(&self.shown, &there, None, change).await;
        kept.map(drop).map_err(Error::api("show a PlacementDecision"))
    }
}

#[async_trait]
impl Controller for MulticlusterDecisions {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.decisions), everywhere(&self.shown)]
    }

    /// Both have one name.
    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        vec![key_of(&self.shown, &key.cluster, &key.namespace, &key.name)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let there = now.get(key);
        if there.as_ref().is_some_and(|it| it.object.header.deleting || !self.is_own(it)) {
            return Ok(None);
        }
        let decision = now.get(&key_of(&self.decisions, &key.cluster, &key.namespace, &key.name));
        match (decision.filter(|it| !it.object.header.deleting), there) {
            (Some(decision), there) => self.show(key, (&decision, there)).await?,
            (None, Some(there)) => {
                let uid = &there.object.header.uid;
                let gone = self.client.delete(&self.shown, key, uid, Propagation::Background);
                gone.await.map_err(Error::api("take a PlacementDecision away"))?;
            }
            (None, None) => {}
        }
        Ok(None)
    }
}
