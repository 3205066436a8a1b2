//! The simulated fleet: what outlives a crash, and what the harness can do to it.

use freewheel_hub_objects::internal::SessionRecord;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use freewheel_hub_api::images::{Artifact, ImageProblem, Images, Resolved, Tenants};
use freewheel_hub_api::kinds;
use freewheel_hub_gateway::{Gateway, Identity, PodTokens, TokensAsked};
use freewheel_hub_objects::clock::{Clock, SeededRandom};
use freewheel_hub_objects::{DeleteOptions, ObjectRef, Objects, WriteOptions};
use freewheel_hub_pki::Authority;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::Resource;
use freewheel_hub_store::Scope;
use freewheel_hub_store::memory::MemoryStore;
use freewheel_link::backoff::Backoff;
use freewheel_link::digest::{Digest, SetDigest};
use freewheel_link::generation::Generation;
use freewheel_link::message::{LogsV1, RefusalV1, TunnelV1};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{Kind, TokenKey};
use freewheel_link::profile::Profile;
use freewheel_link::quic::{ClientTls, Dialer, Endpoint, Socket};
use freewheel_link::tls::{self, Credentials, DeviceClock, TimeProvider};
use freewheel_spoke_agent::agent::{Agent, Config};
use freewheel_spoke_agent::fake::{self, FakeEngine, SimDisk};
use freewheel_spoke_agent::ledger::Ledger;
use freewheel_spoke_agent::uplink::{Duplex, Handle, LogStream, Serve, SpokeInfo, join};
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use crate::net::{Net, Trace};

/// 2027-01-15: by then the software has been made.
const START: u64 = 1_800_000_000;
const PORT: u16 = 6444;
const TOKEN: &str = "abcdef.0123456789abcdef";

/// Packets arrive at its beats; timers are exact.
const TICK: Duration = Duration::from_millis(20);

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The simulation's wall clock, for the store, for TLS and for the harness between steps.
#[derive(Clone, Debug, Default)]
struct SimClock(Arc<AtomicU64>);

impl Clock for SimClock {
    fn unix_nanos(&self) -> i128 {
        i128::from(START) * 1_000_000_000 + i128::from(self.0.load(Ordering::Relaxed))
    }
}

impl TimeProvider for SimClock {
    fn current_time(&self) -> Option<UnixTime> {
        let since =
            Duration::from_secs(START) + Duration::from_nanos(self.0.load(Ordering::Relaxed));
        Some(UnixTime::since_unix_epoch(since))
    }
}

impl DeviceClock for SimClock {}

/// Tokens that say whose they are, the same at each run.
struct PlainTokens;

#[async_trait]
impl PodTokens for PlainTokens {
    fn sign(&self, asked: &TokensAsked, which: &TokenKey) -> Result<String, ApiError> {
        Ok(format!("{} {} {which}", asked.account, asked.uid))
    }

    async fn prepare(&self, _: &ClusterName) -> Result<(), ApiError> {
        Ok(())
    }
}

/// Every image exists.
struct AllImages(watch::Sender<u64>);

#[async_trait]
impl Images for AllImages {
    fn resolve(&self, reference: &str) -> Result<Resolved, ImageProblem> {
        let component = Digest::of(reference.as_bytes());
        Ok(Resolved { manifest: component, component })
    }

    fn manifest_of(&self, _: &str, _: &Digest) -> Option<Digest> {
        None
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }

    async fn artifact(
        &self,
        _: &Digest,
        _: Profile,
        _: Tenants<'_>,
    ) -> Result<Artifact, ImageProblem> {
        Err(ImageProblem { reason: "ErrImagePull", message: "the simulation has no bytes".into() })
    }

    fn compiling(&self, _: &Digest, _: Profile) -> Option<u64> {
        None
    }

    fn note_profile(&self, _: Profile) {}
}

struct Nothing;

#[async_trait]
impl Serve for Nothing {
    async fn logs(&self, _: LogsV1) -> Result<LogStream, RefusalV1> {
        Err(RefusalV1::new("NotFound", "no logs here"))
    }

