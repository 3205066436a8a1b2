//! Who approves or signs certificate requests has the right to do so for their signer, as kube-apiserver's admission asks
//! it: the verb `approve` or `sign` on `signers`, of that name or of `DOMAIN/*`. Whoever may write an approval could
//! otherwise make themselves anybody.
//!
//! Guarantees:
//! - a right for one signer is none for another (`who_approves_has_the_right_for_that_signer`).

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_objects::{Actor, Claims, Person, Plugin, Refusal, Review, Verb};
use freewheel_hub_schema::kind::Trait;
use serde_json::Value;

use crate::authz::{Attributes, Authorizer as _, Authorizers, Decision, Resource, What, user_of};
use crate::tenant::Tenant;

/// Refuses approvals and certificates of those who have no right for the signer.
pub(super) struct Signers {
    pub(super) authorizers: Arc<Authorizers>,
}

/// What somebody does for a signer.
#[derive(Clone, Copy)]
enum Deed {
    Approve,
    Sign,
}

impl Deed {
    /// What this write does; `None` where it does neither.
    fn of(review: &Review<'_>, new: &Value) -> Option<Self> {
        let old = review.old?;
        let changes = |path: &str| old.pointer(path) != new.pointer(path);
        match review.subresource? {
            "approval" => Some(Self::Approve),
            "status" if changes("/status/certificate") || changes("/status/conditions") => {
                Some(Self::Sign)
            }
            _ => None,
        }
    }

    const fn verb(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Sign => "sign",
        }
    }
}

#[async_trait]
impl Plugin for Signers {
    fn name(&self) -> &'static str {
        "CertificateSigners"
    }

    fn handles(&self, review: &Review<'_>) -> bool {
        review.target.kind.has(Trait::AsksForACertificate)
            && review.verb == Verb::Update
            && review.subresource.is_some()
            && matches!(review.actor, Actor::Person(_))
    }

    async fn validate(&self, review: &Review<'_>, new: &Value) -> Result<Claims, Refusal> {
        let Actor::Person(person) = review.actor else { return Ok(Claims::default()) };
        let Some(deed) = Deed::of(review, new) else { return Ok(Claims::default()) };
        let signer = review.old.and_then(|old| old.pointer("/spec/signerName"));
        let signer = signer.and_then(Value::as_str).unwrap_or_default();
        let domain = signer.split('/').next().unwrap_or_default();
        for name in [signer, &format!("{domain}/*")] {
            if self.may(review, person, (deed, name)).await {
                return Ok(Claims::default());
            }
        }
        let verb = deed.verb();
        Err(Refusal::forbidden(format!(
            "user not permitted to {verb} requests with signerName {signer:?}"
        )))
    }
}

impl Signers {
    async fn may(&self, review: &Review<'_>, person: &Person, (deed, name): (Deed, &str)) -> bool {
        let cluster = review.target.cluster.as_str();
        let Ok(tenant) = Tenant::find(&*review.state(), Some(cluster)) else { return false };
        let group = review.target.kind.group();
        let what = Resource { group, plural: "signers", name, ..Resource::default() };
        let (user, cluster, what) = (user_of(person), tenant.cluster(), What::Resource(what));
        let asked = Attributes { user: &user, verb: deed.verb(), cluster, what };
        matches!(self.authorizers.decide(&asked).await, Decision::Allow(_))
    }
}
