//! Watches the device: what it has left, its address, and now and then all the rest.
//!
//! ```text
//! guests reach the next threshold ─┐
//! the kernel: another address      ├─▶ look ─▶ the agent
//! the hub's name: another address  │
//! a while, by how much there is ───┘
//! ```
//!
//! Guarantees:
//! - guests that take what is left of their memory are told of at once, however much the machine has
//!   (`guests_at_their_bound_are_memory_pressure_at_once`), and so are guests that take what the machine has left
//!   (`guests_that_take_what_the_machine_has_left_are_told_of_at_once`), when they hold it and while they touch it
//!   (`memory_that_is_held_and_not_touched_yet_is_looked_after`);
//! - modules that nothing runs go before it is said that memory is short
//!   (`what_nobody_needs_goes_before_memory_is_short`);
//! - whatever fills its disk is noticed within ten seconds, as by kubelet
//!   (`a_disk_that_fills_is_noticed_within_ten_seconds`), sooner the less there is left; a device that is short is looked
//!   at every second (`the_more_there_is_the_longer_nobody_looks`);
//! - that its clock was never set is told to the hub (`a_clock_that_nobody_has_set_is_told_of`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_link::report::NodeStatusV1;
use freewheel_link::tls::{DeviceClock as _, FloorClock};
use freewheel_spoke_account::MemoryAccount;
use freewheel_spoke_agent::eviction::{Observed, Signal, Threshold};
use freewheel_spoke_agent::ports::Input;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::address::Address;
use crate::data::Data;
use crate::device::{self, Device};
use crate::interfaces::Interfaces;

/// How often the device is looked at as a whole.
const PROBE_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at what is left: with plenty, near a threshold, and below one, where a pod may have to go after
/// the last. With plenty it is kubelet's: some disks take gigabytes in a second, and nobody tells when they do.
const CHECK_PAUSES: (Duration, Duration, Duration) =
    (Duration::from_secs(10), Duration::from_secs(5), Duration::from_secs(1));
/// Memory that guests touch in a second, at most.
const MEMORY_BYTES_PER_SECOND_MAX: u64 = 1 << 30;
/// Between any two looks: guests that go back and forth over a threshold, and routes that flap.
const CHECK_PAUSE_MIN: Duration = Duration::from_millis(100);

/// What the hub calls a device whose clock shows no time that it may be.
const CLOCK_UNSYNCHRONIZED: &str = "ClockUnsynchronized";

/// The device and what is told of it.
pub(crate) struct Probe {
    pub(crate) device: Device,
    pub(crate) address: Address,
    pub(crate) profile: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) clock: Arc<FloorClock>,
}

impl Probe {
    /// Looks at the whole.
    pub(crate) fn node_status(&self, data: &Data) -> NodeStatusV1 {
        let Self { device, address, profile, labels, clock } = self;
        let mut status = device::status(device, data.dir(), address.now(), profile, labels);
        if !clock.is_set() {
            status.pressure.push(CLOCK_UNSYNCHRONIZED.to_owned());
        }
        status
    }
}

