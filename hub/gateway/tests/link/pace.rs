//! How soon a spoke is told of a change, and in how many plans of many changes. Time is the test's here.

use crate::support::*;
use tokio::time::Instant;

/// A hub with a spoke that holds everything there is to hold.
async fn fleet() -> (Hub, Arc<memory_transport::MemoryTransport>, Session, Holder) {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let (link, mut session) = hub.spoke("pi-7").await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    (hub, link, session, holder)
}

fn pods(plan: &PlanV1) -> usize {
    plan.put.iter().filter(|record| record.key.kind == Kind::POD_V1).count()
}

#[tokio::test(start_paused = true)]
async fn the_first_change_after_a_quiet_time_waits_for_nothing() {
    let (hub, _link, mut session, mut holder) = fleet().await;
    for name in ["one", "two"] {
        let start = Instant::now();
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
        let plan = holder.plan(&mut session).await;
        assert_eq!((pods(&plan), start.elapsed()), (1, Duration::ZERO), "pod {name}");
        holder.took(&mut session, &plan).await;
        holder.settle(&mut session).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_changes_is_a_few_plans() {
    let (hub, _link, mut session, mut holder) = fleet().await;
    hub.create(PODS, "default", "first", pod("first", "pi-7")).await;
    let first = holder.plan(&mut session).await;
    assert_eq!(pods(&first), 1);
    for index in 0..1000 {
        let name = format!("pod-{index}");
        hub.create(PODS, "default", &name, pod(&name, "pi-7")).await;
    }
    holder.took(&mut session, &first).await;
    let rest = holder.plan(&mut session).await;
    assert_eq!(pods(&rest), 1000, "what came while a plan was on its way is one plan");
    let ranges = holder.set.iter().filter(|record| record.key.kind == Kind::POD_CIDR_V1);
    let ranges: Vec<PodCidrV1> = ranges.map(|record| record.body().unwrap()).collect();
    assert_eq!(ranges.len(), 5, "it has addresses for all of them");
    holder.took(&mut session, &rest).await;
    let more = tokio::time::timeout(Duration::from_secs(5), holder.plan(&mut session)).await;
    assert!(more.is_err(), "nothing is left: {more:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_no_longer_accepted_is_cut_off_while_a_plan_is_on_its_way() {
    let (hub, link, mut session, mut holder) = fleet().await;
    hub.create(PODS, "default", "one", pod("one", "pi-7")).await;
    holder.plan(&mut session).await;
    let start = Instant::now();
    hub.accept("pi-7", false).await;
    while heard(&mut session).await != HubToSpoke::Goodbye(Reason::NotAccepted) {}
    assert!(start.elapsed() < Duration::from_millis(10), "{:?}", start.elapsed());
    drop(link);
}

#[tokio::test(start_paused = true)]
async fn what_is_sent_after_a_lost_plan_is_the_newest() {
    let (hub, _link, mut session, mut holder) = fleet().await;
    hub.create(PODS, "default", "one", pod("one", "pi-7")).await;
    assert_eq!(pods(&holder.plan(&mut session).await), 1);
    // It is never acknowledged; what changes meanwhile gathers behind it.
    let start = Instant::now();
    for name in ["two", "three"] {
        tokio::time::sleep(Duration::from_secs(8)).await;
        hub.create(PODS, "default", name, pod(name, "pi-7")).await;
    }
    let again = holder.plan(&mut session).await;
    assert_eq!(start.elapsed().as_secs(), PLAN_TIMEOUT.as_secs(), "nothing is sent behind it");
    assert!(again.snapshot, "the hub no longer knows what the spoke holds");
    assert_eq!(pods(&again), 3);
}
