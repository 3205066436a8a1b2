//! Takes away what is left of pods that nobody knows any more: their ledger was lost, or the power failed while they went.
//!
//! Guarantees:
//! - nothing goes before the hub's plan is durable in this life, and nothing of a pod that the plan names or that is
//!   still here (`what_a_lost_ledger_left_goes_once_the_hub_has_sent_its_plan`);
//! - it is looked for once in a life (`what_a_lost_ledger_left_goes_once_the_hub_has_sent_its_plan`).

use freewheel_link::generation::Generation;
use freewheel_link::plan::Kind;
use tracing::warn;

use super::Agent;
use crate::volumes;

/// Names that are told.
const TOLD: usize = 16;

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

impl Agent {
    /// The hub's plan has come.
    pub(super) fn sweep_soon(&mut self) {
        if self.sweep == Sweep::Waiting {
            self.sweep = Sweep::Due;
        }
    }

    /// What is held is durable: removes the directories of pods that are not in it.
    pub(super) fn sweep(&mut self) {
        if self.sweep != Sweep::Due || self.ledger.generation() == Generation::NONE {
            return;
        }
        self.sweep = Sweep::Done;
        let (files, home) = (&self.config.files, self.config.data.join(volumes::PODS));
        let mut orphans = match files.dirs_in(&home) {
            Ok(names) => names,
            Err(error) => {
                return warn!(%error, "the directories of pods cannot be looked at");
            }
        };
        let records = self.ledger.records().iter().map(|record| &record.key);
        let planned: std::collections::BTreeSet<&str> =
            records.filter(|key| key.kind == Kind::POD_V1).map(|key| key.key.as_str()).collect();
        orphans.retain(|uid| {
            !planned.contains(uid.as_str())
                && !self.pods.contains_key(uid)
                && !self.ledger.pods().contains_key(uid)
        });
        if orphans.is_empty() {
            return;
        }
        for uid in &orphans {
            if let Err(error) = files.remove_dir(&home.join(uid)) {
                warn!(pod = uid, %error, "remains of a pod that nobody knows stay on disk");
            }
        }
        let first = &orphans[..orphans.len().min(TOLD)];
        warn!(
            pods = orphans.len(),
            ?first,
            "what pods left that the hub's plan does not know is removed"
        );
    }
}
