//! How long a request may take once its body is there, as at kube-apiserver: as long as it says itself (`timeout`, which
//! clients set to the time that they wait), and a write for as long as any may. Whoever has a say in a write (webhooks, one
//! after the other and as many as a cluster likes) has that long together, and nobody's request keeps its place for ever.
//!
//! A write that is given up may have been made, as one whose connection is lost.
//!
//! Guarantees:
//! - a write ends in time, and what lasts is not given up (`a_write_ends_in_time_and_what_lasts_does_not`);
//! - who asks for less time has that (`who_asks_for_less_time_has_that`), and what is no time is told
//!   (`what_is_no_time_is_told_as_by_kube_apiserver`).

use std::time::Duration;

use freewheel_hub_schema::duration::GoDuration;
use freewheel_hub_schema::error::ApiError;
use tokio::time::timeout;

use crate::flow;

/// Its `requestTimeoutUpperBound`.
const WRITE_TIMEOUT: Duration = Duration::from_secs(34);

/// How long this may take; `None` for as long as it likes.
///
/// # Errors
/// 400 when what is asked for is no time.
pub(crate) fn patience(
    (verb, subresource): (&str, &str),
    asked: Option<&str>,
) -> Result<Option<Duration>, ApiError> {
    if flow::lasts(verb, subresource) {
        return Ok(None);
    }
    let asked = asked.filter(|asked| !asked.is_empty()).map(str::parse::<GoDuration>);
    let asked = asked.transpose().map_err(|error| {
        let text = format!("invalid timeout specified in the request URL - {error}");
        ApiError::bad_request(text)
    })?;
    // No time, or less, is no wish.
    let asked = asked.and_then(|asked| u64::try_from(asked.nanos()).ok());
    let asked = asked.filter(|nanos| 0 < *nanos).map(Duration::from_nanos);
    let most = (!matches!(verb, "get" | "list")).then_some(WRITE_TIMEOUT);
    Ok(asked.into_iter().chain(most).min())
}

/// What comes of it.
///
/// # Errors
/// 504 when it has taken too long.
pub(crate) async fn in_time<T>(
    patience: Option<Duration>,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let Some(patience) = patience else { return work.await };
    timeout(patience, work).await.unwrap_or_else(|_| {
        let why =
            "Timeout: request did not complete within requested timeout - context deadline exceeded";
        Err(ApiError::new(504, "Timeout", why))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_ends_in_time_and_what_lasts_does_not() {
        let never = std::future::pending::<Result<(), ApiError>>;
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        for asked in writes.map(|verb| (verb, "")).into_iter().chain([("create", "eviction")]) {
            let begun = tokio::time::Instant::now();
            let late = in_time(patience(asked, None).unwrap(), never()).await.unwrap_err();
            assert_eq!((late.code, late.reason), (504, "Timeout"));
            assert_eq!(begun.elapsed().as_secs(), 34, "{asked:?}");
        }
        for asked in [("get", ""), ("list", ""), ("watch", ""), ("create", "exec")] {
            let patience = patience(asked, None).unwrap();
            let lasts = timeout(2 * WRITE_TIMEOUT, in_time(patience, never())).await;
            assert!(lasts.is_err(), "{asked:?}");
        }
    }

    #[test]
    fn who_asks_for_less_time_has_that() {
        let seconds = |verb: &str, asked: &str| {
            patience((verb, ""), Some(asked)).unwrap().map(|patience| patience.as_secs())
        };
        assert_eq!(seconds("create", "3s"), Some(3));
        assert_eq!(seconds("delete", "1m"), Some(34), "a write has no more than any");
        assert_eq!((seconds("list", "1m"), seconds("get", "1500ms")), (Some(60), Some(1)));
        for none in ["", "0s", "-3s"] {
            assert_eq!(
                (seconds("patch", none), seconds("get", none)),
                (Some(34), None),
                "{none:?}"
            );
        }
        assert_eq!(patience(("watch", ""), Some("3s")).unwrap(), None);
        assert_eq!(patience(("get", "log"), Some("soon")).unwrap(), None);
    }

    #[test]
    fn what_is_no_time_is_told_as_by_kube_apiserver() {
        let wrong = patience(("get", ""), Some("soon")).unwrap_err();
        let text = "invalid timeout specified in the request URL - time: invalid duration \"soon\"";
        assert_eq!((wrong.code, wrong.message.as_str()), (400, text));
    }
}
