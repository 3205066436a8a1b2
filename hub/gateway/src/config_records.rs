//! ConfigMaps and Secrets of the root as spokes are told of them: translated once for all, when they change.
//!
//! Nobody keeps them here: they are there for as long as a session holds them.
//!
//! Guarantees:
//! - spokes that are told the same share it (`what_many_spokes_are_told_is_there_once`), also where the object was
//!   written again and says the same (`what_says_the_same_as_before_stays_what_it_was`);
//! - what nobody is told any more is gone (`what_nobody_is_told_any_more_is_gone`).

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use freewheel_hub_plan::Refused;
use freewheel_hub_store::Revision;
use freewheel_link::plan::{Record, RecordKey};
use freewheel_link::record_set::Sealed;
use parking_lot::Mutex;

/// With fewer of them it is not looked at which are gone.
const RECORDS_SWEPT_FROM: usize = 64;

/// Of all spokes.
#[derive(Default)]
pub(crate) struct ConfigRecords(Mutex<Cache>);

#[derive(Default)]
struct Cache {
    records: BTreeMap<RecordKey, Shared>,
    /// How many were left when those that are gone were last taken out.
    tidied: usize,
}

struct Shared {
    /// Of the object that it was last made of.
    revision: Revision,
    record: Weak<Sealed>,
}

impl Cache {
    fn find(&self, key: &RecordKey) -> Option<(Revision, Arc<Sealed>)> {
        let shared = self.records.get(key)?;
        Some((shared.revision, shared.record.upgrade()?))
    }

    fn put(&mut self, key: &RecordKey, revision: Revision, record: &Arc<Sealed>) {
        self.records.insert(key.clone(), Shared { revision, record: Arc::downgrade(record) });
        if 2 * self.tidied.max(RECORDS_SWEPT_FROM) < self.records.len() {
            self.records.retain(|_, shared| 0 < shared.record.strong_count());
            self.tidied = self.records.len();
        }
    }
}

impl ConfigRecords {
    /// The record of the object with this key as it was written at this revision.
    pub(crate) fn of(
        &self,
        key: &RecordKey,
        revision: Revision,
        translate: impl FnOnce() -> Result<Record, Refused>,
    ) -> Result<Arc<Sealed>, Refused> {
        let known = self.0.lock().find(key);
        if let Some((_, known)) = known.filter(|(of, _)| *of == revision) {
            return Ok(known);
        }
        // Nobody waits meanwhile.
        let made = Arc::new(Sealed::from(translate()?));
        let mut cache = self.0.lock();
        let Some((of, there)) = cache.find(key) else {
            cache.put(key, revision, &made);
            return Ok(made);
        };
        let made = if there.digest() == made.digest() { there } else { made };
        // Who looks at an older snapshot takes nothing from those that come.
        if of < revision {
            cache.put(key, revision, &made);
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_link::names::ClusterName;
    use freewheel_link::plan::Kind;

    use super::*;

    fn key(name: &str) -> RecordKey {
        let realm = ClusterName::root();
        RecordKey { realm, kind: Kind::CONFIG_MAP_V1, key: format!("default/{name}") }
    }

    fn told(records: &ConfigRecords, name: &str, revision: u64, body: u8) -> Arc<Sealed> {
        let record = || Ok(Record { key: key(name), revision, needs: 0, body: vec![body; 9] });
        records.of(&key(name), revision, record).unwrap()
    }

    #[test]
    fn what_many_spokes_are_told_is_there_once() {
        let records = ConfigRecords::default();
        let first = told(&records, "a", 1, 1);
        let again = records.of(&key("a"), 1, || panic!("it is there"));
        assert!(Arc::ptr_eq(&first, &again.unwrap()));
        let newer = told(&records, "a", 2, 2);
        assert!(!Arc::ptr_eq(&first, &newer));
        assert!(Arc::ptr_eq(&newer, &told(&records, "a", 2, 2)));
        let late = told(&records, "a", 1, 1);
        assert_eq!(late.digest(), first.digest(), "as the snapshot has it");
        assert!(Arc::ptr_eq(&newer, &told(&records, "a", 2, 2)));
    }

    #[test]
    fn what_says_the_same_as_before_stays_what_it_was() {
        let records = ConfigRecords::default();
        let first = told(&records, "a", 1, 1);
        assert!(Arc::ptr_eq(&first, &told(&records, "a", 2, 1)));
        let known = records.of(&key("a"), 2, || panic!("it is known"));
        assert!(Arc::ptr_eq(&first, &known.unwrap()));
    }

    #[test]
    fn what_nobody_is_told_any_more_is_gone() {
        let records = ConfigRecords::default();
        let held = told(&records, "held", 1, 1);
        for number in 0..10_000 {
            let one = told(&records, &number.to_string(), 1, 1);
            let weak = Arc::downgrade(&one);
            drop(one);
            assert!(weak.upgrade().is_none());
        }
        assert!(records.0.lock().records.len() <= 2 * RECORDS_SWEPT_FROM);
        assert!(Arc::ptr_eq(&held, &told(&records, "held", 1, 1)));
    }
}
