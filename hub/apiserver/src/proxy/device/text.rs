//! Names, help and labels of a device's figures, and their text.

use std::fmt;
use std::time::Duration;

use freewheel_hub_metrics::{Format, MetricFamily, MetricKind, Metrics, Sample, Value};
use freewheel_link::figures::{BothV1, ContainerUseV1, DeviceV1, GateV1, LossV1, PodUseV1};
use parking_lot::Mutex;

use super::stored_pod::{Pods, StoredPod};

type Labels = Vec<(&'static str, String)>;

/// One figure of a container.
struct ContainerFigure {
    name: &'static str,
    help: &'static str,
    kind: MetricKind,
    of: fn(&ContainerUseV1) -> Value,
}

const FIGURES: &[ContainerFigure] = &[
    ContainerFigure {
        name: "container_cpu_usage_seconds",
        help: "Processor time of the container, in seconds",
        kind: MetricKind::Counter,
        of: |one| nanos(one.cpu_ns),
    },
    ContainerFigure {
        name: "container_memory_working_set_bytes",
        help: "Memory of the container, with what the host holds for it, in bytes",
        kind: MetricKind::Gauge,
        of: |one| Value::Whole(one.memory),
    },
    ContainerFigure {
        name: "container_start_time_seconds",
        help: "Start of the container since the Unix epoch, in seconds",
        kind: MetricKind::Gauge,
        of: |one| millis(one.started),
    },
    ContainerFigure {
        name: "container_cpu_cfs_throttled_periods",
        help: "Times that its limit of processor time made the container wait",
        kind: MetricKind::Counter,
        of: |one| Value::Whole(one.throttled),
    },
    ContainerFigure {
        name: "container_oom_events",
        help: "Requests of the container that ended because memory was refused",
        kind: MetricKind::Counter,
        of: |one| Value::Whole(one.out_of_memory),
    },
    ContainerFigure {
        name: "freewheel_container_demotions",
        help: "Times that the container moved to the threads of those that never pause",
        kind: MetricKind::Counter,
        of: |one| Value::Whole(one.demoted),
    },
];

/// Nothing of it could be dropped, as files that the system keeps in memory could: it is the working set.
const USED: ContainerFigure = ContainerFigure {
    name: "container_memory_usage_bytes",
    help: "Memory of the container, all of which it needs, in bytes",
    kind: MetricKind::Gauge,
    of: |one| Value::Whole(one.memory),
};

/// A page that is being put together.
#[derive(Default)]
pub(super) struct Text(Metrics);

impl Text {
    pub(super) fn written(&self, format: Format) -> Result<String, fmt::Error> {
        self.0.text(format)
    }

    fn show(&self, named: (&'static str, &'static str), figure: MetricKind, samples: Vec<Sample>) {
        // It is read once.
        let samples = Mutex::new(samples);
        self.0.show(MetricFamily::new(named, figure, move || std::mem::take(&mut *samples.lock())));
    }

    fn one(&self, named: (&'static str, &'static str), figure: MetricKind, value: Value) {
        self.show(named, figure, vec![Sample { labels: Vec::new(), value }]);
    }

    pub(super) fn machine(&self, device: &DeviceV1) {
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
        pods: &Pods,
        samples: impl Fn(&PodUseV1, &StoredPod) -> Vec<Sample> + Send + Sync + 'static,
    ) {
        let pods = pods.clone();
        let all = move || pods.iter().flat_map(|(pod, stored)| samples(pod, stored)).collect();
        self.0.show(MetricFamily::new(named, figure, all));
    }

    pub(super) fn containers(&self, pods: &Pods) {
        for figure in FIGURES {
            self.of_containers(pods, figure, |pod, _, one| of_container(pod, one));
        }
    }

    /// Every figure that cadvisor has a name for. It tells containers apart from what they run in by their images, and
    /// so do the rules that read it.
    pub(super) fn cadvisor(&self, pods: &Pods) {
        for figure in FIGURES.iter().filter(|figure| !figure.name.starts_with("freewheel_")) {
            self.of_containers(pods, figure, of_cadvisor);
        }
        self.of_containers(pods, &USED, of_cadvisor);
    }

    fn of_containers(
        &self,
        pods: &Pods,
        figure: &ContainerFigure,
        labels: fn(&PodUseV1, &StoredPod, &ContainerUseV1) -> Labels,
    ) {
        let of = figure.of;
        self.each((figure.name, figure.help), figure.kind, pods, move |pod, stored| {
            let sample = |one| Sample { labels: labels(pod, stored, one), value: of(one) };
            pod.containers.iter().map(sample).collect()
        });
    }

    pub(super) fn pods(&self, pods: &Pods) {
        let each = |named, figure, of: fn(&[ContainerUseV1]) -> Value| {
            self.each(named, figure, pods, move |pod, _| {
                vec![Sample { labels: of_pod(pod), value: of(&pod.containers) }]
            });
        };
        let named = ("pod_cpu_usage_seconds", "Processor time of the pod's containers, in seconds");
        each(named, MetricKind::Counter, |all| nanos(sum(all.iter().map(|one| one.cpu_ns))));
        let named = ("pod_memory_working_set_bytes", "Memory of the pod's containers, in bytes");
        each(named, MetricKind::Gauge, |all| Value::Whole(sum(all.iter().map(|one| one.memory))));
    }

    pub(super) fn running(&self, node: &str, version: &str, (pods, containers): (u64, u64)) {
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

    pub(super) fn agent(&self, device: &DeviceV1) {
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

    pub(super) fn gates(&self, gates: &[GateV1]) {
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

fn of_cadvisor(pod: &PodUseV1, stored: &StoredPod, container: &ContainerUseV1) -> Labels {
    let image = ("image", stored.image(&container.name).to_owned());
    of_container(pod, container).into_iter().chain([image]).collect()
}

fn of_container(pod: &PodUseV1, container: &ContainerUseV1) -> Labels {
    std::iter::once(("container", container.name.clone())).chain(of_pod(pod)).collect()
}

/// A device may say any number.
pub(super) fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
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
