//! Records of a plan: what a spoke is to run, translated by the hub from Kubernetes objects.
//!
//! postcard writes neither names nor lengths, so one added field breaks a peer of another build. Until 0.1.0 is
//! released structs change in place; from then on every one here is frozen: what a pod says beyond its core is a part
//! ([`crate::part`]), and any other change a new [`Kind`] with a new body; tests keep the bytes.
//! The ledger keeps a record's bytes as they came.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::names::ClusterName;
use crate::part::{InPart, Parts};

/// What a record's body is. The number is on the wire and in the ledger: never reuse one.
///
/// An agent that does not know a kind knows what its records need, and keeps pods from running without it: those of one
/// namespace where the key is `namespace/…`, else all of the realm. What protects more than a namespace has no such key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Kind(pub u16);

impl Kind {
    /// Body: [`PodV1`]; key: the pod's UID.
    pub const POD_V1: Self = Self(1);
    /// Body: [`ConfigV1`] of a ConfigMap; key: `namespace/name`.
    pub const CONFIG_MAP_V1: Self = Self(2);
    /// Body: [`ConfigV1`] of a Secret; key: `namespace/name`.
    pub const SECRET_V1: Self = Self(3);
    /// Body: [`ServiceV1`]; key: `namespace/name`.
    pub const SERVICE_V1: Self = Self(4);
    /// Body: [`PodCidrV1`]; key: the CIDR as text.
    pub const POD_CIDR_V1: Self = Self(5);
    /// Body: [`NodeV1`]; key: `node`.
    pub const NODE_V1: Self = Self(6);
    /// Body: [`ConfigV1`] of the tokens that a pod has of its service account, by [`TokenKey`]s; key: `namespace/UID`
    /// of the pod.
    pub const POD_TOKENS_V1: Self = Self(7);
}

/// Where a record lives in the set. Ordered, so that sets are written in one order everywhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordKey {
    /// The logical cluster that the thing belongs to.
    pub realm: ClusterName,
    /// What the body is.
    pub kind: Kind,
    /// Unique within realm and kind.
    pub key: String,
}

/// One record: an addressed body with the store revision it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its place in the set.
    pub key: RecordKey,
    /// Store revision of the newest object it was made from.
    pub revision: u64,
    /// Bits of [`feature`] that a spoke must have to honour it.
    pub needs: u64,
    /// The body, postcard of the struct that `key.kind` names.
    #[serde(with = "serde_bytes_compat")]
    pub body: Vec<u8>,
}

/// Bits of [`Record::needs`] and of what a spoke says that it can do.
pub mod feature {
    /// `wasi:cli/run` components.
    pub const COMMAND: u64 = 1;
    /// `wasi:http/incoming-handler` components.
    pub const HTTP: u64 = 1 << 1;
    /// Init containers, sidecars, shared emptyDir.
    pub const SIDECARS: u64 = 1 << 2;
}

/// A pod bound to this spoke, with all that its containers need but configuration data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodV1 {
    /// metadata.uid
    pub uid: String,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// spec.nodeName, as guests see it in the downward API.
    pub node: String,
    /// metadata.labels, sorted.
    pub labels: Vec<(String, String)>,
    /// metadata.annotations, sorted.
    pub annotations: Vec<(String, String)>,
    /// spec.serviceAccountName
    pub service_account: String,
    /// spec.hostname, else the pod's name.
    pub hostname: String,
    /// spec.subdomain, else empty.
    pub subdomain: String,
    /// spec.restartPolicy
    pub restart: RestartPolicy,
    /// spec.priority, as the hub resolved spec.priorityClassName: who is evicted later.
    pub priority: i32,
    /// spec.terminationGracePeriodSeconds
    pub grace_seconds: u32,
    /// spec.activeDeadlineSeconds
    pub deadline_seconds: Option<u32>,
    /// Set once deletion was asked for: the grace period in force, in seconds.
    pub deleting: Option<u32>,
    /// spec.enableServiceLinks
    pub service_links: bool,
    /// spec.hostAliases as (address, name).
    pub host_aliases: Vec<(String, String)>,
    /// spec.initContainers in order; a restartable one is a sidecar.
    pub init: Vec<ContainerV1>,
    /// spec.containers
    pub containers: Vec<ContainerV1>,
    /// spec.volumes
    pub volumes: Vec<VolumeV1>,
    /// What else it says: [`PodStorageV1`], [`PodEndedV1`], [`PodOsV1`],
    /// [`ContainersEndedV1`](crate::ended::ContainersEndedV1), [`PodProbesV1`](crate::probes::PodProbesV1).
    pub parts: Parts,
}

