//! What an authenticator is: it knows callers by one kind of what they show.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::ApiError;
use http::HeaderMap;

use super::proven::Proven;
use super::user::User;
use crate::authz::Cluster;

/// What a request shows of who makes it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its connection's.
    pub certificate: Option<&'a Proven>,
    /// Its own.
    pub headers: &'a HeaderMap,
    /// The logical cluster that it is for: what was given out in one is nothing in another. `None` where there is no
    /// cluster of that name.
    pub cluster: Option<Cluster<'a>>,
}

/// Knows callers by one kind of what they show.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The caller; `None` for what is not of this kind, which somebody else may know.
    ///
    /// # Errors
    /// 401 for what is, and is not good.
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError>;
}

/// 401: we do not know the caller.
#[must_use]
pub fn unauthorized() -> ApiError {
    ApiError::new(401, "Unauthorized", "Unauthorized")
}
