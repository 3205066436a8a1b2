//! Callers by the certificate of their connection: spokes, agents of add-ons, and people.
//!
//! Guarantees:
//! - the certificate of an agent is good as long as the very ManagedClusterAddOn is there that it was given for, and its
//!   cluster is accepted (`an_agent_is_known_as_long_as_its_add_on_is_there`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::Store;
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::authenticator::{Authenticator, Shown, unauthorized};
use super::proven::Proven;
use super::user::User;

/// Knows spokes.
pub(super) struct Spokes;

#[async_trait]
impl Authenticator for Spokes {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        Ok(match shown.certificate {
            Some(Proven::Spoke(user)) => Some(user.clone()),
            Some(Proven::AddOn(..) | Proven::Person(_)) | None => None,
        })
    }
}

/// Knows agents of add-ons that are there: what was given to one is nothing to the next one of its name.
pub(super) struct Agents {
    pub(super) store: Arc<dyn Store>,
}

#[async_trait]
impl Authenticator for Agents {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        let Some(Proven::AddOn(user, of)) = shown.certificate else { return Ok(None) };
        let (now, root, cluster) =
            (self.store.snapshot(), ClusterName::root(), of.cluster.as_str());
        let add_ons = Resource::new("addon.open-cluster-management.io", "managedclusteraddons");
        let there = now.get(&Key::new(&add_ons, &root, cluster, &of.add_on));
        let is_its_own = there.is_some_and(|it| *it.object.header.uid == *of.uid);
        let clusters = Resource::new("cluster.open-cluster-management.io", "managedclusters");
        let cluster = now.get(&Key::new(&clusters, &root, "", cluster));
        let cluster = cluster.and_then(|it| it.object.value().ok()).unwrap_or_default();
        let is_accepted = cluster.pointer("/spec/hubAcceptsClient") == Some(&Value::Bool(true));
        if is_its_own && is_accepted { Ok(Some(user.clone())) } else { Err(unauthorized()) }
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
