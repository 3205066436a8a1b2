//! Who allows everything, or denies it (`AlwaysAllow`, `AlwaysDeny`), in the root.

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// Always says the same.
pub(super) struct Always(pub(super) bool);

#[async_trait]
impl Authorizer for Always {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        match self.0 {
            // What somebody decides for the root is nothing in the clusters of devices.
            _ if !asked.cluster.name.is_root() => Decision::none(),
            true => Decision::Allow("".into()),
            false => Decision::NoOpinion("Everything is forbidden.".into()),
        }
    }

    fn rules(&self, _: &User, (cluster, _): (Cluster<'_>, &str), rules: &mut Rules) {
        if self.0 && cluster.name.is_root() {
            rules.everything();
        }
    }
}
