//! Calls of webhooks at a time. Each cluster has some of its own, and a part of what all clusters of spokes share: whoever
//! hangs, and in however many clusters, there is a call for another one.
//!
//! Guarantees:
//! - a cluster whose webhooks answer is not held up by those whose do not
//!   (`every_cluster_has_calls_of_its_own`);
//! - nobody waits longer than it says, and who gives up takes no call along (`who_waits_in_vain_is_told_in_time`).

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Calls of the root's webhooks, and those that all spokes' clusters share.
const SHARED_CALLS_MAX: usize = 64;
/// Calls that each spoke's cluster has of its own: there are as many clusters as there are devices.
const OWN_CALLS_MAX: usize = 4;
/// Of those, what one that may hang has of them, where others of its cluster are to have one left.
pub const OWN_CALLS_OF_ONE_MAX: usize = OWN_CALLS_MAX - 1;
/// How long a call is waited for, before the time begins that a webhook has.
pub const CALL_WAIT: Duration = Duration::from_secs(10);

/// Calls of all clusters.
pub struct CallPermits {
    of_root: Arc<ClusterCalls>,
    shared: Arc<Semaphore>,
    /// Calls that one cluster may have of those that are shared.
    more: usize,
    /// Of those who have or wait for one.
    each: Mutex<HashMap<ClusterName, Weak<ClusterCalls>>>,
}

/// Calls of one cluster.
#[derive(Debug)]
pub struct ClusterCalls {
    own: Arc<Semaphore>,
    more: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// One call, as long as this is held.
#[derive(Debug)]
pub struct CallPermit {
    _held: [Option<OwnedSemaphorePermit>; 2],
}

impl CallPermits {
    /// Of clusters that may have so many calls each.
    #[must_use]
    pub fn of_clusters_with(calls: usize) -> Self {
        let shared = Arc::new(Semaphore::new(SHARED_CALLS_MAX));
        let of_root = Arc::new(ClusterCalls::new(SHARED_CALLS_MAX, 0, &shared));
        let more = calls.saturating_sub(OWN_CALLS_MAX);
        Self { of_root, shared, more, each: Mutex::default() }
    }

    /// Those of a cluster.
    pub fn of(&self, cluster: &ClusterName) -> Arc<ClusterCalls> {
        if cluster.is_root() {
            return self.of_root.clone();
        }
        let mut each = self.each.lock();
        if let Some(known) = each.get(cluster).and_then(Weak::upgrade) {
            return known;
        }
        let calls = Arc::new(ClusterCalls::new(OWN_CALLS_MAX, self.more, &self.shared));
        each.retain(|_, calls| calls.strong_count() != 0);
        each.insert(cluster.clone(), Arc::downgrade(&calls));
        calls
    }
}

impl ClusterCalls {
    fn new(own: usize, more: usize, shared: &Arc<Semaphore>) -> Self {
        let (own, more) = (Arc::new(Semaphore::new(own)), Arc::new(Semaphore::new(more)));
        Self { own, more, shared: shared.clone() }
    }

    /// The same for one that may have a part of what the cluster has of its own, so that others have some left.
    pub async fn permit_of(&self, part: &Arc<Semaphore>, wait: Duration) -> Option<CallPermit> {
        let own = async {
            let of_part = turn(part).await;
            [turn(&self.own).await, of_part]
        };
        self.either(own, wait).await
    }

    /// A call, when there is one within this time.
    pub async fn permit(&self, wait: Duration) -> Option<CallPermit> {
        self.either(async { [turn(&self.own).await, None] }, wait).await
    }

    /// One of its own, or else one that is shared.
    async fn either(
        &self,
        own: impl Future<Output = [Option<OwnedSemaphorePermit>; 2]>,
        wait: Duration,
    ) -> Option<CallPermit> {
        let more = async {
            let of_cluster = turn(&self.more).await;
            [of_cluster, turn(&self.shared).await]
        };
        let either = async {
            tokio::select! {
                biased;
                own = own => own,
                more = more => more,
            }
        };
        timeout(wait, either).await.ok().map(|held| CallPermit { _held: held })
    }
}

async fn turn(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    of.clone().acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(number: usize) -> ClusterName {
        ClusterName::try_from(format!("pi-{number}").as_str()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn every_cluster_has_calls_of_its_own() {
        const OF_CLUSTER: usize = 32;
        let permits = CallPermits::of_clusters_with(OF_CLUSTER);
        let (mut held, mut most) = (Vec::new(), 0);
        for number in 0..20 {
            let calls = permits.of(&cluster(number));
            let mut got = 0;
            while let Some(permit) = calls.permit(Duration::from_secs(1)).await {
                held.push((calls.clone(), permit));
                got += 1;
            }
            assert!((OWN_CALLS_MAX..=OF_CLUSTER).contains(&got), "{number}: {got}");
            most = most.max(got);
        }
        assert_eq!((held.len(), most), (SHARED_CALLS_MAX + 20 * OWN_CALLS_MAX, OF_CLUSTER));
        let root = ClusterName::try_from("root").unwrap();
        assert!(permits.of(&root).permit(Duration::ZERO).await.is_some());
        drop(held);
        drop(permits.of(&cluster(50)));
        assert_eq!(permits.each.lock().len(), 1, "of others nothing is kept");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_told_in_time() {
        let permits = CallPermits::of_clusters_with(OWN_CALLS_MAX);
        let calls = permits.of(&cluster(0));
        let mut held = Vec::new();
        for _ in 0..OWN_CALLS_MAX {
            held.push(calls.permit(CALL_WAIT).await.unwrap());
        }
        let begun = tokio::time::Instant::now();
        assert!(calls.permit(CALL_WAIT).await.is_none());
        assert_eq!(begun.elapsed(), CALL_WAIT);
        let (next, ()) = tokio::join!(calls.permit(CALL_WAIT), async { drop(held.pop()) });
        assert!(next.is_some());
    }
}
