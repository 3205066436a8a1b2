//! Who gets in, who does not, and what they are told: over real QUIC on loopback where the handshake
//! matters, over memory where it does not.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

mod anew;
mod bounds;
mod broken;
mod compiling;
mod cost;
mod datagrams;
mod duplicates;
mod ended;
mod events;
mod figures;
mod identity;
mod inherited;
mod labels;
mod mute;
mod orders;
mod pace;
mod pod_streams;
mod races;
mod ranges;
mod remade;
mod reported;
mod requests;
mod restored;
#[path = "../../../../link/tests/said/mod.rs"]
mod said;
mod shared;
mod sizes;
mod spans;
mod standing;
mod support;
mod tokens;
mod unwell;
mod waiting;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_objects::internal::SessionRecord;
use freewheel_hub_pki::encode;
use support::*;

#[tokio::test]
async fn a_wrong_token_writes_nothing_and_says_what_to_do() {
    let hub = Hub::new(true).await;
    let before = hub.objects.store().snapshot().revision();
    let device = Device::new();
    for token in
        ["abcdef.0123456789abcdeX", "nobody.0123456789abcdef", "", "oldold.0123456789abcdef"]
    {
        refused(hub.join(&device, "pi-7", token).await, JoinRefusal::Token, "hub token create");
    }
    assert_eq!(hub.objects.store().snapshot().revision(), before);
}

#[tokio::test(start_paused = true)]
async fn strangers_keep_nobody_with_a_good_token_out() {
    let hub = Hub::new(true).await;
    let silent: Vec<_> = (0..300).map(|_| hub.connect(ALPN_JOIN, None)).collect();
    tokio::time::sleep(Duration::from_secs(3)).await;
    let device = Device::new();
    // More wrong tokens than a burst of joins.
    for _ in 0..100 {
        let wrong = hub.join(&device, "pi-6", "abcdef.0123456789abcdeX").await;
        refused(wrong, JoinRefusal::Token, "hub token create");
    }
    hub.join(&device, "pi-7", TOKEN).await.unwrap();
    let closed = silent[0].closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::BUSY, .. }), "{closed:?}");
}

#[tokio::test]
async fn bad_names_and_requests_are_refused() {
    let hub = Hub::new(true).await;
    let device = Device::new();
    refused(hub.join(&device, "root", TOKEN).await, JoinRefusal::Name, "hub's own");
    refused(hub.join(&device, "Pi_7", TOKEN).await, JoinRefusal::Name, "DNS label");
    let link = hub.connect(ALPN_JOIN, None);
    let mut forged = device.ask("pi-7", TOKEN);
    let last = forged.csr.len() - 1;
    forged.csr[last] ^= 1;
    refused(join::submit(&*link, &forged, |_| {}).await, JoinRefusal::Request, "signing request");
}

#[tokio::test]
async fn a_hostile_length_ends_a_join_at_once() {
    let hub = Hub::new(true).await;
    let link = hub.connect(ALPN_JOIN, None);
    let mut stream = link.open(Priority::Session).await.unwrap();
    stream.write_all(&[0xff, 0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    let closed = link.closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::VIOLATION, .. }), "{closed:?}");
}

