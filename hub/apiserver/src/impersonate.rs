//! Impersonation (`kubectl --as`): refused until it works.
//!
//! Guarantees:
//! - a request that asks to run as somebody else never runs as its caller (`nobody_runs_as_somebody_else`).

use freewheel_hub_api::error::{ApiError, Details};
use http::{HeaderMap, HeaderName};

use crate::authn::User;

const PREFIX: &str = "impersonate-";

/// The header by which a request asks to run as somebody else.
pub(crate) fn asked(headers: &HeaderMap) -> Option<&HeaderName> {
    headers.keys().find(|name| name.as_str().starts_with(PREFIX))
}

/// Refuses such a request.
///
/// # Errors
/// 403 Forbidden.
pub(crate) fn refuse(user: &User, headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(header) = asked(headers) else { return Ok(()) };
    let wanted = headers.get("impersonate-user").and_then(|value| value.to_str().ok());
    let wanted = wanted.unwrap_or_default();
    let caller = &user.name;
    let message = format!(
        "users {wanted:?} is forbidden: User {caller:?} cannot impersonate resource \"users\" in API group \"\" \
         at the cluster scope: impersonation is not served yet, and without it the request would run as \
         {caller:?}; leave out the header {header} (kubectl: --as, --as-group, --as-uid)"
    );
    let mut error = ApiError::new(403, "Forbidden", message);
    error.details = Some(Box::new(Details {
        name: wanted.to_owned(),
        kind: "users".to_owned(),
        ..Details::default()
    }));
    Err(error)
}
