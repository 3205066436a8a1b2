//! The signal to stop, for the many that wait for it beside something else.
//!
//! Until then, being polled for another reason costs a look at a flag, not a lock that every connection shares. Who waits
//! for more than the signal does so with a [waker of its own](own_waker).
//!
//! Guarantees:
//! - who waits is woken when it begins (`who_waits_is_woken_however_often_it_was_polled`).

pub(crate) mod own_waker;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The signal.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    begun: AtomicBool,
    token: CancellationToken,
}

impl Shutdown {
    /// Gives it.
    pub(crate) fn begin(&self) {
        // First the flag: whom the token wakes finds it.
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }

    /// Ready when it was given.
    pub(crate) fn begun(self: &Arc<Self>) -> Begun {
        let signal = Box::pin(self.token.clone().cancelled_owned());
        Begun { stop: Arc::clone(self), signal, woken: None }
    }
}

/// Waits for [`Shutdown::begin`].
pub(crate) struct Begun {
    stop: Arc<Shutdown>,
    signal: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Whom the signal wakes.
    woken: Option<Waker>,
}

impl Future for Begun {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stop.begun.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if self.woken.as_ref().is_some_and(|woken| woken.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        self.woken = Some(cx.waker().clone());
        self.signal.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn who_waits_is_woken_however_often_it_was_polled() {
        let stop = Arc::new(Shutdown::default());
        let mut begun = stop.begun();
        assert!((&mut begun).now_or_never().is_none());
        let waits = tokio::spawn(async move {
            // Twice by the task that is to be woken, which is another one than before.
            assert!(futures::poll!(&mut begun).is_pending());
            begun.await;
        });
        tokio::task::yield_now().await;
        stop.begin();
        timeout(Duration::from_secs(10), waits).await.unwrap().unwrap();
        assert!(stop.begun().now_or_never().is_some(), "and who comes later does not wait");
    }
}
