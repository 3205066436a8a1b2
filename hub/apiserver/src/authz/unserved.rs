//! What nobody may, because it would be something else: to run as somebody else is not served, and a request that asks
//! for it would run as its caller.

use async_trait::async_trait;

use super::attributes::{Attributes, Cluster, What};
use super::authorizer::{Authorizer, Decision, Rules};
use crate::authn::User;

/// Denies impersonation.
pub(super) struct Impersonation;

#[async_trait]
impl Authorizer for Impersonation {
    async fn decide(&self, asked: &Attributes<'_>) -> Decision {
        if asked.verb != "impersonate" || !matches!(asked.what, What::Resource(_)) {
            return Decision::none();
        }
        let caller = &asked.user.name;
        let why = format!(
            "impersonation is not served yet, and without it the request would run as {caller:?}"
        );
        Decision::Deny(why.into())
    }

    fn rules(&self, _: &User, _: Cluster<'_>, _: &mut Rules) {}
}
