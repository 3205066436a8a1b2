//! Does for a device that is short what is to be done: makes room, and evicts one pod after another.
//!
//! Guarantees:
//! - who has most of what is short goes, inodes are not bytes (`who_has_most_inodes_goes_for_them_whatever_it_takes`);
//! - who has the memory that is short gets no more of it at once, unless it may take its time
//!   (`a_pod_that_may_take_its_time_gets_memory_meanwhile`);
//! - a pod that is being deleted goes like any other, and then does not have its grace period
//!   (`a_pod_that_takes_its_time_to_leave_goes_before_its_neighbours`);
//! - no greeting calls a device well that is short of something (`a_greeting_says_what_the_device_is_short_of`).

use std::time::Duration;

use tracing::warn;

use super::Agent;
use super::pressure::{Relief, Underway};
use super::storage::{Measured, OfPod, lives, of_containers};
use crate::eviction::{Candidate, Observed, Share, Shortage, Signal, message, rank};
use crate::pods::decide::EVICTED;
use crate::pods::storage::{EVICTION_GRACE, Evicted};
use crate::pods::{Fate, Pod};

/// The longest that a pod may take to end when the shortage is a soft one.
const SOFT_GRACE: Duration = Duration::from_secs(30);

impl Agent {
    /// What the device has left before anything runs, so that the first greeting says it.
    pub fn begin_with(&mut self, left: &Observed) {
        self.pressure.begin(left, self.ports.clock.now());
        self.tell_node();
    }

    /// Looks at what the device has left.
    pub(super) fn handle_signals(&mut self, left: &Observed) {
        let (underway, now) = (self.underway(), self.ports.clock.now());
        let (changed, reliefs) = self.pressure.observe(left, underway, now);
        if changed {
            self.tell_node();
        }
        for relief in reliefs {
            self.relieve(relief, &[]);
        }
    }

    /// Pods that have more than they may have to go, and one for the device, when that was asked for.
    pub(super) fn handle_measured(&mut self, measured: &Measured) {
        for (uid, why) in self.meter.take(measured, self.ports.clock.now()) {
            if self.pods.get(&uid).is_some_and(lives) {
                self.evict(&uid, why, EVICTION_GRACE);
            }
        }
        // Who has no limit has most: among those with limits there is no choice.
        let (underway, now) = (self.underway(), self.ports.clock.now());
        if measured.all
            && let Some(relief) = self.pressure.measured(measured.whole, underway, now)
        {
            self.relieve(relief, &measured.pods);
        }
    }

    fn underway(&self) -> Underway {
        let going = self.pods.values().any(|pod| matches!(pod.fate, Fate::Evicted(_)));
        Underway { going, removing: self.sandboxes.is_removing() }
    }

    /// `measured`: what pods have of the disk.
    fn relieve(&mut self, relief: Relief, measured: &[OfPod]) {
        match relief {
            Relief::Tell(resource) => self.status.reclaims(resource),
            Relief::ClearImages => self.images.make_room(),
            Relief::Clear => self.make_room(),
            Relief::Measure => self.meter.measure_all(),
            Relief::Evict(short) if short.signal.is_memory() => self.evict_for_memory(&short),
            Relief::Evict(short) => {
                let candidates = measured.iter().filter_map(|of| self.on_disk(&short, of));
                let candidates = candidates.collect();
                self.evict_first(&short, candidates);
            }
        }
    }

    /// Gives back what no pod needs that runs: modules, and what pods left that have ended.
    fn make_room(&self) {
        self.images.make_room();
        let ended = self.pods.values().filter(|pod| pod.done().is_some());
        ended.for_each(|pod| self.sandboxes.clear(&pod.spec.uid));
    }

    fn evict_for_memory(&mut self, short: &Shortage) {
        let candidates = self.pods.values().filter_map(|pod| self.in_memory(pod)).collect();
        if let Some(uid) = self.evict_first(short, candidates).filter(|_| !short.soft) {
            // Until it has ended it would take what its neighbours need.
            self.ports.containers.freeze_memory(&uid);
        }
    }

    /// What a pod that may go has of the memory.
    fn in_memory(&self, pod: &Pod) -> Option<Candidate> {
        if !pod.may_be_evicted() {
            return None;
        }
        let used = self.ports.containers.memory(&pod.spec.uid);
        let share = |(container, used): (String, u64)| {
            let mut specs = pod.spec.init.iter().chain(&pod.spec.containers);
            let spec = specs.find(|spec| spec.name == container);
            Share { container, request: spec.and_then(|spec| spec.requests.0).unwrap_or(0), used }
        };
        let shares: Vec<Share> = used.into_iter().map(share).collect();
        (!shares.is_empty()).then(|| Candidate {
            uid: pod.spec.uid.clone(),
            priority: pod.spec.priority,
            shares,
            volumes: 0,
        })
    }

    /// What a pod that may go has of the disk.
    fn on_disk(&self, short: &Shortage, (uid, usage): &OfPod) -> Option<Candidate> {
        let pod = self.pods.get(uid).filter(|pod| pod.may_be_evicted())?;
        let (uid, priority) = (uid.clone(), pod.spec.priority);
        if short.signal == Signal::Inodes {
            // Nobody asks for them, and no container has its own.
            return Some(Candidate { uid, priority, shares: vec![], volumes: usage.inodes });
        }
        let storage = of_containers(pod);
        let shares = usage.logs.iter().map(|(container, used)| {
            let of = storage.iter().find(|one| one.container == *container);
            let request = of.and_then(|one| one.request).unwrap_or(0);
            Share { container: container.clone(), request, used: *used }
        });
        let (shares, volumes) = (shares.collect(), usage.in_volumes());
        Some(Candidate { uid, priority, shares, volumes })
    }

    /// The UID of the pod that has to go.
    fn evict_first(&mut self, short: &Shortage, mut candidates: Vec<Candidate>) -> Option<String> {
        // One that has nothing of it would go for nothing.
        candidates.retain(|pod| 0 < pod.used());
        rank(&mut candidates);
        let Some(first) = candidates.first() else {
            warn!(of = short.signal.name(), "the device is short, and no pod is there to go");
            return None;
        };
        let text = message(short, first);
        let grace = if short.soft { SOFT_GRACE } else { EVICTION_GRACE };
        let uid = first.uid.clone();
        self.evict(&uid, text, grace);
        Some(uid)
    }

    /// A pod has to go.
    fn evict(&mut self, uid: &str, why: String, grace: Duration) {
        let now = self.ports.clock.now();
        let Some(pod) = self.pods.get_mut(uid) else { return };
        warn!(pod = %format_args!("{}/{}", pod.spec.namespace, pod.spec.name), why, "pod is evicted");
        let own = Duration::from_secs(pod.spec.grace_seconds.into());
        pod.fate = Fate::Evicted(Evicted {
            message: why.clone(),
            until: now + grace.min(own.max(EVICTION_GRACE)),
        });
        self.event(uid, None, true, EVICTED, why);
        self.turns.touch(uid);
        self.meter.forget_all();
        self.pressure.evicted(now);
    }
}
