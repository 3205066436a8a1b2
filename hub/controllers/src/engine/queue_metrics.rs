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
    let show = |named, figure, of| metrics.show(reading((named, "name"), figure, &queues, of));
    show(("workqueue_depth", "Keys that wait for a worker"), MetricKind::Gauge, |of| of.depth);
    show(("workqueue_adds", "Keys added"), MetricKind::Counter, |of| of.adds);
    let text = "Keys added again after a failure";
    show(("workqueue_retries", text), MetricKind::Counter, |of| of.retries);
    // As the library names it that most controllers are made with: kube-controller-manager counts none.
    let named = ("controller_runtime_reconcile_panics", "How often a controller panicked");
    let panics = reading((named, "controller"), MetricKind::Counter, &queues, |of| of.panics);
    metrics.show(panics);
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
    (named, label): ((&'static str, &'static str), &'static str),
    figure: MetricKind,
    queues: &Queues,
    of: fn(Counts) -> u64,
) -> MetricFamily {
    let queues = queues.clone();
    let one = move |(name, queue): &(&str, Arc<Queue>)| Sample {
        labels: vec![(label, (*name).to_owned())],
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
        queue.count_panic();
        queue.work.observe(std::time::Duration::from_millis(3));
        let text = metrics.text(Format::Prometheus).unwrap();
        for line in [
            "workqueue_depth{name=\"node-controller\"} 1",
            "workqueue_adds_total{name=\"node-controller\"} 1",
            "workqueue_retries_total{name=\"node-controller\"} 0",
            "controller_runtime_reconcile_panics_total{controller=\"node-controller\"} 1",
            "controller_runtime_reconcile_panics_total{controller=\"gc\"} 0",
            "workqueue_depth{name=\"gc\"} 0",
            "workqueue_work_duration_seconds_count{name=\"node-controller\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
