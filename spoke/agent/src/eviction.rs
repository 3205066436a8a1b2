//! When a device is short of something, and which pod goes first. Pure; kubelet's signals, order and words.
//!
//! ```text
//! what is left ─▶ Watch: below a threshold, for its grace ─▶ Short ─▶ rank ─▶ one pod
//!                        └─ a condition of the node, until five minutes after the last time
//! ```
//!
//! Guarantees:
//! - a pod that has no more than it asked for goes after all that have
//!   (`who_has_more_than_it_asked_for_goes_first`, `among_those_beyond_their_request_the_least_priority_goes_first`);
//! - a condition does not flicker (`a_condition_comes_at_once_and_stays_for_a_while`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_link::allocatable;

use crate::pods::storage::amount;

/// How long a condition stays after it was last met, as kubelet's `eviction-pressure-transition-period`.
pub const PRESSURE_TRANSITION_PERIOD: Duration = Duration::from_secs(300);

/// Something that a device can be short of. In the order in which it is looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// memory.available
    Memory,
    /// allocatableMemory.available: of what all guests may have together.
    Guests,
    /// nodefs.available
    Disk,
    /// nodefs.inodesFree
    Inodes,
    /// imagefs.available: where the modules are. The same as [`Signal::Disk`] where that is the same file system.
    Images,
}

impl Signal {
    /// Those that a threshold can be asked for.
    pub const ALL: [Self; 4] = [Self::Memory, Self::Disk, Self::Inodes, Self::Images];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory.available",
            Self::Guests => "allocatableMemory.available",
            Self::Disk => "nodefs.available",
            Self::Inodes => "nodefs.inodesFree",
            Self::Images => "imagefs.available",
        }
    }

    /// The resource, as users are told.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Memory | Self::Guests => "memory",
            Self::Disk | Self::Images => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }

    /// The node's condition.
    #[must_use]
    pub const fn condition(self) -> &'static str {
        match self {
            Self::Memory | Self::Guests => "MemoryPressure",
            Self::Disk | Self::Inodes | Self::Images => "DiskPressure",
        }
    }

    /// Whether pods that have memory have to go for it.
    #[must_use]
    pub const fn is_memory(self) -> bool {
        matches!(self, Self::Memory | Self::Guests)
    }
}

/// What is left of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Now.
    pub available: u64,
    /// When nothing is used.
    pub capacity: u64,
}

/// What is left of all things that could be looked at.
pub type Observed = BTreeMap<Signal, Left>;

/// From where on the device is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// Less than this.
    pub amount: u64,
    /// Less than this part of what there is, in hundredths. The lesser of both counts.
    pub percent: u8,
    /// For this long; zero is a hard threshold.
    pub grace: Duration,
}

impl Threshold {
    /// The amount on a device that has so much.
    #[must_use]
    pub fn quantity(&self, capacity: u64) -> u64 {
        let share = u128::from(capacity) * u128::from(self.percent) / 100;
        self.amount.min(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// Kubelet's hard thresholds, with a bound for what is large: 5 % of the memory but no more than 100 MiB, 10 % of the
/// disk but no more than [`allocatable::STORAGE_RESERVED_BYTES_MAX`], 5 % of the inodes. The disk of the modules has no
/// threshold of its own height, where kubelet has 15 %: on one file system, pods within what is allocatable would meet
/// it.
#[must_use]
pub fn defaults() -> Vec<Threshold> {
    let most = allocatable::STORAGE_RESERVED_BYTES_MAX;
    let (percent, memory) = allocatable::MEMORY_PRESSURE_PERCENT_AND_BYTES;
    let hard =
        |(signal, amount, percent)| Threshold { signal, amount, percent, grace: Duration::ZERO };
    [
        (Signal::Memory, memory, percent),
        (Signal::Disk, most, 10),
        (Signal::Inodes, u64::MAX, 5),
        (Signal::Images, most, 10),
    ]
    .map(hard)
    .into()
}

/// Where guests have nearly all that they may have together. It follows from what pods may ask for, and nobody sets it:
/// above it pods within their requests would go.
#[must_use]
pub const fn of_guests() -> Threshold {
    let (percent, amount) = allocatable::MEMORY_PRESSURE_PERCENT_AND_BYTES;
    Threshold { signal: Signal::Guests, amount, percent, grace: Duration::ZERO }
}

/// Reads one threshold: `memory.available<100Mi`, `nodefs.available<10%`, and with a grace in seconds a soft one:
/// `nodefs.available<15%=90`.
///
/// # Errors
/// With what is wrong.
pub fn parse(text: &str) -> Result<Threshold, String> {
    let usage = || {
        format!(
            "{text:?} is no threshold such as memory.available<100Mi or nodefs.available<15%=90"
        )
    };
    let (name, rest) = text.split_once('<').ok_or_else(usage)?;
    let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name).ok_or_else(usage)?;
    let (value, grace) = rest.split_once('=').unwrap_or((rest, "0"));
    let grace = Duration::from_secs(grace.trim_end_matches('s').parse().map_err(|_| usage())?);
    let (amount, percent) = if let Some(percent) = value.strip_suffix('%') {
        let percent = percent.parse().ok().filter(|percent| *percent <= 100).ok_or_else(usage)?;
        (u64::MAX, percent)
    } else {
        let units = [("Ki", 10), ("Mi", 20), ("Gi", 30)];
        let unit = units.iter().find_map(|(unit, bits)| Some((value.strip_suffix(unit)?, *bits)));
        let (number, bits) = unit.unwrap_or((value, 0));
        let number: u64 = number.parse().map_err(|_| usage())?;
        (number.checked_mul(1 << bits).ok_or_else(usage)?, 100)
    };
    Ok(Threshold { signal, amount, percent, grace })
}

/// The device is short of something, and pods have to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Of what.
    pub signal: Signal,
    /// From where on.
    pub threshold: u64,
    /// What is left.
    pub available: u64,
    /// Not yet so much that a pod may not take its time to end.
    pub soft: bool,
}

/// What one look says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The node's conditions, sorted.
    pub conditions: Vec<&'static str>,
    /// What pods have to go for, the most urgent first.
    pub short: Vec<Shortage>,
}

