//! Who is let into one logical cluster and into nothing else, whatever others would give them there: the group of their
//! certificate says so, and names the cluster with its UID.

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// How the group begins whose members are let into one logical cluster alone: its name, a colon and the UID of its
/// ManagedCluster follow.
pub const CONFINED: &str = "freewheel:cluster:";

/// Denies all that is of another cluster.
pub(super) struct Confined;

#[async_trait]
impl Authorizer for Confined {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if is_elsewhere(asked.user, asked.cluster) {
            // No word of what is there.
            return Decision::Deny("this certificate is for another cluster".into());
        }
        Decision::none()
    }

    fn rules(&self, user: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if is_elsewhere(user, cluster) {
            rules.nothing();
        }
    }
}

/// Whether somebody is let into other clusters only.
fn is_elsewhere(user: &User, cluster: Cluster<'_>) -> bool {
    let mut homes = user.groups.iter().filter_map(|group| group.strip_prefix(CONFINED)).peekable();
    homes.peek().is_some() && !homes.any(|home| cluster.is(home))
}

/// Whether somebody is known in this cluster: the root knows those who are let in everywhere.
pub(super) fn is_known_in(user: &User, cluster: Cluster<'_>) -> bool {
    let mut homes = user.groups.iter().filter_map(|group| group.strip_prefix(CONFINED)).peekable();
    if homes.peek().is_none() { cluster.name.is_root() } else { homes.any(|home| cluster.is(home)) }
}

/// The same before it is known which cluster a name stands for, if any: who is let into another one does not hear.
pub(crate) fn may_ask_for(user: &User, name: &str) -> bool {
    let mut homes = user.groups.iter().filter_map(|group| group.strip_prefix(CONFINED)).peekable();
    let is_home = |home: &str| home.split_once(':').is_some_and(|(own, _)| own == name);
    homes.peek().is_none() || homes.any(is_home)
}

/// The cluster that somebody is let into alone, by its name.
pub(crate) fn home(user: &User) -> Option<&str> {
    let home = user.groups.iter().find_map(|group| group.strip_prefix(CONFINED))?;
    home.split_once(':').map(|(name, _)| name)
}
