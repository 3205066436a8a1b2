//! How many expressions are evaluated at a time, of all clusters and of one: they take a processor and a thread each.

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_cel::STACK_BYTES;
use freewheel_hub_schema::error::{ApiError, Details};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

/// Evaluations at a time.
const TURNS: usize = 8;
/// Of them, those of one cluster.
pub(crate) const TURNS_OF_CLUSTER: usize = 4;
/// How long one waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Turns of all clusters.
pub(crate) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TURNS)))
    }
}

impl Turns {
    /// Does this where there is room for an evaluation, when it is the cluster's turn. Who gives up meanwhile does not end
    /// it: it is bounded, and keeps its turn.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        cluster: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let both = async { (turn(cluster).await, turn(&self.0).await) };
        let turns = timeout(TURN_TIMEOUT, both).await.map_err(|_| busy())?;
        let (told, done) = oneshot::channel();
        let job = move || {
            let _turns = turns;
            let _ = told.send(work());
        };
        let thread = std::thread::Builder::new().name("cel".to_owned()).stack_size(STACK_BYTES);
        thread.spawn(job).map_err(|_| busy())?;
        done.await.map_err(|_| ApiError::internal("an expression could not be evaluated"))
    }
}

async fn turn(of: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    of.clone().acquire_owned().await.ok()
}

fn busy() -> ApiError {
    let text = "as many admission expressions are evaluated as may be; try again";
    let mut error = ApiError::new(503, "ServiceUnavailable", text);
    error.details = Some(Box::new(Details { retry_after_seconds: Some(1), ..Details::default() }));
    error
}
