//! In which order something goes to chosen clusters, and how far it may go before those that have it are well.
//!
//! ```text
//! All                  to all at once
//! Progressive          so many at a time; mandatory groups first
//! ProgressivePerGroup  a group after the other; mandatory groups first
//! ```
//!
//! As sdk-go's rollout of Open Cluster Management counts: a cluster that is progressing or has failed keeps its place
//! until its deadline, one that has succeeded until its soak is over.
//!
//! Guarantees:
//! - no more than so many clusters are under way at once (`so_many_are_under_way_at_once`);
//! - too many failures stop it where it is, and who takes too long has failed (`too_many_failures_stop_it`,
//!   `who_takes_too_long_has_failed`);
//! - mandatory groups come first and tolerate no failure (`mandatory_groups_come_first`);
//! - who is not to be begun with now takes nobody's place, and a group waits for its own (`who_is_closed_waits`).

mod finished;
mod strategy;
#[cfg(test)]
mod upstream_tests;
mod waves;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

pub use finished::is_finished;
pub use strategy::{MandatoryGroup, NotAStrategy, Settings, Strategy};
use strategy::{amount, time};
pub use waves::{WAVES_MAX, Wave, Waves, waves};

/// Clusters of one decision group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: i32,
    /// Its clusters.
    pub clusters: BTreeSet<String>,
}

/// How far a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// What it has is not what is wanted, or nobody knows.
    ToApply,
    /// It is at it.
    Progressing,
    /// It is done.
    Succeeded,
    /// It has failed.
    Failed,
    /// It took too long.
    TimedOut,
}

/// A cluster that has been given what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How far it is.
    pub stage: Stage,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// What is to be done next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Clusters that are under way.
    pub rolling: BTreeMap<String, Stage>,
    /// Clusters that took too long.
    pub timed_out: BTreeSet<String>,
    /// Clusters whose turn it is, and that are not to be begun with now.
    pub waiting: BTreeSet<String>,
    /// Too many have failed: nobody new is begun with.
    pub breached: bool,
    /// When to look again though nothing changes.
    pub look_again: Option<Timestamp>,
}

impl Step {
    /// Clusters that are to be given what is wanted.
    pub fn to_apply(&self) -> impl Iterator<Item = &str> {
        let all = self.rolling.iter().filter(|(_, stage)| **stage == Stage::ToApply);
        all.map(|(cluster, _)| cluster.as_str())
    }
}

/// What stays the same over one look.
struct RolloutView<'a> {
    progress: &'a BTreeMap<String, Progress>,
    closed: &'a BTreeSet<String>,
    soak: SignedDuration,
    deadline: Option<SignedDuration>,
    now: Timestamp,
}

/// What is to be done next, from how far those are that have it already.
///
/// # Errors
/// When the strategy is none.
pub fn next(
    strategy: &Strategy,
    groups: &[Group],
    progress: &BTreeMap<String, Progress>,
    now: Timestamp,
) -> Result<Step, NotAStrategy> {
    let nobody = BTreeSet::new();
    next_open(strategy, groups, (progress, &nobody), now)
}

/// The same, where some clusters are closed: nobody of them is to be begun with now.
///
/// # Errors
/// When the strategy is none.
pub fn next_open(
    strategy: &Strategy,
    groups: &[Group],
    (progress, closed): (&BTreeMap<String, Progress>, &BTreeSet<String>),
    now: Timestamp,
) -> Result<Step, NotAStrategy> {
    let settings = settings_of(strategy)?;
    let known: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
    let progress: BTreeMap<String, Progress> = progress
        .iter()
        .filter(|(cluster, _)| known.contains(cluster))
        .map(|(cluster, progress)| (cluster.clone(), progress.clone()))
        .collect();
    let look = RolloutView {
        progress: &progress,
        closed,
        soak: time(&settings.min_success_time)?.unwrap_or_default(),
        deadline: time(&settings.progress_deadline)?,
        now,
    };
    if matches!(&*strategy.kind, "" | "All") {
        let total = known.len();
        let look = RolloutView { soak: SignedDuration::ZERO, ..look };
        return Ok(per_cluster(&look, groups, total, total));
    }
    // What is none is refused before anybody is begun with.
    let failures = amount(&settings.max_failures, known.len(), 0)?;
    let (mandatory, rest) = split(groups, &settings.mandatory_decision_groups);
    if !mandatory.is_empty() {
        let step = per_group(&look, &mandatory, &Value::from(0))?;
        if !step.rolling.is_empty() || !step.timed_out.is_empty() || !step.waiting.is_empty() {
            return Ok(step);
        }
    }
    if strategy.kind == "ProgressivePerGroup" {
        return per_group(&look, &rest, &settings.max_failures);
    }
    let total: usize = rest.iter().map(|group| group.clusters.len()).sum();
    let size = amount(&settings.max_concurrency, total, total)?;
    Ok(per_cluster(&look, &rest, size, failures))
}

