//! How many replicas there are to be: pure.
//!
//! ```text
//! spec, scale ─need─▶ nothing (scaled to zero by hand)
//!                  ─▶ a bound
//!                  ─▶ metrics ─▶ of what they ask for the most ─▶ limits ─▶ what there are to be
//! ```
//!
//! Guarantees:
//! - of several metrics the one counts that asks for the most, and as long as one comes to nothing there are never
//!   fewer (`the_largest_proposal_counts`, `a_metric_that_fails_forbids_fewer`);
//! - who is scaled to zero stays there (`zero_is_left_alone`).

use std::time::Duration;

use freewheel_hub_api::conditions::{
    AUTOSCALER_ABLE_TO_SCALE, AUTOSCALER_SCALING_ACTIVE, AUTOSCALER_SCALING_LIMITED, Condition,
};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscalerSpec;
use serde_json::{Value, json};

use super::behavior::Behavior;
use super::limits::{Bound, Limited, Recommendation, limited};
use super::metric::{Failure, Metric, Proposal};
use super::past::Past;

/// What a spec asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Fewest replicas.
    pub least: i32,
    /// Most replicas.
    pub most: i32,
    /// How fast metrics are followed.
    pub behavior: Option<Behavior>,
    /// What is measured.
    pub metrics: Vec<Metric>,
}

/// What it takes to tell how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nobody asks: it is scaled to zero.
    Nothing,
    /// There are too many or too few.
    Bound {
        /// So many there are to be.
        replicas: i32,
        /// Why.
        reason: &'static str,
    },
    /// Something is to be measured.
    Metrics,
}

/// What a run comes to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What is to be done.
    pub verdict: Verdict,
    /// What is to be said.
    pub conditions: Vec<Condition<'static>>,
    /// status.currentMetrics
    pub metrics: Vec<Value>,
    /// What the metrics ask for, to be remembered.
    pub recommended: Option<i32>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It cannot be told, and why.
    Unknown(String),
    /// Nothing.
    Stay,
    /// There are to be so many.
    Rescale {
        /// How many.
        replicas: i32,
        /// Why.
        reason: String,
    },
}

impl Asked {
    /// From a spec in this namespace.
    #[must_use]
    pub fn read(spec: &HorizontalPodAutoscalerSpec, namespace: &str) -> Self {
        let metrics = spec.metrics.iter().flatten();
        Self {
            least: spec.min_replicas.unwrap_or(1),
            most: spec.max_replicas,
            behavior: spec.behavior.as_ref().map(Behavior::read),
            metrics: metrics.map(|metric| Metric::read(metric, namespace)).collect(),
        }
    }

    /// What it takes to tell how many, when there are so many now.
    #[must_use]
    pub fn need(&self, current: i32) -> Need {
        let (least, most) = (self.least, self.most);
        if current == 0 {
            Need::Nothing
        } else if most < current {
            let reason = "Current number of replicas above Spec.MaxReplicas";
            Need::Bound { replicas: most, reason }
        } else if current < least {
            let reason = "Current number of replicas below Spec.MinReplicas";
            Need::Bound { replicas: least, reason }
        } else {
            Need::Metrics
        }
    }
}

impl Outcome {
    /// Nothing was to be measured, because nobody asks.
    #[must_use]
    pub fn of_nothing() -> Self {
        let text = "scaling is disabled since the replica count of the target is zero";
        let off = Condition::new(&AUTOSCALER_SCALING_ACTIVE, false, "ScalingDisabled", text);
        Self::without_metrics(Verdict::Stay, vec![found_scale(), off])
    }

    /// Nothing was to be measured, because a bound says how many.
    #[must_use]
    pub fn of_bound(replicas: i32, reason: &str) -> Self {
        let verdict = Verdict::Rescale { replicas, reason: reason.to_owned() };
        Self::without_metrics(verdict, vec![found_scale()])
    }

    /// It cannot be told whose metrics count: with the condition that says why.
    #[must_use]
    pub fn of_no_pods(why: String, condition: Condition<'static>) -> Self {
        Self::without_metrics(Verdict::Unknown(why), vec![found_scale(), condition])
    }

