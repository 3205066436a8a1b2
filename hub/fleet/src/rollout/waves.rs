//! In which waves something goes to chosen clusters if each that gets it is well, and nobody's window opens or closes
//! meanwhile: the rollout itself, asked in advance.
//!
//! Guarantees:
//! - what is foreseen is what the rollout does, step by step (`waves_are_the_steps_of_the_rollout`);
//! - who is closed is in none of them, nor is a group that waits for such
//!   (`who_is_closed_is_in_no_wave_and_holds_up_later_groups`);
//! - it ends, however many waves there are (`waves_without_end_are_cut`).

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Group, NotAStrategy, Progress, Stage, Strategy, next_open};

/// Waves that are foreseen. Nobody reads more of them, and each costs a look at all clusters.
pub const WAVES_MAX: usize = 32;
/// Looks at the rollout, waits for a soak among them.
const LOOKS_MAX: usize = 4 * WAVES_MAX;

/// Clusters that are given something at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// By name.
    pub clusters: Vec<String>,
    /// How long after the first at the earliest.
    pub after: SignedDuration,
}

/// In which waves clusters are given something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Waves {
    /// The first of them, [`WAVES_MAX`] at most.
    pub waves: Vec<Wave>,
    /// How many clusters are in none of these.
    pub left: usize,
    /// Too many of those that have it have failed: the rollout stands.
    pub breached: bool,
}

/// In which waves those go that do not have it yet, and that are not closed. Who is at it is taken to end well, who has
/// failed to stay so.
///
/// # Errors
/// When the strategy is none.
pub fn waves(
    strategy: &Strategy,
    groups: &[Group],
    (progress, closed): (&BTreeMap<String, Progress>, &BTreeSet<String>),
    now: Timestamp,
) -> Result<Waves, NotAStrategy> {
    let done = |at: Timestamp| Progress { stage: Stage::Succeeded, since: Some(at) };
    let mut progress = progress.clone();
    for one in progress.values_mut().filter(|one| one.stage == Stage::Progressing) {
        *one = done(now);
    }
    let (mut out, mut at) = (Waves::default(), now);
    for _ in 0..LOOKS_MAX {
        let step = next_open(strategy, groups, (&progress, closed), at)?;
        let clusters: Vec<String> = step.to_apply().map(str::to_owned).collect();
        if clusters.is_empty() {
            out.breached = step.breached;
            let Some(later) = step.look_again.filter(|later| at < *later) else { break };
            at = later;
            continue;
        }
        if out.waves.len() == WAVES_MAX {
            break;
        }
        progress.extend(clusters.iter().map(|cluster| (cluster.clone(), done(at))));
        out.waves.push(Wave { clusters, after: at.duration_since(now) });
    }
    let all: BTreeSet<&String> = groups.iter().flat_map(|group| &group.clusters).collect();
    let has =
        |cluster: &&String| progress.get(*cluster).is_some_and(|one| one.stage != Stage::ToApply);
    out.left = all.into_iter().filter(|cluster| !has(cluster)).count();
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn group(name: &str, index: i32, clusters: &[String]) -> Group {
        Group { name: name.to_owned(), index, clusters: clusters.iter().cloned().collect() }
    }

    fn names(all: &[&str]) -> Vec<String> {
        all.iter().map(|one| (*one).to_owned()).collect()
    }

    fn foreseen(strategy: Value, progress: &[(&str, Stage)]) -> Waves {
        foreseen_open(strategy, progress, &[])
    }

    fn foreseen_open(strategy: Value, progress: &[(&str, Stage)], closed: &[&str]) -> Waves {
        let strategy: Strategy = serde_json::from_value(strategy).unwrap();
        let groups = [
            group("canary", 0, &names(&["d"])),
            group("", 1, &names(&["a", "b"])),
            group("", 2, &names(&["c"])),
        ];
        let progress = progress
            .iter()
            .map(|(name, stage)| {
                ((*name).to_owned(), Progress { stage: *stage, since: Some(at(900)) })
            })
            .collect();
        let closed = names(closed).into_iter().collect();
        waves(&strategy, &groups, (&progress, &closed), at(1_000)).unwrap()
    }

    fn shown(waves: &Waves) -> Vec<(String, i64)> {
        waves.waves.iter().map(|it| (it.clusters.join(" "), it.after.as_secs())).collect()
    }

    fn wave(clusters: &str, after: i64) -> (String, i64) {
        (clusters.to_owned(), after)
    }

    #[test]
    fn waves_are_the_steps_of_the_rollout() {
        let all = foreseen(json!({"type": "All"}), &[]);
        assert_eq!((shown(&all), all.left), (vec![wave("a b c d", 0)], 0));
        let soaks = json!({"maxConcurrency": 2, "minSuccessTime": "60s",
            "mandatoryDecisionGroups": [{"groupName": "canary"}]});
        let some = foreseen(json!({"type": "Progressive", "progressive": soaks}), &[]);
        assert_eq!(shown(&some), [wave("d", 0), wave("a b", 60), wave("c", 120)]);
        let groups = foreseen(json!({"type": "ProgressivePerGroup"}), &[]);
        assert_eq!(shown(&groups), [wave("d", 0), wave("a b", 0), wave("c", 0)]);
    }

    #[test]
    fn who_has_it_is_in_no_wave_and_who_has_failed_stops_them() {
        let one = json!({"type": "Progressive", "progressive": {"maxConcurrency": 1}});
        let goes_on = foreseen(one.clone(), &[("a", Stage::Progressing), ("b", Stage::Succeeded)]);
        assert_eq!(shown(&goes_on), [wave("c", 0), wave("d", 0)]);
        let stands = foreseen(one, &[("a", Stage::TimedOut)]);
        assert!(stands.breached && stands.waves.is_empty(), "{stands:?}");
        assert_eq!(stands.left, 3);
    }

    #[test]
    fn who_is_closed_is_in_no_wave_and_holds_up_later_groups() {
        let all = foreseen_open(json!({"type": "All"}), &[], &["b"]);
        assert_eq!((shown(&all), all.left), (vec![wave("a c d", 0)], 1));
        let groups = foreseen_open(json!({"type": "ProgressivePerGroup"}), &[], &["b"]);
        assert_eq!((shown(&groups), groups.left), (vec![wave("d", 0), wave("a", 0)], 2));
    }

    #[test]
    fn waves_without_end_are_cut() {
        let all: Vec<String> = (0..WAVES_MAX + 8).map(|n| format!("pi-{n}")).collect();
        let one = json!({"type": "Progressive",
            "progressive": {"maxConcurrency": 1, "minSuccessTime": "1h"}});
        let strategy: Strategy = serde_json::from_value(one).unwrap();
        let none = BTreeMap::new();
        let got =
            waves(&strategy, &[group("", 0, &all)], (&none, &BTreeSet::new()), at(0)).unwrap();
        assert_eq!((got.waves.len(), got.left, got.breached), (WAVES_MAX, 8, false));
        assert_eq!(got.waves.last().unwrap().after, SignedDuration::from_hours(31));
    }
}
