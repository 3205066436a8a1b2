//! What a spoke is answered to its reports: up to where they are durable, which cannot be kept, and what its people are to
//! know of what it says.
//!
//! Guarantees:
//! - a refusal goes out before the answer that is as new, which does not count for it
//!   (`what_cannot_be_kept_is_said_before_what_is`);
//! - what waits is bounded, and who refuses more waits (`who_refuses_more_than_may_wait_waits`).

use freewheel_link::message::{HubToSpoke, RefusalV1};
use freewheel_link::report::ReportStamp;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Refusals that wait to be said.
const WAITING_REFUSALS_MAX: usize = 64;

/// One session's.
#[derive(Default)]
pub(crate) struct Answers {
    waiting: Mutex<Waiting>,
    went: Notify,
}

#[derive(Default)]
struct Waiting {
    taken: Option<ReportStamp>,
    refused: Vec<(ReportStamp, RefusalV1)>,
    notice: Option<String>,
}

impl Answers {
    /// Reports up to here are durable, but for those that were refused.
    pub(crate) fn took(&self, stamp: ReportStamp) {
        self.waiting.lock().taken = Some(stamp);
    }

    /// The people of the device are to know this; of several the newest.
    pub(crate) fn notice(&self, text: String) {
        self.waiting.lock().notice = Some(text);
    }

    /// This one cannot be kept. Waits while there is no room for the answer.
    pub(crate) async fn refuse(&self, stamp: ReportStamp, why: RefusalV1) {
        loop {
            {
                let mut waiting = self.waiting.lock();
                if waiting.refused.len() < WAITING_REFUSALS_MAX {
                    return waiting.refused.push((stamp, why));
                }
            }
            self.went.notified().await;
        }
    }

    /// What is to be said now, in this order.
    pub(crate) fn take(&self) -> impl Iterator<Item = HubToSpoke> + use<> {
        let Waiting { taken, refused, notice } = std::mem::take(&mut *self.waiting.lock());
        if !refused.is_empty() {
            self.went.notify_one();
        }
        let refused = refused.into_iter().map(|(of, why)| HubToSpoke::ReportRefused(of, why));
        refused.chain(taken.map(HubToSpoke::ReportsTaken)).chain(notice.map(HubToSpoke::Notice))
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn stamp(sequence: u64) -> ReportStamp {
        ReportStamp { boot_epoch: 1, sequence }
    }

    fn refusal() -> RefusalV1 {
        RefusalV1::new("RequestEntityTooLarge", "too large")
    }

    #[tokio::test]
    async fn what_cannot_be_kept_is_said_before_what_is() {
        let answers = Answers::default();
        answers.took(stamp(3));
        answers.refuse(stamp(5), refusal()).await;
        answers.took(stamp(6));
        let refused = HubToSpoke::ReportRefused(stamp(5), refusal());
        let taken = HubToSpoke::ReportsTaken(stamp(6));
        assert_eq!(answers.take().collect::<Vec<_>>(), [refused, taken]);
        assert_eq!(answers.take().count(), 0);
    }

    #[tokio::test]
    async fn who_refuses_more_than_may_wait_waits() {
        let answers = Answers::default();
        for sequence in 0..WAITING_REFUSALS_MAX as u64 {
            answers.refuse(stamp(sequence), refusal()).await;
        }
        let mut waits = Box::pin(answers.refuse(stamp(99), refusal()));
        assert!((&mut waits).now_or_never().is_none());
        assert_eq!(answers.take().count(), WAITING_REFUSALS_MAX);
        assert!(waits.now_or_never().is_some());
        assert_eq!(answers.take().count(), 1);
    }
}
