//! Writes decisions and the status of a Placement, as they are to be.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{Condition, PLACEMENT_MISCONFIGURED, PLACEMENT_SATISFIED};
use freewheel_hub_fleet::decisions::{Group, Slice, slices};
use freewheel_hub_fleet::schedule::Chosen;
use freewheel_hub_objects::{Propagation, Wanted};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Placements;
use super::observe::Decided;
use crate::engine::Error;
use crate::engine::client::{key as key_of, object_ref};
use crate::engine::clock::rfc3339;
use crate::index::PLACEMENT_LABEL;

const GROUP_INDEX_LABEL: &str = "cluster.open-cluster-management.io/decision-group-index";
const GROUP_NAME_LABEL: &str = "cluster.open-cluster-management.io/decision-group-name";
/// Bytes of an event that tells scores.
const SCORES_TOLD_MAX: usize = 1000;
/// Decisions that are written in one transaction, of which each is some 1,200 bytes beside its clusters ...
const SLICES_TOGETHER_MAX: usize = 2_000;
/// ... and clusters in them, with some 120 bytes for each: together well below what a transaction holds.
const CLUSTERS_TOGETHER_MAX: usize = 20_000;

impl Placements {
    pub(super) async fn apply(
        &self,
        stored: &Arc<Stored>,
        placement: &Value,
        decided: &Decided,
    ) -> Result<Option<Duration>, Error> {
        let wanted = slices(&stored.key.name, &decided.groups);
        let there = self.decisions_of(stored);
        let now = self.client.clock.now();
        let turn = if is_same_choice(&wanted, &there) {
            turn(placement, &decided.rate, now)
        } else {
            None
        };
        let mut told = false;
        // Scores alone wait for their turn.
        if turn.is_none() {
            told = self.write(stored, &wanted, decided).await?;
            self.remove(stored, &wanted, &there).await?;
        }
        let waits = turn.filter(|_| wanted.iter().any(|slice| is_changed(slice, &there)));
        self.write_status(stored, decided, told.then_some(now)).await?;
        let later = decided
            .schedule
            .look_again
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        Ok(later.into_iter().chain(waits).min())
    }

    /// Makes decisions what they are to be, in one step: who moves from one to another is in one of them at any time.
    /// Whether clusters or their scores are others now.
    async fn write(
        &self,
        placement: &Arc<Stored>,
        slices: &[Slice<'_>],
        decided: &Decided,
    ) -> Result<bool, Error> {
        let client = self.client.while_there(placement);
        let mut told = false;
        for part in parts(slices) {
            let wanted: Vec<Wanted<'_>> =
                part.iter().map(|slice| self.wanted(placement, slice)).collect();
            let written = client.write_together(&wanted).await;
            let written = written.map_err(Error::api("write PlacementDecisions"))?;
            for (slice, one) in part.iter().zip(written) {
                if one.created {
                    self.tell(placement, "DecisionCreate", &slice.name, "created");
                }
                if one.changed && !(one.created && slice.clusters.is_empty()) {
                    self.tell_update(placement, &slice.name, decided);
                    told = true;
                }
            }
        }
        Ok(told)
    }

    fn wanted<'a>(&'a self, placement: &'a Stored, slice: &'a Slice<'_>) -> Wanted<'a> {
        let Key { cluster, namespace, name, .. } = &placement.key;
        let key = key_of(&self.decisions, cluster, namespace, &slice.name);
        let uid = placement.object.header.uid.as_str();
        let owner = json!({
            "apiVersion": self.placements.api_version(), "kind": self.placements.kind(),
            "name": &**name, "uid": uid, "controller": true, "blockOwnerDeletion": true,
        });
        let change = move |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            for (label, text) in labels(name, slice) {
                value["metadata"]["labels"][label] = json!(text);
            }
            let owners = &mut value["metadata"]["ownerReferences"];
            let mut all = owners.as_array().cloned().unwrap_or_default();
            if all.iter().all(|it| it["uid"] != uid) {
                // That of another Placement of this name, which is gone.
                all.retain(|it| it["controller"] != true);
                all.push(owner.clone());
            }
            *owners = json!(all);
            Ok(value)
        };
        let list = decisions(slice.clusters);
        let status = move |old: Option<Value>| {
            let mut value = old.unwrap_or_default();
            value["status"]["decisions"] = list.clone();
            Ok(value)
        };
        let target = object_ref(&self.decisions, &key);
        Wanted { target, change: Box::new(change), status: Box::new(status) }
    }

