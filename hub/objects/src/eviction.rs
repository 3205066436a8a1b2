//! Evictions: deletes that a pod's disruption budget may refuse.
//!
//! ```text
//! has ended, has not begun, goes already ─▶ deleted
//! no budget ─▶ deleted                         several ─▶ 500
//! not ready, and its budget lets such go ─▶ deleted as it was read
//! its budget allows one more ─ counted in its status ─▶ deleted      none ─▶ 429
//! ```
//!
//! Guarantees:
//! - a budget of one is given away once, however many ask at the same time (`a_budget_is_given_away_once`);
//! - a dry run takes nothing from a budget (`a_dry_run_of_an_eviction_takes_nothing`);
//! - who was not ready when it was judged goes only as it was then
//!   (`unready_pods_go_as_the_budget_s_policy_says`).

use std::sync::Arc;

use freewheel_hub_api::conditions::{Condition, POD_DISRUPTION_TARGET, POD_READY};
use freewheel_hub_api::disruption::{self, Budget};
use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::time;
use freewheel_hub_store::{Scope, Stored};
use serde_json::Value;

use super::update::UPDATE_TRIES_MAX;
use super::{Actor, DeleteOptions, ObjectRef, Objects, WriteOptions, meta};

impl Objects {
    /// Deletes the pod in this place, if its disruption budget lets it go. Who has a say in it was asked about the eviction
    /// ([`Objects::admit`]), and is not asked about what comes of it.
    ///
    /// # Errors
    /// 429 when the budget does not; 500 when there are several; 504 when others change it all the time; and as
    /// [`Objects::delete`].
    pub async fn evict(
        &self,
        how: &WriteOptions,
        target: &ObjectRef,
        options: &DeleteOptions,
    ) -> Result<(), ApiError> {
        let how = WriteOptions { actor: Actor::Hub, ..how.clone() };
        Box::pin(evict(self, &how, target, options)).await
    }
}

/// How a pod may go.
#[derive(Debug, PartialEq, Eq)]
enum Passage {
    /// Nothing guards it.
    Free,
    /// Nothing guards it as long as it is as it was read.
    AsRead,
    /// Its budget has to be asked.
    Guarded,
}

async fn evict(
    objects: &Objects,
    how: &WriteOptions,
    target: &ObjectRef,
    options: &DeleteOptions,
) -> Result<(), ApiError> {
    for _ in 0..UPDATE_TRIES_MAX {
        let stored = objects.get(target)?;
        let pod = stored.object.value()?;
        let passage = unguarded(&pod);
        if passage == Passage::Guarded {
            return evict_guarded(objects, how, (target, options), (&stored, &pod)).await;
        }
        match remove(objects, how, (target, options), (&stored, passage)).await {
            Err(race) if is_conflict(&race) && options.revision.is_none() => {}
            outcome => return outcome,
        }
    }
    Err(super::refusal::modified(target))
}

/// Whether a pod is beyond disruption: it has ended, is about to, or has not begun.
fn unguarded(pod: &Value) -> Passage {
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") || !meta::text(pod, "deletionTimestamp").is_empty() {
        return Passage::Free;
    }
    if phase == "Pending" { Passage::AsRead } else { Passage::Guarded }
}

async fn evict_guarded(
    objects: &Objects,
    how: &WriteOptions,
    (target, options): (&ObjectRef, &DeleteOptions),
    (stored, pod): (&Arc<Stored>, &Value),
) -> Result<(), ApiError> {
    let Some(kind) = kinds::find("policy", "v1", "poddisruptionbudgets") else {
        return Err(ApiError::internal("there are no disruption budgets"));
    };
    let budgets = budgets_of(objects, kind, stored)?;
    let [(name, budget)] = budgets.as_slice() else {
        if !budgets.is_empty() {
            const TEXT: &str = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::new(500, "", TEXT));
        }
        return remove(objects, how, (target, options), (stored, Passage::Free)).await;
    };
    if !POD_READY.holds(pod) && Budget::read(budget).lets_unready_go() {
        let gone = remove(objects, how, (target, options), (stored, Passage::AsRead)).await;
        return gone.map_err(|error| match options.revision {
            None if is_conflict(&error) => disruption::still_processed(name),
            _ => error,
        });
    }
    let budget = ObjectRef { kind: kind.clone(), name: name.clone(), ..target.clone() };
    count(objects, how.dry_run, &budget, &target.name).await?;
    remove(objects, how, (target, options), (stored, Passage::Free)).await
}