    async fn tunnel(&self, _: TunnelV1) -> Result<Box<dyn Duplex>, RefusalV1> {
        Err(RefusalV1::new("NotFound", "no pods here"))
    }
}

/// What a device keeps on its disk, and what the harness sees of it.
#[derive(Clone)]
struct Device {
    name: ClusterName,
    key: Arc<Vec<u8>>,
    identity: Arc<Mutex<Option<join::Identity>>>,
    disk: SimDisk,
    engine: Arc<Mutex<Option<Arc<FakeEngine>>>>,
    boots: Arc<AtomicU64>,
    seed: u64,
    ca_hash: Digest,
    clock: SimClock,
    trace: Trace,
}

impl Device {
    fn tls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.to_vec()).unwrap()
    }

    async fn run(self) -> Outcome {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let mut rng = fastrand::Rng::with_seed(self.seed ^ boot.wrapping_mul(0x9e37_79b9));
        let net = Net::bind(PORT, self.trace.clone()).await?;
        let endpoint = Endpoint::spoke(Socket::Simulated(net, seed_bytes(&mut rng)))?;
        let hub = SocketAddr::new(turmoil::lookup("hub"), PORT).to_string();
        let known = self.identity.lock().clone();
        let identity = match known {
            Some(identity) => identity,
            None => self.join(&endpoint, &hub, &mut rng).await?,
        };
        let own = Credentials {
            chain: vec![CertificateDer::from(identity.certificate)],
            key: self.tls_key(),
        };
        let ca = CertificateDer::from(identity.ca);
        let client = tls::session_client(&ca, own, Arc::new(self.clock.clone()))?;
        let dialer = Dialer::new(endpoint, hub, ClientTls::new(client)?);

        let (world, mut ports, queue) = fake::FakeWorld::new(self.disk.clone(), START * 1000);
        let handle = Handle::new();
        ports.uplink = Arc::new(handle.clone());
        let node = fake::node();
        let files = world.files.clone();
        let config = Config { data: "/data".into(), node: node.clone(), files, thresholds: vec![] };
        let agent = Agent::open(ports, config)?;
        *self.engine.lock() = Some(world.engine.clone());
        let (held, digest) = agent.held();
        let (cluster, boot_epoch) = (self.name.clone(), agent.boot_epoch());
        let me = SpokeInfo { cluster, boot_epoch, held, digest, node };
        let driver = handle.driver(me, Arc::new(dialer), rng);
        let stop = CancellationToken::new();
        let inputs = world.inputs.clone();
        tokio::join!(
            agent.run(queue, stop.clone()),
            driver.run(inputs, Arc::new(Nothing), stop.clone())
        );
        Ok(())
    }

    async fn join(
        &self,
        endpoint: &Endpoint,
        hub: &str,
        rng: &mut fastrand::Rng,
    ) -> Result<join::Identity, Box<dyn std::error::Error>> {
        let key = KeyPair::try_from(&self.tls_key())?;
        let csr = CertificateParams::default().serialize_request(&key)?;
        let ask = join::Ask {
            token: TOKEN.parse()?,
            name: self.name.clone(),
            csr: csr.der().to_vec(),
            ca_hash: self.ca_hash,
            labels: Vec::new(),
            version: "0.1.0".into(),
        };
        let client = tls::join_client(self.ca_hash, Arc::new(self.clock.clone()))?;
        let dialer = Dialer::new(endpoint.clone(), hub.to_owned(), ClientTls::new(client)?);
        let mut backoff = Backoff::uplink();
        loop {
            if let Ok(quic) = dialer.connect().await
                && let Ok(identity) = join::join(&quic, &ask, |_| {}).await
            {
                *self.identity.lock() = Some(identity.clone());
                return Ok(identity);
            }
            tokio::time::sleep(backoff.wait(None, rng)).await;
        }
    }
}

fn seed_bytes(rng: &mut fastrand::Rng) -> [u8; 32] {
    let mut seed = [0; 32];
    rng.fill(&mut seed);
    seed
}

