//! Ends pods whose Node has a NoExecute taint that they do not tolerate, or no longer.
//!
//! ```text
//! taint on a Node + tolerations of a pod ─▶ stays, goes at a time, goes now
//! ```
//!
//! Guarantees:
//! - silence alone evicts nobody: of the taints that the hub itself puts on a Node it does not hear of, a pod
//!   goes only if it says after how long, be that as long as what admission adds to others
//!   (`silence_evicts_whoever_asks_for_it`, `silence_moves_only_who_asks_for_it`);
//! - and none does while a large share of its cluster is silent (`nobody_is_evicted_when_all_are_silent`), but for
//!   taints that somebody put there (`a_taint_of_somebody_s_own_counts_while_all_are_silent`);
//! - who has ended goes as well, as upstream (`a_taint_that_executes_ends_whom_it_concerns`);
//! - a taint is no younger than its first sight, whatever time it says (`a_taint_of_the_future_is_of_now`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{Condition, POD_DISRUPTION_TARGET};
use freewheel_hub_api::kinds::node::{NOT_READY, UNREACHABLE};
use freewheel_hub_api::kinds::pod::{OWN_TOLERATIONS, TOLERATED_SECONDS};
use freewheel_hub_objects::Propagation;
use freewheel_hub_placement::taint::{Effect, Taint, Toleration};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1;
use parking_lot::Mutex;
use tracing::info;

use crate::engine::client::{everywhere, in_cluster, key as key_of, kind, typed};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes};
use crate::pods::PodFacts;

/// A share of silent Nodes, in hundredths, from which on the fault is rather the network's or ours.
const WIDESPREAD_PERCENT: usize = 55;
/// So few silent Nodes are no share of anything.
const WIDESPREAD_NODES_MIN: usize = 2;
/// How soon it is looked again whether a large share is still silent.
const WIDESPREAD_RECHECK_EVERY: Duration = Duration::from_secs(60);

/// The controller.
pub struct TaintEviction {
    client: Client,
    indexes: Indexes,
    pods: Arc<Kind>,
    nodes: Arc<Kind>,
    /// Nodes with NoExecute taints.
    held: Mutex<HashMap<Key, Vec<HeldTaint>>>,
}

/// A NoExecute taint, and since when it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HeldTaint {
    taint: Taint,
    since: Timestamp,
}

impl HeldTaint {
    /// Whether it is there because the Node is not heard of.
    fn is_of_silence(&self) -> bool {
        matches!(self.taint.key.as_str(), NOT_READY | UNREACHABLE)
    }
}

/// When a pod has to go, and whether only because its Node is not heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EvictionTime {
    at: Timestamp,
    of_silence: bool,
}

/// What a pod tolerates, and for which taints it says itself what admission adds to others.
#[derive(Clone, Copy)]
struct Tolerations<'a> {
    all: &'a [v1::Toleration],
    own: &'a str,
}

impl<'a> Tolerations<'a> {
    fn of(pod: &'a v1::Pod) -> Self {
        let all = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref());
        let own = pod.metadata.annotations.as_ref().and_then(|all| all.get(OWN_TOLERATIONS));
        Self { all: all.unwrap_or_default(), own: own.map(String::as_str).unwrap_or_default() }
    }

    /// Whether one of them is what admission has added for this taint.
    fn is_added(self, one: &v1::Toleration, taint: &Taint) -> bool {
        one.toleration_seconds == Some(TOLERATED_SECONDS)
            && one.key.as_deref() == Some(&*taint.key)
            && one.operator.as_deref() == Some("Exists")
            && one.effect.as_deref() == Some("NoExecute")
            && !self.own.split(',').any(|own| own == taint.key)
    }
}