#[tokio::test]
async fn two_yeses_make_a_spoke_and_a_second_device_cannot_have_its_name() {
    let hub = Hub::new(false).await;
    let device = Device::new();
    let link = hub.connect(ALPN_JOIN, None);
    let request = device.ask("pi-7", TOKEN);
    let (told, mut waits) = tokio::sync::mpsc::channel(4);
    let asking = tokio::spawn(async move {
        join::submit(&*link, &request, |text| drop(told.try_send(text.to_owned()))).await
    });
    let text = waits.recv().await.unwrap();
    assert!(text.contains("hub accept pi-7"), "{text}");
    let cluster = hub.get(CLUSTERS, "", "pi-7").await;
    assert_eq!(cluster["metadata"]["labels"]["site"], "attic");
    let [csr] = &hub.requests()[..] else { panic!("{:?}", hub.requests()) };
    hub.accept("pi-7", true).await;
    assert!(!asking.is_finished(), "one yes is not enough");
    hub.decide(csr, "Approved").await;
    let accepted = asking.await.unwrap().unwrap();
    assert_eq!(accepted.fleet_root, [3; 32]);
    assert_eq!(accepted.ca, hub.ca.to_vec());
    let issued = hub.get(REQUESTS, "", csr).await;
    assert!(issued["status"]["certificate"].is_string());

    refused(
        hub.join(&Device::new(), "pi-7", TOKEN).await,
        JoinRefusal::NameTaken,
        "another device",
    );
    let again = hub.join(&device, "pi-7", TOKEN).await.unwrap();
    assert_eq!(again, accepted, "the same key gets the same answer");
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn a_device_is_asked_for_by_whom_its_token_makes_it() {
    let hub = Hub::new(true).await;
    hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let [csr] = &hub.requests()[..] else { panic!("{:?}", hub.requests()) };
    let spec = hub.get(REQUESTS, "", csr).await["spec"].take();
    let (id, _) = TOKEN.split_once('.').unwrap();
    assert_eq!(spec["username"], format!("system:bootstrap:{id}"));
    let groups = spec["groups"].as_array().unwrap();
    assert!(groups.contains(&json!("system:bootstrappers:managedcluster")), "{groups:?}");
    assert_eq!(spec["extra"], json!({"freewheel.dev/joining-cluster": ["pi-7"]}));
}

#[tokio::test]
async fn a_cluster_that_joins_says_where_its_api_is_unless_somebody_has_said_so() {
    let hub = Hub::new(true).await;
    hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let configs = hub.get(CLUSTERS, "", "pi-7").await["spec"]["managedClusterClientConfigs"].take();
    assert_eq!(configs.as_array().map(Vec::len), Some(1), "{configs}");
    assert_eq!(configs[0]["url"], "https://hub.example.com:6443/clusters/pi-7");
    let ca = STANDARD.decode(configs[0]["caBundle"].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(ca).unwrap(), encode("CERTIFICATE", &hub.ca));

    let mine = json!([{"url": "https://proxy.example.com/pi-8"}]);
    let value = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "pi-8"}, "spec": {"managedClusterClientConfigs": mine},
    });
    hub.create(CLUSTERS, "", "pi-8", value).await;
    let bare = json!({
        "apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster",
        "metadata": {"name": "pi-9"},
    });
    hub.create(CLUSTERS, "", "pi-9", bare).await;
    let configs = async |name| {
        hub.join(&Device::new(), name, TOKEN).await.unwrap();
        hub.get(CLUSTERS, "", name).await["spec"]["managedClusterClientConfigs"].take()
    };
    assert_eq!(configs("pi-8").await, mine, "what a person has set stays");
    assert_eq!(configs("pi-9").await[0]["url"], "https://hub.example.com:6443/clusters/pi-9");
}

#[tokio::test]
async fn a_denied_device_is_told_so() {
    let hub = Hub::new(false).await;
    let link = hub.connect(ALPN_JOIN, None);
    let request = Device::new().ask("pi-7", TOKEN);
    let asking = tokio::spawn(async move { join::submit(&*link, &request, |_| {}).await });
    eventually("a request", || !hub.requests().is_empty()).await;
    hub.decide(&hub.requests()[0], "Denied").await;
    refused(asking.await.unwrap(), JoinRefusal::Denied, "denied");
}

#[tokio::test]
async fn a_certificate_speaks_for_its_own_cluster_only() {
    let hub = Hub::new(true).await;
    let mine = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    hub.join(&Device::new(), "pi-8", TOKEN).await.unwrap();
    let certificate = CertificateDer::from(mine.certificate);
    let link = hub.connect(ALPN_SESSION, Some(certificate));
    let mut session = greet(&*link, hello("pi-8")).await;
    assert_eq!(heard(&mut session).await, HubToSpoke::Goodbye(Reason::NotYou("pi-7".into())));
    let closed = link.closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::REFUSED, .. }), "{closed:?}");

    let link = hub.connect(ALPN_SESSION, None);
    assert!(matches!(link.closed().await, Closed::ByPeer { code: code::REFUSED, .. }));
    let link = hub.connect(ALPN_SESSION, Some(hub.ca.clone()));
    assert!(matches!(link.closed().await, Closed::ByPeer { code: code::REFUSED, .. }));
}

