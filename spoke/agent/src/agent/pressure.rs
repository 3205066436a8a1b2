//! What the agent does when the device is short of memory or disk: makes room, and evicts one pod after another.
//!
//! Guarantees:
//! - what nobody needs goes before any pod does, and was looked at to be too little
//!   (`disk_pressure_takes_what_nobody_needs_and_then_the_pod_that_has_most`,
//!   `room_is_made_before_a_pod_goes_also_while_another_is_on_its_way_out`,
//!   `a_measurement_for_limits_evicts_nobody_for_the_device`);
//! - while there is room left, who has most is looked for to the end (`a_pod_whose_files_are_too_many_to_see_is_not_spared`);
//! - who has most of what is short goes, inodes are not bytes (`who_has_most_inodes_goes_for_them_whatever_it_takes`);
//! - one pod goes at a time, and the next look decides about the next
//!   (`memory_pressure_evicts_one_pod_after_another_in_kubelets_order`), when what the last one had is free
//!   (`a_pod_stays_while_another_ones_files_are_removed`) or nothing gets free (`a_removal_that_frees_nothing_does_not_spare_a_full_disk`);
//! - who has the memory that is short gets no more of it at once, unless it may take its time
//!   (`a_pod_that_may_take_its_time_gets_memory_meanwhile`);
//! - a pod that is being deleted goes like any other, and then does not have its grace period
//!   (`a_pod_that_takes_its_time_to_leave_goes_before_its_neighbours`);
//! - for a disk of the modules' own nobody goes: no pod has anything there
//!   (`a_full_disk_of_the_modules_own_evicts_nobody`); and it hides no other shortage
//!   (`a_full_disk_of_the_modules_own_hides_no_other_shortage`);
//! - the Node says what is reclaimed, and not at every look (`the_node_says_what_is_reclaimed_now_and_then`);
//! - no greeting calls a device well that is short of something (`a_greeting_says_what_the_device_is_short_of`).

use std::time::Duration;

use freewheel_link::report::{NodeEventV1, PhaseV1};
use tracing::{info, warn};

use super::{Agent, storage};
use crate::eviction::{
    Candidate, Observed, Share, Short, Signal, TRANSITION, message, rank, refusal,
};
use crate::pods::decide::EVICTED;
use crate::pods::storage::{Evicted, GRACE};
use crate::pods::{Done, Fate, Pod};
use crate::volumes;

/// The longest that a pod may take to end when the shortage is a soft one.
const SOFT_GRACE: Duration = Duration::from_secs(30);

/// What was done for a disk that is short, before a pod goes for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Nothing yet.
    Untouched,
    /// What nobody needs was given back; whether that was enough shows at the next look.
    Made,
    /// It was not enough.
    NotEnough,
}

/// A shortage of the disk, and whether what is removed makes room.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Freeing {
    /// Shortages so far.
    times: u64,
    /// What was short at the last look, and how much was left of it.
    last: Option<(Signal, u64)>,
    /// There is more than at the last look; at the first nobody knows.
    grows: bool,
}

impl Freeing {
    fn look(&mut self, short: &Short) {
        let grown = |(signal, before)| signal != short.signal || before < short.available;
        self.grows = self.last.is_none_or(grown);
        self.times += u64::from(self.last.is_none());
        self.last = Some((short.signal, short.available));
    }

    /// The disk is not short any more.
    fn end(&mut self) {
        self.last = None;
    }

    /// Which time the disk is short; zero: it is not.
    pub(super) fn shortage(&self) -> u64 {
        self.last.map_or(0, |_| self.times)
    }
}

impl Agent {
    /// What the device has left before anything runs, so that the first greeting says it.
    pub fn begin_with(&mut self, left: &Observed) {
        self.conditions = self.watch.look(left, self.ports.clock.now()).conditions;
        self.tell_node();
    }

