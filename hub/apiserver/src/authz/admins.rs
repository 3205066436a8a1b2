//! Who may do everything: masters in all of the hub, a cluster's administrators in that cluster.

use async_trait::async_trait;
use freewheel_hub_pki::MASTERS;

use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// How the group begins whose members may do everything in one logical cluster: its name, a colon and the UID of
/// its ManagedCluster follow.
pub const CLUSTER_ADMIN: &str = "freewheel:cluster-admin:";

/// The members of the group that no certificate request gets into.
pub(super) struct Masters;

#[async_trait]
impl Authorizer for Masters {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if !asked.user.is_in(MASTERS) {
            return Decision::none();
        }
        Decision::Allow("masters may do everything".into())
    }

    fn rules(&self, user: &User, _: (Cluster<'_>, &str), rules: &mut Rules) {
        if user.is_in(MASTERS) {
            rules.everything();
        }
    }
}

/// The administrators of single clusters.
pub(super) struct ClusterAdmins;

#[async_trait]
impl Authorizer for ClusterAdmins {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if !administers(asked.user, asked.cluster) {
            return Decision::none();
        }
        Decision::Allow("a cluster's administrators may do everything in it".into())
    }

    fn rules(&self, user: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if administers(user, cluster) {
            rules.everything();
        }
    }
}

/// Whether a group of theirs names this very cluster, and not one that had its name.
fn administers(user: &User, cluster: Cluster<'_>) -> bool {
    user.groups
        .iter()
        .filter_map(|group| group.strip_prefix(CLUSTER_ADMIN))
        .any(|own| cluster.is(own))
}
