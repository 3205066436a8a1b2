//! `metadata.managedFields`: who owns what.
//!
//! ```text
//! stored list ─ read ─▶ Managers { Entry { Manager, time, fields } } ─ write ─▶ sorted list
//! ```
//!
//! Guarantees:
//! - what was stored and is not touched stays as it is, unread (`what_is_not_touched_is_not_read`);
//! - no more than ten entries are of updates (`the_oldest_updates_become_one`).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::fields;
use crate::set::Set;

/// So many entries of updates are kept; the oldest become one.
const UPDATES_MAX: usize = 10;

/// Who the oldest updates are told to be of.
const ANCIENT: &str = "ancient-changes";

/// How fields were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Applied.
    Apply,
    /// In any other way.
    Update,
}

impl Operation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who writes fields, and by which door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name: `kubectl`.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version in which it names fields: `apps/v1`.
    pub api_version: String,
    /// The door, empty for the object itself.
    pub subresource: String,
}

impl Manager {
    /// What is told apart: appliers are the same in any version.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let same = self.name == other.name && self.subresource == other.subresource;
        same && self.operation == other.operation
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    /// The text by which managers stand in order in messages.
    pub(crate) fn order(&self) -> String {
        let is_update = self.operation == Operation::Update;
        let parts = [
            ("manager", &*self.name),
            ("operation", self.operation.as_str()),
            ("apiVersion", if is_update { &*self.api_version } else { "" }),
            ("subresource", &*self.subresource),
        ];
        let said = parts.into_iter().filter(|(_, text)| !text.is_empty());
        let said = said.map(|(key, text)| format!("\"{key}\":{}", Value::from(text)));
        format!("{{{}}}", said.collect::<Vec<_>>().join(","))
    }
}

/// What one manager owns.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) manager: Manager,
    pub(crate) time: Option<String>,
    fields: Fields,
}

#[derive(Clone, Debug)]
enum Fields {
    /// As they are stored, in our own form.
    Stored(Map<String, Value>),
    Read(Set),
}

impl Entry {
    pub(crate) fn new(manager: Manager, time: Option<String>, set: Set) -> Self {
        Self { manager, time, fields: Fields::Read(set) }
    }

    /// All that it owns. What cannot be read is nothing.
    pub(crate) fn set(&self) -> Cow<'_, Set> {
        match &self.fields {
            Fields::Stored(stored) => Cow::Owned(fields::read(stored).unwrap_or_default()),
            Fields::Read(set) => Cow::Borrowed(set),
        }
    }

    pub(crate) fn put(&mut self, set: Set) {
        self.fields = Fields::Read(set);
    }

    /// Takes paths away; answers whether something is left.
    pub(crate) fn lose(&mut self, lost: &Set) -> bool {
        if lost.is_empty() || !self.owns_some(lost) {
            return true;
        }
        let mut set = self.set().into_owned();
        set.remove(lost);
        let left = !set.is_empty();
        self.put(set);
        left
    }

    /// Gives paths to it.
    pub(crate) fn gain(&mut self, won: &Set) {
        let has_all = match &self.fields {
            Fields::Stored(stored) => fields::has_all(stored, won),
            Fields::Read(_) => false,
        };
        if !has_all {
            let mut set = self.set().into_owned();
            set.union(won);
            self.put(set);
        }
    }

    /// Whether it owns nothing.
    pub(crate) fn is_empty(&self) -> bool {
        match &self.fields {
            Fields::Stored(stored) => stored.is_empty(),
            Fields::Read(set) => set.is_empty(),
        }
    }

    fn owns_some(&self, paths: &Set) -> bool {
        match &self.fields {
            Fields::Stored(stored) => fields::touches(stored, paths),
            Fields::Read(set) => !set.intersection(paths).is_empty(),
        }
    }

    fn is_update(&self) -> bool {
        self.manager.operation == Operation::Update
    }

    fn write(self) -> Value {
        let Self { manager, time, fields } = self;
        let fields = match fields {
            Fields::Stored(stored) => stored,
            Fields::Read(set) => fields::write(&set),
        };
        let mut out = json!({
            "operation": manager.operation.as_str(), "fieldsType": "FieldsV1", "fieldsV1": fields,
        });
        let texts = [
            ("manager", manager.name),
            ("apiVersion", manager.api_version),
            ("subresource", manager.subresource),
            ("time", time.unwrap_or_default()),
        ];
        for (key, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            out[key] = Value::String(text);
        }
        out
    }
}

/// Who owns what of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managers(pub(crate) Vec<Entry>);

/// The list is none that a server could have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotManagers(String);

impl Managers {
    /// What the server itself has stored.
    pub(crate) fn stored(list: Option<Value>) -> Self {
        Self::read(list).unwrap_or_default()
    }