/// Tells the agent when the device has changed, until `stop`.
pub(crate) async fn watch(
    probe: &mut Probe,
    data: &Data,
    guests: &Arc<MemoryAccount>,
    thresholds: &[Threshold],
    inputs: &mpsc::Sender<Input>,
    stop: &CancellationToken,
) {
    let interfaces = Interfaces::listen();
    let mut next_probe = Instant::now() + PROBE_EVERY;
    let mut last = None;
    loop {
        // Before the rest: what they take meanwhile brings the mark nearer, and not further away.
        let held = guests.used() as u64;
        let mut left = probe.device.left(data.dir(), guests);
        // What nobody needs goes before a pod does.
        if is_short_of_memory(&left, thresholds) && guests.make_room() {
            left = probe.device.left(data.dir(), guests);
        }
        let wait = until_next(&left, probe.device.untouched(guests), thresholds);
        let mark = next_mark(held, &left, thresholds);
        let mut delivered = inputs.send(Input::Signals(left)).await.is_ok();
        let moved = probe.address.refresh();
        if moved || next_probe <= Instant::now() {
            next_probe = Instant::now() + PROBE_EVERY;
            let node = probe.node_status(data);
            if last.as_ref() != Some(&node) {
                delivered &= inputs.send(Input::Node(node.clone())).await.is_ok();
                last = Some(node);
            }
        }
        if !delivered {
            stop.cancelled().await;
            return;
        }
        let looked = Instant::now();
        tokio::select! {
            () = stop.cancelled() => return,
            () = guests.reach(mark) => {}
            () = interfaces.changed() => {}
            () = probe.address.hub_moved() => {}
            () = tokio::time::sleep_until((looked + wait).min(next_probe)) => {}
        }
        tokio::time::sleep_until(looked + CHECK_PAUSE_MIN).await;
    }
}

/// How much of it can go in a second, so that a threshold is not passed by far before the next look. What guests take
/// is told of by itself; the machine's memory goes by what else runs there, too.
const fn rate(signal: Signal) -> u64 {
    match signal {
        Signal::Memory | Signal::Guests => 64 << 20,
        Signal::Disk | Signal::Images => 256 << 20,
        Signal::Inodes => 50_000,
    }
}

/// What is left above a threshold; `None` within: it is passed.
fn margin(left: &Observed, threshold: &Threshold) -> Option<Option<u64>> {
    let left = left.get(&threshold.signal)?;
    Some(left.available.checked_sub(threshold.quantity(left.capacity)))
}

fn is_short_of_memory(left: &Observed, thresholds: &[Threshold]) -> bool {
    let mut of_memory = thresholds.iter().filter(|threshold| threshold.signal.is_memory());
    of_memory.any(|threshold| margin(left, threshold) == Some(None))
}

/// How long nobody needs to look, while guests hold so much `untouched` memory.
fn until_next(left: &Observed, untouched: u64, thresholds: &[Threshold]) -> Duration {
    let wait = |threshold: &Threshold| {
        let Some(margin) = margin(left, threshold)? else { return Some(CHECK_PAUSES.2) };
        // No account is told when they touch what they hold.
        if threshold.signal == Signal::Memory && margin < untouched {
            return Some(
                Duration::from_millis(margin * 1000 / MEMORY_BYTES_PER_SECOND_MAX)
                    .clamp(CHECK_PAUSE_MIN, CHECK_PAUSES.1),
            );
        }
        Some(
            Duration::from_secs(margin / rate(threshold.signal))
                .clamp(CHECK_PAUSES.1, CHECK_PAUSES.0),
        )
    };
    thresholds.iter().filter_map(wait).min().unwrap_or(CHECK_PAUSES.0)
}

