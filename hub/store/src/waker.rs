//! How a watcher is called: one waker each, which also says how far it has come.
//!
//! Guarantees:
//! - a call that comes before the watcher waits is not lost, and many before it looks are one
//!   (`calls_before_the_look_are_one`);
//! - who does not look is woken once (`who_does_not_look_is_woken_once`);
//! - who waits is woken, each time and wherever it waits by then (`who_waits_is_woken`,
//!   `who_waits_again_is_woken_again`).
//!
//! Who is woken again and again is the same task each time, and looks twice or thrice each time before it waits: its
//! waker stays where it is, and one more look costs a load.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Waker};

use parking_lot::Mutex;

use crate::Revision;

/// One watcher's waker.
#[derive(Default)]
pub(crate) struct WatchWaker {
    woken: AtomicBool,
    /// Whom a call wakes; it stays for the next one.
    task: Mutex<Option<Waker>>,
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
        // First the call: whoever is woken finds it, and who puts its waker there afterwards looks for it then. Who was
        // called and has not looked yet is awake, or does not read.
        if self.woken.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }

    /// Whether it was called since the last look; if not, the task is woken when it is. `waits` is the watcher's own
    /// copy of whom a call wakes.
    pub(crate) fn take_woken(&self, waits: &mut Option<Waker>, cx: &Context<'_>) -> bool {
        if self.take() {
            return true;
        }
        if waits.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            return false;
        }
        *waits = Some(cx.waker().clone());
        *self.task.lock() = Some(cx.waker().clone());
        // It may have been called between the look and the registration.
        self.take()
    }

    fn take(&self) -> bool {
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::AcqRel)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    /// How often it was woken.
    #[derive(Default)]
    struct Counts(AtomicU64);

    impl std::task::Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_does_not_look_is_woken_once() {
        let (waker, counts) = (WatchWaker::default(), Arc::new(Counts::default()));
        let task = Waker::from(counts.clone());
        let (mut waits, cx) = (None, Context::from_waker(&task));
        for looks in 1..3 {
            assert!(!waker.take_woken(&mut waits, &cx));
            for _ in 0..3 {
                waker.wake();
            }
            assert_eq!(counts.0.load(Ordering::Relaxed), looks);
            assert!(waker.take_woken(&mut waits, &cx));
        }
    }

    #[test]
    fn calls_before_the_look_are_one() {
        let (waker, cx) = (WatchWaker::default(), Context::from_waker(Waker::noop()));
        let mut waits = None;
        assert!(!waker.take_woken(&mut waits, &cx));
        waker.wake();
        waker.wake();
        assert!(waker.take_woken(&mut waits, &cx));
        assert!(!waker.take_woken(&mut waits, &cx));
    }

    /// Ready when it is called.
    async fn called(waker: Arc<WatchWaker>, waits: &mut Option<Waker>) {
        let called = poll_fn(|cx| match waker.take_woken(waits, cx) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        timeout(Duration::from_secs(10), called).await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_woken() {
        let waker = Arc::new(WatchWaker::default());
        let theirs = waker.clone();
        let waits = tokio::spawn(async move { called(theirs, &mut None).await });
        tokio::task::yield_now().await;
        waker.wake();
        waits.await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_waits_again_is_woken_again() {
        let (waker, (told, mut heard)) = (Arc::new(WatchWaker::default()), mpsc::channel(1));
        let theirs = waker.clone();
        let waits = tokio::spawn(async move {
            let mut waits = None;
            for _ in 0..10_000 {
                called(theirs.clone(), &mut waits).await;
                told.send(()).await.unwrap();
            }
            // Another task than before.
            tokio::spawn(async move { called(theirs, &mut waits).await }).await.unwrap();
        });
        for _ in 0..10_000 {
            waker.wake();
            heard.recv().await.unwrap();
        }
        waker.wake();
        waits.await.unwrap();
    }
}
