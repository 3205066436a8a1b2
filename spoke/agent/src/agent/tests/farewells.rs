//! The word that a pod is gone, for which the hub waits.

use freewheel_link::message::RefusalV1;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_farewell_that_the_hub_could_not_keep_is_said_again_when_its_record_changes() {
    let mut run = run(&SimDisk::default());
    run.send(Input::Connected(Some(1))).await;
    run.plan(vec![range(), pod_record(&pod("a"))], vec![]).await;
    let deleted = PodV1 { deleting: Some(7), ..pod("a") };
    run.plan(vec![pod_record(&deleted)], vec![]).await;
    let farewells = |run: &Run| {
        let reports = run.world.uplink.reports.lock();
        let gone = reports.iter().filter(|(_, report)| matches!(report, Report::PodGone { .. }));
        gone.map(|(stamp, _)| *stamp).collect::<Vec<_>>()
    };
    let said = farewells(&run);
    let why = RefusalV1::new("InternalError", "not now");
    run.send(Input::ReportRefused(said[0], why)).await;
    run.send(Input::ReportsTaken(said[0])).await;
    run.plan(vec![pod_record(&pod("b"))], vec![]).await;
    assert_eq!(farewells(&run), said, "it is not said in a loop");
    let touched = PodV1 { labels: vec![("a".to_owned(), "b".to_owned())], ..deleted.clone() };
    run.plan(vec![pod_record(&touched)], vec![]).await;
    assert_eq!(farewells(&run).len(), 2);
    // Of a record that is for a newer agent nothing but the end can be read.
    let last = *farewells(&run).last().unwrap();
    run.send(Input::ReportRefused(last, RefusalV1::new("InternalError", "not now"))).await;
    let mut newer = pod_record(&deleted);
    newer.body.truncate(newer.body.len() - 1);
    run.plan(vec![newer.clone()], vec![]).await;
    assert_eq!(farewells(&run).len(), 3);
    // Once it is kept, nothing is said again.
    let last = *farewells(&run).last().unwrap();
    run.send(Input::ReportsTaken(last)).await;
    run.plan(vec![newer], vec![]).await;
    assert_eq!(farewells(&run).len(), 3);
    run.end().await;
}