/// Remembers since when thresholds are met.
#[derive(Clone, Debug)]
pub struct Watch {
    thresholds: Vec<Threshold>,
    /// Since when each is met, without a break.
    since: Vec<Option<Duration>>,
    /// When each condition was last met.
    last: BTreeMap<&'static str, Duration>,
}

impl Watch {
    /// Watches these.
    #[must_use]
    pub fn new(thresholds: Vec<Threshold>) -> Self {
        Self { since: vec![None; thresholds.len()], thresholds, last: BTreeMap::new() }
    }

    /// Looks at what is left.
    pub fn observe(&mut self, left: &Observed, now: Duration) -> Verdict {
        let mut short: Vec<Shortage> = Vec::new();
        for (threshold, since) in self.thresholds.iter().zip(&mut self.since) {
            let Some(left) = left.get(&threshold.signal).filter(|left| 0 < left.capacity) else {
                continue;
            };
            let (signal, quantity) = (threshold.signal, threshold.quantity(left.capacity));
            if quantity <= left.available {
                *since = None;
                continue;
            }
            self.last.insert(signal.condition(), now);
            if threshold.grace <= now.saturating_sub(*since.get_or_insert(now)) {
                let (available, soft) = (left.available, !threshold.grace.is_zero());
                short.push(Shortage { signal, threshold: quantity, available, soft });
            }
        }
        self.last.retain(|_, last| now.saturating_sub(*last) < PRESSURE_TRANSITION_PERIOD);
        short.sort_by_key(|short| (short.soft, short.signal));
        Verdict { conditions: self.last.keys().copied().collect(), short }
    }
}

/// What one container has of the thing that is short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its name.
    pub container: String,
    /// What it asked for.
    pub request: u64,
    /// What it has.
    pub used: u64,
}

/// A pod that may have to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Its UID.
    pub uid: String,
    /// spec.priority
    pub priority: i32,
    /// Its containers.
    pub shares: Vec<Share>,
    /// What it has beside them: its volumes, or all of its inodes where those are short.
    pub volumes: u64,
}

impl Candidate {
    /// All that it has.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shares.iter().fold(self.volumes, |sum, share| sum.saturating_add(share.used))
    }

    fn request(&self) -> u64 {
        self.shares.iter().fold(0, |sum: u64, share| sum.saturating_add(share.request))
    }
}

/// Puts the pod first that goes first: one that has more than it asked for before all others, then the one of the least
/// priority, then the one that is furthest beyond it.
pub fn rank(candidates: &mut [Candidate]) {
    candidates.sort_by_key(|pod| {
        let (used, request) = (pod.used(), pod.request());
        // Signed, so that the one that is furthest below comes last.
        let over = i128::from(used) - i128::from(request);
        (Reverse(request < used), pod.priority, Reverse(over), pod.uid.clone())
    });
}

/// What its user is told.
#[must_use]
pub fn message(short: &Shortage, pod: &Candidate) -> String {
    let quantity = |value: u64| match short.signal {
        Signal::Memory | Signal::Guests | Signal::Disk | Signal::Images => amount(value),
        Signal::Inodes => value.to_string(),
    };
    let resource = short.signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        quantity(short.threshold),
        quantity(short.available)
    );
    if short.signal != Signal::Inodes {
        for share in pod.shares.iter().filter(|share| share.request < share.used) {
            text.push_str(&format!(
                "Container {} was using {}, request is {}, has larger consumption of {resource}. ",
                share.container,
                amount(share.used),
                amount(share.request)
            ));
        }
    }
    text
}

