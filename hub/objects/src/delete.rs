//! Deletes: at once, or marked and gone when finalizers and spokes say so.
//!
//! ```text
//! there ─ no finalizer, no grace ─▶ gone
//! there ─▶ marked (deletionTimestamp) ─ last finalizer taken off, grace 0 ─▶ gone
//! ```

use std::borrow::Cow;
use std::sync::Arc;

use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::time;
use freewheel_hub_schema::uid::Uid;
use serde_json::{Map, Value, json};

use super::update::UPDATE_TRIES_MAX;
use super::{
    Canonical, Claims, ObjectRef, Objects, Review, Verb, WriteOptions, meta, namespace, refusal,
    service,
};
use freewheel_hub_store::{Revision, Stored};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// Longest wait for an end, in seconds, some 68 years: a year has four digits, and what a device is told 32 bits.
const GRACE_SECONDS_MAX: i64 = (1 << 31) - 1;

/// Options of a delete (meta/v1 DeleteOptions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    /// Seconds; `None`: the kind's default; 0: at once.
    pub grace_period_seconds: Option<i64>,
    /// preconditions.uid
    pub uid: Option<Uid>,
    /// preconditions.resourceVersion
    pub revision: Option<Revision>,
    /// `Orphan`, `Background` or `Foreground`; `None`: as the object's finalizers or its kind say, else Background.
    pub propagation: Option<Propagation>,
}

/// propagationPolicy
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// Dependents stay.
    Orphan,
    /// Dependents go after it.
    Background,
    /// Dependents go before it.
    Foreground,
}

impl DeleteOptions {
    /// As those who have a say in it are shown them.
    fn to_json(&self) -> Map<String, Value> {
        let mut options = Map::new();
        if let Some(seconds) = self.grace_period_seconds {
            options.insert("gracePeriodSeconds".to_owned(), json!(seconds));
        }
        if let Some(propagation) = self.propagation {
            options.insert("propagationPolicy".to_owned(), json!(propagation.as_str()));
        }
        let mut preconditions = Map::new();
        if let Some(uid) = &self.uid {
            preconditions.insert("uid".to_owned(), json!(uid.as_str()));
        }
        if let Some(revision) = self.revision {
            preconditions.insert("resourceVersion".to_owned(), json!(revision.to_string()));
        }
        if !preconditions.is_empty() {
            options.insert("preconditions".to_owned(), preconditions.into());
        }
        options
    }
}

impl Propagation {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Orphan => "Orphan",
            Self::Background => "Background",
            Self::Foreground => "Foreground",
        }
    }
}

/// What a delete came to.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; this is what it was.
    Gone(Arc<Stored>),
    /// It has a deletionTimestamp now and goes when finalizers or the spoke say so.
    Going(Arc<Stored>),
}

/// What a delete has to do.
#[derive(Debug, PartialEq)]
enum Verdict {
    Remove,
    Mark(Canonical),
    Nothing,
}

pub(super) async fn delete(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    options: &DeleteOptions,
) -> Result<Deleted, ApiError> {
    target.check_is_no_view()?;
    for _ in 0..UPDATE_TRIES_MAX {
        let old = objects.get(target)?;
        // A tree of values is larger than its text, and is not kept until the commit is through.
        let (verdict, admitted, freed) = {
            let value = Canonical::of_stored(&old, &target.kind).await?;
            let review = Review {
                old: Some(&value),
                options: Cow::Owned(options.to_json()),
                ..objects.review(how, Verb::Delete, target)
            };
            let admitted = objects.admission.validate(&review, &value).await?;
            check(target, options, &old)?;
            let verdict = decide(&target.kind, &value, options, objects.clock.unix_seconds())?;
            // What is going already was told of.
            if let Some(notes) = how.notes.as_ref().filter(|_| !old.object.header.deleting)
                && let Some(warning) = target.kind.strategy.deletion_warning(&value)
            {
                notes.warn(warning);
            }
            let mut freed = service::release(&value, target);
            freed.join(objects.admission.release(target, &value));
            (verdict, admitted, freed)
        };
        if how.dry_run {
            return Ok(pretend(&verdict, old));
        }
        let (read, mut claims) = ((old.key.clone(), old.revision), Claims::default());
        let going = match verdict {
            Verdict::Nothing => return Ok(Deleted::Going(old)),
            Verdict::Mark(new) => {
                claims.replace(read, new.object(&target.kind).await?);
                true
            }
            Verdict::Remove => {
                claims.remove(read);
                claims.join(freed);
                false
            }
        };
        claims.join(admitted);
        match objects.commit(how, Verb::Delete, claims, old.revision).await {
            Ok(stored) if going => return Ok(Deleted::Going(stored)),
            Ok(stored) => return Ok(Deleted::Gone(stored)),
            Err(error) if error.is_race() => {}
            Err(error) => return Err(error.of(target)),
        }
    }
    Err(refusal::modified(target))
}

