//! What is to be seen of sessions and plans.
//!
//! Guarantees:
//! - a plan is seen from its first part to its spoke's word (`sessions_and_plans_are_counted`).

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use freewheel_hub_metrics::{
    Counter, DurationHistogram, MetricFamily, MetricKind, Metrics, QUICK_SECONDS_BUCKETS, Value,
};

use crate::Inner;

/// What the gateway counts while it works.
#[derive(Debug)]
pub(crate) struct GatewayMetrics {
    /// Times that a session looked what its spoke should hold.
    pub(crate) looks: Counter,
    /// Messages with plans, or parts of them, that were sent.
    pub(crate) pushes: Counter,
    /// From a plan's first part to its spoke's word that it is durable.
    pub(crate) landing: Arc<DurationHistogram>,
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        let landing = Arc::new(DurationHistogram::new(QUICK_SECONDS_BUCKETS));
        Self { looks: Counter::default(), pushes: Counter::default(), landing }
    }
}

/// Shows what is to be seen of the gateway, as long as it is there.
pub(crate) fn show(metrics: &Metrics, gateway: &Weak<Inner>) {
    let count = |name, help, figure, read: fn(&Inner) -> u64| {
        let gateway = gateway.clone();
        let value = move || gateway.upgrade().map(|inner| Value::Whole(read(&inner)));
        metrics.show(MetricFamily::one((name, help), figure, value));
    };
    count("freewheel_link_sessions", "Spokes in session", MetricKind::Gauge, |inner| {
        u64::try_from(inner.links.lock().len()).unwrap_or(u64::MAX)
    });
    let help = "Times that it was looked what a spoke should hold";
    count("freewheel_plan_looks", help, MetricKind::Counter, |inner| inner.meters.looks.get());
    let help = "Plans, or parts of large ones, that were sent to spokes";
    count("freewheel_plan_pushes", help, MetricKind::Counter, |inner| inner.meters.pushes.get());
    let help = "Datagrams of pods that were refused or dropped";
    count("freewheel_link_datagrams_lost", help, MetricKind::Counter, |inner| {
        inner.lost.load(Ordering::Relaxed)
    });
    let help = "Messages of newer spokes that are not known here";
    count("freewheel_link_messages_skipped", help, MetricKind::Counter, |inner| {
        inner.skipped.load(Ordering::Relaxed)
    });
    let help = "Time in seconds from a plan's first part to its spoke's word that it is durable";
    let gateway = gateway.clone();
    let landing =
        move || gateway.upgrade().map(|inner| Value::Histogram(inner.meters.landing.clone()));
    metrics.show(MetricFamily::one(
        ("freewheel_plan_landing_seconds", help),
        MetricKind::Histogram,
        landing,
    ));
}
