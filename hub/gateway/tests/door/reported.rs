//! What a spoke need not say again after a reconnect.

use crate::running;
use crate::support::*;
use crate::unwell::session_of;

/// Greets as this process, and what the hub says that it has of it.
async fn come(link: &memory::Memory, hello: HelloV1) -> (Session, ReportStamp) {
    let mut session = greet(link, hello).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
    (session, welcome.told)
}

#[tokio::test]
async fn who_comes_back_is_told_which_of_its_reports_are_durable() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::with_incarnation(7));
    let hub = Hub::over(store.clone(), true, None).await;
    let none = ReportStamp::default();
    let certificate = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let connect =
        |hub: &Hub| hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.clone())));
    let link = connect(&hub);
    let (mut session, told) = come(&link, hello("pi-7")).await;
    assert_eq!(told, none, "there were none");
    let stamp = ReportStamp { boot_epoch: 1, sequence: 41 };
    let report = running("root", "another");
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}

    // The old session may still be there when it comes back.
    let again = connect(&hub);
    let (_session, told) = come(&again, hello("pi-7")).await;
    assert_eq!(told, stamp);
    again.close(0, "gone");
    let recorded = || session_of(&hub, "pi-7").reported.is_some();
    eventually("it is written when the session ends", recorded).await;
    let hub = hub.restarted();
    let link = connect(&hub);
    assert_eq!(come(&link, hello("pi-7")).await.1, stamp, "it is in the store");
    link.close(0, "gone");
    let moved = NodeStatusV1 { address: [127, 0, 0, 99].into(), ..node() };
    for (what, other) in [
        ("another start", HelloV1 { boot_epoch: 2, ..hello("pi-7") }),
        ("another address", HelloV1 { node: moved, ..hello("pi-7") }),
        ("another process", HelloV1 { instance: 2, ..hello("pi-7") }),
    ] {
        let link = connect(&hub);
        assert_eq!(come(&link, other).await.1, none, "{what}");
        link.close(0, "gone");
    }
}