impl TaintEviction {
    /// Deletes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let (pods, nodes) = (kind("", "v1", "pods")?, kind("", "v1", "nodes")?);
        Ok(Self { client, indexes, pods, nodes, held: Mutex::default() })
    }

    /// Takes in what a Node says now; whether its NoExecute taints changed.
    fn note(&self, node: &Key, now: Option<&Stored>) -> bool {
        let mut held = self.held.lock();
        let before = held.remove(node).unwrap_or_default();
        let moment = self.client.clock.now();
        let taints = now.map(|stored| taints_of(stored, &before, moment)).unwrap_or_default();
        let changed = taints != before;
        if !taints.is_empty() {
            held.insert(node.clone(), taints);
        }
        changed
    }

    fn held(&self, node: &Key) -> Vec<HeldTaint> {
        self.held.lock().get(node).cloned().unwrap_or_default()
    }

    /// Whether so many Nodes of a cluster are silent that it is not theirs.
    fn is_widespread(&self, cluster: &ClusterName) -> bool {
        let snapshot = self.client.snapshot();
        let scope = in_cluster(&self.nodes, cluster);
        let keys: Vec<Key> = snapshot.range(&scope, None).map(|node| node.key.clone()).collect();
        let silent = self.indexes.nodes.look(|nodes| {
            let is_silent = |key: &&Key| nodes.get(key).is_some_and(|node| node.is_silent());
            keys.iter().filter(is_silent).count()
        });
        silent == keys.len()
            || (WIDESPREAD_NODES_MIN < silent && keys.len() * WIDESPREAD_PERCENT <= silent * 100)
    }

    /// How long a pod has until it goes; nothing, when it stays.
    fn left(
        &self,
        tolerations: Tolerations<'_>,
        held: Vec<HeldTaint>,
        cluster: &ClusterName,
    ) -> Option<Duration> {
        let now = self.client.clock.now();
        let rest =
            |end: EvictionTime| Duration::try_from(end.at.duration_since(now)).unwrap_or_default();
        let end = decide(tolerations, &held)?;
        let first = rest(end);
        if !first.is_zero() || !end.of_silence || !self.is_widespread(cluster) {
            return Some(first);
        }
        let others: Vec<HeldTaint> =
            held.into_iter().filter(|held| !held.is_of_silence()).collect();
        let other = decide(tolerations, &others).map(rest);
        Some(other.map_or(WIDESPREAD_RECHECK_EVERY, |other| other.min(WIDESPREAD_RECHECK_EVERY)))
    }

    async fn evict(&self, pod: &PodFacts) -> Result<(), Error> {
        let key = pod.key();
        info!(cluster = %key.cluster, pod = %key.name, node = pod.node(), "evicts a pod from a tainted node");
        let text = format!("Marking for deletion Pod {}/{}", key.namespace, key.name);
        let recorder = &self.client.recorder;
        recorder.normal(&self.pods, &pod.stored, self.client.name(), "TaintManagerEviction", text);
        if !pod.is_finished() {
            self.say_why(pod).await?;
        }
        let deleted = self.client.delete(&self.pods, key, pod.uid(), Propagation::Background).await;
        deleted.map(drop).map_err(Error::api("evict a pod"))
    }

    /// Of one that has ended before, nothing is disrupted.
    async fn say_why(&self, pod: &PodFacts) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let text = "Taint manager: deleting due to NoExecute taint";
        let told = self.client.modify_this(&self.pods, &pod.stored, Some("status"), |mut value| {
            Condition::new(&POD_DISRUPTION_TARGET, true, "DeletionByTaintManager", text)
                .put_on_pod(&mut value, &now);
            Ok(value)
        });
        // One as large as an object may be has no room for it: the event has told why.
        if let Err(error) = told.await
            && error.code != 404
            && error.code != 413
        {
            return Err(Error::api("say why a pod is evicted")(error));
        }
        Ok(())
    }
}

/// The NoExecute taints of a Node. One that was there before is as old as it was.
fn taints_of(node: &Stored, before: &[HeldTaint], now: Timestamp) -> Vec<HeldTaint> {
    // Most Nodes have none, which shows without parsing.
    const EFFECT: &[u8] = b"\"NoExecute\"";
    if !node.object.body.windows(EFFECT.len()).any(|part| part == EFFECT) {
        return Vec::new();
    }
    let spec = typed::<v1::Node>(node).ok().and_then(|node| node.spec);
    let taints = spec.and_then(|spec| spec.taints).unwrap_or_default();
    let held = taints.iter().filter_map(|raw| {
        let taint = Taint::read(raw).filter(|taint| taint.effect == Effect::NoExecute)?;
        let known = before.iter().find(|held| held.taint == taint).map(|held| held.since);
        // A time that is still to come is a wrong clock's.
        let told = raw.time_added.as_ref().map(|time| time.0).filter(|told| *told <= now);
        let since = told.or(known).unwrap_or(now);
        Some(HeldTaint { taint, since })
    });
    held.collect()
}

/// When a pod with these tolerations has to go from a Node with these taints: pure.
fn decide(tolerations: Tolerations<'_>, held: &[HeldTaint]) -> Option<EvictionTime> {
    held.iter().filter_map(|held| end(tolerations, held)).min_by_key(|end| end.at)
}

fn end(tolerations: Tolerations<'_>, held: &HeldTaint) -> Option<EvictionTime> {
    let of_silence = held.is_of_silence();
    let tolerates = |raw: &&v1::Toleration| {
        Toleration::read(raw).is_some_and(|toleration| toleration.tolerates(&held.taint))
    };
    match tolerations.all.iter().find(tolerates) {
        // Who says nothing about silence asks for nothing.
        None if of_silence => None,
        None => Some(EvictionTime { at: held.since, of_silence }),
        // What admission adds to every pod is nobody's wish.
        Some(one) if of_silence && tolerations.is_added(one, &held.taint) => None,
        Some(toleration) => {
            let seconds = toleration.toleration_seconds?.max(0);
            let at = held.since.checked_add(SignedDuration::from_secs(seconds)).ok()?;
            Some(EvictionTime { at, of_silence })
        }
    }
}

