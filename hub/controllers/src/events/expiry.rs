//! Forgets Events after an hour.
//!
//! Guarantees:
//! - each goes an hour after it last happened (`the_last_time_counts`), also one that is said to happen in the future
//!   (`what_is_of_the_future_is_not_kept_for_it`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot};
use jiff::Timestamp;
use serde_json::Value;

use crate::engine::client::{everywhere, kind};
use crate::engine::{Client, Controller, Error};

/// How long an Event is kept after it last happened (kube-apiserver's `--event-ttl`).
pub const EVENT_TTL: Duration = Duration::from_secs(3600);

/// The controller.
pub struct Expiry {
    client: Client,
    events: Arc<Kind>,
}

impl Expiry {
    /// Deletes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self { client, events: kind("", "v1", "events")? })
    }
}

/// How much life an Event has left. What carries no time that can be read dies at once: it would stay
/// for ever.
fn life_left(event: &Value, now: Timestamp) -> Duration {
    let read = |time: &Value| time.as_str()?.parse::<Timestamp>().ok();
    let told = [&event["lastTimestamp"], &event["series"]["lastObservedTime"], &event["eventTime"]];
    // Whoever writes an Event may write any time; of when it was made the hub's own clock has told.
    let told = told.into_iter().filter_map(read).filter(|told| *told <= now);
    let last = told.chain(read(&event["metadata"]["creationTimestamp"])).max();
    let Some(last) = last else { return Duration::ZERO };
    let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    EVENT_TTL.saturating_sub(age)
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
        // A later count only moves the end: the run at the old end sees that.
        let created = event.now.iter().filter(|_| event.before.is_none());
        created.map(|e| e.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        let value = stored.object.value().map_err(Error::api("read an Event"))?;
        let left = life_left(&value, self.client.clock.now());
        if !left.is_zero() {
            return Ok(Some(left + Duration::from_secs(1)));
        }
        let uid = &stored.object.header.uid;
        self.client
            .delete(&self.events, key, uid, Propagation::Background)
            .await
            .map_err(Error::api("delete an old Event"))?;
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
        assert_eq!(life_left(&event, now), Duration::from_secs(1800));
        let old = json!({"metadata": {"creationTimestamp": "2026-01-01T00:59:00Z"}});
        assert_eq!(life_left(&old, now), Duration::ZERO);
        assert_eq!(life_left(&json!({}), now), Duration::ZERO);
    }

    #[test]
    fn what_is_of_the_future_is_not_kept_for_it() {
        let now: Timestamp = "2026-01-01T02:00:00Z".parse().unwrap();
        let event = |made: &str| {
            json!({"metadata": {"creationTimestamp": made}, "lastTimestamp": "9999-12-30T22:00:00Z",
                "eventTime": "2040-01-01T00:00:00.000000Z"})
        };
        assert_eq!(life_left(&event("2026-01-01T01:30:00Z"), now), Duration::from_secs(1800));
        assert_eq!(life_left(&event("2026-01-01T00:30:00Z"), now), Duration::ZERO);
        // The hub's own clock was set back: no longer than a life at a time.
        assert_eq!(life_left(&event("2026-01-02T00:00:00Z"), now), EVENT_TTL);
    }
}
