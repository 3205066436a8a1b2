//! Creates: everything a new object gets, and its one transaction.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::Object;

use super::canonical::Formed;
use super::owners::{self, Owners, Writer};
use super::pending_claims::Reserved;
use super::refusal::NotCommitted;
use super::service::AllocatedService;
use super::{
    Canonical, Claims, ObjectRef, Objects, Verb, WriteOptions, Written, check, meta, pins, refusal,
    service,
};
use freewheel_hub_store::{CommitError, Committed, Operation, Revision, Stored, Txn};

/// How often a name, address or port may be just then taken. Every round somebody got through.
const CLAIM_TRIES_MAX: u32 = 64;

pub(super) async fn create(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    formed: Formed,
    owners: Owners,
) -> Result<Written, ApiError> {
    let kind = &target.kind;
    let (value, warnings) = prepare(objects, how, target, formed, owners).await?;
    let generated = meta::text(&value, "name").is_empty();
    // Only a proposal that chance may have to repeat is kept, as text: a tree of values is many times larger.
    let may_repeat = generated || kind.has(Trait::HoldsAddresses);
    let again = may_repeat.then(|| value.text()).transpose()?;
    let mut proposal = value;
    for left in (0..CLAIM_TRIES_MAX).rev() {
        let last = left == 0 || !may_repeat;
        match attempt((objects, how), target, proposal, owners).await {
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
    Err(refusal::modified(target))
}

/// What a new object gets before it has a name.
pub(super) async fn prepare(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    (mut value, mut warnings): Formed,
    owners: Owners,
) -> Result<Formed, ApiError> {
    let kind = &target.kind;
    target.check_is_written()?;
    value.fill_in(kind)?;
    meta::wipe(value.rules())?;
    if owners == Owners::Tracked {
        Writer { clock: &*objects.clock, how, target, subresource: None }
            .track(None, value.rules());
    }
    warnings.extend(pins::keep(how, kind, value.rules(), None));
    let review = objects.review(how, Verb::Create, target);
    objects.admission.mutate(&review, &mut value).await?;
    kind.strategy.prepare_create(value.rules());
    warnings.extend(kind.warnings(&value));
    Ok((value, warnings))
}

pub(super) enum Refused {
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
    (objects, how): (&Objects, &WriteOptions),
    target: &ObjectRef,
    value: Canonical,
    owners: Owners,
) -> Result<Arc<Stored>, Refused> {
    let mut birth = NewObject::propose((objects, how), target, value, owners).await?;
    for left in (0..CLAIM_TRIES_MAX).rev() {
        match objects.commit(how, Verb::Create, birth.claims(), 0).await {
            Ok(stored) => return Ok(stored),
            Err(NotCommitted::Store(CommitError::Unmet { index: 0, .. })) => {
                return Err(Refused::Taken(refusal::already_exists(&birth.target)));
            }
            // What admission looked at is another by now: it looks again.
            Err(NotCommitted::Store(CommitError::Unmet { index, .. }))
                if index <= birth.admitted.expectations() && left != 0 =>
            {
                birth.admit_again(objects, how).await?;
            }
            Err(error) if error.is_race() => return Err(Refused::Again(error.of(&birth.target))),
            Err(error) => return Err(error.of(&birth.target).into()),
        }
    }
    Err(Refused::Final(refusal::modified(&birth.target)))
}

/// A new object that is ready to be written, in which no tree of values is left.
pub(super) struct NewObject {
    target: ObjectRef,
    object: Object,
    /// What admission claims for it.
    admitted: Claims,
    /// The addresses and ports that it was given.
    given: AllocatedService,
}

impl NewObject {
    pub(super) async fn propose(
        (objects, how): (&Objects, &WriteOptions),
        target: &ObjectRef,
        mut value: Canonical,
        owners: Owners,
    ) -> Result<Self, Refused> {
        let kind = &target.kind;
        let generated = meta::stamp(value.rules(), kind, &*objects.clock, &*objects.chance)?;
        if generated {
            // Some defaults follow from the name.
            kind.strategy.default(value.rules());
        }
        kind.strategy.born(value.rules());
        let target = ObjectRef { name: meta::text(&value, "name").to_owned(), ..target.clone() };
        if objects.store.snapshot().get(&target.key()).is_some() {
            return Err(Refused::Taken(refusal::already_exists(&target)));
        }
        let ledger = (&*objects.store, &objects.pending_claims);
        let world = (&*objects.clock, &*objects.chance);
        let given = service::claim(ledger, world, &target, value.rules(), None)?;
        let value = check::new(value, &target, &objects.checks).await?;
        let review = objects.review(how, Verb::Create, &target);
        let admitted = objects.admission.validate(&review, &value).await?;
        let object = owners::object(value, &target, owners).await?;
        Ok(Self { target, object, admitted, given })
    }

    async fn admit_again(&mut self, objects: &Objects, how: &WriteOptions) -> Result<(), ApiError> {
        let value = Canonical::of_object(&self.object, &self.target.kind).await?;
        let review = objects.review(how, Verb::Create, &self.target);
        self.admitted = objects.admission.validate(&review, &value).await?;
        Ok(())
    }

    /// What it takes, what it is, and what nobody else chooses until it is written.
    pub(super) fn taken(self) -> (Claims, Object, Option<Reserved>) {
        (self.claims(), self.object, self.given.reserved)
    }

    /// Its name first, then what admission claims.
    fn claims(&self) -> Claims {
        let mut claims = Claims::default();
        claims.take(self.target.key(), self.object.clone());
        claims.join(self.admitted.clone());
        claims.join(self.given.claims.clone());
        claims
    }
}

impl Objects {
    /// Commits, or only pretends to on a dry run; answers the object of the first operation.
    pub(super) async fn commit(
        &self,
        how: &WriteOptions,
        verb: Verb,
        claims: Claims,
        revision_before: Revision,
    ) -> Result<Arc<Stored>, NotCommitted> {
        if how.dry_run {
            return Ok(pretend(claims.into_txn(), revision_before)?);
        }
        let committed = self.commit_all(how, claims).await?;
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
        }
        Ok(stored)
    }
}

impl Objects {
    /// Commits all of it while what its writer looked at first is so.
    pub(super) async fn commit_all(
        &self,
        how: &WriteOptions,
        claims: Claims,
    ) -> Result<Committed, NotCommitted> {
        let mut txn = claims.into_txn();
        let own = txn.expect.len();
        txn.expect.extend(how.expect.iter().cloned());
        self.store.commit(txn).await.map_err(|error| match error {
            CommitError::Unmet { index, .. } if own <= index => NotCommitted::Overtaken,
            other => NotCommitted::Store(other),
        })
    }
}

fn pretend(txn: Txn, revision: Revision) -> Result<Arc<Stored>, CommitError> {
    let Some(Operation::Put(key, object)) = txn.operations.into_iter().next() else {
        return Err(CommitError::Unavailable("a dry run has nothing to write".to_owned()));
    };
    Ok(Arc::new(Stored { key, object, revision, created: revision }))
}
