//! HorizontalPodAutoscaler: makes a workload have as many replicas as what its pods take asks for, every fifteen seconds.
//!
//! ```text
//! target     what is scaled, by its subresource scale
//! pods       its pods; samples: what they take, as metrics.k8s.io tells it
//! metric     what one metric comes to; replicas: computed as upstream does
//! decide     how many there are to be; limits: what holds that back; behavior: the rules of that
//! past       what was recommended and done; memory: of all autoscalers; scales: of all targets
//! selectors  whose pods are whose
//! ```
//!
//! An autoscaler of a cluster looks at that cluster alone. What is remembered is in memory, as upstream: after a restart
//! what there is counts as recommended just now.
//!
//! All autoscalers wait for five workers, and their clusters take turns. One whose devices do not answer holds its worker for as long as
//! they are waited for, ten seconds, and with more than some 300 devices that run scaled pods a turn comes later than
//! every fifteen seconds.
//!
//! Guarantees:
//! - what is busy gets more pods, and loses them again when it has been idle for the window
//!   (`a_busy_deployment_grows_and_shrinks_again`), also after a restart not before
//!   (`a_restarted_hub_scales_nothing_down_at_once`);
//! - why nothing is scaled is said in a condition and in an event (`what_cannot_be_scaled_says_why`,
//!   `two_autoscalers_of_the_same_pods_say_so`, `a_selector_that_is_too_long_is_none`);
//! - who scales while devices are asked has the last word (`who_scales_meanwhile_is_not_overruled`);
//! - everything with a scale is scaled, custom resources too (`whatever_has_a_scale_is_scaled`);
//! - who fails has a turn as often as others, and no more (`an_autoscaler_that_fails_waits_for_its_turn`);
//! - nobody is asked about pods of a spoke that is silent (`pods_of_a_silent_spoke_are_not_asked_about`), of one whose
//!   Node has gone, and of whom no sample would count (`who_would_not_count_is_not_asked_about`).

pub mod behavior;
pub mod decide;
pub mod limits;
mod memory;
pub mod metric;
pub mod past;
pub mod pods;
pub mod replicas;
pub mod samples;
mod scales;
pub mod selectors;
mod target;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{
    AUTOSCALER_ABLE_TO_SCALE, AUTOSCALER_SCALING_ACTIVE, Condition,
};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::{Indexes, PodEntry};
use behavior::{Behavior, DOWNSCALE_STABILIZATION};
use decide::{Asked, Need, Outcome, Verdict};
use memory::{Memory, SYNC_PERIOD};
use metric::Metric;
use pods::ScaledPod;
use replicas::Observed;
pub use samples::{ContainerSample, PodSample, PodSamples};
use target::{NoScale, Target};

/// So many at a time: each may wait for devices.
const WORKERS: usize = 5;

/// The controller.
pub struct HorizontalPodAutoscalers {
    client: Client,
    indexes: Indexes,
    autoscalers: Arc<Kind>,
    nodes: Arc<Kind>,
    samples: Arc<dyn PodSamples>,
    memory: Mutex<Memory>,
    /// What the times of its memory are told from.
    started: Instant,
}

/// Why it cannot be told which pods are meant.
struct NoPods {
    /// Of the event.
    event: (&'static str, String),
    /// Of the condition.
    condition: (&'static str, String),
}

/// What is written into a status.
struct StatusUpdate {
    conditions: Vec<Condition<'static>>,
    /// When the target's scale could be read.
    seen: Option<Seen>,
}

struct Seen {
    current: i32,
    /// Unless it cannot be told.
    desired: Option<i32>,
    metrics: Vec<Value>,
    is_rescaled: bool,
}

impl HorizontalPodAutoscalers {
    /// Writes through this client.
    pub fn new(
        client: Client,
        indexes: Indexes,
        samples: Arc<dyn PodSamples>,
    ) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            autoscalers: kind("autoscaling", "v2", "horizontalpodautoscalers")?,
            nodes: kind("", "v1", "nodes")?,
            samples,
            memory: Mutex::default(),
            started: Instant::now(),
        })
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sync(&self, stored: &Stored) -> Result<(), Error> {
        let autoscaler: HorizontalPodAutoscaler = typed(stored)?;
        let spec = autoscaler.spec;
        let (key, known) = (&stored.key, |target: &Key| self.memory.lock().scale(target));
        let target = match Target::find(&self.client, key, &spec.scale_target_ref, known) {
            Ok(target) => target,
            Err(why) => return self.say_no_scale(stored, &why).await,
        };
        let asked = Asked::read(&spec, &stored.key.namespace);
        let current = i32::try_from(target.scale.wanted).unwrap_or(i32::MAX);
        {
            let mut memory = self.memory.lock();
            memory.scale_read(key, target.known());
            // From now on this counts as recommended, unless something was before.
            memory.past(key, current, self.now());
        }
        let outcome = match asked.need(current) {
            Need::Nothing => Outcome::of_nothing(),
            Need::Bound { replicas, reason } => Outcome::of_bound(replicas, reason),
            Need::Metrics => self.measure(stored, &asked, (&target, current)).await?,
        };
        self.apply(stored, (&asked, &target, current), outcome).await
    }

