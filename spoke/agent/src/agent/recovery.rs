//! In which order pods come back after the agent itself has died several times in a row: something that they do may
//! have killed it, and would again.
//!
//! ```text
//! Well                                                   fewer than three bad ends in a row
//! OneByOne { queue, suspects } ─gap─▶ … ─both are empty─▶ Watched ─a good while─▶ Well, and the ledger forgives
//! ```
//!
//! While nobody is suspected, the oldest pod comes first and the newest last. Whoever was being brought back when the
//! agent died is a suspect from then on, and the others need no turns: they come together, and a good while after them
//! the suspects, one by one. Should the agent die of those that came together, there is one more among them, and they
//! come one by one until it is found.
//!
//! Guarantees:
//! - a suspect waits long, also where there is no other pod, and nobody else waits with it, whether it ran before or is
//!   new (`a_lone_suspect_waits_as_any_other`, `the_pod_that_was_tried_when_the_agent_died_comes_last`,
//!   `new_pods_do_not_wait_with_the_suspects`);
//! - whoever else kills the agent is found, too (`one_more_that_kills_the_agent_is_found_among_the_others`);
//! - its turn comes, whoever else comes meanwhile (`suspects_come_back_however_many_new_pods_come`).

use std::collections::VecDeque;
use std::time::Duration;

use freewheel_link::report::UnixMillis;

/// Bad ends in a row that are bad luck.
const BAD_ENDS_TOLERATED: u32 = 3;
/// Between two pods: at first, and at most.
const RECOVERY_GAP_FIRST_AND_MAX: (Duration, Duration) =
    (Duration::from_secs(2), Duration::from_secs(60));
/// Before a pod during whose start the agent has died.
const SUSPECT_GAP: Duration = Duration::from_secs(300);
/// A life that lasts this long with all of its pods is a good one.
const RECOVERED_AFTER: Duration = Duration::from_secs(300);

/// How the agent comes back.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// There is nothing to forgive.
    Well,
    /// Pods come back one after another.
    OneByOne {
        /// Bad ends.
        crashes: u32,
        /// Those that are not suspected, while they need turns.
        queue: HeldPods,
        /// Those that are suspected.
        suspects: HeldPods,
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

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// This pod comes back.
    Of(String),
    /// All is forgiven.
    Well,
    /// Nobody is to come now.
    Nobody,
}

impl Recovery {
    /// After so many bad ends. `explained`: the suspects explain them, so that the others need no turns.
    pub(super) fn begin(
        crashes: u32,
        mut pods: Vec<Returning>,
        explained: bool,
        now: Duration,
    ) -> Self {
        match crashes {
            0 => return Self::Well,
            1..BAD_ENDS_TOLERATED => return Self::Watched { until: now + RECOVERED_AFTER },
            BAD_ENDS_TOLERATED.. => {}
        }
        pods.sort();
        let (suspects, mut others): (Vec<_>, Vec<_>) =
            pods.into_iter().partition(|(suspect, ..)| suspect.is_some());
        if explained {
            others.clear();
        }
        let uids = |pods: Vec<Returning>| pods.into_iter().map(|(.., uid)| uid).collect();
        // When the last of the others has been well for a while. Pods that come later change nothing about it.
        let gaps = u32::try_from(others.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let last = gap(crashes).saturating_mul(gaps);
        Self::OneByOne {
            crashes,
            queue: HeldPods { uids: uids(others), next: now },
            suspects: HeldPods {
                uids: uids(suspects),
                next: now.saturating_add(last).saturating_add(SUSPECT_GAP),
            },
        }
    }

    /// Those that wait, and whether each is suspected.
    pub(super) fn waiting(&self) -> Vec<(String, bool)> {
        let Self::OneByOne { queue, suspects, .. } = self else { return Vec::new() };
        let of = |waiting: &HeldPods, suspected| {
            waiting.uids.iter().map(move |uid| (uid.clone(), suspected)).collect::<Vec<_>>()
        };
        [of(queue, false), of(suspects, true)].concat()
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
        let Self::OneByOne { crashes, queue, suspects } = self else {
            *self = Self::Well;
            return Turn::Well;
        };
        let found = match suspects.take(now, SUSPECT_GAP, &held) {
            // One at a time: what happens next is its doing.
            Some(uid) => {
                if !queue.uids.is_empty() {
                    queue.next = queue.next.max(now + gap(*crashes));
                }
                Some(uid)
            }
            None => queue.take(now, gap(*crashes), &held),
        };
        if queue.uids.is_empty() && suspects.uids.is_empty() {
            *self = Self::Watched { until: now + RECOVERED_AFTER };
        }
        found.map_or(Turn::Nobody, Turn::Of)
    }
}

/// Between two pods, after this many bad ends.
fn gap(crashes: u32) -> Duration {
    let doublings = crashes.saturating_sub(BAD_ENDS_TOLERATED).min(16);
    (RECOVERY_GAP_FIRST_AND_MAX.0 * 2_u32.saturating_pow(doublings))
        .min(RECOVERY_GAP_FIRST_AND_MAX.1)
}
