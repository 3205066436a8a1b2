//! A device's identity over time: the key and the ManagedCluster that it was given for, not the name.

use std::sync::atomic::Ordering::Relaxed;

use freewheel_hub_objects::clock::{Clock, SystemClock, SystemRandom};
use freewheel_link::join::RenewRequestV1;
use freewheel_link::message::{RefusalV1, RenewV1, RenewedV1};

use crate::support::*;

fn session(hub: &Hub, certificate: &[u8]) -> Arc<memory_transport::MemoryTransport> {
    hub.connect(ALPN_SESSION, Some(CertificateDer::from(certificate.to_vec())))
}

/// The same, from this address.
fn session_from(
    hub: &Hub,
    certificate: &[u8],
    address: [u8; 4],
) -> Arc<memory_transport::MemoryTransport> {
    let (near, far) = memory_transport::pair();
    far.show_certificate(CertificateDer::from(certificate.to_vec()));
    far.come_from((address, 4444).into());
    hub.serve(far, ALPN_SESSION);
    near
}

/// What the hub says first to a process with this certificate.
async fn greeted(
    hub: &Hub,
    certificate: &[u8],
    instance: u64,
) -> (HubToSpoke, Arc<memory_transport::MemoryTransport>, Session) {
    greeted_over(session(hub, certificate), instance).await
}

async fn greeted_over(
    link: Arc<memory_transport::MemoryTransport>,
    instance: u64,
) -> (HubToSpoke, Arc<memory_transport::MemoryTransport>, Session) {
    let mut live = greet(&*link, HelloV1 { instance, ..hello("pi-7") }).await;
    (heard(&mut live).await, link, live)
}

/// What comes of a renewal with this key over a session.
async fn renewed(link: &dyn Transport, device: &Device) -> Result<Vec<u8>, RefusalV1> {
    let csr = device.ask("pi-7", TOKEN).csr;
    let mut stream = link.open(Priority::Session).await.unwrap();
    frame::write(&mut stream.send, &Open::Renew(RenewV1 { csr })).await.unwrap();
    let mut recv = FrameReader::new(stream.recv);
    match recv.next::<Answer>().await.unwrap().unwrap() {
        Answer::Ready => Ok(recv.next::<RenewedV1>().await.unwrap().unwrap().certificate),
        Answer::Refused(refusal) => Err(refusal),
    }
}

async fn first_word(hub: &Hub, certificate: &[u8]) -> HubToSpoke {
    greeted(hub, certificate, 1).await.0
}

#[tokio::test]
async fn a_removed_device_is_not_let_in_when_its_name_was_given_to_new_hardware() {
    let hub = Hub::new(true).await;
    let old = Device::new();
    let identity = hub.join(&old, "pi-7", TOKEN).await.unwrap().certificate;
    assert!(matches!(first_word(&hub, &identity).await, HubToSpoke::Welcome(_)));
    hub.remove_cluster("pi-7").await;
    assert_eq!(first_word(&hub, &identity).await, HubToSpoke::Goodbye(Reason::Unknown));
    let new = Device::new();
    refused(hub.join(&old, "pi-7", TOKEN).await, JoinRefusal::Busy, "being removed");
    hub.let_cluster_go("pi-7").await;
    assert_eq!(first_word(&hub, &identity).await, HubToSpoke::Goodbye(Reason::Unknown));

    let given = hub.join(&new, "pi-7", TOKEN).await.unwrap().certificate;
    assert_eq!(first_word(&hub, &identity).await, HubToSpoke::Goodbye(Reason::Replaced));
    let (word, link, _session) = greeted(&hub, &given, 2).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{word:?}");
    assert_eq!(first_word(&hub, &identity).await, HubToSpoke::Goodbye(Reason::Replaced));
    let pushed_out = tokio::time::timeout(Duration::from_millis(100), link.closed()).await;
    assert!(pushed_out.is_err(), "the new device keeps its session");
}

#[tokio::test]
async fn the_same_key_joins_again_as_another_cluster_and_its_old_certificate_is_no_answer() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    let first = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    hub.remove_cluster("pi-7").await;
    hub.let_cluster_go("pi-7").await;
    // Its old request, with a certificate, is still there.
    let second = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    assert_ne!(first, second);
    assert_eq!(first_word(&hub, &first).await, HubToSpoke::Goodbye(Reason::Replaced));
    assert!(matches!(first_word(&hub, &second).await, HubToSpoke::Welcome(_)));
}

