//! What hub and spoke say to each other, and how streams begin.
//!
//! ```text
//! spoke ──Open::Session──▶ hub      one stream for the whole session: SpokeToHub / HubToSpoke
//! spoke ──Open::Module───▶ hub      Answer, ModuleHeaderV1, then raw bytes from the offset
//! spoke ──Open::Tunnel───▶ hub ──Open::Tunnel──▶ spoke      Answer, then raw bytes both ways
//! hub ────Open::Logs─────▶ spoke    Answer, then the log's raw bytes
//! hub ────Open::Figures──▶ spoke    Answer, then figures in frames until the end
//! hub ────Open::PortForward▶ spoke  Answer, then raw bytes both ways
//! hub ────Open::Exec─────▶ spoke    Answer, then ExecInput and ExecOutput in frames, to Ended
//! heartbeat: SpokeToHub::Heartbeat as a datagram; the next one says the same, so one may be lost
//! pods' UDP: Datagram as a datagram, spoke ──▶ hub ──▶ spoke; never on a stream. What came in through a
//!            node's port is from [`SNAT_ADDRESS`]; the hub puts that node's address in the realm there, and back
//! ```
//!
//! A variant's position is its number on the wire: add at the end, never remove. Structs are frozen. A message that is not
//! known ends nothing: it is skipped, and on the session's stream, in a datagram and among figures counted. An opener, an
//! answer and a module's header must be known.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::artifact::Envelope;
use crate::digest::{Digest, SetDigest};
use crate::generation::Generation;
use crate::names::ClusterName;
use crate::part::{self, Parts};
use crate::plan::{Record, RecordKey};
use crate::report::{NodeStatusV1, Report, ReportStamp, UnixMillis};

/// Versions of the session protocol that this side speaks.
pub const PROTOCOLS: Protocols = Protocols { least: 1, most: 1 };
/// Bits of [`ability`] that this side has.
pub const ABILITIES: u64 = ability::TUNNELS
    | ability::DATAGRAMS
    | ability::LOGS
    | ability::FIGURES
    | ability::PORT_FORWARD
    | ability::EXEC;
/// ALPN of sessions: a client certificate is required.
pub const ALPN_SESSION: &[u8] = b"freewheel/1";
/// ALPN of joining: no client certificate, a token instead.
pub const ALPN_JOIN: &[u8] = b"freewheel-join/1";
/// Reason of a refusal of a module that is being compiled, where no more streams may wait for it: it is asked for again.
pub const COMPILING_REASON: &str = "Compiling";
/// Seconds between heartbeats when the hub says nothing else.
pub const HEARTBEAT_SECONDS: u16 = 10;
/// A node's own address in each of its realms, for datagrams that come in through its ports: link-local, so
/// that it can be no pod's. Every node has the same one, so only the hub knows whose it is: on the way to
/// other nodes it stands for the sender's node, and in what comes from the hub for the receiver's.
pub const SNAT_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 64, 1);

/// All pod addresses of every realm: 10.64.0.0/10.
#[must_use]
pub const fn is_pod_address(ip: Ipv4Addr) -> bool {
    ip.octets()[0] == 10 && ip.octets()[1] & 0xc0 == 64
}

/// What a side can do beside the session itself, told in the greeting. Neither asks the other for what it
/// lacks; what a record needs of its spoke is [`crate::plan::feature`].
pub mod ability {
    /// Carries connections between pods.
    pub const TUNNELS: u64 = 1;
    /// Carries pods' datagrams.
    pub const DATAGRAMS: u64 = 1 << 1;
    /// Reads logs from a spoke.
    pub const LOGS: u64 = 1 << 2;
    /// Reads what a spoke counts.
    pub const FIGURES: u64 = 1 << 3;
    /// Connects the hub's clients to ports of a spoke's pods.
    pub const PORT_FORWARD: u64 = 1 << 4;
    /// Runs commands in a spoke's containers.
    pub const EXEC: u64 = 1 << 5;
}

/// A range of protocol versions. Frozen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocols {
    /// The oldest.
    pub least: u16,
    /// The newest.
    pub most: u16,
}

impl std::fmt::Display for Protocols {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.least == self.most {
            write!(f, "version {}", self.most)
        } else {
            write!(f, "versions {} to {}", self.least, self.most)
        }
    }
}

impl Protocols {
    /// The newest version that both speak.
    #[must_use]
    pub fn common(self, other: Self) -> Option<u16> {
        let newest = self.most.min(other.most);
        (self.least.max(other.least) <= newest).then_some(newest)
    }

