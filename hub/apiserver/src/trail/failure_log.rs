//! How many requests that failed inside of the hub are logged: what a cluster defines for itself (webhooks that admit or
//! convert) can fail with each of its requests.
//!
//! Guarantees:
//! - of who is of one cluster, or of the root, a few are logged in a minute, and with the next one how many were not
//!   (`of_each_cluster_a_few_are_logged_in_a_minute`).

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Those that are logged.
const LOGGED_MAX: u32 = 5;
/// In so long.
const WINDOW: Duration = Duration::from_secs(60);
/// How long it is known how many were not.
const KNOWN_FOR: Duration = Duration::from_secs(3600);

/// Failures of all clusters.
#[derive(Default)]
pub(crate) struct FailureLog(Mutex<BTreeMap<ClusterName, Failures>>);

struct Failures {
    since: Instant,
    logged: u32,
    unlogged: u64,
}

impl FailureLog {
    /// One more, of somebody of this cluster: how many were not logged before it, where it is.
    pub(crate) fn count(&self, cluster: ClusterName) -> Option<u64> {
        let now = Instant::now();
        let mut all = self.0.lock();
        all.retain(|_, failures| now.duration_since(failures.since) < KNOWN_FOR);
        let new = || Failures { since: now, logged: 0, unlogged: 0 };
        let own = all.entry(cluster).or_insert_with(new);
        if WINDOW <= now.duration_since(own.since) {
            (own.since, own.logged) = (now, 0);
        }
        if own.logged == LOGGED_MAX {
            own.unlogged += 1;
            return None;
        }
        own.logged += 1;
        Some(std::mem::take(&mut own.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_each_cluster_a_few_are_logged_in_a_minute() {
        let log = FailureLog::default();
        let cluster = |name: &str| ClusterName::try_from(name).unwrap();
        let logged = (0..100).filter_map(|_| log.count(cluster("pi-7"))).count();
        assert_eq!(logged, 5);
        assert_eq!(log.count(cluster("root")), Some(0), "another's");
        tokio::time::advance(WINDOW).await;
        assert_eq!([log.count(cluster("pi-7")), log.count(cluster("pi-7"))], [Some(95), Some(0)]);
        tokio::time::advance(KNOWN_FOR).await;
        assert_eq!(log.count(cluster("pi-8")), Some(0));
        assert_eq!(log.0.lock().len(), 1, "of others nothing is kept");
    }
}
