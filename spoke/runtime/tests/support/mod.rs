//! A node with nothing but a pod network and a runtime, and guests compiled for it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]
#![expect(dead_code, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use freewheel_link::names::ClusterName;
use freewheel_link::plan::HttpV1;
use freewheel_link::probes::ProbeV1;
use freewheel_link::profile::Profile;
use freewheel_spoke_agent::host_dir::HostDir;
use freewheel_spoke_agent::ports::{
    ContainerId, Containers as _, Exit, Input, Network as _, Opened, PodNetwork, Probed,
    StartContainer,
};
use freewheel_spoke_agent::volumes::Mount;
use freewheel_spoke_engine::{compiler_config, footprint};
use freewheel_spoke_net::{ConnIo, Fabric};
use freewheel_spoke_runtime::{Lane, Runtime, RuntimeOptions, Runtimes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

/// Bound of every wait: generous, because the machine may be busy, and some guests move a gigabyte through a host that is not
/// optimised.
pub const SOON: Duration = Duration::from_secs(180);

fn profile() -> Profile {
    freewheel_spoke_runtime::choose_profile(100).unwrap()
}

/// The other memory profile of this machine.
pub fn bounded() -> Profile {
    Profile { memory: freewheel_link::profile::MemoryProfile::Bounded, ..profile() }
}

/// Compiles a guest for another profile.
pub fn compile_for(profile: &Profile, name: &str, artifact: &Path) {
    guest(name);
    let wasm = target().join(format!("wasm32-wasip2/release/{name}.wasm"));
    let engine = wasmtime::Engine::new(&compiler_config(profile).unwrap()).unwrap();
    keep(engine.precompile_component(&std::fs::read(wasm).unwrap()).unwrap(), artifact);
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests")
}

/// Compiles a component as the hub would.
pub fn compile(component: &[u8], artifact: &Path) {
    static ENGINE: OnceLock<wasmtime::Engine> = OnceLock::new();
    let engine = ENGINE
        .get_or_init(|| wasmtime::Engine::new(&compiler_config(&profile()).unwrap()).unwrap());
    keep(engine.precompile_component(component).unwrap(), artifact);
}

/// Compiles a core module as the hub would.
pub fn compile_core(module: &[u8], artifact: &Path) {
    let engine = wasmtime::Engine::new(&compiler_config(&profile()).unwrap()).unwrap();
    keep(engine.precompile_module(module).unwrap(), artifact);
}

fn keep(mut compiled: Vec<u8>, artifact: &Path) {
    footprint::write(&mut compiled).unwrap();
    std::fs::write(artifact, compiled).unwrap();
}

/// The artifact of one of the guests next to this file. Each is compiled when it is asked for first: most test binaries want
/// one or two of them.
pub fn guest(name: &str) -> PathBuf {
    static COMPILED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut compiled = COMPILED.lock().unwrap();
    let compiled = compiled.get_or_insert_with(|| {
        build();
        HashMap::new()
    });
    compiled.entry(name.to_owned()).or_insert_with(|| artifact(name)).clone()
}

fn artifact(name: &str) -> PathBuf {
    let wasm = target().join(format!("wasm32-wasip2/release/{name}.wasm"));
    let artifact = target().join(format!("{name}.cwasm"));
    // Another test file may be running the former one: a mapped file is never written to.
    let fresh = artifact.with_extension(std::process::id().to_string());
    compile(&std::fs::read(wasm).unwrap(), &fresh);
    std::fs::rename(fresh, &artifact).unwrap();
    artifact
}

fn build() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--locked", "--target", "wasm32-wasip2"])
        .arg("--manifest-path")
        .arg(here.join("tests/guests/Cargo.toml"))
        .arg("--target-dir")
        .arg(target())
        // The flags of the build around this one are for another machine.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET")
        .status()
        .unwrap();
    assert!(status.success(), "guests do not build");
}

/// A node in a test.
pub struct Node {
    pub runtime: Arc<Runtime>,
    pub fabric: Arc<Fabric>,
    pub dir: tempfile::TempDir,
    inputs: tokio::sync::Mutex<Inputs>,
}

