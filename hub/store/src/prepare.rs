//! What a transaction does to a state, before anything is written: expectations, limits, events.

use std::collections::HashSet;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Object};

use crate::store_state::StoreState;
use crate::stored_bytes::{bytes_of_key, texts_of};
use crate::{CommitError, DELETION_EXTRA_BYTES, Event, Expect, MAX_OBJECT_BYTES, MAX_OPERATIONS};
use crate::{MAX_REQUEST_BYTES, Operation, Revision, Stored, Txn};
use crate::{counter, room};

/// Longest key in bytes: four parts of at most 253 characters and change.
const MAX_KEY_BYTES: usize = 2_048;

/// A transaction that may commit.
pub(crate) struct Prepared {
    /// The state after it; the revision is unchanged when there are no events.
    pub(crate) state: StoreState,
    /// As in [`crate::Committed`].
    pub(crate) results: Vec<Option<Arc<Stored>>>,
    /// At most one per key; none when it changes nothing.
    pub(crate) events: Vec<Event>,
    /// What it relies on.
    pub(crate) expect: Vec<Expect>,
}

/// Where revisions begin anew, and what is written with the first of them, if anything is.
#[derive(Clone, Debug)]
pub(crate) struct Skip {
    pub(crate) beyond: Revision,
    pub(crate) mark: Option<Operation>,
}

impl Skip {
    /// The one that goes further counts.
    pub(crate) fn put_into(self, known: &mut Option<Self>) {
        if known.as_ref().is_none_or(|known| known.beyond < self.beyond) {
            *known = Some(self);
        }
    }
}

/// As [`prepare`], so many revisions on, or beyond those that are to be skipped: whatever is the first there does what
/// marks it as well.
pub(crate) fn prepare_next(
    state: &StoreState,
    step: Revision,
    skip: Option<&Skip>,
    txn: Txn,
) -> Result<Prepared, CommitError> {
    let Some(skip) = skip.filter(|skip| state.revision < skip.beyond) else {
        return prepare(state, state.revision + step, txn);
    };
    let revision = skip.beyond + step;
    let mut prepared = prepare(state, revision, txn)?;
    // Who changes nothing skips nothing.
    if let Some(mark) = skip.mark.clone().filter(|_| !prepared.events.is_empty()) {
        let mark = Txn { expect: Vec::new(), operations: vec![mark] };
        let marked = prepare(&prepared.state, revision, mark)?;
        prepared.state = marked.state;
        prepared.events.extend(marked.events);
    }
    Ok(prepared)
}

/// Checks the transaction against `state` and works out what it comes to at `revision`, which is a later one.
fn prepare(state: &StoreState, revision: Revision, txn: Txn) -> Result<Prepared, CommitError> {
    check_form(&txn)?;
    check_expectations(state, &txn)?;
    let mut next = state.clone();
    let mut events: Vec<Event> = Vec::with_capacity(txn.operations.len());
    let mut results = Vec::with_capacity(txn.operations.len());
    for operation in txn.operations {
        let deletes = matches!(operation, Operation::Delete(_));
        let (key, object) = match operation {
            Operation::Put(key, object) => (key, Some(object)),
            Operation::Delete(key) => (key, None),
            Operation::Add(key, by) => {
                let object = counter::record(state.counter_at(&key)?, by);
                (key, object)
            }
        };
        // No key is here twice: this is also what was there before the transaction.
        let before = state.find(&key).cloned();
        let Some(object) = object else {
            results.push(before.clone().filter(|_| deletes));
            if before.is_some() {
                next.remove(&key);
                events.push(Event { revision, now: None, before });
            }
            continue;
        };
        if let Some(same) = before.as_ref().filter(|before| before.object == object) {
            results.push(Some(Arc::clone(same)));
            continue;
        }
        let now = Arc::new(stored(&next, key, object, before.as_deref(), revision));
        next.insert(Arc::clone(&now));
        results.push(Some(Arc::clone(&now)));
        events.push(Event { revision, now: Some(now), before });
    }
    if !events.is_empty() {
        next.revision = revision;
    }
    Ok(Prepared { state: next, results, events, expect: txn.expect })
}

