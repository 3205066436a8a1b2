//! How many connections between spokes the hub carries at a time, and how much of them it holds unread, so that a few of
//! them do not take all places, nor all memory.
//!
//! Who asks for a connection gets it while it has fewer than a share of what is still free. So the first ones may
//! have many, the more there are of them the less each gets, and some places are always left for who has none. In the
//! same way it may have some whose other end does not read: for each direction in which one waits, a stream's window is
//! on the account of the spoke that has asked for it, until all that has come was carried on.
//!
//! ```text
//! take ─▶ RelayPermit ─ carry: the other end does not read ─ hold ─▶ UnreadWindow, or it is broken off
//! ```
//!
//! Guarantees:
//! - spokes that take all they get leave places for others (`greedy_spokes_leave_places_for_all_others`);
//! - who gets none is told why (`greedy_spokes_leave_places_for_all_others`,
//!   `connections_that_nobody_reads_are_broken_off_where_they_hold_too_much`);
//! - what nobody reads has a bound that goes with the hub's memory (`what_waits_unread_goes_with_the_hubs_memory`), and
//!   connections beyond their spoke's share of it are broken off, others not
//!   (`connections_that_nobody_reads_are_broken_off_where_they_hold_too_much`);
//! - a connection that is read holds nothing of it (`a_connection_that_is_read_holds_nothing`);
//! - a place comes back when its connection ends, and nothing is kept of who has none
//!   (`a_place_comes_back`).

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use freewheel_link::limits;
use freewheel_link::message::RefusalV1;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::TOO_MANY_REASON;
use freewheel_link::transport::Stream;
use parking_lot::Mutex;

use crate::host_memory;

mod carry;

/// One spoke may have at most one part in this many of the places that are free, and of the memory.
const FREE_SHARE_DIVISOR: usize = 8;
/// The part of the hub's memory that may be held for connections that nobody reads. What else it has is mostly the
/// objects, which take what they take.
const UNREAD_MEMORY_DIVISOR: u64 = 4;
/// Windows that may be held on the smallest machine: a few spokes with a few connections each.
const UNREAD_WINDOWS_MIN: usize = 64;

/// Places of all spokes.
#[derive(Debug)]
pub(crate) struct Relays {
    /// Windows that may wait unread.
    windows_max: usize,
    state: Mutex<RelaysState>,
}

#[derive(Debug, Default)]
struct RelaysState {
    all: Taken,
    spokes: BTreeMap<ClusterName, Taken>,
}

/// What somebody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    relays: usize,
    windows: usize,
}

/// A place, until this is dropped.
#[derive(Debug)]
pub(crate) struct RelayPermit {
    relays: Arc<Relays>,
    spoke: ClusterName,
}

/// Room for what one end does not read of what the other says, until this is dropped.
#[derive(Debug)]
struct UnreadWindow<'a>(&'a RelayPermit);

impl Default for Relays {
    fn default() -> Self {
        Self::with(windows_in(host_memory::host_memory()))
    }
}

/// Windows that may wait unread in a hub with so much memory: at most those of all connections.
fn windows_in(memory: u64) -> usize {
    let bytes = usize::try_from(memory / UNREAD_MEMORY_DIVISOR).unwrap_or(usize::MAX);
    (bytes / limits::STREAM_WINDOW_BYTES).clamp(UNREAD_WINDOWS_MIN, 2 * limits::RELAYS_MAX)
}

/// Whether who has so many of these may have one more.
const fn is_share(own: usize, taken: usize, most: usize) -> bool {
    FREE_SHARE_DIVISOR * (own + 1) <= most.saturating_sub(taken)
}

impl Relays {
    fn with(windows_max: usize) -> Self {
        Self { windows_max, state: Mutex::default() }
    }