struct Inputs {
    new: mpsc::UnboundedReceiver<Input>,
    started: Vec<ContainerId>,
    exited: HashMap<ContainerId, Exit>,
    out_of_memory: HashMap<ContainerId, u64>,
    probed: HashMap<ContainerId, Probed>,
}

/// A node with as many guest threads as the machine has cores.
pub fn node() -> Node {
    node_of(profile())
}

/// A node whose engine has this profile.
pub fn node_of(profile: Profile) -> Node {
    node_with(profile, freewheel_spoke_runtime::addresses())
}

/// A node on a machine with so many addresses.
pub fn node_with_addresses(addresses: u64) -> Node {
    node_with(profile(), addresses)
}

/// A node, and where its guests run.
pub fn node_and_lane() -> (Node, Handle) {
    let runtimes = Runtimes::new(2).unwrap();
    let lane = runtimes.lane(Lane::Guests).clone();
    (node_on(profile(), freewheel_spoke_runtime::addresses(), runtimes), lane)
}

fn node_with(profile: Profile, addresses: u64) -> Node {
    node_on(profile, addresses, Runtimes::new(2).unwrap())
}

fn node_on(profile: Profile, addresses: u64, runtimes: Runtimes) -> Node {
    let fabric = Fabric::new(Handle::current());
    let (tell, new) = mpsc::unbounded_channel();
    let runtime = Runtime::new(RuntimeOptions {
        profile,
        memory: 8 << 30,
        files: 10_000,
        mappings: 40_000,
        addresses,
        logs: 1 << 30,
        fabric: fabric.clone(),
        control: Handle::current(),
        runtimes,
        on_file_thread: || {},
        deliver: Arc::new(move |input| drop(tell.send(input))),
    });
    let (started, exited) = (Vec::new(), HashMap::new());
    let (out_of_memory, probed) = (HashMap::new(), HashMap::new());
    let inputs = Inputs { new, started, exited, out_of_memory, probed };
    let dir = tempfile::tempdir().unwrap();
    Node { runtime: runtime.unwrap(), fabric, dir, inputs: tokio::sync::Mutex::new(inputs) }
}

/// A container in the making, and what it mounts.
pub struct Start(pub StartContainer, pub Vec<Mount>);

impl Node {
    /// A container that runs this artifact in a pod of its own, unless the pod is there already.
    pub fn container(&self, pod: &str, artifact: &Path) -> Start {
        let uid = pod.to_owned();
        if self.fabric.pod(&uid).is_none() {
            self.add_pod(pod, None);
        }
        let start = StartContainer {
            id: ContainerId { pod: uid, container: "main".to_owned(), attempt: 0 },
            realm: ClusterName::root(),
            namespace: "default".to_owned(),
            pod_name: pod.to_owned(),
            artifact: artifact.to_owned(),
            args: vec!["guest".to_owned()],
            env: Vec::new(),
            mounts: None,
            memory_limit: None,
            cpu_limit_milli: None,
            ports: Vec::new(),
            http: HttpV1::default(),
            log: self.dir.path().join(format!("{pod}.log")),
        };
        Start(start, Vec::new())
    }

    /// A pod whose containers have so much memory together.
    pub fn pod_of(&self, pod: &str, memory_limit: u64) {
        self.add_pod(pod, Some(memory_limit));
    }