    /// Looks at what the device has left.
    pub(super) fn take_signals(&mut self, left: &Observed) {
        let verdict = self.watch.look(left, self.ports.clock.now());
        if self.conditions != verdict.conditions {
            info!(now = ?verdict.conditions, before = ?self.conditions, "pressure on the device");
            self.conditions = verdict.conditions;
            self.tell_node();
        }
        let apart = left.get(&Signal::Images) != left.get(&Signal::Disk);
        let (elsewhere, here): (Vec<Short>, Vec<Short>) =
            verdict.short.into_iter().partition(|short| apart && short.signal == Signal::Images);
        self.room_for_images(elsewhere.first());
        let Some(short) = here.first().copied() else {
            self.short = None;
            self.room = Room::Untouched;
            self.freeing.end();
            return;
        };
        self.short = Some(short);
        self.tell_reclaim(&short);
        let of_disk = !short.signal.is_memory();
        if of_disk {
            self.freeing.look(&short);
        }
        // What is on its way out is not free yet.
        if self.pods.values().any(is_going) || of_disk && self.waits_for_removal(&short) {
            return;
        }
        match self.room {
            _ if !of_disk => self.evict_for_memory(&short),
            // What that frees shows at the next look.
            Room::Untouched => self.make_room(),
            Room::Made | Room::NotEnough => {
                self.room = Room::NotEnough;
                self.meter.measure_all();
            }
        }
    }

    /// What a disk of the modules' own is short of: no pod has anything there, so that none goes for it.
    fn room_for_images(&mut self, short: Option<&Short>) {
        let Some(short) = short else {
            self.images_room = Room::Untouched;
            return;
        };
        self.tell_reclaim(short);
        self.images_room = match self.images_room {
            // What that frees shows at the next look.
            Room::Untouched => {
                warn!("the disk of the modules is short of room: what nobody needs goes");
                self.ports.modules.make_room();
                Room::Made
            }
            Room::Made => {
                warn!(
                    "the disk of the modules is short of room, and all that are there are needed"
                );
                Room::NotEnough
            }
            Room::NotEnough => Room::NotEnough,
        };
    }

    /// Whether files are being removed that may be enough: while there is some room left, or it gets more. A removal may
    /// take long, and the disk must not be full meanwhile.
    fn waits_for_removal(&self, short: &Short) -> bool {
        let has_time = short.threshold / 2 < short.available || self.freeing.grows;
        has_time && self.config.files.is_removing()
    }

    /// Says at the Node what is reclaimed, as kubelet does.
    fn tell_reclaim(&mut self, short: &Short) {
        let (now, at) = self.time();
        let resource = short.signal.resource();
        let last = self.reclaim_told.get(resource);
        if last.is_some_and(|last| now.saturating_sub(*last) < TRANSITION) {
            return;
        }
        self.reclaim_told.insert(resource, now);
        self.outbox.node_event(NodeEventV1 {
            warning: true,
            reason: "EvictionThresholdMet".to_owned(),
            message: format!("Attempting to reclaim {resource}"),
            at,
        });
    }

    /// Gives back what no pod needs that runs: modules, and what pods left that have ended.
    fn make_room(&mut self) {
        warn!("the disk is short of room: what nobody needs goes");
        self.room = Room::Made;
        self.ports.modules.make_room();
        let ended = self.pods.values().filter(|pod| pod.done().is_some());
        for uid in ended.map(|pod| pod.spec.uid.clone()).collect::<Vec<_>>() {
            let dir = volumes::pod_dir(&self.config.data, &uid);
            if let Err(error) = self.config.files.remove_dir(&dir) {
                warn!(pod = uid, %error, "remains of an ended pod stay on disk");
            }
        }
    }

    fn evict_for_memory(&mut self, short: &Short) {
        let candidates = self.pods.values().filter(|pod| pod.may_be_evicted()).filter_map(|pod| {
            let used = self.ports.containers.memory(&pod.spec.uid);
            let share = |(container, used): (String, u64)| {
                let specs = pod.spec.init.iter().chain(&pod.spec.containers);
                let request =
                    specs.filter(|spec| spec.name == container).find_map(|c| c.requests.0);
                Share { container, request: request.unwrap_or(0), used }
            };
            let shares: Vec<Share> = used.into_iter().map(share).collect();
            (!shares.is_empty()).then(|| Candidate {
                uid: pod.spec.uid.clone(),
                priority: pod.spec.priority,
                shares,
                volumes: 0,
            })
        });
        let candidates = candidates.collect();
        if let Some(uid) = self.evict_first(short, candidates).filter(|_| !short.soft) {
            // Until it has ended it would take what its neighbours need.
            self.ports.containers.freeze_memory(&uid);
        }
    }