#[tokio::test]
async fn hostile_bytes_end_a_session_and_nothing_else() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let certificate = CertificateDer::from(accepted.certificate);
    let greeted = async || {
        let link = hub.connect(ALPN_SESSION, Some(certificate.clone()));
        let mut session = greet(&*link, hello("pi-7")).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        (link, session)
    };
    let (link, mut session) = greeted().await;
    session.0.write_all(&[0xff, 0xff, 0xff, 0xff, 0x0f]).await.unwrap();
    let closed = link.closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::VIOLATION, .. }), "{closed:?}");

    // Whole frames whose messages are not known here may be a newer spoke's.
    let (_link, mut session) = greeted().await;
    for bytes in [&[1, 99][..], &[2, 0, 0]] {
        session.0.write_all(bytes).await.unwrap();
    }
    eventually("both are skipped", || hub.gateway.skipped_messages() == 2).await;
    assert_eq!(hub.gateway.connected().len(), 1);
}

#[tokio::test]
async fn taking_acceptance_back_closes_the_link_within_a_second() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let certificate = CertificateDer::from(accepted.certificate);
    let link = hub.connect(ALPN_SESSION, Some(certificate.clone()));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    assert!(matches!(heard(&mut session).await, HubToSpoke::Plan(_)));
    hub.accept("pi-7", false).await;
    let gone =
        async { while heard(&mut session).await != HubToSpoke::Goodbye(Reason::NotAccepted) {} };
    tokio::time::timeout(Duration::from_secs(1), gone).await.unwrap();
    let link = hub.connect(ALPN_SESSION, Some(certificate));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert_eq!(heard(&mut session).await, HubToSpoke::Goodbye(Reason::NotAccepted));
}

#[tokio::test]
async fn a_newer_session_is_the_only_one_and_the_spoke_is_a_node() {
    let hub = Hub::new(true).await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let certificate = CertificateDer::from(accepted.certificate);
    let first = hub.connect(ALPN_SESSION, Some(certificate.clone()));
    let mut session = greet(&*first, hello("pi-7")).await;
    let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!() };
    let second = hub.connect(ALPN_SESSION, Some(certificate));
    let mut newer = greet(&*second, hello("pi-7")).await;
    let HubToSpoke::Welcome(later) = heard(&mut newer).await else { panic!() };
    assert_eq!(later.epoch, welcome.epoch + 1);
    let closed = first.closed().await;
    assert!(matches!(closed, Closed::ByPeer { code: code::SUPERSEDED, .. }), "{closed:?}");
    let name = ClusterName::try_from("pi-7").unwrap();
    let session = SessionRecord::of(&*hub.objects.store().snapshot(), name.as_str()).unwrap();
    assert!(session.connected && session.epoch == later.epoch);

    let nodes = place(("", "v1", "nodes"), "", "pi-7");
    eventually("a node", || hub.objects.get(&nodes).is_ok()).await;
    let node = hub.get(("", "v1", "nodes"), "", "pi-7").await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "arm64");
    assert_eq!(node["status"]["nodeInfo"]["containerRuntimeVersion"], "wasmtime://48.0");
    let condition = |kind: &str| {
        let list = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.iter().find(|c| c["type"] == kind).map(|c| c["status"].clone())
    };
    assert_eq!(condition("MemoryPressure"), Some(json!("False")), "{node}");
    assert_eq!(condition("Ready"), None, "whether it is there is not for the spoke to say");
}

fn running(realm: &str, uid: &str) -> Report {
    Report::Pod(PodStatusV1 {
        realm: ClusterName::try_from(realm).unwrap(),
        namespace: "default".into(),
        name: "web".into(),
        uid: uid.into(),
        phase: PhaseV1::Running,
        ip: Some([10, 64, 0, 2].into()),
        started: Some(1_790_000_000_000),
        reason: String::new(),
        message: String::new(),
        conditions: Vec::new(),
        init: Vec::new(),
        containers: Vec::new(),
        parts: Parts::default(),
    })
}