fn stored(
    state: &StoreState,
    mut key: Key,
    object: Object,
    before: Option<&Stored>,
    revision: Revision,
) -> Stored {
    if let Some(before) = before {
        // The same strings, but these are shared with what is there already.
        key = before.key.clone();
    } else if let Some(shared) = state.shared_resource(&key.resource) {
        key.resource = shared;
    }
    Stored { key, object, revision, created: before.map_or(revision, |before| before.created) }
}

/// Limits, and that no key is written twice.
fn check_form(txn: &Txn) -> Result<(), CommitError> {
    for (what, much) in [("expectations", txn.expect.len()), ("operations", txn.operations.len())] {
        if MAX_OPERATIONS < much {
            return Err(CommitError::TooLarge(format!(
                "a transaction has at most {MAX_OPERATIONS} {what}, this one has {much}"
            )));
        }
    }
    for operation in &txn.operations {
        if let Operation::Put(key, object) = operation {
            check_object(key, object)?;
        }
        check_key(operation.key())?;
    }
    check_bytes(txn)?;
    let mut seen = HashSet::new();
    let mut keys = txn.operations.iter().map(Operation::key);
    // Most have one.
    let twice = 1 < txn.operations.len() && !keys.all(|key| seen.insert(key));
    match twice {
        true => Err(CommitError::Malformed("it writes a key twice".to_owned())),
        false => Ok(()),
    }
}

fn check_object(key: &Key, object: &Object) -> Result<(), CommitError> {
    let length = object.body.len();
    let most = MAX_OBJECT_BYTES + if object.header.deleting { DELETION_EXTRA_BYTES } else { 0 };
    if most < length {
        return Err(CommitError::TooLarge(format!(
            "an object has at most {most} bytes, {} {:?} has {length}",
            key.resource, key.name
        )));
    }
    Ok(())
}

fn check_key(key: &Key) -> Result<(), CommitError> {
    let parts = [key.resource.as_str(), key.cluster.as_str(), &key.namespace, &key.name];
    // Zero bytes end the parts of a key on disk.
    if MAX_KEY_BYTES < bytes_of_key(key) || parts.iter().any(|part| part.contains('\0')) {
        return Err(CommitError::TooLarge(format!(
            "a key of {} is too long or has a zero byte",
            key.resource
        )));
    }
    Ok(())
}

fn check_bytes(txn: &Txn) -> Result<(), CommitError> {
    let keys = txn.expect.iter().map(Expect::key).chain(txn.operations.iter().map(Operation::key));
    let values = txn.operations.iter().map(|operation| match operation {
        Operation::Put(_, object) => object.body.len() + texts_of(&object.header),
        Operation::Delete(_) | Operation::Add(..) => 0,
    });
    let much: usize = keys.map(bytes_of_key).chain(values).sum();
    if MAX_REQUEST_BYTES < much {
        return Err(CommitError::TooLarge(format!(
            "a transaction has at most {MAX_REQUEST_BYTES} bytes, this one has {much}"
        )));
    }
    Ok(())
}

fn check_expectations(state: &StoreState, txn: &Txn) -> Result<(), CommitError> {
    for (index, expected) in txn.expect.iter().enumerate() {
        let found = state.find(expected.key());
        let holds = match (expected, found) {
            (Expect::AtMost(key, most), _) => fits(state, key, *most, &txn.operations)?,
            (Expect::ClusterAtMost(key, most), _) => {
                room::check(state, &key.cluster, *most, &txn.operations)?;
                true
            }
            (Expect::Absent(_), found) => found.is_none(),
            (_, None) => false,
            (Expect::Present(_), Some(_)) => true,
            (Expect::Revision(_, revision), Some(found)) => found.revision == *revision,
            (Expect::Created(_, revision), Some(found)) => found.created == *revision,
        };
        if !holds {
            return Err(CommitError::Unmet { index, found: found.cloned() });
        }
    }
    Ok(())
}

/// Whether the counter stays within `most` with what the operations add to it.
fn fits(
    state: &StoreState,
    key: &Key,
    most: u64,
    operations: &[Operation],
) -> Result<bool, CommitError> {
    let added = operations.iter().find_map(|operation| match operation {
        Operation::Add(counter, by) if counter == key => Some(*by),
        Operation::Add(..) | Operation::Put(..) | Operation::Delete(_) => None,
    });
    Ok(state.counter_at(key)?.saturating_add_signed(added.unwrap_or_default()) <= most)
}
