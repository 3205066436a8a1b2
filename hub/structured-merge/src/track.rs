//! Who owns what after a write that is no apply.
//!
//! ```text
//! old object, new one ─ compare ─▶ what changed ─▶ its writer's; what others had of it is theirs no more
//! ```
//!
//! Guarantees:
//! - who changes a field owns it, and nobody else (`who_changes_a_field_owns_it`);
//! - a write that changes nothing changes no owner, and an object that nobody owned anything of stays so
//!   (`what_nobody_tracks_stays_untracked`).

use std::sync::LazyLock;

use serde_json::Value;

use crate::atom::TypeRef;
use crate::compare::compare;
use crate::managers::{Entry, Manager, Managers};
use crate::set::Set;

/// What nobody owns: it is the server's.
const SERVERS_OWN: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// Who writes, what of, and when.
#[derive(Clone, Copy)]
pub struct Writing<'a> {
    /// The writer.
    pub manager: &'a Manager,
    /// What the door that it comes by never changes, so that nobody owns it by that door: paths of names.
    pub reset: &'a [&'a [&'a str]],
    /// Now, as meta/v1 Time.
    pub now: &'a str,
}

/// What nobody owns, ever.
pub(crate) fn servers_own() -> &'static Set {
    static PATHS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&SERVERS_OWN));
    &PATHS
}

/// Who owns what of `new`, which was `old`. Neither has `metadata.managedFields` any more.
pub(crate) fn track(
    old: &Value,
    new: &Value,
    typed: TypeRef<'_>,
    mut managers: Managers,
    writing: &Writing<'_>,
) -> Managers {
    let Writing { manager, reset, now } = *writing;
    let comparison = compare(old, new, typed).without(&Set::of_fields(reset));
    let mut won = comparison.changed();
    let mut lost = won.clone();
    lost.union(&comparison.removed);
    managers.0.retain_mut(|entry| {
        if entry.manager.is(manager) {
            entry.lose(&comparison.removed);
            return true;
        }
        entry.lose(&lost)
    });
    won.remove(servers_own());
    if !won.is_empty() {
        let time = Some(now.to_owned());
        match managers.of_mut(manager) {
            Some(own) => {
                own.gain(&won);
                own.time = time;
            }
            None => managers.0.push(Entry::new(manager.clone(), time, won)),
        }
    }
    managers.0.retain(|entry| !entry.is_empty());
    managers.cap();
    managers
}