/// The beginning of a [`PodV1`], for an agent that cannot read the rest of it: whether the pod is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodHeadV1 {
    /// metadata.uid
    pub uid: String,
    names: [String; 3],
    lists: [Vec<(String, String)>; 2],
    more_names: [String; 3],
    restart: RestartPolicy,
    priority: i32,
    grace_seconds: u32,
    deadline_seconds: Option<u32>,
    /// Set once deletion was asked for: the grace period in force, in seconds.
    pub deleting: Option<u32>,
}

/// What the containers of a pod ask for and may have of the spoke's disk; a part of few pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStorageV1 {
    /// Those that say something about it, init containers first.
    pub containers: Vec<StorageV1>,
}

impl InPart for PodStorageV1 {
    const KIND: u16 = 1;
}

/// One container's share of the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageV1 {
    /// name
    pub container: String,
    /// resources.limits.ephemeral-storage in bytes.
    pub limit: Option<u64>,
    /// resources.requests.ephemeral-storage in bytes, for the downward API.
    pub request: Option<u64>,
}

/// How a pod has ended for good; a part of those that have. Who does not have such a pod starts nothing of it, and who still
/// runs it stops it: a pod ends once, whatever became of the ledger that knew it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEndedV1 {
    /// status.phase is `Failed`, else `Succeeded`.
    pub failed: bool,
    /// status.reason, else empty.
    pub reason: String,
    /// status.message, else empty.
    pub message: String,
}

impl InPart for PodEndedV1 {
    const KIND: u16 = 2;
}

/// spec.os; a part of pods that are for another system than [`OWN_SYSTEM`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodOsV1 {
    /// name
    pub name: String,
}

impl InPart for PodOsV1 {
    const KIND: u16 = 5;
}

/// The system that every Node says it has.
pub const OWN_SYSTEM: &str = "linux";

/// spec.restartPolicy
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartPolicy {
    /// Restart after any end.
    Always,
    /// Restart after a failure.
    OnFailure,
    /// Never restart.
    Never,
}

/// One container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerV1 {
    /// name
    pub name: String,
    /// image, as the user wrote it.
    pub image: String,
    /// What the hub found behind `image`.
    pub module: ModuleV1,
    /// command then args; the first is the name it runs under. Empty: the image's name.
    pub args: Vec<String>,
    /// envFrom, in order, before `env`.
    pub env_from: Vec<EnvFromV1>,
    /// env in order; later ones win and may use `$(NAME)` of earlier ones.
    pub env: Vec<EnvV1>,
    /// ports
    pub ports: Vec<ContainerPortV1>,
    /// volumeMounts
    pub mounts: Vec<MountV1>,
    /// resources.limits.memory in bytes.
    pub memory_limit: Option<u64>,
    /// resources.limits.cpu in thousandths of a core.
    pub cpu_limit_milli: Option<u32>,
    /// resources.requests as (memory bytes, CPU in thousandths of a core), for the downward API.
    pub requests: (Option<u64>, Option<u32>),
    /// Init containers only: restartPolicy Always, a sidecar.
    pub sidecar: bool,
    /// workingDir, else empty.
    pub working_dir: String,
    /// How it serves HTTP, if its component does.
    pub http: HttpV1,
}

/// How a container serves HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpV1 {
    /// Requests that one instance serves before it is dropped. `None`: as often as the module itself allows, which is
    /// once unless it says more.
    pub reuse: Option<u16>,
    /// Instances at a time, each with one request.
    pub concurrency: u16,
    /// Seconds that a request has until its answer begins.
    pub timeout_seconds: u32,
}