    /// A place for a connection that this spoke asks for.
    pub(crate) fn take(self: &Arc<Self>, spoke: &ClusterName) -> Result<RelayPermit, RefusalV1> {
        let mut state = self.state.lock();
        let own = state.of(spoke);
        if !is_share(own.relays, state.all.relays, limits::RELAYS_MAX) {
            let text = format!(
                "the hub relays {} connections of {spoke} and {} in all, of at most {}: as many as this spoke may \
                 have by now",
                own.relays,
                state.all.relays,
                limits::RELAYS_MAX
            );
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        // It would be broken off as soon as somebody is slow.
        self.has_window(&state, spoke)?;
        state.all.relays += 1;
        state.spokes.entry(spoke.clone()).or_default().relays += 1;
        Ok(RelayPermit { relays: self.clone(), spoke: spoke.clone() })
    }

    fn has_window(&self, state: &RelaysState, spoke: &ClusterName) -> Result<(), RefusalV1> {
        let (own, all) = (state.of(spoke).windows, state.all.windows);
        if is_share(own, all, self.windows_max) {
            return Ok(());
        }
        let bytes = |windows: usize| windows * limits::STREAM_WINDOW_BYTES;
        let text = format!(
            "the hub holds {} bytes of connections of {spoke} that nobody reads and {} in all, of at most {}: as many as \
             it holds of this spoke by now",
            bytes(own),
            bytes(all),
            bytes(self.windows_max)
        );
        Err(RefusalV1::new(TOO_MANY_REASON, text))
    }
}

impl RelaysState {
    fn of(&self, spoke: &ClusterName) -> Taken {
        self.spokes.get(spoke).copied().unwrap_or_default()
    }
}

impl RelayPermit {
    /// Carries the connection until both ends have said all.
    ///
    /// # Errors
    /// When one of them breaks off, or does not read and its spoke has too many of those.
    pub(crate) async fn carry(&self, near: Stream, far: Stream) -> io::Result<()> {
        carry::both_ways(near, far, &|| self.hold()).await
    }

    /// Room for a direction whose end does not read.
    fn hold(&self) -> io::Result<UnreadWindow<'_>> {
        let mut state = self.relays.state.lock();
        let full = |full: RefusalV1| io::Error::other(full.message);
        self.relays.has_window(&state, &self.spoke).map_err(full)?;
        state.all.windows += 1;
        state.spokes.entry(self.spoke.clone()).or_default().windows += 1;
        Ok(UnreadWindow(self))
    }

    fn give_back(&self, what: impl Fn(&mut Taken)) {
        let mut state = self.relays.state.lock();
        what(&mut state.all);
        if let Some(own) = state.spokes.get_mut(&self.spoke) {
            what(own);
            if *own == Taken::default() {
                state.spokes.remove(&self.spoke);
            }
        }
    }
}

impl Drop for RelayPermit {
    fn drop(&mut self) {
        self.give_back(|taken| taken.relays -= 1);
    }
}

