//! One entry of `metadata.managedFields`: who owns which fields, and since when. Its fields are read when somebody asks.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

use crate::fields;
use crate::set::Set;

/// Who the oldest updates are told to be of.
const ANCIENT: &str = "ancient-changes";

/// How fields were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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

    /// By which it is told apart.
    pub(crate) fn key(&self) -> Self {
        let is_update = self.operation == Operation::Update;
        let api_version = if is_update { self.api_version.clone() } else { String::new() };
        Self { api_version, ..self.clone() }
    }

    /// Whom the oldest updates in a version are told to be of.
    pub(crate) fn ancient(api_version: &str) -> Self {
        let (name, operation) = (ANCIENT.to_owned(), Operation::Update);
        Self { name, operation, api_version: api_version.to_owned(), subresource: String::new() }
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
        let members = parts.into_iter().filter(|(_, text)| !text.is_empty());
        let members = members.map(|(key, text)| format!("\"{key}\":{}", Value::from(text)));
        format!("{{{}}}", members.collect::<Vec<_>>().join(","))
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

    /// Looks at what it says, so that it is known to be a set.
    pub(crate) fn look(&mut self) -> Result<(), NotManagers> {
        if let Fields::Stored(stored) = &self.fields {
            let set = fields::read(stored);
            let wrong = |error| NotManagers(format!("error decoding set: {error}"));
            self.put(set.map_err(wrong)?);
        }
        Ok(())
    }

    /// Whether it is as it was stored.
    #[cfg(test)]
    pub(crate) fn is_unread(&self) -> bool {
        matches!(self.fields, Fields::Stored(_))
    }

    pub(crate) fn put(&mut self, set: Set) {
        self.fields = Fields::Read(set);
    }

    /// Takes paths away; answers whether something is left.
    pub(crate) fn lose(&mut self, lost: &Set) -> bool {
        if lost.is_empty() || !self.owns_some(lost) {
            return true;
        }
        self.change(|set| set.remove(lost));
        !self.is_empty()
    }

    /// Gives paths to it.
    pub(crate) fn gain(&mut self, won: &Set) {
        let has_all = match &self.fields {
            Fields::Stored(stored) => fields::has_all(stored, won),
            Fields::Read(_) => false,
        };
        if !has_all {
            self.change(|set| set.union(won));
        }
    }

    /// Changes what it owns.
    fn change(&mut self, change: impl FnOnce(&mut Set)) {
        let nothing = Fields::Read(Set::default());
        let mut set = match std::mem::replace(&mut self.fields, nothing) {
            Fields::Stored(stored) => fields::read(&stored).unwrap_or_default(),
            Fields::Read(set) => set,
        };
        change(&mut set);
        self.put(set);
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

    pub(crate) fn is_update(&self) -> bool {
        self.manager.operation == Operation::Update
    }

    pub(crate) fn write(self) -> Value {
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

/// The list is none that a server could have written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotManagers(pub(crate) String);

/// The entry at a place of a list.
pub(crate) fn read_entry(mut one: Value, place: usize) -> Result<Entry, NotManagers> {
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