    /// Removes decisions that are none any more.
    async fn remove(
        &self,
        placement: &Arc<Stored>,
        wanted: &[Slice<'_>],
        there: &[Arc<Stored>],
    ) -> Result<(), Error> {
        for decision in
            there.iter().filter(|it| wanted.iter().all(|slice| *slice.name != *it.key.name))
        {
            let uid = &decision.object.header.uid;
            let deleted =
                self.client.delete(&self.decisions, &decision.key, uid, Propagation::Background);
            deleted.await.map_err(Error::api("delete a PlacementDecision"))?;
            self.tell(placement, "DecisionDelete", &decision.key.name, "deleted");
        }
        Ok(())
    }

    async fn write_status(
        &self,
        placement: &Arc<Stored>,
        decided: &Decided,
        scored: Option<Timestamp>,
    ) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let (satisfied, wrong) = (&decided.satisfied, &decided.misconfigured);
        let conditions = [
            Condition::new(&PLACEMENT_MISCONFIGURED, wrong.0, wrong.1, &*wrong.2),
            Condition::new(&PLACEMENT_SATISFIED, satisfied.0, satisfied.1, &*satisfied.2),
        ];
        let groups = groups_status(&placement.key.name, &decided.groups);
        let change = |mut value: Value| {
            let status = &mut value["status"];
            status["numberOfSelectedClusters"] = json!(decided.schedule.chosen.len());
            status["decisionGroups"] = groups.clone();
            if let Some(at) = scored {
                status["lastScoreUpdateTime"] = json!(rfc3339(at));
            }
            for condition in &conditions {
                condition.put(&mut status["conditions"], &now);
            }
            Ok(value)
        };
        let said =
            self.client.modify_this(&self.placements, placement, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a Placement"))
    }

    fn tell(&self, placement: &Stored, reason: &'static str, decision: &str, done: &str) {
        let (namespace, name) = (&placement.key.namespace, &placement.key.name);
        let text =
            format!("Decision {decision} is {done} with placement {name} in namespace {namespace}");
        self.client.recorder.normal(&self.placements, placement, self.client.name(), reason, text);
    }

    /// That a decision is another one, and by which scores.
    fn tell_update(&self, placement: &Stored, decision: &str, decided: &Decided) {
        let schedule = &decided.schedule;
        if let Some((by, why)) = &schedule.warning {
            let (namespace, name) = (&placement.key.namespace, &placement.key.name);
            let text = format!(
                "Decision {decision} is updated with placement {name} in namespace {namespace}: {why} in plugin {by}"
            );
            let (recorder, own) = (&self.client.recorder, self.client.name());
            recorder.warning(&self.placements, placement, own, "DecisionUpdate", text);
        } else {
            self.tell(placement, "DecisionUpdate", decision, "updated");
        }
        let mut text = String::new();
        for (cluster, score) in &schedule.scores {
            let one = format!("{cluster}:{score} ");
            if SCORES_TOLD_MAX < text.len() + one.len() {
                text.push_str("......");
                break;
            }
            text.push_str(&one);
        }
        if !text.is_empty() {
            let (recorder, own) = (&self.client.recorder, self.client.name());
            recorder.normal(&self.placements, placement, own, "ScoreUpdate", text);
        }
    }
}

/// So many decisions as fit into a transaction. Who has more of them has them written part by part.
fn parts<'a, 'b>(slices: &'a [Slice<'b>]) -> Vec<&'a [Slice<'b>]> {
    let (mut out, mut rest, mut clusters) = (Vec::new(), slices, 0);
    let mut at = 0;
    while let Some(slice) = rest.get(at) {
        clusters += slice.clusters.len();
        if 0 < at && (SLICES_TOGETHER_MAX <= at || CLUSTERS_TOGETHER_MAX < clusters) {
            let (part, more) = rest.split_at(at);
            out.push(part);
            (rest, at, clusters) = (more, 0, 0);
            continue;
        }
        at += 1;
    }
    out.push(rest);
    out
}

fn labels(placement: &str, slice: &Slice<'_>) -> [(&'static str, String); 3] {
    [
        (PLACEMENT_LABEL, placement.to_owned()),
        (GROUP_NAME_LABEL, slice.group_name.to_owned()),
        (GROUP_INDEX_LABEL, slice.group_index.to_string()),
    ]
}

