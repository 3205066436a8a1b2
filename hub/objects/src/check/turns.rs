//! How many long checks are made at a time, of all clusters and of one: they take a processor each, and no worker of the
//! API's.
//!
//! Guarantees:
//! - however many objects tenants have checked, the root has turns of its own, and each tenant one after the other
//!   (`checks_of_tenants_wait_for_each_other_and_not_for_the_root`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Checks of the root at a time, and of all tenants together, of which one has one.
const CHECK_TURNS_MAX: usize = 2;
/// How long one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns of all clusters.
pub(crate) struct Turns {
    root: Arc<Semaphore>,
    tenants: Arc<Semaphore>,
    /// Of those who have or wait for one.
    each: Mutex<HashMap<ClusterName, Arc<Semaphore>>>,
}

impl Default for Turns {
    fn default() -> Self {
        let all = || Arc::new(Semaphore::new(CHECK_TURNS_MAX));
        Self { root: all(), tenants: all(), each: Mutex::default() }
    }
}

impl Turns {
    /// Does this aside, when it is the cluster's turn. Who gives up meanwhile does not end it: it is bounded, and keeps its
    /// turn.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        cluster: &ClusterName,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let both = async {
            if cluster.is_root() {
                return (turn(&self.root).await, None);
            }
            let own = turn(&self.own(cluster)).await;
            (own, turn(&self.tenants).await)
        };
        let turns = timeout(TURN_TIMEOUT, both).await.map_err(|_| busy())?;
        let job = move || {
            let done = work();
            drop(turns);
            done
        };
        let done = tokio::task::spawn_blocking(job).await;
        done.map_err(|_| ApiError::internal("the object could not be checked"))
    }

    fn own(&self, cluster: &ClusterName) -> Arc<Semaphore> {
        let mut each = self.each.lock();
        each.retain(|_, own| Arc::strong_count(own) > 1);
        let own = each.entry(cluster.clone()).or_insert_with(|| Arc::new(Semaphore::new(1)));
        Arc::clone(own)
    }
}

async fn turn(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    of.clone().acquire_owned().await.ok()
}

fn busy() -> ApiError {
    ApiError::busy("as many objects are checked against their schemas as may be; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn checks_of_tenants_wait_for_each_other_and_not_for_the_root() {
        let turns = Arc::new(Turns::default());
        let of = |name: &str| ClusterName::try_from(name).unwrap();
        let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let mut all = tokio::task::JoinSet::new();
        for name in ["pi-0", "pi-0", "pi-1", "pi-2"] {
            let (turns, begun, ended) = (turns.clone(), begun.clone(), ended.clone());
            let work = move || {
                let _ = begun.send(name);
                ended.lock().recv().is_err()
            };
            all.spawn(async move { turns.run(&of(name), work).await.is_ok() });
        }
        let mut first = [has_begun.recv().await.unwrap(), has_begun.recv().await.unwrap()];
        first.sort_unstable();
        assert!(first[0] != first[1], "one of each: {first:?}");
        assert_eq!(turns.run(&of("root"), || 7).await.unwrap(), 7);
        assert!(has_begun.try_recv().is_err());
        drop(end);
        while let Some(done) = all.join_next().await {
            assert!(done.unwrap());
        }
        drop(turns.own(&of("pi-3")));
        assert_eq!(turns.each.lock().len(), 1, "of others nothing is kept");
    }
}
