//! Creates: everything a new object gets, and its one transaction.

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Trait;

use super::canonical::Formed;
use super::refusal::NotCommitted;
use super::{
    Canonical, How, Objects, Place, Verb, Written, admission, meta, namespace, pins, refusal,
    service, shape,
};
use freewheel_hub_store::{CommitError, Expect, Operation, Revision, Stored, Txn};

/// How often a name, address or port may be just then taken. Every round somebody got through.
const TRIES: u32 = 64;

pub(super) async fn create(
    objects: &Objects,
    how: &How,
    place: &Place,
    (mut value, mut warnings): Formed,
) -> Result<Written, ApiError> {
    let kind = &place.kind;
    shape::default(&mut value, kind);
    warnings.extend(pins::keep(how, kind, value.rules(), None));
    admission::of_new(&*objects.store, place, value.rules())?;
    let generated = meta::text(&value, "name").is_empty();
    kind.strategy.prepare_create(value.rules());
    warnings.extend(kind.strategy.warnings(&value));
    // Only a proposal that chance may have to repeat is kept, as text: a tree of values is many times larger.
    let may_repeat = generated || kind.has(Trait::HoldsAddresses);
    let again = may_repeat.then(|| value.text()).transpose()?;
    let mut proposal = value;
    for left in (0..TRIES).rev() {
        let last = left == 0 || !may_repeat;
        match attempt(objects, how, place, proposal).await {
            Err(Refused::Taken(_)) if generated && !last => {}
            Err(Refused::Again(_)) if !last => {}
            Err(Refused::Taken(error) | Refused::Again(error) | Refused::Final(error)) => {
                return Err(error);
            }
            Ok(stored) => return Ok(Written { stored, changed: true, created: true, warnings }),
        }
        let Some(again) = &again else { break };
        proposal = again.read()?;
    }
    Err(refusal::modified(place))
}

enum Refused {
    /// The name is taken.
    Taken(ApiError),
    /// An address or port was taken meanwhile.
    Again(ApiError),
    Final(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Final(error)
    }
}

async fn attempt(
    objects: &Objects,
    how: &How,
    place: &Place,
    value: Canonical,
) -> Result<Arc<Stored>, Refused> {
    let (place, mut txn) = propose(objects, place, value)?;
    for left in (0..TRIES).rev() {
        match objects.commit(how, Verb::Create, txn.clone(), 0).await {
            Ok(stored) => return Ok(stored),
            Err(NotCommitted::Store(CommitError::Unmet { index: 0, .. })) => {
                return Err(Refused::Taken(refusal::already_exists(&place)));
            }
            // Its namespace is going, gone or another by now, or was changed otherwise: looked at again.
            Err(NotCommitted::Store(CommitError::Unmet { index: 1, .. }))
                if place.kind.namespaced && left != 0 =>
            {
                let present = namespace::admit(&*objects.store.snapshot(), &place)?;
                txn.expect.splice(1..2, present);
            }
            Err(error) if error.is_race() => return Err(Refused::Again(error.of(&place))),
            Err(error) => return Err(error.of(&place).into()),
        }
    }
    Err(Refused::Final(refusal::modified(&place)))
}

/// Where it goes, and its transaction, in which no tree of values is left.
fn propose(
    objects: &Objects,
    place: &Place,
    mut value: Canonical,
) -> Result<(Place, Txn), Refused> {
    let kind = &place.kind;
    let generated = meta::stamp(value.rules(), kind, &*objects.clock, &*objects.chance)?;
    if generated {
        // Some defaults follow from the name.
        kind.strategy.default(value.rules());
    }
    let place = Place { name: meta::text(&value, "name").to_owned(), ..place.clone() };
    let snapshot = objects.store.snapshot();
    let present = namespace::admit(&*snapshot, &place)?;
    let key = place.key();
    if snapshot.get(&key).is_some() {
        return Err(Refused::Taken(refusal::already_exists(&place)));
    }
    let claims = service::claim(&*snapshot, &*objects.chance, &place, value.rules(), None)?;
    shape::check_new(&value, &place)?;
    let object = value.object(kind)?;
    let mut txn = Txn { expect: vec![Expect::Absent(key.clone())], operations: Vec::new() };
    txn.expect.extend(present);
    txn.expect.extend(claims.expect);
    txn.operations.push(Operation::Put(key, object));
    txn.operations.extend(claims.operations);
    Ok((place, txn))
}

impl Objects {
    /// Commits, or only pretends to on a dry run; answers the object of the first operation.
    pub(super) async fn commit(
        &self,
        how: &How,
        verb: Verb,
        mut txn: Txn,
        revision_before: Revision,
    ) -> Result<Arc<Stored>, NotCommitted> {
        if how.dry_run {
            return Ok(pretend(txn, revision_before)?);
        }
        let own = txn.expect.len();
        txn.expect.extend(how.expect.iter().cloned());
        let committed = self.store.commit(txn).await.map_err(|error| match error {
            CommitError::Unmet { index, .. } if own <= index => NotCommitted::Overtaken,
            other => NotCommitted::Store(other),
        })?;
        let first = committed.results.into_iter().next().flatten();
        let stored = first.ok_or_else(|| {
            CommitError::Unavailable("the store lost the result of a write".to_owned())
        })?;
        if revision_before < committed.revision {
            tracing::debug!(
                cluster = %stored.key.cluster,
                resource = %stored.key.resource,
                namespace = %stored.key.namespace,
                name = %stored.key.name,
                user = %how.actor.user(),
                manager = how.actor.manager(),
                verb = verb.as_str(),
                revision = committed.revision,
                "committed"
            );
            if let Some(audit) = &self.audit {
                audit.committed(&how.actor, verb, committed.revision, &stored);
            }
        }
        Ok(stored)
    }
}

fn pretend(txn: Txn, revision: Revision) -> Result<Arc<Stored>, CommitError> {
    match txn.operations.into_iter().next() {
        Some(Operation::Put(key, object)) => {
            Ok(Arc::new(Stored { key, object, revision, created: revision }))
        }
        _ => Err(CommitError::Unavailable("a dry run has nothing to write".to_owned())),
    }
}
