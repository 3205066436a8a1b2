//! Handshakes at a time, so that strangers who begin one and never end it keep no device out.
//!
//! ```text
//! first packet ──a place is free──▶ handshake
//!      └──none──▶ Retry ─▶ the address is proven ──▶ handshake, of the places for those
//! ```
//!
//! Whose a handshake is shows only at its end; before it there is an address, and that only when it is proven.
//!
//! Guarantees:
//! - addresses that are not proven take no place from those that are
//!   (`who_has_proven_an_address_finds_a_place_when_all_others_are_taken`,
//!   `handshakes_that_never_end_keep_no_device_out`);
//! - an address that holds more places than others gives its oldest one to who has fewer
//!   (`one_address_keeps_no_other_out`), and so do the addresses of one owner together, however many they are
//!   (`one_delegation_keeps_no_other_out`);
//! - when nobody holds more than others the oldest handshake gives way once it has had its time
//!   (`one_delegation_keeps_no_other_out`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::address_networks::{self, Networks};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fair_eviction;

/// Handshakes of addresses that nobody has proven.
const UNPROVEN_HANDSHAKES_MAX: usize = 256;
/// Handshakes of proven addresses beside them.
const PROVEN_HANDSHAKES_MAX: usize = 256;
/// What a handshake takes at most where nothing is wrong: an older one gives way to who has none.
const HANDSHAKE_GRACE: Duration = Duration::from_secs(1);

/// All that are going on.
#[derive(Debug, Default)]
pub(crate) struct Handshakes(Mutex<HandshakesState>);

#[derive(Debug, Default)]
struct HandshakesState {
    unproven: usize,
    next: u64,
    /// In the order of their coming.
    proven: BTreeMap<u64, Handshake>,
}

/// One from a proven address.
#[derive(Debug)]
struct Handshake {
    from: Networks,
    since: Instant,
    lost: CancellationToken,
}

/// What is done with somebody who wants to connect.
#[derive(Debug)]
pub(crate) enum HandshakeAnswer {
    /// The handshake may begin.
    Go(HandshakePermit),
    /// Its address has to be proven first.
    Prove,
    /// There is no place.
    Refuse,
}

/// A handshake's place, until this is dropped.
#[derive(Debug)]
pub(crate) struct HandshakePermit {
    all: Arc<Handshakes>,
    proven: Option<(u64, CancellationToken)>,
}

