//! What writers do to one object, one after the other, and what holds after each of them.
//!
//! ```text
//! apply   laid over what is there ─ form ─▶ object ─ applied again ─▶ the same
//! update  in the place of what is there ─ form ─ tracked ─▶ object ─ written again ─▶ the same
//! ```

use std::collections::BTreeSet;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::types::{Typed, canonicalise};
use freewheel_hub_structured_merge::{
    Manager, Operation, ResourcePart, Writing, applied, same_but_for_times, tracked,
};
use serde_json::{Value, json};

use crate::object::WORDS_BYTES_MAX;
use crate::parts;

/// Who owns it is told in no more than so many times its own bytes for each who has written.
const OWNERS_TIMES_MAX: usize = 64;

/// One write.
pub(crate) struct Write<'a> {
    /// Under which name.
    pub(crate) manager: &'a str,
    /// Taking what others own.
    pub(crate) force: bool,
    /// What is written.
    pub(crate) object: Value,
}

/// How sure it is that nothing happens when the same is applied again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// It is.
    Nothing,
    /// What is empty comes and goes with its owners, as it does upstream, and may be a conflict then.
    Anything,
}

/// An object that several write.
pub(crate) struct Pipeline<'a> {
    typed: Typed<'a>,
    /// What is stored.
    pub(crate) live: Option<Value>,
    second: u32,
    writers: BTreeSet<String>,
}

impl<'a> Pipeline<'a> {
    /// Nothing is there yet.
    pub(crate) fn of(typed: Typed<'a>) -> Self {
        Self { typed, live: None, second: 0, writers: BTreeSet::new() }
    }

    /// Lays an object over what is there.
    pub(crate) fn apply(&mut self, write: &Write<'_>, again: Again) {
        let first = match self.laid(write) {
            Ok(Some(object)) => object,
            // What came of it is none of its kind: it is refused, and nothing has changed.
            Ok(None) => return,
            Err(error) => {
                let most = WORDS_BYTES_MAX + 8 * parts::size(&write.object);
                let told = error.message.len();
                assert!(told <= most, "{told} bytes of a message");
                return;
            }
        };
        self.store(first, write.manager, "Apply");
        if again == Again::Anything || says_null_of_an_element(&write.object) {
            return;
        }
        let again = self.laid(write);
        match again {
            Ok(again) => self.is_unchanged(again.as_ref(), "what is applied again"),
            Err(error) => panic!("what is applied again is refused: {}", error.message),
        }
    }

    /// Puts an object in the place of what is there.
    pub(crate) fn update(&mut self, write: &Write<'_>) {
        let mut new = write.object.clone();
        if let (Some(live), Some(meta)) = (&self.live, new.get_mut("metadata"))
            && let Some(owners) = live.pointer("/metadata/managedFields")
        {
            meta["managedFields"] = owners.clone();
        }
        let Some(written) = self.tracked(new, write.manager) else { return };
        self.store(written.clone(), write.manager, "Update");
        let again = self.tracked(written, write.manager);
        self.is_unchanged(again.as_ref(), "what is written again");
    }

    fn laid(&self, write: &Write<'_>) -> Result<Option<Value>, ApiError> {
        let manager = self.manager(write.manager, Operation::Apply);
        let now = self.now();
        let writing = Writing { manager: &manager, reset: &[], now: &now };
        let live = self.live.as_ref();
        let object = applied(self.typed, live, &write.object, &writing, write.force)?;
        Ok(self.formed(object))
    }

    fn tracked(&self, new: Value, name: &str) -> Option<Value> {
        let mut new = self.formed(new)?;
        let manager = self.manager(name, Operation::Update);
        let now = self.now();
        let writing = Writing { manager: &manager, reset: &[], now: &now };
        tracked(self.typed, ResourcePart::Main, self.live.as_ref(), &mut new, &writing);
        Some(new)
    }

    fn formed(&self, mut object: Value) -> Option<Value> {
        canonicalise(&mut object, self.typed).ok().map(|_| object)
    }

