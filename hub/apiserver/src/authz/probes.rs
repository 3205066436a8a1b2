//! What everybody may ask before anybody has a right: whether the hub is well (`--authorization-always-allow-paths`). A
//! hub that has lost its roles is to be found ill, and not silent.

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// These, and nothing below them: why a single check fails is for those who have a right to it.
const PATHS: [&str; 3] = ["/healthz", "/livez", "/readyz"];

/// Allows probes, of the root.
pub(super) struct Probes;

#[async_trait]
impl Authorizer for Probes {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let What::Path(path) = asked.what else { return Decision::none() };
        let is_probe = PATHS.contains(&path.strip_suffix('/').unwrap_or(path));
        if is_probe && asked.verb == "get" && asked.cluster.name.is_root() {
            Decision::Allow("everybody may".into())
        } else {
            Decision::none()
        }
    }

    fn rules(&self, _: &User, _: (Cluster<'_>, &str), _: &mut Rules) {}
}
