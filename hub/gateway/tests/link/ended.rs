//! Pods that have ended: what their device is told of them, and what it cannot take back.

use freewheel_link::plan::{PodEndedV1, PodV1};

use crate::running;
use crate::support::*;

/// What the spoke's record of this pod says of its end.
fn told(holder: &Holder, uid: &str) -> Option<PodEndedV1> {
    let record = holder.set.iter().find(|record| record.key.key == uid).unwrap();
    record.body::<PodV1>().unwrap().parts.get().unwrap()
}

async fn say(session: &mut Session, sequence: u64, report: Report) {
    let stamp = ReportStamp { boot_epoch: 1, sequence };
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
}

#[tokio::test(start_paused = true)]
async fn a_pod_ends_once_whatever_its_device_forgets() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let come = async |instance: u64| {
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
        let mut session = greet(&*link, HelloV1 { instance, ..hello("pi-7") }).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        (link, session)
    };
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let web = async || hub.get(PODS, "default", "web").await;
    let uid = web().await["metadata"]["uid"].as_str().unwrap().to_owned();
    let (first, mut session) = come(1).await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    assert_eq!(told(&holder, &uid), None);
    let Report::Pod(status) = running("root", &uid) else { panic!("no pod") };
    let ended = PodStatusV1 {
        phase: PhaseV1::Failed,
        reason: "Evicted".into(),
        message: "low on memory".into(),
        ..status.clone()
    };
    say(&mut session, 1, Report::Pod(ended)).await;
    holder.settle(&mut session).await;
    let how =
        PodEndedV1 { failed: true, reason: "Evicted".into(), message: "low on memory".into() };
    assert_eq!(told(&holder, &uid), Some(how.clone()));
    first.close(code::STOPPING, "its ledger is lost");
    eventually("its session has ended", || hub.gateway.connected().is_empty()).await;

    let before = web().await["status"].clone();
    let (_second, mut session) = come(2).await;
    let mut holder = Holder::default();
    holder.settle(&mut session).await;
    assert_eq!(told(&holder, &uid), Some(how), "whoever holds nothing is told with the pod");
    for (sequence, phase) in (1..).zip([PhaseV1::Pending, PhaseV1::Running]) {
        say(&mut session, sequence, Report::Pod(PodStatusV1 { phase, ..status.clone() })).await;
        assert_eq!(web().await["status"], before, "{phase:?}");
    }
}