    fn manager(&self, name: &str, operation: Operation) -> Manager {
        let (name, api_version) = (name.to_owned(), self.typed.api_version());
        Manager { name, operation, api_version, subresource: String::new() }
    }

    fn now(&self) -> String {
        format!("2026-01-01T{:02}:{:02}:00Z", self.second / 60 % 24, self.second % 60)
    }

    fn store(&mut self, object: Value, manager: &str, operation: &str) {
        self.writers.insert(format!("{manager} {operation}"));
        self.owners_are_well_formed(&object);
        self.live = Some(object);
        self.second += 1;
    }

    fn owners_are_well_formed(&self, object: &Value) {
        let owners = object.pointer("/metadata/managedFields");
        let owners = owners.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        // Beside those that wrote: who had it before anybody applied.
        assert!(owners.len() <= self.writers.len() + 1, "{} owners: {object}", owners.len());
        let mut seen = BTreeSet::new();
        for owner in owners {
            let text = |key: &str| owner.get(key).and_then(Value::as_str).unwrap_or_default();
            let operation = text("operation");
            assert!(["Apply", "Update"].contains(&operation), "{owner}");
            assert_eq!(text("fieldsType"), "FieldsV1", "{owner}");
            assert_eq!(text("apiVersion"), self.typed.api_version(), "{owner}");
            let is_new = seen.insert((text("manager"), operation, text("subresource")));
            assert!(is_new, "twice in one list: {owner}");
            let fields = owner.get("fieldsV1").unwrap_or(&Value::Null);
            assert!(fields.as_object().is_some_and(|fields| !fields.is_empty()), "{owner}");
            well_formed(fields);
        }
        let most = OWNERS_TIMES_MAX * (parts::size(object) + 1_024) * self.writers.len();
        assert!(parts::size(&json!(owners)) <= most, "owners of {most} bytes");
    }

    fn is_unchanged(&self, again: Option<&Value>, what: &str) {
        let live = self.live.as_ref();
        let owners = |object: Option<&Value>| {
            object.and_then(|object| object.pointer("/metadata/managedFields")).cloned()
        };
        let rest = |object: Option<&Value>| {
            let mut object = object.cloned().unwrap_or_default();
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.remove("managedFields");
            }
            drop_empty(&mut object);
            object
        };
        assert_eq!(rest(again), rest(live), "{what} is another object");
        let (before, after) = (owners(live), owners(again));
        assert!(
            same_but_for_times(before.as_ref(), after.as_ref()),
            "{what} has other owners: {before:?} became {after:?}"
        );
    }
}

/// What is empty is to upstream as good as absent: it comes and goes with what is inside.
fn drop_empty(value: &mut Value) {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        Value::Object(map) => {
            map.values_mut().for_each(drop_empty);
            map.retain(|_, inner| !is_empty(inner));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether an element of a list says that a field is null. To upstream that is a key like any other, and not the default that
/// the object has then in its place: what is applied again is another element.
fn says_null_of_an_element(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(|item| {
            let fields = item.as_object().into_iter().flat_map(|map| map.values());
            fields.into_iter().any(Value::is_null) || says_null_of_an_element(item)
        }),
        Value::Object(map) => map.values().any(says_null_of_an_element),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Steps have one of four signs, and what is inside of each is of that form again.
fn well_formed(fields: &Value) {
    let Value::Object(fields) = fields else { panic!("{fields} are no fields") };
    for (step, inner) in fields {
        let reads = |text: &str| serde_json::from_str::<Value>(text).is_ok();
        let is_step = match step.split_once(':') {
            Some(("f", _)) => true,
            Some(("k", keys)) => keys.starts_with('{') && reads(keys),
            Some(("v", value)) => reads(value),
            Some(("i", place)) => place.parse::<i64>().is_ok(),
            Some(_) | None => step == ".",
        };
        assert!(is_step, "{step:?} is no step");
        well_formed(inner);
    }
}
