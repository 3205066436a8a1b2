//! A hub with a CA and a token, devices with keys, and the spoke's half of the conversation.

pub(crate) use std::net::{Ipv4Addr, SocketAddr};
pub(crate) use std::sync::Arc;
pub(crate) use std::time::Duration;

pub(crate) use async_trait::async_trait;
pub(crate) use base64::Engine as _;
pub(crate) use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
pub(crate) use freewheel_hub_api::kinds;
pub(crate) use freewheel_hub_api::streams::LogOptions;
pub(crate) use freewheel_hub_gateway::{Gateway, Identity};
pub(crate) use freewheel_hub_objects::internal::{self, SessionRecord};
pub(crate) use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, WriteOptions};
pub(crate) use freewheel_hub_pki::{Authority, agent_group, agent_name};
pub(crate) use freewheel_hub_schema::object::{Header, Key, Object};
pub(crate) use freewheel_hub_store::memory::MemoryStore;
pub(crate) use freewheel_hub_store::{
    CommitError, Committed, Layer, Operation, Revision, Scope, Snapshot, Store, Stored, Txn,
};
pub(crate) use freewheel_link::artifact::{Envelope, SignerCert};
pub(crate) use freewheel_link::digest::{Digest, SetDigest};
pub(crate) use freewheel_link::frame::{self, FrameReader};
pub(crate) use freewheel_link::generation::Generation;
pub(crate) use freewheel_link::hub_session::PLAN_TIMEOUT;
pub(crate) use freewheel_link::join::{
    self, JoinAnswer, JoinError, JoinRefusal, JoinRequestV1, WipedV1,
};
pub(crate) use freewheel_link::memory_transport;
pub(crate) use freewheel_link::message::{
    ABILITIES, ALPN_JOIN, ALPN_SESSION, Answer, DatagramV1, HelloV1, HubToSpoke, ModuleHeaderV1,
    ModuleRequestV1, Open, PROTOCOLS, PlanV1, Reason, SNAT_ADDRESS, SpokeToHub, TunnelV1,
    WelcomeV1,
};
pub(crate) use freewheel_link::names::ClusterName;
pub(crate) use freewheel_link::part::Parts;
pub(crate) use freewheel_link::plan::{Kind, PodCidrV1};
pub(crate) use freewheel_link::profile::{Arch, MemoryProfile, Profile};
pub(crate) use freewheel_link::quic::{ClientTls, Dialer, Endpoint, Socket, any_port};
pub(crate) use freewheel_link::record_set::RecordSet;
pub(crate) use freewheel_link::report::{NodeStatusV1, PhaseV1, PodStatusV1, Report, ReportStamp};
pub(crate) use freewheel_link::stream_budget::{PodClient, Principal};
pub(crate) use freewheel_link::tls::{self, Credentials, DefaultTimeProvider};
pub(crate) use freewheel_link::transport::{
    Closed, DialError, Fault, Priority, SendHalf, Transport, Whose, code,
};
pub(crate) use futures::StreamExt as _;
pub(crate) use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
pub(crate) use rustls_pki_types::{CertificateDer, PrivateKeyDer};
pub(crate) use serde_json::{Value, json};
pub(crate) use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
pub(crate) use tokio::sync::watch;
pub(crate) use tokio_util::sync::CancellationToken;

/// Ann of the root, who looks into a pod of it.
pub(crate) fn ann() -> PodClient {
    PodClient::new(&ClusterName::root(), Principal::Root("ann".into()))
}

/// From one revision of the store to the next: nobody may count them.
pub(crate) const STEP: u64 = 3;

pub(crate) const TOKEN: &str = "abcdef.0123456789abcdef";

/// An image whose compilation takes longer than any test.
pub(crate) const SLOW: &str = "team/slow:v1";

/// One image, whose artifact is the file given.
pub(crate) struct OneImage(Option<Artifact>);

/// Of all devices here.
pub(crate) const fn profile() -> Profile {
    Profile::current(Arch::X86_64, MemoryProfile::Guard4g)
}