/// What guests that hold so much hold when they pass the next threshold of memory, the machine's or that of their own
/// bound; never, when they have passed all.
fn next_mark(held: u64, left: &Observed, thresholds: &[Threshold]) -> u64 {
    let of_memory = thresholds.iter().filter(|threshold| threshold.signal.is_memory());
    let next = of_memory.filter_map(|threshold| margin(left, threshold)?).min();
    next.map_or(u64::MAX, |margin| held.saturating_add(margin).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use freewheel_spoke_agent::eviction::{self, Left, Watch};

    use super::*;
    use crate::device::tests::machine;
    use crate::run::thresholds;

    fn probe(device: Device, address: Address) -> Probe {
        let clock = Arc::new(FloorClock::new(0));
        Probe { device, address, profile: String::new(), labels: vec![], clock }
    }

    #[tokio::test]
    async fn a_clock_that_nobody_has_set_is_told_of() {
        let (dir, device) = machine(&[]);
        let data = Data::open(&dir.path().join("data")).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = probe(device, address);
        assert_eq!(probe.node_status(&data).pressure, [""; 0]);
        // What a hub has told is far ahead of it.
        probe.clock = Arc::new(FloorClock::new(u64::MAX / 2));
        assert_eq!(probe.node_status(&data).pressure, [CLOCK_UNSYNCHRONIZED]);
    }

    #[tokio::test(start_paused = true)]
    async fn guests_at_their_bound_are_memory_pressure_at_once() {
        let (dir, device) = machine(&[]);
        let data = Data::open(&dir.path().join("data")).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = probe(device, address);
        let (node, thresholds) = (MemoryAccount::node(), thresholds(vec![], vec![]));
        node.set_limit(1 << 30);
        let (inputs, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = watch(&mut probe, &data, &node, &thresholds, &inputs, &stop);
        let guests = async {
            let mut memory = async || loop {
                if let Some(Input::Signals(left)) = told.recv().await {
                    return left[&Signal::Guests].available;
                }
            };
            let first = memory().await;
            assert!(first <= 1 << 30, "{first}");
            let start = Instant::now();
            let neighbour = node.take(100 << 20).unwrap();
            let hog = node.take((1 << 30) - (150 << 20)).unwrap();
            assert_eq!(memory().await, 50 << 20);
            assert!(start.elapsed() <= CHECK_PAUSE_MIN, "{:?}", start.elapsed());
            // It is told again until it is over.
            drop((neighbour, hog));
            while memory().await == 50 << 20 {}
            assert!(start.elapsed() <= CHECK_PAUSE_MIN + CHECK_PAUSES.2, "{:?}", start.elapsed());
            stop.cancel();
        };
        tokio::join!(watching, guests);
    }

    #[tokio::test(start_paused = true)]
    async fn guests_that_take_what_the_machine_has_left_are_told_of_at_once() {
        let (dir, device) =
            machine(&[("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 307200 kB\n")]);
        let data = Data::open(&dir.path().join("data")).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = probe(device, address);
        let (node, thresholds) = (MemoryAccount::node(), thresholds(vec![], vec![]));
        node.set_limit(1 << 30);
        let (inputs, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = watch(&mut probe, &data, &node, &thresholds, &inputs, &stop);
        let guests = async {
            let mut signals =
                async || while !matches!(told.recv().await, Some(Input::Signals(_))) {};
            signals().await;
            let start = Instant::now();
            let _hog = node.take(280 << 20).unwrap();
            signals().await;
            assert!(start.elapsed() <= CHECK_PAUSE_MIN, "{:?}", start.elapsed());
            stop.cancel();
        };
        tokio::join!(watching, guests);
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_fills_is_noticed_within_ten_seconds() {
        let (dir, device) = machine(&[]);
        let data = Data::open(&dir.path().join("data")).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = probe(device, address);
        let (node, thresholds) = (MemoryAccount::node(), thresholds(vec![], vec![]));
        let (inputs, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = watch(&mut probe, &data, &node, &thresholds, &inputs, &stop);
        let looks = async {
            let mut disk = async || loop {
                if let Some(Input::Signals(left)) = told.recv().await {
                    return left.contains_key(&Signal::Disk);
                }
            };
            assert!(disk().await);
            let start = Instant::now();
            assert!(disk().await);
            assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
            stop.cancel();
        };
        tokio::join!(watching, looks);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_needs_goes_before_memory_is_short() {
        let (dir, device) = machine(&[]);
        let data = Data::open(&dir.path().join("data")).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = probe(device, address);
        let (node, thresholds) = (MemoryAccount::node(), thresholds(vec![], vec![]));
        node.set_limit(1 << 30);
        let idle = std::sync::Mutex::new(Some(node.take(500 << 20).unwrap()));
        node.gives_way(move || idle.lock().unwrap().take().is_some());
        let _guests = node.take(474 << 20).unwrap();
        let (inputs, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = watch(&mut probe, &data, &node, &thresholds, &inputs, &stop);
        let first = async {
            let Some(Input::Signals(left)) = told.recv().await else { panic!("nothing is told") };
            assert_eq!(left[&Signal::Guests].available, 550 << 20);
            stop.cancel();
        };
        tokio::join!(watching, first);
    }

    #[test]
    fn the_bound_of_the_guests_counts_on_a_machine_with_plenty() {
        let node = MemoryAccount::node();
        node.set_limit(1 << 30);
        let _hog = node.take((1 << 30) - (50 << 20)).unwrap();
        let (dir, device) = machine(&[]);
        let left = device.left(dir.path(), &node);
        assert_eq!(left[&Signal::Guests], Left { available: 50 << 20, capacity: 8 << 30 });
        // Also where somebody has set what the machine keeps.
        let asked = vec![eviction::parse("memory.available<10Mi").unwrap()];
        let mut watch = Watch::new(thresholds(asked, vec![]));
        let short = watch.observe(&left, Duration::ZERO).short[0];
        assert_eq!((short.signal, short.threshold), (Signal::Guests, 100 << 20));
    }

    #[test]
    fn the_more_there_is_the_longer_nobody_looks() {
        let after = |available: u64| {
            let left = Left { available, capacity: 100 << 30 };
            until_next(&Observed::from([(Signal::Disk, left)]), 0, &eviction::defaults()).as_secs()
        };
        assert_eq!(after(50 << 30), 10);
        assert_eq!(after((1 << 30) + ((7 * 256) << 20)), 7);
        assert_eq!(after((1 << 30) + 1), 5);
        assert_eq!(after((1 << 30) - 1), 1);
        assert_eq!(until_next(&Observed::new(), 0, &eviction::defaults()), CHECK_PAUSES.0);
    }

    #[test]
    fn the_next_threshold_is_the_one_to_be_told_of() {
        let soft = eviction::parse("memory.available<500Mi=60").unwrap();
        let thresholds = thresholds(vec![], vec![soft]);
        let mark = |held: u64, machine: u64| {
            let of = |available| Left { available, capacity: 8 << 30 };
            let (machine, own) = (of(machine << 20), of((1024 - held) << 20));
            let left = Observed::from([(Signal::Memory, machine), (Signal::Guests, own)]);
            next_mark(held << 20, &left, &thresholds)
        };
        assert_eq!(next_mark(0, &Observed::new(), &thresholds), u64::MAX, "no bound, no mark");
        assert_eq!(mark(0, 7000), (924 << 20) + 1, "their bound is nearest");
        assert_eq!(mark(0, 700), (200 << 20) + 1, "the soft one of the machine");
        assert_eq!(mark(200, 450), (550 << 20) + 1, "the hard one of the machine");
        assert_eq!(mark(950, 50), u64::MAX);
    }

    #[test]
    fn memory_that_is_held_and_not_touched_yet_is_looked_after() {
        let (dir, device) =
            machine(&[("proc/self/status", "Cpus_allowed_list:\t0-7\nRssAnon:\t  102400 kB\n")]);
        let node = MemoryAccount::node();
        assert_eq!(device.untouched(&node), 0);
        let _hog = node.take(800 << 20).unwrap();
        let untouched = device.untouched(&node);
        assert_eq!(untouched, 700 << 20);
        let after = |available: u64| {
            let mut left = device.left(dir.path(), &node);
            left.insert(Signal::Memory, Left { available: available << 20, capacity: 8 << 30 });
            left.retain(|signal, _| *signal == Signal::Memory);
            until_next(&left, untouched, &eviction::defaults())
        };
        assert_eq!(after(4000), CHECK_PAUSES.0, "it fits");
        assert_eq!(after(100 + 512), Duration::from_millis(500));
        assert_eq!(after(101), CHECK_PAUSE_MIN);
        assert_eq!(after(99), CHECK_PAUSES.2);
    }
}
