//! What went wrong in an HTTP container often enough to be counted, and is told now and then.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use freewheel_spoke_agent::ports::Input;
use parking_lot::Mutex;

use crate::container::Container;

/// Seconds between two words about the same trouble.
const FAILURE_TOLD_EVERY_SECONDS: u32 = 10;

/// Troubles of one container.
#[derive(Default)]
pub(super) struct FailureCounts {
    turned_away: AtomicU32,
    reported: Mutex<ReportedFailures>,
}

/// What was told of them, and when.
#[derive(Default)]
struct ReportedFailures {
    memory: u64,
    memory_at: Option<u32>,
    turned_away_at: Option<u32>,
}

impl FailureCounts {
    /// No instance was free for a request.
    pub(super) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Relaxed);
    }

    /// An instance was refused memory. The first time is told at once.
    pub(super) fn out_of_memory(&self, container: &Container) {
        container.meter.usage.oom_ended.fetch_add(1, Relaxed);
        let mut reported = self.reported.lock();
        if reported.memory_at.is_none() {
            reported.memory_at = Some(0);
            tell_memory(&mut reported, container);
        }
    }

    /// Tells what is new and was not told for a while.
    pub(super) fn report(&self, container: &Container, now: u32) {
        let due = |at: Option<u32>| {
            at.is_none_or(|at| FAILURE_TOLD_EVERY_SECONDS <= now.saturating_sub(at))
        };
        let mut reported = self.reported.lock();
        let oom = container.meter.usage.oom_ended.load(Relaxed);
        if reported.memory < oom && due(reported.memory_at) {
            reported.memory_at = Some(now);
            tell_memory(&mut reported, container);
        }
        if due(reported.turned_away_at) {
            let count = self.turned_away.swap(0, Relaxed);
            if 0 < count {
                reported.turned_away_at = Some(now);
                let most = container.start.http.concurrency;
                container.log.note(&format!(
                    "freewheel: {count} requests were answered with 503: no instance was free (up to {most} run \
                     at a time, as many as the memory limit holds)"
                ));
            }
        }
    }
}

fn tell_memory(reported: &mut ReportedFailures, container: &Container) {
    reported.memory = container.meter.usage.oom_ended.load(Relaxed);
    let id = container.start.id.clone();
    (container.deliver)(Input::InstanceOutOfMemory(id, reported.memory));
}
