//! HTTP/2's streams: each request's task, and the way to reset it alone.
//!
//! hyper polls no body that waits for its client, so that a body cannot end itself. It spawns each stream by an executor
//! of ours, though, and to let go of a stream before its end resets it.
//!
//! Guarantees:
//! - a stream is reset without its connection (`one_answer_that_is_not_taken_is_reset_and_the_others_go_on`).

use futures::future::{AbortHandle, Abortable};
use hyper::rt::Executor;

tokio::task_local! {
    static RESET: AbortHandle;
}

/// Spawns streams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, stream: F) {
        let (reset, registration) = AbortHandle::new_pair();
        tokio::spawn(RESET.scope(reset, Abortable::new(stream, registration)));
    }
}

/// Resets the stream that asks this, with what it has not sent; `None` over HTTP/1.1. What was given to hyper as the
/// end of an answer is not its stream's any more.
pub(crate) fn reset() -> Option<AbortHandle> {
    RESET.try_with(Clone::clone).ok()
}
