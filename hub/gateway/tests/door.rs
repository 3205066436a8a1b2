//! Who gets in, who does not, and what they are told: over real QUIC on loopback where the handshake
//! matters, over memory where it does not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images};
use freewheel_hub_api::kinds;
use freewheel_hub_api::streams::LogOptions;
use freewheel_hub_gateway::{Gateway, Identity, records};
use freewheel_hub_store::memory::MemoryStore;
use freewheel_hub_store::objects::{How, Objects, Place};
use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::frame::{self, FrameReader};
use freewheel_link::generation::Generation;
use freewheel_link::join::{self, JoinAnswer, JoinError, JoinRefusal, JoinRequestV1};
use freewheel_link::memory;
use freewheel_link::message::{
    ALPN_JOIN, ALPN_SESSION, Answer, HelloV1, HubToSpoke, Open, PROTOCOL, Reason, SpokeToHub,
};
use freewheel_link::names::ClusterName;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint, Socket, any_port};
use freewheel_link::report::{NodeStatusV1, PhaseV1, PodStatusV1, Report, ReportStamp};
use freewheel_link::tls::{self, Credentials, DefaultTimeProvider};
use freewheel_link::transport::{Closed, DialError, Priority, SendHalf, Transport, code};
use futures::StreamExt as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const TOKEN: &str = "abcdef.0123456789abcdef";

struct NoImages;

#[async_trait]
impl Images for NoImages {
    fn resolve(&self, reference: &str) -> Result<Digest, ImageProblem> {
        Ok(Digest::of(reference.as_bytes()))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }

    async fn artifact(&self, _: &Digest, _: &str) -> Result<Artifact, ImageProblem> {
        Err(ImageProblem { reason: "ErrImagePull", message: "there are no images here".into() })
    }

    fn note_profile(&self, _: &str) {}
}

/// A hub with a token, its CA, and the pieces that a test takes hold of.
struct Hub {
    objects: Objects,
    gateway: Gateway,
    ca: CertificateDer<'static>,
    stop: CancellationToken,
}

impl Hub {
    async fn new(auto: bool) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        let ca_key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let objects = Objects::new(Arc::new(MemoryStore::with_incarnation(7)));
        let identity = Identity { ca: ca.clone(), ca_key, fleet_root: [3; 32] };
        let gateway = Gateway::new(objects.clone(), Arc::new(NoImages), identity, "hub").unwrap();
        let hub = Self { objects, gateway, ca, stop: CancellationToken::new() };
        for namespace in ["kube-system", "default"] {
            let value = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
            });
            hub.create(("", "v1", "namespaces"), "", namespace, value).await;
        }
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": "kube-system"},
            "data": {
                "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"),
            },
        });
        if auto {
            secret["data"]["freewheel-auto-accept"] = json!(encode("true"));
        }
        let mut old = secret.clone();
        old["metadata"]["name"] = json!("bootstrap-token-oldold");
        old["data"]["token-id"] = json!(encode("oldold"));
        old["data"]["expiration"] = json!(encode("2020-01-01T00:00:00Z"));
        for (name, value) in [("bootstrap-token-abcdef", secret), ("bootstrap-token-oldold", old)] {
            hub.create(("", "v1", "secrets"), "kube-system", name, value).await;
        }
        hub
    }

    async fn create(&self, kind: (&str, &str, &str), namespace: &str, name: &str, value: Value) {
        let place = place(kind, namespace, name);
        self.objects.create(&How::default(), &place, value).await.unwrap();
    }

    async fn get(&self, kind: (&str, &str, &str), namespace: &str, name: &str) -> Value {
        self.objects.get(&place(kind, namespace, name)).unwrap().object.value().unwrap()
    }

    /// What `hub accept` does.
    async fn accept(&self, name: &str, yes: bool) {
        let accept = |mut value: Value| {
            value["spec"]["hubAcceptsClient"] = json!(yes);
            Ok(value)
        };
        let cluster = place(CLUSTERS, "", name);
        self.objects.modify(&How::default(), &cluster, None, accept).await.unwrap();
    }

    async fn decide(&self, csr: &str, kind: &str) {
        let decide = |mut value: Value| {
            value["status"]["conditions"] =
                json!([{"type": kind, "status": "True", "reason": "Test", "message": "m"}]);
            Ok(value)
        };
        let csr = place(REQUESTS, "", csr);
        self.objects.modify(&How::default(), &csr, Some("approval"), decide).await.unwrap();
    }

    fn requests(&self) -> Vec<String> {
        let scope = freewheel_hub_store::Scope {
            resource: freewheel_hub_api::object::Resource::new(REQUESTS.0, REQUESTS.2),
            cluster: None,
            namespace: None,
        };
        let snapshot = self.objects.store().snapshot();
        snapshot.range(&scope, None).map(|stored| stored.key.name.to_string()).collect()
    }

    /// A connection in memory, served by the gateway.
    fn connect(
        &self,
        protocol: &'static [u8],
        certificate: Option<CertificateDer<'static>>,
    ) -> Arc<memory::Memory> {
        let (near, far) = memory::pair();
        if let Some(certificate) = certificate {
            far.show_certificate(certificate);
        }
        let (gateway, stop) = (self.gateway.clone(), self.stop.clone());
        tokio::spawn(async move { gateway.serve_link(far, Some(protocol), &stop).await });
        near
    }

    async fn join(
        &self,
        device: &Device,
        name: &str,
        token: &str,
    ) -> Result<join::AcceptedV1, JoinError> {
        let link = self.connect(ALPN_JOIN, None);
        join::ask(&*link, &device.ask(name, token), |_| {}).await
    }

    /// The gateway on a UDP port of this machine.
    async fn listen(&self) -> SocketAddr {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tls = self.gateway.tls(Arc::new(DefaultTimeProvider)).unwrap();
        let endpoint = Endpoint::hub(Socket::Bind(address), tls).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (gateway, stop) = (self.gateway.clone(), self.stop.clone());
        tokio::spawn(async move { gateway.serve(endpoint, stop).await });
        address
    }
}