    /// What somebody says: every set of it is looked at.
    pub(crate) fn said(list: Option<Value>) -> Result<Self, NotManagers> {
        let mut out = Self::read(list)?;
        for entry in &mut out.0 {
            if let Fields::Stored(stored) = &entry.fields {
                let set = fields::read(stored)
                    .map_err(|error| NotManagers(format!("error decoding set: {error}")))?;
                entry.put(set);
            }
        }
        Ok(out)
    }

    fn read(list: Option<Value>) -> Result<Self, NotManagers> {
        let mut out = Self::default();
        let Some(Value::Array(list)) = list else { return Ok(out) };
        for (place, one) in list.into_iter().enumerate() {
            let entry = read_entry(one, place)?;
            out.forget(&entry.manager);
            out.0.push(entry);
        }
        Ok(out)
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
        self.0.sort_by(|a, b| {
            let key = |entry: &Entry| {
                let Manager { name, operation, api_version, subresource } = entry.manager.clone();
                (operation, entry.time.clone(), name, api_version, subresource)
            };
            key(a).cmp(&key(b))
        });
        let list: Vec<Value> = self.0.into_iter().map(Entry::write).collect();
        (!list.is_empty()).then_some(Value::Array(list))
    }

    /// Makes one of the oldest updates where there are too many of them, one for each version.
    pub(crate) fn cap(&mut self) {
        let mut updates: Vec<Entry> = Vec::new();
        if self.0.iter().filter(|entry| entry.is_update()).count() <= UPDATES_MAX {
            return;
        }
        self.0.retain(|entry| {
            if entry.is_update() {
                updates.push(entry.clone());
            }
            !entry.is_update()
        });
        updates.sort_by_cached_key(|entry| (entry.time.clone(), entry.manager.order()));
        let mut left = updates.len();
        let mut first: BTreeMap<String, Manager> = BTreeMap::new();
        let mut kept = Self(updates.clone());
        for entry in updates {
            if left <= UPDATES_MAX {
                break;
            }
            let version = entry.manager.api_version.clone();
            let Some(first) = first.get(&version) else {
                first.insert(version, entry.manager);
                continue;
            };
            kept.merge_into_ancient(&entry.manager, first, version);
            left -= 1;
        }
        self.0.append(&mut kept.0);
    }

    /// What one manager owns becomes a part of what is told to be ancient, which begins with the oldest one.
    fn merge_into_ancient(&mut self, gone: &Manager, oldest: &Manager, api_version: String) {
        let bucket = Manager {
            name: ANCIENT.to_owned(),
            operation: Operation::Update,
            api_version,
            subresource: String::new(),
        };
        if self.of(&bucket).is_none()
            && let Some(entry) = self.of_mut(oldest)
        {
            entry.manager = bucket.clone();
        }
        let Some(Entry { time, .. }) = self.of(gone).cloned() else { return };
        let set = self.of(gone).map(|entry| entry.set().into_owned()).unwrap_or_default();
        if !gone.is(&bucket) {
            self.forget(gone);
        }
        if let Some(entry) = self.of_mut(&bucket) {
            entry.gain(&set);
            entry.time = time;
        }
    }
}

fn read_entry(mut one: Value, place: usize) -> Result<Entry, NotManagers> {
    let mut take = |key: &str| one.get_mut(key).map(Value::take).unwrap_or_default();
    let fields = take("fieldsV1");
    let fields = if let Value::Object(fields) = fields { fields } else { Map::new() };
    let mut text = |key: &str| {
        let value = take(key);
        if let Value::String(text) = value { text } else { String::new() }
    };
    let operation = text("operation");
    let known = [Operation::Apply, Operation::Update];
    let Some(operation) = known.into_iter().find(|one| one.as_str() == operation) else {
        return Err(NotManagers("operation must be `Apply` or `Update`".to_owned()));
    };
    let api_version = text("apiVersion");
    if api_version.is_empty() {
        return Err(NotManagers("apiVersion must not be empty".to_owned()));
    }
    match text("fieldsType").as_str() {
        "FieldsV1" => {}
        "" => {
            let why = format!("missing fieldsType in managed fields entry {place}");
            return Err(NotManagers(why));
        }
        other => {
            let why = format!("invalid fieldsType {other:?} in managed fields entry {place}");
            return Err(NotManagers(why));
        }
    }
    let (name, subresource) = (text("manager"), text("subresource"));
    let manager = Manager { name, operation, api_version, subresource };
    let time = Some(text("time")).filter(|time| !time.is_empty());
    Ok(Entry { manager, time, fields: Fields::Stored(fields) })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(matches!(one.fields, Fields::Stored(_)));
        assert!(!one.lose(&x));
        assert_eq!(Managers::stored(Some(list.clone())).write(), Some(list));
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
        assert_eq!(written[0]["manager"], ANCIENT);
        assert_eq!(written[0]["time"], "2026-01-01T00:00:02Z");
        assert_eq!(written[0]["fieldsV1"], json!({"f:0": {}, "f:1": {}, "f:2": {}}));
    }
}