/// What a strategy is set to.
fn settings_of(strategy: &Strategy) -> Result<Settings, NotAStrategy> {
    let settings = match &*strategy.kind {
        "" | "All" => &strategy.all,
        "Progressive" => &strategy.progressive,
        "ProgressivePerGroup" => &strategy.progressive_per_group,
        other => return Err(NotAStrategy(format!("incorrect rollout strategy type {other}"))),
    };
    Ok(settings.clone().unwrap_or_default())
}

/// Those that come first, in the order in which they are named, and the others.
fn split(groups: &[Group], mandatory: &[MandatoryGroup]) -> (Vec<Group>, Vec<Group>) {
    let is = |group: &Group, wanted: &MandatoryGroup| {
        if wanted.group_name.is_empty() {
            group.index == wanted.group_index
        } else {
            group.name == wanted.group_name
        }
    };
    let (first, rest): (Vec<&Group>, Vec<&Group>) =
        groups.iter().partition(|group| mandatory.iter().any(|wanted| is(group, wanted)));
    (first.into_iter().cloned().collect(), rest.into_iter().cloned().collect())
}

fn per_cluster(look: &RolloutView<'_>, groups: &[Group], size: usize, failures: usize) -> Step {
    let mut step = Step::default();
    let mut failed = 0;
    for (cluster, progress) in look.progress {
        let mut stage = progress.stage;
        if !step.breached || stage != Stage::ToApply {
            stage = look.follow(cluster, progress, &mut step);
        }
        if matches!(stage, Stage::TimedOut | Stage::Failed) {
            failed += 1;
            step.breached = failures < failed;
        }
        if size <= step.rolling.len() {
            return step;
        }
    }
    if step.breached {
        return step;
    }
    // By name over all groups: a group's place says nothing here.
    let all: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
    for cluster in all.into_iter().filter(|cluster| !look.progress.contains_key(*cluster)) {
        if size <= step.rolling.len() {
            break;
        }
        look.begin(cluster, &mut step);
    }
    step
}

fn per_group(
    look: &RolloutView<'_>,
    groups: &[Group],
    failures: &Value,
) -> Result<Step, NotAStrategy> {
    let mut step = Step::default();
    let begun = look.progress.iter().filter(|(_, progress)| progress.stage != Stage::ToApply);
    let begun: BTreeMap<&String, Stage> = begun
        .map(|(cluster, progress)| (cluster, look.follow(cluster, progress, &mut step)))
        .collect();
    // Who has failed and has time left is under way, and holds up no other group.
    let mut failed_under_way = 0;
    for group in groups {
        let most = amount(failures, group.clusters.len(), 0)?;
        let mut failed = 0;
        for cluster in &group.clusters {
            match begun.get(cluster) {
                Some(stage @ (Stage::TimedOut | Stage::Failed)) => {
                    failed += 1;
                    failed_under_way += usize::from(*stage == Stage::Failed);
                    step.breached = most < failed;
                }
                Some(Stage::Progressing | Stage::Succeeded | Stage::ToApply) => {}
                None => look.begin(cluster, &mut step),
            }
        }
        if failed_under_way < step.rolling.len() || step.breached || !step.waiting.is_empty() {
            return Ok(step);
        }
    }
    Ok(step)
}

