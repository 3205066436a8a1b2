//! What a session sends to its spoke: answers to reports, and plans.
//!
//! Guarantees:
//! - a spoke that reads nothing of it is not called ready, whatever else it says, until it goes on
//!   (`a_spoke_that_does_not_read_is_called_late_until_it_does`);
//! - however long that is, its link stays: connections of its pods go on over it
//!   (`a_spoke_that_reads_nothing_for_long_keeps_its_link`);
//! - one that reads slowly keeps both (`a_spoke_that_reads_slowly_is_not_late`).

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;

use freewheel_link::frame::{self, FrameError};
use freewheel_link::generation::Generation;
use freewheel_link::hub_session::PLAN_TIMEOUT;
use freewheel_link::message::HubToSpoke;
use freewheel_link::transport::SendHalf;
use tokio::io::AsyncWriteExt as _;
use tokio::select;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::warn;

use crate::live_session::Session;
use crate::session_end::End;

/// For so long a spoke may take not one byte before it is called late. The slowest link takes many meanwhile.
const STANDING_TIME_MAX: Duration = PLAN_TIMEOUT;

impl Session<'_> {
    pub(crate) async fn send_messages(
        &self,
        send: &mut Box<dyn SendHalf>,
    ) -> Result<Infallible, End> {
        let (mut late, mut reached) = (false, Generation::NONE);
        loop {
            for answer in self.answers.take() {
                self.send_message(send, &answer).await?;
            }
            let (next, wake) = {
                let mut state = self.state.lock();
                let (now, whose) = (self.now(), &self.identity.uid);
                // Coming back with nothing costs as much as asking for everything.
                if state.owes_all(now) && !self.inner.returns.take(whose) {
                    warn!(cluster = %self.cluster, "the spoke comes back with nothing known again and again");
                    state.rest_until(now + self.inner.returns.wait(whose));
                }
                let next = state.poll(now);
                if state.is_quiet() {
                    // Where it was taken that has been seen; where it turned out to be held, nothing has landed.
                    self.pushed.lock().take();
                    self.landed.notify_one();
                }
                if std::mem::replace(&mut late, state.is_late()) != state.is_late() {
                    self.lateness.changed.notify_one();
                }
                if std::mem::replace(&mut reached, state.reached()) != state.reached() {
                    self.unobserved.note_reached();
                }
                (next, state.wake())
            };
            match (next, wake) {
                (Some(message), _) => {
                    if matches!(message, HubToSpoke::Plan(_)) {
                        self.inner.meters.pushes.inc();
                        self.pushed.lock().get_or_insert_with(Instant::now);
                    }
                    self.send_message(send, &message).await?;
                }
                (None, None) => self.news.notified().await,
                (None, Some(wake)) => select! {
                    biased;
                    () = self.news.notified() => {}
                    () = sleep_until(self.started + wake) => {}
                },
            }
        }
    }

    /// Writes one message.
    async fn send_message(
        &self,
        send: &mut Box<dyn SendHalf>,
        message: &HubToSpoke,
    ) -> Result<(), End> {
        let frame = frame::encode(message)?;
        let mut rest = &*frame;
        while !rest.is_empty() {
            match timeout(STANDING_TIME_MAX, send.write(rest)).await {
                Ok(Ok(0)) => {
                    return Err(FrameError::Io(std::io::ErrorKind::WriteZero.into()).into());
                }
                Ok(Ok(taken)) => {
                    rest = rest.get(taken..).unwrap_or_default();
                    self.note_standing(false);
                }
                Ok(Err(error)) => return Err(FrameError::Io(error).into()),
                Err(_) => self.note_standing(true),
            }
        }
        send.flush().await.map_err(|error| FrameError::Io(error).into())
    }

    fn note_standing(&self, stands: bool) {
        if self.lateness.stands.swap(stands, Ordering::Relaxed) != stands {
            self.lateness.changed.notify_one();
        }
    }
}
