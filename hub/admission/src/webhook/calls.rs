//! Calls of webhooks: how many at a time, for how long, and whose.
//!
//! A controller of the hub works for all clusters. For one it waits for a webhook of a spoke's cluster only shortly, for
//! all that are asked about one write not much longer, and never for one that has just failed it; it comes again by
//! itself. Who else writes waits as long as webhooks may take and the whole request may, as at kube-apiserver.
//!
//! Guarantees:
//! - a webhook that does not answer is given up when its time is over (`a_slow_webhook_is_given_up_in_time`);
//! - it holds up nobody whom it does not select, in its cluster or another (`a_slow_webhook_holds_up_nobody_else`,
//!   `slow_webhooks_of_some_clusters_hold_up_no_other`);
//! - that there is no call for a webhook is none of its failures (`a_webhook_that_was_not_called_has_not_failed`);
//! - a controller is not held up by one of a spoke's cluster (`a_controller_is_not_held_up_by_a_spokes_webhook`), nor by
//!   many that answer in time (`many_webhooks_have_one_time_for_a_controllers_write`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use freewheel_hub_objects::Review;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::time::timeout;

use super::address::Address;
use super::hook::Webhook;
use super::permits::{CALL_WAIT, CallPermits};
use super::unsuccessful::Unsuccessful;

/// Calls of one cluster's webhooks at a time.
const CLUSTER_CALLS_MAX: usize = 32;
/// How long a controller waits for a webhook of a spoke's cluster.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long for all that are asked about one write: they are as many as their cluster likes.
const CONTROLLER_WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it does not ask one again that has failed it.
const CONTROLLER_PAUSE: Duration = Duration::from_secs(10);
/// Webhooks that have just failed a controller, of which is known.
const FAILED_MAX: usize = 1_024;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Nobody was reached, or understood.
    Unreachable(String),
    /// It answered with a code that is no success.
    Answered(Unsuccessful),
}

/// Why there is no answer that could be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// As many calls go on as may, and it was not asked.
    Busy,
    /// It was asked in vain, in the words of kube-apiserver.
    Because(String),
}

impl From<String> for NoAnswer {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

/// Calls webhooks over HTTPS. Whoever gives up a call drops it.
#[async_trait]
pub trait Caller: Send + Sync {
    /// What is answered to this review, which is bounded.
    ///
    /// # Errors
    /// When nothing is.
    async fn call(&self, address: &Address, review: Vec<u8>) -> Result<Vec<u8>, CallError>;
}

/// All calls.
pub(crate) struct Calls {
    caller: Option<Arc<dyn Caller>>,
    permits: CallPermits,
    /// Which have just failed a controller, by cluster and webhook, and since when.
    failed: Mutex<Vec<(ClusterName, String, Instant)>>,
}

impl Calls {
    pub(crate) fn over(caller: Option<Arc<dyn Caller>>) -> Self {
        let permits = CallPermits::of_clusters_with(CLUSTER_CALLS_MAX);
        Self { caller, permits, failed: Mutex::default() }
    }

    /// What a webhook answers. Its time begins with its call; those who wait while as many of its own calls go on as may
    /// have as long to wait.
    pub(super) async fn ask(
        &self,
        hook: &Webhook,
        review: &Review<'_>,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, NoAnswer> {
        let (cluster, actor) = (&review.target.cluster, review.actor);
        let address = hook.client.address(cluster, hook.timeout);
        let Some(caller) = &self.caller else {
            return Err("this hub calls no webhooks".to_owned().into());
        };
        let failed = |why: &str| {
            NoAnswer::Because(format!("failed to call webhook: Post {:?}: {why}", address.url))
        };
        let begun = tokio::time::Instant::now();
        let bounded = !cluster.is_root() && actor.is_controller();
        let limit = if bounded {
            self.controllers_limit(hook, review, begun).map_err(failed)?
        } else {
            hook.timeout
        };
        let turn = match hook.turns.try_acquire() {
            Ok(turn) => Ok(Ok(turn)),
            // It was not asked: others are.
            Err(_) if bounded => return Err(NoAnswer::Busy),
            Err(_) => timeout(limit, hook.turns.acquire()).await,
        };
        let outcome = match turn {
            Err(_) => None,
            Ok(_own) => {
                // A controller comes again by itself: it does not queue for a call, and its time is one for all.
                let (wait, limit) = if bounded {
                    (Duration::ZERO, limit.saturating_sub(begun.elapsed()))
                } else {
                    (limit.min(CALL_WAIT), limit)
                };
                let of_cluster = self.permits.of(cluster);
                let _permit = of_cluster.permit(wait).await.ok_or(NoAnswer::Busy)?;
                timeout(limit, caller.call(&address, body)).await.ok()
            }
        };
        if bounded && !matches!(outcome, Some(Ok(_))) {
            self.note_failure(cluster, hook);
        }
        match outcome {
            None => Err(failed("context deadline exceeded")),
            Some(Err(CallError::Unreachable(why))) => Err(failed(&why)),
            Some(Err(CallError::Answered(answer))) => {
                Err(format!("failed to call webhook: {answer}").into())
            }
            Some(Ok(answer)) => Ok(answer),
        }
    }

    /// How long a controller waits for a webhook of a spoke's cluster, or why not at all.
    fn controllers_limit(
        &self,
        hook: &Webhook,
        review: &Review<'_>,
        now: tokio::time::Instant,
    ) -> Result<Duration, &'static str> {
        if self.has_just_failed(&review.target.cluster, hook) {
            return Err("it has just not answered; it is asked again in some seconds");
        }
        let until = review.rounds.asks_since(now) + CONTROLLER_WRITE_TIMEOUT;
        let left = until.saturating_duration_since(now);
        if left.is_zero() {
            return Err("others have taken the time that all webhooks of one write have");
        }
        Ok(hook.timeout.min(CONTROLLER_TIMEOUT).min(left))
    }

    fn has_just_failed(&self, cluster: &ClusterName, hook: &Webhook) -> bool {
        let mut failed = self.failed.lock();
        failed.retain(|(_, _, since)| since.elapsed() < CONTROLLER_PAUSE);
        failed.iter().any(|(of, id, _)| of == cluster && *id == hook.id())
    }

    fn note_failure(&self, cluster: &ClusterName, hook: &Webhook) {
        let mut failed = self.failed.lock();
        if failed.len() < FAILED_MAX {
            failed.push((cluster.clone(), hook.id(), Instant::now()));
        }
    }
}
