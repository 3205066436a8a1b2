//! In which order pods come back after the agent itself has died several times in a row: something that they do may
//! have killed it, and would again.
//!
//! ```text
//! Well                                                   fewer than three bad ends in a row
//! OneByOne { queue, suspects } ─gap─▶ … ─both are empty─▶ Watched ─a good while─▶ Well, and the ledger forgives
//! ```
//!
//! A suspect that is well until the next one's turn comes is none any more. Who takes longer than that to kill the agent
//! is not blamed, but the one after it: so each time that one is blamed who was suspected already, the suspects wait
//! twice as long.
//!
//! While nobody is suspected, the oldest pod comes first and the newest last. Whoever was being brought back when the
//! agent died is a suspect from then on, and the others need no turns: they come together, and a good while after them
//! the suspects, one by one. Should the agent die of those that came together, there is one more among them, and they
//! come one by one until it is found.
//!
//! Guarantees:
//! - a suspect waits, also where there is no other pod, and nobody else waits with it, whether it ran before or is
//!   new (`a_lone_suspect_waits_as_any_other`, `the_pod_that_was_tried_when_the_agent_died_comes_last`,
//!   `new_pods_do_not_wait_with_the_suspects`);
//! - it waits seconds at first, since whoever else ended the agent may have had nothing to do with it, and twice as
//!   long each time that it is blamed again (`a_suspect_waits_seconds_at_first_and_twice_as_long_each_time`), but never for
//!   longer than a container that fails where it is the only pod (`a_lone_suspect_waits_no_longer_than_a_container_that_fails`);
//! - whoever else kills the agent is found, too (`one_more_that_kills_the_agent_is_found_among_the_others`);
//! - its turn comes, whoever else comes meanwhile (`suspects_come_back_however_many_new_pods_come`);
//! - suspects that are gone explain nothing (`a_suspect_that_is_gone_explains_nothing`);
//! - who takes minutes to kill the agent is found beside a suspect that does nothing
//!   (`who_kills_slowly_is_found_beside_a_suspect_that_does_nothing`);
//! - those that need turns are back within two minutes, unless they are more than sixty
//!   (`ten_pods_are_back_within_two_minutes_after_however_many_bad_ends`);
//! - a power cut is nobody's doing, and a machine that goes again and again is (`power_cuts_hold_no_pod_back`).
//!
//! Not held: one that takes longer than [`SUSPECT_GAP_FIRST_AND_MAX`] allows is not found, and the device runs that long
//! between two ends; nor is a slow one found among more pods than the ledger keeps suspects.

use std::collections::VecDeque;
use std::time::Duration;

use freewheel_link::report::UnixMillis;

use crate::pods::backoff;

/// Bad ends in a row that are bad luck.
const BAD_ENDS_TOLERATED: u32 = 3;
/// Between two pods: at first, and at most.
const RECOVERY_GAP_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(60));
/// In which all of them come back where they are few: who kills the agent after a longer while than its turn lasts is
/// found among the suspects.
const ALL_TURNS: Duration = Duration::from_secs(120);
/// Before a pod during whose start the agent has died: at first, as before a container that has failed, and at most.
const SUSPECT_GAP_FIRST_AND_MAX: (Duration, Duration) =
    (backoff::RESTART_BACKOFF_FIRST, Duration::from_secs(3600));
/// A life that lasts this long with all of its pods is a good one. It is longer than the first waits of suspects, so that
/// one who takes minutes to kill the agent is not forgiven before they have grown.
const RECOVERED_AFTER: Duration = backoff::CRASH_STREAK_RESET_AFTER;

/// How the agent comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// There is nothing to forgive.
    Well,
    /// Pods come back one after another.
    OneByOne {
        /// Between two that are not suspected, and between two suspects.
        gaps: (Duration, Duration),
        /// Those that are not suspected, while they need turns.
        queue: HeldPods,
        /// Those that are suspected.
        suspects: HeldPods,
        /// The last of them that was brought back.
        tried: Option<String>,
    },
    /// All are back.
    Watched {
        /// When that was long enough.
        until: Duration,
    },
}

