//! What a transaction does to a state, before anything is written: expectations, limits, events.

use std::sync::Arc;

use freewheel_hub_api::object::{Key, Object};

use crate::state::State;
use crate::{CommitError, Event, Expect, GOING_BYTES, MAX_OBJECT_BYTES, MAX_OPERATIONS};
use crate::{Operation, Stored, Txn};

/// Longest key in bytes: four parts of at most 253 characters and change.
const MAX_KEY_BYTES: usize = 2_048;

/// A transaction that may commit.
pub(crate) struct Prepared {
    /// The state after it; the revision is unchanged when there are no events.
    pub(crate) state: State,
    /// As in [`crate::Committed`].
    pub(crate) results: Vec<Option<Arc<Stored>>>,
    /// At most one per key; none when it changes nothing.
    pub(crate) events: Vec<Event>,
}

/// Checks the transaction against `state` and works out what it comes to.
pub(crate) fn prepare(state: &State, txn: Txn) -> Result<Prepared, CommitError> {
    check_limits(&txn.operations)?;
    check_expectations(state, &txn.expect)?;
    let revision = state.revision + 1;
    let mut next = state.clone();
    let mut events: Vec<Event> = Vec::with_capacity(txn.operations.len());
    let mut results = Vec::with_capacity(txn.operations.len());
    for operation in txn.operations {
        match operation {
            Operation::Put(key, object) => {
                let before = next.find(&key).cloned();
                if let Some(same) = before.as_ref().filter(|before| before.object == object) {
                    results.push(Some(Arc::clone(same)));
                    continue;
                }
                let again = differs(state.find(&key), before.as_ref());
                let now = Arc::new(stored(&next, key, object, before.as_deref(), revision));
                next.insert(Arc::clone(&now));
                results.push(Some(Arc::clone(&now)));
                note(&mut events, Event { revision, now: Some(now), before }, again);
            }
            Operation::Delete(key) => {
                let before = next.remove(&key);
                results.push(before.clone());
                if before.is_some() {
                    let again = differs(state.find(&key), before.as_ref());
                    note(&mut events, Event { revision, now: None, before }, again);
                }
            }
        }
    }
    if !events.is_empty() {
        next.revision = revision;
    }
    Ok(Prepared { state: next, results, events })
}

fn stored(
    state: &State,
    mut key: Key,
    object: Object,
    before: Option<&Stored>,
    revision: crate::Revision,
) -> Stored {
    if let Some(before) = before {
        // The same strings, but these are shared with what is there already.
        key = before.key.clone();
    } else if let Some(shared) = state.shared_resource(&key.resource) {
        key.resource = shared;
    }
    Stored { key, object, revision, created: before.map_or(revision, |before| before.created) }
}

/// Whether the transaction has been at this key already.
fn differs(first: Option<&Arc<Stored>>, now: Option<&Arc<Stored>>) -> bool {
    match (first, now) {
        (Some(first), Some(now)) => !Arc::ptr_eq(first, now),
        (first, now) => first.is_some() || now.is_some(),
    }
}

/// Keeps one event per key: what a transaction does twice to a key is seen once. Few do anything `again`, and
/// only those look through what was done before.
fn note(events: &mut Vec<Event>, event: Event, again: bool) {
    let earlier = events.iter().position(|earlier| again && earlier.key() == event.key());
    let Some(at) = earlier else {
        events.push(event);
        return;
    };
    let earlier = events.remove(at);
    if earlier.before.is_some() || event.now.is_some() {
        events.push(Event { before: earlier.before, ..event });
    }
}

fn check_limits(operations: &[Operation]) -> Result<(), CommitError> {
    if MAX_OPERATIONS < operations.len() {
        let much = operations.len();
        return Err(CommitError::TooLarge(format!(
            "a transaction has at most {MAX_OPERATIONS} operations, this one has {much}"
        )));
    }
    for operation in operations {
        let Operation::Put(key, object) = operation else { continue };
        let length = object.body.len();
        let most = MAX_OBJECT_BYTES + if object.header.deleting { GOING_BYTES } else { 0 };
        if most < length {
            return Err(CommitError::TooLarge(format!(
                "an object has at most {most} bytes, {} {:?} has {length}",
                key.resource, key.name
            )));
        }
        let parts = [key.resource.as_str(), key.cluster.as_str(), &key.namespace, &key.name];
        let longest = MAX_KEY_BYTES < parts.iter().map(|part| part.len() + 1).sum();
        // Zero bytes end the parts of a key on disk.
        if longest || parts.iter().any(|part| part.contains('\0')) {
            return Err(CommitError::TooLarge(format!(
                "a key of {} is too long or has a zero byte",
                key.resource
            )));
        }
    }
    Ok(())
}

fn check_expectations(state: &State, expect: &[Expect]) -> Result<(), CommitError> {
    for (index, expected) in expect.iter().enumerate() {
        let found = state.find(expected.key());
        let holds = match (expected, found) {
            (Expect::Absent(_), found) => found.is_none(),
            (_, None) => false,
            (Expect::Present(_), Some(_)) => true,
            (Expect::Revision(_, revision), Some(found)) => found.revision == *revision,
            (Expect::Uid(_, uid), Some(found)) => found.object.header.uid == *uid,
        };
        if !holds {
            return Err(CommitError::Unmet { index, found: found.cloned() });
        }
    }
    Ok(())
}