#[async_trait]
impl Controller for TaintEviction {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.pods), everywhere(&self.nodes)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.nodes.storage() {
            if !self.note(key, event.now.as_deref()) {
                return Vec::new();
            }
            let pods = self.indexes.pods.find(IndexTerm::Node(&key.cluster, &key.name));
            return pods.iter().map(|pod| pod.stored.key.clone()).collect();
        }
        let Some(pod) = &event.now else { return Vec::new() };
        let fields = &pod.object.header.fields;
        let Some(node) = fields.get("spec.nodeName").filter(|node| !node.is_empty()) else {
            return Vec::new();
        };
        let node = key_of(&self.nodes, &key.cluster, "", node);
        if self.held.lock().contains_key(&node) { vec![key.clone()] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        let pod = PodFacts::read(stored)?;
        if pod.node().is_empty() || pod.is_deleting() {
            return Ok(None);
        }
        let held = self.held(&key_of(&self.nodes, &key.cluster, "", pod.node()));
        match self.left(Tolerations::of(&pod.pod), held, &key.cluster) {
            Some(Duration::ZERO) => self.evict(&pod).await.map(|()| None),
            left => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::stored;
    use freewheel_hub_schema::object::Resource;
    use serde_json::{Value, json};

    fn held(key: &str, since: i64) -> HeldTaint {
        let taint = Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoExecute };
        HeldTaint { taint, since: Timestamp::from_second(since).unwrap() }
    }

    #[track_caller]
    fn goes(tolerations: &Value, taints: &[HeldTaint], at: Option<i64>) {
        of_own_goes("", tolerations, taints, at);
    }

    #[track_caller]
    fn of_own_goes(own: &str, tolerations: &Value, taints: &[HeldTaint], at: Option<i64>) {
        let all: Vec<v1::Toleration> = serde_json::from_value(tolerations.clone()).unwrap();
        let end = decide(Tolerations { all: &all, own }, taints);
        assert_eq!(end.map(|end| end.at.as_second()), at, "{all:?}");
    }

    #[test]
    fn tolerations_say_how_long_a_pod_stays() {
        let mine = [held("mine", 100)];
        goes(&json!([]), &[], None);
        goes(&json!([]), &mine, Some(100));
        goes(&json!([{"key": "other", "operator": "Exists"}]), &mine, Some(100));
        goes(&json!([{"key": "mine", "operator": "Exists"}]), &mine, None);
        goes(
            &json!([{"key": "mine", "effect": "NoExecute", "tolerationSeconds": 30}]),
            &mine,
            Some(130),
        );
        goes(
            &json!([{"key": "mine", "effect": "NoExecute", "tolerationSeconds": -5}]),
            &mine,
            Some(100),
        );
        // The first that tolerates counts, and the taint that ends first.
        let both = [held("mine", 100), held("yours", 10)];
        let tolerations = json!([
            {"key": "mine", "effect": "NoExecute", "tolerationSeconds": 5},
            {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 200},
        ]);
        goes(&tolerations, &both, Some(105));
    }

    #[test]
    fn a_taint_of_the_future_is_of_now() {
        let node = json!({"metadata": {"name": "pi-1"}, "spec": {"taints": [
            {"key": "mine", "effect": "NoExecute", "timeAdded": "2030-01-01T00:00:00Z"},
        ]}});
        let stored = stored(&Resource::new("", "nodes"), "pi-1", node);
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = taints_of(&stored, &[], at(100));
        assert_eq!(first[0].since, at(100));
        assert_eq!(taints_of(&stored, &first, at(200)), first);
    }

    #[test]
    fn silence_moves_only_who_asks_for_it() {
        let silent = [held(UNREACHABLE, 100)];
        let with = |seconds: Value| json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds}]);
        goes(&json!([]), &silent, None);
        goes(&with(json!(300)), &silent, None);
        of_own_goes(NOT_READY, &with(json!(300)), &silent, None);
        let both = format!("{NOT_READY},{UNREACHABLE}");
        of_own_goes(&both, &with(json!(300)), &silent, Some(400));
        let of_all =
            json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        goes(&of_all, &silent, Some(400));
        goes(&with(Value::Null), &silent, None);
        goes(&with(json!(60)), &silent, Some(160));
        goes(&with(json!(301)), &silent, Some(401));
    }
}
