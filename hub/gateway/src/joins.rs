//! How many devices join at a time: strangers until their token is found good, then those who wait.
//!
//! ```text
//! connected ─▶ asks ──the token is good──▶ waits to be accepted
//! ```
//!
//! Guarantees:
//! - who has no good token takes nothing from those who have one, and strangers who say nothing keep nobody out for
//!   longer than [`GRACE`] (`strangers_keep_nobody_with_a_good_token_out`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::transport::{Transport, code};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
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

/// Everybody who joins.
pub(crate) struct Joins {
    asking: Mutex<Asking>,
    waiting: Semaphore,
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

impl Default for Joins {
    fn default() -> Self {
        Self {
            asking: Mutex::default(),
            waiting: Semaphore::new(WAITING),
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

    /// A place to wait at, for a device whose token is good.
    pub(crate) fn wait(&self) -> Option<SemaphorePermit<'_>> {
        let place = self.waiting.try_acquire().ok()?;
        self.is_in_pace().then_some(place)
    }

    fn is_in_pace(&self) -> bool {
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
