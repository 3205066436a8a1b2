//! Callers by the certificate of their connection: spokes, agents of add-ons, and people.
//!
//! Guarantees:
//! - the certificate of an agent is good as long as the very ManagedClusterAddOn and ManagedCluster are there that it was given
//!   for, the cluster is accepted and does not go, and the add-on's status names the agent
//!   (`an_agent_is_known_as_long_as_its_add_on_is_there`, `an_agent_is_known_on_the_cluster_that_it_was_given_for`).

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

/// The signer of certificates for the hub.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

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

/// Knows agents of add-ons that are there: what was given to one is nothing to the next one of its name, nor on the next
/// cluster of its cluster's name.
pub(super) struct Agents {
    pub(super) store: Arc<dyn Store>,
}

#[async_trait]
impl Authenticator for Agents {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        let Some(Proven::AddOn(user, of)) = shown.certificate else { return Ok(None) };
        let (now, root, cluster) =
            (self.store.snapshot(), ClusterName::root(), of.cluster.as_str());
        let find = |(group, plural): (&str, &str), namespace: &str, name: &str, uid: &str| {
            let found = now.get(&Key::new(&Resource::new(group, plural), &root, namespace, name));
            let found = found.filter(|it| *it.object.header.uid == *uid);
            found.map(|it| (it.object.header.deleting, it.object.value().unwrap_or_default()))
        };
        let add_ons = ("addon.open-cluster-management.io", "managedclusteraddons");
        let clusters = ("cluster.open-cluster-management.io", "managedclusters");
        let add_on = find(add_ons, cluster, &of.add_on, &of.uid);
        let is_named = add_on.is_some_and(|(_, add_on)| names(&add_on["status"], &user.name));
        let cluster = find(clusters, "", cluster, &of.cluster_uid);
        let is_accepted = cluster.is_some_and(|(deleting, cluster)| {
            !deleting && cluster["spec"]["hubAcceptsClient"] == true
        });
        if is_named && is_accepted { Ok(Some(user.clone())) } else { Err(unauthorized()) }
    }
}

/// Whether an add-on is registered at the hub as this agent; its status as it is stored.
fn names(status: &Value, agent: &str) -> bool {
    let mut registrations = status["registrations"].as_array().into_iter().flatten();
    registrations.any(|it| it["signerName"] == CLIENT_SIGNER && it["subject"]["user"] == agent)
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