const CLUSTERS: (&str, &str, &str) =
    ("cluster.open-cluster-management.io", "v1", "managedclusters");
const REQUESTS: (&str, &str, &str) = ("certificates.k8s.io", "v1", "certificatesigningrequests");

fn place(kind: (&str, &str, &str), namespace: &str, name: &str) -> Place {
    Place {
        kind: kinds::find(kind.0, kind.1, kind.2).unwrap(),
        cluster: ClusterName::root(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// A device with its key.
struct Device(KeyPair);

impl Device {
    fn new() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    fn ask(&self, name: &str, token: &str) -> JoinRequestV1 {
        let csr = CertificateParams::default().serialize_request(&self.0).unwrap();
        JoinRequestV1 {
            token: token.into(),
            name: name.into(),
            csr: csr.der().to_vec(),
            labels: vec![("site".into(), "attic".into())],
            version: "0.1.0".into(),
        }
    }

    fn credentials(&self, certificate: &[u8]) -> Credentials {
        let key = PrivateKeyDer::try_from(self.0.serialize_der()).unwrap();
        Credentials { chain: vec![CertificateDer::from(certificate.to_vec())], key }
    }
}

fn node() -> NodeStatusV1 {
    NodeStatusV1 {
        address: Ipv4Addr::new(127, 0, 0, 11),
        hostname: "pi-7".into(),
        architecture: "arm64".into(),
        kernel: "6.18".into(),
        os_image: "Debian".into(),
        machine_id: "m".into(),
        boot_id: "b".into(),
        version: "0.1.0".into(),
        profile: "p".into(),
        features: 3,
        cpu_milli: 4000,
        memory: 1 << 30,
        storage: 1 << 33,
        pods: 110,
        labels: vec![("site".into(), "attic".into())],
        pressure: Vec::new(),
    }
}

fn hello(name: &str) -> HelloV1 {
    HelloV1 {
        protocol: PROTOCOL,
        cluster: ClusterName::try_from(name).unwrap(),
        boot_epoch: 1,
        held: Generation::NONE,
        digest: SetDigest::default(),
        node: node(),
    }
}

type Session = (Box<dyn SendHalf>, FrameReader<Box<dyn AsyncRead + Send + Sync + Unpin>>);

async fn greet(link: &dyn Transport, hello: HelloV1) -> Session {
    let stream = link.open(Priority::Session).await.unwrap();
    let (mut send, recv) = (stream.send, FrameReader::new(stream.recv));
    frame::write(&mut send, &Open::Session).await.unwrap();
    frame::write(&mut send, &SpokeToHub::Hello(Box::new(hello))).await.unwrap();
    (send, recv)
}

async fn heard(session: &mut Session) -> HubToSpoke {
    let next = session.1.next::<HubToSpoke>();
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap().unwrap().unwrap()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in 10 s: {what}");
}

#[track_caller]
fn refused(outcome: Result<join::AcceptedV1, JoinError>, cause: JoinRefusal, word: &str) {
    match outcome {
        Err(JoinError::Refused(refused)) => {
            assert_eq!(refused.cause, cause, "{}", refused.message);
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        other => panic!("{other:?}"),
    }
}

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
    refused(join::ask(&*link, &forged, |_| {}).await, JoinRefusal::Request, "signing request");
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
        join::ask(&*link, &request, |text| drop(told.try_send(text.to_owned()))).await
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
async fn a_denied_device_is_told_so() {
    let hub = Hub::new(false).await;
    let link = hub.connect(ALPN_JOIN, None);
    let request = Device::new().ask("pi-7", TOKEN);
    let asking = tokio::spawn(async move { join::ask(&*link, &request, |_| {}).await });
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
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[1, 99], &[2, 0, 0]] {
        let link = hub.connect(ALPN_SESSION, Some(certificate.clone()));
        let mut session = greet(&*link, hello("pi-7")).await;
        assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
        session.0.write_all(bytes).await.unwrap();
        let closed = link.closed().await;
        assert!(matches!(closed, Closed::ByPeer { code: code::VIOLATION, .. }), "{closed:?}");
    }
    let link = hub.connect(ALPN_SESSION, Some(certificate));
    let mut session = greet(&*link, hello("pi-7")).await;
    assert!(matches!(heard(&mut session).await, HubToSpoke::Welcome(_)));
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
    let session = records::session(&*hub.objects.store().snapshot(), &name).unwrap();
    assert!(session.connected && session.epoch == later.epoch);

    let nodes = place(("", "v1", "nodes"), "", "pi-7");
    eventually("a node", || hub.objects.get(&nodes).is_ok()).await;
    let node = hub.get(("", "v1", "nodes"), "", "pi-7").await;
    assert_eq!(node["metadata"]["labels"]["kubernetes.io/arch"], "arm64");
    assert_eq!(node["status"]["nodeInfo"]["containerRuntimeVersion"], "wasmtime://48.0");
    let ready = |node: &Value| {
        let list = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        list.iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    assert!(ready(&node), "{node}");
}

fn running(realm: &str, uid: &str) -> Report {
    Report::Pod(PodStatusV1 {
        realm: ClusterName::try_from(realm).unwrap(),
        namespace: "default".into(),
        name: "web".into(),
        uid: uid.into(),
        phase: PhaseV1::Running,
        ip: Some(Ipv4Addr::new(10, 64, 0, 2)),
        started: Some(1_790_000_000_000),
        reason: String::new(),
        message: String::new(),
        conditions: Vec::new(),
        init: Vec::new(),
        containers: Vec::new(),
    })
}

#[tokio::test]
async fn a_spoke_reports_on_its_own_pods_and_on_nobody_elses() {
    let hub = Hub::new(true).await;
    let pod = |node: &str| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
        })
    };
    hub.create(("", "v1", "pods"), "default", "web", pod("pi-7")).await;
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

    let delete = freewheel_hub_store::objects::DeleteOptions::default();
    let web = place(("", "v1", "pods"), "default", "web");
    hub.objects.delete(&How::default(), &web, &delete).await.unwrap();
    assert!(hub.objects.get(&web).is_ok(), "it waits for the spoke");
    report(&mut sessions[1].1, gone.clone()).await;
    assert!(hub.objects.get(&web).is_ok(), "another spoke's word does not count");
    report(&mut sessions[0].1, gone).await;
    assert!(hub.objects.get(&web).is_err());
}

#[tokio::test]
async fn logs_come_through_and_refusals_keep_their_words() {
    let hub = Hub::new(true).await;
    let accepted = hub.join(&Device::new(), "pi-7", TOKEN).await.unwrap();
    let name = accepted.cluster.clone();
    let streams = hub.gateway.streams();
    let offline = streams.logs(&name, "u", LogOptions::default()).await.err().unwrap();
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
    let log = streams.logs(&name, "u", options.clone()).await.unwrap();
    let text: Vec<u8> = log.map(|piece| piece.unwrap().to_vec()).concat().await;
    assert_eq!(text, b"one\ntwo\n");
    let refused = streams.logs(&name, "u", options).await.err().unwrap();
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
            assert!(detail.contains("--ca-hash"), "{detail}")
        }
        other => panic!("{other:?}"),
    }
    let hash = tls::key_hash(&hub.ca).unwrap();
    let link = dial(tls::join_client(hash, time()).unwrap()).connect().await.unwrap();
    let device = Device::new();
    let accepted = join::ask(&link, &device.ask("pi-7", TOKEN), |_| {}).await.unwrap();

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
        Err(DialError::WrongHub { detail, .. }) => Closed::Failed(detail),
        Err(error) => panic!("{error}"),
    };
    assert!(matches!(refused, Closed::Failed(_)), "{refused:?}");
    hub.stop.cancel();
}

#[tokio::test]
async fn join_answers_are_one_of_three() {
    // What a device reads from a hub is bounded as well.
    assert!(frame::decode::<JoinAnswer>(&[3]).is_err());
}
