//! Creates: everything a new object gets, and its one transaction.

use std::sync::Arc;

use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Trait;
use serde_json::Value;

use super::refusal::NotCommitted;
use super::{
    How, Objects, Place, Verb, Written, admission, meta, namespace, pins, refusal, service, shape,
};
use freewheel_hub_store::{CommitError, Expect, Operation, Txn};

/// How often a name, address or port may be just then taken. Every round somebody got through.
const TRIES: u32 = 64;

pub(super) async fn create(
    objects: &Objects,
    how: &How,
    place: &Place,
    mut value: Value,
) -> Result<Written, ApiError> {
    let kind = &place.kind;
    meta::settle(&mut value, place)?;
    let mut warnings = shape::shape(&mut value, how.canonical, how, kind)?;
    warnings.extend(pins::keep(how, kind, &mut value, None));
    admission::of_new(&*objects.store, place, &mut value)?;
    let generated = meta::text(&value, "name").is_empty();
    kind.strategy.prepare_create(&mut value);
    warnings.extend(kind.strategy.warnings(&value));
    let mut tries = 0;
    loop {
        tries += 1;
        let last = tries == TRIES;
        // Only a proposal that chance may have to repeat needs a copy.
        let proposal = if last || !(generated || kind.has(Trait::HoldsAddresses)) {
            std::mem::take(&mut value)
        } else {
            value.clone()
        };
        match attempt(objects, how, place, proposal).await {
            Err(Refused::Taken(again)) if generated && !last => drop(again),
            Err(Refused::Again(_)) if !last => {}
            Err(Refused::Taken(error) | Refused::Again(error) | Refused::Final(error)) => {
                return Err(error);
            }
            Ok(written) => return Ok(Written { warnings, ..written }),
        }
    }
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
    mut value: Value,
) -> Result<Written, Refused> {
    let kind = &place.kind;
    let generated = meta::stamp(&mut value, kind, &*objects.clock, &*objects.chance)?;
    if generated {
        // Some defaults follow from the name.
        kind.strategy.default(&mut value);
    }
    let place = Place { name: meta::text(&value, "name").to_owned(), ..place.clone() };
    let snapshot = objects.store.snapshot();
    let present = namespace::admit(&*snapshot, &place)?;
    let key = place.key();
    if snapshot.get(&key).is_some() {
        return Err(Refused::Taken(refusal::already_exists(&place)));
    }
    let claims = service::claim(&*snapshot, &*objects.chance, &place, &mut value, None)?;
    shape::check_new(&value, &place)?;
    let object = shape::object(value, kind)?;
    let mut txn = Txn { expect: vec![Expect::Absent(key.clone())], operations: Vec::new() };
    txn.expect.extend(present);
    txn.expect.extend(claims.expect);
    txn.operations.push(Operation::Put(key, object));
    txn.operations.extend(claims.operations);
    match objects.commit(how, Verb::Create, txn, 0).await {
        Ok(stored) => Ok(Written { stored, changed: true, warnings: Vec::new() }),
        Err(NotCommitted::Store(CommitError::Unmet { index: 0, .. })) => {
            Err(Refused::Taken(refusal::already_exists(&place)))
        }
        // Its namespace is going, gone or another by now: looked at again.
        Err(error @ NotCommitted::Store(CommitError::Unmet { index: 1, .. }))
            if kind.namespaced =>
        {
            namespace::admit(&*objects.store.snapshot(), &place)?;
            Err(Refused::Again(error.of(&place)))
        }
        Err(error) if error.is_race() => Err(Refused::Again(error.of(&place))),
        Err(error) => Err(error.of(&place).into()),
    }
}

impl Objects {
    /// Commits, or only pretends to on a dry run; answers the object of the first operation.
    pub(super) async fn commit(
        &self,
        how: &How,
        verb: Verb,
        mut txn: Txn,
        revision_before: freewheel_hub_store::Revision,
    ) -> Result<Arc<freewheel_hub_store::Stored>, NotCommitted> {
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
                user = how.actor.user,
                manager = how.actor.field_manager,
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

fn pretend(
    txn: Txn,
    revision: freewheel_hub_store::Revision,
) -> Result<Arc<freewheel_hub_store::Stored>, CommitError> {
    match txn.operations.into_iter().next() {
        Some(Operation::Put(key, object)) => {
            Ok(Arc::new(freewheel_hub_store::Stored { key, object, revision, created: revision }))
        }
        _ => Err(CommitError::Unavailable("a dry run has nothing to write".to_owned())),
    }
}
