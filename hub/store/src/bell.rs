//! How a watcher is called: one bell each, which also says how far it has come.
//!
//! Guarantees:
//! - a call that comes before the watcher waits is not lost, and many before it looks are one
//!   (`calls_before_the_look_are_one`);
//! - who waits is woken (`who_waits_is_woken`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

use crate::Revision;

/// One watcher's bell.
#[derive(Default)]
pub(crate) struct Bell {
    rung: AtomicBool,
    waker: AtomicWaker,
    seen: AtomicU64,
}

impl Bell {
    /// The watcher has everything up to this revision.
    pub(crate) fn saw(&self, revision: Revision) {
        self.seen.store(revision, Ordering::Relaxed);
    }

    /// How far the watcher has come.
    pub(crate) fn seen(&self) -> Revision {
        self.seen.load(Ordering::Relaxed)
    }

    /// Calls the watcher.
    pub(crate) fn ring(&self) {
        self.rung.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was rung since the last look; if not, the task is woken when it is.
    pub(crate) fn heard(&self, cx: &Context<'_>) -> bool {
        if self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::AcqRel) {
            return true;
        }
        self.waker.register(cx.waker());
        // It may have been rung between the look and the registration.
        self.rung.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn calls_before_the_look_are_one() {
        let (bell, cx) = (Bell::default(), Context::from_waker(Waker::noop()));
        assert!(!bell.heard(&cx));
        bell.ring();
        bell.ring();
        assert!(bell.heard(&cx));
        assert!(!bell.heard(&cx));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let bell = std::sync::Arc::new(Bell::default());
        let theirs = bell.clone();
        let waits = tokio::spawn(std::future::poll_fn(move |cx| match theirs.heard(cx) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }));
        tokio::task::yield_now().await;
        bell.ring();
        let bound = std::time::Duration::from_secs(10);
        tokio::time::timeout(bound, waits).await.unwrap().unwrap();
    }
}
