//! Why a request has to come back later.

use freewheel_hub_fairness::Refusal;
use freewheel_hub_schema::error::{ApiError, Details};

use super::fair_pool::PoolFull;

/// There is no room for it.
pub(super) fn too_many(full: PoolFull) -> ApiError {
    later(full.retry_after())
}

/// Its cluster has no seat for it.
pub(super) fn no_seat(why: Refusal) -> ApiError {
    later(match why {
        // Who has waited may ask at once, as after kube-apiserver's queues.
        Refusal::TimedOut => 1,
        Refusal::QueueFull | Refusal::ConcurrencyLimit => 5,
    })
}

/// kube-apiserver's words.
fn later(seconds: u32) -> ApiError {
    let text = "Too many requests, please try again later.";
    let mut error = ApiError::new(429, "TooManyRequests", text);
    let details = Details { retry_after_seconds: Some(seconds), ..Details::default() };
    error.details = Some(Box::new(details));
    error
}
