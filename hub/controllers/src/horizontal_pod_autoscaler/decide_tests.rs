//! Decisions about numbers of replicas.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::horizontal_pod_autoscaler::pods::ScaledPod;
use crate::horizontal_pod_autoscaler::replicas::{Observed, Resource, Target, Tolerance};
use crate::horizontal_pod_autoscaler::samples::{ContainerSample, PodSample};
use crate::testing::pod;

fn asked(least: i32, most: i32) -> Asked {
    Asked { least, most, behavior: None, metrics: Vec::new() }
}

fn wants(replicas: i32) -> Result<Proposal, Failure> {
    let name = format!("metric of {replicas}");
    Ok(Proposal { replicas, name, status: json!({"type": "Resource"}) })
}

fn fails(why: &str) -> Result<Proposal, Failure> {
    let among_others = format!("failed to get x: {why}");
    Err(Failure { reason: "FailedGetX", why: why.to_owned(), among_others })
}

/// Long after everything that was.
fn comes_to(current: i32, proposals: &[Result<Proposal, Failure>]) -> Outcome {
    let past = Past::beginning(current, Duration::ZERO);
    decide(&asked(1, 10), current, proposals, &past, Duration::from_secs(10_000))
}

fn rescale(replicas: i32, reason: &str) -> Verdict {
    Verdict::Rescale { replicas, reason: reason.to_owned() }
}

fn reasons(outcome: &Outcome) -> Vec<(&str, &str, &str)> {
    let all = outcome.conditions.iter();
    all.map(|one| (one.kind.name, one.status.name(), &*one.reason)).collect()
}

#[test]
fn the_largest_proposal_counts() {
    let outcome = comes_to(3, &[wants(2), wants(5), wants(4)]);
    assert_eq!(outcome.verdict, rescale(5, "metric of 5 above target"));
    assert_eq!((outcome.recommended, outcome.metrics.len()), (Some(5), 3));
    let expected = [
        ("AbleToScale", "True", "ReadyForNewScale"),
        ("ScalingActive", "True", "ValidMetricFound"),
        ("ScalingLimited", "False", "DesiredWithinRange"),
    ];
    assert_eq!(reasons(&outcome), expected);
    let text = "the HPA was able to successfully calculate a replica count from metric of 5";
    assert_eq!(outcome.conditions[1].message, text);
    assert_eq!(comes_to(3, &[wants(3), wants(1)]).verdict, Verdict::Stay);
    let fewer = comes_to(3, &[wants(2), wants(1)]);
    assert_eq!(fewer.verdict, rescale(2, "All metrics below target"));
}

#[test]
fn a_metric_that_fails_forbids_fewer() {
    let more = comes_to(3, &[fails("gone"), wants(5)]);
    assert_eq!(more.verdict, rescale(5, "metric of 5 above target"));
    assert_eq!(more.metrics, [json!({"type": ""}), json!({"type": "Resource"})]);
    assert_eq!(comes_to(3, &[fails("gone"), wants(3)]).verdict, Verdict::Stay);
    let fewer = comes_to(3, &[wants(2), fails("gone"), fails("lost")]);
    let why = "invalid metrics (2 invalid out of 3), first error is: failed to get x: gone";
    assert_eq!(fewer.verdict, Verdict::Unknown(why.to_owned()));
    assert_eq!(fewer.recommended, None);
    let expected =
        [("AbleToScale", "True", "SucceededGetScale"), ("ScalingActive", "False", "FailedGetX")];
    assert_eq!(reasons(&fewer), expected);
    let text = "the HPA was unable to compute the replica count: gone";
    assert_eq!(fewer.conditions[1].message, text);
    assert!(matches!(comes_to(3, &[fails("gone")]).verdict, Verdict::Unknown(_)));
    assert!(matches!(comes_to(3, &[]).verdict, Verdict::Unknown(_)));
}

#[test]
fn zero_is_left_alone() {
    assert_eq!(asked(1, 10).need(0), Need::Nothing);
    let outcome = Outcome::of_nothing();
    assert_eq!(outcome.verdict, Verdict::Stay);
    let expected = [
        ("AbleToScale", "True", "SucceededGetScale"),
        ("ScalingActive", "False", "ScalingDisabled"),
    ];
    assert_eq!(reasons(&outcome), expected);
}

#[test]
fn bounds_come_before_metrics() {
    let above = "Current number of replicas above Spec.MaxReplicas";
    let below = "Current number of replicas below Spec.MinReplicas";
    assert_eq!(asked(2, 5).need(6), Need::Bound { replicas: 5, reason: above });
    assert_eq!(asked(2, 5).need(1), Need::Bound { replicas: 2, reason: below });
    assert_eq!(asked(2, 5).need(5), Need::Metrics);
    assert_eq!(Outcome::of_bound(5, above).verdict, rescale(5, above));
    let limited = comes_to(3, &[wants(50)]);
    assert_eq!(limited.verdict, rescale(6, "metric of 50 above target"));
    assert_eq!(reasons(&limited)[2], ("ScalingLimited", "True", "ScaleUpLimit"));
}

/// A pod of one container that requests a tenth of a core, ready for long.
fn busy_pod(name: &str) -> ScaledPod {
    let facts = pod(name).running().ready_at(1).facts();
    let mut value = facts.stored.object.value().unwrap();
    value["status"]["startTime"] = json!("1970-01-01T00:00:00Z");
    value["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
    let resource = &facts.stored.key.resource;
    ScaledPod::read(&crate::testing::stored(resource, name, value)).unwrap()
}

#[test]
fn a_spec_is_followed_from_its_metric_to_its_verdict() {
    let spec = json!({"minReplicas": 2, "maxReplicas": 9,
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
        "metrics": [{"type": "Resource", "resource": {"name": "cpu",
            "target": {"type": "Utilization", "averageUtilization": 50}}}]});
    let asked = Asked::read(&serde_json::from_value(spec).unwrap(), "default");
    let cpu = Resource { name: "cpu".to_owned(), container: None };
    assert_eq!(asked.metrics, [Metric::Resource(cpu, Some(Target::Utilization(50)))]);
    let pods = ["a", "b"].map(busy_pod);
    let now = Timestamp::from_second(10_000).unwrap();
    let sample = |name: &str| PodSample {
        name: Arc::from(name),
        at: now,
        window: Duration::from_secs(15),
        containers: vec![ContainerSample {
            name: "c".to_owned(),
            cpu_nanos: 80_000_000,
            memory: 1,
        }],
    };
    let samples = ["a", "b"].map(sample);
    let observed = Observed { pods: &pods, samples: &samples, current: 2, now };
    let usual = Tolerance { up: 0.1, down: 0.1 };
    let proposals: Vec<_> =
        asked.metrics.iter().map(|metric| metric.propose(&observed, usual)).collect();
    let past = Past::beginning(2, Duration::ZERO);
    let outcome = decide(&asked, 2, &proposals, &past, Duration::ZERO);
    let why = "cpu resource utilization (percentage of request) above target";
    assert_eq!(outcome.verdict, rescale(4, why));
    let status = json!({"type": "Resource", "resource": {"name": "cpu",
        "current": {"averageUtilization": 80, "averageValue": "80m"}}});
    assert_eq!(outcome.metrics, [status]);
}