    /// Whether this version is among them.
    #[must_use]
    pub const fn has(self, version: u16) -> bool {
        self.least <= version && version <= self.most
    }
}

/// Spoke to hub, on the session's stream; `Heartbeat` also, `Datagram` only as a datagram.
#[expect(
    clippy::large_enum_variant,
    reason = "one message lives at a time, on its way to a stream"
)]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpokeToHub {
    /// The first message.
    Hello(Box<HelloV1>),
    /// Alive, with what it holds.
    Heartbeat {
        /// Generation that is durable.
        generation: Generation,
        /// Fingerprint of its records.
        digest: SetDigest,
    },
    /// A plan is durable.
    Took {
        /// Which.
        generation: Generation,
        /// Fingerprint of all records that it comes to.
        digest: SetDigest,
    },
    /// News.
    Report {
        /// Its place in order.
        stamp: ReportStamp,
        /// What it says.
        report: Report,
    },
    /// The agent stops; pods may go on.
    Goodbye(Reason),
    /// The last plan part does not fit what is held: send everything.
    Resync {
        /// What is held.
        generation: Generation,
    },
    /// A pod's, for a pod on another spoke. Only as a datagram.
    Datagram(DatagramV1),
    /// A plan runs, and the disk does not take it: the next one may build on it, and nothing is acknowledged.
    Runs {
        /// Which.
        generation: Generation,
        /// Fingerprint of all records that it comes to.
        digest: SetDigest,
    },
}

/// How a spoke greets. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloV1 {
    /// [`PROTOCOLS`] of the spoke.
    pub protocols: Protocols,
    /// [`ABILITIES`] of the spoke.
    pub abilities: u64,
    /// Who it says it is; its certificate must say the same.
    pub cluster: ClusterName,
    /// Counts the agent's starts.
    pub boot_epoch: u64,
    /// Drawn anew at each start of the agent: two processes with one identity are told apart by it.
    pub instance: u64,
    /// Generation that is durable.
    pub held: Generation,
    /// Fingerprint of its records.
    pub digest: SetDigest,
    /// The device, with profile and features.
    pub node: NodeStatusV1,
    /// What else there is to say; no kind is known yet.
    pub parts: Parts,
}

/// Hub to spoke, on the session's stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HubToSpoke {
    /// The answer to Hello.
    Welcome(WelcomeV1),
    /// A part of a plan.
    Plan(PlanV1),
    /// Reports up to here are durable, but for those that were refused.
    ReportsTaken(ReportStamp),
    /// The hub closes the session.
    Goodbye(Reason),
    /// From a pod on another spoke. Only as a datagram.
    Datagram(DatagramV1),
    /// This report cannot be kept, and would not be if it came again now. It is said before
    /// [`HubToSpoke::ReportsTaken`] of one that is as new, which does not count for it.
    ReportRefused(ReportStamp, RefusalV1),
    /// The hub's wall clock, which somebody has set since it was told last. As a datagram it is there to be acknowledged,
    /// and says nothing.
    Now(UnixMillis),
    /// For the people of the device, who read its log.
    Notice(String),
}

/// The hub's greeting. Frozen bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WelcomeV1 {
    /// The version that is spoken from here on: the newest that both know.
    pub protocol: u16,
    /// [`ABILITIES`] of the hub.
    pub abilities: u64,
    /// Life of the hub's store.
    pub incarnation: u64,
    /// Counts this spoke's sessions: the highest one is the only one in force.
    pub epoch: u64,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u16,
    /// The hub's wall clock, for devices without one.
    pub now: UnixMillis,
    /// The newest report of this very process that is durable at the hub, as all before it: it repeats none of
    /// them. [`ReportStamp::default`]: none is known to be.
    pub durable_reports: ReportStamp,
}

/// A part of a plan: several make one delta or one snapshot, and a record that is larger than a part goes
/// through several. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanV1 {
    /// What it builds on.
    pub base: Generation,
    /// What holds after the last part.
    pub to: Generation,
    /// Replaces everything instead of adding to `base`.
    pub snapshot: bool,
    /// Counts the plan's parts. The first one, 0, takes the place of a plan that was never finished.
    pub part: u32,
    /// More parts of the same follow; nothing holds before the last one.
    pub more: bool,
    /// The body of the last record in `put` goes on in the next part, whose first record has the same key.
    pub cut: bool,
    /// Records to put.
    pub put: Vec<Record>,
    /// Records to remove.
    pub remove: Vec<RecordKey>,
}