#[tokio::test]
async fn two_devices_with_one_identity_are_told_apart_and_told_of() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let from = |address| session_from(&hub, &identity, address);
    let (word, one, _talk) = greeted_over(from([192, 0, 2, 1]), 1).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{word:?}");
    for _ in 0..3 {
        let (word, ..) = greeted_over(from([192, 0, 2, 2]), 2).await;
        assert_eq!(word, HubToSpoke::Goodbye(Reason::Cloned));
    }
    let pushed_out = tokio::time::timeout(Duration::from_millis(100), one.closed()).await;
    assert!(pushed_out.is_err(), "who is in session stays there");
    let cluster = hub.get(CLUSTERS, "", "pi-7").await;
    let conditions = cluster["status"]["conditions"].as_array().unwrap();
    let said = conditions.iter().find(|c| c["type"] == "DuplicateIdentity").unwrap();
    assert_eq!(said["status"], "True");
    let message = said["message"].as_str().unwrap();
    for part in [
        "the one at 192.0.2.1:4444 is in session since 2",
        "and was last heard at 2",
        "the one at 192.0.2.2:4444 was turned away at 2",
    ] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let event = hub.get(("", "v1", "events"), "default", "pi-7.duplicate-identity").await;
    assert_eq!((&event["type"], &event["count"]), (&json!("Warning"), &json!(1)), "now and then");
    assert_eq!(event["message"], said["message"]);
    let name = ClusterName::try_from("pi-7").unwrap();
    let epoch = SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str()).unwrap().epoch;
    assert_eq!(epoch, 1, "they do not fight over the session");
    one.close(code::STOPPING, "the copy stops");
    eventually("it is away", || hub.gateway.connected().is_empty()).await;
    let (word, ..) = greeted_over(from([192, 0, 2, 2]), 2).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "there is one again: {word:?}");
}

#[tokio::test]
async fn processes_of_a_removed_device_are_nothing_to_the_next_one_of_its_name() {
    let hub = Hub::new(true).await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let (word, link, _talk) = greeted(&hub, &identity, 1).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{word:?}");
    let (word, ..) = greeted(&hub, &identity, 2).await;
    assert_eq!(word, HubToSpoke::Goodbye(Reason::Cloned));
    link.close(code::STOPPING, "the device stops");
    eventually("it is away", || hub.gateway.connected().is_empty()).await;
    // It is removed while it is away: no session is there to notice.
    hub.remove_cluster("pi-7").await;
    hub.let_cluster_go("pi-7").await;
    let identity = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap().certificate;
    let (word, _link, _talk) = greeted(&hub, &identity, 2).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)), "{word:?}");
    let (word, ..) = greeted(&hub, &identity, 1).await;
    assert_eq!(word, HubToSpoke::Goodbye(Reason::Cloned), "there are two of this one, too");
    let cluster = hub.get(CLUSTERS, "", "pi-7").await;
    let conditions = cluster["status"]["conditions"].as_array().unwrap();
    let said = conditions.iter().find(|c| c["type"] == "DuplicateIdentity").unwrap();
    assert_eq!(said["status"], "True", "and people hear of them");
}

#[tokio::test]
async fn a_certificate_is_renewed_over_its_session_for_its_own_key() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    let old = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let (word, link, _talk) = greeted(&hub, &old, 1).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)));
    let new = renewed(&*link, &device).await.unwrap();
    assert_ne!(new, old);
    let refused = renewed(&*link, &Device::new()).await.unwrap_err();
    assert_eq!(refused.reason, "Forbidden");
    assert!(refused.message.contains("not of the key"), "{}", refused.message);
    assert!(matches!(first_word(&hub, &new).await, HubToSpoke::Welcome(_)));
    let name = ClusterName::try_from("pi-7").unwrap();
    let session = SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str()).unwrap();
    let life = freewheel_hub_pki::Certificate::read(&new).unwrap().validity();
    assert_eq!(session.life, (life.from, life.to), "its end is known where the condition is made");
}

