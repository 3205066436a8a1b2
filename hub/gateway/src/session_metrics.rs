//! What is to be seen of sessions and plans.
//!
//! Guarantees:
//! - a plan is seen from its first part to its spoke's word (`sessions_and_plans_are_counted`).

use std::sync::Weak;
use std::sync::atomic::Ordering;

use freewheel_hub_metrics::{MetricFamily, MetricKind, Metrics, Value};

use crate::inner::Inner;

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