/// Why a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reason {
    /// The process stops; come back soon.
    #[error("the peer is stopping")]
    Stopping,
    /// A newer session of the same spoke is in force.
    #[error("a newer session of this spoke is in force")]
    Superseded,
    /// The hub's owner has not accepted this cluster, or has taken it back.
    #[error("the hub does not accept this cluster (spec.hubAcceptsClient is false)")]
    NotAccepted,
    /// There is no such cluster (any more).
    #[error("the hub has no such cluster; it must join again")]
    Unknown,
    /// The certificate speaks for another cluster.
    #[error("the certificate belongs to cluster {0:?}")]
    NotYou(String),
    /// No protocol version is spoken by both; with those of the side that says so.
    #[error("no protocol version is spoken by both: who ends this speaks {0}")]
    Protocol(Protocols),
    /// The peer said something that makes no sense at this point.
    #[error("protocol violation: {0}")]
    Violation(String),
    /// The peer was silent for too long.
    #[error("nothing was heard for too long")]
    Silent,
    /// The certificate was given for another ManagedCluster or another key than the name has now.
    #[error(
        "this name belongs to another device now, or its ManagedCluster was deleted and made anew; this \
         device must join again, with a new token"
    )]
    Replaced,
    /// Two processes use one identity at the same time.
    #[error(
        "another device is in session with the same identity: a copy of this device's data directory runs \
         somewhere else"
    )]
    Cloned,
    /// The certificate's time is over, by the hub's clock.
    #[error("this device's certificate has expired")]
    Expired,
    /// The hub's owner has decommissioned the device with this key: it wipes what it holds, says so by this order's id
    /// where devices join, and stops for good.
    #[error(
        "this device is decommissioned by order {0} of its hub: it wipes all that it holds, and stops"
    )]
    Decommissioned(String),
    /// The device takes the place of another one: it is this cluster from now on, and gets its certificate where devices
    /// join, by the one that it has.
    #[error("this device takes the place of {0}")]
    Renamed(String),
}

/// The first frame of every stream: what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// The session itself; by the spoke, first and once.
    Session,
    /// A container's log; by the hub.
    Logs(LogsV1),
    /// A compiled module; by the spoke.
    Module(ModuleRequestV1),
    /// A connection between pods of one realm on different spokes; by either side.
    Tunnel(TunnelV1),
    /// A new certificate for the key of this session; by the spoke. [`RenewedV1`] follows the answer.
    Renew(RenewV1),
    /// What the spoke counts; by the hub. [`Figures`](crate::figures::Figures) follow the answer, in frames.
    Figures,
    /// A connection to a port of a pod, as from inside of it; by the hub.
    PortForward(PortForwardV1),
    /// A command in a container; by the hub.
    Exec(ExecV1),
}

impl Open {
    /// The [`ability`] of the other side without which it is not asked for.
    #[must_use]
    pub const fn ability(&self) -> u64 {
        match self {
            Self::Logs(_) => ability::LOGS,
            Self::Tunnel(_) => ability::TUNNELS,
            Self::Figures => ability::FIGURES,
            Self::PortForward(_) => ability::PORT_FORWARD,
            Self::Exec(_) => ability::EXEC,
            Self::Session | Self::Module(_) | Self::Renew(_) => 0,
        }
    }
}

/// A request for a new certificate. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewV1 {
    /// Certificate signing request, DER, with the key that the session was proven with.
    pub csr: Vec<u8>,
}

/// A new certificate. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewedV1 {
    /// DER.
    pub certificate: Vec<u8>,
}

/// What log to send. Frozen bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogsV1 {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// Keep the stream open.
    pub follow: bool,
    /// The instance before the current one.
    pub previous: bool,
    /// Put an RFC 3339 time with nanoseconds before each line.
    pub timestamps: bool,
    /// Only what is newer than this many seconds.
    pub since_seconds: Option<u64>,
    /// Only what is newer than this moment.
    pub since: Option<UnixMillis>,
    /// At most this many lines from the end.
    pub tail_lines: Option<u64>,
    /// At most this many bytes.
    pub limit_bytes: Option<u64>,
}

/// Which port to connect to. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortForwardV1 {
    /// UID of the pod.
    pub pod_uid: String,
    /// What it listens on.
    pub port: u16,
}

