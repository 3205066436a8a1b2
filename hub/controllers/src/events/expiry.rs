//! Forgets Events after an hour.
//!
//! An Event ends by the wall clock, and somebody may set that. etcd counts leases by a clock that nobody sets, and so
//! kube-apiserver's Events know nothing of it; here nothing goes for a clock that was wrong for a while.
//!
//! Guarantees:
//! - each goes an hour after it last happened (`the_last_time_counts`), also one that is said to happen in the future
//!   (`what_is_of_the_future_is_not_kept_for_it`);
//! - one that was made while the clock was ahead goes an hour after it was seen first
//!   (`an_event_of_a_clock_that_was_ahead_goes_an_hour_after_it_is_seen`), whatever had its name before
//!   (`an_event_made_anew_has_an_hour_of_its_own`);
//! - what seems old when a hub starts stays for some minutes, in which its clock may be set
//!   (`what_seems_old_when_a_hub_starts_stays_for_a_while`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Revision, Scope, Snapshot, Stored};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;

use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Controller, Error};

/// How long an Event is kept after it last happened (kube-apiserver's `--event-ttl`).
pub const EVENT_TTL: Duration = Duration::from_secs(3600);
/// For so long after its own start a hub forgets none: a machine without a clock of its own has the time from the network,
/// when that is up.
const START_GRACE: Duration = Duration::from_secs(600);

/// The controller.
pub struct Expiry {
    client: Client,
    events: Arc<Kind>,
    /// When this hub began, whatever its clock said.
    started: Instant,
    /// Those that were made later than now: which writing of them, and the moment at which it goes.
    of_the_future: Mutex<BTreeMap<Key, (Revision, Instant)>>,
}

impl Expiry {
    /// Deletes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let (started, of_the_future) = (Instant::now(), Mutex::default());
        Ok(Self { client, events: kind("", "v1", "events")?, started, of_the_future })
    }

    /// How long an Event stays, by what it says of itself and by how long it has been known here.
    fn stays(&self, stored: &Stored, event: &Value) -> Duration {
        let left = match life(event, self.client.clock.now()) {
            Life::Left(left) => left,
            Life::OfTheFuture => {
                let now = Instant::now();
                let mut known = self.of_the_future.lock();
                let seen = (stored.revision, now + EVENT_TTL);
                let known = known.entry(stored.key.clone()).or_insert(seen);
                if known.0 != stored.revision {
                    *known = seen;
                }
                known.1.saturating_duration_since(now)
            }
        };
        left.max(START_GRACE.saturating_sub(self.started.elapsed()))
    }
}

/// What an Event says of how old it is.
#[derive(Debug, PartialEq, Eq)]
enum Life {
    /// It has so much left.
    Left(Duration),
    /// It was made later than now: the clock was ahead then.
    OfTheFuture,
}

/// How much life an Event has left. What carries no time that can be read dies at once: it would stay
/// for ever.
fn life(event: &Value, now: Timestamp) -> Life {
    let read = |time: &Value| time.as_str()?.parse::<Timestamp>().ok();
    let told = [&event["lastTimestamp"], &event["series"]["lastObservedTime"], &event["eventTime"]];
    // Whoever writes an Event may write any time; of when it was made the hub's own clock has told.
    let told = told.into_iter().filter_map(read);
    let made = read(&event["metadata"]["creationTimestamp"]);
    let Some(last) = told.chain(made).filter(|time| *time <= now).max() else {
        return if made.is_some() { Life::OfTheFuture } else { Life::Left(Duration::ZERO) };
    };
    let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    Life::Left(EVENT_TTL.saturating_sub(age))
}

#[async_trait]
impl Controller for Expiry {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.events)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(now) = &event.now else {
            event.key().map(|key| self.of_the_future.lock().remove(key));
            return Vec::new();
        };
        // A later count only moves the end: the run at the old end sees that. Of one whose times say nothing the hub sees
        // by its writes alone when it has happened.
        let is_looked_at =
            event.before.is_none() || self.of_the_future.lock().contains_key(&now.key);
        if is_looked_at { vec![now.key.clone()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.of_the_future.lock().remove(key);
            return Ok(None);
        };
        let value = stored.object.value().map_err(Error::api("read an Event"))?;
        let left = self.stays(&stored, &value);
        if !left.is_zero() {
            return Ok(Some(left + Duration::from_secs(1)));
        }
        let uid = &stored.object.header.uid;
        self.client
            .delete(&self.events, key, uid, Propagation::Background)
            .await
            .map_err(Error::api("delete an old Event"))?;
        self.of_the_future.lock().remove(key);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_time_counts() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let event = json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "lastTimestamp": "2026-01-01T01:30:00Z"});
        assert_eq!(life(&event, now), Life::Left(Duration::from_secs(1800)));
        let old = json!({"metadata": {"creationTimestamp": "2026-01-01T00:59:00Z"}});
        assert_eq!(life(&old, now), Life::Left(Duration::ZERO));
        assert_eq!(life(&json!({}), now), Life::Left(Duration::ZERO));
    }

    #[test]
    fn what_is_of_the_future_is_not_kept_for_it() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let event = |made: &str| {
            json!({"metadata": {"creationTimestamp": made}, "lastTimestamp": "9999-12-30T22:00:00Z",
                "eventTime": "2040-01-01T00:00:00.000000Z"})
        };
        let half = Life::Left(Duration::from_secs(1800));
        assert_eq!(life(&event("2026-01-01T01:30:00Z"), now), half);
        assert_eq!(life(&event("2026-01-01T00:30:00Z"), now), Life::Left(Duration::ZERO));
        // The hub's own clock was set back.
        let mut ahead = event("2026-01-02T00:00:00Z");
        assert_eq!(life(&ahead, now), Life::OfTheFuture);
        ahead["lastTimestamp"] = json!("2026-01-01T01:30:00Z");
        assert_eq!(life(&ahead, now), half, "it has happened again since");
    }
}
