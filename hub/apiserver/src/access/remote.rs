//! Somebody else who is asked who callers are, or what they may do: a webhook, over which this crate knows nothing but
//! question and answer.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Questions at a time, each on a connection of its own.
pub(crate) const QUESTIONS_MAX: usize = 32;
/// How long a question waits for its turn.
pub(crate) const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers reviews, in JSON.
#[async_trait]
pub trait Remote: Send + Sync {
    /// The review with its status.
    ///
    /// # Errors
    /// When there is no answer, in words for the log.
    async fn ask(&self, review: &Value) -> Result<Value, String>;
}

/// Why there is no answer. What has not been said is neither yes nor no: to ask again may help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// As much is asked as may be.
    #[error("too many questions are asked")]
    Crowded,
    /// In words for the log.
    #[error("{0}")]
    Failed(String),
}

/// Somebody who is asked so many questions at a time, and no more.
pub(crate) struct InTurn {
    remote: Arc<dyn Remote>,
    turns: Semaphore,
}

impl InTurn {
    pub(crate) fn new(remote: Arc<dyn Remote>, most: usize) -> Self {
        Self { remote, turns: Semaphore::new(most) }
    }

    /// What is answered when it is this question's turn.
    ///
    /// # Errors
    /// When there is no answer, or too much is asked.
    pub(crate) async fn ask(&self, review: &Value) -> Result<Value, NoAnswer> {
        let turn = timeout(TURN_TIMEOUT, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| NoAnswer::Crowded)?;
        self.remote.ask(review).await.map_err(NoAnswer::Failed)
    }
}

/// Reads documents of issuers of tokens, over HTTPS.
#[async_trait]
pub trait Fetch: Send + Sync {
    /// The document at an address.
    ///
    /// # Errors
    /// When there is none, in words for the log.
    async fn get(&self, url: &str) -> Result<Vec<u8>, String>;
}
