//! Callers by the certificate of their connection: spokes, agents of add-ons, and people.
//!
//! Guarantees:
//! - the certificate of a spoke is good as long as the very ManagedCluster is there that it was given for, and has its key
//!   (`a_device_is_known_by_the_key_and_the_cluster_that_it_was_let_in_with`);
//! - the certificate of an agent is good as long as the very ManagedClusterAddOn and ManagedCluster are there that it was given
//!   for, the cluster is accepted and does not go, and the add-on's status names the agent
//!   (`an_agent_is_known_as_long_as_its_add_on_is_there`, `an_agent_is_known_on_the_cluster_that_it_was_given_for`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Store;

use super::authenticator::{Authenticator, Shown, unauthorized};
use super::proven::Proven;
use super::user::User;

/// Knows agents of clusters and of add-ons that are there.
pub(super) struct Agents {
    pub(super) store: Arc<dyn Store>,
}

#[async_trait]
impl Authenticator for Agents {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        let user = match shown.certificate {
            Some(Proven::Spoke(user) | Proven::AddOn(user, _)) => user,
            Some(Proven::Person(_)) | None => return Ok(None),
        };
        let now = self.store.snapshot();
        let is_known = user.agent.as_ref().is_some_and(|agent| agent.is_known(&*now));
        if is_known { Ok(Some(user.clone())) } else { Err(unauthorized()) }
    }
}

/// Knows people.
pub(super) struct People;

#[async_trait]
impl Authenticator for People {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        Ok(match shown.certificate {
            Some(Proven::Person(user)) => Some(user.clone()),
            Some(Proven::Spoke(_) | Proven::AddOn(..)) | None => None,
        })
    }
}
