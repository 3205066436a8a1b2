//! What a device counts, under the names that a kubelet gives it; others begin with `freewheel_`.
//!
//! Guarantees:
//! - figures are called as a kubelet's, and pods are told apart by their cluster, too
//!   (`a_device_s_figures_are_called_as_a_kubelet_s`);
//! - of one cluster, pods of no other are shown, and in the root none of a cluster that the device is no part of
//!   (`a_cluster_sees_its_own_device_and_its_own_pods`, `a_device_speaks_for_pods_of_no_other_cluster`);
//! - each series is there once, of two containers of one name the newer one's (`of_two_of_one_name_the_newer_is_shown`);
//! - how much the text takes at most is known before it is made (`the_text_takes_no_more_than_was_said_before`).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_metrics::{Format, MetricFamily, MetricKind, Metrics, Sample, Value};
use freewheel_link::figures::{
    BothV1, ContainerUseV1, DeviceV1, Figures, GateV1, LossV1, PodUseV1,
};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

/// Lines about each container.
const CONTAINER_LINES: usize = 6;
/// Lines about each pod.
const POD_LINES: usize = 2;
/// One of them without the values of its labels.
const LINE_BYTES_MAX: usize = 128;
/// All that is about neither: of the machine, the agent and the gates.
const OTHER_BYTES_MAX: usize = 32 << 10;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Everything.
    All,
    /// What pods take of the machine.
    Resource,
}

/// A device's figures, and to whom they are shown.
pub(crate) struct DeviceFigures {
    pub(crate) told: Vec<Figures>,
    pub(crate) spoke: ClusterName,
    /// In the root they are of all its pods, elsewhere of the cluster's own.
    pub(crate) shown_in: ClusterName,
}

impl DeviceFigures {
    fn shows(&self, pod: &PodUseV1) -> bool {
        let is_its_own = pod.realm.is_root() || pod.realm == self.spoke;
        is_its_own && (self.shown_in.is_root() || pod.realm == self.shown_in)
    }

    /// The most bytes that they take with their text.
    pub(crate) fn most_bytes(&self) -> usize {
        let of_pod = |pod: &PodUseV1| {
            let labels = [pod.realm.as_str(), &*pod.namespace, &*pod.name];
            let line = LINE_BYTES_MAX + labels.into_iter().map(written).sum::<usize>();
            let of_container = |one: &ContainerUseV1| {
                size_of::<ContainerUseV1>() + CONTAINER_LINES * (line + written(&one.name))
            };
            let containers = pod.containers.iter().map(of_container).sum::<usize>();
            size_of::<PodUseV1>() + POD_LINES * line + containers
        };
        let pods = self.told.iter().filter_map(|one| match one {
            Figures::Pod(pod) if self.shows(pod) => Some(of_pod(pod)),
            Figures::Pod(_) => Some(size_of::<PodUseV1>()),
            Figures::Device(_) | Figures::Gate(_) => None,
        });
        OTHER_BYTES_MAX + pods.sum::<usize>()
    }

    /// As text, of the node of this name.
    pub(crate) fn text(self, node: &str, page: Page, format: Format) -> Result<String, fmt::Error> {
        let (mut device, mut gates) = (DeviceV1::default(), BTreeMap::<String, GateV1>::new());
        let mut pods = BTreeMap::<_, BTreeMap<String, ContainerUseV1>>::new();
        let Self { told, spoke, shown_in } = self;
        let this = Self { told: Vec::new(), spoke, shown_in };
        for one in told {
            match one {
                Figures::Device(told) => device = told,
                Figures::Gate(gate) => match gates.get_mut(&gate.gate) {
                    Some(same) => same.add(&gate),
                    None => drop(gates.insert(gate.gate.clone(), gate)),
                },
                Figures::Pod(pod) if this.shows(&pod) => {
                    let key = (pod.realm, pod.namespace, pod.name);
                    newest(pods.entry(key).or_default(), pod.containers);
                }
                Figures::Pod(_) => {}
            }
        }
        let whole = |((realm, namespace, name), containers): (_, BTreeMap<_, _>)| PodUseV1 {
            realm,
            namespace,
            name,
            containers: containers.into_values().collect(),
        };
        let pods: Arc<[PodUseV1]> = pods.into_iter().map(whole).collect();
        let text = Text::default();
        text.machine(&device);
        text.containers(&pods);
        text.pods(&pods);
        if page == Page::All {
            let running = if this.shown_in.is_root() {
                (device.pods, device.containers)
            } else {
                let containers = pods.iter().map(|pod| pod.containers.len()).sum();
                (count(pods.len()), count(containers))
            };
            text.running(node, &device.version, running);
            text.agent(&device);
            text.gates(&gates.into_values().collect::<Vec<_>>());
        }
        text.0.text(format)
    }
}