    /// Asks what pods take, and decides.
    async fn measure(
        &self,
        stored: &Stored,
        asked: &Asked,
        (target, current): (&Target, i32),
    ) -> Result<Outcome, Error> {
        let entries = match self.pods_of(stored, target) {
            Ok(entries) => entries,
            Err(NoPods { event: (reason, text), condition }) => {
                self.warn(stored, reason, text.clone());
                let (reason, message) = condition;
                let off = Condition::new(&AUTOSCALER_SCALING_ACTIVE, false, reason, message);
                return Ok(Outcome::of_no_pods(text, off));
            }
        };
        let pods = entries.iter().map(|entry| ScaledPod::read(&entry.stored));
        let pods = pods.collect::<Result<Vec<_>, _>>()?;
        let is_asked = |metric: &Metric| matches!(metric, Metric::Resource(..));
        let samples = if asked.metrics.iter().any(is_asked) {
            self.samples.of(&stored.key.cluster, self.to_be_asked(&entries, &pods)).await
        } else {
            Vec::new()
        };
        let now = self.client.clock.now();
        let observed = Observed { pods: &pods, samples: &samples, current, now };
        let tolerance = Behavior::tolerance(asked.behavior.as_ref());
        let metrics = asked.metrics.iter();
        let proposals: Vec<_> =
            metrics.map(|metric| metric.propose(&observed, tolerance)).collect();
        for failure in proposals.iter().filter_map(|one| one.as_ref().err()) {
            self.warn(stored, failure.reason, failure.why.clone());
        }
        let (mut memory, now) = (self.memory.lock(), self.now());
        // It is forgotten while it is looked at when it has gone.
        let past = memory.past(&stored.key, current, now).ok_or(Error::Later)?;
        let outcome = decide::decide(asked, current, &proposals, past, now);
        if let Some(replicas) = outcome.recommended {
            let window = asked.behavior.as_ref().map(Behavior::longest_window);
            past.recommend(replicas, window.unwrap_or(DOWNSCALE_STABILIZATION), now);
        }
        Ok(outcome)
    }

    /// The target's pods, when they are nobody else's.
    fn pods_of(&self, stored: &Stored, target: &Target) -> Result<Vec<Arc<PodEntry>>, NoPods> {
        let key = &stored.key;
        let Some(text) = target.scale.selector.as_deref().filter(|text| !text.is_empty()) else {
            let missing = "the HPA target's scale is missing a selector".to_owned();
            let event = ("SelectorRequired", "selector is required".to_owned());
            return Err(NoPods { event, condition: ("InvalidSelector", missing) });
        };
        let selector = selectors::read(text).map_err(|why| {
            NoPods::said_twice(
                "InvalidSelector",
                format!(
                    "couldn't convert selector into a corresponding internal selector object: {why}"
                ),
            )
        })?;
        let pods = self.indexes.pods_chosen_by((&key.cluster, &*key.namespace), &selector);
        let labels: BTreeSet<_> = pods.iter().map(|pod| &pod.stored.object.header.labels).collect();
        let mut memory = self.memory.lock();
        memory.selectors.put(key, text, &selector);
        let choosing = memory.selectors.choosing(key, &labels);
        if choosing.len() < 2 {
            return Ok(pods);
        }
        Err(NoPods::said_twice("AmbiguousSelector", selectors::ambiguous(text, &choosing)))
    }

    /// Those of whom a sample counts, and whose spoke is there to be asked.
    fn to_be_asked(&self, entries: &[Arc<PodEntry>], pods: &[ScaledPod]) -> Vec<Arc<Stored>> {
        self.indexes.nodes.look(|nodes| {
            let is_heard_of = |pod: &Arc<PodEntry>| {
                let node = key_of(&self.nodes, &pod.stored.key.cluster, "", pod.node());
                !pod.node().is_empty() && nodes.get(&node).is_some_and(|node| !node.is_silent())
            };
            let counting = entries.iter().zip(pods).filter(|(_, pod)| pod.is_measured());
            let asked = counting.map(|(entry, _)| entry).filter(|entry| is_heard_of(entry));
            asked.map(|entry| entry.stored.clone()).collect()
        })
    }