#[tokio::test]
async fn a_known_key_whose_certificate_expired_may_renew_and_nothing_else() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    hub.join(&device, "pi-7", TOKEN).await.unwrap();
    let expired = hub.expired(&device, "pi-7").await;
    assert_eq!(first_word(&hub, &expired).await, HubToSpoke::Goodbye(Reason::Expired));
    let renew = async |device: &Device, certificate: &[u8]| {
        let link = hub.connect(ALPN_JOIN, None);
        let csr = device.ask("pi-7", TOKEN).csr;
        join::renew(&*link, RenewRequestV1 { certificate: certificate.to_vec(), csr }).await
    };
    let new = renew(&device, &expired).await.unwrap();
    assert_eq!((new.cluster.as_str(), &new.ca), ("pi-7", &hub.ca.to_vec()));
    assert!(matches!(first_word(&hub, &new.certificate).await, HubToSpoke::Welcome(_)));

    refused(renew(&Device::new(), &expired).await, JoinRefusal::Request, "not of the key");
    let stranger = Hub::new(true).await;
    let foreign = stranger.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    refused(renew(&device, &foreign).await, JoinRefusal::Request, "none that this hub");
    refused(renew(&device, &hub.ca).await, JoinRefusal::Request, "none that this hub");
    hub.accept("pi-7", false).await;
    refused(renew(&device, &expired).await, JoinRefusal::Denied, "hub accept pi-7");
    hub.remove_cluster("pi-7").await;
    refused(renew(&device, &expired).await, JoinRefusal::Unknown, "no such cluster");
    hub.let_cluster_go("pi-7").await;
    hub.join(&device, "pi-7", TOKEN).await.unwrap();
    refused(renew(&device, &expired).await, JoinRefusal::NameTaken, "must join again");
}

#[tokio::test]
async fn whatever_a_device_asks_for_its_certificate_is_a_spokes() {
    use rcgen::ExtendedKeyUsagePurpose;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    let hub = Hub::new(true).await;
    let key = KeyPair::generate().unwrap();
    let mut wish = CertificateParams::new(vec!["hub.freewheel.internal".to_owned()]).unwrap();
    wish.distinguished_name.push(DnType::CommonName, "system:admin");
    wish.distinguished_name.push(DnType::OrganizationName, "system:masters");
    wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let csr = wish.serialize_request(&key).unwrap().der().to_vec();
    let request = JoinRequestV1 { csr, ..Device::new().ask("pi-7", TOKEN) };
    let link = hub.connect(ALPN_JOIN, None);
    let given = join::submit(&*link, &request, |_| {}).await.unwrap().certificate;

    let (_, given) = X509Certificate::from_der(&given).unwrap();
    let subject = given.subject().to_string();
    assert!(subject.contains("system:open-cluster-management:pi-7:agent"), "{subject}");
    assert!(!subject.contains("admin") && !subject.contains("masters"), "{subject}");
    assert!(given.subject_alternative_name().unwrap().is_none());
    assert!(!given.is_ca() && !given.key_usage().unwrap().unwrap().value.key_cert_sign());
    let usages = given.extended_key_usage().unwrap().unwrap().value;
    assert!(usages.client_auth && !usages.server_auth && !usages.any);
}

#[tokio::test]
async fn what_the_owner_has_taken_back_no_token_gives_again() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    hub.join(&device, "pi-7", TOKEN).await.unwrap();
    hub.accept("pi-7", false).await;
    let link = hub.connect(ALPN_JOIN, None);
    let request = device.ask("pi-7", TOKEN);
    let (told, mut waits) = tokio::sync::mpsc::channel(4);
    let asking = tokio::spawn(async move {
        join::submit(&*link, &request, |text| drop(told.try_send(text.to_owned()))).await
    });
    assert!(waits.recv().await.unwrap().contains("hub accept pi-7"));
    assert_eq!(hub.get(CLUSTERS, "", "pi-7").await["spec"]["hubAcceptsClient"], false);
    hub.accept("pi-7", true).await;
    asking.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_device_gives_itself_no_label_that_others_decide_by() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    let mut request = device.ask("pi-7", TOKEN);
    request.labels = vec![("node-role.kubernetes.io/control-plane".into(), "true".into())];
    let link = hub.connect(ALPN_JOIN, None);
    refused(join::submit(&*link, &request, |_| {}).await, JoinRefusal::Labels, "--labels");
    assert!(hub.objects.get(&place(CLUSTERS, "", "pi-7")).is_err(), "nothing is written");
    let identity = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let link = session(&hub, &identity);
    let mut greeting = hello("pi-7");
    greeting.node.labels.push(("node-restriction.kubernetes.io/secret".into(), "yes".into()));
    let mut live = greet(&*link, greeting).await;
    assert!(matches!(heard(&mut live).await, HubToSpoke::Welcome(_)));
    let node = place(("", "v1", "nodes"), "", "pi-7");
    eventually("a node", || hub.objects.get(&node).is_ok()).await;
    let labels = hub.get(("", "v1", "nodes"), "", "pi-7").await["metadata"]["labels"].take();
    assert_eq!(labels["site"], "attic");
    assert!(labels["node-restriction.kubernetes.io/secret"].is_null(), "{labels}");
}