impl Drop for UnreadWindow<'_> {
    fn drop(&mut self) {
        self.0.give_back(|taken| taken.windows -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    fn spoke(number: usize) -> ClusterName {
        ClusterName::try_from(format!("pi-{number}")).unwrap()
    }

    /// What each of so many spokes gets that ask in turn until none gets any more.
    fn greedy(relays: &Arc<Relays>, spokes: usize) -> Vec<RelayPermit> {
        let mut held = Vec::new();
        loop {
            let before = held.len();
            held.extend((0..spokes).filter_map(|number| relays.take(&spoke(number)).ok()));
            if held.len() == before {
                return held;
            }
        }
    }

    #[test]
    fn greedy_spokes_leave_places_for_all_others() {
        for spokes in [1, 13, 200] {
            let relays = Arc::new(Relays::default());
            let held = greedy(&relays, spokes);
            assert!(spokes <= held.len());
            let refused = relays.take(&spoke(0)).unwrap_err();
            assert_eq!(refused.reason, TOO_MANY_REASON);
            assert!(refused.message.contains("connections of pi-0"), "{refused}");
            let another = relays.take(&spoke(spokes));
            assert!(another.is_ok(), "{spokes} spokes hold {}", held.len());
        }
        let relays = Arc::new(Relays::default());
        let alone = greedy(&relays, 1).len();
        assert!(limits::TUNNELS_MAX <= alone, "one alone is bounded by its link: {alone}");
    }

    #[test]
    fn a_place_comes_back() {
        let relays = Arc::new(Relays::default());
        let permits = greedy(&relays, 13);
        let windows: Vec<_> = permits.iter().filter_map(|permit| permit.hold().ok()).collect();
        assert!(13 <= windows.len());
        drop(windows);
        drop(permits);
        let state = relays.state.lock();
        assert!(state.all == Taken::default() && state.spokes.is_empty(), "{state:?}");
    }

    #[test]
    fn what_waits_unread_goes_with_the_hubs_memory() {
        for (gibibytes, mebibytes) in [(1, 256), (2, 512), (64, 1024)] {
            let windows = windows_in(gibibytes << 30);
            assert_eq!(windows * limits::STREAM_WINDOW_BYTES, mebibytes << 20);
        }
        assert_eq!(windows_in(0), UNREAD_WINDOWS_MIN);
    }

    /// A connection of this spoke that says so much, and its other end.
    fn says(
        relays: &Arc<Relays>,
        number: usize,
        bytes: u64,
    ) -> (JoinHandle<io::Result<()>>, DuplexStream) {
        let permit = relays.take(&spoke(number)).unwrap();
        let (mut to, end) = duplex(1 << 10);
        let carried = tokio::spawn(async move {
            let mut from = tokio::io::repeat(7).take(bytes);
            carry::one_way(&mut from, &mut to, &|| permit.hold()).await
        });
        (carried, end)
    }

    async fn eventually(what: &str, holds: impl Fn() -> bool) {
        for _ in 0..1000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("not in 5 s: {what}");
    }

    #[tokio::test]
    async fn connections_that_nobody_reads_are_broken_off_where_they_hold_too_much() {
        let relays = Arc::new(Relays::with(32));
        let all: Vec<_> = (0..6).map(|_| says(&relays, 0, u64::MAX)).collect();
        let broken = || all.iter().filter(|(carried, _)| carried.is_finished()).count();
        eventually("three are more than a share", || broken() == 3).await;
        assert_eq!(relays.state.lock().all, Taken { relays: 3, windows: 3 });
        let refused = relays.take(&spoke(0)).unwrap_err();
        assert_eq!(refused.reason, TOO_MANY_REASON);
        assert!(refused.message.contains("that nobody reads"), "{refused}");
        let (other, _end) = says(&relays, 1, u64::MAX);
        eventually("another has a share", || relays.state.lock().all.windows == 4).await;
        assert!(!other.is_finished() && broken() == 3);
        let mut ends = Vec::new();
        for (carried, end) in all {
            if carried.is_finished() {
                let error = carried.await.unwrap().unwrap_err();
                assert!(error.to_string().contains("that nobody reads"), "{error}");
            } else {
                carried.abort();
                let _ = carried.await;
            }
            ends.push(end);
        }
        assert_eq!(relays.state.lock().of(&spoke(0)), Taken::default(), "it has them back");
    }

    #[tokio::test]
    async fn a_connection_that_is_read_holds_nothing() {
        let relays = Arc::new(Relays::with(32));
        let permit = relays.take(&spoke(0)).unwrap();
        let ((mut says, mut from), (mut to, mut end)) = (duplex(1 << 20), duplex(1 << 10));
        let carried =
            tokio::spawn(
                async move { carry::one_way(&mut from, &mut to, &|| permit.hold()).await },
            );
        says.write_all(&[7; 100_000]).await.unwrap();
        eventually("it waits", || relays.state.lock().all.windows == 1).await;
        let mut heard = vec![0; 100_000];
        end.read_exact(&mut heard).await.unwrap();
        assert!(heard.iter().all(|byte| *byte == 7));
        eventually("it has it back", || relays.state.lock().all.windows == 0).await;
        drop(says);
        assert_eq!(end.read(&mut heard).await.unwrap(), 0, "its end is carried, too");
        carried.await.unwrap().unwrap();
        assert_eq!(relays.state.lock().all, Taken::default());
    }
}
