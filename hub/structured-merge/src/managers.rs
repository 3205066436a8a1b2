//! `metadata.managedFields`: who owns what.
//!
//! ```text
//! stored list ─ read ─▶ Managers { Entry { Manager, time, fields } } ─ write ─▶ sorted list
//! ```
//!
//! Guarantees:
//! - what was stored and is not touched stays as it is, unread (`what_is_not_touched_is_not_read`);
//! - no more than ten entries are of updates (`the_oldest_updates_become_one`);
//! - however many owners somebody says there are, each is looked at once (`many_owners_are_read_in_no_time`).

use std::collections::HashMap;

use serde_json::Value;

use crate::entry::read_entry;
use crate::oldest::Oldest;

pub(crate) use crate::entry::{Entry, NotManagers};
pub use crate::entry::{Manager, Operation};

/// So many entries of updates are kept; the oldest become one.
const UPDATES_MAX: usize = 10;

/// Who owns what of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managers(pub(crate) Vec<Entry>);

impl Managers {
    /// What the server itself has stored.
    pub(crate) fn stored(list: Option<Value>) -> Self {
        Self::read(list).unwrap_or_default()
    }

    /// What somebody says: every set of it is looked at.
    pub(crate) fn from_client(list: Option<Value>) -> Result<Self, NotManagers> {
        let mut out = Self::read(list)?;
        for entry in &mut out.0 {
            entry.look()?;
        }
        Ok(out)
    }

    fn read(list: Option<Value>) -> Result<Self, NotManagers> {
        let Some(Value::Array(list)) = list else { return Ok(Self::default()) };
        let mut all: Vec<Option<Entry>> = Vec::with_capacity(list.len());
        let mut places = HashMap::with_capacity(list.len());
        for (place, one) in list.into_iter().enumerate() {
            let entry = read_entry(one, place)?;
            // The last that one says counts.
            let before = places.insert(entry.manager.key(), place);
            if let Some(before) = before.and_then(|before| all.get_mut(before)) {
                *before = None;
            }
            all.push(Some(entry));
        }
        Ok(Self(all.into_iter().flatten().collect()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a manager owns.
    pub(crate) fn of(&self, manager: &Manager) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.manager.is(manager))
    }

    pub(crate) fn of_mut(&mut self, manager: &Manager) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.manager.is(manager))
    }

    /// Its entry goes.
    pub(crate) fn forget(&mut self, manager: &Manager) {
        self.0.retain(|entry| !entry.manager.is(manager));
    }

    /// As it is stored; nothing when nobody owns anything.
    pub(crate) fn write(mut self) -> Option<Value> {
        self.0.sort_by_cached_key(|entry| {
            let Manager { name, operation, api_version, subresource } = entry.manager.clone();
            (operation, entry.time.clone(), name, api_version, subresource)
        });
        let list: Vec<Value> = self.0.into_iter().map(Entry::write).collect();
        (!list.is_empty()).then_some(Value::Array(list))
    }

    /// Makes one of the oldest updates where there are too many of them, one for each version.
    pub(crate) fn cap(&mut self) {
        if self.0.iter().filter(|entry| entry.is_update()).count() <= UPDATES_MAX {
            return;
        }
        let (mut updates, kept): (Vec<Entry>, Vec<Entry>) =
            self.0.drain(..).partition(Entry::is_update);
        self.0 = kept;
        updates.sort_by_cached_key(|entry| (entry.time.clone(), entry.manager.order()));
        self.0.extend(Oldest::of(updates).merged(UPDATES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::set::Set;

    fn entry(name: &str, second: usize, fields: &Value) -> Value {
        json!({"manager": name, "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
            "time": format!("2026-01-01T00:00:{second:02}Z"), "fieldsV1": fields})
    }

    #[test]
    fn what_is_not_touched_is_not_read() {
        let list = json!([entry("a", 1, &json!({"f:data": {"f:x": {}}}))]);
        let mut managers = Managers::stored(Some(list.clone()));
        let (x, y) = (Set::of_fields(&[&["data", "x"]]), Set::of_fields(&[&["data", "y"]]));
        let one = managers.0.first_mut().unwrap();
        assert!(one.lose(&y));
        one.gain(&x);
        assert!(one.is_unread());
        assert!(!one.lose(&x));
        assert_eq!(Managers::stored(Some(list.clone())).write(), Some(list));
    }

    #[test]
    fn many_owners_are_read_in_no_time() {
        let all = |own: usize| {
            let of =
                |n: usize| entry(&format!("m{}", n % own), 1, &json!({ format!("f:a{n}"): {} }));
            Some((0..20_000).map(of).collect())
        };
        let begun = std::time::Instant::now();
        let mut twice = Managers::from_client(all(10_000)).unwrap();
        assert_eq!(twice.0.len(), 10_000);
        assert_eq!(twice.0[0].set().len(), 1, "the last that one says counts");
        twice.cap();
        let written = twice.write().unwrap();
        assert_eq!(written.as_array().unwrap().len(), UPDATES_MAX);
        let fields = written
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["fieldsV1"].as_object().unwrap().len());
        assert_eq!(fields.sum::<usize>(), 10_000);
        assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_oldest_updates_become_one() {
        let all: Vec<Value> = (0..12)
            .map(|n| entry(&format!("m{n:02}"), n, &json!({ format!("f:{n}"): {} })))
            .collect();
        let mut managers = Managers::stored(Some(Value::Array(all)));
        managers.cap();
        let written = managers.write().unwrap();
        let names: Vec<_> = written.as_array().unwrap().iter().map(|e| &e["manager"]).collect();
        assert_eq!(names.len(), 10);
        assert_eq!(written[0]["manager"], "ancient-changes");
        assert_eq!(written[0]["time"], "2026-01-01T00:00:02Z");
        assert_eq!(written[0]["fieldsV1"], json!({"f:0": {}, "f:1": {}, "f:2": {}}));
    }
}
