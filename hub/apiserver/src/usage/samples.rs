//! Who is asked for figures, when, and how long an answer counts.
//!
//! ```text
//! nothing known ─ask─▶ first ──a second──▶ ask ─▶ measured ──15 s──▶ ask ─▶ measured …
//!        ▲                                            └──── a minute without a question ────┐
//!        └──────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Processor time is a difference, so it takes two answers. Where somebody looks all the time, the one before is some
//! seconds older, and the window is what lies between. The first who looks waits for a second answer, after a second,
//! or longer where the link is slow: what an answer takes is how wrong its time may be. Nothing is kept on the device
//! for that, and nothing is asked while nobody looks.
//!
//! Guarantees:
//! - an answer counts for all who ask within [`SAMPLE_FRESH_FOR`] (`an_answer_counts_for_a_while`), and those who ask together
//!   have a device asked once, also when one of them goes away (`who_ask_together_ask_once`,
//!   `who_goes_away_leaves_what_was_said_to_the_next`);
//! - the first who looks has figures of a short window, whoever looks on those since the answer before
//!   (`two_answers_make_a_window`), and on a slow link the window is longer (`a_slow_link_has_a_longer_window`);
//! - a device that does not answer is not asked again at once, and holds up nobody else
//!   (`who_does_not_answer_is_left_alone`), however many of them there are, once they have been asked
//!   (`many_who_do_not_answer_hold_up_nobody_else`), one among them neither that answers again
//!   (`one_that_failed_once_has_its_turn_among_those_who_never_answer`);
//! - an answer is as old as its question, be that somebody else's (`an_answer_to_somebody_elses_question_is_as_old_as_that`);
//! - what one device said is nothing of the next one of its name (`a_later_device_of_a_name_is_another_one`);
//! - what is kept of all devices has a bound, and goes with time
//!   (`what_is_kept_has_a_bound`, `what_nobody_asks_for_goes`).

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use freewheel_hub_api::streams::{SpokeFigures, SpokeStreams};
use freewheel_hub_objects::clock::Clock;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::uid::Uid;
use freewheel_link::names::ClusterName;
use futures::future::Either;
use parking_lot::Mutex;
use tokio::sync::{Mutex as Turn, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::doubtful::DoubtfulTurns;
use super::sample::{Asked, Sample};

/// How long an answer counts: as often as metrics-server asks.
pub(crate) const SAMPLE_FRESH_FOR: Duration = Duration::from_secs(15);
/// How long it is one to measure from. What was a minute ago is not what is.
const SAMPLE_KEPT_FOR: Duration = Duration::from_secs(60);
/// The shortest window, and the longest that anybody waits for.
const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));
/// A window is so many times as long as an answer takes.
const WINDOW_FACTOR: u32 = 10;
/// How long one device may take.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long one that has failed is left alone.
const FAILED_DEVICE_PAUSE: Duration = Duration::from_secs(5);
/// So many devices are asked at a time; each may say some megabytes before it is heard out.
const ASKED_MAX: usize = 64;
/// And so many of those who were asked in vain last: each may be asked for as long as it may take.
const DOUBTFUL_ASKED_MAX: usize = 8;
/// How long one that failed is among those.
const DOUBTED_FOR: Duration = Duration::from_secs(600);
/// What all answers that are kept may take: those of some hundred thousand containers. Of whom there is no room for,
/// each question is the first.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// A device: a later one of its name is another one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Device {
    pub(crate) name: ClusterName,
    /// Of its cluster, when there is one.
    pub(crate) uid: Option<Uid>,
}

/// What devices have said.
pub(crate) struct Samples {
    streams: Arc<dyn SpokeStreams>,
    clock: Arc<dyn Clock>,
    turns: Semaphore,
    /// Of those who were asked in vain last.
    doubtful_turns: Arc<DoubtfulTurns>,
    devices: Mutex<Devices>,
    kept: Arc<AtomicUsize>,
}

struct Devices {
    /// Who asks one holds its turn until there is an answer.
    all: HashMap<Device, Arc<Turn<Known>>>,
    swept: Instant,
}

/// What is known of a device.
#[derive(Default)]
struct Known {
    newest: Option<Kept>,
    failed: Option<Instant>,
    /// It was asked, and nothing has come, be it because nobody waited for it.
    doubtful: bool,
}

