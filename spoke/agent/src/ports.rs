//! What the agent needs of the world. The binary wires the real ones, tests wire fakes, and the agent
//! itself knows no wasmtime, no quinn and no hyper.
//!
//! Every port answers at once or reports later through [`Input`]; none blocks the agent's loop.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use freewheel_link::digest::Digest;
use freewheel_link::generation::Generation;
use freewheel_link::message::RefusalV1;
use freewheel_link::names::ClusterName;
use freewheel_link::plan::{HttpV1, Protocol, Record, RecordKey, ServiceV1};
use freewheel_link::probes::{ProbeKindV1, ProbeV1};
use freewheel_link::report::{NodeStatusV1, Report, ReportStamp, UnixMillis};

use crate::eviction::Observed;
use crate::volumes::Mount;

/// Time, as a trait so that a simulation owns it.
pub trait Clock: Send + Sync {
    /// Monotonic, from any start.
    fn now(&self) -> Duration;
    /// The device's wall clock.
    fn unix_ms(&self) -> UnixMillis;
}

/// One container start: unique per pod UID, container name and attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContainerId {
    /// UID of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// restartCount of this start.
    pub attempt: u32,
}

/// Places among the files that a pod may have open: taken before anything is opened, free again when this is dropped.
pub trait FilePermits: std::fmt::Debug + Send + Sync {
    /// Gives back all but so many.
    fn keep(&mut self, count: usize);
}

/// Directories that a guest sees, each in a place of its own.
#[derive(Debug)]
pub struct Opened {
    /// The directories.
    pub dirs: Vec<Mount>,
    /// Their places.
    pub places: Box<dyn FilePermits>,
}

/// All that a start needs; everything is resolved already.
#[derive(Debug)]
pub struct StartContainer {
    /// Which start this is.
    pub id: ContainerId,
    /// For log lines and messages: realm, namespace, pod.
    pub realm: ClusterName,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub pod_name: String,
    /// The verified artifact on disk.
    pub artifact: PathBuf,
    /// argv; never empty.
    pub args: Vec<String>,
    /// Environment, resolved and expanded.
    pub env: Vec<(String, String)>,
    /// Directories that the guest sees; `None`: the pod may open no more files, and the start fails.
    pub mounts: Option<Opened>,
    /// Bytes; `None`: the engine profile's bound.
    pub memory_limit: Option<u64>,
    /// Thousandths of a core; `None`: no quota.
    pub cpu_limit_milli: Option<u32>,
    /// TCP ports that the container declares: an HTTP component is served on the first.
    pub ports: Vec<u16>,
    /// How it serves HTTP, if its component does.
    pub http: HttpV1,
    /// Log file of this start; its directory may come later than the start.
    pub log: PathBuf,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Exit code as Kubernetes shows it: its own, 137 for OOMKilled and kills, 134 for traps, 143 when it was
    /// stopped before it ran.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError` (never ran: cannot be linked or loaded).
    pub reason: String,
    /// For the user: the trap's text, the missing import, the limit.
    pub message: String,
    /// It was asked to stop and may have heard it: what it has ended with says nothing of its work.
    pub was_asked_to_stop: bool,
}

/// What a look at a container's health has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It is well.
    Success,
    /// It is well, and there is something to be said.
    Warning(String),
    /// It is not, and why.
    Failure(String),
    /// It could not be looked at, and why.
    Error(String),
    /// It has ended, or is about to: there is nothing to look at.
    Ended,
}

impl Probed {
    /// Whether it is well; `None`: nobody knows.
    #[must_use]
    pub const fn is_well(&self) -> Option<bool> {
        match self {
            Self::Success | Self::Warning(_) => Some(true),
            Self::Failure(_) => Some(false),
            Self::Error(_) | Self::Ended => None,
        }
    }
}

/// Runs containers (spoke-runtime).
pub trait Containers: Send + Sync {
    /// Starts one; later come [`Input::Started`] and [`Input::Exited`], or `Exited` alone.
    /// The pod's network exists already.
    fn start(&self, start: StartContainer);
    /// Places for files that are about to be opened for a pod; `None`: it has as many as it may.
    fn file_permits(&self, pod_uid: &str, count: usize) -> Option<Box<dyn FilePermits>>;
    /// Asks it to end: listeners close, the guest is told, after `grace` it is killed. `Exited` follows.
    fn stop(&self, id: &ContainerId, grace: Duration);
    /// Looks at its health, for as long as the probe says at most; [`Input::Probed`] follows, whatever becomes of it.
    fn probe(&self, id: &ContainerId, probe: ProbeV1);
    /// Bytes of memory that each running container of a pod has.
    fn memory(&self, pod_uid: &str) -> Vec<(String, u64)>;
    /// A pod gets no more memory than it has: it is on its way out, and others are waiting for room.
    fn freeze_memory(&self, pod_uid: &str);
    /// Something the pod mounts has changed or the pod is gone: forget its logs and state on disk.
    fn forget_pod(&self, pod_uid: &str);
}

/// A pod's place in the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodNetwork {
    /// UID of the pod.
    pub uid: String,
    /// Realm it belongs to.
    pub realm: ClusterName,
    /// metadata.namespace, for the DNS search list.
    pub namespace: String,
    /// Its IP.
    pub ip: Ipv4Addr,
    /// Its hostname.
    pub hostname: String,
    /// Names from hostAliases as (address, name).
    pub aliases: Vec<(String, String)>,
    /// hostPorts as (host port, container port, is UDP).
    pub host_ports: Vec<(u16, u16, bool)>,
    /// Bytes that all of its containers may have together, with what the host holds for them; `None`: one of them
    /// has no limit.
    pub memory_limit: Option<u64>,
}