/// UIDs of pods that wait, and when the next one comes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeldPods {
    uids: VecDeque<String>,
    next: Duration,
}

impl HeldPods {
    fn due(&self) -> Option<Duration> {
        (!self.uids.is_empty()).then_some(self.next)
    }

    /// Takes the next one that is held still, when its time has come; the one after it comes `gap` later.
    fn take(
        &mut self,
        now: Duration,
        gap: Duration,
        held: impl FnMut(&String) -> bool,
    ) -> Option<String> {
        self.due().filter(|due| *due <= now)?;
        self.next = now + gap;
        std::iter::from_fn(|| self.uids.pop_front()).find(held)
    }
}

/// A pod that comes back: its place among the suspects, when it began, its UID. `None`, which is nobody's suspicion,
/// comes first.
pub(super) type Returning = (Option<usize>, UnixMillis, String);

/// The bad ends so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadEnds {
    /// In a row.
    pub(super) count: u32,
    /// How often one was blamed who was suspected already.
    pub(super) blamed_again: u32,
    /// The suspects do not explain them all: the others need turns.
    pub(super) one_more: bool,
    /// The machine went under the last of them, too, which is counted for itself until there was a good while.
    pub(super) cut: bool,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This pod comes back, and the other is no suspect any more.
    Of(String, Option<String>),
    /// All is forgiven.
    Well,
    /// Nobody is to come now.
    Nobody,
}

impl Recovery {
    /// After these bad ends.
    pub(super) fn begin(ends: BadEnds, mut pods: Vec<Returning>, now: Duration) -> Self {
        match ends.count {
            0 if !ends.cut => return Self::Well,
            0..BAD_ENDS_TOLERATED => return Self::Watched { until: now + RECOVERED_AFTER },
            BAD_ENDS_TOLERATED.. => {}
        }
        pods.sort();
        // Its own wait is all that a lone one costs; whoever kills the agent from outside looks just like it.
        let most = match pods.as_slice() {
            [_] => backoff::RESTART_BACKOFF_MAX,
            [..] => SUSPECT_GAP_FIRST_AND_MAX.1,
        };
        let (suspects, mut others): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|(suspect, ..)| suspect.is_some());
        if !ends.one_more {
            others.clear();
        }
        let uids = |pods: Vec<Returning>| pods.into_iter().map(|(.., uid)| uid).collect();
        // When the last of the others has been well for a while. Pods that come later change nothing about it.
        let waits = u32::try_from(others.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let gaps = (gap(ends.count, waits), suspect_gap(ends.blamed_again).min(most));
        let last = gaps.0.saturating_mul(waits);
        Self::OneByOne {
            gaps,
            queue: HeldPods { uids: uids(others), next: now },
            suspects: HeldPods {
                uids: uids(suspects),
                next: now.saturating_add(last).saturating_add(gaps.1),
            },
            tried: None,
        }
    }

    /// Those that wait, and how long each does that is suspected.
    pub(super) fn waiting(&self, now: Duration) -> Vec<(String, Option<Duration>)> {
        let Self::OneByOne { gaps, queue, suspects, .. } = self else { return Vec::new() };
        let others = queue.uids.iter().map(|uid| (uid.clone(), None));
        let suspected = (0_u32..).zip(&suspects.uids).map(|(before, uid)| {
            let wait = suspects.next.saturating_sub(now);
            (uid.clone(), Some(wait.saturating_add(gaps.1.saturating_mul(before))))
        });
        others.chain(suspected).collect()
    }

    /// Whether a pod that is new waits. It comes after those that need turns; where only suspects do, it starts.
    pub(super) fn queue(&mut self, uid: &str, now: Duration) -> bool {
        match self {
            // Until the next turn, what happens is the doing of whoever had the last one.
            Self::OneByOne { queue, .. } if !queue.uids.is_empty() || now < queue.next => {
                queue.uids.push_back(uid.to_owned());
                true
            }
            Self::Well | Self::OneByOne { .. } | Self::Watched { .. } => false,
        }
    }

