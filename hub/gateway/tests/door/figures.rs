//! What is to be seen of sessions and plans.

use crate::support::*;
use freewheel_hub_metrics::{Format, Metrics};

fn text(metrics: &Metrics) -> String {
    metrics.text(Format::Prometheus).unwrap()
}

#[tokio::test]
async fn sessions_and_plans_are_counted() {
    let hub = Hub::new(true).await;
    let metrics = Metrics::default();
    hub.gateway.show(&metrics);
    assert!(text(&metrics).contains("freewheel_link_sessions 0\n"));
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    let plan = holder.plan(&mut session).await;
    assert!(text(&metrics).contains("freewheel_plan_landing_seconds_count 0\n"));
    holder.took(&mut session, &plan).await;
    let landed = || text(&metrics).contains("freewheel_plan_landing_seconds_count 1\n");
    eventually("the plan has landed", landed).await;
    let seen = text(&metrics);
    assert!(seen.contains("freewheel_link_sessions 1\n"), "{seen}");
    assert!(seen.contains("freewheel_plan_pushes_total 1\n"), "{seen}");
}