fn check(target: &ObjectRef, options: &DeleteOptions, old: &Stored) -> Result<(), ApiError> {
    let found = &old.object.header.uid;
    if let Some(wanted) = options.uid.as_ref().filter(|wanted| *wanted != found) {
        return Err(refusal::other_uid(target, wanted, found));
    }
    if let Some(wanted) = options.revision.filter(|wanted| *wanted != old.revision) {
        return Err(refusal::other_revision(target, wanted, old.revision));
    }
    Ok(())
}

fn pretend(verdict: &Verdict, old: Arc<Stored>) -> Deleted {
    match verdict {
        Verdict::Remove => Deleted::Gone(old),
        Verdict::Mark(_) | Verdict::Nothing => Deleted::Going(old),
    }
}

/// What a delete of this object at `now` comes to.
fn decide(
    kind: &Kind,
    old: &Canonical,
    options: &DeleteOptions,
    now: i64,
) -> Result<Verdict, ApiError> {
    let mut finalizers = propagate(kind, meta::finalizers(old), options.propagation);
    let deleting = !meta::text(old, "deletionTimestamp").is_empty();
    let held_by = kind.strategy.held_by().filter(|_| !deleting);
    if let Some(held_by) = held_by.filter(|own| !finalizers.iter().any(|name| name == own)) {
        finalizers.push(held_by.to_owned());
    }
    let asked = match kind.strategy.grace_period(old) {
        None | Some(0) => 0,
        Some(usual) => match options.grace_period_seconds.unwrap_or(usual) {
            negative if negative < 0 => 1,
            asked => asked.min(GRACE_SECONDS_MAX),
        },
    };
    let left = meta::number(old, "deletionGracePeriodSeconds").unwrap_or_default();
    // A second delete may shorten the wait, never stretch it.
    let grace = match options.grace_period_seconds {
        None if deleting => left,
        _ if deleting => asked.min(left),
        _ => asked,
    };
    if finalizers.is_empty() && grace == 0 && !namespace::has_content(old, kind) {
        return Ok(Verdict::Remove);
    }
    if deleting && grace == left && finalizers == meta::finalizers(old) {
        return Ok(Verdict::Nothing);
    }
    let mut new = old.clone();
    let meta = meta::of(new.rules())?;
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), json!(finalizers));
    }
    let end = match meta.get("deletionTimestamp").and_then(Value::as_str).and_then(time::parse_unix)
    {
        Some(end) => end - left + grace,
        None => now + grace,
    };
    meta.insert("deletionTimestamp".to_owned(), json!(time::from_unix(end)));
    meta.insert("deletionGracePeriodSeconds".to_owned(), json!(grace));
    if let Some(generation) = meta.get("generation").and_then(Value::as_i64).filter(|_| !deleting) {
        meta.insert("generation".to_owned(), json!(generation + 1));
    }
    namespace::close(new.rules(), kind);
    Ok(Verdict::Mark(new))
}

/// The finalizers that make the garbage collector do what the caller asked for.
fn propagate(
    kind: &Kind,
    mut finalizers: Vec<String>,
    propagation: Option<Propagation>,
) -> Vec<String> {
    let is_said = finalizers.iter().any(|name| name == ORPHAN || name == FOREGROUND);
    let wanted = match propagation {
        None if kind.has(Trait::LeavesItsOwn) && !is_said => Some(ORPHAN),
        None => return finalizers,
        Some(Propagation::Background) => None,
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Foreground) => Some(FOREGROUND),
    };
    finalizers
        .retain(|name| (name != ORPHAN && name != FOREGROUND) || Some(name.as_str()) == wanted);
    if let Some(wanted) = wanted.filter(|wanted| !finalizers.iter().any(|name| name == wanted)) {
        finalizers.push(wanted.to_owned());
    }
    finalizers
}
