//! How a running container is told to stop.
//!
//! ```text
//! beginning ──begins──▶ running ──stop──▶ stopping: told, and its listeners are closed ──ends──▶ gone, with its own code
//!     │                                        └──grace is over──▶ killed
//!     └──stop──▶ ended at once: nothing has run yet
//! ```
//!
//! A guest that has no ear for the stop goes on, as a container's first process does that handles no SIGTERM: Linux
//! does not end it for that. It may be a job in the middle of its work, and nobody but its author knows.
//!
//! Guarantees:
//! - whoever runs has its whole grace period, whether it can hear the stop or not
//!   (`a_job_that_is_stopped_may_finish_and_its_own_code_counts`);
//! - what still runs then is killed (`who_cannot_hear_a_stop_is_killed_when_its_grace_is_over`);
//! - whoever listens, serves or has looked may have heard of it, and nobody else
//!   (`who_has_no_ear_for_a_stop_is_not_told`);
//! - a second stop makes the period shorter, never longer (`a_shorter_grace_period_is_still_one`,
//!   `a_grace_period_is_never_stretched`);
//! - what was stopped before it ran does not begin (`who_is_stopped_before_it_runs_does_not_begin`), and is gone at once,
//!   whatever its module waits for (`who_is_stopped_before_its_module_is_loaded_is_gone_at_once`).

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use freewheel_spoke_net::Listener;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Why a container was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndCause {
    /// It was asked to stop before anything of it ran.
    Early,
    /// It did not stop in time.
    Kill,
}

/// How far a container has come.
#[derive(Default)]
struct Course {
    runs: bool,
    /// When its grace is over, once it was asked to stop.
    deadline: Option<Instant>,
}

/// A container's end, from outside.
#[derive(Default)]
pub(crate) struct Shutdown {
    stopping: CancellationToken,
    kill: CancellationToken,
    cause: Mutex<Option<EndCause>>,
    listeners: Mutex<Vec<Weak<Listener>>>,
    course: Mutex<Course>,
    /// It has an ear for a stop.
    hears: AtomicBool,
}

impl Shutdown {
    /// It has done something by which it hears of a stop.
    pub(crate) fn hears(&self) {
        self.hears.store(true, Relaxed);
    }

    /// Whether it was asked to stop and may have heard it.
    pub(crate) fn was_asked(&self) -> bool {
        self.stopping.is_cancelled() && self.hears.load(Relaxed)
    }

    /// Cancelled when the container is to stop.
    pub(crate) const fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Cancelled when the container is to be gone.
    pub(crate) const fn killed(&self) -> &CancellationToken {
        &self.kill
    }

    /// Why it was killed, if it was.
    pub(crate) fn cause(&self) -> Option<EndCause> {
        *self.cause.lock()
    }

    /// The container listens: closing the port tells it to stop.
    pub(crate) fn listens(&self, listener: &Arc<Listener>) {
        self.hears();
        let mut listeners = self.listeners.lock();
        listeners.retain(|known| 0 < known.strong_count());
        listeners.push(Arc::downgrade(listener));
        if self.stopping.is_cancelled() {
            listener.close();
        }
    }

    /// Its own code is about to run; whether it may: not when it was asked to stop before.
    pub(crate) fn begins(&self) -> bool {
        let mut course = self.course.lock();
        course.runs = course.deadline.is_none();
        course.runs
    }

    /// What is left of the grace period, once it was asked to stop.
    pub(crate) fn left(&self) -> Option<Duration> {
        let deadline = self.course.lock().deadline;
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Asks it to stop within `grace`; once more: at the latest then. Whether there is anything to wait for.
    pub(crate) fn stop(&self, grace: Duration) -> bool {
        let now = Instant::now();
        // A period beyond all time is one without an end.
        let until = now.checked_add(grace).unwrap_or_else(|| now + FOR_EVER);
        let runs = {
            let mut course = self.course.lock();
            course.deadline = Some(course.deadline.map_or(until, |known| known.min(until)));
            course.runs
        };
        self.stopping.cancel();
        let listeners = std::mem::take(&mut *self.listeners.lock());
        for listener in listeners.iter().filter_map(Weak::upgrade) {
            listener.close();
        }
        runs
    }

    /// Ends it. The first cause stands.
    pub(crate) fn kill(&self, cause: EndCause) {
        self.cause.lock().get_or_insert(cause);
        self.kill.cancel();
    }
}

/// A grace period that nobody lives to see the end of.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_stopped_before_it_runs_does_not_begin() {
        let shutdown = Shutdown::default();
        assert!(!shutdown.stop(Duration::from_secs(30)), "nothing to wait for");
        assert!(!shutdown.begins());
        let running = Shutdown::default();
        assert!(running.begins() && running.left().is_none());
        assert!(running.stop(Duration::MAX));
        assert!(running.left().is_some());
    }

    #[test]
    fn who_has_no_ear_for_a_stop_is_not_told() {
        for hears in [false, true] {
            let shutdown = Shutdown::default();
            assert!(shutdown.begins());
            if hears {
                shutdown.hears();
            }
            assert!(!shutdown.was_asked(), "it is to go on");
            shutdown.stop(Duration::from_secs(30));
            assert_eq!(shutdown.was_asked(), hears);
        }
    }

    #[test]
    fn a_grace_period_is_never_stretched() {
        let shutdown = Shutdown::default();
        assert!(shutdown.begins() && shutdown.stop(Duration::from_secs(5)));
        assert!(shutdown.stop(Duration::from_secs(60)));
        assert!(shutdown.left().is_some_and(|left| left <= Duration::from_secs(5)));
    }
}
