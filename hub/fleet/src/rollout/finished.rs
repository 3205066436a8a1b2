//! Whether a rollout has come to its end: nobody is to be begun with or waited for, and no more have failed than may.
//!
//! Guarantees:
//! - who failed and is tolerated is waited for no longer, and where more have failed it has no end
//!   (`it_ends_with_those_that_may_fail`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::strategy::{amount, time};
use super::{
    Group, NotAStrategy, Progress, RolloutView, Stage, Step, Strategy, settings_of, split,
};

/// Whether all clusters have what is wanted and are done with it, but for those that the strategy lets fail. `All` stops
/// for nobody, and says by that nothing of who may fail: it ends with all of them well.
///
/// # Errors
/// When the strategy is none.
pub fn is_finished(
    strategy: &Strategy,
    groups: &[Group],
    progress: &BTreeMap<String, Progress>,
    now: Timestamp,
) -> Result<bool, NotAStrategy> {
    let (settings, nobody) = (settings_of(strategy)?, BTreeSet::new());
    let look = RolloutView {
        progress,
        closed: &nobody,
        soak: time(&settings.min_success_time)?.unwrap_or_default(),
        deadline: time(&settings.progress_deadline)?,
        now,
    };
    if matches!(&*strategy.kind, "" | "All") {
        let look = RolloutView { soak: SignedDuration::ZERO, ..look };
        return Ok(has_ended(&look, groups, 0));
    }
    let (mandatory, rest) = split(groups, &settings.mandatory_decision_groups);
    if !has_ended(&look, &mandatory, 0) {
        return Ok(false);
    }
    if strategy.kind == "ProgressivePerGroup" {
        for group in rest {
            let most = amount(&settings.max_failures, group.clusters.len(), 0)?;
            if !has_ended(&look, &[group], most) {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    let known: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
    let most = amount(&settings.max_failures, known.len(), 0)?;
    Ok(has_ended(&look, &rest, most))
}

/// Whether all of these are done, but for as many as may fail.
fn has_ended(look: &RolloutView<'_>, groups: &[Group], most: usize) -> bool {
    let all: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
    let mut failed = 0;
    for cluster in all {
        let Some(progress) = look.progress.get(cluster) else { return false };
        let mut step = Step::default();
        match look.follow(cluster, progress, &mut step) {
            Stage::ToApply | Stage::Progressing => return false,
            // It soaks.
            Stage::Succeeded if !step.rolling.is_empty() => return false,
            Stage::Succeeded => {}
            Stage::Failed | Stage::TimedOut => failed += 1,
        }
    }
    failed <= most
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn ends(strategy: Value, progress: &[(&str, Stage, i64)]) -> bool {
        let strategy: Strategy = serde_json::from_value(strategy).unwrap();
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let clusters = ["a", "b", "c"].map(str::to_owned).into();
        let groups = [Group { name: String::new(), index: 0, clusters }];
        let progress = progress
            .iter()
            .map(|(name, stage, since)| {
                ((*name).to_owned(), Progress { stage: *stage, since: Some(at(*since)) })
            })
            .collect();
        is_finished(&strategy, &groups, &progress, at(1_000)).unwrap()
    }

    #[test]
    fn it_ends_with_those_that_may_fail() {
        let well = |name| (name, Stage::Succeeded, 100);
        let one = [well("a"), well("b"), ("c", Stage::Failed, 990)];
        let late = [well("a"), well("b"), ("c", Stage::Progressing, 100)];
        for (kind, field) in
            [("Progressive", "progressive"), ("ProgressivePerGroup", "progressivePerGroup")]
        {
            let with = |failures: i64, soak: &str| {
                json!({"type": kind, field: {"maxFailures": failures, "maxConcurrency": 1,
                    "progressDeadline": "60s", "minSuccessTime": soak}})
            };
            assert!(ends(with(0, ""), &[well("a"), well("b"), well("c")]), "{kind}");
            assert!(!ends(with(0, ""), &one) && !ends(with(0, ""), &late), "{kind}");
            assert!(ends(with(1, ""), &one) && ends(with(1, ""), &late), "{kind}");
            let two = [well("a"), ("b", Stage::TimedOut, 0), ("c", Stage::Failed, 990)];
            assert!(!ends(with(1, ""), &two), "{kind}: more than may have failed");
            assert!(!ends(with(1, ""), &[well("a"), well("b")]), "{kind}: one has nothing yet");
            assert!(!ends(with(1, "1h"), &one), "{kind}: they soak");
            let at_it = [well("a"), well("b"), ("c", Stage::Progressing, 990)];
            assert!(!ends(with(1, ""), &at_it), "{kind}");
        }
        let all = json!({"type": "All", "all": {"progressDeadline": "60s"}});
        assert!(ends(all.clone(), &[well("a"), well("b"), well("c")]));
        assert!(!ends(all.clone(), &late) && !ends(all, &one));
    }
}