/// Of two containers of one name, a pod that ends and the one in its place, the newer one.
fn newest(all: &mut BTreeMap<String, ContainerUseV1>, told: Vec<ContainerUseV1>) {
    for one in told {
        if all.get(&one.name).is_none_or(|other| other.started <= one.started) {
            all.insert(one.name.clone(), one);
        }
    }
}

/// Bytes of a label's value in the text.
fn written(value: &str) -> usize {
    value.len() + value.bytes().filter(|byte| matches!(byte, b'"' | b'\\' | b'\n')).count()
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

type Labels = Vec<(&'static str, String)>;

#[derive(Default)]
struct Text(Metrics);

impl Text {
    fn show(&self, named: (&'static str, &'static str), figure: MetricKind, samples: Vec<Sample>) {
        // It is read once.
        let samples = Mutex::new(samples);
        self.0.show(MetricFamily::new(named, figure, move || std::mem::take(&mut *samples.lock())));
    }

    fn one(&self, named: (&'static str, &'static str), figure: MetricKind, value: Value) {
        self.show(named, figure, vec![Sample { labels: Vec::new(), value }]);
    }

    fn machine(&self, device: &DeviceV1) {
        let help = "Processor time of the machine that was not idle, in seconds";
        self.one(("node_cpu_usage_seconds", help), MetricKind::Counter, millis(device.busy_ms));
        let help = "Memory of the machine that is in use, in bytes";
        let used = Value::Whole(device.working_set);
        self.one(("node_memory_working_set_bytes", help), MetricKind::Gauge, used);
    }

    /// Samples of one family at a time are there: all of them are many times as much as the pods.
    fn each(
        &self,
        named: (&'static str, &'static str),
        figure: MetricKind,
        pods: &Arc<[PodUseV1]>,
        samples: impl Fn(&PodUseV1) -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let pods = pods.clone();
        let all = move || pods.iter().flat_map(&samples).collect();
        self.0.show(MetricFamily::new(named, figure, all));
    }

    fn containers(&self, pods: &Arc<[PodUseV1]>) {
        let each = |named, figure, of: fn(&ContainerUseV1) -> Value| {
            self.each(named, figure, pods, move |pod| {
                let sample = |one| Sample { labels: of_container(pod, one), value: of(one) };
                pod.containers.iter().map(sample).collect()
            });
        };
        let help = "Processor time of the container, in seconds";
        let named = ("container_cpu_usage_seconds", help);
        each(named, MetricKind::Counter, |one| nanos(one.cpu_ns));
        let help = "Memory of the container, with what the host holds for it, in bytes";
        let named = ("container_memory_working_set_bytes", help);
        each(named, MetricKind::Gauge, |one| Value::Whole(one.memory));
        let help = "Start of the container since the Unix epoch, in seconds";
        let named = ("container_start_time_seconds", help);
        each(named, MetricKind::Gauge, |one| millis(one.started));
        let help = "Times that its limit of processor time made the container wait";
        let named = ("container_cpu_cfs_throttled_periods", help);
        each(named, MetricKind::Counter, |one| Value::Whole(one.throttled));
        let help = "Requests of the container that ended because memory was refused";
        let named = ("container_oom_events", help);
        each(named, MetricKind::Counter, |one| Value::Whole(one.out_of_memory));
        let help = "Times that the container moved to the threads of those that never pause";
        let named = ("freewheel_container_demotions", help);
        each(named, MetricKind::Counter, |one| Value::Whole(one.demoted));
    }

    fn pods(&self, pods: &Arc<[PodUseV1]>) {
        let each = |named, figure, of: fn(&[ContainerUseV1]) -> Value| {
            self.each(named, figure, pods, move |pod| {
                vec![Sample { labels: of_pod(pod), value: of(&pod.containers) }]
            });
        };
        let named = ("pod_cpu_usage_seconds", "Processor time of the pod's containers, in seconds");
        each(named, MetricKind::Counter, |all| nanos(sum(all.iter().map(|one| one.cpu_ns))));
        let named = ("pod_memory_working_set_bytes", "Memory of the pod's containers, in bytes");
        each(named, MetricKind::Gauge, |all| Value::Whole(sum(all.iter().map(|one| one.memory))));
    }

    fn running(&self, node: &str, version: &str, (pods, containers): (u64, u64)) {
        let show = |named, label, text: &str, count: u64| {
            let labels = vec![(label, text.to_owned())];
            let sample = Sample { labels, value: Value::Whole(count) };
            self.show(named, MetricKind::Gauge, vec![sample]);
        };
        show(("kubelet_node_name", "The node's name"), "node", node, 1);
        show(("freewheel_build_info", "The agent's version"), "version", version, 1);
        let named = ("kubelet_running_pods", "Pods that have a running container");
        self.one(named, MetricKind::Gauge, Value::Whole(pods));
        let named = ("kubelet_running_containers", "Containers by their state");
        show(named, "container_state", "running", containers);
    }

    fn agent(&self, device: &DeviceV1) {
        let help = "Processor time of the agent with its guests, in seconds";
        self.one(("process_cpu_seconds", help), MetricKind::Counter, millis(device.cpu_ms));
        let help = "Start of the agent since the Unix epoch, in seconds";
        self.one(("process_start_time_seconds", help), MetricKind::Gauge, millis(device.started));
        let gauges = [
            ("process_resident_memory_bytes", "Memory in use, in bytes", device.resident),
            ("process_open_fds", "Open files", device.files),
            ("process_max_fds", "Files that may be open", device.most_files),
            ("freewheel_guests_memory_bytes", "Memory of all guests, in bytes", device.guests),
            ("freewheel_guests_memory_limit_bytes", "The most that it may be", device.most_guests),
            ("freewheel_disk_size_bytes", "Size of the disk with the agent's data", device.disk),
            ("freewheel_disk_free_bytes", "What is free of it", device.disk_free),
        ];
        for (name, help, value) in gauges {
            self.one((name, help), MetricKind::Gauge, Value::Whole(value));
        }
        let lost = "Pods' datagrams that the link did not take";
        let skipped = "Messages of a newer hub that were skipped";
        for (name, help, value) in [
            ("freewheel_link_sessions", "Sessions with the hub", device.sessions),
            ("freewheel_link_datagrams_lost", lost, device.datagrams_lost),
            ("freewheel_link_messages_skipped", skipped, device.messages_skipped),
        ] {
            self.one((name, help), MetricKind::Counter, Value::Whole(value));
        }
    }

    fn gates(&self, gates: &[GateV1]) {
        let each = |named, figure, of: fn(&GateV1) -> Vec<(Labels, u64)>| {
            let samples = |gate: &GateV1| {
                let own = ("gate", gate.gate.clone());
                let sample = move |(more, value): (Labels, u64)| Sample {
                    labels: std::iter::once(own.clone()).chain(more).collect(),
                    value: Value::Whole(value),
                };
                of(gate).into_iter().map(sample)
            };
            self.show(named, figure, gates.iter().flat_map(samples).collect());
        };
        let help = "Connections that came through a gate of the pod network";
        let named = ("freewheel_network_connections_accepted", help);
        each(named, MetricKind::Counter, |gate| vec![(Vec::new(), gate.accepted)]);
        let named = ("freewheel_network_connections_open", "Those of them that are open");
        each(named, MetricKind::Gauge, |gate| vec![(Vec::new(), gate.open)]);
        let named = ("freewheel_network_connections_refused", "Those that did not come through");
        each(named, MetricKind::Counter, |gate| losses(&gate.refused));
        let help = "Bytes of connections: in to who serves, out to who has asked";
        each(("freewheel_network_bytes", help), MetricKind::Counter, |gate| both(gate.bytes));
        let named = ("freewheel_network_datagrams", "Datagrams that came through");
        each(named, MetricKind::Counter, |gate| both(gate.datagrams));
        let named = ("freewheel_network_datagrams_lost", "Datagrams that got lost here");
        each(named, MetricKind::Counter, |gate| losses(&gate.lost));
    }
}

fn of_pod(pod: &PodUseV1) -> Labels {
    vec![
        ("cluster", pod.realm.as_str().to_owned()),
        ("namespace", pod.namespace.clone()),
        ("pod", pod.name.clone()),
    ]
}

fn of_container(pod: &PodUseV1, container: &ContainerUseV1) -> Labels {
    std::iter::once(("container", container.name.clone())).chain(of_pod(pod)).collect()
}

/// A device may say any number.
fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn losses(losses: &[LossV1]) -> Vec<(Labels, u64)> {
    losses.iter().map(|loss| (vec![("reason", loss.reason.clone())], loss.count)).collect()
}

fn both(both: BothV1) -> Vec<(Labels, u64)> {
    [("in", both.inward), ("out", both.outward)]
        .map(|(direction, count)| (vec![("direction", direction.to_owned())], count))
        .into()
}

fn millis(millis: u64) -> Value {
    Value::Real(Duration::from_millis(millis).as_secs_f64())
}

fn nanos(nanos: u64) -> Value {
    Value::Real(Duration::from_nanos(nanos).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use freewheel_link::figures::{GATES, REASONS};

    use super::*;

    fn pod(realm: &str, name: &str) -> Figures {
        let container = ContainerUseV1 {
            name: "web".to_owned(),
            started: 1_800_000_000_500,
            cpu_ns: 1_500_000_000,
            memory: 1 << 20,
            throttled: 3,
            demoted: 0,
            out_of_memory: 1,
        };
        Figures::Pod(PodUseV1 {
            realm: ClusterName::try_from(realm).unwrap(),
            namespace: "default".to_owned(),
            name: name.to_owned(),
            containers: vec![
                container.clone(),
                ContainerUseV1 { name: "side".to_owned(), ..container },
            ],
        })
    }

    fn told() -> Vec<Figures> {
        let loss = |reason: &str| vec![LossV1 { reason: reason.to_owned(), count: 2 }];
        let gate = GateV1 {
            gate: "node_port".to_owned(),
            accepted: 7,
            open: 1,
            refused: loss("full"),
            bytes: [10, 20].into(),
            datagrams: [0, 0].into(),
            lost: Vec::new(),
        };
        let device = DeviceV1 {
            version: "0.1.0".to_owned(),
            busy_ms: 2_500,
            pods: 2,
            containers: 4,
            ..DeviceV1::default()
        };
        let own = pod("pi-7", "a");
        vec![Figures::Device(device), Figures::Gate(gate), pod("root", "a"), own]
    }

    fn shown(whose: &str, page: Page) -> String {
        of(told(), whose).text("pi-7", page, Format::Prometheus).unwrap()
    }

    fn of(told: Vec<Figures>, whose: &str) -> DeviceFigures {
        let [spoke, shown_in] = ["pi-7", whose].map(|name| ClusterName::try_from(name).unwrap());
        DeviceFigures { told, spoke, shown_in }
    }

    #[test]
    fn a_device_s_figures_are_called_as_a_kubelet_s() {
        let all = shown("root", Page::All);
        let of_a = r#"cluster="root",namespace="default",pod="a""#;
        for line in [
            "kubelet_node_name{node=\"pi-7\"} 1",
            "kubelet_running_pods 2",
            "kubelet_running_containers{container_state=\"running\"} 4",
            "node_cpu_usage_seconds_total 2.5",
            &*format!("container_cpu_usage_seconds_total{{container=\"web\",{of_a}}} 1.5"),
            &*format!("container_memory_working_set_bytes{{container=\"side\",{of_a}}} 1048576"),
            &*format!("container_start_time_seconds{{container=\"web\",{of_a}}} 1800000000.5"),
            &*format!("pod_cpu_usage_seconds_total{{{of_a}}} 3.0"),
            &*format!("pod_memory_working_set_bytes{{{of_a}}} 2097152"),
            "freewheel_network_connections_accepted_total{gate=\"node_port\"} 7",
            "freewheel_network_connections_open{gate=\"node_port\"} 1",
            "freewheel_network_connections_refused_total{gate=\"node_port\",reason=\"full\"} 2",
            "freewheel_network_bytes_total{gate=\"node_port\",direction=\"out\"} 20",
        ] {
            assert!(all.lines().any(|found| found == line), "{line}\n{all}");
        }
        let resource = shown("root", Page::Resource);
        assert!(resource.contains("pod_memory_working_set_bytes") && !resource.contains("kubelet"));
    }

    #[test]
    fn a_cluster_sees_its_own_device_and_its_own_pods() {
        let own = shown("pi-7", Page::All);
        assert!(own.contains("kubelet_running_pods 1\n"), "{own}");
        assert!(own.contains("cluster=\"pi-7\"") && !own.contains("cluster=\"root\""), "{own}");
    }

    #[test]
    fn a_device_speaks_for_pods_of_no_other_cluster() {
        let told = vec![pod("pi-8", "a"), pod("pi-7", "a")];
        let all = of(told, "root").text("pi-7", Page::All, Format::Prometheus).unwrap();
        assert!(all.contains("cluster=\"pi-7\"") && !all.contains("pi-8"), "{all}");
    }

    #[test]
    fn of_two_of_one_name_the_newer_is_shown() {
        let started = |at| {
            let Figures::Pod(mut pod) = pod("root", "a") else { panic!("no pod") };
            pod.containers.iter_mut().for_each(|one| one.started = at);
            Figures::Pod(pod)
        };
        let gate = |accepted| {
            let gate = "pod".to_owned();
            Figures::Gate(GateV1 { gate, accepted, ..GateV1::default() })
        };
        let told = vec![started(2_000), started(1_000), gate(1), gate(2)];
        let all = of(told, "root").text("pi-7", Page::All, Format::Prometheus).unwrap();
        let mut series: Vec<&str> = all
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.rsplit_once(' ')?.0))
            .collect();
        let lines = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), lines, "{all}");
        let of_web = "container=\"web\",cluster=\"root\",namespace=\"default\",pod=\"a\"";
        assert!(all.contains(&format!("container_start_time_seconds{{{of_web}}} 2.0\n")), "{all}");
        assert!(all.contains("connections_accepted_total{gate=\"pod\"} 3\n"), "{all}");
    }

    #[test]
    fn the_text_takes_no_more_than_was_said_before() {
        let long = |most: usize| "\"".repeat(most);
        let largest = |number: usize| {
            let container = ContainerUseV1 {
                name: format!("{}{number}", long(60)),
                started: u64::MAX,
                cpu_ns: u64::MAX,
                memory: u64::MAX,
                throttled: u64::MAX,
                demoted: u64::MAX,
                out_of_memory: u64::MAX,
            };
            Figures::Pod(PodUseV1 {
                realm: ClusterName::root(),
                namespace: long(63),
                name: format!("{}{number}", long(250)),
                containers: vec![container; 2],
            })
        };
        let gates = GATES.into_iter().chain(["other"]).map(|gate| {
            let losses =
                REASONS.map(|reason| LossV1 { reason: reason.to_owned(), count: u64::MAX });
            let [refused, lost] = [(); 2].map(|()| losses.to_vec());
            Figures::Gate(GateV1 { gate: gate.to_owned(), refused, lost, ..GateV1::default() })
        });
        let mut device = Figures::Device(DeviceV1 { version: long(63), ..DeviceV1::default() });
        device.bound();
        for pods in [0, 100] {
            let told = std::iter::once(device.clone()).chain(gates.clone());
            let told = of(told.chain((0..pods).map(largest)).collect(), "root");
            let most = told.most_bytes();
            let text = told.text(&long(253), Page::All, Format::OpenMetrics).unwrap();
            assert!(text.len() <= most, "{pods} pods: {most}, and {} are written", text.len());
        }
    }
}