impl HandshakePermit {
    /// Resolves when the place is another's.
    pub(crate) async fn lost(&self) {
        match &self.proven {
            Some((_, lost)) => lost.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for HandshakePermit {
    fn drop(&mut self) {
        let mut state = self.all.0.lock();
        match &self.proven {
            Some((number, _)) => drop(state.proven.remove(number)),
            None => state.unproven -= 1,
        }
    }
}

impl Handshakes {
    /// Somebody comes from this address, which is `proven` or not.
    pub(crate) fn ask(self: &Arc<Self>, address: IpAddr, proven: bool) -> HandshakeAnswer {
        let mut state = self.0.lock();
        if !proven {
            if UNPROVEN_HANDSHAKES_MAX <= state.unproven {
                return HandshakeAnswer::Prove;
            }
            state.unproven += 1;
            return HandshakeAnswer::Go(HandshakePermit { all: self.clone(), proven: None });
        }
        let from = address_networks::around(address);
        if PROVEN_HANDSHAKES_MAX <= state.proven.len() && !state.make_room(from) {
            return HandshakeAnswer::Refuse;
        }
        state.next += 1;
        let (number, lost) = (state.next, CancellationToken::new());
        state.proven.insert(number, Handshake { from, since: Instant::now(), lost: lost.clone() });
        HandshakeAnswer::Go(HandshakePermit { all: self.clone(), proven: Some((number, lost)) })
    }
}

impl HandshakesState {
    /// Takes the oldest place of the network that has most of them, when this one has fewer even with it; and when
    /// none has more than others, the oldest of all that has had its time.
    fn make_room(&mut self, from: Networks) -> bool {
        let held = self.proven.iter().map(|(number, one)| (*number, &one.from));
        let crowd = fair_eviction::oldest_of_most(&held, &from);
        let old = || {
            let stranger = self.proven.values().all(|one| one.from[0] != from[0]);
            let oldest = self.proven.first_key_value().filter(|_| stranger);
            oldest
                .filter(|(_, one)| HANDSHAKE_GRACE <= one.since.elapsed())
                .map(|(number, _)| *number)
        };
        let Some(gone) = crowd.or_else(old).and_then(|number| self.proven.remove(&number)) else {
            return false;
        };
        gone.lost.cancel();
        true
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn from(last: u16) -> IpAddr {
        Ipv6Addr::new(0xfd00, 0, 0, last, 1, 2, 3, 4).into()
    }

    fn place(answer: HandshakeAnswer) -> Option<HandshakePermit> {
        match answer {
            HandshakeAnswer::Go(place) => Some(place),
            HandshakeAnswer::Prove | HandshakeAnswer::Refuse => None,
        }
    }

    #[test]
    fn who_has_proven_an_address_finds_a_place_when_all_others_are_taken() {
        let all = Arc::new(Handshakes::default());
        let held: Vec<_> =
            (0..2 * UNPROVEN_HANDSHAKES_MAX).map(|_| all.ask(from(1), false)).collect();
        let began = held.iter().filter(|answer| matches!(answer, HandshakeAnswer::Go(_))).count();
        assert_eq!(began, UNPROVEN_HANDSHAKES_MAX);
        assert!(matches!(held.last(), Some(HandshakeAnswer::Prove)));
        assert!(place(all.ask(from(1), true)).is_some());
        drop(held);
        assert!(place(all.ask(from(1), false)).is_some(), "places come back");
        let state = all.0.lock();
        assert!(state.unproven == 0 && state.proven.is_empty(), "{state:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_delegation_keeps_no_other_out() {
        let of = |site: u16, net: u16| Ipv6Addr::new(0x2001, 0xdb8, site, net, 1, 2, 3, 4).into();
        for crowd in [|net| (1, net), |site| (site, 1)] {
            let all = Arc::new(Handshakes::default());
            let ask = |(site, net): (u16, u16)| place(all.ask(of(site, net), true));
            let held: Vec<_> = (0..256).map(|number| ask(crowd(number)).unwrap()).collect();
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            let _another = ask((0x7777, 0)).unwrap();
            held[0].lost().await;
            assert_eq!(all.0.lock().proven.len(), PROVEN_HANDSHAKES_MAX);
        }
        let all = Arc::new(Handshakes::default());
        let ask = |address: [u8; 4]| place(all.ask(IpAddr::from(address), true));
        let _held: Vec<_> = (0..=255).map(|last| ask([192, 0, 2, last]).unwrap()).collect();
        let _another = ask([198, 51, 100, 1]).unwrap();
        assert!(ask([192, 0, 2, 0]).is_none(), "it has most of them");
    }

    #[tokio::test(start_paused = true)]
    async fn one_address_keeps_no_other_out() {
        let all = Arc::new(Handshakes::default());
        let mut crowd: Vec<_> =
            (0..PROVEN_HANDSHAKES_MAX).map(|_| place(all.ask(from(1), true)).unwrap()).collect();
        assert!(
            matches!(all.ask(from(1), true), HandshakeAnswer::Refuse),
            "nobody has more than it"
        );
        let one = place(all.ask(from(2), true)).unwrap();
        crowd[0].lost().await;
        assert_eq!(all.0.lock().proven.len(), PROVEN_HANDSHAKES_MAX);
        crowd.remove(0);
        // The places are shared evenly in the end, and no further.
        let mut second = vec![one];
        while let Some(place) = place(all.ask(from(2), true)) {
            second.push(place);
        }
        assert_eq!(second.len(), PROVEN_HANDSHAKES_MAX / 2);
        assert!(place(all.ask(from(3), true)).is_some());
        drop((crowd, second));
        assert!(all.0.lock().proven.is_empty());
    }
}