    fn add_pod(&self, pod: &str, memory_limit: Option<u64>) {
        let last = pod.bytes().fold(7_u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte));
        self.fabric.add_pod(PodNetwork {
            uid: pod.to_owned(),
            realm: ClusterName::root(),
            namespace: "default".to_owned(),
            ip: std::net::Ipv4Addr::new(10, 64, 0, last),
            hostname: pod.to_owned(),
            aliases: Vec::new(),
            host_ports: Vec::new(),
            memory_limit,
        });
    }

    /// The program `kit` with these words, in a pod of its own.
    pub fn kit(&self, pod: &str, words: &[&str]) -> Start {
        let mut start = self.container(pod, &guest("kit"));
        start.0.args.extend(words.iter().map(ToString::to_string));
        start
    }

    /// The program `greedy` with these words, 32 MiB of memory and a directory to write in.
    pub fn greedy(&self, pod: &str, words: &[&str]) -> Start {
        let mut start = self.container(pod, &guest("greedy"));
        start.0.args.extend(words.iter().map(ToString::to_string));
        start.0.memory_limit = Some(32 << 20);
        let volume = self.dir.path().join(format!("{pod}-volume"));
        std::fs::create_dir_all(&volume).unwrap();
        let dir = HostDir::open(&volume).unwrap();
        start.1 = vec![Mount { dir, guest: "/v".to_owned(), read_only: false }];
        start
    }

    /// Another container of the same pod.
    pub fn sidecar(&self, pod: &str, name: &str, words: &[&str]) -> Start {
        let mut start = self.kit(pod, words);
        start.0.id.container = name.to_owned();
        start.0.log = self.dir.path().join(format!("{name}.log"));
        start
    }

    pub fn ip(&self, pod: &str) -> String {
        self.fabric.pod(pod).unwrap().ip().to_string()
    }

    pub fn start(&self, Start(mut start, dirs): Start) -> ContainerId {
        let id = start.id.clone();
        let places = self.runtime.file_permits(&id.pod, dirs.len());
        start.mounts = places.map(|places| Opened { dirs, places });
        self.runtime.start(start);
        id
    }

    /// Runs it and waits for its end.
    pub async fn run(&self, start: Start) -> Exit {
        let id = self.start(start);
        self.exited(&id).await
    }

    pub async fn started(&self, id: &ContainerId) {
        self.input(|inputs| inputs.started.contains(id).then_some(())).await;
    }

    pub async fn exited(&self, id: &ContainerId) -> Exit {
        self.input(|inputs| inputs.exited.get(id).cloned()).await
    }

    /// Waits until instances of it were out of memory; how many.
    pub async fn out_of_memory(&self, id: &ContainerId) -> u64 {
        self.input(|inputs| inputs.out_of_memory.get(id).copied()).await
    }

    /// What a look at a container comes to.
    pub async fn probe(&self, id: &ContainerId, probe: ProbeV1) -> Probed {
        self.inputs.lock().await.probed.remove(id);
        self.runtime.probe(id, probe);
        self.input(|inputs| inputs.probed.get(id).cloned()).await
    }

    async fn input<T>(&self, seek: impl Fn(&Inputs) -> Option<T>) -> T {
        let mut inputs = self.inputs.lock().await;
        loop {
            if let Some(found) = seek(&inputs) {
                return found;
            }
            match tokio::time::timeout(SOON, inputs.new.recv()).await.unwrap().unwrap() {
                Input::Started(id) => inputs.started.push(id),
                Input::Exited(id, exit) => drop(inputs.exited.insert(id, exit)),
                Input::InstanceOutOfMemory(id, count) => {
                    inputs.out_of_memory.insert(id, count);
                }
                Input::Probed(id, _, outcome) => drop(inputs.probed.insert(id, outcome)),
                other => panic!("unexpected {other:?}"),
            }
        }
    }

    /// The words of the pod's log without times.
    pub fn log(&self, pod: &str) -> String {
        let text = std::fs::read_to_string(self.dir.path().join(format!("{pod}.log")));
        let text = text.unwrap_or_default();
        text.lines().map(|line| format!("{}\n", line.splitn(4, ' ').nth(3).unwrap_or(""))).collect()
    }

    /// Waits until the pod's log holds this.
    pub async fn logged(&self, pod: &str, text: &str) {
        let found = async {
            while !self.log(pod).contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, found).await.unwrap();
    }

    pub fn dial(&self, pod: &str, port: u16) -> Option<ConnIo> {
        self.fabric.dial_pod(pod, port).ok()
    }

    /// The status and text of an answer to GET.
    pub async fn get(&self, pod: &str, port: u16, path: &str) -> (u16, String) {
        let mut conn = self.dial(pod, port).expect("nobody listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: {pod}\r\nconnection: close\r\n\r\n");
        conn.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(SOON, conn.read_to_string(&mut answer)).await.unwrap().unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        // Answers of unknown length come in chunks; ours are one chunk.
        let body = match body.split_once("\r\n") {
            Some((_, chunk)) => chunk.split("\r\n").next().unwrap_or("").to_owned(),
            None => body.to_owned(),
        };
        (status, body)
    }
}