#[tokio::test]
async fn a_spoke_reports_on_its_own_pods_and_on_nobody_elses() {
    let hub = Hub::new(true).await;
    // The index of pods follows the store.
    hub.listen().await;
    hub.create(PODS, "default", "web", pod("web", "pi-7")).await;
    let uid = hub.get(("", "v1", "pods"), "default", "web").await["metadata"]["uid"].clone();
    let uid = uid.as_str().unwrap();
    let mut sessions = Vec::new();
    for name in ["pi-7", "pi-8"] {
        let accepted = hub.join(&Device::new(), name, TOKEN).await.unwrap();
        let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(accepted.certificate)));
        let mut session = greet(&*link, hello(name)).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        sessions.push((link, session));
    }
    let mut sequence = 0;
    let mut report = async |session: &mut Session, report: Report| {
        sequence += 1;
        let stamp = ReportStamp { boot_epoch: 1, sequence };
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(session).await != HubToSpoke::ReportsTaken(stamp) {}
    };
    let phase = async || {
        let pod = hub.get(("", "v1", "pods"), "default", "web").await;
        pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned()
    };
    report(&mut sessions[1].1, running("root", uid)).await;
    assert_eq!(phase().await, "Pending", "it runs on pi-7");
    report(&mut sessions[0].1, running("pi-8", uid)).await;
    report(&mut sessions[0].1, running("root", "another")).await;
    assert_eq!(phase().await, "Pending");
    let gone = Report::PodGone { realm: ClusterName::root(), uid: uid.to_owned() };
    report(&mut sessions[1].1, gone.clone()).await;
    report(&mut sessions[0].1, gone.clone()).await;
    report(&mut sessions[0].1, running("root", uid)).await;
    assert_eq!(phase().await, "Running");
    let web = hub.get(("", "v1", "pods"), "default", "web").await;
    assert_eq!(web["status"]["observedGeneration"], 1, "{web}");

    let delete = DeleteOptions::default();
    let web = place(("", "v1", "pods"), "default", "web");
    hub.objects.delete(&WriteOptions::default(), &web, &delete).await.unwrap();
    assert!(hub.objects.get(&web).is_ok(), "it waits for the spoke");
    report(&mut sessions[1].1, gone.clone()).await;
    assert!(hub.objects.get(&web).is_ok(), "another spoke's word does not count");
    report(&mut sessions[0].1, gone).await;
    assert!(hub.objects.get(&web).is_err());
}

#[tokio::test]
async fn a_device_gives_its_pods_no_address_but_its_own() {
    let hub = Hub::new(true).await;
    hub.listen().await;
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    let (_link, mut session) = hub.spoke("pi-7").await;
    let lies = [
        "127.0.0.1",
        "169.254.64.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "10.128.0.1",
        "10.64.1.3",
        "10.64.9.2",
        "10.64.0.1",
        "::1",
    ];
    for (number, (ip, taken)) in
        lies.map(|lie| (lie, false)).into_iter().chain([("10.64.0.7", true)]).enumerate()
    {
        let name = format!("web-{number}");
        hub.create(PODS, "default", &name, pod(&name, "pi-7")).await;
        let made = hub.get(PODS, "default", &name).await;
        let Report::Pod(mut said) = running("root", made["metadata"]["uid"].as_str().unwrap())
        else {
            panic!()
        };
        said.name = name.clone();
        said.ip = Some(ip.parse().unwrap());
        let stamp = ReportStamp { boot_epoch: 1, sequence: number as u64 + 1 };
        let report = Report::Pod(said);
        frame::write(&mut session.0, &SpokeToHub::Report { stamp, report }).await.unwrap();
        while heard(&mut session).await != HubToSpoke::ReportsTaken(stamp) {}
        let seen = hub.get(PODS, "default", &name).await;
        assert_eq!(seen["status"]["phase"], "Running", "the rest is taken: {seen}");
        assert_eq!(seen["status"]["podIP"] == ip, taken, "{ip}: {seen}");
    }
}

