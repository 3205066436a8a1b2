//! What a spoke tells back. Frozen like the records of a plan: what is told beyond that is a part, and any other
//! change a new variant at the end.
//!
//! Guarantees:
//! - a report of any size becomes one that the hub can keep, in what it says and in the room it takes
//!   (`what_a_spoke_says_is_cut_to_what_an_honest_one_may_say`).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::message::{RefusalV1, bounded};
use crate::names::ClusterName;
use crate::part::Parts;

/// Order of reports about one thing: the hub drops what is older than what it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportStamp {
    /// Counts the agent's starts; kept in the ledger.
    pub boot_epoch: u64,
    /// Counts reports within one epoch.
    pub sequence: u64,
}

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// State of a planned pod.
    Pod(PodStatusV1),
    /// The pod with this UID runs no more and its remains are gone: the hub may forget it.
    PodGone {
        /// Realm of the pod.
        realm: ClusterName,
        /// UID of the pod.
        uid: String,
    },
    /// State of the device.
    Node(NodeStatusV1),
    /// Something about a pod that a user should be able to read in `kubectl describe`.
    Event(EventV1),
    /// Something about the device itself that a user should be able to read in `kubectl describe node`.
    NodeEvent(NodeEventV1),
}

/// Milliseconds since 1970-01-01 UTC by the device's own clock, which nobody has to trust.
pub type UnixMillis = u64;

/// State of one pod, as the spoke owns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatusV1 {
    /// Realm of the pod.
    pub realm: ClusterName,
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// metadata.uid
    pub uid: String,
    /// status.phase
    pub phase: PhaseV1,
    /// status.podIP
    pub ip: Option<IpAddr>,
    /// status.startTime
    pub started: Option<UnixMillis>,
    /// status.reason, else empty.
    pub reason: String,
    /// status.message, else empty.
    pub message: String,
    /// Conditions that the spoke owns: Initialized, ContainersReady, Ready, PodReadyToStartContainers.
    pub conditions: Vec<ConditionV1>,
    /// status.initContainerStatuses
    pub init: Vec<ContainerStatusV1>,
    /// status.containerStatuses
    pub containers: Vec<ContainerStatusV1>,
    /// What else there is to say; no kind is known yet.
    pub parts: Parts,
}

/// status.phase
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PhaseV1 {
    /// Not all containers have started once.
    Pending,
    /// At least one runs or is being restarted.
    Running,
    /// All ended well and none will be restarted.
    Succeeded,
    /// All ended, at least one badly, and none will be restarted.
    Failed,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionV1 {
    /// type
    pub kind: String,
    /// status
    pub status: bool,
    /// lastTransitionTime
    pub since: UnixMillis,
    /// reason, else empty.
    pub reason: String,
    /// message, else empty.
    pub message: String,
}

/// State of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatusV1 {
    /// name
    pub name: String,
    /// ready
    pub ready: bool,
    /// started
    pub begun: bool,
    /// restartCount
    pub restarts: u32,
    /// image
    pub image: String,
    /// imageID, else empty.
    pub image_id: String,
    /// containerID, else empty.
    pub container_id: String,
    /// state
    pub state: ContainerStateV1,
    /// lastState, where it is Terminated.
    pub last: Option<TerminatedV1>,
    /// containerID of that, else empty.
    pub last_id: String,
}

