//! Somebody else who is asked who callers are, or what they may do: a webhook, over which this crate knows nothing but
//! question and answer.

use async_trait::async_trait;
use serde_json::Value;

/// Answers reviews, in JSON.
#[async_trait]
pub trait Remote: Send + Sync {
    /// The review with its status.
    ///
    /// # Errors
    /// When there is no answer, in words for the log.
    async fn ask(&self, review: &Value) -> Result<Value, String>;
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