impl Default for HttpV1 {
    fn default() -> Self {
        Self { reuse: None, concurrency: 64, timeout_seconds: 60 }
    }
}

/// What stands behind an image reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ModuleV1 {
    /// The component's digest: ask the hub for its compiled form by this.
    Component(Digest),
    /// There is none: (reason such as `ErrImagePull`, message for the user).
    Missing(String, String),
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvV1 {
    /// name
    pub name: String,
    /// Where the value comes from.
    pub source: EnvSourceV1,
}

/// Source of one environment variable's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnvSourceV1 {
    /// value
    Value(String),
    /// configMapKeyRef / secretKeyRef
    Key {
        /// [`Kind::CONFIG_MAP_V1`] or [`Kind::SECRET_V1`].
        kind: Kind,
        /// Object's name in the pod's namespace.
        name: String,
        /// Key within it.
        key: String,
        /// Absent is fine.
        optional: bool,
    },
    /// fieldRef.fieldPath, for example `status.podIP`.
    Field(String),
    /// resourceFieldRef as (container or empty, resource, divisor as text).
    Resource(String, String, String),
}

/// One envFrom entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvFromV1 {
    /// [`Kind::CONFIG_MAP_V1`] or [`Kind::SECRET_V1`].
    pub kind: Kind,
    /// Object's name in the pod's namespace.
    pub name: String,
    /// Put before each key.
    pub prefix: String,
    /// Absent is fine.
    pub optional: bool,
}

/// One container port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerPortV1 {
    /// name, else empty.
    pub name: String,
    /// containerPort
    pub port: u16,
    /// protocol
    pub protocol: Protocol,
    /// hostPort
    pub host_port: Option<u16>,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

/// One volumeMount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountV1 {
    /// Name of the volume.
    pub volume: String,
    /// mountPath
    pub path: String,
    /// subPath, else empty.
    pub sub_path: String,
    /// readOnly
    pub read_only: bool,
}

/// One volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeV1 {
    /// name
    pub name: String,
    /// What it holds.
    pub source: VolumeSourceV1,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VolumeSourceV1 {
    /// emptyDir, with sizeLimit in bytes.
    EmptyDir(Option<u64>),
    /// configMap or secret.
    Config(ProjectedV1),
    /// projected: several in one directory.
    Projected(Vec<ProjectionV1>),
    /// downwardAPI.
    Downward(DownwardV1),
}

/// One source of a projected volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProjectionV1 {
    /// configMap or secret.
    Config(ProjectedV1),
    /// downwardAPI.
    Downward(DownwardV1),
}

/// One ConfigMap's or Secret's files, or tokens of the pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProjectedV1 {
    /// [`Kind::CONFIG_MAP_V1`], [`Kind::SECRET_V1`] or [`Kind::POD_TOKENS_V1`].
    pub kind: Kind,
    /// Object's name in the pod's namespace; of tokens the pod's UID.
    pub name: String,
    /// items as (key, path, mode); empty: every key under its own name.
    pub items: Vec<(String, String, Option<u32>)>,
    /// defaultMode
    pub mode: u32,
    /// Absent is fine.
    pub optional: bool,
}

/// Files that show what the pod itself is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownwardV1 {
    /// items
    pub files: Vec<DownwardFileV1>,
    /// defaultMode
    pub mode: u32,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DownwardFileV1 {
    /// path
    pub path: String,
    /// What it shows.
    pub source: DownwardSourceV1,
    /// mode
    pub mode: Option<u32>,
}

/// What a file of the downward API shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DownwardSourceV1 {
    /// fieldRef.fieldPath, for example `metadata.labels`.
    Field(String),
    /// resourceFieldRef as (container, resource, divisor as text).
    Resource(String, String, String),
}

/// Data of a ConfigMap or Secret, or the tokens of a pod.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigV1 {
    /// Keys and decoded values, sorted by key.
    pub data: Vec<(String, Vec<u8>)>,
}