/// state of a container
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerStateV1 {
    /// waiting: (reason, message)
    Waiting(String, String),
    /// running.startedAt
    Running(UnixMillis),
    /// terminated
    Terminated(TerminatedV1),
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminatedV1 {
    /// exitCode
    pub code: i32,
    /// signal, 0: none.
    pub signal: i32,
    /// reason: Completed, Error, OOMKilled, StartError, …
    pub reason: String,
    /// message, else empty.
    pub message: String,
    /// startedAt
    pub started: UnixMillis,
    /// finishedAt
    pub finished: UnixMillis,
}

/// State of the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatusV1 {
    /// The node's own address.
    pub address: IpAddr,
    /// metadata.name's machine name.
    pub hostname: String,
    /// nodeInfo.architecture in Go's words: amd64, arm64, arm.
    pub architecture: String,
    /// nodeInfo.kernelVersion
    pub kernel: String,
    /// nodeInfo.osImage
    pub os_image: String,
    /// nodeInfo.machineID
    pub machine_id: String,
    /// nodeInfo.bootID
    pub boot_id: String,
    /// Version of the agent.
    pub version: String,
    /// Engine profile that compiled modules must be made for.
    pub profile: String,
    /// Bits of [`crate::plan::feature`].
    pub features: u64,
    /// capacity: CPU in thousandths of a core.
    pub cpu_milli: u32,
    /// capacity: memory in bytes.
    pub memory: u64,
    /// capacity: ephemeral storage in bytes.
    pub storage: u64,
    /// capacity: pods.
    pub pods: u32,
    /// Labels given with `--labels`, sorted.
    pub labels: Vec<(String, String)>,
    /// Pressure conditions that hold now: `DiskPressure`, `MemoryPressure`, `PIDPressure`.
    pub pressure: Vec<String>,
    /// What else there is to say; no kind is known yet.
    pub parts: Parts,
}

/// An event about a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventV1 {
    /// Realm of the pod.
    pub realm: ClusterName,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The pod's UID.
    pub uid: String,
    /// involvedObject.fieldPath such as `spec.containers{web}`, else empty.
    pub field_path: String,
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// reason
    pub reason: String,
    /// message
    pub message: String,
    /// When it happened.
    pub at: UnixMillis,
}

/// An event about the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEventV1 {
    /// `Warning`, else `Normal`.
    pub warning: bool,
    /// reason
    pub reason: String,
    /// message
    pub message: String,
    /// When it happened.
    pub at: UnixMillis,
}

/// Longest text that people read, and longest name or reason, in bytes. kubelet cuts what a container leaves
/// behind at 4 KiB, and Kubernetes an event's message at 1 KiB.
const LONG_TEXT_BYTES_MAX: usize = 4096;
const SHORT_TEXT_BYTES_MAX: usize = 256;
/// Containers of a pod, or conditions, that are told of.
const LIST_ITEMS_MAX: usize = 256;

impl Report {
    /// Cuts every text and list to a length that an honest spoke does not reach: nobody makes the hub
    /// keep more, in what it reads or in what it holds for that. Characters that no text is made of go, too.
    pub fn bound(&mut self) {
        match self {
            Self::Pod(pod) => pod.bound(),
            Self::PodGone { uid, .. } => line(uid, SHORT_TEXT_BYTES_MAX),
            Self::Node(node) => node.bound(),
            Self::Event(event) => {
                let names = [&mut event.namespace, &mut event.pod, &mut event.uid];
                names.into_iter().for_each(|text| line(text, SHORT_TEXT_BYTES_MAX));
                line(&mut event.field_path, SHORT_TEXT_BYTES_MAX);
                line(&mut event.reason, SHORT_TEXT_BYTES_MAX);
                text(&mut event.message, LONG_TEXT_BYTES_MAX);
            }
            Self::NodeEvent(event) => {
                line(&mut event.reason, SHORT_TEXT_BYTES_MAX);
                text(&mut event.message, LONG_TEXT_BYTES_MAX);
            }
        }
    }
}

impl RefusalV1 {
    /// [`Report::bound`], for what a spoke says instead of a stream.
    pub fn bound(&mut self) {
        line(&mut self.reason, 64);
        text(&mut self.message, 1024);
    }
}

impl PodStatusV1 {
    fn bound(&mut self) {
        let names = [&mut self.namespace, &mut self.name, &mut self.uid, &mut self.reason];
        names.into_iter().for_each(|text| line(text, SHORT_TEXT_BYTES_MAX));
        text(&mut self.message, LONG_TEXT_BYTES_MAX);
        few(&mut self.conditions, LIST_ITEMS_MAX);
        for condition in &mut self.conditions {
            line(&mut condition.kind, SHORT_TEXT_BYTES_MAX);
            line(&mut condition.reason, SHORT_TEXT_BYTES_MAX);
            text(&mut condition.message, LONG_TEXT_BYTES_MAX);
        }
        for list in [&mut self.init, &mut self.containers] {
            few(list, LIST_ITEMS_MAX);
            list.iter_mut().for_each(ContainerStatusV1::bound);
        }
        self.parts.bound();
    }
}

