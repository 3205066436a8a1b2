//! How many replicas one metric asks for.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::horizontal_pod_autoscaler::samples::ContainerSample;
use crate::testing::stored;

const NOW: i64 = 100_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// What pods are there, and what each takes of a request of a core, in thousandths.
#[derive(Default)]
struct Scene {
    pods: Vec<ScaledPod>,
    samples: Vec<PodSample>,
}

impl Scene {
    fn pod(mut self, mut value: Value, milli: Option<u64>) -> Self {
        let name = format!("p{}", self.pods.len());
        if value.get("metadata").is_none() {
            value["metadata"] = json!({"name": name});
        }
        let requests = json!({"cpu": "1", "memory": "1Ki"});
        value["spec"] = json!({"containers": [{"name": "c", "resources": {"requests": requests}}]});
        let resource = freewheel_hub_schema::object::Resource::new("", "pods");
        self.pods.push(ScaledPod::read(&stored(&resource, &name, value)).unwrap());
        if let Some(milli) = milli {
            let container = ContainerSample {
                name: "c".to_owned(),
                cpu_nanos: milli * 1_000_000,
                memory: milli,
            };
            let (at, window) = (at(NOW - 1), Duration::from_secs(15));
            let containers = vec![container];
            self.samples.push(PodSample { name: name.into(), at, window, containers });
        }
        self
    }

    /// Running and ready for long.
    fn ready(self, takes: &[u64]) -> Self {
        takes.iter().fold(self, |scene, milli| scene.pod(running("True", 0), Some(*milli)))
    }

    /// Running for long, and nothing is known of it.
    fn unknown(self, pods: usize) -> Self {
        (0..pods).fold(self, |scene, _| scene.pod(running("True", 0), None))
    }

    fn asks(&self, current: i32, resource: &str, target: Target) -> Result<Usage, NoUsage> {
        let observed = Observed { pods: &self.pods, samples: &self.samples, current, now: at(NOW) };
        let resource = Resource { name: resource.to_owned(), container: None };
        replicas(&observed, &resource, target, Tolerance { up: 0.1, down: 0.1 })
    }

    #[track_caller]
    fn asks_for(&self, current: i32, percent: i32, expected: i32) {
        let found = self.asks(current, "cpu", Target::Utilization(percent));
        assert_eq!(found.map(|usage| usage.replicas), Ok(expected));
    }
}

fn running(ready: &str, started: i64) -> Value {
    let when = |second: i64| at(second).to_string();
    json!({"status": {"phase": "Running", "startTime": when(started), "conditions": [
        {"type": "Ready", "status": ready, "lastTransitionTime": when(started)},
    ]}})
}

fn scene() -> Scene {
    Scene::default()
}

#[test]
fn usage_to_target_is_how_many_times_as_many() {
    scene().ready(&[300, 500, 700]).asks_for(3, 30, 5);
    scene().ready(&[100, 300, 500, 250, 250]).asks_for(5, 50, 3);
    scene().ready(&[10]).asks_for(1, 20, 1);
    let usage = scene().ready(&[300, 500, 700]).asks(3, "cpu", Target::Utilization(30)).unwrap();
    assert_eq!((usage.percent, usage.average), (Some(50), 500));
    // A raw amount: 400 thousandths of a core each.
    let usage = scene().ready(&[300, 500, 700]).asks(3, "cpu", Target::Average(400)).unwrap();
    assert_eq!(usage, Usage { replicas: 4, percent: None, average: 500 });
    let usage = scene().ready(&[700, 900]).asks(2, "memory", Target::Average(1_000_000)).unwrap();
    assert_eq!(usage, Usage { replicas: 2, percent: None, average: 800_000 });
}

#[test]
fn a_small_difference_changes_nothing() {
    scene().ready(&[540, 560]).asks_for(2, 50, 2);
    scene().ready(&[560, 580]).asks_for(2, 50, 3);
    scene().ready(&[450, 460, 470]).asks_for(3, 50, 3);
    scene().ready(&[440, 440, 400]).asks_for(3, 50, 3);
    scene().ready(&[340, 340, 300]).asks_for(3, 50, 2);
}

#[test]
fn unready_pods_hold_back_a_scale_up() {
    let young = || running("False", NOW - 60);
    // Alone the first two would ask for four.
    scene().ready(&[900, 900]).asks_for(3, 45, 4);
    scene().ready(&[900, 900]).pod(young(), Some(900)).asks_for(3, 45, 4);
    scene().ready(&[500, 500]).pod(young(), Some(900)).asks_for(3, 25, 4);
    // With it idle there would be fewer: nothing is changed.
    scene().ready(&[500, 500]).pod(young(), Some(900)).asks_for(3, 40, 3);
    let pending = json!({"status": {"phase": "Pending"}});
    scene().ready(&[500, 500]).pod(pending.clone(), None).asks_for(3, 25, 4);
    // For fewer they do not count at all.
    scene().ready(&[100, 100]).pod(pending, None).asks_for(3, 50, 1);
    // Memory is what it is from the start.
    let usage =
        scene().ready(&[1000]).pod(young(), Some(2000)).asks(2, "memory", Target::Average(500_000));
    assert_eq!(usage.unwrap().replicas, 6);
}

#[test]
fn missing_pods_hold_back_both_ways() {
    // Idle when there are to be more.
    scene().ready(&[900, 900]).unknown(1).asks_for(3, 45, 4);
    scene().ready(&[600, 600]).unknown(2).asks_for(4, 50, 4);
    // Busy when there are to be fewer.
    scene().ready(&[100, 100, 100]).unknown(1).asks_for(4, 50, 3);
    scene().ready(&[100, 400]).unknown(1).asks_for(3, 50, 3);
    // Above a target of more than all, as busy as that.
    scene().ready(&[100, 100, 100]).unknown(1).asks_for(4, 200, 2);
    let usage = scene().ready(&[100, 100]).unknown(2).asks(4, "cpu", Target::Average(400));
    assert_eq!(usage.unwrap().replicas, 3);
}

#[test]
fn who_ends_does_not_count() {
    let going = json!({"metadata": {"name": "x", "deletionTimestamp": "1970-01-01T00:00:00Z"},
        "status": {"phase": "Running"}});
    let failed = json!({"status": {"phase": "Failed"}});
    scene().ready(&[300, 500]).pod(going, Some(9000)).pod(failed, None).asks_for(2, 40, 2);
}

#[test]
fn what_cannot_be_told_says_why() {
    let told =
        |scene: Scene, resource, target| scene.asks(1, resource, target).unwrap_err().to_string();
    let share = Target::Utilization(50);
    let text =
        "unable to get metrics for resource cpu: no metrics returned from resource metrics API";
    assert_eq!(told(scene().unknown(2), "cpu", share), text);
    let text = "did not receive metrics for targeted pods (pods might be unready)";
    let starting = scene().pod(running("False", NOW - 1), Some(5));
    assert_eq!(told(starting, "cpu", share), text);
    let busy = || scene().ready(&[5]);
    assert_eq!(told(busy(), "ephemeral-storage", share), text);
    let mut without = busy();
    without.pods.clear();
    let text = "no pods returned by selector while calculating replica count";
    assert_eq!(told(without, "cpu", share), text);
}
