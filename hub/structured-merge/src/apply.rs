//! Server-side apply: an object with what its applier wants laid over it, and who owns what then.
//!
//! ```text
//! live ─ merge ◀─ what is applied          owned by the applier: all that it names
//!   └─▶ merged ─ prune: what it named last time, and does not now, unless somebody else owns it ─▶ new object
//!                 └─ compare with live ─▶ conflicts, or others lose what becomes another
//! ```
//!
//! Guarantees:
//! - nothing that somebody else owns becomes another unless that is forced (`what_others_own_is_a_conflict`);
//! - what the applier leaves out goes when only it owned that (`what_is_left_out_goes`).

use serde_json::Value;

use crate::atom::TypeRef;
use crate::compare::compare_as_said;
use crate::conflict::{Conflict, ConflictWith};
use crate::content::{self, with_named_fields};
use crate::managers::{Entry, Managers};
use crate::merge::merge;
use crate::prune;
use crate::reform::reform;
use crate::scalar;
use crate::set::Set;
use crate::track::{Writing, servers_own};

/// The outcome.
pub(crate) struct Applied {
    /// The object; nothing when it stays as it is.
    pub(crate) object: Option<Value>,
    pub(crate) managers: Managers,
}

/// Lays `config` over `live`, which is as Go holds it; both are valid.
pub(crate) fn apply(
    live: &Value,
    config: &Value,
    typed: TypeRef<'_>,
    mut managers: Managers,
    writing: &Writing<'_>,
    force: bool,
) -> Result<Applied, Vec<ConflictWith>> {
    let (manager, reset) = (writing.manager, Set::of_fields(writing.reset));
    for entry in &mut managers.0 {
        if let Some(set) = reform(&entry.set(), typed) {
            entry.put(set);
        }
    }
    let merged = merge(Some(live), Some(config), typed).unwrap_or_default();
    let last = managers.of(manager).map(|entry| entry.set().into_owned()).unwrap_or_default();
    let time = managers.of(manager).and_then(|entry| entry.time.clone());
    let mut set = content::of(config, typed);
    set.remove_with_content(&reset);
    managers.forget(manager);
    managers.0.push(Entry::new(manager.clone(), time, set));
    let new = pruned(merged, &managers, &last, typed);

    let comparison = compare_as_said(live, &new, typed).without(&reset);
    let changed = comparison.changed();
    let mut conflicts = conflicts(&managers, writing, &changed);
    if !force && !conflicts.is_empty() {
        conflicts.sort_by_cached_key(|ConflictWith(one)| one.manager.order());
        return Err(conflicts);
    }
    let mut lost = changed;
    lost.union(&comparison.removed);
    managers.0.retain_mut(|entry| entry.manager.is(manager) || entry.lose(&lost));
    let object = (!scalar::equal(live, &new)).then_some(new);
    if let Some(own) = managers.of_mut(manager) {
        let mut set = own.set().into_owned();
        set.remove(servers_own());
        own.put(set);
        if object.is_some() {
            own.time = Some(writing.now.to_owned());
        }
    }
    managers.0.retain(|entry| !entry.is_empty());
    Ok(Applied { object, managers })
}

fn conflicts(managers: &Managers, writing: &Writing<'_>, changed: &Set) -> Vec<ConflictWith> {
    let others = managers.0.iter().filter(|entry| !entry.manager.is(writing.manager));
    let of = |entry: &Entry| {
        let (manager, fields) = (entry.manager.clone(), entry.set().intersection(changed));
        (!fields.is_empty()).then_some(ConflictWith(Conflict { manager, fields }))
    };
    others.filter_map(of).collect()
}

/// Without what the applier named last time and nobody owns now.
fn pruned(merged: Value, managers: &Managers, last: &Set, typed: TypeRef<'_>) -> Value {
    if last.is_empty() {
        return merged;
    }
    let named = |set: &Set| with_named_fields(set, typed);
    let last = named(last);
    let all = named(&content::of(&merged, typed));

    // What somebody owns comes back,
    let mut owned = Set::default();
    managers.0.iter().for_each(|entry| owned.union(&entry.set()));
    let left = named(&content::of(&prune::without(&merged, &last, typed), typed));
    let mut gone = all.clone();
    let mut stays = left;
    stays.union(&named(&owned));
    gone.remove(&stays);
    let left = prune::without(&merged, &gone, typed);

    // and what was inside of what goes, and not the applier's.
    let mut gone = all;
    gone.remove(&named(&content::of(&left, typed)));
    prune::without(&merged, &gone.intersection(&last), typed)
}
