//! A list of conditions: how one is found by its type, and where one goes that is put into it.

use serde_json::{Value, json};

/// Where what takes the place of another one goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    /// Where the other one was.
    Kept,
    /// To the end.
    Last,
}

/// The condition of this type in a list.
#[must_use]
pub fn find<'a>(list: &'a Value, kind: &str) -> Option<&'a Value> {
    list.as_array()?.iter().find(|one| one["type"] == kind)
}

/// Whether the condition of this type holds.
#[must_use]
pub fn holds(list: &Value, kind: &str) -> bool {
    find(list, kind).is_some_and(|one| one["status"] == "True")
}

/// Since when a status is what it is.
pub(super) fn transition_time<'a>(old: Option<&'a Value>, status: &str, now: &'a str) -> &'a str {
    let same = old.filter(|old| old["status"] == status);
    same.and_then(|old| old["lastTransitionTime"].as_str()).unwrap_or(now)
}

/// Puts what is made of the condition of this type in its place, if anything is; whether it was.
pub(super) fn upsert(
    list: &mut Value,
    kind: &str,
    position: Position,
    make: impl FnOnce(Option<&Value>) -> Option<Value>,
) -> bool {
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(all) = list.as_array_mut() else { return false };
    let at = all.iter().position(|one| one["type"] == kind);
    let Some(new) = make(at.and_then(|at| all.get(at))) else { return false };
    if position == Position::Kept
        && let Some(slot) = at.and_then(|at| all.get_mut(at))
    {
        *slot = new;
    } else {
        at.map(|at| all.remove(at));
        all.push(new);
    }
    true
}
