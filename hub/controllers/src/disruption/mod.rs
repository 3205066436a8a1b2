//! Says of each PodDisruptionBudget how many of its pods may be evicted now; evictions take from that.
//!
//! ```text
//! decide   the status, from the budget's pods
//! scale    how many pods their controllers ask for
//! ```
//!
//! Guarantees:
//! - nothing is allowed while what a budget is a share of cannot be told
//!   (`a_budget_that_cannot_be_made_up_allows_nothing`);
//! - what was evicted since the budget was read is never given away again: a status is written only over the one
//!   that was read (`a_budget_follows_its_pods`);
//! - a pod that was to be evicted and stays loses the condition that says so
//!   (`a_pod_that_was_not_deleted_is_no_target_any_more`).

pub mod decide;
mod scale;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{BUDGET_DISRUPTION_ALLOWED, Condition, POD_DISRUPTION_TARGET};
use freewheel_hub_api::disruption::SYNC_FAILED;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Value, json};

use crate::engine::client::{everywhere, kind, typed};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error, Throttle};
use crate::index::{Indexes, PodEntry};
use crate::pods::PodFacts;
use crate::selector::Selector;
use decide::{Expectation, PodHealth, Verdict};

/// How long a pod may be said to be about to go without being deleted.
const STALE_TARGET_AFTER: SignedDuration = SignedDuration::from_mins(2);
/// A spoke's own word is never stale: it takes as long as the pod's end.
const SAID_BY_SPOKE: &str = "TerminationByKubelet";

/// The controller. Its keys are budgets, and pods that are said to be about to go.
pub struct Disruptions {
    client: Client,
    indexes: Indexes,
    budgets: Arc<Kind>,
    pods: Arc<Kind>,
    /// When each budget's status was last written.
    throttle: Throttle,
}

impl Disruptions {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        let budgets = kind("policy", "v1", "poddisruptionbudgets")?;
        let pods = kind("", "v1", "pods")?;
        Ok(Self { client, indexes, budgets, pods, throttle: Throttle::default() })
    }

    async fn sync(&self, stored: &Stored) -> Result<Option<Duration>, Error> {
        let budget: PodDisruptionBudget = typed(stored)?;
        let spec = budget.spec.unwrap_or_default();
        let selector = spec.selector.as_ref().and_then(Selector::of_budget);
        let place = (&stored.key.cluster, &*stored.key.namespace);
        let guarded = selector.map(|selector| self.indexes.pods_chosen_by(place, &selector));
        let pods = guarded.unwrap_or_default();
        if pods.is_empty() {
            self.tell(stored, false, "NoPods", "No matching pods found".to_owned());
        }
        let scale = if decide::needs_scale(&spec) {
            match scale::of_pods(&self.client, &pods) {
                Ok(scale) => scale,
                Err(why) => return self.fail_safe(stored, &why).await.map(|()| None),
            }
        } else {
            scale::Scale::default()
        };
        if scale.has_unmanaged {
            self.tell(stored, true, "UnmanagedPods", unmanaged(spec.selector.as_ref()));
        }
        let health = pods.iter().map(|pod| health(pod)).collect::<Result<Vec<_>, _>>()?;
        let wanted: Expectation = decide::expectation(&spec, pods.len(), scale.wanted);
        let before = budget.status.unwrap_or_default();
        let now = self.client.clock.now();
        let generation = stored.object.header.generation;
        let verdict = decide::decide((generation, &before), &health, wanted, now);
        for pod in pods
            .iter()
            .filter(|pod| verdict.not_deleted.iter().any(|n| **n == *pod.stored.key.name))
        {
            self.tell_not_deleted(stored, pod);
        }
        // What allows less is never late.
        let allowed = verdict.status["disruptionsAllowed"].as_i64().unwrap_or_default();
        if i64::from(before.disruptions_allowed.unwrap_or_default()) < allowed
            && let Some(rest) = self.throttle.wait(&stored.key, pods.len())
        {
            return Ok(Some(rest));
        }
        let Verdict { status, look_again, .. } = verdict;
        self.write(stored, |value| value["status"] = status.clone()).await?;
        Ok(look_again)
    }

    /// What cannot be made up allows nothing.
    async fn fail_safe(&self, stored: &Stored, why: &str) -> Result<(), Error> {
        let text = format!("Failed to calculate the number of expected pods: {why}");
        self.tell(stored, true, "CalculateExpectedPodCountFailed", text);
        let now = rfc3339(self.client.clock.now());
        let change = |value: &mut Value| {
            let status = &mut value["status"];
            status["disruptionsAllowed"] = json!(0);
            let observed = status["observedGeneration"].as_i64();
            let failed = Condition::new(&BUDGET_DISRUPTION_ALLOWED, false, SYNC_FAILED, why);
            Condition { observed, ..failed }.put(&mut status["conditions"], &now);
        };
        self.write(stored, change).await
    }

    /// Only over what was read: an eviction may have taken from it meanwhile.
    async fn write<F>(&self, stored: &Stored, change: F) -> Result<(), Error>
    where
        F: Fn(&mut Value) + Send + Sync,
    {
        let change = |mut value: Value| {
            change(&mut value);
            Ok(value)
        };
        let written = self.client.modify_at(&self.budgets, stored, Some("status"), change).await;
        written.map(drop).map_err(Error::api("write the status of a PodDisruptionBudget"))
    }

    fn tell(&self, budget: &Stored, warning: bool, reason: &'static str, text: String) {
        let (recorder, name) = (&self.client.recorder, self.client.name());
        if warning {
            recorder.warning(&self.budgets, budget, name, reason, text);
        } else {
            recorder.normal(&self.budgets, budget, name, reason, text);
        }
    }

    fn tell_not_deleted(&self, budget: &Stored, pod: &PodEntry) {
        let (namespace, name) = (&budget.key.namespace, &budget.key.name);
        let text =
            format!("Pod was expected by PDB {namespace}/{name} to be deleted but it wasn't");
        let (recorder, by) = (&self.client.recorder, self.client.name());
        recorder.warning(&self.pods, &pod.stored, by, "NotDeleted", text);
    }

    /// Takes back that a pod is to go, when nobody has deleted it for a while.
    async fn clear_stale_target(&self, stored: Arc<Stored>) -> Result<Option<Duration>, Error> {
        let pod = PodFacts::read(stored)?;
        let now = self.client.clock.now();
        match stale_in(&pod, now) {
            None => Ok(None),
            Some(left) if !left.is_zero() => Ok(Some(left)),
            Some(_) => {
                let change = |mut value: Value| {
                    let stays = Condition::new(&POD_DISRUPTION_TARGET, false, "", "");
                    stays.put_on_pod(&mut value, &rfc3339(now));
                    Ok(value)
                };
                let told = self.client.modify_at(&self.pods, &pod.stored, Some("status"), change);
                told.await.map_err(Error::api("take back that a pod is to go"))?;
                Ok(None)
            }
        }
    }
}

