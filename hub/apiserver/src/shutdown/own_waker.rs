//! A waker of its own for what is seldom ready and waits in a task that is often woken for something else.
//!
//! ```text
//! task ─▶ woken? ─no──▶ pending, at the cost of a load
//!            └──yes─▶ polled with the waker of its own ─▶ which wakes the task when there is something
//! ```
//!
//! A watch waits for the hub's end, its cluster's, its kind's and its own beside its events, and its connection for as
//! much: to ask all of them for each event of each watcher would cost more than the event.
//!
//! Guarantees:
//! - what has woken nobody is not polled (`what_has_woken_nobody_is_not_polled`);
//! - what has something to say is polled, whichever task waits by then (`what_wakes_is_polled_wherever_it_waits`).

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// Wakes a task, and remembers that it did.
struct Call {
    came: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Call {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // First the call: whoever is woken finds it.
        self.came.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock() {
            task.wake_by_ref();
        }
    }
}

/// The waker, for as many as are always polled together.
pub(crate) struct OwnWaker {
    call: Arc<Call>,
    /// The same as those get it.
    waker: Waker,
    /// The task that it wakes.
    waits: Option<Waker>,
}

impl OwnWaker {
    /// Nobody was polled yet.
    pub(crate) fn new() -> Self {
        let call = Arc::new(Call { came: AtomicBool::new(true), task: Mutex::new(None) });
        Self { waker: call.clone().into(), call, waits: None }
    }

    /// What to poll all of them with; `None` when none of them has woken anybody since then. Who does not poll all of
    /// them says so: [`OwnWaker::poll_again`].
    pub(crate) fn woken(&mut self, cx: &Context<'_>) -> Option<Waker> {
        if self.waits.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
            self.waits = Some(cx.waker().clone());
            *self.call.task.lock() = Some(cx.waker().clone());
        }
        let came =
            self.call.came.load(Ordering::Relaxed) && self.call.came.swap(false, Ordering::AcqRel);
        came.then(|| self.waker.clone())
    }

    /// They are to be polled the next time, whatever happens until then.
    pub(crate) fn poll_again(&self) {
        self.call.came.store(true, Ordering::Release);
    }
}

/// A future with such a waker.
pub(crate) struct SeldomReady<F> {
    future: F,
    waker: OwnWaker,
}

impl<F> SeldomReady<F> {
    pub(crate) fn new(future: F) -> Self {
        Self { future, waker: OwnWaker::new() }
    }
}

impl<F: Future + Unpin> Future for SeldomReady<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.waker.woken(cx) {
            Some(waker) => Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker)),
            None => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_has_woken_nobody_is_not_polled() {
        let (says, hears) = oneshot::channel::<()>();
        let (polls, mut hears) = (Arc::new(AtomicUsize::new(0)), Box::pin(hears));
        let counted = polls.clone();
        let mut waits = SeldomReady::new(poll_fn(move |cx| {
            counted.fetch_add(1, Ordering::SeqCst);
            hears.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            assert!(futures::poll!(&mut waits).is_pending());
        }
        assert_eq!(polls.load(Ordering::SeqCst), 1);
        says.send(()).unwrap();
        assert!(futures::poll!(&mut waits).is_ready());
        let (mut own, cx) = (OwnWaker::new(), Context::from_waker(Waker::noop()));
        assert!(own.woken(&cx).is_some() && own.woken(&cx).is_none());
        own.poll_again();
        assert!(own.woken(&cx).is_some());
    }

    #[tokio::test]
    async fn what_wakes_is_polled_wherever_it_waits() {
        let (says, hears) = oneshot::channel::<()>();
        let mut waits = SeldomReady::new(hears);
        assert!(futures::poll!(&mut waits).is_pending());
        // Another task than the one that waited first.
        let waits = tokio::spawn(async move {
            assert!(futures::poll!(&mut waits).is_pending());
            waits.await
        });
        tokio::task::yield_now().await;
        says.send(()).unwrap();
        timeout(Duration::from_secs(10), waits).await.unwrap().unwrap().unwrap();
    }
}