/// What the user of a pod is told that a node under pressure does not take on.
#[must_use]
pub fn refusal(conditions: &[&str]) -> String {
    format!("The node had condition: [{}]. ", conditions.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn left(signal: Signal, available: u64, capacity: u64) -> Observed {
        [(signal, Left { available, capacity })].into()
    }

    #[test]
    fn small_devices_have_shares_and_large_ones_amounts() {
        let quantities = |memory: u64, disk: u64| {
            let all = defaults();
            (all[0].quantity(memory), all[1].quantity(disk), all[2].quantity(1000))
        };
        assert_eq!(quantities(1 << 30, 8 << 30), ((1 << 30) / 20, (8 << 30) / 10, 50));
        assert_eq!(quantities(32 << 30, 1 << 40), (100 << 20, 1 << 30, 50));
    }

    #[test]
    fn thresholds_are_read() {
        let read = |text: &str| parse(text).map(|t| (t.signal, t.amount, t.percent, t.grace));
        assert_eq!(
            read("memory.available<100Mi"),
            Ok((Signal::Memory, 100 << 20, 100, Duration::ZERO))
        );
        let soft = Ok((Signal::Disk, u64::MAX, 15, SECOND * 90));
        assert_eq!(read("nodefs.available<15%=90"), soft);
        assert_eq!(read("nodefs.available<15%=90s"), soft);
        assert_eq!(read("nodefs.inodesFree<5").unwrap().1, 5);
        assert_eq!(read("imagefs.available<1Gi").unwrap().0, Signal::Images);
        for bad in [
            "",
            "memory.available",
            "imagefs.inodesFree<1",
            "memory.available<x%",
            "memory.available<101%",
            "memory.available<1Mi=x",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_condition_comes_at_once_and_stays_for_a_while() {
        let mut watch = Watch::new(defaults());
        assert_eq!(watch.observe(&left(Signal::Disk, 100, 1000), SECOND), Verdict::default());
        let verdict = watch.observe(&left(Signal::Disk, 99, 1000), SECOND * 2);
        assert_eq!(verdict.conditions, ["DiskPressure"]);
        let short = Shortage { signal: Signal::Disk, threshold: 100, available: 99, soft: false };
        assert_eq!(verdict.short, [short]);
        let verdict = watch.observe(&left(Signal::Disk, 500, 1000), SECOND * 3);
        assert_eq!((verdict.conditions, verdict.short), (vec!["DiskPressure"], vec![]));
        assert_eq!(watch.observe(&left(Signal::Disk, 500, 1000), SECOND * 302), Verdict::default());
        assert_eq!(watch.observe(&left(Signal::Disk, 0, 0), SECOND * 303), Verdict::default());
    }

    #[test]
    fn a_soft_threshold_waits_for_its_grace_and_a_hard_one_goes_first() {
        let mut thresholds = defaults();
        thresholds.push(parse("nodefs.available<50%=60").unwrap());
        let mut watch = Watch::new(thresholds);
        let mut look = |available, second: u32| {
            let short = watch.observe(&left(Signal::Disk, available, 1000), SECOND * second).short;
            short.first().copied()
        };
        assert_eq!(look(400, 0), None);
        assert_eq!(look(600, 30), None, "it counts from the beginning");
        assert_eq!(look(400, 31), None);
        assert!(look(400, 91).unwrap().soft);
        assert!(!look(10, 92).unwrap().soft);
    }

    fn pod(uid: &str, request: u64, used: u64) -> Candidate {
        let shares = vec![Share { container: "web".to_owned(), request, used }];
        Candidate { uid: uid.to_owned(), priority: 0, shares, volumes: 0 }
    }

    #[test]
    fn who_has_more_than_it_asked_for_goes_first() {
        let mut all = [
            pod("modest", 100, 50),
            pod("over", 100, 130),
            pod("best-effort", 0, 40),
            pod("huge but within", 1000, 900),
        ];
        rank(&mut all);
        let order: Vec<_> = all.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(order, ["best-effort", "over", "modest", "huge but within"]);
    }

    #[test]
    fn among_those_beyond_their_request_the_least_priority_goes_first() {
        let with = |priority, pod: Candidate| Candidate { priority, ..pod };
        let mut all = [
            with(1000, pod("important", 0, 500)),
            with(-5, pod("spare", 100, 101)),
            pod("ordinary", 0, 200),
            pod("ordinary and more", 0, 300),
            with(-10, pod("modest", 100, 50)),
        ];
        rank(&mut all);
        let order: Vec<_> = all.iter().map(|pod| pod.uid.as_str()).collect();
        assert_eq!(order, ["spare", "ordinary and more", "ordinary", "important", "modest"]);
    }

    #[test]
    fn the_message_is_kubelets() {
        let short = Shortage {
            signal: Signal::Memory,
            threshold: 100 << 20,
            available: 1 << 20,
            soft: false,
        };
        assert_eq!(
            message(&short, &pod("a", 0, 3 << 20)),
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 1Mi. Container web was using 3Mi, request is 0, has larger consumption of memory. "
        );
        assert_eq!(refusal(&["DiskPressure"]), "The node had condition: [DiskPressure]. ");
    }
}
