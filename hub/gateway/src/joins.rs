//! How many devices join at a time: strangers until their token is found good, then those who wait.
//!
//! ```text
//! connected ─▶ asks ──the token is good──▶ waits to be accepted
//! ```
//!
//! Guarantees:
//! - who has no good token takes nothing from those who have one, and strangers who say nothing keep nobody out for
//!   longer than [`ASKING_GRACE`] (`strangers_keep_nobody_with_a_good_token_out`), those of one owner's addresses not
//!   at all (`strangers_of_one_network_keep_no_other_out`);
//! - who asks all the time leaves others of the same token their pace, and one token leaves others theirs
//!   (`who_asks_all_the_time_leaves_others_their_pace`);
//! - when all places are taken, a device that has none gets one of the device with the same token that has several
//!   (`a_device_that_asks_again_and_again_keeps_nobody_out`), and who comes with another token one of the token that
//!   has most (`one_token_does_not_take_all_places_to_wait_at`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::address_networks::{self, Networks};
use freewheel_link::digest::Digest;
use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::fair_eviction;
use crate::token_bucket::{TokenBucket, TokenBuckets};

/// Strangers at the same time.
const ASKING_DEVICES_MAX: usize = 256;
/// A stranger is let be for so long: a request takes two round trips.
const ASKING_GRACE: Duration = Duration::from_secs(2);
/// Devices that wait to be accepted at the same time.
const WAITING_DEVICES_MAX: usize = 256;
/// Joins in a burst, and per second after it: by one key, with one token, and of all.
const JOINS_PER_KEY: (u32, f64) = (64, 6.0);
const JOINS_PER_TOKEN: (u32, f64) = (128, 10.0);
const JOINS_IN_ALL: (u32, f64) = (256, 40.0);

/// What somebody is told for whom there is no place.
pub(crate) const NO_PERMIT_MESSAGE: &str = "too many devices join at once; come back later";

/// What a device is told that has asked once more meanwhile.
const WRITE_RETRY_EVERY: &str = "the same device has asked again over another connection, which is answered in place of this one";

/// Everybody who joins.
pub(crate) struct Joins {
    asking: Mutex<Asking>,
    waiting: Mutex<Waiting>,
    keys: TokenBuckets,
    tokens: TokenBuckets,
    all: Mutex<TokenBucket>,
}

#[derive(Default)]
struct Asking {
    next: u64,
    /// In the order of their coming.
    links: BTreeMap<u64, Asks>,
}

struct Asks {
    from: Networks,
    since: Instant,
    link: Arc<dyn Transport>,
}

/// A stranger's place; it is free again when this is dropped.
pub(crate) struct AskingPermit<'a>(&'a Joins, u64);

impl Drop for AskingPermit<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().links.remove(&self.1);
    }
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of their coming.
    places: BTreeMap<u64, WaitingJoin>,
}

struct WaitingJoin {
    token: String,
    key: Digest,
    /// Tells who waits here why it does no more.
    leave: oneshot::Sender<&'static str>,
}

impl Waiting {
    /// Sends somebody away.
    fn send_away(&mut self, number: u64, why: &'static str) {
        if let Some(place) = self.places.remove(&number) {
            // Who has left already needs to hear nothing.
            let _ = place.leave.send(why);
        }
    }

    /// Whether there is a place, if need be one of who has most: of tokens first, then of the keys that came with it.
    fn make_room(&mut self, token: &str, key: Digest) -> bool {
        if self.places.len() < WAITING_DEVICES_MAX {
            return true;
        }
        if let Some(number) = self.oldest(|place| place.key == key) {
            self.send_away(number, WRITE_RETRY_EVERY);
            return true;
        }
        let tokens = count(self.places.values().map(|place| place.token.clone()));
        let own = tokens.get(token).copied().unwrap_or(0);
        let Some((most, held)) = tokens.into_iter().max_by_key(|(_, held)| *held) else {
            return false;
        };
        let other = own + 1 < held;
        let from = if other { most } else { token.to_owned() };
        let of_token = self.places.values().filter(|place| place.token == from);
        let keys = count(of_token.map(|place| place.key));
        let Some(held) = keys.values().copied().max().filter(|held| other || 1 < *held) else {
            return false;
        };
        let has_most =
            |place: &WaitingJoin| place.token == from && keys.get(&place.key) == Some(&held);
        if let Some(number) = self.oldest(has_most) {
            self.send_away(number, NO_PERMIT_MESSAGE);
        }
        true
    }

    fn oldest(&self, is: impl Fn(&WaitingJoin) -> bool) -> Option<u64> {
        self.places.iter().find(|(_, place)| is(place)).map(|(number, _)| *number)
    }
}

