//! What watchers have: events from a revision on.

use std::task::{Context, Poll};

use async_trait::async_trait;

use crate::{Compacted, Event, Revision};

/// Events of several scopes in revision order. Every event of one revision is delivered before the
/// next; [`Watch::progress`] says how far it has come.
#[async_trait]
pub trait Watch: Send {
    /// The next events, all of one or more whole revisions, never empty; `Err` when the watcher fell so
    /// far behind that they are no longer kept. Whatever was published before the call is found; else the
    /// task that polled last is woken.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Vec<Event>, Compacted>>;
    /// The same, to be awaited. Cancel safe.
    async fn next(&mut self) -> Result<Vec<Event>, Compacted> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }
    /// Every event up to this revision was delivered.
    fn progress(&self) -> Revision;
}