impl RolloutView<'_> {
    /// Begins with a cluster whose turn it is, if it is open.
    fn begin(&self, cluster: &str, step: &mut Step) {
        if self.closed.contains(cluster) {
            step.waiting.insert(cluster.to_owned());
        } else {
            step.rolling.insert(cluster.to_owned(), Stage::ToApply);
        }
    }

    /// Whether a cluster that has what is wanted is still under way; how far it is by the clock.
    fn follow(&self, cluster: &str, progress: &Progress, step: &mut Step) -> Stage {
        let since = progress.since.unwrap_or(self.now);
        let ends = |after: SignedDuration| since.checked_add(after).unwrap_or(Timestamp::MAX);
        let end = match progress.stage {
            Stage::ToApply => None,
            Stage::TimedOut => return Stage::TimedOut,
            Stage::Succeeded => {
                let end = ends(self.soak);
                if end <= self.now {
                    return Stage::Succeeded;
                }
                Some(end)
            }
            Stage::Progressing | Stage::Failed => match self.deadline.map(ends) {
                Some(end) if end <= self.now => {
                    step.timed_out.insert(cluster.to_owned());
                    return Stage::TimedOut;
                }
                end => end,
            },
        };
        step.rolling.insert(cluster.to_owned(), progress.stage);
        step.look_again = step.look_again.into_iter().chain(end).min();
        progress.stage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn groups(all: &[(&str, &[&str])]) -> Vec<Group> {
        let one = |(index, (name, clusters)): (usize, &(&str, &[&str]))| Group {
            name: (*name).to_owned(),
            index: i32::try_from(index).unwrap(),
            clusters: clusters.iter().map(|it| (*it).to_owned()).collect(),
        };
        all.iter().enumerate().map(one).collect()
    }

    fn step(strategy: Value, all: &[(&str, &[&str])], progress: &[(&str, Stage, i64)]) -> Step {
        let strategy: Strategy = serde_json::from_value(strategy).unwrap();
        let progress = progress
            .iter()
            .map(|(name, stage, since)| {
                ((*name).to_owned(), Progress { stage: *stage, since: Some(at(*since)) })
            })
            .collect();
        next(&strategy, &groups(all), &progress, at(1_000)).unwrap()
    }

    fn new(step: &Step) -> Vec<&str> {
        step.to_apply().collect()
    }

    const ABCD: &[(&str, &[&str])] = &[("", &["a", "b", "c", "d"])];

    #[test]
    fn all_go_at_once() {
        let got = step(
            json!({"type": "All"}),
            ABCD,
            &[("a", Stage::Failed, 0), ("gone", Stage::Failed, 0)],
        );
        assert_eq!(new(&got), ["b", "c", "d"]);
        assert!(!got.breached);
    }

    #[test]
    fn so_many_are_under_way_at_once() {
        let two = |settings: Value| {
            let mut settings = settings;
            settings["maxConcurrency"] = json!(2);
            json!({"type": "Progressive", "progressive": settings})
        };
        assert_eq!(new(&step(two(json!({})), ABCD, &[])), ["a", "b"]);
        let one = [("a", Stage::Succeeded, 900), ("b", Stage::Progressing, 900)];
        assert_eq!(new(&step(two(json!({})), ABCD, &one)), ["c"]);
        let soaks = step(two(json!({"minSuccessTime": "5m"})), ABCD, &one);
        assert_eq!(new(&soaks), Vec::<&str>::new());
        assert_eq!(soaks.look_again, Some(at(1_200)));
        let half = json!({"type": "Progressive", "progressive": {"maxConcurrency": "50%"}});
        assert_eq!(new(&step(half, ABCD, &[])), ["a", "b"]);
        assert_eq!(new(&step(json!({"type": "Progressive"}), ABCD, &[])), ["a", "b", "c", "d"]);
    }

    #[test]
    fn too_many_failures_stop_it() {
        let with = |failures: Value| {
            json!({"type": "Progressive", "progressive": {
            "maxConcurrency": 2, "maxFailures": failures, "progressDeadline": "1m"}})
        };
        let failed = [("a", Stage::TimedOut, 0), ("b", Stage::Succeeded, 900)];
        let got = step(with(json!(0)), ABCD, &failed);
        assert!(got.breached && new(&got).is_empty());
        let got = step(with(json!(1)), ABCD, &failed);
        assert_eq!((got.breached, new(&got)), (false, vec!["c", "d"]));
        let late = step(with(json!(1)), ABCD, &[("a", Stage::Progressing, 900)]);
        assert_eq!(late.timed_out, ["a".to_owned()].into());
        let still = step(with(json!(1)), ABCD, &[("a", Stage::Failed, 990)]);
        assert_eq!((new(&still), still.look_again), (vec!["b"], Some(at(1_050))));
    }

    #[test]
    fn who_takes_too_long_has_failed() {
        let late = [("a", Stage::Progressing, 900)];
        let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1, "progressDeadline": "1m"}});
        let got = step(one, ABCD, &late);
        assert_eq!(got.timed_out, ["a".to_owned()].into());
        assert!(got.breached && new(&got).is_empty(), "{got:?}");
        let groups: &[(&str, &[&str])] = &[("first", &["a"]), ("", &["b"])];
        let per_group = json!({"type": "ProgressivePerGroup", "progressivePerGroup": {"progressDeadline": "1m"}});
        let got = step(per_group, groups, &late);
        assert!(got.breached && new(&got).is_empty(), "{got:?}");
        let tolerant = json!({"type": "ProgressivePerGroup",
            "progressivePerGroup": {"progressDeadline": "1m", "maxFailures": 1}});
        assert_eq!(new(&step(tolerant.clone(), groups, &late)), ["b"]);
        // A group is not done while one of it is under way, whoever else was too late.
        let groups: &[(&str, &[&str])] = &[("first", &["a", "b"]), ("", &["c"])];
        let at_it = [late[0], ("b", Stage::Progressing, 990)];
        assert_eq!(new(&step(tolerant, groups, &at_it)), Vec::<&str>::new());
    }

    #[test]
    fn a_group_follows_the_other() {
        let all: &[(&str, &[&str])] = &[("canary", &["c"]), ("", &["a", "b"])];
        let per_group = json!({"type": "ProgressivePerGroup"});
        assert_eq!(new(&step(per_group.clone(), all, &[])), ["c"]);
        assert_eq!(
            new(&step(per_group.clone(), all, &[("c", Stage::Progressing, 900)])),
            Vec::<&str>::new()
        );
        assert_eq!(new(&step(per_group.clone(), all, &[("c", Stage::Succeeded, 900)])), ["a", "b"]);
        let failed = step(per_group, all, &[("c", Stage::Failed, 900)]);
        assert!(failed.breached && new(&failed).is_empty());
    }

    #[test]
    fn mandatory_groups_come_first() {
        let all: &[(&str, &[&str])] = &[("", &["a", "b"]), ("canary", &["c"])];
        let with = |kind: &str, field: &str| {
            json!({"type": kind, field: {"maxFailures": "100%",
            "mandatoryDecisionGroups": [{"groupName": "canary"}]}})
        };
        for strategy in
            [with("Progressive", "progressive"), with("ProgressivePerGroup", "progressivePerGroup")]
        {
            assert_eq!(new(&step(strategy.clone(), all, &[])), ["c"]);
            assert_eq!(
                new(&step(strategy.clone(), all, &[("c", Stage::Succeeded, 0)])),
                ["a", "b"]
            );
            assert!(step(strategy, all, &[("c", Stage::Failed, 990)]).breached);
        }
    }

    #[test]
    fn who_is_closed_waits() {
        let step = |strategy: Value, all: &[(&str, &[&str])], closed: &[&str]| {
            let strategy: Strategy = serde_json::from_value(strategy).unwrap();
            let closed: BTreeSet<String> = closed.iter().map(|it| (*it).to_owned()).collect();
            next_open(&strategy, &groups(all), (&BTreeMap::new(), &closed), at(1_000)).unwrap()
        };
        let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1}});
        let got = step(one, ABCD, &["a", "b"]);
        assert_eq!((new(&got), got.waiting.len()), (vec!["c"], 2));
        let got = step(json!({"type": "All"}), ABCD, &["a", "b", "c", "d"]);
        assert_eq!((new(&got).len(), got.waiting.len()), (0, 4));
        let all: &[(&str, &[&str])] = &[("canary", &["c"]), ("", &["a", "b"])];
        let per_group = json!({"type": "ProgressivePerGroup"});
        let got = step(per_group, all, &["c"]);
        assert_eq!((new(&got).len(), got.waiting), (0, ["c".to_owned()].into()));
        let first = json!({"type": "Progressive", "progressive": {
            "mandatoryDecisionGroups": [{"groupName": "canary"}]}});
        let got = step(first, all, &["c"]);
        assert_eq!((new(&got).len(), got.waiting), (0, ["c".to_owned()].into()));
    }

    #[test]
    fn what_is_no_strategy_is_refused() {
        let of = |strategy: Value| {
            let strategy: Strategy = serde_json::from_value(strategy).unwrap();
            next(&strategy, &groups(ABCD), &BTreeMap::new(), at(0)).unwrap_err().to_string()
        };
        assert_eq!(of(json!({"type": "Some"})), "incorrect rollout strategy type Some");
        assert!(
            of(json!({"type": "Progressive", "progressive": {"maxConcurrency": "two"}}))
                .contains("not a percentage")
        );
        for text in ["soon", "PT5M", "5 minutes"] {
            let why = of(json!({"type": "All", "all": {"progressDeadline": text}}));
            assert!(why.contains("no duration"), "{why}");
        }
    }
}
