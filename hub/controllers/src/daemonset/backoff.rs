//! How often pods that fail on a node are replaced there: a device that refuses each of them is not to be asked
//! without end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::uid::Uid;
use parking_lot::Mutex;
use tokio::time::Instant;

const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_mins(15);
/// From so many on, those that have long ended are dropped, whenever there are twice as many as were left.
const BACKOFFS_KEPT: usize = 1024;

/// Which pods: of a set as of one generation of it, on one node.
type BackoffKey = (Uid, i64, Arc<str>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    since: Instant,
    delay: Duration,
}

/// The nodes on which pods have failed.
#[derive(Debug, Default)]
pub(super) struct FailedPods(Mutex<Waits>);

#[derive(Debug, Default)]
struct Waits {
    by_key: HashMap<BackoffKey, Wait>,
    /// How many there were when all of them were looked at last.
    swept: usize,
}

impl Waits {
    /// A fleet of which every node fails is not walked for each of them.
    fn sweep(&mut self, now: Instant) {
        if self.by_key.len() < BACKOFFS_KEPT.max(2 * self.swept) {
            return;
        }
        self.by_key.retain(|_, wait| now < wait.since + 2 * BACKOFF_MAX);
        self.swept = self.by_key.len();
    }
}

impl FailedPods {
    /// Whether a failed pod may be replaced now, which counts; else how much longer it waits.
    pub(super) fn may_go(
        &self,
        set: &Uid,
        generation: i64,
        node: &Arc<str>,
    ) -> Result<(), Duration> {
        let now = Instant::now();
        let mut waits = self.0.lock();
        waits.sweep(now);
        let all = &mut waits.by_key;
        match all.get_mut(&(set.clone(), generation, node.clone())) {
            Some(wait) => {
                if let Some(rest) = (wait.since + wait.delay).checked_duration_since(now)
                    && !rest.is_zero()
                {
                    return Err(rest);
                }
                let is_forgotten = wait.since + 2 * BACKOFF_MAX < now;
                let delay =
                    if is_forgotten { BACKOFF_FIRST } else { (wait.delay * 2).min(BACKOFF_MAX) };
                *wait = Wait { since: now, delay };
            }
            None => {
                let wait = Wait { since: now, delay: BACKOFF_FIRST };
                all.insert((set.clone(), generation, node.clone()), wait);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_wait_of_their_node_alone() {
        let failed = FailedPods::default();
        let (set, a, b) = (Uid::from("u"), Arc::from("a"), Arc::from("b"));
        assert_eq!(failed.may_go(&set, 1, &a), Ok(()));
        assert_eq!(failed.may_go(&set, 1, &a), Err(BACKOFF_FIRST));
        assert_eq!(failed.may_go(&set, 1, &b), Ok(()));
        assert_eq!(failed.may_go(&set, 2, &a), Ok(()), "a new generation is another try");
        tokio::time::advance(BACKOFF_FIRST).await;
        assert_eq!(failed.may_go(&set, 1, &a), Ok(()));
        assert_eq!(failed.may_go(&set, 1, &a), Err(2 * BACKOFF_FIRST));
        for _ in 0..20 {
            tokio::time::advance(BACKOFF_MAX).await;
            assert_eq!(failed.may_go(&set, 1, &a), Ok(()));
        }
        assert_eq!(failed.may_go(&set, 1, &a), Err(BACKOFF_MAX));
        tokio::time::advance(3 * BACKOFF_MAX).await;
        assert_eq!(failed.may_go(&set, 1, &a), Ok(()));
        assert_eq!(failed.may_go(&set, 1, &a), Err(BACKOFF_FIRST), "that was long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_fails_is_not_walked_for_each_node() {
        let (failed, set) = (FailedPods::default(), Uid::from("u"));
        let fail = |nodes: std::ops::Range<usize>| {
            for node in nodes {
                assert_eq!(failed.may_go(&set, 1, &Arc::from(node.to_string())), Ok(()));
            }
            let waits = failed.0.lock();
            (waits.swept, waits.by_key.len())
        };
        assert_eq!(fail(0..BACKOFFS_KEPT), (0, BACKOFFS_KEPT));
        assert_eq!(fail(BACKOFFS_KEPT..2 * BACKOFFS_KEPT), (BACKOFFS_KEPT, 2 * BACKOFFS_KEPT));
        assert_eq!(
            fail(2 * BACKOFFS_KEPT..4 * BACKOFFS_KEPT),
            (2 * BACKOFFS_KEPT, 4 * BACKOFFS_KEPT)
        );
        tokio::time::advance(3 * BACKOFF_MAX).await;
        assert_eq!(fail(9 * BACKOFFS_KEPT..9 * BACKOFFS_KEPT + 1), (0, 1), "those have long ended");
    }
}
