//! What is logged of a webhook that does not answer: once in a while, with how often that was. Who writes webhooks for a
//! cluster can have one fail with every request.
//!
//! Guarantees:
//! - a webhook that fails all the time is logged once a minute, and every failure counts
//!   (`a_webhook_that_fails_all_the_time_is_logged_once_a_minute`).

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How often one is logged.
const LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Failures of one webhook.
#[derive(Debug, Default)]
pub(super) struct Failures(Mutex<Untold>);

#[derive(Debug, Default)]
struct Untold {
    count: u64,
    logged: Option<Instant>,
}

impl Failures {
    /// It has failed once more: how often it has since it was logged last, where it is to be logged.
    pub(super) fn count(&self) -> Option<u64> {
        let mut untold = self.0.lock();
        untold.count += 1;
        if untold.logged.is_some_and(|logged| logged.elapsed() < LOGGED_EVERY) {
            return None;
        }
        untold.logged = Some(Instant::now());
        Some(std::mem::take(&mut untold.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_fails_all_the_time_is_logged_once_a_minute() {
        let failures = Failures::default();
        assert_eq!(failures.count(), Some(1), "the first is news");
        for _ in 0..600 {
            assert_eq!(failures.count(), None);
        }
        tokio::time::advance(LOGGED_EVERY).await;
        assert_eq!((failures.count(), failures.count()), (Some(601), None));
    }
}