    /// Takes what all pods have on the disk, when that was asked for.
    pub(super) fn evict_for_disk(&mut self, measured: &storage::Measured) {
        let Some(short) = self.short.filter(|short| !short.signal.is_memory()) else { return };
        let waits = self.pods.values().any(is_going) || self.waits_for_removal(&short);
        if self.room != Room::NotEnough || waits {
            return;
        }
        // Who has most may not be known yet: while there is still some room, it is looked for further.
        if !measured.whole && short.threshold / 2 < short.available {
            self.meter.measure_all();
            return;
        }
        let candidates = measured.pods.iter().filter_map(|(uid, usage)| {
            let pod = self.pods.get(uid).filter(|pod| pod.may_be_evicted())?;
            let (uid, priority) = (uid.clone(), pod.spec.priority);
            if short.signal == Signal::Inodes {
                // Nobody asks for them, and no container has its own.
                return Some(Candidate { uid, priority, shares: vec![], volumes: usage.inodes });
            }
            let storage = Self::storage_of(pod);
            let shares = usage.logs.iter().map(|(container, used)| {
                let of = storage.iter().find(|one| one.container == *container);
                let request = of.and_then(|one| one.request).unwrap_or(0);
                Share { container: container.clone(), request, used: *used }
            });
            let (shares, volumes) = (shares.collect(), usage.in_volumes());
            Some(Candidate { uid, priority, shares, volumes })
        });
        let candidates = candidates.collect();
        self.evict_first(&short, candidates);
    }

    /// The UID of the pod that has to go.
    fn evict_first(&mut self, short: &Short, mut candidates: Vec<Candidate>) -> Option<String> {
        // One that has nothing of it would go for nothing.
        candidates.retain(|pod| 0 < pod.used());
        rank(&mut candidates);
        let Some(first) = candidates.first() else {
            warn!(of = short.signal.name(), "the device is short, and no pod is there to go");
            return None;
        };
        let text = message(short, first);
        let grace = if short.soft { SOFT_GRACE } else { GRACE };
        let uid = first.uid.clone();
        self.evict(&uid, text, grace);
        Some(uid)
    }

    /// A pod has to go.
    pub(super) fn evict(&mut self, uid: &str, why: String, grace: Duration) {
        let now = self.ports.clock.now();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        warn!(pod = %format_args!("{}/{}", pod.spec.namespace, pod.spec.name), why, "pod is evicted");
        let own = Duration::from_secs(pod.spec.grace_seconds.into());
        pod.fate =
            Fate::Evicted(Evicted { message: why.clone(), until: now + grace.min(own.max(GRACE)) });
        self.event(uid, None, true, EVICTED, why);
        self.dirty.insert(uid.to_owned());
        // What was asked before this one goes says nothing of what is left when it is gone: a new look comes first.
        self.meter.forget_all();
        if self.room == Room::NotEnough {
            self.room = Room::Made;
        }
    }

    /// A pod that is new to a device under pressure is not taken on, as with kubelet: under memory pressure those that
    /// asked for nothing, under disk pressure all.
    pub(super) fn refuse_under_pressure(&mut self, uid: &str) {
        let Some(pod) = self.pods.get_mut(uid).filter(|pod| pod.stays()) else { return };
        let best_effort = pod.spec.init.iter().chain(&pod.spec.containers).all(|container| {
            container.requests == (None, None)
                && container.memory_limit.is_none()
                && container.cpu_limit_milli.is_none()
        });
        let refuses = |condition: &&&str| **condition != Signal::Memory.condition() || best_effort;
        let held: Vec<&str> = self.conditions.iter().filter(refuses).copied().collect();
        if held.is_empty() {
            return;
        }
        let message = refusal(&held);
        pod.finish(Done {
            phase: PhaseV1::Failed,
            reason: EVICTED.to_owned(),
            message: message.clone(),
        });
        self.event(uid, None, true, EVICTED, message);
    }
}

/// Whether it is on its way out already: its room is not free yet.
fn is_going(pod: &Pod) -> bool {
    matches!(pod.fate, Fate::Evicted(_))
}
