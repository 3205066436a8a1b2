//! How many expressions are evaluated at a time, of all clusters and of one: they take a processor and a thread each.
//!
//! Guarantees:
//! - however many tenants evaluate however much, the root has turns of its own (`tenants_keep_the_root_from_no_turn`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_cel::begin_where_there_is_room;
use freewheel_hub_schema::error::ApiError;
use freewheel_link::names::ClusterName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Evaluations of the root at a time.
const ROOT_TURNS_MAX: usize = 4;
/// Of all tenants together.
const TENANTS_TURNS_MAX: usize = 4;
/// Of them, those of one.
const TENANT_TURNS_MAX: usize = 2;
/// How long one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns of all tenants.
pub(crate) struct Turns(Arc<Semaphore>);

/// Turns of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct ClusterTurns {
    own: Arc<Semaphore>,
    is_root: bool,
}

impl ClusterTurns {
    pub(crate) fn of(cluster: &ClusterName) -> Self {
        let is_root = cluster.is_root();
        let turns = if is_root { ROOT_TURNS_MAX } else { TENANT_TURNS_MAX };
        Self { own: Arc::new(Semaphore::new(turns)), is_root }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TENANTS_TURNS_MAX)))
    }
}

impl Turns {
    /// Does this where there is room for an evaluation, when it is the cluster's turn. Who gives up meanwhile does not end
    /// it: it is bounded, and keeps its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        cluster: &ClusterTurns,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let both = async {
            let own = turn(&cluster.own).await;
            (own, if cluster.is_root { None } else { turn(&self.0).await })
        };
        let turns = timeout(TURN_TIMEOUT, both).await.map_err(|_| busy())?;
        let (finished, done) = oneshot::channel();
        let job = move || {
            let _turns = turns;
            let _ = finished.send(work());
        };
        begin_where_there_is_room(job).map_err(|_| busy())?;
        done.await.map_err(|_| ApiError::internal("an expression could not be evaluated"))
    }
}

async fn turn(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    of.clone().acquire_owned().await.ok()
}

fn busy() -> ApiError {
    ApiError::busy("as many admission expressions are evaluated as may be; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tenants_keep_the_root_from_no_turn() {
        let turns = Arc::new(Turns::default());
        let of = |name: &str| ClusterTurns::of(&ClusterName::try_from(name).unwrap());
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let ended = Arc::new(parking_lot::Mutex::new(ended));
        let mut stuck = tokio::task::JoinSet::new();
        for cluster in ["pi-0", "pi-1", "pi-2"].map(of) {
            for _ in 0..3 {
                let (turns, cluster, ended) = (turns.clone(), cluster.clone(), ended.clone());
                let work = move || ended.lock().recv().is_err();
                stuck.spawn(
                    async move { turns.run(&cluster, work).await.err().map(|busy| busy.code) },
                );
            }
        }
        // Of those whose turn did not come.
        for _ in 0..9 - TENANTS_TURNS_MAX {
            assert_eq!(stuck.join_next().await.unwrap().unwrap(), Some(503));
        }
        assert_eq!(turns.run(&of("root"), || 7).await.unwrap(), 7);
        drop(end);
        while let Some(done) = stuck.join_next().await {
            assert_eq!(done.unwrap(), None);
        }
    }
}