    fn without_metrics(verdict: Verdict, conditions: Vec<Condition<'static>>) -> Self {
        Self { verdict, conditions, metrics: Vec::new(), recommended: None }
    }
}

/// The scale could be read.
fn found_scale() -> Condition<'static> {
    let text = "the HPA controller was able to get the target's current scale";
    Condition::new(&AUTOSCALER_ABLE_TO_SCALE, true, "SucceededGetScale", text)
}

/// What follows from what the metrics come to, when there are so many replicas now.
#[must_use]
pub fn decide(
    asked: &Asked,
    current: i32,
    proposals: &[Result<Proposal, Failure>],
    past: &Past,
    now: Duration,
) -> Outcome {
    let metrics: Vec<Value> = proposals.iter().map(shown).collect();
    let failed: Vec<&Failure> = proposals.iter().filter_map(|one| one.as_ref().err()).collect();
    let largest = match (largest(proposals), failed.first()) {
        (Some(largest), Some(_)) if current <= largest.replicas => largest,
        (Some(largest), None) => largest,
        (_, first) => {
            let (verdict, condition) = unknown(first.copied(), failed.len(), proposals.len());
            let conditions = vec![found_scale(), condition];
            return Outcome { verdict, conditions, metrics, recommended: None };
        }
    };
    let wanted = largest.replicas.max(0);
    let recommendation = Recommendation { current, wanted, least: asked.least, most: asked.most };
    let found = limited(recommendation, asked.behavior.as_ref(), past, now);
    let replicas = found.replicas;
    let verdict = if replicas == current {
        Verdict::Stay
    } else {
        Verdict::Rescale { replicas, reason: reason(largest, current) }
    };
    let conditions = limit_conditions(largest, found);
    Outcome { verdict, conditions, metrics, recommended: Some(wanted) }
}

/// Its item of status.currentMetrics; one that comes to nothing keeps its place among the others.
fn shown(metric: &Result<Proposal, Failure>) -> Value {
    metric.as_ref().map_or_else(|_| json!({"type": ""}), |proposal| proposal.status.clone())
}

/// The first of those that ask for the most.
fn largest(proposals: &[Result<Proposal, Failure>]) -> Option<&Proposal> {
    let mut all = proposals.iter().flatten();
    let first = all.next()?;
    Some(all.fold(first, |most, one| if most.replicas < one.replicas { one } else { most }))
}

fn reason(largest: &Proposal, current: i32) -> String {
    if current < largest.replicas {
        format!("{} above target", largest.name)
    } else if largest.replicas < current {
        "All metrics below target".to_owned()
    } else {
        String::new()
    }
}

fn limit_conditions(largest: &Proposal, found: Limited) -> Vec<Condition<'static>> {
    let text =
        format!("the HPA was able to successfully calculate a replica count from {}", largest.name);
    let is_limited = found.bound != Bound::Within;
    let (able, bound) = (found.stabilized.reason_and_message(), found.bound.reason_and_message());
    vec![
        Condition::new(&AUTOSCALER_ABLE_TO_SCALE, true, able.0, able.1),
        Condition::new(&AUTOSCALER_SCALING_ACTIVE, true, "ValidMetricFound", text),
        Condition::new(&AUTOSCALER_SCALING_LIMITED, is_limited, bound.0, bound.1),
    ]
}

/// Too little is known.
fn unknown(first: Option<&Failure>, failed: usize, all: usize) -> (Verdict, Condition<'static>) {
    let none = Failure {
        reason: "InvalidMetricSourceType",
        why: "no metrics are asked for".to_owned(),
        among_others: "no metrics are asked for".to_owned(),
    };
    let Failure { reason, why, among_others } = first.unwrap_or(&none);
    let text = format!("the HPA was unable to compute the replica count: {why}");
    let condition = Condition::new(&AUTOSCALER_SCALING_ACTIVE, false, *reason, text);
    let told = format!("invalid metrics ({failed} invalid out of {all}), first error is: ");
    (Verdict::Unknown(told + among_others), condition)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