fn health(pod: &PodEntry) -> Result<PodHealth, Error> {
    let (name, deleting) = (pod.stored.key.name.to_string(), pod.stored.object.header.deleting);
    Ok(PodHealth { name, deleting, ready: pod.summary()?.is_ready() })
}

/// How long until nobody believes any more that the pod is about to go; nothing, when nobody says so.
fn stale_in(pod: &PodFacts, now: Timestamp) -> Option<Duration> {
    let target = pod.condition(POD_DISRUPTION_TARGET.name).filter(|it| it.status == "True")?;
    if !pod.is_active() || target.reason.as_deref() == Some(SAID_BY_SPOKE) {
        return None;
    }
    let since = target.last_transition_time.as_ref().map_or(now, |time| time.0);
    let left = STALE_TARGET_AFTER - now.duration_since(since);
    Some(Duration::try_from(left).unwrap_or_default())
}

/// Whether a pod may be said to be about to go: told without parsing it.
fn may_be_target(pod: &Stored) -> bool {
    const TARGET: &[u8] = b"\"DisruptionTarget\"";
    !pod.object.header.deleting && memchr::memmem::find(&pod.object.body, TARGET).is_some()
}

/// As Go prints the selector.
fn unmanaged(selector: Option<&LabelSelector>) -> String {
    let selector = selector.cloned().unwrap_or_default();
    let labels = selector.match_labels.unwrap_or_default();
    let labels: String = labels.iter().map(|(k, v)| format!("{k}: {v},")).collect();
    let expressions = selector.match_expressions.unwrap_or_default();
    let one = |it: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement| {
        let values = it.values.as_deref().unwrap_or_default().join(" ");
        format!(
            "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
            it.key, it.operator
        )
    };
    let expressions: String = expressions.iter().map(one).collect();
    format!(
        "Pods selected by this PodDisruptionBudget (selector: &LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}) were found to be unmanaged. As a result, the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

#[async_trait]
impl Controller for Disruptions {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.budgets), everywhere(&self.pods)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.budgets.storage() {
            return vec![key.clone()];
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> =
            sides.flat_map(|pod| self.indexes.selector_owners_of(&self.budgets, pod)).collect();
        keys.extend(event.now.as_ref().filter(|pod| may_be_target(pod)).map(|_| key.clone()));
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.throttle.forget(key);
            return Ok(None);
        };
        if key.resource == *self.pods.storage() {
            return self.clear_stale_target(stored).await;
        }
        self.sync(&stored).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selector_is_told_as_go_prints_it() {
        let selector = serde_json::from_value(json!({"matchLabels": {"a": "b"},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d", "e"]}]}));
        let text = unmanaged(selector.ok().as_ref());
        let said = "(selector: &LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{LabelSelectorRequirement{Key:c,Operator:In,Values:[d e],},},})";
        assert!(text.contains(said), "{text}");
    }

    fn target(reason: &str, pod: Value) -> Option<Duration> {
        let mut pod = pod;
        pod["status"]["conditions"] = json!([{"type": "DisruptionTarget", "status": "True",
            "reason": reason, "lastTransitionTime": "1970-01-01T00:01:40Z"}]);
        let resource = freewheel_hub_schema::object::Resource::new("", "pods");
        let stored = crate::testing::stored(&resource, "p", pod);
        stale_in(&PodFacts::read(stored).unwrap(), Timestamp::from_second(130).unwrap())
    }

    #[test]
    fn only_who_may_stay_is_looked_at_again() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
        assert_eq!(target("EvictionByEvictionAPI", pod.clone()), Some(Duration::from_secs(90)));
        assert_eq!(target(SAID_BY_SPOKE, pod), None);
        let ended = json!({"metadata": {"name": "p"}, "status": {"phase": "Failed"}});
        assert_eq!(target("EvictionByEvictionAPI", ended), None);
    }
}