/// A wall clock that somebody sets: what it shows first, and by how many seconds it was set since.
struct Set(i128, std::sync::atomic::AtomicI64);

impl Clock for Set {
    fn unix_nanos(&self) -> i128 {
        self.0 + i128::from(self.1.load(Relaxed)) * 1_000_000_000
    }
}

#[tokio::test]
async fn a_spoke_in_session_is_told_when_the_hubs_clock_is_set() {
    let clock = Arc::new(Set(SystemClock.unix_nanos(), 0.into()));
    let store = Arc::new(MemoryStore::with_incarnation(7));
    let hub =
        Hub::of(Objects::with(store, clock.clone(), Arc::new(SystemRandom)), true, None).await;
    hub.listen().await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    Holder::default().settle(&mut session).await;
    clock.1.store(400 * 86_400, Relaxed);
    let stamp = ReportStamp { boot_epoch: 1, sequence: 1 };
    let report = Report::Node(NodeStatusV1 { kernel: "7.0".into(), ..node() });
    frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
    let wall = clock.unix_millis();
    while heard(&mut session).await != HubToSpoke::Now(wall) {}
}

#[tokio::test]
async fn a_hub_whose_clock_is_lost_gives_no_certificate_until_it_is_set() {
    let clock = Arc::new(Set(SystemClock.unix_nanos(), 0.into()));
    let store = Arc::new(MemoryStore::with_incarnation(7));
    let hub =
        Hub::of(Objects::with(store, clock.clone(), Arc::new(SystemRandom)), true, None).await;
    let (device, new) = (Device::new(), Device::new());
    let old = hub.join(&device, "pi-7", TOKEN).await.unwrap().certificate;
    let (word, link, _talk) = greeted(&hub, &old, 1).await;
    assert!(matches!(word, HubToSpoke::Welcome(_)));
    let at_the_door = async || {
        let csr = device.ask("pi-7", TOKEN).csr;
        let asked = RenewRequestV1 { certificate: old.clone(), csr };
        join::renew(&*hub.connect(ALPN_JOIN, None), asked).await
    };
    clock.1.store(4 - clock.unix_seconds(), Relaxed);
    // More often than a device may have one.
    for _ in 0..3 {
        let refused = renewed(&*link, &device).await.unwrap_err();
        assert_eq!(refused.reason, "ServiceUnavailable", "it comes again: {refused}");
        assert!(refused.message.contains("the clock shows 1970-01-01T00:00:04Z"), "{refused}");
        told_of_the_clock(at_the_door().await);
        told_of_the_clock(hub.join(&new, "pi-8", TOKEN).await);
    }
    assert!(hub.objects.get(&place(CLUSTERS, "", "pi-8")).is_err(), "nothing is written for it");
    clock.1.store(0, Relaxed);
    assert_ne!(renewed(&*link, &device).await.unwrap(), old);
    at_the_door().await.unwrap();
    hub.join(&new, "pi-8", TOKEN).await.unwrap();
}

/// A refusal that passes, because of the hub's clock.
#[track_caller]
fn told_of_the_clock(outcome: Result<join::AcceptedV1, JoinError>) {
    assert!(JoinRefusal::Internal.may_pass());
    refused(outcome, JoinRefusal::Internal, "the clock shows 1970-01-01");
}