/// An answer that is counted as long as it is kept.
struct Kept {
    sample: Arc<Sample>,
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Known {
    /// One that still counts.
    fn fresh(&self) -> Option<Arc<Sample>> {
        self.younger(SAMPLE_FRESH_FOR).filter(|sample| sample.window.is_some())
    }

    fn younger(&self, age: Duration) -> Option<Arc<Sample>> {
        let newest = self.newest.as_ref().map(|kept| &kept.sample);
        newest.filter(|sample| sample.asked.at.elapsed() < age).cloned()
    }

    fn is_left_alone(&self) -> bool {
        self.failed.is_some_and(|at| at.elapsed() < FAILED_DEVICE_PAUSE)
    }

    fn says_nothing(&self) -> bool {
        self.younger(SAMPLE_KEPT_FOR).is_none()
            && self.failed.is_none_or(|at| DOUBTED_FOR <= at.elapsed())
    }
}

impl Samples {
    /// Of the devices that are reached by these.
    pub(crate) fn new(streams: Arc<dyn SpokeStreams>, clock: Arc<dyn Clock>) -> Self {
        let devices = Devices { all: HashMap::new(), swept: Instant::now() };
        let turns = Semaphore::new(ASKED_MAX);
        let doubtful_turns = DoubtfulTurns::of(DOUBTFUL_ASKED_MAX);
        let (devices, kept) = (Mutex::new(devices), Arc::default());
        Self { streams, clock, turns, doubtful_turns, devices, kept }
    }

    /// What the device says, with a window; `None` when it does not answer.
    pub(crate) async fn newest(&self, device: &Device) -> Option<Arc<Sample>> {
        let (place, spoke) = (self.place(device), &device.name);
        // Whoever comes next finds the answer; when this one goes away before, the next one asks.
        let mut known = place.lock().await;
        if let Some(fresh) = known.fresh() {
            return Some(fresh);
        }
        if known.is_left_alone() {
            return None;
        }
        match self.measure(spoke, &mut known).await {
            Ok(sample) => Some(sample),
            Err(error) => {
                debug!(cluster = spoke.as_str(), %error, "a device tells no figures");
                known.failed = Some(Instant::now());
                None
            }
        }
    }

    async fn measure(
        &self,
        spoke: &ClusterName,
        known: &mut Known,
    ) -> Result<Arc<Sample>, ApiError> {
        let before = match known.younger(SAMPLE_KEPT_FOR) {
            Some(before) => before,
            None => {
                let first = self.ask(spoke, known, None).await?;
                self.keep(known, &first);
                first
            }
        };
        let Asked { at, took } = before.asked;
        sleep_until(at + (WINDOW_FACTOR * took).clamp(WINDOW.0, WINDOW.1)).await;
        let sample = self.ask(spoke, known, Some(&before)).await?;
        self.keep(known, &sample);
        Ok(sample)
    }

    /// Asks, when it is this device's turn, which it has while it is asked and no longer.
    async fn ask(
        &self,
        spoke: &ClusterName,
        known: &mut Known,
        before: Option<&Sample>,
    ) -> Result<Arc<Sample>, ApiError> {
        let turn = if known.doubtful {
            Either::Right(self.doubtful_turns.turn(known.failed).await)
        } else {
            Either::Left(self.turns.acquire().await.map_err(ApiError::internal)?)
        };
        if known.doubtful {
            known.failed = Some(Instant::now());
        }
        // Until there is an answer: whoever asks may go away before.
        known.doubtful = true;
        let answer = timeout(ANSWER_MAX, self.streams.figures(spoke)).await;
        drop(turn);
        let SpokeFigures { figures, asked, took } = answer.map_err(|_| too_late(spoke))??;
        let asked = Asked { at: asked + took / 2, took };
        let when = (asked, self.clock.unix_seconds());
        let sample = Arc::new(Sample::read(&figures, spoke, when, before));
        (known.failed, known.doubtful) = (None, false);
        Ok(sample)
    }

    /// Keeps it in the place of the one before, where there is room.
    fn keep(&self, known: &mut Known, sample: &Arc<Sample>) {
        known.newest = None;
        let (bytes, all) = (sample.bytes(), self.kept.clone());
        if all.fetch_add(bytes, Ordering::Relaxed) + bytes <= KEPT_BYTES_MAX {
            known.newest = Some(Kept { sample: sample.clone(), bytes, all });
        } else {
            all.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    fn place(&self, device: &Device) -> Arc<Turn<Known>> {
        let mut devices = self.devices.lock();
        if SAMPLE_KEPT_FOR <= devices.swept.elapsed() {
            devices.swept = Instant::now();
            // Who is asked right now is held by those who ask.
            devices.all.retain(|_, known| {
                1 < Arc::strong_count(known)
                    || known.try_lock().is_ok_and(|known| !known.says_nothing())
            });
        }
        devices.all.entry(device.clone()).or_default().clone()
    }
}

fn too_late(spoke: &ClusterName) -> ApiError {
    let text = format!("the spoke {spoke} takes too long to tell its figures");
    ApiError::new(504, "Timeout", text)
}
