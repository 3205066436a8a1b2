//! What the device is short of, and what is to be done about it: who needs nothing gives first, then pods go.
//!
//! ```text
//! a look ─▶ conditions of the Node
//!        ├▶ memory is short ─▶ a pod goes
//!        └▶ the disk is: Untouched ─▶ Made ─a look later─▶ NotEnough: all pods are measured ─▶ a pod goes ─▶ Untouched
//! ```
//!
//! Guarantees:
//! - what nobody needs goes before any pod does, and was looked at to be too little
//!   (`disk_pressure_takes_what_nobody_needs_and_then_the_pod_that_has_most`,
//!   `room_is_made_before_a_pod_goes_also_while_another_is_on_its_way_out`,
//!   `a_measurement_for_limits_evicts_nobody_for_the_device`);
//! - while there is room left, who has most is looked for to the end
//!   (`a_pod_whose_files_are_too_many_to_see_is_not_spared`);
//! - one pod goes at a time, and the next look decides about the next
//!   (`memory_pressure_evicts_one_pod_after_another_in_kubelets_order`), when what the last one had is free
//!   (`a_pod_stays_while_another_ones_files_are_removed`) or nothing gets free
//!   (`a_removal_that_frees_nothing_does_not_spare_a_full_disk`,
//!   `a_removal_that_another_pod_eats_up_does_not_spare_a_full_disk`,
//!   `a_measurement_that_ends_with_a_little_more_does_not_spare_a_full_disk`), and the figures of the disk say what that was worth
//!   (`a_large_pod_goes_alone_where_that_is_enough`);
//! - for a disk of the modules' own nobody goes: no pod has anything there
//!   (`a_full_disk_of_the_modules_own_evicts_nobody`); and it hides no other shortage
//!   (`a_full_disk_of_the_modules_own_hides_no_other_shortage`);
//! - the Node says what is reclaimed, and not at every look (`the_node_says_what_is_reclaimed_now_and_then`).

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{info, warn};

use crate::eviction::{Observed, PRESSURE_TRANSITION_PERIOD, Shortage, Signal, Threshold, Watch};

/// How long what is removed may take before the next pod goes without it, as kubelet's `podCleanupTimeout`.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(30);
/// How long figures of the disk may be older than what they are to say, as kubelet's: file systems give back what was
/// removed when they next write.
const FIGURES_AGE_MAX: Duration = Duration::from_secs(10);

/// What was done for a disk that is short, before a pod goes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RoomMaking {
    /// Nothing yet.
    Untouched,
    /// What nobody needs was given back; whether that was enough shows at the next look.
    Made,
    /// It was not enough.
    NotEnough,
}

/// A shortage of the disk, and whether what is removed makes room.
#[derive(Clone, Copy, Debug, Default)]
struct Freeing {
    /// Shortages so far.
    times: u64,
    /// What was short at the last look, and how much was left of it.
    last: Option<(Signal, u64)>,
    /// There is more than at the last look; at the first nobody knows.
    grows: bool,
    /// How much was left when the last measurement came to nothing. Where there is no more, growth is no reason for the
    /// next: others take at once what is freed.
    awaited: u64,
}

impl Freeing {
    fn observe(&mut self, short: &Shortage) {
        let grown = |(signal, before)| signal != short.signal || before < short.available;
        self.grows = self.last.is_none_or(grown);
        self.times += u64::from(self.last.is_none());
        self.last = Some((short.signal, short.available));
    }
}

/// One thing to do for a device that is short.
#[derive(Clone, Copy, Debug)]
pub(super) enum Relief {
    /// The Node says that this is reclaimed.
    Tell(&'static str),
    /// Modules that nobody needs go.
    ClearImages,
    /// They go, and what pods left that have ended.
    Clear,
    /// All pods are measured.
    Measure,
    /// A pod goes.
    Evict(Shortage),
}

/// What is under way already: its room is not free yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Underway {
    /// A pod is on its way out.
    pub(super) going: bool,
    /// Files are being removed.
    pub(super) removing: bool,
}

/// What the device is short of, and how far the agent is with it.
pub(super) struct Pressure {
    watch: Watch,
    /// Conditions of the node that hold now.
    conditions: Vec<&'static str>,
    /// What the device is short of now.
    short: Option<Shortage>,
    /// When the Node said last what is reclaimed, by resource.
    reported_at: BTreeMap<&'static str, Duration>,
    /// What was done for the disk since it is.
    room: RoomMaking,
    images_room: RoomMaking,
    freeing: Freeing,
    /// When something was last taken away for the disk.
    acted: Duration,
    /// From when on its figures say what that was worth.
    fresh_from: Duration,
}

impl Pressure {
    pub(super) fn new(thresholds: Vec<Threshold>) -> Self {
        Self {
            watch: Watch::new(thresholds),
            conditions: Vec::new(),
            short: None,
            reported_at: BTreeMap::new(),
            room: RoomMaking::Untouched,
            images_room: RoomMaking::Untouched,
            freeing: Freeing::default(),
            acted: Duration::ZERO,
            fresh_from: Duration::ZERO,
        }
    }

    /// Conditions of the node that hold now.
    pub(super) fn conditions(&self) -> &[&'static str] {
        &self.conditions
    }

    /// Which time the disk is short; zero: it is not.
    pub(super) fn shortage(&self) -> u64 {
        self.freeing.last.map_or(0, |_| self.freeing.times)
    }

