//! When who does not read a stream for now looks whether its peer has gone: a reset is heard by reading, and that the
//! peer takes no more ([`SendHalf::is_stopped`](crate::transport::SendHalf::is_stopped)) by writing.
//!
//! Quinn would wake for it, but keeps a mark of each stream that was waited for so and is reset, until the connection
//! ends: guests reset as many as they like.
//!
//! Guarantees:
//! - who has gone is found soon, and who stays is looked for less and less often
//!   (`who_has_gone_is_found_soon_and_who_stays_is_looked_for_less_often`).

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Before the first look, and the longest between two: a look costs an empty frame.
const POLL_AFTER_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(1), Duration::from_secs(4));

/// The looks at one stream.
#[derive(Debug, Default)]
pub struct StopPoll {
    /// Once it had to be looked at.
    next: Option<Look>,
}

#[derive(Debug)]
struct Look {
    pause: Duration,
    due: Pin<Box<Sleep>>,
}

impl StopPoll {
    /// Ready with the first look that finds it. To be polled only while nothing is read.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        mut is_stopped: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<()> {
        let (first, max) = POLL_AFTER_FIRST_AND_MAX;
        let look =
            self.next.get_or_insert_with(|| Look { pause: first, due: Box::pin(sleep(first)) });
        loop {
            ready!(look.due.as_mut().poll(cx));
            if is_stopped(cx) {
                return Poll::Ready(());
            }
            look.pause = (look.pause * 2).min(max);
            look.due.as_mut().reset(Instant::now() + look.pause);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_gone_is_found_soon_and_who_stays_is_looked_for_less_often() {
        let begun = Instant::now();
        for (gone_at, found_at, looks) in [(0, 1, 1), (20, 23, 7), (600, 603, 152)] {
            let (mut all, mut count) = (StopPoll::default(), 0);
            let start = begun.elapsed();
            let found = poll_fn(|cx| {
                all.poll(cx, |_| {
                    count += 1;
                    Duration::from_secs(gone_at) <= begun.elapsed() - start
                })
            });
            found.await;
            assert_eq!(((begun.elapsed() - start).as_secs(), count), (found_at, looks));
        }
    }
}