#[async_trait]
impl Images for OneImage {
    fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem> {
        let component = Digest::of(reference.as_bytes());
        Ok(Resolved { manifest: Digest::of(&component.0), component })
    }

    fn manifest_of(&self, _: &str, component: &Digest) -> Option<Digest> {
        Some(Digest::of(&component.0))
    }

    fn changed(&self) -> watch::Receiver<u64> {
        watch::Sender::new(0).subscribe()
    }

    async fn artifact(
        &self,
        component: &Digest,
        _: Profile,
        tenants: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        if *component == Digest::of(SLOW.as_bytes()) {
            std::future::pending::<()>().await;
        }
        if let Some(artifact) = self.0.as_ref().filter(|a| a.envelope.component == *component) {
            return Ok(artifact.clone());
        }
        let message = format!("there are no images here for {:?}", tenants());
        Err(ImageProblem { reason: "ErrImagePull", message })
    }

    fn compiling(&self, component: &Digest, _: Profile) -> Option<u64> {
        (*component == Digest::of(SLOW.as_bytes())).then_some(18_400_000)
    }

    fn note_profile(&self, _: Profile) {}
}

/// A hub with a token, its CA, and the pieces that a test takes hold of.
pub(crate) struct Hub {
    pub(crate) objects: Objects,
    pub(crate) gateway: Gateway,
    pub(crate) ca: CertificateDer<'static>,
    key: KeyPair,
    pub(crate) stop: CancellationToken,
}

impl Hub {
    pub(crate) async fn new(auto: bool) -> Self {
        Self::with(auto, None).await
    }

    pub(crate) async fn with(auto: bool, image: Option<Artifact>) -> Self {
        let store = Arc::new(MemoryStore::with_incarnation(7).sparse(STEP));
        Self::over(store, auto, image).await
    }

    pub(crate) async fn over(store: Arc<dyn Store>, auto: bool, image: Option<Artifact>) -> Self {
        Self::of(Objects::new(store), auto, image).await
    }

