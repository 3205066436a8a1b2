//! What is counted of a set's works.

use std::collections::BTreeSet;

use freewheel_hub_fleet::rollout::{NotAStrategy, Stage};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::view::PlacementView;
use crate::index::WorkEntry;

/// What was done for one placement of a set.
pub(super) struct RolledOut {
    pub summary: Summary,
    /// When there is more to do though nothing changes.
    pub look_again: Option<Timestamp>,
    /// Why nothing new is given to anybody.
    pub wrong: Option<NotAStrategy>,
    /// Who has failed, where that is more than may.
    pub failed: BTreeSet<String>,
    /// It has come to the end that its strategy has.
    pub is_over: bool,
    /// Whose turn it is, and who are not to be begun with now.
    pub waiting: BTreeSet<String>,
    /// When the first of their windows opens.
    pub opens: Option<Timestamp>,
}

impl RolledOut {
    /// Of works of which so much is known.
    pub fn of(summary: Summary) -> Self {
        let (failed, waiting) = (BTreeSet::new(), BTreeSet::new());
        let (look_again, wrong, opens) = (None, None, None);
        Self { summary, look_again, wrong, failed, is_over: false, waiting, opens }
    }
}

/// What is counted of one placement's works.
#[derive(Debug, Default)]
pub(super) struct Summary {
    pub placement: String,
    pub groups: usize,
    /// Clusters that it chooses.
    pub desired: usize,
    /// Works that there are.
    pub total: usize,
    /// Works that are as wanted.
    updated: usize,
    pub succeeded: usize,
    applied: usize,
    pub available: usize,
    pub progressing: usize,
    pub degraded: usize,
}

impl Summary {
    pub fn of(view: &PlacementView<'_>) -> Self {
        let PlacementView { placement, groups, kept, as_wanted, progress, .. } = view;
        let says = |kind: &str| {
            let holds = |work: &&&WorkEntry| {
                work.facts().condition(kind).is_some_and(|condition| condition.holds)
            };
            as_wanted.iter().filter(holds).count()
        };
        Self {
            placement: (*placement).to_owned(),
            groups: groups.len(),
            desired: groups.iter().map(|group| group.clusters.len()).sum(),
            total: kept.len(),
            updated: as_wanted.len(),
            succeeded: progress.values().filter(|it| it.stage == Stage::Succeeded).count(),
            applied: says("Applied"),
            available: says("Available"),
            progressing: says("Progressing"),
            degraded: says("Degraded"),
        }
    }

    pub fn to_status(&self) -> Value {
        json!({
            "total": self.total, "desiredTotal": self.desired, "updated": self.updated, "applied": self.applied,
            "available": self.available, "progressing": self.progressing, "degraded": self.degraded,
        })
    }

    pub fn plus(&self, other: &Self) -> Self {
        Self {
            placement: String::new(),
            groups: self.groups + other.groups,
            desired: self.desired + other.desired,
            total: self.total + other.total,
            updated: self.updated + other.updated,
            succeeded: self.succeeded + other.succeeded,
            applied: self.applied + other.applied,
            available: self.available + other.available,
            progressing: self.progressing + other.progressing,
            degraded: self.degraded + other.degraded,
        }
    }
}