    /// When something is to be done.
    pub(super) fn due(&self) -> Option<Duration> {
        match self {
            Self::Well => None,
            Self::OneByOne { queue, suspects, .. } => {
                let next = queue.due().into_iter().chain(suspects.due()).min();
                // With nobody left there is no reason to wait.
                Some(next.unwrap_or(Duration::ZERO))
            }
            Self::Watched { until } => Some(*until),
        }
    }

    /// Whose turn it is, of those that are `held` still.
    pub(super) fn next(&mut self, now: Duration, held: impl Fn(&String) -> bool) -> Turn {
        if self.due().is_none_or(|due| now < due) {
            return Turn::Nobody;
        }
        let Self::OneByOne { gaps, queue, suspects, tried } = self else {
            *self = Self::Well;
            return Turn::Well;
        };
        let gaps = *gaps;
        let found = match suspects.take(now, gaps.1, &held) {
            // One at a time: what happens next is its doing.
            Some(uid) => {
                if !queue.uids.is_empty() {
                    queue.next = queue.next.max(now + gaps.0);
                }
                let well = tried.replace(uid.clone());
                Some((uid, well))
            }
            None => queue.take(now, gaps.0, &held).map(|uid| (uid, None)),
        };
        if queue.uids.is_empty() && suspects.uids.is_empty() {
            *self = Self::Watched { until: now + RECOVERED_AFTER.max(gaps.1) };
        }
        found.map_or(Turn::Nobody, |(uid, well)| Turn::Of(uid, well))
    }
}

/// Before a suspect, when one was blamed so often that was suspected already.
fn suspect_gap(blamed_again: u32) -> Duration {
    let (first, most) = SUSPECT_GAP_FIRST_AND_MAX;
    (first * 2_u32.saturating_pow(blamed_again.min(16))).min(most)
}

/// Between two pods, after this many bad ends, when so many wait for the first of them.
fn gap(crashes: u32, waits: u32) -> Duration {
    let doublings = crashes.saturating_sub(BAD_ENDS_TOLERATED).min(16);
    let (first, most) = RECOVERY_GAP_FIRST_AND_MAX;
    let most = most.min(ALL_TURNS / waits.max(1)).max(first);
    (first * 2_u32.saturating_pow(doublings)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_suspect_waits_no_longer_than_a_container_that_fails() {
        let ends = BadEnds { count: 12, blamed_again: 9, one_more: false, cut: false };
        let mut pods: Vec<Returning> = vec![(Some(0), 0, "a".to_owned())];
        let alone = Recovery::begin(ends, pods.clone(), Duration::ZERO);
        assert_eq!(alone.due(), Some(backoff::RESTART_BACKOFF_MAX));
        pods.push((None, 0, "b".to_owned()));
        let beside = Recovery::begin(ends, pods, Duration::ZERO);
        assert_eq!(beside.due(), Some(SUSPECT_GAP_FIRST_AND_MAX.1));
    }

    #[test]
    fn ten_pods_are_back_within_two_minutes_after_however_many_bad_ends() {
        for count in BAD_ENDS_TOLERATED..40 {
            let ends = BadEnds { count, blamed_again: 0, one_more: true, cut: false };
            let pods = (0..10).map(|pod| (None, pod, pod.to_string())).collect();
            let mut recovery = Recovery::begin(ends, pods, Duration::ZERO);
            let mut turns = Vec::new();
            while matches!(recovery, Recovery::OneByOne { .. }) {
                let now = recovery.due().unwrap();
                if let Turn::Of(..) = recovery.next(now, |_| true) {
                    turns.push(now);
                }
            }
            assert_eq!(turns.len(), 10);
            assert!(turns[9] <= Duration::from_secs(120), "{count}: {turns:?}");
            let apart = turns.windows(2).all(|two| Duration::from_secs(2) <= two[1] - two[0]);
            assert!(apart, "{count}: {turns:?}");
        }
        // Few have longer turns, and many are not brought back together.
        assert_eq!(gap(40, 1), RECOVERY_GAP_FIRST_AND_MAX.1);
        assert_eq!(gap(40, 1000), RECOVERY_GAP_FIRST_AND_MAX.0);
    }
}
