//! How many connections between spokes the hub carries at a time, so that a few of them do not take all places.
//!
//! Who asks for a connection gets it while it has fewer than a share of what is still free. So the first ones may
//! have many, the more there are of them the less each gets, and some places are always left for who has none.
//!
//! Guarantees:
//! - spokes that take all they get leave places for others (`greedy_spokes_leave_places_for_all_others`);
//! - who gets none is told why (`greedy_spokes_leave_places_for_all_others`);
//! - a place comes back when its connection ends, and nothing is kept of who has none
//!   (`a_place_comes_back`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_link::limits;
use freewheel_link::message::RefusalV1;
use freewheel_link::names::ClusterName;
use freewheel_link::stream_budget::TOO_MANY_REASON;
use parking_lot::Mutex;

/// One spoke may have at most one part in this many of the places that are free.
const FREE_SHARE_DIVISOR: usize = 8;

/// Places of all spokes.
#[derive(Debug, Default)]
pub(crate) struct Relays(Mutex<RelaysState>);

#[derive(Debug, Default)]
struct RelaysState {
    taken: usize,
    spokes: BTreeMap<ClusterName, usize>,
}

/// A place, until this is dropped.
#[derive(Debug)]
pub(crate) struct RelayPermit {
    relays: Arc<Relays>,
    spoke: ClusterName,
}

impl Relays {
    /// A place for a connection that this spoke asks for.
    pub(crate) fn take(self: &Arc<Self>, spoke: &ClusterName) -> Result<RelayPermit, RefusalV1> {
        let mut state = self.0.lock();
        let own = state.spokes.get(spoke).copied().unwrap_or_default();
        let free = limits::RELAYS_MAX.saturating_sub(state.taken);
        if free < FREE_SHARE_DIVISOR * (own + 1) {
            let text = format!(
                "the hub relays {own} connections of {spoke} and {} in all, of at most {}: as many as this spoke may \
                 have by now",
                state.taken,
                limits::RELAYS_MAX
            );
            return Err(RefusalV1::new(TOO_MANY_REASON, text));
        }
        state.taken += 1;
        *state.spokes.entry(spoke.clone()).or_default() += 1;
        Ok(RelayPermit { relays: self.clone(), spoke: spoke.clone() })
    }
}

impl Drop for RelayPermit {
    fn drop(&mut self) {
        let mut state = self.relays.0.lock();
        state.taken -= 1;
        if let Some(own) = state.spokes.get_mut(&self.spoke) {
            *own -= 1;
            if *own == 0 {
                state.spokes.remove(&self.spoke);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        drop(greedy(&relays, 13));
        let state = relays.0.lock();
        assert!(state.taken == 0 && state.spokes.is_empty(), "{state:?}");
    }
}
