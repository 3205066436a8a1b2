//! Says of each ManagedClusterSetBinding whether its set is there.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{BINDING_BOUND, Condition};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};

/// The controller.
pub struct SetBindings {
    client: Client,
    bindings: Arc<Kind>,
    sets: Arc<Kind>,
}

impl SetBindings {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let bindings = kind(CLUSTER_GROUP, "v1beta2", "managedclustersetbindings")?;
        let sets = kind(CLUSTER_GROUP, "v1beta2", "managedclustersets")?;
        Ok(Self { client, bindings, sets })
    }
}

#[async_trait]
impl Controller for SetBindings {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.bindings), everywhere(&self.sets)]
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.bindings.storage() {
            return vec![key.clone()];
        }
        // A binding has the name of its set.
        if event.before.is_some() && event.now.is_some() {
            return Vec::new();
        }
        let all = now.range(&everywhere(&self.bindings), None);
        all.filter(|binding| binding.key.name == key.name)
            .map(|binding| binding.key.clone())
            .collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key).filter(|it| !it.object.header.deleting) else {
            return Ok(None);
        };
        let set = key_of(&self.sets, &ClusterName::root(), "", &key.name);
        let there = snapshot.get(&set).is_some();
        let reason = if there { "ClusterSetBound" } else { "ClusterSetNotFound" };
        let condition = Condition::new(&BINDING_BOUND, there, reason, "");
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            condition.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.bindings, &stored, Some("status"), change).await;
        said.map_err(Error::api("write the status of a ManagedClusterSetBinding"))?;
        Ok(None)
    }
}
