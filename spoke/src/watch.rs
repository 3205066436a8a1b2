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
//!   (`guests_at_their_bound_are_memory_pressure_at_once`);
//! - a device with room is looked at rarely, one that is short every second
//!   (`the_more_there_is_the_longer_nobody_looks`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_link::report::NodeStatusV1;
use freewheel_spoke_agent::eviction::{Observed, Signal, Threshold};
use freewheel_spoke_agent::ports::Input;
use freewheel_spoke_net::Account;
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
/// the last.
const LOOK: (Duration, Duration, Duration) =
    (Duration::from_secs(30), Duration::from_secs(5), Duration::from_secs(1));
/// Between any two looks: guests that go back and forth over a threshold, and routes that flap.
const LEAST: Duration = Duration::from_millis(100);

/// The device and what is told of it.
pub(crate) struct Probe {
    pub(crate) device: Device,
    pub(crate) address: Address,
    pub(crate) profile: String,
    pub(crate) labels: Vec<(String, String)>,
}

impl Probe {
    /// Looks at the whole.
    pub(crate) fn look(&self, data: &Data) -> NodeStatusV1 {
        device::status(&self.device, data.dir(), self.address.now(), &self.profile, &self.labels)
    }
}

/// Tells the agent when the device has changed, until `stop`.
pub(crate) async fn watch(
    probe: &mut Probe,
    data: &Data,
    guests: &Arc<Account>,
    thresholds: &[Threshold],
    inputs: &mpsc::Sender<Input>,
    stop: &CancellationToken,
) {
    let interfaces = Interfaces::listen();
    let mut next_probe = Instant::now() + PROBE_EVERY;
    loop {
        let left = probe.device.left(data.dir(), guests);
        let wait = until_next(&left, thresholds);
        let mark = next_mark(guests, probe.device.memory, thresholds);
        let mut told = inputs.send(Input::Signals(left)).await.is_ok();
        let moved = probe.address.look();
        if moved || next_probe <= Instant::now() {
            next_probe = Instant::now() + PROBE_EVERY;
            told &= inputs.send(Input::Node(probe.look(data))).await.is_ok();
        }
        if !told {
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
        tokio::time::sleep_until(looked + LEAST).await;
    }
}

/// How much of it can go in a second, so that a threshold is not passed by far before the next look. Guests' memory is
/// told of by itself; the machine's goes by what else runs there.
const fn rate(signal: Signal) -> u64 {
    match signal {
        Signal::Memory => 64 << 20,
        Signal::Disk => 256 << 20,
        Signal::Inodes => 50_000,
    }
}

/// How long nobody needs to look.
fn until_next(left: &Observed, thresholds: &[Threshold]) -> Duration {
    let wait = |threshold: &Threshold| {
        let left = left.get(&threshold.signal)?;
        let margin = left.available.checked_sub(threshold.quantity(left.capacity));
        Some(margin.map_or(LOOK.2, |margin| {
            Duration::from_secs(margin / rate(threshold.signal)).clamp(LOOK.1, LOOK.0)
        }))
    };
    thresholds.iter().filter_map(wait).min().unwrap_or(LOOK.0)
}

/// What guests have when they pass the next threshold of memory; never, when they have passed all.
fn next_mark(guests: &Account, memory: u64, thresholds: &[Threshold]) -> u64 {
    let Some(limit) = guests.limit() else { return u64::MAX };
    let left = limit.saturating_sub(guests.used()) as u64;
    let own = thresholds.iter().filter(|threshold| threshold.signal == Signal::Memory);
    let next = own.map(|threshold| threshold.quantity(memory)).filter(|amount| *amount <= left);
    next.max().map_or(u64::MAX, |amount| (limit as u64 - amount).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use freewheel_spoke_agent::eviction::{self, Left, Watch};

    use super::*;

    /// This machine, as if it had 8 GiB.
    fn device() -> Device {
        let mut device = Device::probe();
        device.memory = 8 << 30;
        device
    }

    #[tokio::test(start_paused = true)]
    async fn guests_at_their_bound_are_memory_pressure_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = Data::open(dir.path()).unwrap();
        let address = Address::follow(Some(Ipv4Addr::LOCALHOST), "10.0.0.1:1", dir.path());
        let mut probe = Probe { device: device(), address, profile: String::new(), labels: vec![] };
        let (node, thresholds) = (Account::node(), eviction::defaults());
        node.set_limit(1 << 30);
        let (inputs, mut told) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let watching = watch(&mut probe, &data, &node, &thresholds, &inputs, &stop);
        let guests = async {
            let mut memory = async || loop {
                if let Some(Input::Signals(left)) = told.recv().await {
                    return left[&Signal::Memory].available;
                }
            };
            let first = memory().await;
            assert!(first <= 1 << 30, "{first}");
            let start = Instant::now();
            let neighbour = node.take(100 << 20).unwrap();
            let hog = node.take((1 << 30) - (150 << 20)).unwrap();
            assert_eq!(memory().await, 50 << 20);
            assert!(start.elapsed() <= LEAST, "{:?}", start.elapsed());
            // It is told again until it is over.
            drop((neighbour, hog));
            while memory().await == 50 << 20 {}
            assert!(start.elapsed() <= LEAST + LOOK.2, "{:?}", start.elapsed());
            stop.cancel();
        };
        tokio::join!(watching, guests);
    }

    #[test]
    fn the_bound_of_the_guests_counts_on_a_machine_with_plenty() {
        let node = Account::node();
        node.set_limit(1 << 30);
        let _hog = node.take((1 << 30) - (50 << 20)).unwrap();
        let left = device().left(std::path::Path::new("/"), &node);
        assert_eq!(left[&Signal::Memory], Left { available: 50 << 20, capacity: 8 << 30 });
        let short = Watch::new(eviction::defaults()).look(&left, Duration::ZERO).short.unwrap();
        assert_eq!((short.signal, short.threshold), (Signal::Memory, 100 << 20));
    }

    #[test]
    fn the_more_there_is_the_longer_nobody_looks() {
        let after = |available: u64| {
            let left = Left { available, capacity: 100 << 30 };
            until_next(&Observed::from([(Signal::Disk, left)]), &eviction::defaults()).as_secs()
        };
        assert_eq!(after(50 << 30), 30);
        assert_eq!(after((1 << 30) + ((10 * 256) << 20)), 10);
        assert_eq!(after((1 << 30) + 1), 5);
        assert_eq!(after((1 << 30) - 1), 1);
        assert_eq!(until_next(&Observed::new(), &eviction::defaults()), LOOK.0);
    }

    #[test]
    fn the_next_threshold_is_the_one_to_be_told_of() {
        let mut thresholds = eviction::defaults();
        thresholds.push(eviction::parse("memory.available<500Mi=60").unwrap());
        let node = Account::node();
        let mark = || next_mark(&node, 8 << 30, &thresholds);
        assert_eq!(mark(), u64::MAX, "no bound, no mark");
        node.set_limit(1 << 30);
        assert_eq!(mark(), (524 << 20) + 1);
        let _some = node.take(600 << 20).unwrap();
        assert_eq!(mark(), (924 << 20) + 1);
        let _more = node.take(400 << 20).unwrap();
        assert_eq!(mark(), u64::MAX);
    }
}