/// How often each is there.
fn count<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_insert(0) += 1;
    }
    counts
}

/// A device's place to wait at; it is free again when this is dropped.
pub(crate) struct WaitPermit<'a> {
    joins: &'a Joins,
    number: u64,
    leave: oneshot::Receiver<&'static str>,
}

impl WaitPermit<'_> {
    /// Resolves, with what the device is told, when it has to leave for another one.
    pub(crate) async fn has_to_leave(&mut self) -> &'static str {
        (&mut self.leave).await.unwrap_or(NO_PERMIT_MESSAGE)
    }
}

impl Drop for WaitPermit<'_> {
    fn drop(&mut self) {
        self.joins.waiting.lock().places.remove(&self.number);
    }
}

impl Default for Joins {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
            waiting: Mutex::default(),
            keys: TokenBuckets::new(JOINS_PER_KEY.0, JOINS_PER_KEY.1),
            tokens: TokenBuckets::new(JOINS_PER_TOKEN.0, JOINS_PER_TOKEN.1),
            all: Mutex::new(TokenBucket::new(JOINS_IN_ALL.0, JOINS_IN_ALL.1)),
        }
    }
}

impl Joins {
    /// A place to ask at, if need be that of a stranger from a network with more of them, or of who has had one for
    /// longest.
    pub(crate) fn ask(&self, link: &Arc<dyn Transport>) -> Option<AskingPermit<'_>> {
        let from = address_networks::around(link.peer().address.ip());
        let mut asking = self.asking.lock();
        if ASKING_DEVICES_MAX <= asking.links.len() {
            let held = asking.links.iter().map(|(number, asks)| (*number, &asks.from));
            let crowd = fair_eviction::oldest_of_most(&held, &from);
            let oldest = asking.links.first_key_value();
            let old = oldest.filter(|(_, asks)| ASKING_GRACE <= asks.since.elapsed());
            let gone = crowd.or(old.map(|(number, _)| *number))?;
            asking.links.remove(&gone)?.link.close(code::BUSY, NO_PERMIT_MESSAGE);
        }
        asking.next += 1;
        let number = asking.next;
        asking.links.insert(number, Asks { from, since: Instant::now(), link: link.clone() });
        Some(AskingPermit(self, number))
    }

    /// A place to wait at, for a device with this key whose token is good.
    pub(crate) fn wait(&self, token: &str, key: Digest) -> Option<WaitPermit<'_>> {
        let mut waiting = self.waiting.lock();
        if !waiting.make_room(token, key) {
            return None;
        }
        let (leave, left) = oneshot::channel();
        waiting.next += 1;
        let number = waiting.next;
        waiting.places.insert(number, WaitingJoin { token: token.to_owned(), key, leave });
        Some(WaitPermit { joins: self, number, leave: left })
    }

    /// Whether one more may join now, by this key and with this token, which is good.
    pub(crate) fn is_in_pace(&self, token: &str, key: &Digest) -> bool {
        self.keys.take(&key.hex()) && self.tokens.take(token) && self.all.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::memory_transport;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_all_the_time_leaves_others_their_pace() {
        let joins = Joins::default();
        let [greedy, other, third] = [1, 2, 3].map(|key| Digest([key; 32]));
        let (mut same, mut another) = (0, 0);
        for tick in 0..3_000 {
            joins.is_in_pace("token", &greedy);
            if tick % 100 == 50 {
                same += u32::from(joins.is_in_pace("token", &other));
                another += u32::from(joins.is_in_pace("another", &third));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!((same, another), (30, 30));
        // Whoever makes keys as they like has their token's pace, and no more.
        for key in 0..3_000_u32 {
            joins.is_in_pace("token", &Digest::of(&key.to_le_bytes()));
        }
        assert!(!joins.is_in_pace("token", &other));
        assert!(joins.is_in_pace("another", &third));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_of_one_network_keep_no_other_out() {
        let joins = Joins::default();
        let link = |from: [u8; 4]| -> Arc<dyn Transport> {
            let (near, far) = memory_transport::pair();
            near.come_from((from, 4444).into());
            drop(far);
            near
        };
        let mut crowd = std::collections::VecDeque::new();
        for number in 0..10_000_u32 {
            let stranger = joins.ask(&link([192, 0, 2, number.to_le_bytes()[0]]));
            crowd.extend(stranger);
            if number % 100 == 99 {
                assert!(joins.ask(&link([198, 51, 100, 1])).is_some(), "{number}");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(joins.asking.lock().links.len() <= ASKING_DEVICES_MAX);
    }
}