/// What command to run. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecV1 {
    /// UID of the pod.
    pub pod_uid: String,
    /// Name of the container.
    pub container: String,
    /// All of argv.
    pub command: Vec<String>,
    /// It has input.
    pub stdin: bool,
    /// Somebody sits at a terminal.
    pub tty: bool,
}

/// To a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecInput {
    /// More of its input.
    Stdin(Bytes),
    /// Its input has ended.
    End,
    /// The terminal is as large now.
    Resize {
        /// Characters of a line.
        columns: u16,
        /// Lines.
        rows: u16,
    },
}

/// From a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecOutput {
    /// More of its standard output.
    Stdout(Bytes),
    /// More of its standard error.
    Stderr(Bytes),
    /// It has ended: the last message.
    Ended(ExecEndedV1),
}

/// How a command has ended. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEndedV1 {
    /// As of a container.
    pub code: i32,
    /// For people, when it did not end by itself.
    pub message: String,
}

/// Bytes of all words of a command.
pub const COMMAND_BYTES_MAX: usize = 32 << 10;
/// Words of a command.
pub const COMMAND_WORDS_MAX: usize = 1024;

/// What module to send. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRequestV1 {
    /// The component.
    pub component: Digest,
    /// Engine profile to compile for.
    pub profile: String,
    /// Where to go on in the compressed bytes, with `resume`: what they must belong to.
    pub offset: u64,
    /// Artifact that the bytes before `offset` belong to; another one starts at 0 again.
    pub resume: Option<Digest>,
}

/// What comes before a module's bytes. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleHeaderV1 {
    /// To verify it by.
    pub envelope: Envelope,
    /// Size of all compressed bytes.
    pub compressed: u64,
    /// Where the bytes that follow begin.
    pub offset: u64,
}

/// Which pods to connect. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelV1 {
    /// Realm of both.
    pub realm: ClusterName,
    /// Who connects.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
}

/// A UDP datagram between pods of one realm on different spokes; a node's port may be one end ([`SNAT_ADDRESS`]).
/// Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatagramV1 {
    /// Realm of both.
    pub realm: ClusterName,
    /// Who sends.
    pub from: SocketAddr,
    /// To whom.
    pub to: SocketAddr,
    /// Its payload, as much of it as fits into one packet of the link.
    pub payload: Bytes,
}

/// How the other side takes an [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// What was asked for follows.
    Ready,
    /// It does not.
    Refused(RefusalV1),
}

/// Why a stream or a report was refused. Frozen bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RefusalV1 {
    /// In Kubernetes' words: `NotFound`, `BadRequest`, `ErrImagePull`, …
    pub reason: String,
    /// For people.
    pub message: String,
}

impl RefusalV1 {
    /// A refusal from its parts, with a message of bounded length.
    #[must_use]
    pub fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: bounded(reason.to_owned(), 64), message: bounded(message.into(), 1024) }
    }
}

impl LogsV1 {
    /// Whether its texts are of a size that names have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.pod_uid.len() <= 128 && self.container.len() <= 253
    }
}

impl ExecV1 {
    /// Whether its texts are of a size that names and commands have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let bytes: usize = self.command.iter().map(String::len).sum();
        self.pod_uid.len() <= 128
            && self.container.len() <= 253
            && !self.command.is_empty()
            && self.command.len() <= COMMAND_WORDS_MAX
            && bytes <= COMMAND_BYTES_MAX
    }
}

impl PortForwardV1 {
    /// Whether its UID is of a size that UIDs have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.pod_uid.len() <= 128
    }
}

impl ModuleRequestV1 {
    /// Whether the profile is of a size that profiles have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.profile.len() <= 256
    }
}

/// Cuts text that goes on the wire to a length, at a character. What is cut off is given back.
#[must_use]
pub fn bounded(mut text: String, most: usize) -> String {
    if most < text.len() {
        let cut = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.shrink_to_fit();
    }
    text
}

impl NodeStatusV1 {
    /// Whether every text and list is of a size that a Node object may have.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        let texts = [
            &self.hostname,
            &self.architecture,
            &self.kernel,
            &self.os_image,
            &self.machine_id,
            &self.boot_id,
            &self.version,
            &self.profile,
        ];
        texts.iter().all(|text| text.len() <= 256)
            && self.labels.len() <= 64
            && self.labels.iter().all(|(key, value)| key.len() <= 317 && value.len() <= 63)
            && self.pressure.len() <= 8
            && self.pressure.iter().all(|text| text.len() <= 64)
            && self.parts.weight() <= part::PARTS_BYTES_MAX
    }
}
