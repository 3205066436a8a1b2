//! What is remembered of autoscalers between their turns.
//!
//! Guarantees:
//! - an autoscaler has at most a turn a second, whatever is written to it, so that what is remembered of its windows is
//!   bounded (`whoever_writes_has_a_turn_a_second`);
//! - another one of its name begins anew (`another_one_of_a_name_begins_anew`).

use std::collections::BTreeMap;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;

use super::past::Past;
use super::selectors::Selectors;

/// Between two turns of one autoscaler.
const PAUSE: Duration = Duration::from_secs(1);

/// Of all autoscalers.
#[derive(Default)]
pub(super) struct Memory {
    of: BTreeMap<Key, Remembered>,
    /// Whose pods are whose.
    pub(super) selectors: Selectors,
}

/// Of one autoscaler.
struct Remembered {
    uid: Uid,
    /// When it had its last turn.
    turn: Duration,
    /// Nothing before its target was seen.
    past: Option<Past>,
}

impl Memory {
    /// Begins a turn of this autoscaler, or says how long it has to wait for one.
    pub(super) fn begin(&mut self, autoscaler: &Stored, now: Duration) -> Option<Duration> {
        let (key, uid) = (&autoscaler.key, &autoscaler.object.header.uid);
        if let Some(known) = self.of.get_mut(key).filter(|known| known.uid == *uid) {
            let rest = (known.turn + PAUSE).checked_sub(now).filter(|rest| !rest.is_zero());
            if rest.is_none() {
                known.turn = now;
            }
            return rest;
        }
        self.selectors.remove(key);
        self.of.insert(key.clone(), Remembered { uid: uid.clone(), turn: now, past: None });
        None
    }

    /// What was before, of one that has begun a turn while its target is to have so many.
    pub(super) fn past(&mut self, key: &Key, replicas: i32, now: Duration) -> Option<&mut Past> {
        let known = self.of.get_mut(key)?;
        Some(known.past.get_or_insert_with(|| Past::beginning(replicas, now)))
    }

    /// It is gone.
    pub(super) fn forget(&mut self, key: &Key) {
        self.selectors.remove(key);
        self.of.remove(key);
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
        assert_eq!(memory.begin(&one, at(300)), Some(at(700)));
        assert_eq!(memory.begin(&one, at(1000)), None);
        assert_eq!(memory.begin(&one, at(1999)), Some(at(1)));
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