/// The pod network (spoke-net).
pub trait Network: Send + Sync {
    /// Makes the pod's network, before its first container.
    fn add_pod(&self, pod: PodNetwork);
    /// Takes it away, after its last container.
    fn remove_pod(&self, uid: &str);
    /// Replaces or removes one Service of a realm (`None`: gone). Existing connections stay.
    fn set_service(
        &self,
        realm: &ClusterName,
        namespace: &str,
        name: &str,
        service: Option<ServiceV1>,
    );
    /// The device's own address, for NodePorts and hostPorts, and the cluster's DNS domain.
    fn set_node(&self, address: IpAddr, domain: &str);
}

/// Compiled modules (spoke-modules).
pub trait Modules: Send + Sync {
    /// Makes sure that the artifact of this component is on disk and verified. Answers with the path when it
    /// is; else fetches it and [`Input::Module`] follows.
    fn want(&self, component: Digest) -> Option<PathBuf>;
    /// Everything that the plan still needs; the rest may be dropped.
    fn keep(&self, components: &[Digest]);
    /// The disk is short of room: what no pod needs goes now.
    fn make_room(&self);
}

/// What arrives in the agent's one queue.
#[expect(clippy::large_enum_variant, reason = "one lives at a time, on its way into the agent")]
#[derive(Clone, Debug)]
pub enum Input {
    /// A part of a plan from the hub; durable in the ledger before it is acknowledged.
    Plan(PlanPart),
    /// A container runs.
    Started(ContainerId),
    /// A container ended.
    Exited(ContainerId, Exit),
    /// An instance of an HTTP container was refused memory and ended, with its request; so many so far. Its container
    /// goes on.
    InstanceOutOfMemory(ContainerId, u64),
    /// What a look at a container's health has come to.
    Probed(ContainerId, ProbeKindV1, Probed),
    /// A module is there, or why it cannot be: (component, path or (reason, message)).
    Module(Digest, Result<PathBuf, (String, String)>),
    /// The session with the hub that has this number is up (after the greeting), or none is.
    Connected(Option<u64>),
    /// The hub has taken reports up to here; also said before each [`Input::Connected`] of a new session.
    ReportsTaken(ReportStamp),
    /// The hub cannot keep this report; said before [`Input::ReportsTaken`] of one that is as new.
    ReportRefused(ReportStamp, RefusalV1),
    /// A port of the node cannot be opened, or can again.
    NodePort(NodePortNews),
    /// Something about the device changed.
    Node(NodeStatusV1),
    /// What the device has left.
    Signals(Observed),
    /// Stop all containers gracefully? No: stop the agent and leave the ledger as it is.
    Shutdown,
}

/// What has become of a hostPort or NodePort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePortNews {
    /// `pod/<uid>`, or what else wants it, in words.
    pub owner: String,
    /// Its number.
    pub port: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Why it cannot be opened.
    pub error: Option<String>,
}

/// A plan delta, whole: the link has put its frames together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanPart {
    /// What it builds on; ignored when `snapshot`.
    pub base: Generation,
    /// What holds after it.
    pub to: Generation,
    /// Replaces everything instead of adding to `base`.
    pub snapshot: bool,
    /// Records to put.
    pub put: Vec<Record>,
    /// Records to remove.
    pub remove: Vec<RecordKey>,
}

/// Where reports go (the link's session). Never blocks: an uplink without a session drops them, and the
/// agent sends everything that is not yet taken after the next [`Input::Connected`]. The state of the device it keeps,
/// and greets with it.
pub trait Uplink: Send + Sync {
    /// Sends one report over the session with this number, while that is up.
    fn report(&self, session: u64, stamp: ReportStamp, report: Report);
    /// The plan of this generation is durable, and what the set looks like now.
    fn took(&self, generation: Generation, digest: freewheel_link::digest::SetDigest);
    /// The plan of this generation runs, and the disk does not take it.
    fn runs(&self, generation: Generation, digest: freewheel_link::digest::SetDigest);
    /// What a greeting says of the device from now on, with a session or without one.
    fn device(&self, status: &freewheel_link::report::NodeStatusV1);
}

/// The ledger's file, as a trait so that a simulation can lose and tear writes.
pub trait Disk: Send + Sync {
    /// The whole file, empty when there is none.
    fn read(&self) -> io::Result<Vec<u8>>;
    /// Adds to the end.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// What was appended survives a power cut after this returns.
    fn sync(&self) -> io::Result<()>;
    /// Replaces the whole file atomically and durably (compaction).
    fn replace(&self, bytes: &[u8]) -> io::Result<()>;
    /// Whether the file is still where the next start looks for it, on a disk that is not read-only.
    fn is_kept(&self) -> bool;
    /// Keeps the file as it is under another name beside it, in place of one that was kept before.
    fn keep_aside(&self) -> io::Result<()>;
    /// A number that nobody can guess.
    fn salt(&self) -> u32;
}

/// All ports together.
#[derive(Clone)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Containers.
    pub containers: Arc<dyn Containers>,
    /// Pod network.
    pub network: Arc<dyn Network>,
    /// Modules.
    pub modules: Arc<dyn Modules>,
    /// Ledger file.
    pub disk: Arc<dyn Disk>,
    /// The hub.
    pub uplink: Arc<dyn Uplink>,
}
