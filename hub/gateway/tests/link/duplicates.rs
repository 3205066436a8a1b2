//! Processes with one identity: a device that was started again, and copies of it.

use tokio::time::Instant;

use crate::support::*;

/// A process of pi-7 in session, or one that was turned away.
struct Process {
    near: Arc<memory_transport::MemoryTransport>,
    far: Arc<memory_transport::MemoryTransport>,
    _session: Session,
}

/// One greets; with what the hub says first.
async fn come(hub: &Hub, certificate: &[u8], instance: u64) -> (HubToSpoke, Process) {
    let (near, far) = memory_transport::pair();
    far.show_certificate(CertificateDer::from(certificate.to_vec()));
    hub.serve(far.clone(), ALPN_SESSION);
    let mut session = greet(&*near, HelloV1 { instance, ..hello("pi-7") }).await;
    let word = heard(&mut session).await;
    (word, Process { near, far, _session: session })
}

/// It is let in, within seconds.
async fn welcome(hub: &Hub, certificate: &[u8], instance: u64) -> Process {
    let since = Instant::now();
    let (word, process) = come(hub, certificate, instance).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{instance}: {word:?}");
    assert!(since.elapsed() < Duration::from_secs(10), "{instance}: {:?}", since.elapsed());
    process
}

async fn turned_away(hub: &Hub, certificate: &[u8], instance: u64) {
    let (word, _process) = come(hub, certificate, instance).await;
    assert_eq!(word, HubToSpoke::Goodbye(Reason::Cloned), "{instance}");
}

fn epoch(hub: &Hub) -> u64 {
    SessionRecord::of(&*hub.objects.store().snapshot(), "pi-7").unwrap().epoch
}

/// How often people were told that there are two.
async fn told(hub: &Hub) -> Value {
    hub.get(("", "v1", "events"), "default", "pi-7.duplicate-identity").await["count"].clone()
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_started_again_is_let_in_within_seconds() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let one = welcome(&hub, &identity, 1).await;
    turned_away(&hub, &identity, 2).await;
    assert_eq!(told(&hub).await, 1);

    // The copy was removed just now, and the device dies without a word.
    one.far.hear_nothing();
    let three = welcome(&hub, &identity, 3).await;
    let closed = one.near.closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::SUPERSEDED, .. }), "{closed:?}");
    turned_away(&hub, &identity, 2).await;

    // What is said of it outlives a start of the hub, and so it dies then.
    hub.stop.cancel();
    drop(three);
    let again = hub.restarted();
    let three = welcome(&again, &identity, 3).await;
    three.far.hear_nothing();
    let _four = welcome(&again, &identity, 4).await;
    assert_eq!(told(&again).await, 1, "there was one alone");
    again.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_on_its_way_is_no_answer() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let one = welcome(&hub, &identity, 1).await;
    one.far.hear_no_more_than(1);
    let _two = welcome(&hub, &identity, 2).await;
    assert_eq!(epoch(&hub), 2);
}

#[tokio::test(start_paused = true)]
async fn who_comes_in_a_loop_has_nobody_asked() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let _holder = welcome(&hub, &identity, 0).await;
    let mut asked = 0;
    let closed = loop {
        let (near, far) = memory_transport::pair();
        far.show_certificate(CertificateDer::from(identity.clone()));
        hub.serve(far, ALPN_SESSION);
        let mut session = greet(&*near, HelloV1 { instance: 1, ..hello("pi-7") }).await;
        match session.1.next::<HubToSpoke>().await {
            Ok(Some(HubToSpoke::Goodbye(Reason::Cloned))) => asked += 1,
            _ => break near.closed().await,
        }
        assert!(asked < 1000, "there is no end of it");
    };
    assert!(16 < asked, "one that is told of is asked for");
    assert!(matches!(closed, Closed::ByPeer { code: code::BUSY, .. }), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn many_copies_do_not_take_turns() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let holder = welcome(&hub, &identity, 0).await;
    for _ in 0..2 {
        for instance in 1..=100 {
            turned_away(&hub, &identity, instance).await;
        }
    }
    let times = told(&hub).await.as_u64().unwrap();
    assert_eq!(epoch(&hub), 1);
    assert!((1..=4).contains(&times), "{times} times: now and then, and not of each that comes");
    holder.near.close(code::STOPPING, "it is removed");
    let _next = welcome(&hub, &identity, 50).await;
    turned_away(&hub, &identity, 0).await;
    assert_eq!(epoch(&hub), 2);
}
