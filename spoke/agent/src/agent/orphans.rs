//! Takes away what is left of pods that nobody knows any more: their ledger was lost, or the power failed while they
//! went.
//!
//! Guarantees:
//! - nothing goes before the hub's plan is durable in this life, and nothing of a pod that the plan names or that is
//!   still here (`what_a_lost_ledger_left_goes_once_the_hub_has_sent_its_plan`);
//! - it is looked for once in a life (`what_a_lost_ledger_left_goes_once_the_hub_has_sent_its_plan`).

use std::path::Path;

use tracing::warn;

use crate::files::Files;
use crate::volumes;

/// Names that are told.
const NAMES_TOLD_MAX: usize = 16;

/// How far this life is with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sweep {
    /// The hub has sent no plan to this life: what the ledger holds may be less than what there is.
    Waiting,
    /// It has, and the plan is not durable yet.
    Due,
    /// Nothing is left of anybody.
    Done,
}

impl Sweep {
    /// The hub's plan has come.
    pub(super) fn soon(&mut self) {
        if *self == Self::Waiting {
            *self = Self::Due;
        }
    }

    /// A plan is durable: whether to look for orphans now.
    pub(super) fn begin(&mut self) -> bool {
        let due = *self == Self::Due;
        if due {
            *self = Self::Done;
        }
        due
    }
}

/// Removes the directories of pods that nobody knows.
pub(super) fn remove(files: &dyn Files, data: &Path, known: impl Fn(&str) -> bool) {
    let home = data.join(volumes::PODS);
    let mut orphans = match files.dirs_in(&home) {
        Ok(names) => names,
        Err(error) => return warn!(%error, "the directories of pods cannot be looked at"),
    };
    orphans.retain(|uid| !known(uid));
    if orphans.is_empty() {
        return;
    }
    for uid in &orphans {
        if let Err(error) = files.remove_dir(&home.join(uid)) {
            warn!(pod = uid, %error, "remains of a pod that nobody knows stay on disk");
        }
    }
    let first = &orphans[..orphans.len().min(NAMES_TOLD_MAX)];
    warn!(
        pods = orphans.len(),
        ?first,
        "what pods left that the hub's plan does not know is removed"
    );
}