#[tokio::test]
async fn logs_come_through_and_refusals_keep_their_words() {
    let hub = Hub::new(true).await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let name = accepted.cluster.clone();
    let streams = hub.gateway.streams();
    let offline =
        streams.logs(&name, &"u".into(), LogOptions::default(), ann()).await.err().unwrap();
    assert_eq!((offline.code, offline.reason), (503, "ServiceUnavailable"));
    let link = hub.connect(ALPN_SESSION, Some(CertificateDer::from(accepted.certificate)));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
    let far = link.clone();
    tokio::spawn(async move {
        for answer in [true, false] {
            let stream = far.accept().await.unwrap();
            let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
            let Some(Open::Logs(asked)) = recv.next().await.unwrap() else { panic!() };
            assert_eq!(asked.tail_lines, Some(5));
            if answer {
                frame::write(&mut send, &Answer::Ready).await.unwrap();
                send.write_all(b"one\ntwo\n").await.unwrap();
            } else {
                let refusal = freewheel_link::message::RefusalV1::new("NotFound", "no such pod");
                frame::write(&mut send, &Answer::Refused(refusal)).await.unwrap();
            }
            send.shutdown().await.unwrap();
        }
    });
    let options = LogOptions { tail_lines: Some(5), ..LogOptions::default() };
    let log = streams.logs(&name, &"u".into(), options.clone(), ann()).await.unwrap();
    let text: Vec<u8> = log.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert_eq!(text, b"one\ntwo\n");
    let refused = streams.logs(&name, &"u".into(), options, ann()).await.err().unwrap();
    assert_eq!((refused.code, &*refused.message), (404, "no such pod"));
}

#[tokio::test]
async fn over_quic_a_device_joins_once_the_pinned_ca_is_right() {
    let hub = Hub::new(true).await;
    let address = hub.listen().await;
    let endpoint = Endpoint::spoke(any_port()).unwrap();
    let dial = |config| {
        Dialer::new(endpoint.clone(), address.to_string(), ClientTls::new(config).unwrap())
    };
    let time = || Arc::new(DefaultTimeProvider);
    let wrong = dial(tls::join_client(Digest::of(b"another CA"), time()).unwrap());
    match wrong.connect().await {
        Err(DialError::WrongHub { detail, .. }) => {
            assert!(detail.contains("--ca-hash"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
    let hash = tls::key_hash(&hub.ca).unwrap();
    let link = dial(tls::join_client(hash, time()).unwrap()).connect().await.unwrap();
    let device = Device::new();
    let accepted = join::submit(&link, &device.ask("pi-7", TOKEN), |_| {}).await.unwrap();

    let own = device.credentials(&accepted.certificate);
    let ca = CertificateDer::from(accepted.ca);
    let link = dial(tls::session_client(&ca, own, time()).unwrap()).connect().await.unwrap();
    let mut session = greet(&link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));

    // A certificate of another fleet's CA with the same name does not pass the handshake.
    let other = Hub::new(true).await;
    let thief = Device::new();
    let theirs = other.join(&thief, "pi-7", TOKEN).await.unwrap();
    let own = thief.credentials(&theirs.certificate);
    let link = dial(tls::session_client(&ca, own, time()).unwrap()).connect().await;
    let refused = match link {
        Ok(link) => link.closed().await,
        Err(DialError::Connect { closed, .. }) => closed,
        Err(error) => panic!("{error}"),
    };
    let ours =
        matches!(refused, Closed::Certificate { whose: Whose::Ours, fault: Fault::Authority, .. });
    assert!(ours, "{refused:?}");
    hub.stop.cancel();
}

/// Opens a stream as a spoke does, and reads the answer.
async fn open(link: &dyn Transport, what: Open) -> (Answer, Session) {
    let stream = link.open(Priority::Modules).await.unwrap();
    let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
    frame::write(&mut send, &what).await.unwrap();
    let answer = recv.next::<Answer>().await.unwrap().unwrap();
    (answer, (send, recv))
}

/// A hub with one artifact of ten bytes, which should have this many.
async fn with_artifact(dir: &std::path::Path, compressed: u64) -> (Hub, Envelope) {
    let path = dir.join("artifact");
    std::fs::write(&path, b"0123456789").unwrap();
    let envelope = Envelope {
        component: Digest::of(b"component"),
        profile: profile(),
        build: 1,
        artifact: Digest::of(b"artifact"),
        size: 10,
        signer: SignerCert { key: [0; 32], not_after: 0, signature: Vec::new() },
        signature: Vec::new(),
    };
    let artifact = Artifact { envelope: envelope.clone(), path, compressed };
    (Hub::with(true, Some(artifact)).await, envelope)
}

#[tokio::test]
async fn an_artifact_that_lost_its_end_on_the_disk_is_no_whole_module() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, envelope) = with_artifact(dir.path(), 20).await;
    let (link, _session) = hub.spoke("pi-7").await;
    let component = envelope.component;
    let ask = ModuleRequestV1 { component, profile: profile().key(), offset: 0, resume: None };
    let (answer, (_send, mut recv)) = open(&*link, Open::Module(ask)).await;
    assert_eq!(answer, Answer::Ready);
    recv.next::<ModuleHeaderV1>().await.unwrap().unwrap();
    let read = recv.read_to_end(&mut Vec::new()).await;
    assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_module_is_sent_from_where_it_was_cut_unless_it_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, envelope) = with_artifact(dir.path(), 10).await;
    let component = envelope.component;
    let (link, _session) = hub.spoke("pi-7").await;
    let ask = |component, offset, resume| {
        Open::Module(ModuleRequestV1 { component, profile: profile().key(), offset, resume })
    };
    for (resume, offset, rest) in [
        (Some(envelope.artifact), 4, "456789"),
        (Some(Digest::of(b"older")), 0, "0123456789"),
        (None, 0, "0123456789"),
    ] {
        let (answer, (_send, mut recv)) = open(&*link, ask(component, 4, resume)).await;
        assert_eq!(answer, Answer::Ready);
        let header: ModuleHeaderV1 = recv.next().await.unwrap().unwrap();
        assert_eq!((header.offset, &header.envelope), (offset, &envelope));
        let mut text = String::new();
        recv.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, rest);
    }
    let (answer, _) = open(&*link, ask(Digest::of(b"unknown"), 0, None)).await;
    assert!(matches!(answer, Answer::Refused(refusal) if refusal.reason == "ErrImagePull"));
}