    /// Does what was decided, and says so.
    async fn apply(
        &self,
        stored: &Stored,
        (asked, target, current): (&Asked, &Target, i32),
        outcome: Outcome,
    ) -> Result<(), Error> {
        let Outcome { verdict, mut conditions, metrics, .. } = outcome;
        let mut seen = Seen { current, desired: None, metrics, is_rescaled: false };
        match verdict {
            Verdict::Unknown(why) => self.warn(stored, "FailedComputeMetricsReplicas", why),
            Verdict::Stay => seen.desired = Some(current),
            Verdict::Rescale { replicas, reason } => {
                let done = target.rescale(&self.client, replicas).await;
                seen.is_rescaled = done.is_ok();
                seen.desired = done.is_ok().then_some(replicas);
                let done = done.map_err(|error| error.message);
                let able = self.tell_rescaled(stored, (replicas, &reason), done.as_ref().err());
                conditions.retain(|one| one.kind != able.kind);
                conditions.insert(0, able);
            }
        }
        if let (true, Some(desired), Some(behavior)) =
            (seen.is_rescaled, seen.desired, &asked.behavior)
        {
            let (mut memory, now) = (self.memory.lock(), self.now());
            if let Some(past) = memory.past(&stored.key, current, now) {
                past.rescaled((current, desired), behavior, now);
            }
        }
        self.write_status(stored, &StatusUpdate { conditions, seen: Some(seen) }).await
    }

    /// Tells that the target was scaled, or why it could not be, and what follows for the condition.
    fn tell_rescaled(
        &self,
        stored: &Stored,
        (replicas, reason): (i32, &str),
        error: Option<&String>,
    ) -> Condition<'static> {
        let able = &AUTOSCALER_ABLE_TO_SCALE;
        if let Some(error) = error {
            let text = format!("New size: {replicas}; reason: {reason}; error: {error}");
            self.warn(stored, "FailedRescale", text);
            let text = format!("the HPA controller was unable to update the target scale: {error}");
            return Condition::new(able, false, "FailedUpdateScale", text);
        }
        let text = format!("New size: {replicas}; reason: {reason}");
        let (recorder, by) = (&self.client.recorder, self.client.name());
        recorder.normal(&self.autoscalers, stored, by, "SuccessfulRescale", text);
        let text = format!("the HPA controller was able to update the target scale to {replicas}");
        Condition::new(able, true, "SucceededRescale", text)
    }

    async fn say_no_scale(&self, stored: &Stored, why: &NoScale) -> Result<(), Error> {
        self.warn(stored, "FailedGetScale", why.to_string());
        let text =
            format!("the HPA controller was unable to get the target's current scale: {why}");
        let able = Condition::new(&AUTOSCALER_ABLE_TO_SCALE, false, "FailedGetScale", text);
        self.write_status(stored, &StatusUpdate { conditions: vec![able], seen: None }).await
    }

    fn warn(&self, stored: &Stored, reason: &'static str, text: String) {
        let (recorder, by) = (&self.client.recorder, self.client.name());
        recorder.warning(&self.autoscalers, stored, by, reason, text);
    }

    async fn write_status(&self, stored: &Stored, said: &StatusUpdate) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            said.put(&mut value["status"], &now);
            Ok(value)
        };
        let written = self.client.modify_this(&self.autoscalers, stored, Some("status"), change);
        written.await.map(drop).map_err(Error::api("write the status of a HorizontalPodAutoscaler"))
    }
}

impl NoPods {
    fn said_twice(reason: &'static str, text: String) -> Self {
        Self { event: (reason, text.clone()), condition: (reason, text) }
    }
}

impl StatusUpdate {
    fn put(&self, status: &mut Value, now: &str) {
        if let Some(seen) = &self.seen {
            status["currentReplicas"] = json!(seen.current);
            if let Some(desired) = seen.desired {
                status["desiredReplicas"] = json!(desired);
            }
            if seen.is_rescaled {
                status["lastScaleTime"] = json!(now);
            }
            status["currentMetrics"] = json!(seen.metrics);
            if let Some(map) = status.as_object_mut().filter(|_| seen.metrics.is_empty()) {
                map.remove("currentMetrics");
            }
        }
        for condition in &self.conditions {
            condition.put(&mut status["conditions"], now);
        }
    }
}

/// What it asks for.
fn spec_of(stored: &Stored) -> Option<Value> {
    stored.object.value().ok()?.get_mut("spec").map(Value::take)
}

#[async_trait]
impl Controller for HorizontalPodAutoscalers {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.autoscalers)]
    }

    /// One whose spec is new has its turn at once; its status is this controller's own.
    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let is_new = match (&event.now, &event.before) {
            (Some(now), Some(before)) => spec_of(now) != spec_of(before),
            (None, _) | (_, None) => true,
        };
        event.key().filter(|_| is_new).cloned().into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else {
            self.memory.lock().forget(key);
            return Ok(None);
        };
        let rest = self.memory.lock().begin(&stored, self.now());
        if rest.is_some() {
            return Ok(rest);
        }
        self.sync(&stored).await?;
        self.memory.lock().end(key);
        Ok(Some(SYNC_PERIOD))
    }

    fn workers(&self) -> usize {
        WORKERS
    }
}