/// The budgets that guard a pod, by name.
fn budgets_of(
    objects: &Objects,
    kind: &Kind,
    pod: &Stored,
) -> Result<Vec<(String, Value)>, ApiError> {
    let (resource, key) = (kind.storage().clone(), &pod.key);
    let (cluster, namespace) = (Some(key.cluster.clone()), Some(key.namespace.clone()));
    let scope = Scope { resource, cluster, namespace };
    let mut found = Vec::new();
    for budget in objects.store.snapshot().range(&scope, None) {
        let value = budget.object.value()?;
        if disruption::selector(&value).is_some_and(|it| it.matches(&pod.object.header.labels)) {
            found.push((budget.key.name.to_string(), value));
        }
    }
    Ok(found)
}

/// Takes one disruption from the budget's status, with the pod that it is for.
async fn count(
    objects: &Objects,
    dry_run: bool,
    budget: &ObjectRef,
    pod: &str,
) -> Result<(), ApiError> {
    let now = time::from_unix(objects.clock.unix_seconds());
    if dry_run {
        let mut value = objects.get(budget)?.object.value()?;
        return disruption::take_one(&mut value, pod, &now);
    }
    let change = |mut value: Value| disruption::take_one(&mut value, pod, &now).map(|()| value);
    let by = WriteOptions::by(Actor::Hub);
    match objects.modify(&by, budget, Some("status"), change).await {
        Err(error) if is_conflict(&error) => Err(disruption::too_many_conflicts(&budget.name)),
        counted => counted.map(drop),
    }
}

/// Says of the pod why it goes, and deletes it.
async fn remove(
    objects: &Objects,
    how: &WriteOptions,
    (target, options): (&ObjectRef, &DeleteOptions),
    (stored, passage): (&Arc<Stored>, Passage),
) -> Result<(), ApiError> {
    let as_read = (passage == Passage::AsRead).then_some(stored.revision);
    let mut options = DeleteOptions { revision: options.revision.or(as_read), ..options.clone() };
    if !how.dry_run {
        let now = time::from_unix(objects.clock.unix_seconds());
        let (reason, text) = ("EvictionByEvictionAPI", "Eviction API: evicting");
        let condition = Condition::new(&POD_DISRUPTION_TARGET, true, reason, text);
        let change = |mut pod: Value| {
            check(target, &options, &pod)?;
            // Of no generation, as kube-apiserver says it.
            condition.put(&mut pod["status"]["conditions"], &now);
            Ok(pod)
        };
        match objects.modify(how, target, Some("status"), change).await {
            Ok(told) => options.revision = options.revision.map(|_| told.stored.revision),
            // One as large as an object may be has no room for it.
            Err(error) if error.code == 413 => {}
            Err(error) => return Err(error),
        }
    }
    objects.delete(how, target, &options).await.map(drop)
}

/// The preconditions of the delete, before anything is said of the pod.
fn check(target: &ObjectRef, options: &DeleteOptions, pod: &Value) -> Result<(), ApiError> {
    let conflict = |why: String| {
        Err(ApiError::conflict(target.kind.group(), target.kind.kind(), &target.name, &why))
    };
    let (uid, revision) = (meta::text(pod, "uid"), meta::text(pod, "resourceVersion"));
    if let Some(wanted) = options.uid.as_ref().filter(|wanted| wanted.as_str() != uid) {
        return conflict(format!(
            "the UID in the precondition ({wanted}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
        ));
    }
    if let Some(wanted) = options.revision.filter(|wanted| wanted.to_string() != revision) {
        return conflict(format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). The object might have been modified"
        ));
    }
    Ok(())
}

fn is_conflict(error: &ApiError) -> bool {
    error.code == 409 && error.reason == "Conflict"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_has_ended_or_not_begun_is_guarded_by_nobody() {
        let of = |phase: &str| unguarded(&json!({"metadata": {}, "status": {"phase": phase}}));
        let all = ["Pending", "Running", "Succeeded", "Failed", "Unknown"].map(of);
        use Passage::{AsRead, Free, Guarded};
        assert_eq!(all, [AsRead, Guarded, Free, Free, Guarded]);
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(unguarded(&going), Free);
    }
}