/// Values are nobody's to read in a log.
impl std::fmt::Debug for ConfigV1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.data.iter().map(|(key, value)| (key, value.len()))).finish()
    }
}

/// By which key a token lies among those of its pod: what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// How long it is good for.
    pub seconds: u64,
    /// For whom; empty: for the API of its cluster.
    pub audience: String,
}

impl std::fmt::Display for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.seconds, self.audience)
    }
}

impl TokenKey {
    /// Out of its text.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (seconds, audience) = text.split_once('/')?;
        Some(Self { seconds: seconds.parse().ok()?, audience: audience.to_owned() })
    }
}

/// A Service that pods of its realm may reach, with the endpoints of the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceV1 {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// spec.clusterIP; `None`: headless or ExternalName.
    pub cluster_ip: Option<IpAddr>,
    /// spec.externalName, for type ExternalName.
    pub external_name: Option<String>,
    /// spec.ports
    pub ports: Vec<ServicePortV1>,
    /// Addresses behind it.
    pub endpoints: Vec<EndpointV1>,
    /// sessionAffinity ClientIP: how long it sticks, in seconds.
    pub affinity_seconds: Option<u32>,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePortV1 {
    /// name, else empty.
    pub name: String,
    /// protocol
    pub protocol: Protocol,
    /// port
    pub port: u16,
    /// nodePort: the spoke listens for it on the node's own address.
    pub node_port: Option<u16>,
}

/// One address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointV1 {
    /// The pod's IP.
    pub ip: IpAddr,
    /// The node that runs it.
    pub node: String,
    /// The pod's hostname within a headless Service, else empty.
    pub hostname: String,
    /// Takes new connections.
    pub ready: bool,
    /// Target port for each of [`ServiceV1::ports`], in that order; 0: none.
    pub ports: Vec<u16>,
}

/// A range of pod IPs leased to this spoke in a realm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodCidrV1 {
    /// First address of the range.
    pub base: IpAddr,
    /// Prefix length, 24 by default.
    pub prefix: u8,
}

/// What a spoke should know of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeV1 {
    /// Name of its Node object.
    pub name: String,
    /// The cluster's DNS domain.
    pub domain: String,
    /// Seconds between heartbeats.
    pub heartbeat_seconds: u16,
}

/// `Vec<u8>` is a sequence of numbers to serde; postcard writes the same bytes either way, so the
/// plain form is kept and only made faster.
mod serde_bytes_compat {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        Vec::<u8>::deserialize(d)
    }
}

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
#[error("record {kind:?} {key} cannot be read")]
pub struct BadBody {
    /// The record's kind.
    pub kind: Kind,
    /// The record's key.
    pub key: String,
    /// The decoder's complaint.
    #[source]
    pub source: postcard::Error,
}

impl Record {
    /// Makes a record around a body.
    ///
    /// # Errors
    /// When the body cannot be encoded, which none of the bodies above can cause.
    pub fn new<B: Serialize>(
        key: RecordKey,
        revision: u64,
        needs: u64,
        body: &B,
    ) -> Result<Self, BadBody> {
        match postcard::to_stdvec(body) {
            Ok(body) => Ok(Self { key, revision, needs, body }),
            Err(source) => Err(BadBody { kind: key.kind, key: key.key, source }),
        }
    }

    /// Reads the body as what its kind says.
    ///
    /// # Errors
    /// When the bytes are no `B`, or too few, or too many.
    pub fn body<'a, B: Deserialize<'a>>(&'a self) -> Result<B, BadBody> {
        let bad = |source| BadBody { kind: self.key.kind, key: self.key.key.clone(), source };
        let (body, rest) = postcard::take_from_bytes(&self.body).map_err(bad)?;
        if rest.is_empty() { Ok(body) } else { Err(bad(postcard::Error::DeserializeBadEncoding)) }
    }

    /// Reads the beginning of a body that as a whole may be no such thing.
    #[must_use]
    pub fn head<'a, B: Deserialize<'a>>(&'a self) -> Option<B> {
        postcard::take_from_bytes(&self.body).ok().map(|(head, _)| head)
    }
}
