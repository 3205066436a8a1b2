//! How a watcher is called: one waker each, which also says how far it has come.
//!
//! Guarantees:
//! - a call that comes before the watcher waits is not lost, and many before it looks are one
//!   (`calls_before_the_look_are_one`);
//! - who waits is woken (`who_waits_is_woken`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Context;

use futures::task::AtomicWaker;

use crate::Revision;

/// One watcher's waker.
#[derive(Default)]
pub(crate) struct WatchWaker {
    woken: AtomicBool,
    waker: AtomicWaker,
    seen: AtomicU64,
}

impl WatchWaker {
    /// The watcher has everything up to this revision.
    pub(crate) fn set_seen(&self, revision: Revision) {
        self.seen.store(revision, Ordering::Relaxed);
    }

    /// How far the watcher has come.
    pub(crate) fn seen(&self) -> Revision {
        self.seen.load(Ordering::Relaxed)
    }

    /// Calls the watcher.
    pub(crate) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Whether it was woken since the last look; if not, the task is woken when it is.
    pub(crate) fn take_woken(&self, cx: &Context<'_>) -> bool {
        if self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel) {
            return true;
        }
        self.waker.register(cx.waker());
        // It may have been woken between the look and the registration.
        self.woken.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};

    use super::*;

    #[test]
    fn calls_before_the_look_are_one() {
        let (waker, cx) = (WatchWaker::default(), Context::from_waker(Waker::noop()));
        assert!(!waker.take_woken(&cx));
        waker.wake();
        waker.wake();
        assert!(waker.take_woken(&cx));
        assert!(!waker.take_woken(&cx));
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let waker = std::sync::Arc::new(WatchWaker::default());
        let theirs = waker.clone();
        let waits = tokio::spawn(std::future::poll_fn(move |cx| match theirs.take_woken(cx) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }));
        tokio::task::yield_now().await;
        waker.wake();
        let bound = std::time::Duration::from_secs(10);
        tokio::time::timeout(bound, waits).await.unwrap().unwrap();
    }
}
