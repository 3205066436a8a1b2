//! How long a write may take once its body is there, as at kube-apiserver: whoever has a say in it (webhooks, one after
//! the other and as many as a cluster likes) has that long together, and nobody's request keeps its place for ever.
//!
//! A write that is given up may have been made, as one whose connection is lost.
//!
//! Guarantees:
//! - a write ends in time, and what only reads or lasts is none (`a_write_ends_in_time_and_nothing_else_does`).

use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use tokio::time::timeout;

use crate::flow;

/// Its `requestTimeoutUpperBound`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(34);

/// What comes of it.
///
/// # Errors
/// 504 when it is a write that has taken too long.
pub(crate) async fn in_time<T>(
    (verb, subresource): (&str, &str),
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    if matches!(verb, "get" | "list" | "watch") || flow::lasts(verb, subresource) {
        return work.await;
    }
    timeout(WRITE_TIMEOUT, work).await.unwrap_or_else(|_| {
        let why =
            "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Err(ApiError::new(504, "Timeout", why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_in_time_and_nothing_else_does() {
        let never = std::future::pending::<Result<(), ApiError>>;
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        for asked in writes.map(|verb| (verb, "")).into_iter().chain([("create", "eviction")]) {
            let begun = tokio::time::Instant::now();
            let late = in_time(asked, never()).await.unwrap_err();
            assert_eq!((late.code, late.reason), (504, "Timeout"));
            assert_eq!(begun.elapsed().as_secs(), 34, "{asked:?}");
        }
        for asked in [("get", ""), ("list", ""), ("watch", ""), ("create", "exec")] {
            let lasts = timeout(2 * WRITE_TIMEOUT, in_time(asked, never())).await;
            assert!(lasts.is_err(), "{asked:?}");
        }
    }
}
