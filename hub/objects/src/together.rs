//! Several objects in one transaction: whoever reads sees all of them as they are to be, or none.
//!
//! Guarantees:
//! - all of it is written at one revision, or nothing is (`what_is_written_together_is_of_one_revision`);
//! - what stays as it is is there as well (`what_stays_as_it_is_is_there`);
//! - each object goes through the same rules as it would alone, and what those before it count is counted
//!   (`one_that_may_not_be_is_in_the_way_of_all`, `a_quota_is_asked_for_all_of_them`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Object;
use freewheel_hub_store::{Expect, Stored};
use serde_json::Value;

use super::owners::Owners;
use super::pending_claims::Reserved;
use super::update::{Attempt, Refused, UPDATE_TRIES_MAX, Verdict};
use super::{
    Canonical, Claims, ObjectRef, Objects, Proposal, WriteOptions, Written, create, refusal,
};
use crate::write_options::Counted;

/// What becomes of what is there, or of nothing. It may run several times.
pub type Change<'a> = Box<dyn Fn(Option<Value>) -> Result<Value, ApiError> + Send + Sync + 'a>;

/// What one of several objects is to be. It has to have a name.
pub struct Wanted<'a> {
    /// Which.
    pub target: ObjectRef,
    /// What it is through the main door.
    pub change: Change<'a>,
    /// What it says through the door `status`.
    pub status: Change<'a>,
}

/// One of several objects, ready to be written.
struct Piece {
    before: Option<Arc<Stored>>,
    claims: Claims,
    object: Object,
    warnings: Vec<String>,
    /// Kept until the commit is through.
    _reserved: Option<Reserved>,
}

impl Objects {
    /// Makes all of them, or what is there of them, into what they are to be; all again when somebody was faster with
    /// one of them. The answers are in the order of what is wanted.
    ///
    /// # Errors
    /// What a change answers, and as [`Objects::create`] and [`Objects::modify`]; 413 when it is more than one
    /// transaction holds.
    pub async fn write_together(
        &self,
        how: &WriteOptions,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<Written>, ApiError> {
        let Some(first) = wanted.first() else { return Ok(Vec::new()) };
        for _ in 0..UPDATE_TRIES_MAX {
            match Box::pin(self.try_together(how, wanted)).await {
                Err(Refused::Again) => {}
                Err(Refused::Final(error)) => return Err(error),
                Ok(written) => return Ok(written),
            }
        }
        Err(refusal::modified(&first.target))
    }

    async fn try_together(
        &self,
        how: &WriteOptions,
        wanted: &[Wanted<'_>],
    ) -> Result<Vec<Written>, Refused> {
        let how = &WriteOptions { counted: Counted::new(), ..how.clone() };
        let mut pieces = Vec::with_capacity(wanted.len());
        let mut claims = Claims::default();
        for one in wanted {
            let mut piece = self.piece(how, one).await?;
            piece.claims.counted().for_each(|(counter, by)| how.counted.add(counter, by));
            claims.join(std::mem::take(&mut piece.claims));
            pieces.push((&one.target, piece));
        }
        let mut results = HashMap::new();
        if !claims.is_empty() && !how.dry_run {
            let committed = self.commit_all(how, claims).await.map_err(|error| {
                let last = wanted.last().map(|one| &one.target);
                match last.filter(|_| !error.is_race()) {
                    Some(target) => Refused::Final(error.of(target)),
                    None => Refused::Again,
                }
            })?;
            let stored = committed.results.into_iter().flatten();
            results.extend(stored.map(|stored| (stored.key.clone(), stored)));
        }
        let written = pieces.into_iter().map(|(target, piece)| piece.written(target, &results));
        Ok(written.collect())
    }

    async fn piece(&self, how: &WriteOptions, wanted: &Wanted<'_>) -> Result<Piece, Refused> {
        let target = &wanted.target;
        let before = self.store().snapshot().get(&target.key());
        let mut piece = match before {
            None => self.piece_born(how, wanted).await?,
            Some(old) => self.piece_changed(how, wanted, old).await?,
        };
        let (revision, created) =
            piece.before.as_ref().map_or((0, 0), |old| (old.revision, old.created));
        let object = piece.object.clone();
        let so_far = Stored { key: target.key(), object, revision, created };
        let (verdict, warnings) =
            self.step(how, target, Some("status"), (&so_far, &wanted.status)).await?;
        piece.warnings.extend(warnings);
        if let Verdict::Put(more, _) = verdict {
            piece.claims.supersede(&so_far.key, more);
        }
        if let Some(object) = piece.claims.object(&so_far.key) {
            piece.object = object.clone();
        }
        Ok(piece)
    }

    async fn piece_born(&self, how: &WriteOptions, wanted: &Wanted<'_>) -> Result<Piece, Refused> {
        let target = &wanted.target;
        let formed = Proposal::Any((wanted.change)(None)?).form(how, target)?;
        let owners = Owners::Tracked;
        let (value, warnings) = create::prepare(self, how, target, formed, owners).await?;
        let born = create::NewObject::propose((self, how), target, value, owners).await;
        let born = born.map_err(|refused| match refused {
            create::Refused::Taken(_) | create::Refused::Again(_) => Refused::Again,
            create::Refused::Final(error) => Refused::Final(error),
        })?;
        let (claims, object, reserved) = born.taken();
        Ok(Piece { before: None, claims, object, warnings, _reserved: reserved })
    }

    async fn piece_changed(
        &self,
        how: &WriteOptions,
        wanted: &Wanted<'_>,
        old: Arc<Stored>,
    ) -> Result<Piece, Refused> {
        let target = &wanted.target;
        let (verdict, warnings) = self.step(how, target, None, (&old, &wanted.change)).await?;
        let (claims, reserved) = match verdict {
            Verdict::Put(claims, reserved) => (claims, reserved),
            Verdict::Nothing => {
                let mut claims = Claims::default();
                claims.expect(Expect::Revision(old.key.clone(), old.revision));
                (claims, None)
            }
            Verdict::LetGo(..) => {
                return Err(refusal::conflict(target, "it is on its way out").into());
            }
        };
        let object = claims.object(&old.key).unwrap_or(&old.object).clone();
        Ok(Piece { before: Some(old), claims, object, warnings, _reserved: reserved })
    }

    /// What comes of a change through one door.
    async fn step(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        subresource: Option<&str>,
        (old, change): (&Stored, &Change<'_>),
    ) -> Result<(Verdict, Vec<String>), Refused> {
        let attempt = Attempt { objects: self, how, target, subresource, owners: Owners::Tracked };
        let value = Arc::new(Canonical::of_stored(old, &target.kind).await?);
        let new = Proposal::Any(change(Some(Value::clone(&value)))?).form(how, target)?;
        Ok(attempt.decide(old, &value, new).await?)
    }
}

impl Piece {
    fn written(
        self,
        target: &ObjectRef,
        results: &HashMap<freewheel_hub_schema::object::Key, Arc<Stored>>,
    ) -> Written {
        let key = target.key();
        let changed = self.before.as_ref().is_none_or(|old| old.object != self.object);
        let created = self.before.is_none();
        let stored = results.get(&key).cloned().or(self.before.filter(|_| !changed));
        // On a dry run it is as it would be.
        let pretended = || Arc::new(Stored { key, object: self.object, revision: 0, created: 0 });
        Written {
            stored: stored.unwrap_or_else(pretended),
            changed,
            created,
            warnings: self.warnings,
        }
    }
}
