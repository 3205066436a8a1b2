//! Callers by the certificate of their connection: spokes, and people.

use std::sync::Arc;

use async_trait::async_trait;
use freewheel_hub_schema::error::ApiError;

use super::authenticator::{Authenticator, Shown};
use super::proven::Proven;
use super::user::User;

/// Knows spokes.
pub(super) struct Spokes;

#[async_trait]
impl Authenticator for Spokes {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        Ok(match shown.certificate {
            Some(Proven::Spoke(user)) => Some(user.clone()),
            Some(Proven::Person(_)) | None => None,
        })
    }
}

/// Knows people.
pub(super) struct People;

#[async_trait]
impl Authenticator for People {
    async fn authenticate(&self, shown: &Shown<'_>) -> Result<Option<Arc<User>>, ApiError> {
        Ok(match shown.certificate {
            Some(Proven::Person(user)) => Some(user.clone()),
            Some(Proven::Spoke(_)) | None => None,
        })
    }
}
