//! What is to be seen of the queues, by Kubernetes' names.
//!
//! Guarantees:
//! - each controller's queue has its figures, read when somebody looks (`queues_are_seen_by_their_controllers_names`).

use std::sync::Arc;

use freewheel_hub_metrics::{MetricFamily, MetricKind, Metrics, Sample, Value};

use super::queue::{Counts, Queue};

type Queues = Arc<[(&'static str, Arc<Queue>)]>;

/// Shows these queues, each under its controller's name.
pub(crate) fn show(metrics: &Metrics, queues: Vec<(&'static str, Arc<Queue>)>) {
    let queues: Queues = queues.into();
    let text = "Keys that wait for a worker";
    metrics.show(reading(("workqueue_depth", text), MetricKind::Gauge, &queues, |of| of.depth));
    let text = "Keys added";
    metrics.show(reading(("workqueue_adds", text), MetricKind::Counter, &queues, |of| of.adds));
    let text = "Keys added again after a failure";
    metrics
        .show(reading(("workqueue_retries", text), MetricKind::Counter, &queues, |of| of.retries));
    let named = ("workqueue_work_duration_seconds", "Time in seconds that a key was worked on");
    metrics.show(MetricFamily::new(named, MetricKind::Histogram, move || {
        let one = |(name, queue): &(&str, Arc<Queue>)| Sample {
            labels: vec![("name", (*name).to_owned())],
            value: Value::Histogram(queue.work.clone()),
        };
        queues.iter().map(one).collect()
    }));
}

fn reading(
    named: (&'static str, &'static str),
    figure: MetricKind,
    queues: &Queues,
    of: fn(Counts) -> u64,
) -> MetricFamily {
    let queues = queues.clone();
    let one = move |(name, queue): &(&str, Arc<Queue>)| Sample {
        labels: vec![("name", (*name).to_owned())],
        value: Value::Whole(of(queue.counts())),
    };
    MetricFamily::new(named, figure, move || queues.iter().map(&one).collect())
}

#[cfg(test)]
mod tests {
    use freewheel_hub_metrics::Format;
    use freewheel_hub_schema::object::{Key, Resource};
    use freewheel_link::names::ClusterName;

    use super::*;

    #[tokio::test]
    async fn queues_are_seen_by_their_controllers_names() {
        let (metrics, queue) = (Metrics::default(), Arc::new(Queue::default()));
        show(&metrics, vec![("node-controller", queue.clone()), ("gc", Arc::default())]);
        queue.add(Key::new(&Resource::new("", "nodes"), &ClusterName::root(), "", "pi-7"));
        queue.work.observe(std::time::Duration::from_millis(3));
        let text = metrics.text(Format::Prometheus).unwrap();
        for line in [
            "workqueue_depth{name=\"node-controller\"} 1",
            "workqueue_adds_total{name=\"node-controller\"} 1",
            "workqueue_retries_total{name=\"node-controller\"} 0",
            "workqueue_depth{name=\"gc\"} 0",
            "workqueue_work_duration_seconds_count{name=\"node-controller\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
