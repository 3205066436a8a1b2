//! Updates, through the main door and the subresources'.

use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Trait;
use freewheel_hub_schema::object::Object;
use serde_json::{Value, json};

use super::canonical::Formed;
use super::owners::{self, Owners, Writer};
use super::pending_claims::Reserved;
use super::service::AllocatedService;
use super::{
    Canonical, Claims, ObjectRef, Objects, Proposal, Review, Verb, WriteOptions, Written, check,
    create, meta, namespace, pins, refusal, service,
};
use freewheel_hub_store::{Revision, Stored};

/// How often an update without a resourceVersion, or a [`Objects::modify`], is tried again when
/// somebody was faster. Every round somebody got through, so this ends under any load but abuse.
pub(super) const UPDATE_TRIES_MAX: u32 = 64;

/// One update against one state of the object.
pub(super) struct Attempt<'a> {
    pub(super) objects: &'a Objects,
    pub(super) how: &'a WriteOptions,
    pub(super) target: &'a ObjectRef,
    pub(super) subresource: Option<&'a str>,
    pub(super) owners: Owners,
}

pub(super) enum Refused {
    /// Somebody was faster; the writer did not ask for a revision.
    Again,
    Final(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Final(error)
    }
}

/// What an update comes to. No tree of values is in it, which is many times its text and not kept until the commit is
/// through.
pub(super) enum Verdict {
    Nothing,
    /// With what was chosen for it.
    Put(Claims, Option<Reserved>),
    /// The last finalizer is off: it goes. Its writer sees it as it wanted it, which was never stored.
    LetGo(Object, Claims),
}

/// Replaces the object, or makes it where its kind is made so.
pub(super) async fn update(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    subresource: Option<&str>,
    (value, warnings): Formed,
) -> Result<Written, ApiError> {
    let attempt = Attempt { objects, how, target, subresource, owners: Owners::Tracked };
    let pinned = meta::wanted_revision(&value)?.is_some();
    let may_make =
        subresource.is_none() && !how.makes_nothing && target.kind.has(Trait::CreatesOnUpdate);
    let again = if pinned && !may_make { None } else { Some(value.text()?) };
    let mut value = Some(value);
    for _ in 1..=UPDATE_TRIES_MAX {
        let new = match (value.take(), &again) {
            (Some(value), _) => value,
            (None, Some(text)) => text.read()?,
            (None, None) => break,
        };
        let new = (new, warnings.clone());
        let Some(old) = objects.store.snapshot().get(&target.key()) else {
            if !may_make {
                return Err(refusal::not_found(target));
            }
            match make(objects, how, target, new).await {
                Err(taken) if taken.reason == "AlreadyExists" => continue,
                outcome => return outcome,
            }
        };
        if !pinned && target.kind.has(Trait::NamesWhatItReplaces) {
            return Err(refusal::unconditional(target));
        }
        let old_value = Arc::new(Canonical::of_stored(&old, &target.kind).await?);
        match attempt.run(&old, old_value, new).await {
            Err(Refused::Again) => {}
            Err(Refused::Final(error)) => return Err(error),
            Ok(written) => return Ok(written),
        }
    }
    Err(refusal::modified(target))
}

/// Whether something else is wanted than before: another spec, or anything where there is none.
fn wants_something_else(new: &Value, old: &Value) -> bool {
    if new.get("spec").is_some() || old.get("spec").is_some() {
        return new.get("spec") != old.get("spec");
    }
    let wanted = |value: &Value| {
        let mut all = value.as_object().cloned().unwrap_or_default();
        all.retain(|key, _| !["metadata", "status"].contains(&key.as_str()));
        all
    };
    wanted(new) != wanted(old)
}

/// A PUT of what is not there. Its resourceVersion is of one that is gone, and says nothing of this one.
async fn make(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    (mut value, warnings): Formed,
) -> Result<Written, ApiError> {
    let uid = meta::text(&value, "uid");
    if !uid.is_empty() {
        return Err(refusal::other_uid(target, uid, ""));
    }
    meta::of(value.rules())?.remove("resourceVersion");
    create::create(objects, how, target, (value, warnings), Owners::Tracked).await
}