/// The fleet, and the hands that shake it.
pub struct World {
    seed: u64,
    sim: Sim<'static>,
    clock: SimClock,
    trace: Trace,
    objects: Objects,
    agreed: Agreed,
    devices: BTreeMap<String, Device>,
    rng: fastrand::Rng,
    /// Newest revision at which acknowledgements were looked at.
    looked: u64,
}

/// The plan that hub and spoke agree on, as the hub says.
type Agreed = Arc<Mutex<BTreeMap<ClusterName, Option<(Generation, SetDigest)>>>>;

impl World {
    /// A hub and these spokes, all switched on, with a token that accepts by itself.
    pub fn new(seed: u64, names: &[&str]) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x5eed);
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(2))
            .max_message_latency(Duration::from_millis(60))
            .fail_rate(0.02)
            .repair_rate(0.6)
            .udp_capacity(4096)
            .build();
        let (clock, trace) = (SimClock::default(), Trace::default());
        // On the hub's disk: store and identity outlive a crash.
        let store = Arc::new(MemoryStore::with_incarnation(seed + 1).sparse(1 + seed % 3));
        let chance = Arc::new(SeededRandom::new(seed));
        let objects = Objects::with(store, Arc::new(clock.clone()), chance);
        let (ca, ca_key) = authority();
        let ca_hash = tls::key_hash(&ca).unwrap();
        let agreed = Agreed::default();
        let hub = Hub {
            objects: objects.clone(),
            clock: clock.clone(),
            trace: trace.clone(),
            agreed: agreed.clone(),
            ca,
            ca_key: Arc::new(ca_key),
            spokes: names.iter().map(|name| ClusterName::try_from(*name).unwrap()).collect(),
            boots: Arc::default(),
            seed: rng.u64(..),
        };
        sim.host("hub", move || hub.clone().run());
        let mut devices = BTreeMap::new();
        for name in names {
            let device = Device {
                name: ClusterName::try_from(*name).unwrap(),
                key: Arc::new(KeyPair::generate_for(&PKCS_ED25519).unwrap().serialize_der()),
                identity: Arc::default(),
                disk: SimDisk::default(),
                engine: Arc::default(),
                boots: Arc::default(),
                seed: rng.u64(..),
                ca_hash,
                clock: clock.clone(),
                trace: trace.clone(),
            };
            let boot = device.clone();
            sim.host(*name, move || boot.clone().run());
            devices.insert((*name).to_owned(), device);
        }
        let world = Self { seed, sim, clock, trace, objects, agreed, devices, rng, looked: 0 };
        world.bootstrap(names);
        world
    }

    fn bootstrap(&self, realms: &[&str]) {
        for namespace in ["kube-system", "default"] {
            let value = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace},
            });
            self.create(&place("namespaces", "root", "", namespace), value.clone());
            for realm in realms {
                self.create(&place("namespaces", realm, "", namespace), value.clone());
            }
        }
        // Beside the token in each pod.
        let root_ca = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"},
            "data": {"ca.crt": ""},
        });
        for realm in realms.iter().chain(&["root"]) {
            let at = place("configmaps", realm, "default", "kube-root-ca.crt");
            self.create(&at, root_ca.clone());
        }
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        let name = "bootstrap-token-abcdef";
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
            "metadata": {"name": name, "namespace": "kube-system"},
            "data": {
                "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"),
                "freewheel-auto-accept": encode("true"),
            },
        });
        self.create(&place("secrets", "root", "kube-system", name), secret);
    }

    fn create(&self, place: &ObjectRef, value: Value) {
        let how = WriteOptions::default();
        let created = self.objects.create(&how, place, value);
        if let Err(error) = futures::executor::block_on(created)
            && error.reason != "AlreadyExists"
        {
            panic!("{}: {error}", place.name);
        }
    }

    /// A pod, bound as the scheduler would.
    pub fn bind(&mut self, realm: &str, name: &str, node: &str) {
        let value = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"nodeName": node, "containers": [{"name": "main", "image": "test:1"}]},
        });
        self.create(&place("pods", realm, "default", name), value);
    }

    /// What a user's `kubectl delete` does.
    pub fn delete(&mut self, realm: &str, name: &str) {
        let place = place("pods", realm, "default", name);
        let options = DeleteOptions::default();
        let how = WriteOptions::default();
        let deleted = self.objects.delete(&how, &place, &options);
        futures::executor::block_on(deleted).unwrap();
    }

    /// Kills a machine; a device loses what its disk had not written.
    pub fn crash(&mut self, name: &str) {
        self.sim.crash(name);
        if let Some(device) = self.devices.get(name) {
            device.disk.cut_power(&mut self.rng);
            *device.engine.lock() = None;
        }
    }

    /// Switches it on again.
    pub fn restart(&mut self, name: &str) {
        self.sim.bounce(name);
    }

    /// Cuts a spoke off, in both directions or only towards the hub.
    pub fn partition(&mut self, name: &str, both: bool) {
        if both {
            self.sim.partition(name, "hub");
        } else {
            self.sim.partition_oneway(name, "hub");
        }
    }

    /// Lets it through again.
    pub fn repair(&mut self, name: &str) {
        self.sim.repair(name, "hub");
        self.sim.repair("hub", name);
    }

    fn step(&mut self) {
        let now = u64::try_from(self.sim.elapsed().as_nanos()).unwrap();
        self.clock.0.store(now, Ordering::Relaxed);
        self.sim.step().unwrap();
        self.check_agreed();
    }

    /// Simulated seconds go by.
    pub fn pass(&mut self, seconds: u64) {
        let end = self.sim.elapsed() + Duration::from_secs(seconds);
        while self.sim.elapsed() < end {
            self.step();
        }
    }

    /// Until everything is as it should be.
    pub fn settle(&mut self, when: &str, within: Duration) {
        let end = self.sim.elapsed() + within;
        let mut wrong = String::from("nothing was looked at");
        while self.sim.elapsed() < end {
            for _ in 0..10 {
                self.step();
            }
            match self.look() {
                Ok(()) => return,
                Err(text) => wrong = text,
            }
        }
        panic!("seed {}: {when}, after {within:?}: {wrong}", self.seed);
    }

    fn pods(&self) -> Vec<(String, Value)> {
        let scope = Scope { resource: Resource::new("", "pods"), cluster: None, namespace: None };
        let snapshot = self.objects.store().snapshot();
        let named = |stored: Arc<freewheel_hub_store::Stored>| {
            let name = format!("{}/{}", stored.key.cluster, stored.key.name);
            (name, stored.object.value().unwrap())
        };
        snapshot.range(&scope, None).map(named).collect()
    }

    /// UIDs of all pods.
    pub fn uids(&self) -> BTreeMap<String, String> {
        let uid = |value: &Value| value["metadata"]["uid"].as_str().unwrap().to_owned();
        self.pods().into_iter().map(|(name, value)| (name, uid(&value))).collect()
    }

    /// Every pod is reported running, and each device runs exactly its pods.
    fn look(&self) -> Result<(), String> {
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (name, pod) in self.pods() {
            if pod["status"]["phase"] != "Running"
                || pod["metadata"].get("deletionTimestamp").is_some()
            {
                return Err(format!("pod {name} is {}", pod["status"]));
            }
            let node = pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned();
            let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            wanted.entry(node).or_default().insert(uid);
        }
        for (name, device) in &self.devices {
            let engine = device.engine.lock().clone().ok_or(format!("{name} is off"))?;
            let runs: BTreeSet<String> =
                engine.running().into_iter().map(|start| start.id.pod.clone()).collect();
            let wants = wanted.remove(name).unwrap_or_default();
            if runs != wants {
                return Err(format!("{name} runs {runs:?}, wanted is {wants:?}"));
            }
            let session =
                SessionRecord::of(&*self.objects.store().snapshot(), device.name.as_str());
            if session.is_none_or(|session| !session.connected) {
                return Err(format!("{name} has no session"));
            }
        }
        Ok(())
    }

    /// The hub never believes in a revision that it has not made.
    fn check_agreed(&mut self) {
        let newest = self.objects.store().snapshot().revision();
        if newest == std::mem::replace(&mut self.looked, newest) {
            return;
        }
        for (generation, _) in self.agreed.lock().values().flatten() {
            let agreed = generation.revision;
            assert!(agreed <= newest, "seed {}: {agreed} of {newest} agreed", self.seed);
        }
    }

    /// Until hub and spokes agree on a plan, and nothing newer is on its way, for some seconds.
    pub fn agree(&mut self, within: Duration) {
        let end = self.sim.elapsed() + within;
        let mut agreed = self.agreed.lock().clone();
        loop {
            self.pass(5);
            let before = std::mem::replace(&mut agreed, self.agreed.lock().clone());
            if before == agreed && agreed.values().all(Option::is_some) {
                return;
            }
            assert!(self.sim.elapsed() < end, "seed {}: no agreement on {agreed:?}", self.seed);
        }
    }

    /// What is acknowledged, and what the hub believes to be held, is what is on the devices' disks.
    pub fn check_ledgers(&mut self) {
        let names: Vec<String> = self.devices.keys().cloned().collect();
        for name in names {
            let believed = self.agreed.lock()[&self.devices[&name].name];
            self.crash(&name);
            let device = &self.devices[&name];
            let ledger = Ledger::open(Arc::new(device.disk.clone()), "").unwrap();
            let held = Some((ledger.generation(), ledger.digest()));
            assert_eq!(believed, held, "seed {}: {name} holds something else", self.seed);
            let held: BTreeSet<String> = ledger
                .records()
                .iter()
                .filter(|record| record.key.kind == Kind::POD_V1)
                .map(|record| record.key.key.clone())
                .collect();
            let bound: BTreeSet<String> = self
                .pods()
                .into_iter()
                .filter(|(_, pod)| pod["spec"]["nodeName"] == *name)
                .map(|(_, pod)| pod["metadata"]["uid"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(held, bound, "seed {}: the ledger of {name}", self.seed);
        }
    }

    /// The hash of everything that was sent.
    pub fn trace(&self) -> u64 {
        self.trace.hash()
    }
}

/// What a hub keeps on its disk, and what the harness sees of it.
#[derive(Clone)]
struct Hub {
    objects: Objects,
    clock: SimClock,
    trace: Trace,
    agreed: Agreed,
    ca: CertificateDer<'static>,
    ca_key: Arc<PrivateKeyDer<'static>>,
    spokes: Vec<ClusterName>,
    boots: Arc<AtomicU64>,
    seed: u64,
}

impl Hub {
    async fn run(self) -> Outcome {
        let boot = self.boots.fetch_add(1, Ordering::Relaxed);
        let mut rng = fastrand::Rng::with_seed(self.seed ^ boot);
        let images = Arc::new(AllImages(watch::Sender::new(0)));
        let authority = Authority::new(self.ca.clone(), self.ca_key.clone_key())?;
        let identity = Identity { authority: Arc::new(authority), fleet_root: [0; 32] };
        let gateway = Gateway::new(self.objects.clone(), images, identity, "hub");
        gateway.sign_pod_tokens_with(Arc::new(PlainTokens));
        let net = Net::bind(PORT, self.trace.clone()).await?;
        let tls = gateway.tls(Arc::new(self.clock.clone()))?;
        let endpoint = Endpoint::hub(Socket::Simulated(net, seed_bytes(&mut rng)), tls)?;
        let say = async {
            loop {
                for spoke in &self.spokes {
                    self.agreed.lock().insert(spoke.clone(), gateway.agreed(spoke));
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            () = gateway.serve(endpoint, CancellationToken::new()) => Ok(()),
            () = say => Ok(()),
        }
    }
}

/// A fleet's CA whose certificates and signatures have the same length every time.
fn authority() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(rcgen::SerialNumber::from_slice(&[1; 16]));
    let ca = params.self_signed(&key).unwrap();
    (ca.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn place(plural: &str, cluster: &str, namespace: &str, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kinds::find("", "v1", plural).unwrap().clone(),
        cluster: ClusterName::try_from(cluster).unwrap(),
        namespace: namespace.into(),
        name: name.to_owned(),
    }
}
