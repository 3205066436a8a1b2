//! How many devices join at a time: strangers until their token is found good, then those who wait.
//!
//! ```text
//! connected ─▶ asks ──the token is good──▶ waits to be accepted
//! ```
//!
//! Guarantees:
//! - who has no good token takes nothing from those who have one, and strangers who say nothing keep nobody out for
//!   longer than [`GRACE`] (`strangers_keep_nobody_with_a_good_token_out`);
//! - when all places are taken, a device that has none gets one of the device with the same token that has several
//!   (`a_device_that_asks_again_and_again_keeps_nobody_out`), and who comes with another token one of the token that has most
//!   (`one_token_does_not_take_all_places_to_wait_at`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Strangers at the same time.
const ASKING: usize = 256;
/// A stranger is let be for so long: a request takes two round trips.
const GRACE: Duration = Duration::from_secs(2);
/// Devices that wait to be accepted at the same time.
const WAITING: usize = 256;
/// Joins in a burst, and one more each `EVERY` after it.
const BURST: u32 = 64;
const EVERY: Duration = Duration::from_millis(100);

/// What somebody is told for whom there is no place.
pub(crate) const BUSY: &str = "too many devices join at once; come back later";

/// What a device is told that has asked once more meanwhile.
const AGAIN: &str = "the same device has asked again over another connection, which is answered in place of this one";

/// Everybody who joins.
pub(crate) struct Joins {
    asking: Mutex<Asking>,
    waiting: Mutex<Waiting>,
    joins: Mutex<(u32, Option<Instant>)>,
}

#[derive(Default)]
struct Asking {
    next: u64,
    /// In the order of their coming.
    links: BTreeMap<u64, (Instant, Arc<dyn Transport>)>,
}

/// A stranger's place; it is free again when this is dropped.
pub(crate) struct Stranger<'a>(&'a Joins, u64);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.asking.lock().links.remove(&self.1);
    }
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// In the order of their coming.
    places: BTreeMap<u64, Place>,
}

struct Place {
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
        if self.places.len() < WAITING {
            return true;
        }
        if let Some(number) = self.oldest(|place| place.key == key) {
            self.send_away(number, AGAIN);
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
        let has_most = |place: &Place| place.token == from && keys.get(&place.key) == Some(&held);
        if let Some(number) = self.oldest(has_most) {
            self.send_away(number, BUSY);
        }
        true
    }

    fn oldest(&self, is: impl Fn(&Place) -> bool) -> Option<u64> {
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
pub(crate) struct Waits<'a> {
    joins: &'a Joins,
    number: u64,
    leave: oneshot::Receiver<&'static str>,
}

impl Waits<'_> {
    /// Resolves, with what the device is told, when it has to leave for another one.
    pub(crate) async fn has_to_leave(&mut self) -> &'static str {
        (&mut self.leave).await.unwrap_or(BUSY)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.joins.waiting.lock().places.remove(&self.number);
    }
}

impl Default for Joins {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
            waiting: Mutex::default(),
            joins: Mutex::new((BURST, None)),
        }
    }
}

impl Joins {
    /// A place to ask at, if need be that of the stranger who has had one for longest.
    pub(crate) fn ask(&self, link: &Arc<dyn Transport>) -> Option<Stranger<'_>> {
        let mut asking = self.asking.lock();
        if ASKING <= asking.links.len() {
            let oldest = asking.links.first_entry().filter(|old| GRACE <= old.get().0.elapsed())?;
            oldest.remove().1.close(code::BUSY, BUSY);
        }
        asking.next += 1;
        let number = asking.next;
        asking.links.insert(number, (Instant::now(), link.clone()));
        Some(Stranger(self, number))
    }

    /// A place to wait at, for a device with this key whose token is good.
    pub(crate) fn wait(&self, token: &str, key: Digest) -> Option<Waits<'_>> {
        let mut waiting = self.waiting.lock();
        if !waiting.make_room(token, key) {
            return None;
        }
        let (leave, told) = oneshot::channel();
        waiting.next += 1;
        let number = waiting.next;
        waiting.places.insert(number, Place { token: token.to_owned(), key, leave });
        Some(Waits { joins: self, number, leave: told })
    }

    /// Whether one more may join now, of those whose token is good.
    pub(crate) fn is_in_pace(&self) -> bool {
        let mut joins = self.joins.lock();
        let now = Instant::now();
        let (left, since) = *joins;
        let passed = since.map_or(Duration::ZERO, |since| now - since);
        let more = u32::try_from(passed.as_millis() / EVERY.as_millis()).unwrap_or(u32::MAX);
        let left = left.saturating_add(more).min(BURST);
        let since = if 0 < more || since.is_none() { Some(now) } else { since };
        *joins = (left.saturating_sub(1), since);
        0 < left
    }
}
