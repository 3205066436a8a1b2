//! Work that takes milliseconds: done on no thread that serves everybody, and few of it at a time, for what is given to
//! the runtime's own queue is there to its end.
//!
//! Guarantees:
//! - no user's work keeps another's from its turn: nobody has all of them, and who has least comes next; who waits for
//!   too long, or beside too many, is told to ask again (`much_work_of_one_user_holds_up_no_other`);
//! - what is held for it is held until it is done, also when nobody waits for it any more
//!   (`what_waits_to_be_compressed_is_on_its_account_until_it_is_gone`).

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;

use super::fair_pool::FairPool;
use super::refusal::too_many;

/// Answers that are encoded or compressed at a time; of one user, three quarters.
const ENCODERS_AT_ONCE: usize = 4;

/// Those who do it.
pub(crate) struct Workers(Arc<FairPool>);

/// Those who do it for one user.
#[derive(Clone, Copy)]
pub(crate) struct WorkerQueue<'a> {
    pool: &'a Arc<FairPool>,
    user: &'a str,
}

impl Default for Workers {
    fn default() -> Self {
        Self(FairPool::new(ENCODERS_AT_ONCE))
    }
}

impl Workers {
    /// For this user.
    pub(crate) fn of<'a>(&'a self, user: &'a str) -> WorkerQueue<'a> {
        WorkerQueue { pool: &self.0, user }
    }

    /// For everybody: what all ask for is nobody's share.
    pub(crate) fn of_all(&self) -> WorkerQueue<'_> {
        self.of("")
    }
}

impl WorkerQueue<'_> {
    /// Does it when it is this user's turn, and gives back what is held for it.
    ///
    /// # Errors
    /// 429 when there is no turn for this user.
    pub(crate) async fn run<T: Send + 'static, H: Send + 'static>(
        &self,
        held: H,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<(T, H), ApiError> {
        // Who goes away while waiting here takes everything along.
        let turn = self.pool.part(self.user, 1).await.map_err(too_many)?;
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
    use futures::FutureExt as _;
    use tokio::task::JoinSet;

    use super::*;
    use crate::flow::fair_pool::PoolShare;

    /// All turns, so that nobody has one until these are dropped.
    pub(crate) fn all_turns(workers: &Workers) -> Vec<PoolShare> {
        let asks = ["one", "two"].into_iter().flat_map(|user| [user; ENCODERS_AT_ONCE]);
        let turns = asks.filter_map(|user| workers.0.part(user, 1).now_or_never()?.ok());
        let turns: Vec<_> = turns.collect();
        assert_eq!(turns.len(), ENCODERS_AT_ONCE);
        turns
    }

    #[tokio::test]
    async fn much_work_of_one_user_holds_up_no_other() {
        let (workers, mut greedy) = (Arc::new(Workers::default()), JoinSet::new());
        let ends: Vec<_> = (0..40)
            .map(|_| {
                let (workers, (end, waits)) = (workers.clone(), mpsc::channel::<()>());
                let work = move || {
                    let _ = waits.recv();
                    Ok(Bytes::new())
                };
                greedy.spawn(async move { workers.of("greedy").run((), work).await.is_ok() });
                end
            })
            .collect();
        for _ in 0..ends.len() {
            tokio::task::yield_now().await;
        }
        let other = workers.of("other").run((), || Ok(Bytes::from_static(b"done"))).await;
        assert_eq!(other.unwrap().0, "done");
        drop(ends);
        assert!(greedy.join_all().await.into_iter().all(|is_done| is_done));
    }
}