impl ContainerStatusV1 {
    fn bound(&mut self) {
        for text in [&mut self.name, &mut self.container_id, &mut self.last_id] {
            line(text, SHORT_TEXT_BYTES_MAX);
        }
        // References to images may be longer than names.
        for text in [&mut self.image, &mut self.image_id] {
            line(text, LONG_TEXT_BYTES_MAX);
        }
        match &mut self.state {
            ContainerStateV1::Waiting(reason, message) => {
                line(reason, SHORT_TEXT_BYTES_MAX);
                text(message, LONG_TEXT_BYTES_MAX);
            }
            ContainerStateV1::Terminated(end) => end.bound(),
            ContainerStateV1::Running(_) => {}
        }
        if let Some(end) = &mut self.last {
            end.bound();
        }
    }
}

impl TerminatedV1 {
    fn bound(&mut self) {
        line(&mut self.reason, SHORT_TEXT_BYTES_MAX);
        text(&mut self.message, LONG_TEXT_BYTES_MAX);
    }
}

impl NodeStatusV1 {
    /// [`Report::bound`], for the state that a greeting says.
    pub fn bound(&mut self) {
        let texts = [
            &mut self.hostname,
            &mut self.architecture,
            &mut self.kernel,
            &mut self.os_image,
            &mut self.machine_id,
            &mut self.boot_id,
            &mut self.version,
            &mut self.profile,
        ];
        texts.into_iter().for_each(|text| line(text, SHORT_TEXT_BYTES_MAX));
        self.labels.retain(|(key, value)| key.len() <= 317 && value.len() <= 63);
        few(&mut self.labels, 64);
        self.pressure.retain(|text| text.len() <= 64);
        few(&mut self.pressure, 8);
        self.parts.bound();
    }
}

/// Keeps the first, and no room for more.
fn few<T>(list: &mut Vec<T>, most: usize) {
    list.truncate(most);
    list.shrink_to_fit();
}

/// A name, a reason or the like: of one line.
fn line(text: &mut String, most: usize) {
    clean(text, char::is_control);
    cut(text, most);
}

