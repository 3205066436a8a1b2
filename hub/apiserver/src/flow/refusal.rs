//! Why a request has to come back later.

use freewheel_hub_schema::error::{ApiError, Details};

use super::fair_pool::PoolFull;

/// kube-apiserver's words.
pub(super) fn too_many(full: PoolFull) -> ApiError {
    let text = "Too many requests, please try again later.";
    let mut error = ApiError::new(429, "TooManyRequests", text);
    let details = Details { retry_after_seconds: Some(full.retry_after()), ..Details::default() };
    error.details = Some(Box::new(details));
    error
}
