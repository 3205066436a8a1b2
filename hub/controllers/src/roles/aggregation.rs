//! Writes the rules of ClusterRoles that are made of others, which their labels say: `admin`, `edit` and `view` have what
//! an operator adds for its own kinds.
//!
//! Guarantees:
//! - their rules are those of the roles that are chosen, whatever somebody writes into them
//!   (`a_role_that_is_made_of_others_has_their_rules`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_rbac::{GROUP, aggregate};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, MAX_OBJECT_BYTES, Scope, Snapshot, Stored};
use serde_json::Value;

use crate::engine::client::{everywhere, in_cluster, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

/// Bytes that a role takes beside its rules: of its metadata, labels and annotations are bounded.
const REST_BYTES_MAX: usize = 512 << 10;

/// The controller.
pub struct RoleAggregation {
    client: Client,
    roles: Arc<Kind>,
}

impl RoleAggregation {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self { client, roles: kind(GROUP, "v1", "clusterroles")? })
    }

    fn tell(&self, role: &Stored, left_out: usize) {
        if left_out == 0 {
            return;
        }
        let (recorder, name) = (&self.client.recorder, self.client.name());
        let text = format!("{left_out} rules of roles that it is made of have no room in it");
        recorder.warning(&self.roles, role, name, "RulesLeftOut", text);
    }
}

#[async_trait]
impl Controller for RoleAggregation {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.roles)]
    }

    /// All roles of a cluster are looked at together: any may choose any.
    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        event.key().map(|key| key_of(&self.roles, &key.cluster, "", "")).into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let all: Vec<Arc<Stored>> =
            snapshot.range(&in_cluster(&self.roles, &key.cluster), None).collect();
        for stored in &all {
            // Whoever may write roles decides how much there is to read.
            tokio::task::yield_now().await;
            let role = stored.object.value().map_err(Error::api("read a role"))?;
            let room = MAX_OBJECT_BYTES - REST_BYTES_MAX;
            let Some(gathered) = aggregate::rules(&role, &all, room) else {
                continue;
            };
            self.tell(stored, gathered.left_out);
            let rules = gathered.rules;
            let there = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
            if there == rules {
                continue;
            }
            let write = |mut role: Value| {
                role["rules"] = rules.clone().into();
                Ok(role)
            };
            match self.client.modify_at(&self.roles, stored, None, write).await {
                // Another look comes with the change that was faster.
                Err(error) if matches!(error.code, 404 | 409) => {}
                written => {
                    written.map_err(Error::api("write the rules of a role"))?;
                }
            }
        }
        Ok(None)
    }
}