    pub(crate) async fn of(objects: Objects, auto: bool, image: Option<Artifact>) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap().der().clone();
        let ca_key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let authority = Arc::new(Authority::new(ca.clone(), ca_key).unwrap());
        let identity = Identity { authority, fleet_root: [3; 32] };
        let gateway = Gateway::new(objects.clone(), Arc::new(OneImage(image)), identity, "hub");
        gateway.tell_api("https://hub.example.com:6443");
        let stop = CancellationToken::new();
        let hub = Self { objects, gateway, ca, key, stop };
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
        // As people write that one never ends.
        secret["data"]["expiration"] = json!(encode("9999-12-31T23:59:59Z"));
        for (name, value) in [("bootstrap-token-abcdef", secret), ("bootstrap-token-oldold", old)] {
            hub.create(("", "v1", "secrets"), "kube-system", name, value).await;
        }
        hub
    }

    /// The next start of this hub, on the same store.
    pub(crate) fn restarted(&self) -> Self {
        let ca_key = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = KeyPair::try_from(&ca_key);
        let authority = Arc::new(Authority::new(self.ca.clone(), ca_key).unwrap());
        let identity = Identity { authority, fleet_root: [3; 32] };
        let objects = self.objects.clone();
        let images = Arc::new(OneImage(None));
        let gateway = Gateway::new(objects.clone(), images, identity, "hub");
        let (ca, stop) = (self.ca.clone(), CancellationToken::new());
        Self { objects, gateway, ca, key: key.unwrap(), stop }
    }

    pub(crate) async fn create(
        &self,
        kind: (&str, &str, &str),
        namespace: &str,
        name: &str,
        value: Value,
    ) {
        let place = place(kind, namespace, name);
        self.objects.create(&WriteOptions::default(), &place, value).await.unwrap();
    }

    /// Deletes a ManagedCluster, which goes when its leftovers are gone.
    pub(crate) async fn remove_cluster(&self, name: &str) {
        let place = place(CLUSTERS, "", name);
        self.objects
            .delete(&WriteOptions::default(), &place, &DeleteOptions::default())
            .await
            .unwrap();
    }

    /// What the controller does once nothing is left.
    pub(crate) async fn let_cluster_go(&self, name: &str) {
        let free = |mut value: Value| {
            value["metadata"]["finalizers"] = json!([]);
            Ok(value)
        };
        let place = place(CLUSTERS, "", name);
        self.objects.modify(&WriteOptions::default(), &place, None, free).await.unwrap();
    }

    /// A certificate of this cluster's device that was over before there was such a hub.
    pub(crate) async fn expired(&self, device: &Device, name: &str) -> Vec<u8> {
        let uid = self.get(CLUSTERS, "", name).await["metadata"]["uid"].clone();
        let cluster = ClusterName::try_from(name).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, agent_group(&cluster));
        params.distinguished_name.push(DnType::CommonName, agent_name(&cluster));
        let uid_kind = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        params.distinguished_name.push(uid_kind, uid.as_str().unwrap());
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2024, 1, 1), rcgen::date_time_ymd(2025, 1, 1));
        let issuer = Issuer::from_ca_cert_der(&self.ca, &self.key).unwrap();
        params.signed_by(&device.0, &issuer).unwrap().der().to_vec()
    }

    pub(crate) async fn get(&self, kind: (&str, &str, &str), namespace: &str, name: &str) -> Value {
        self.objects.get(&place(kind, namespace, name)).unwrap().object.value().unwrap()
    }

    /// What `hub accept` does.
    pub(crate) async fn accept(&self, name: &str, yes: bool) {
        let accept = |mut value: Value| {
            value["spec"]["hubAcceptsClient"] = json!(yes);
            Ok(value)
        };
        let cluster = place(CLUSTERS, "", name);
        self.objects.modify(&WriteOptions::default(), &cluster, None, accept).await.unwrap();
    }

    pub(crate) async fn decide(&self, csr: &str, kind: &str) {
        let decide = |mut value: Value| {
            value["status"]["conditions"] =
                json!([{"type": kind, "status": "True", "reason": "Test", "message": "m"}]);
            Ok(value)
        };
        let csr = place(REQUESTS, "", csr);
        self.objects
            .modify(&WriteOptions::default(), &csr, Some("approval"), decide)
            .await
            .unwrap();
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        let scope = freewheel_hub_store::Scope {
            resource: freewheel_hub_schema::object::Resource::new(REQUESTS.0, REQUESTS.2),
            cluster: None,
            namespace: None,
        };
        let snapshot = self.objects.store().snapshot();
        snapshot.range(&scope, None).map(|stored| stored.key.name.to_string()).collect()
    }

    /// A connection in memory, served by the gateway.
    pub(crate) fn connect(
        &self,
        protocol: &'static [u8],
        certificate: Option<CertificateDer<'static>>,
    ) -> Arc<memory_transport::MemoryTransport> {
        let (near, far) = memory_transport::pair();
        if let Some(certificate) = certificate {
            far.show_certificate(certificate);
        }
        self.serve(far, protocol);
        near
    }

    /// The gateway serves this end of a connection.
    pub(crate) fn serve(
        &self,
        end: Arc<memory_transport::MemoryTransport>,
        protocol: &'static [u8],
    ) {
        let (gateway, stop) = (self.gateway.clone(), self.stop.clone());
        tokio::spawn(async move { gateway.serve_link(end, Some(protocol), &stop).await });
    }

    pub(crate) async fn join(
        &self,
        device: &Device,
        name: &str,
        token: &str,
    ) -> Result<join::AcceptedV1, JoinError> {
        let link = self.connect(ALPN_JOIN, None);
        join::submit(&*link, &device.ask(name, token), |_| {}).await
    }

    /// A spoke that has joined and is greeted.
    pub(crate) async fn spoke(
        &self,
        name: &str,
    ) -> (Arc<memory_transport::MemoryTransport>, Session) {
        let (link, session, _) = self.spoke_with(name, Generation::NONE).await;
        (link, session)
    }

    /// The same, holding a plan already; with the hub's welcome.
    pub(crate) async fn spoke_with(
        &self,
        name: &str,
        held: Generation,
    ) -> (Arc<memory_transport::MemoryTransport>, Session, WelcomeV1) {
        let accepted = self.join(&Device::new(), name, TOKEN).await.unwrap();
        let link = self.connect(ALPN_SESSION, Some(CertificateDer::from(accepted.certificate)));
        let mut session = greet(&*link, HelloV1 { held, ..hello(name) }).await;
        let HubToSpoke::Welcome(welcome) = heard(&mut session).await else { panic!("no welcome") };
        (link, session, welcome)
    }

    /// Leases a range of the root's addresses to a spoke.
    pub(crate) async fn lease(&self, base: &str, spoke: &str) {
        let key = Key::new(&internal::pod_cidrs(), &ClusterName::root(), "", base);
        let object = Object { header: Header::default(), body: spoke.to_owned().into() };
        let operations = vec![Operation::Put(key, object)];
        self.objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    /// The gateway on a UDP port of this machine.
    pub(crate) async fn listen(&self) -> SocketAddr {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let tls = self.gateway.tls(Arc::new(DefaultTimeProvider)).unwrap();
        let endpoint = Endpoint::hub(Socket::Bind(address), tls).unwrap();
        let address = endpoint.local_addr().unwrap();
        let (gateway, stop) = (self.gateway.clone(), self.stop.clone());
        tokio::spawn(async move { gateway.serve(endpoint, stop).await });
        address
    }
}

