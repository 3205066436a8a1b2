//! What is remembered of autoscalers between their turns.
//!
//! Guarantees:
//! - an autoscaler has at most a turn a second, whatever is written to it, so that what is remembered of its windows is
//!   bounded (`whoever_writes_has_a_turn_a_second`), and after one that failed the next is as far off as any other
//!   (`who_fails_has_a_turn_a_period`);
//! - another one of its name begins anew (`another_one_of_a_name_begins_anew`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;

use super::past::Past;
use super::scales::Scales;
use super::selectors::Selectors;
use super::target::KnownScale;

/// How often each autoscaler is looked at.
pub(super) const SYNC_PERIOD: Duration = Duration::from_secs(15);
/// Between two turns of one autoscaler that is written to.
const TURN_PAUSE: Duration = Duration::from_secs(1);

/// Of all autoscalers.
#[derive(Default)]
pub(super) struct Memory {
    of: BTreeMap<Key, Remembered>,
    /// Whose pods are whose.
    pub(super) selectors: Selectors,
    scales: Scales,
}

/// Of one autoscaler.
struct Remembered {
    uid: Uid,
    /// When it had its last turn.
    turn: Duration,
    /// That one came to its end.
    has_ended: bool,
    /// Nothing before its target was seen.
    past: Option<Past>,
    /// Of its target, as it was last read.
    scale: Option<Arc<KnownScale>>,
}

impl Memory {
    /// Begins a turn of this autoscaler, or says how long it has to wait for one.
    pub(super) fn begin(&mut self, autoscaler: &Stored, now: Duration) -> Option<Duration> {
        let (key, uid) = (&autoscaler.key, &autoscaler.object.header.uid);
        if let Some(known) = self.of.get_mut(key).filter(|known| known.uid == *uid) {
            // The engine's back-off begins at milliseconds, and anew with each look that is put off.
            let pause = if known.has_ended { TURN_PAUSE } else { SYNC_PERIOD };
            let rest = (known.turn + pause).checked_sub(now).filter(|rest| !rest.is_zero());
            if rest.is_none() {
                (known.turn, known.has_ended) = (now, false);
            }
            return rest;
        }
        self.forget(key);
        let begun =
            Remembered { uid: uid.clone(), turn: now, has_ended: false, past: None, scale: None };
        self.of.insert(key.clone(), begun);
        None
    }

    /// The turn came to its end, and all of it was written.
    pub(super) fn end(&mut self, key: &Key) {
        if let Some(known) = self.of.get_mut(key) {
            known.has_ended = true;
        }
    }

    /// The scale of a target as it was last read, by whichever autoscaler.
    pub(super) fn scale(&self, target: &Key) -> Option<Arc<KnownScale>> {
        self.scales.get(target)
    }

    /// The scale of its target was read.
    pub(super) fn scale_read(&mut self, key: &Key, scale: Option<KnownScale>) {
        let Some(known) = self.of.get_mut(key) else { return };
        let scale = scale.map(|read| self.scales.share(read));
        if let Some(held) = std::mem::replace(&mut known.scale, scale) {
            self.scales.release(held);
        }
    }

    /// What was before, of one that has begun a turn while its target is to have so many.
    pub(super) fn past(&mut self, key: &Key, replicas: i32, now: Duration) -> Option<&mut Past> {
        let known = self.of.get_mut(key)?;
        Some(known.past.get_or_insert_with(|| Past::beginning(replicas, now)))
    }

    /// It is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.selectors.remove(key);
        if let Some(held) = self.of.remove(key).and_then(|known| known.scale) {
            self.scales.release(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use freewheel_hub_schema::object::Resource;
    use serde_json::json;

    use super::*;

    fn autoscaler(uid: &str) -> Arc<Stored> {
        let resource = Resource::new("autoscaling", "horizontalpodautoscalers");
        crate::testing::stored(&resource, "web", json!({"metadata": {"name": "web", "uid": uid}}))
    }

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn whoever_writes_has_a_turn_a_second() {
        let (mut memory, one) = (Memory::default(), autoscaler("u"));
        assert_eq!(memory.begin(&one, at(0)), None);
        memory.end(&one.key);
        assert_eq!(memory.begin(&one, at(300)), Some(at(700)));
        assert_eq!(memory.begin(&one, at(1000)), None);
        memory.end(&one.key);
        assert_eq!(memory.begin(&one, at(1999)), Some(at(1)));
    }

    #[test]
    fn who_fails_has_a_turn_a_period() {
        let (mut memory, one) = (Memory::default(), autoscaler("u"));
        assert_eq!(memory.begin(&one, at(0)), None);
        assert_eq!(memory.begin(&one, at(5)), Some(at(14_995)));
        assert_eq!(memory.begin(&one, at(15_000)), None);
        assert_eq!(memory.begin(&one, at(16_000)), Some(at(14_000)));
        assert_eq!(memory.begin(&one, at(30_000)), None);
        memory.end(&one.key);
        assert_eq!(memory.begin(&one, at(31_000)), None);
    }

    #[test]
    fn another_one_of_a_name_begins_anew() {
        let (mut memory, one) = (Memory::default(), autoscaler("u"));
        assert_eq!(memory.past(&one.key, 3, at(0)), None, "it has had no turn");
        memory.begin(&one, at(0));
        assert_eq!(memory.past(&one.key, 3, at(0)), Some(&mut Past::beginning(3, at(0))));
        assert_eq!(memory.past(&one.key, 9, at(5)), Some(&mut Past::beginning(3, at(0))));
        assert_eq!(memory.begin(&autoscaler("v"), at(10)), None);
        assert_eq!(memory.past(&one.key, 9, at(10)), Some(&mut Past::beginning(9, at(10))));
        memory.forget(&one.key);
        assert_eq!(memory.past(&one.key, 1, at(20)), None);
    }
}