#[tokio::test]
async fn a_tunnel_is_relayed_between_leased_addresses_only() {
    let hub = Hub::new(true).await;
    let links = [hub.spoke("pi-7").await, hub.spoke("pi-8").await];
    hub.lease("10.64.0.0", "pi-7").await;
    hub.lease("10.64.1.0", "pi-8").await;
    let far = links[1].0.clone();
    tokio::spawn(async move {
        let stream = far.accept().await.unwrap();
        let (mut send, mut recv) = (stream.send, FrameReader::new(stream.recv));
        assert!(matches!(recv.next::<Open>().await.unwrap(), Some(Open::Tunnel(_))));
        frame::write(&mut send, &Answer::Ready).await.unwrap();
        tokio::io::copy(&mut recv, &mut send).await.unwrap();
        send.shutdown().await.unwrap();
    });
    let tunnel = |from: &str, to: &str| {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        Open::Tunnel(TunnelV1 { realm: ClusterName::root(), from, to })
    };
    let (answer, (mut send, mut recv)) =
        open(&*links[0].0, tunnel("10.64.0.2:4000", "10.64.1.2:80")).await;
    assert_eq!(answer, Answer::Ready);
    send.write_all(b"ping").await.unwrap();
    send.shutdown().await.unwrap();
    let mut text = String::new();
    recv.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "ping");

    let own = Open::Tunnel(TunnelV1 {
        realm: ClusterName::try_from("pi-8").unwrap(),
        from: "192.168.0.1:4000".parse().unwrap(),
        to: "10.64.1.2:80".parse().unwrap(),
    });
    let (answer, _) = open(&*links[0].0, own).await;
    assert!(matches!(answer, Answer::Refused(refusal) if refusal.reason == "Forbidden"));
    for (from, to, reason) in [
        ("10.64.1.2:4000", "10.64.1.3:80", "Forbidden"),
        ("[::ffff:10.64.1.2]:4000", "10.64.1.3:80", "Forbidden"),
        ("[fd00::1]:4000", "[fd00::2]:80", "NotFound"),
        ("10.64.0.2:4000", "10.64.9.2:80", "NotFound"),
    ] {
        let (answer, _) = open(&*links[0].0, tunnel(from, to)).await;
        assert!(matches!(answer, Answer::Refused(refusal) if refusal.reason == reason));
    }
}

#[tokio::test]
async fn join_answers_are_one_of_three() {
    // What a device reads from a hub is bounded as well.
    assert!(frame::decode::<JoinAnswer>(&[3]).is_err());
}
