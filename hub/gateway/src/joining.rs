//! Devices that join: as whom the gateway writes for them, and why one is not taken.

use freewheel_hub_objects::{Actor, OVERTAKEN, Objects, WriteOptions};
use freewheel_hub_pki::AuthorityError;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::join::JoinRefusal;
use freewheel_link::message::Reason;
use freewheel_link::names::ClusterName;

use crate::spoke_identity::hold;

/// Where their signing requests are.
pub(crate) const REQUESTS_KIND: (&str, &str, &str) =
    ("certificates.k8s.io", "v1", "certificatesigningrequests");

/// Why a device is not taken.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) JoinRefusal, pub(crate) String);

/// What is answered to who is not given what it asked for.
#[derive(Debug)]
pub(crate) enum No {
    /// It is refused.
    Refused(Refusal),
    /// There is something else to say to it.
    TurnedAway(Reason),
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        if error.reason == OVERTAKEN {
            return gone();
        }
        let of_request = matches!(error.code, 400 | 422);
        let cause = if of_request { JoinRefusal::Request } else { JoinRefusal::Internal };
        Self(cause, error.message)
    }
}

impl From<AuthorityError> for Refusal {
    fn from(error: AuthorityError) -> Self {
        let cause = match &error {
            AuthorityError::Request(_) | AuthorityError::Refused(_) => JoinRefusal::Request,
            // The device can do nothing about it, and comes again.
            AuthorityError::Authority(_)
            | AuthorityError::Pair
            | AuthorityError::Expired
            | AuthorityError::Clock(_) => JoinRefusal::Internal,
        };
        Self(cause, error.to_string())
    }
}

/// While the hub's clock is lost nobody gets a certificate: nothing is spent or written for one that cannot be.
pub(crate) fn check_clock(objects: &Objects) -> Result<(), Refusal> {
    let checked = freewheel_hub_pki::check_clock(objects.clock().unix_seconds());
    checked.map_err(|error| AuthorityError::from(error).into())
}

/// For all that is written while one joins.
pub(crate) fn how() -> WriteOptions {
    WriteOptions::by(Actor::Joining)
}

/// While this is the ManagedCluster of its name.
pub(crate) fn how_for(objects: &Objects, (name, uid): (&ClusterName, &str)) -> WriteOptions {
    WriteOptions { expect: vec![hold(&*objects.store().snapshot(), name, uid)], ..how() }
}

/// Its cluster went while it waited.
pub(crate) fn gone() -> Refusal {
    let text = "the ManagedCluster was deleted while this device waited; join again";
    Refusal(JoinRefusal::Denied, text.to_owned())
}
