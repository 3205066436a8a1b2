//! Work that takes milliseconds: done on no thread that serves everybody, and few of it at a time, for what is given to
//! the runtime's own queue is there to its end.
//!
//! Guarantees:
//! - no cluster's work keeps another's from its turn, and no user's another's: nobody has all of them, and who has least
//!   comes next; who waits for too long, or beside too many, is told to ask again
//!   (`much_work_of_one_cluster_holds_up_no_other`);
//! - what is held for it is held until it is done, also when nobody waits for it any more
//!   (`what_waits_to_be_compressed_is_on_its_account_until_it_is_gone`).

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;

use super::fair_pool::FairPool;
use super::refusal::too_many;
use super::shares::Sharer;

/// Answers that are encoded or compressed at a time; of one cluster, three quarters.
const ENCODERS_AT_ONCE: usize = 4;

/// Those who do it.
pub(crate) struct Workers(Arc<FairPool>);

/// Those who do it for one user.
#[derive(Clone, Copy)]
pub(crate) struct WorkerQueue<'a> {
    pool: &'a Arc<FairPool>,
    sharer: Sharer<'a>,
}

impl Default for Workers {
    fn default() -> Self {
        Self(FairPool::new(ENCODERS_AT_ONCE))
    }
}

impl Workers {
    /// For them.
    pub(crate) fn of<'a>(&'a self, sharer: Sharer<'a>) -> WorkerQueue<'a> {
        WorkerQueue { pool: &self.0, sharer }
    }

    /// For everybody: what all ask for is nobody's share.
    pub(crate) fn of_all(&self) -> WorkerQueue<'_> {
        self.of(Sharer::everybody())
    }
}

impl WorkerQueue<'_> {
    /// Does it when it is their turn, and gives back what is held for it.
    ///
    /// # Errors
    /// 429 when there is no turn for them.
    pub(crate) async fn run<T: Send + 'static, H: Send + 'static>(
        &self,
        held: H,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, H), ApiError> {
        // Who goes away while waiting here takes everything along.
        let turn = self.pool.part(self.sharer, 1).await.map_err(too_many)?;
        let done = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(turn);
            (outcome, held)
        });
        let (outcome, held) = done.await.map_err(ApiError::internal)?;
        Ok((outcome?, held))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::mpsc;

    use bytes::Bytes;
    use freewheel_link::names::ClusterName;
    use futures::FutureExt as _;
    use tokio::task::JoinSet;

    use super::*;
    use crate::flow::fair_pool::PoolShare;

    /// All turns, so that nobody has one until these are dropped.
    pub(crate) fn all_turns(workers: &Workers) -> Vec<PoolShare> {
        let asks = ["one", "two"].into_iter().flat_map(|user| [user; ENCODERS_AT_ONCE]);
        let turns =
            asks.filter_map(|user| workers.0.part(Sharer::in_root(user), 1).now_or_never()?.ok());
        let turns: Vec<_> = turns.collect();
        assert_eq!(turns.len(), ENCODERS_AT_ONCE);
        turns
    }

    #[tokio::test]
    async fn much_work_of_one_cluster_holds_up_no_other() {
        let (workers, mut greedy) = (Arc::new(Workers::default()), JoinSet::new());
        let ends: Vec<_> = (0..400)
            .map(|at| {
                let (workers, (end, waits)) = (workers.clone(), mpsc::channel::<()>());
                let work = move || {
                    let _ = waits.recv();
                    Ok(Bytes::new())
                };
                greedy.spawn(async move {
                    let cluster = ClusterName::try_from("pi-7").unwrap();
                    let user = format!("user-{}", at % 40);
                    workers.of(Sharer::of(&cluster, &user)).run((), work).await.is_ok()
                });
                end
            })
            .collect();
        for _ in 0..ends.len() {
            tokio::task::yield_now().await;
        }
        let other = workers.of(Sharer::in_root("user-0"));
        assert_eq!(other.run((), || Ok(Bytes::from_static(b"done"))).await.unwrap().0, "done");
        drop(ends);
        let done = greedy.join_all().await.into_iter().filter(|is_done| *is_done).count();
        assert!((100..=104).contains(&done), "those who had a turn, or a place to wait: {done}");
    }
}
