//! Says of each ValidatingAdmissionPolicy what its expressions say of objects that cannot be said of them, as far as the
//! schemas of its kinds tell (`status.typeChecking`).
//!
//! Guarantees:
//! - each generation of a policy is looked at once, in every cluster by the kinds that this serves
//!   (`a_policy_is_told_what_its_expressions_get_wrong`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::policy_typing::warnings;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use serde_json::{Value, json};

use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Controller, Error};

const DOING: &str = "say what a policy's expressions get wrong";

/// The controller.
pub struct PolicyTyping {
    client: Client,
    policies: Arc<Kind>,
}

impl PolicyTyping {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let group = "admissionregistration.k8s.io";
        Ok(Self { client, policies: kind(group, "v1", "validatingadmissionpolicies")? })
    }
}

/// Whether what is said of a policy is about what it is now.
fn is_observed(policy: &Value) -> bool {
    policy["metadata"]["generation"].as_i64() <= policy["status"]["observedGeneration"].as_i64()
}

#[async_trait]
impl Controller for PolicyTyping {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.policies)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        event.now.iter().map(|stored| stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        let policy = stored.object.value().map_err(Error::api(DOING))?;
        if stored.object.header.deleting || is_observed(&policy) {
            return Ok(None);
        }
        let generation = stored.object.header.generation;
        let registry = self.client.registry(&key.cluster);
        // Expressions take their time: they are looked at where nobody waits for that.
        let looked = tokio::task::spawn_blocking(move || warnings(&policy, &registry)).await;
        let looked = looked.map_err(|error| Error::Look(error.to_string()))?;
        let warnings = looked.map_err(|why| Error::Look(why.to_string()))?;
        let told =
            if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        let change = |mut policy: Value| {
            policy["status"]["observedGeneration"] = json!(generation);
            policy["status"]["typeChecking"] = told.clone();
            Ok(policy)
        };
        let written = self.client.modify_this(&self.policies, &stored, Some("status"), change);
        match written.await {
            // It is gone.
            Err(error) if error.code == 404 => Ok(None),
            written => written.map(|_| None).map_err(Error::api(DOING)),
        }
    }
}
