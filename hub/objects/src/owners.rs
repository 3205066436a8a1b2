//! Who owns which fields: what a write makes of `metadata.managedFields`.
//!
//! ```text
//! create, update, patch ─ tracked, before admission ─▶ the writer owns what it changed
//! apply                 ─ said by what came of it
//! binding               ─ as they were
//! ```
//!
//! Guarantees:
//! - every write says whose its changes are (`every_write_says_whose_its_changes_are`);
//! - a write that would change nothing but the time of one is none
//!   (`an_apply_that_changes_nothing_keeps_the_revision`);
//! - what is too large with its owners is written without (`owners_make_nothing_too_large`).

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Object;
use freewheel_hub_schema::time;
use freewheel_hub_schema::types::Typed;
use freewheel_hub_store::MAX_OBJECT_BYTES;
use freewheel_hub_structured_merge::{
    self as structured_merge, Manager, Operation, ResourcePart, Writing,
};
use serde_json::{Map, Value};

use super::{Canonical, ObjectRef, WriteOptions, meta};
use crate::clock::Clock;

/// Where they stand in an object's metadata.
const MANAGED_FIELDS: &str = "managedFields";

/// The manager of who gives no name.
const UNKNOWN: &str = "unknown";

/// How the owners come to be known after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owners {
    /// By what it changes.
    Tracked,
    /// The object that is written says them: it was applied.
    Said,
}

/// Who writes an object, and by which door.
pub(super) struct Writer<'a> {
    /// What stamps it.
    pub(super) clock: &'a dyn Clock,
    pub(super) how: &'a WriteOptions,
    pub(super) target: &'a ObjectRef,
    pub(super) subresource: Option<&'a str>,
}

impl Writer<'_> {
    /// Says in `new`, which was `old`, who owns what now.
    pub(super) fn track(&self, old: Option<&Value>, new: &mut Value) {
        // What is not the scheduler's answer itself, nobody has asked for.
        if self.subresource == Some("binding") {
            return;
        }
        let typed = Typed::from(&*self.target.kind);
        let part =
            if self.subresource.is_none() { ResourcePart::Main } else { ResourcePart::Subresource };
        self.writing(Operation::Update, |writing| {
            structured_merge::tracked(typed, part, old, new, writing);
        });
    }

    /// What comes of `config` laid over `live`, and whose it is.
    pub(super) fn apply(
        &self,
        live: Option<&Value>,
        config: &Value,
        force: bool,
    ) -> Result<Value, ApiError> {
        let typed = Typed::from(&*self.target.kind);
        let applied = self.writing(Operation::Apply, |writing| {
            structured_merge::applied(typed, live, config, writing, force)
        });
        applied.map_err(ApiError::from)
    }

    fn writing<T>(&self, operation: Operation, run: impl FnOnce(&Writing<'_>) -> T) -> T {
        let kind = &self.target.kind;
        let name = match self.how.actor.manager() {
            "" => UNKNOWN,
            name => name,
        };
        let manager = Manager {
            name: name.to_owned(),
            operation,
            api_version: kind.api_version().to_owned(),
            subresource: self.subresource.unwrap_or_default().to_owned(),
        };
        let now = time::from_unix(self.clock.unix_seconds());
        let reset = kind.reset_fields(self.subresource);
        run(&Writing { manager: &manager, reset, now: &now })
    }
}

/// Takes the owners out of an object, for as long as others look at it.
pub(super) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove(MANAGED_FIELDS)
}

/// Puts them back.
pub(super) fn put(object: &mut Value, owners: Option<Value>) -> Result<(), ApiError> {
    let meta = meta::of(object)?;
    match owners {
        Some(owners) => meta.insert(MANAGED_FIELDS.to_owned(), owners),
        None => meta.remove(MANAGED_FIELDS),
    };
    Ok(())
}

/// Takes the times of `old` where nothing else has changed.
pub(super) fn settle_times(new: &mut Value, old: &Value) -> Result<(), ApiError> {
    fn of(object: &Value) -> Option<&Value> {
        object.get("metadata")?.get(MANAGED_FIELDS)
    }
    // Most writes change something, which shows before any owner is looked at.
    if same_but_for_owners(new, old) && structured_merge::same_but_for_times(of(new), of(old)) {
        put(new, of(old).cloned())?;
    }
    Ok(())
}

fn same_but_for_owners(a: &Value, b: &Value) -> bool {
    same_but_for("metadata", a, b, |a, b| same_but_for(MANAGED_FIELDS, a, b, |_, _| true))
}

fn same_but_for(key: &str, a: &Value, b: &Value, same: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else { return a == b };
    let rest = |map: &'_ Map<String, Value>| map.len() - usize::from(map.contains_key(key));
    rest(a) == rest(b)
        && a.iter().filter(|(name, _)| *name != key).all(|(name, value)| b.get(name) == Some(value))
        && same(a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null))
}

/// The object for the store; without its owners where it is too large with them, and was not applied.
pub(super) async fn object(
    value: Canonical,
    target: &ObjectRef,
    owners: Owners,
) -> Result<Object, ApiError> {
    let object = value.object(&target.kind).await?;
    if owners == Owners::Said || object.body.len() <= MAX_OBJECT_BYTES {
        return Ok(object);
    }
    let mut value = Canonical::of_object(&object, &target.kind).await?;
    drop(take(value.rules()));
    value.object(&target.kind).await
}
