//! One placement of a set, as it is at one moment: who is chosen, who has what is wanted, and how far that is.
//!
//! Guarantees:
//! - how far a work is, its conditions say, of what it was given last (`a_work_says_how_far_it_is`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_fleet::rollout::{
    Group, NotAStrategy, Progress, Stage, Step, Strategy, Waves, is_finished, next_open, waves,
};
use freewheel_link::digest::Digest;
use jiff::Timestamp;
use serde_json::Value;

use crate::index::{WorkCondition, WorkEntry, WorkFacts};

/// What a rollout is decided from: by the controller, and by whoever asks what it would do.
pub(in crate::fleet) struct PlacementView<'a> {
    /// The Placement.
    pub placement: &'a str,
    /// Whom it chooses.
    pub groups: &'a [Group],
    /// Works of clusters that it chooses no more.
    pub gone: Vec<&'a WorkEntry>,
    /// Works of those that it chooses.
    pub kept: Vec<&'a WorkEntry>,
    /// Those of them that ask for what is wanted.
    pub as_wanted: Vec<&'a WorkEntry>,
    /// How far those are, by cluster.
    pub progress: BTreeMap<String, Progress>,
}

impl<'a> PlacementView<'a> {
    /// Of all works of a set, whose template has this digest.
    pub fn of(
        placement: &'a str,
        template: Digest,
        groups: &'a [Group],
        works: &'a [Arc<WorkEntry>],
    ) -> Self {
        let chosen: BTreeSet<&str> =
            groups.iter().flat_map(|group| &group.clusters).map(String::as_str).collect();
        let own = works.iter().filter(|work| work.facts().placement == placement);
        let (kept, gone): (Vec<&WorkEntry>, Vec<&WorkEntry>) =
            own.map(|work| &**work).partition(|work| chosen.contains(work.cluster()));
        let as_wanted: Vec<&WorkEntry> =
            kept.iter().filter(|work| work.facts().spec == template).copied().collect();
        let progress: BTreeMap<String, Progress> = as_wanted
            .iter()
            .map(|work| (work.cluster().to_owned(), progress(work.facts())))
            .collect();
        Self { placement, groups, gone, kept, as_wanted, progress }
    }

    /// Clusters that are chosen and have nothing of what is wanted.
    pub fn not_begun(&self) -> impl Iterator<Item = &str> {
        let chosen = self.groups.iter().flat_map(|group| &group.clusters);
        chosen.filter(|cluster| !self.progress.contains_key(*cluster)).map(String::as_str)
    }

    /// What is to be done next, with this `rolloutStrategy`, where these are not to be begun with now.
    pub fn next(
        &self,
        strategy: &Value,
        closed: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Step, NotAStrategy> {
        let strategy = Strategy::read(strategy)?;
        next_open(&strategy, self.groups, (&self.progress, closed), now)
    }

    /// Who has failed, where that is more than may.
    pub fn failed(&self, step: &Step) -> BTreeSet<String> {
        if !step.breached {
            return BTreeSet::new();
        }
        let has_failed = |stage: Stage| matches!(stage, Stage::Failed | Stage::TimedOut);
        let failed = self.progress.iter().filter(|(_, it)| has_failed(it.stage));
        failed.map(|(cluster, _)| cluster).chain(&step.timed_out).cloned().collect()
    }

    /// Whether the rollout has come to the end that its strategy has: whom it lets fail may have failed.
    pub fn is_over(&self, strategy: &Value, now: Timestamp) -> bool {
        let strategy = Strategy::read(strategy);
        strategy
            .and_then(|it| is_finished(&it, self.groups, &self.progress, now))
            .is_ok_and(|is_over| is_over)
    }

    /// Who goes back to this template when a rollout is aborted: all that have another one, whichever. Who has nothing
    /// yet is not begun with.
    pub fn to_take_back(&self, to: Digest) -> BTreeSet<&str> {
        let others = self.kept.iter().filter(|work| work.facts().spec != to);
        others.map(|work| work.cluster()).collect()
    }

    /// What will be, if all goes well and these stay closed.
    pub fn waves(
        &self,
        strategy: &Value,
        closed: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<Waves, NotAStrategy> {
        waves(&Strategy::read(strategy)?, self.groups, (&self.progress, closed), now)
    }
}

/// How far a work is that is as wanted, as it says itself.
fn progress(work: &WorkFacts) -> Progress {
    let of = |kind: &str| work.condition(kind);
    let seen = |it: &&WorkCondition| it.observed == Some(work.generation);
    // What it says may be so for long: of what it was given now it is so since then.
    let since = |it: &WorkCondition| it.since.max(work.given);
    let to_apply = Progress { stage: Stage::ToApply, since: None };
    let applied = of("Applied").filter(seen).filter(|it| it.holds);
    if applied.is_none() || of("Degraded").is_some_and(|it| !seen(&it)) {
        return to_apply;
    }
    let degraded = of("Degraded").filter(|it| it.holds);
    match (of("Progressing"), degraded) {
        (Some(it), _) if !seen(&it) => to_apply,
        (Some(it), _) if it.fails => Progress { stage: Stage::Succeeded, since: since(it) },
        (Some(_), Some(it)) => Progress { stage: Stage::Failed, since: since(it) },
        (Some(it), None) => Progress { stage: Stage::Progressing, since: since(it) },
        (None, _) => {
            let there = of("Available").filter(seen);
            let stage = if there.is_some_and(|it| it.holds) {
                Stage::Succeeded
            } else {
                Stage::Progressing
            };
            Progress { stage, since: there.map_or(work.given, since) }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::index::GIVEN_ANNOTATION;

    #[test]
    fn a_work_says_how_far_it_is() {
        let work = |conditions: &[(&str, &str, i64)]| {
            let one = |(kind, status, observed): &(&str, &str, i64)| json!({"type": kind, "status": status, "observedGeneration": observed, "lastTransitionTime": "2026-01-01T00:00:00Z"});
            json!({"metadata": {"generation": 2}, "status": {"conditions": conditions.iter().map(one).collect::<Vec<_>>()}})
        };
        for (conditions, expected) in [
            (&[][..], Stage::ToApply),
            (&[("Applied", "True", 1)], Stage::ToApply),
            (&[("Applied", "False", 2)], Stage::ToApply),
            (&[("Applied", "True", 2)], Stage::Progressing),
            (&[("Applied", "True", 2), ("Available", "True", 2)], Stage::Succeeded),
            (&[("Applied", "True", 2), ("Progressing", "True", 1)], Stage::ToApply),
            (&[("Applied", "True", 2), ("Progressing", "True", 2)], Stage::Progressing),
            (
                &[("Applied", "True", 2), ("Progressing", "True", 2), ("Degraded", "True", 2)],
                Stage::Failed,
            ),
            (&[("Applied", "True", 2), ("Progressing", "False", 2)], Stage::Succeeded),
        ] {
            let facts = WorkFacts::read(&work(conditions));
            assert_eq!(progress(&facts).stage, expected, "{conditions:?}");
        }
        let mut given = work(&[("Applied", "True", 2), ("Available", "True", 2)]);
        let since = |work: &Value| progress(&WorkFacts::read(work)).since.unwrap().to_string();
        assert_eq!(since(&given), "2026-01-01T00:00:00Z");
        given["metadata"]["annotations"][GIVEN_ANNOTATION] = json!("2026-01-08T00:00:00Z");
        assert_eq!(since(&given), "2026-01-08T00:00:00Z", "it was there before, with another spec");
    }
}