pub(crate) const CLUSTERS: (&str, &str, &str) =
    ("cluster.open-cluster-management.io", "v1", "managedclusters");
pub(crate) const REQUESTS: (&str, &str, &str) =
    ("certificates.k8s.io", "v1", "certificatesigningrequests");

pub(crate) fn place(kind: (&str, &str, &str), namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kinds::find(kind.0, kind.1, kind.2).unwrap().clone(),
        cluster: ClusterName::root(),
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// A device with its key.
pub(crate) struct Device(KeyPair);

impl Device {
    pub(crate) fn new() -> Self {
        Self(KeyPair::generate().unwrap())
    }

    pub(crate) fn ask(&self, name: &str, token: &str) -> JoinRequestV1 {
        let csr = CertificateParams::default().serialize_request(&self.0).unwrap();
        JoinRequestV1 {
            token: token.into(),
            name: name.into(),
            csr: csr.der().to_vec(),
            labels: vec![("site".into(), "attic".into())],
            version: "0.1.0".into(),
        }
    }

    /// What it says when it has wiped what it held.
    pub(crate) fn receipt(&self, order: &str, left: &str) -> WipedV1 {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let statement = WipedV1::statement(order, left);
        params.distinguished_name.push(rcgen::DnType::CommonName, statement);
        let csr = params.serialize_request(&self.0).unwrap().der().to_vec();
        WipedV1 { csr, left: left.to_owned() }
    }

    /// By which the hub knows it.
    pub(crate) fn key(&self) -> String {
        let csr = self.ask("x", TOKEN).csr;
        freewheel_hub_pki::VerifiedRequest::read(&csr).unwrap().fingerprint().to_string()
    }

    pub(crate) fn credentials(&self, certificate: &[u8]) -> Credentials {
        let key = PrivateKeyDer::try_from(self.0.serialize_der()).unwrap();
        Credentials { chain: vec![CertificateDer::from(certificate.to_vec())], key }
    }
}

pub(crate) fn node() -> NodeStatusV1 {
    NodeStatusV1 {
        address: [127, 0, 0, 11].into(),
        hostname: "pi-7".into(),
        architecture: "arm64".into(),
        kernel: "6.18".into(),
        os_image: "Debian".into(),
        machine_id: "m".into(),
        boot_id: "b".into(),
        version: "0.1.0".into(),
        profile: profile().key(),
        features: 3,
        cpu_milli: 4000,
        memory: 1 << 30,
        storage: 1 << 33,
        pods: 110,
        labels: vec![("site".into(), "attic".into())],
        pressure: Vec::new(),
        parts: Parts::default(),
    }
}

pub(crate) fn hello(name: &str) -> HelloV1 {
    HelloV1 {
        protocols: PROTOCOLS,
        abilities: ABILITIES,
        cluster: ClusterName::try_from(name).unwrap(),
        boot_epoch: 1,
        instance: 1,
        held: Generation::NONE,
        digest: SetDigest::default(),
        node: node(),
        parts: Parts::default(),
    }
}

pub(crate) type Session =
    (Box<dyn SendHalf>, FrameReader<Box<dyn AsyncRead + Send + Sync + Unpin>>);

pub(crate) async fn greet(link: &dyn Transport, hello: HelloV1) -> Session {
    let stream = link.open(Priority::Session).await.unwrap();
    let (mut send, recv) = (stream.send, FrameReader::new(stream.recv));
    frame::write(&mut send, &Open::Session).await.unwrap();
    frame::write(&mut send, &SpokeToHub::Hello(Box::new(hello))).await.unwrap();
    (send, recv)
}

pub(crate) async fn heard(session: &mut Session) -> HubToSpoke {
    let next = session.1.next::<HubToSpoke>();
    tokio::time::timeout(Duration::from_secs(20), next).await.unwrap().unwrap().unwrap()
}

/// A spoke that holds what it is told, and acknowledges when the test says so.
#[derive(Default)]
pub(crate) struct Holder {
    pub(crate) set: RecordSet,
}

impl Holder {
    /// The next whole plan, which is held but not acknowledged.
    pub(crate) async fn plan(&mut self, session: &mut Session) -> PlanV1 {
        let mut whole: Option<PlanV1> = None;
        let whole = loop {
            let HubToSpoke::Plan(part) = heard(session).await else { continue };
            let joined = match whole.take() {
                None => part,
                Some(mut whole) => {
                    let mut put = part.put.into_iter();
                    if whole.cut {
                        whole.put.last_mut().unwrap().body.extend(put.next().unwrap().body);
                    }
                    whole.put.extend(put);
                    whole.remove.extend(part.remove);
                    (whole.cut, whole.more) = (part.cut, part.more);
                    whole
                }
            };
            if !joined.more {
                break joined;
            }
            whole = Some(joined);
        };
        if whole.snapshot {
            self.set = RecordSet::default();
        }
        whole.remove.iter().for_each(|key| self.set.remove(key));
        whole.put.iter().for_each(|record| self.set.put(record.clone()));
        whole
    }

    /// Says that all of a plan is durable.
    pub(crate) async fn took(&self, session: &mut Session, plan: &PlanV1) {
        let took = SpokeToHub::Took { generation: plan.to, digest: self.set.digest() };
        frame::write(&mut session.0, &took).await.unwrap();
    }

    /// Takes plans until none comes any more.
    pub(crate) async fn settle(&mut self, session: &mut Session) {
        let quiet = Duration::from_millis(300);
        while let Ok(plan) = tokio::time::timeout(quiet, self.plan(session)).await {
            self.took(session, &plan).await;
        }
    }
}

/// A pod on a node.
pub(crate) fn pod(name: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i"}]},
    })
}

pub(crate) const PODS: (&str, &str, &str) = ("", "v1", "pods");

pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not in 10 s: {what}");
}

#[track_caller]
pub(crate) fn refused(
    outcome: Result<join::AcceptedV1, JoinError>,
    cause: JoinRefusal,
    word: &str,
) {
    match outcome {
        Err(JoinError::Refused(refused)) => {
            assert_eq!(refused.cause, cause, "{}", refused.message);
            assert!(refused.message.contains(word), "{}", refused.message);
        }
        other => panic!("{other:?}"),
    }
}
