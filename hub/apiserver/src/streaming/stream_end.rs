//! When what goes on has to end: a log that is followed, a session.
//!
//! Guarantees:
//! - what breaks off or has to end does not look complete
//!   (`a_log_that_breaks_off_ends_with_an_error_and_one_that_ends_does_not`);
//! - a session tells its client why it ends, and has a moment for it (`a_session_that_its_hub_ends_is_told_why`,
//!   `a_session_whose_cluster_goes_is_told_so`).

use std::time::Duration;

use bytes::Bytes;
use freewheel_hub_api::streams::ByteStream;
use freewheel_hub_schema::error::ApiError;
use futures::future::{BoxFuture, OptionFuture, Shared};
use futures::{FutureExt as _, Stream, StreamExt as _};
use tracing::debug;

use crate::authn;
use crate::call::Call;
use crate::piece::BodyError;

/// How long a session may take to tell that it ends: less than a hub that stops waits for its connections.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The end of a session, which each of its parts may wait for.
pub(crate) type End = Shared<BoxFuture<'static, ApiError>>;

/// That of a session which this call begins.
pub(crate) fn of_session(call: &Call) -> End {
    of(call).boxed().shared()
}

/// Runs a session until it is over. It tells its client by itself when `end` comes first, and is cut off soon after.
pub(crate) async fn run(session: impl Future<Output = ()>, end: End) {
    let late = async {
        let why = end.await;
        debug!(error = %why.message, "a session is ended");
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        biased;
        () = session => {}
        () = late => {}
    }
}

/// Ready when what this call follows has to end, and why.
pub(crate) fn of(call: &Call) -> impl Future<Output = ApiError> + Send + 'static {
    let (hub, tenant) = (&call.hub, call.tenant.clone());
    let stop = hub.stop.begun();
    let store = &**hub.server.objects.store();
    let gone = OptionFuture::from(hub.tenants.end_of(&tenant, store));
    let unknown = OptionFuture::from(hub.agents.end_of(&call.user, store));
    let now = hub.server.objects.clock().unix_seconds();
    let expiry = OptionFuture::from(call.user.ends_in(now).map(tokio::time::sleep));
    async move {
        tokio::select! {
            biased;
            () = stop => ApiError::new(503, "ServiceUnavailable", "the hub is stopping"),
            Some(()) = gone => tenant.gone(),
            Some(()) = expiry => authn::unauthorized(),
            Some(()) = unknown => authn::unauthorized(),
            else => std::future::pending().await,
        }
    }
}

/// The chunks; with an error at the end when `end` comes first.
pub(crate) fn until(
    stream: ByteStream,
    end: impl Future<Output = ApiError> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send {
    let state = Some((stream, Box::pin(end)));
    futures::stream::unfold(state, |state| async move {
        let (mut stream, mut end) = state?;
        tokio::select! {
            biased;
            why = &mut end => Some((Err(BodyError::from(why)), None)),
            next = stream.next() => match next? {
                Ok(chunk) => Some((Ok(chunk), Some((stream, end)))),
                Err(error) => Some((Err(BodyError::from(error)), None)),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_breaks_off_ends_with_an_error_and_one_that_ends_does_not() {
        let chunk = || Ok(Bytes::from_static(b"line\n"));
        let whole: ByteStream = Box::pin(futures::stream::iter([chunk()]));
        let all: Vec<_> = until(whole, std::future::pending()).collect().await;
        assert!(all.len() == 1 && all[0].is_ok());
        let cut = Err(ApiError::new(503, "ServiceUnavailable", "the log broke off"));
        let broken: ByteStream = Box::pin(futures::stream::iter([chunk(), cut, chunk()]));
        let all: Vec<_> = until(broken, std::future::pending()).collect().await;
        assert!(all.len() == 2 && all[0].is_ok() && all[1].is_err());
        let endless: ByteStream = Box::pin(futures::stream::pending());
        let all: Vec<_> =
            until(endless, std::future::ready(ApiError::expired("gone"))).collect().await;
        assert!(all.len() == 1 && all[0].is_err(), "it has to end");
    }
}
