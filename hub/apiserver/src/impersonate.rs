//! Impersonation (`kubectl --as`): refused until it works.
//!
//! Guarantees:
//! - a request that asks to run as somebody else never runs as its caller (`nobody_runs_as_somebody_else`).

use freewheel_hub_schema::error::{ApiError, Details};
use freewheel_link::names::ClusterName;
use http::{HeaderMap, HeaderName};

use crate::authn::User;
use crate::authz::{Attributes, Authorizer as _, Authorizers, Cluster, Decision, Resource, What};

const PREFIX: &str = "impersonate-";

/// The header by which a request asks to run as somebody else.
pub(crate) fn asked(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| name.as_str().starts_with(PREFIX))
}

/// Refuses such a request, whatever the authorizers say: there is nobody else whom it could run as.
///
/// # Errors
/// 403 Forbidden.
pub(crate) async fn refuse(
    authorizers: &Authorizers,
    user: &User,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let Some(header) = asked(headers) else { return Ok(()) };
    let wanted = headers.get("impersonate-user").and_then(|value| value.to_str().ok());
    let wanted = wanted.unwrap_or_default();
    let users = Resource { plural: "users", name: wanted, ..Resource::default() };
    let cluster = Cluster { name: &ClusterName::root(), uid: None };
    let what = What::Resource(users);
    let asked = Attributes { user, verb: "impersonate", cluster, what };
    let (Decision::Allow(why) | Decision::Deny(why) | Decision::NoOpinion(why)) =
        authorizers.decide(&asked).await;
    let message = format!(
        "users {wanted:?} is forbidden: User {:?} cannot impersonate resource \"users\" in API group \"\" \
         at the cluster scope: {why}; leave out the header {header} (kubectl: --as, --as-group, --as-uid)",
        user.name
    );
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::new(Details {
        name: wanted.to_owned(),
        kind: "users".to_owned(),
        ..Details::default()
    }));
    Err(error)
}