fn decisions(clusters: &[Chosen]) -> Value {
    let one = |chosen: &Chosen| {
        let mut decision = json!({"clusterName": chosen.name, "reason": ""});
        if chosen.score != 0 {
            decision["score"] = json!(chosen.score);
        }
        decision
    };
    clusters.iter().map(one).collect()
}

/// Groups as the status has them.
fn groups_status(placement: &str, groups: &[Group]) -> Value {
    let all = slices(placement, groups);
    let one = |(index, group): (usize, &Group)| {
        let names: Vec<&str> = all
            .iter()
            .filter(|slice| slice.group_index == index)
            .map(|slice| &*slice.name)
            .collect();
        json!({
            "decisionGroupIndex": index, "decisionGroupName": group.name, "decisions": names,
            "clusterCount": group.clusters.len(),
        })
    };
    groups.iter().enumerate().map(one).collect()
}

/// Whether every decision is there, with its labels and its clusters, whatever their scores are.
fn is_same_choice(wanted: &[Slice<'_>], there: &[Arc<Stored>]) -> bool {
    let same = |slice: &Slice<'_>| {
        let Some(stored) = there.iter().find(|it| *it.key.name == *slice.name) else {
            return false;
        };
        let own = &stored.object.header.labels;
        let labelled =
            labels("", slice).iter().skip(1).all(|(name, text)| own.get(*name) == Some(text));
        let object = stored.object.value().unwrap_or_default();
        let list = object["status"]["decisions"].as_array();
        let before: Option<BTreeSet<&str>> =
            list.map(|list| list.iter().filter_map(|it| it["clusterName"].as_str()).collect());
        let after: BTreeSet<&str> = slice.clusters.iter().map(|it| &*it.name).collect();
        labelled && before == Some(after)
    };
    wanted.len() == there.len() && wanted.iter().all(same)
}

fn is_changed(slice: &Slice<'_>, there: &[Arc<Stored>]) -> bool {
    let stored = there.iter().find(|it| *it.key.name == *slice.name);
    let object = stored.and_then(|it| it.object.value().ok()).unwrap_or_default();
    object["status"]["decisions"] != decisions(slice.clusters)
}

/// How long it is until scores may be written; nothing, when they may be.
fn turn(placement: &Value, rate: &str, now: Timestamp) -> Option<Duration> {
    let last = placement["status"]["lastScoreUpdateTime"].as_str()?;
    let last: Timestamp = last.parse().ok()?;
    let rest = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    every(rate).checked_sub(rest).filter(|left| !left.is_zero())
}

/// `30s`, `1m`, `2h`
fn every(rate: &str) -> Duration {
    const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
    let Some((unit, digits)) =
        rate.char_indices().next_back().map(|(at, unit)| (unit, &rate[..at]))
    else {
        return DEFAULT_INTERVAL;
    };
    let Ok(number) = digits.parse::<u64>() else { return DEFAULT_INTERVAL };
    let seconds = match unit {
        'h' => number.saturating_mul(3600),
        'm' => number.saturating_mul(60),
        _ => number,
    };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_for_one_transaction_is_parted() {
        let clusters: Vec<Chosen> =
            (0..100).map(|n| Chosen { name: n.to_string(), score: 0 }).collect();
        let slice = |n: usize| Slice {
            name: n.to_string(),
            group_index: n,
            group_name: "",
            clusters: &clusters[..n],
        };
        let sizes = |all: &[Slice<'_>]| parts(all).iter().map(|it| it.len()).collect::<Vec<_>>();
        let full: Vec<Slice<'_>> = (0..450).map(|_| slice(100)).collect();
        assert_eq!(sizes(&full), [200, 200, 50]);
        let small: Vec<Slice<'_>> = (0..4_001).map(|_| slice(1)).collect();
        assert_eq!(sizes(&small), [2_000, 2_000, 1]);
        assert_eq!(sizes(&small[..1]), [1]);
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(every("30s"), Duration::from_secs(30));
        assert_eq!(every("2m"), Duration::from_secs(120));
        assert_eq!(every("1h"), Duration::from_secs(3600));
        assert_eq!(every(""), Duration::from_secs(60));
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let placement = json!({"status": {"lastScoreUpdateTime": rfc3339(at(1_000))}});
        assert_eq!(turn(&placement, "1m", at(1_020)), Some(Duration::from_secs(40)));
        assert_eq!(turn(&placement, "1m", at(1_060)), None);
        assert_eq!(turn(&json!({}), "1m", at(1_060)), None);
    }
}