/// Reads, changes, updates; again when somebody was faster.
pub(super) async fn modify<F>(attempt: Attempt<'_>, change: F) -> Result<Written, ApiError>
where
    F: Fn(Value) -> Result<Value, ApiError> + Send + Sync,
{
    let Attempt { objects, how, target, .. } = attempt;
    for _ in 0..UPDATE_TRIES_MAX {
        let old = objects.get(target)?;
        let old_value = Arc::new(Canonical::of_stored(&old, &target.kind).await?);
        let mut given = Value::clone(&old_value);
        let revision = Value::String(old.revision.to_string());
        meta::of(&mut given)?.insert("resourceVersion".to_owned(), revision);
        let new = change(given)?;
        let pinned = meta::wanted_revision(&new)?.is_some_and(|wanted| wanted != old.revision);
        let new = Proposal::Any(new).form(how, target)?;
        match attempt.run(&old, old_value, new).await {
            Ok(written) => return Ok(written),
            Err(Refused::Final(error)) => return Err(error),
            Err(Refused::Again) if pinned => break,
            Err(Refused::Again) => {}
        }
    }
    Err(refusal::modified(target))
}

impl Attempt<'_> {
    async fn run(
        &self,
        old: &Arc<Stored>,
        old_value: Arc<Canonical>,
        new: Formed,
    ) -> Result<Written, Refused> {
        let (verdict, warnings) = self.decide(old, &old_value, new).await?;
        drop(old_value);
        let (verb, claims, shown, _reserved) = match verdict {
            Verdict::Nothing => {
                let stored = Arc::clone(old);
                return Ok(Written { stored, changed: false, created: false, warnings });
            }
            Verdict::Put(claims, reserved) => (Verb::Update, claims, None, reserved),
            Verdict::LetGo(object, claims) => {
                let (key, revision, created) = (old.key.clone(), old.revision, old.created);
                let shown = Arc::new(Stored { key, object, revision, created });
                (Verb::Delete, claims, Some(shown), None)
            }
        };
        let stored = match shown.clone().filter(|_| self.how.dry_run) {
            Some(shown) => Ok(shown),
            None => self.objects.commit(self.how, verb, claims, old.revision).await,
        };
        match stored {
            Ok(stored) => {
                let stored = shown.unwrap_or(stored);
                Ok(Written { stored, changed: true, created: false, warnings })
            }
            Err(error) if error.is_race() => Err(Refused::Again),
            Err(error) => Err(error.of(self.target).into()),
        }
    }

    pub(super) async fn decide(
        &self,
        old: &Stored,
        before: &Arc<Canonical>,
        new: Formed,
    ) -> Result<(Verdict, Vec<String>), ApiError> {
        let (admission, kind) = (&self.objects.admission, &self.target.kind);
        let old_value: &Canonical = before;
        self.target.check_is_written()?;
        let review = Review {
            subresource: self.subresource,
            old: Some(old_value),
            ..self.objects.review(self.how, Verb::Update, self.target)
        };
        let (mut new, mut warnings) = self.take_in(&review, (old, old_value), new).await?;
        let given = if self.subresource.is_none() {
            let ledger = (&*self.objects.store, &self.objects.pending_claims);
            let world = (&*self.objects.clock, &*self.objects.chance);
            service::claim(ledger, world, self.target, new.rules(), Some(old_value))?
        } else {
            AllocatedService::default()
        };
        let (door, turns) = (self.subresource, &self.objects.checks);
        new = check::change(door, (new, before), self.target, turns).await?;
        let admitted = admission.validate(&review, &new).await?;
        meta::count_generation(self.subresource, new.rules(), old_value, kind)?;
        let (read, mut claims) = ((old.key.clone(), old.revision), Claims::default());
        if may_go(&new, old_value, kind) {
            claims.remove(read);
            claims.join(service::release(old_value, self.target));
            claims.join(admission.release(self.target, old_value));
            return Ok((Verdict::LetGo(new.object(kind).await?, claims), warnings));
        }
        // Who sets a label or a status asked for nothing of the spec anew.
        if wants_something_else(&new, old_value) {
            warnings.extend(kind.warnings(&new));
            let door = self.subresource.and_then(|door| kind.strategy.subresource_warning(door));
            warnings.extend(door.map(str::to_owned));
        }
        owners::settle_times(new.rules(), old_value)?;
        let object = owners::object(new, self.target, self.owners).await?;
        if object == old.object {
            return Ok((Verdict::Nothing, warnings));
        }
        claims.replace(read, object);
        claims.join(admitted);
        claims.join(given.claims);
        Ok((Verdict::Put(claims, given.reserved), warnings))
    }

    /// Preconditions, form, and what this door may not change.
    async fn take_in(
        &self,
        review: &Review<'_>,
        (old, old_value): (&Stored, &Canonical),
        (mut new, mut warnings): Formed,
    ) -> Result<Formed, ApiError> {
        let kind = &self.target.kind;
        let uid = meta::text(&new, "uid");
        if !uid.is_empty() && uid != old.object.header.uid {
            return Err(refusal::other_uid(self.target, uid, &old.object.header.uid));
        }
        self.check_revision(&new, old.revision)?;
        new.fill_in(kind)?;
        if self.owners == Owners::Tracked {
            let Self { objects, how, target, subresource, .. } = *self;
            Writer { clock: &*objects.clock, how, target, subresource }
                .track(Some(old_value), new.rules());
        }
        let owners = owners::take(new.rules());
        self.objects.admission.mutate(review, &mut new).await?;
        if self.subresource == Some("finalize") && kind.has(Trait::HasContent) {
            *new.rules() = namespace::finalize(&new, old_value);
        } else {
            kind.strategy.prepare_update(self.subresource, new.rules(), old_value);
        }
        warnings.extend(pins::keep(self.how, kind, new.rules(), Some(old_value)));
        meta::keep_servers_own(new.rules(), old_value)?;
        owners::put(new.rules(), owners)?;
        Ok((new, warnings))
    }

    fn check_revision(&self, new: &Value, revision: Revision) -> Result<(), ApiError> {
        if meta::wanted_revision(new)?.is_some_and(|wanted| wanted != revision) {
            return Err(refusal::modified(self.target));
        }
        Ok(())
    }
}

/// A deleted object goes with its last finalizer, unless somebody has yet to confirm its end.
fn may_go(new: &Value, old: &Value, kind: &freewheel_hub_schema::kind::Kind) -> bool {
    let deleting = !meta::text(old, "deletionTimestamp").is_empty();
    let confirmed = meta::number(old, "deletionGracePeriodSeconds").is_none_or(|grace| grace == 0);
    let none = json!([]);
    let finalizers = new.pointer("/metadata/finalizers").unwrap_or(&none);
    deleting && confirmed && *finalizers == none && !namespace::has_content(new, kind)
}