    /// What the device has left before anything runs.
    pub(super) fn begin(&mut self, left: &Observed, now: Duration) {
        self.conditions = self.watch.observe(left, now).conditions;
    }

    /// Looks at what the device has left: whether the conditions have changed, and what is to be done.
    pub(super) fn observe(
        &mut self,
        left: &Observed,
        underway: Underway,
        now: Duration,
    ) -> (bool, Vec<Relief>) {
        let verdict = self.watch.observe(left, now);
        let changed = self.conditions != verdict.conditions;
        if changed {
            info!(now = ?verdict.conditions, before = ?self.conditions, "pressure on the device");
            self.conditions = verdict.conditions;
        }
        let apart = left.get(&Signal::Images) != left.get(&Signal::Disk);
        let (elsewhere, here): (Vec<Shortage>, Vec<Shortage>) =
            verdict.short.into_iter().partition(|short| apart && short.signal == Signal::Images);
        let mut out = Vec::new();
        self.look_at_images(elsewhere.first(), now, &mut out);
        self.look_at_pods(here.first(), underway, now, &mut out);
        (changed, out)
    }

    /// What a disk of the modules' own is short of: no pod has anything there, so that none goes for it.
    fn look_at_images(&mut self, short: Option<&Shortage>, now: Duration, out: &mut Vec<Relief>) {
        let Some(short) = short else {
            self.images_room = RoomMaking::Untouched;
            return;
        };
        self.report(short, now, out);
        self.images_room = match self.images_room {
            // What that frees shows at the next look.
            RoomMaking::Untouched => {
                warn!("the disk of the modules is short of room: what nobody needs goes");
                out.push(Relief::ClearImages);
                RoomMaking::Made
            }
            RoomMaking::Made => {
                warn!(
                    "the disk of the modules is short of room, and all that are there are needed"
                );
                RoomMaking::NotEnough
            }
            RoomMaking::NotEnough => RoomMaking::NotEnough,
        };
    }

    /// What the device is short of that pods have.
    fn look_at_pods(
        &mut self,
        short: Option<&Shortage>,
        underway: Underway,
        now: Duration,
        out: &mut Vec<Relief>,
    ) {
        self.short = short.copied();
        let Some(short) = short else {
            self.room = RoomMaking::Untouched;
            (self.freeing.last, self.freeing.awaited) = (None, 0);
            return;
        };
        self.report(short, now, out);
        let of_disk = !short.signal.is_memory();
        if of_disk {
            self.freeing.observe(short);
        }
        // What is on its way out is not free yet.
        if self.waits(short, underway, now) {
            return;
        }
        match self.room {
            _ if !of_disk => out.push(Relief::Evict(*short)),
            // What that frees shows at the next look.
            RoomMaking::Untouched => {
                warn!("the disk is short of room: what nobody needs goes");
                (self.room, self.acted) = (RoomMaking::Made, now);
                out.push(Relief::Clear);
            }
            _ if now < self.fresh_from => {}
            RoomMaking::Made | RoomMaking::NotEnough => {
                self.room = RoomMaking::NotEnough;
                out.push(Relief::Measure);
            }
        }
    }

    /// The Node says what is reclaimed, as kubelet does, and not at every look.
    fn report(&mut self, short: &Shortage, now: Duration, out: &mut Vec<Relief>) {
        let resource = short.signal.resource();
        let last = self.reported_at.get(resource);
        if last.is_none_or(|last| PRESSURE_TRANSITION_PERIOD <= now.saturating_sub(*last)) {
            self.reported_at.insert(resource, now);
            out.push(Relief::Tell(resource));
        }
    }

    /// Whether a pod is on its way out, or files of the disk that is short are being removed that may be enough: for a
    /// while, while there is some room left, or while it gets more. A removal may take long, and the disk must not be
    /// full meanwhile.
    fn waits(&mut self, short: &Shortage, underway: Underway, now: Duration) -> bool {
        let early = now < self.acted + CLEANUP_TIMEOUT;
        let some = short.threshold / 2 < short.available;
        let removes =
            underway.removing && !short.signal.is_memory() && (early || some || self.freeing.grows);
        let waits = underway.going || removes;
        // Where hardly any room is left a look with more of it is waited for, and not for what it was worth: others may
        // take that at once.
        if underway.going || removes && (early || some) {
            self.fresh_from = now + FIGURES_AGE_MAX;
        }
        waits
    }

    /// All pods were measured, and `whole`: all of each was seen. What that is good for.
    pub(super) fn measured(
        &mut self,
        whole: bool,
        underway: Underway,
        now: Duration,
    ) -> Option<Relief> {
        let short = self.short.filter(|short| !short.signal.is_memory())?;
        self.freeing.grows &= self.freeing.awaited < short.available;
        if self.room != RoomMaking::NotEnough || self.waits(&short, underway, now) {
            self.freeing.awaited = short.available;
            return None;
        }
        // Who has most may not be known yet: while there is still some room, it is looked for further.
        let further = !whole && short.threshold / 2 < short.available;
        Some(if further { Relief::Measure } else { Relief::Evict(short) })
    }

    /// A pod goes: what was asked before says nothing of what is left when it is gone, and its logs are needed by nobody.
    pub(super) fn evicted(&mut self, now: Duration) {
        (self.room, self.acted, self.freeing.awaited) = (RoomMaking::Untouched, now, 0);
        self.fresh_from = now + FIGURES_AGE_MAX;
    }
}