/// What people read: lines are its own.
fn text(text: &mut String, most: usize) {
    clean(text, |c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'));
    cut(text, most);
}

/// Takes out what no field of an object is made of: files of a device may hold anything.
fn clean(text: &mut String, odd: impl Fn(char) -> bool) {
    if text.contains(&odd) {
        text.retain(|c| !odd(c));
        text.shrink_to_fit();
    }
}

fn cut(text: &mut String, most: usize) {
    if most < text.len() {
        *text = bounded(std::mem::take(text), most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    struct Large(Vec<u8>);

    impl crate::part::InPart for Large {
        const KIND: u16 = 400;
    }

    #[test]
    fn what_no_text_is_made_of_goes() {
        let (odd, one) = ("a\0b\nc\u{1b}d\u{85}é", "abcdé");
        let mut node =
            NodeStatusV1 { hostname: odd.into(), machine_id: odd.into(), ..testing::node() };
        node.bound();
        assert_eq!((&*node.hostname, &*node.machine_id), (one, one));
        let mut event = EventV1 { reason: odd.into(), message: odd.into(), ..testing::event() };
        let mut report = Report::Event(event.clone());
        report.bound();
        (event.reason, event.message) = (one.into(), "ab\ncdé".into());
        assert_eq!(report, Report::Event(event));
        let mut refusal = RefusalV1 { reason: odd.into(), message: odd.repeat(1000) };
        refusal.bound();
        assert_eq!(refusal.reason, one);
        assert!(refusal.message.starts_with("ab\ncdéab\n") && refusal.message.len() <= 1024);
    }

    #[test]
    fn what_a_spoke_says_is_cut_to_what_an_honest_one_may_say() {
        let long = || "ä".repeat(1 << 20);
        let mut pod = testing::pod("u");
        let (honest, container) = (Report::Pod(pod.clone()), pod.containers[0].clone());
        pod.message = long();
        pod.containers = vec![container; 10_000];
        pod.containers[0].state = ContainerStateV1::Waiting(long(), long());
        let mut parts = Parts::default();
        parts.put(&Large(vec![7; 1 << 20])).unwrap();
        pod.parts = parts.clone();
        pod.conditions = vec![pod.conditions[0].clone(); 10_000];
        let mut node = testing::node();
        node.parts = parts;
        node.hostname = long();
        node.labels = vec![("k".into(), "v".into()); 10_000];
        node.pressure = vec![long(); 3];
        let mut event = testing::event();
        (event.message, event.reason) = (long(), long());
        let own = NodeEventV1 { warning: true, reason: long(), message: long(), at: 1 };
        let others = [Report::Event(event), Report::NodeEvent(own)];
        for mut report in [Report::Pod(pod), Report::Node(node)].into_iter().chain(others) {
            report.bound();
            let size = postcard::to_stdvec(&report).unwrap().len();
            assert!(size < 64 << 10, "{size}");
            let (held, room) = match &report {
                Report::Node(node) => {
                    assert!(node.is_bounded());
                    (node.labels.capacity() + node.hostname.capacity(), 64 + SHORT_TEXT_BYTES_MAX)
                }
                Report::Pod(pod) => {
                    let lists = pod.containers.capacity() + pod.conditions.capacity();
                    (lists + pod.message.capacity(), 2 * LIST_ITEMS_MAX + LONG_TEXT_BYTES_MAX)
                }
                Report::Event(event) => (event.message.capacity(), LONG_TEXT_BYTES_MAX),
                Report::NodeEvent(event) => (event.message.capacity(), LONG_TEXT_BYTES_MAX),
                Report::PodGone { .. } => (0, 0),
            };
            assert!(held <= room, "room for {held} is held, {room} is used");
        }
        let mut same = honest.clone();
        same.bound();
        assert_eq!(same, honest, "an honest one is left as it is");
    }
}

/// Examples for this crate's tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

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
            profile: "48-arm64".into(),
            features: 3,
            cpu_milli: 4000,
            memory: 1 << 30,
            storage: 1 << 33,
            pods: 110,
            labels: vec![("site".into(), "attic".into())],
            pressure: vec!["DiskPressure".into()],
            parts: Parts::default(),
        }
    }

    pub(crate) fn pod(uid: &str) -> PodStatusV1 {
        let ended = TerminatedV1 {
            code: 137,
            signal: 9,
            reason: "OOMKilled".into(),
            message: "m".into(),
            started: 1,
            finished: 2,
        };
        PodStatusV1 {
            realm: ClusterName::root(),
            namespace: "default".into(),
            name: "web".into(),
            uid: uid.into(),
            phase: PhaseV1::Running,
            ip: Some([10, 64, 0, 2].into()),
            started: Some(300),
            reason: String::new(),
            message: String::new(),
            conditions: vec![ConditionV1 {
                kind: "Ready".into(),
                status: true,
                since: 300,
                reason: String::new(),
                message: String::new(),
            }],
            init: Vec::new(),
            containers: vec![ContainerStatusV1 {
                name: "c".into(),
                ready: true,
                begun: true,
                restarts: 1,
                image: "i".into(),
                image_id: "d".into(),
                container_id: "x".into(),
                state: ContainerStateV1::Running(300),
                last: Some(ended),
                last_id: "y".into(),
            }],
            parts: Parts::default(),
        }
    }

    pub(crate) fn event() -> EventV1 {
        EventV1 {
            realm: ClusterName::root(),
            namespace: "default".into(),
            pod: "web".into(),
            uid: "u".into(),
            field_path: "spec.containers{c}".into(),
            warning: true,
            reason: "BackOff".into(),
            message: "m".into(),
            at: 300,
        }
    }
}
