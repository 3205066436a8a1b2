//! What a device counts, under the names that a kubelet gives it; others begin with `freewheel_`.
//!
//! Guarantees:
//! - figures are called as a kubelet's, and pods are told apart by their cluster, too
//!   (`a_device_s_figures_are_called_as_a_kubelet_s`);
//! - of one cluster, pods of no other are shown (`a_cluster_sees_its_own_device_and_its_own_pods`).

use std::fmt;
use std::time::Duration;

use freewheel_hub_metrics::{Format, MetricFamily, MetricKind, Metrics, Sample, Value};
use freewheel_link::figures::{
    BothV1, ContainerUseV1, DeviceV1, Figures, GateV1, LossV1, PodUseV1,
};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// Everything.
    All,
    /// What pods take of the machine.
    Resource,
}

/// The figures of this node as text. In the root they are of all pods, elsewhere of the cluster's own.
pub(crate) fn text(
    figures: Vec<Figures>,
    (node, whose): (&str, &ClusterName),
    page: Page,
    format: Format,
) -> Result<String, fmt::Error> {
    let (mut device, mut gates, mut pods) = (DeviceV1::default(), Vec::new(), Vec::new());
    for one in figures {
        match one {
            Figures::Device(told) => device = told,
            Figures::Gate(gate) => gates.push(gate),
            Figures::Pod(pod) if whose.is_root() || pod.realm == *whose => pods.push(pod),
            Figures::Pod(_) => {}
        }
    }
    let text = Text::default();
    text.machine(&device);
    text.containers(&pods);
    text.pods(&pods);
    if page == Page::All {
        text.running(node, &device.version, &pods);
        text.agent(&device);
        text.gates(&gates);
    }
    text.0.text(format)
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

    fn containers(&self, pods: &[PodUseV1]) {
        let each = |named, figure, of: fn(&ContainerUseV1) -> Value| {
            let all = pods.iter().flat_map(|pod| pod.containers.iter().map(move |one| (pod, one)));
            let sample = |(pod, one)| Sample { labels: of_container(pod, one), value: of(one) };
            self.show(named, figure, all.map(sample).collect());
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

    fn pods(&self, pods: &[PodUseV1]) {
        let each = |named, figure, of: fn(&[ContainerUseV1]) -> Value| {
            let sample = |pod| Sample { labels: of_pod(pod), value: of(&pod.containers) };
            self.show(named, figure, pods.iter().map(sample).collect());
        };
        let named = ("pod_cpu_usage_seconds", "Processor time of the pod's containers, in seconds");
        each(named, MetricKind::Counter, |all| nanos(all.iter().map(|one| one.cpu_ns).sum()));
        let named = ("pod_memory_working_set_bytes", "Memory of the pod's containers, in bytes");
        each(named, MetricKind::Gauge, |all| Value::Whole(all.iter().map(|one| one.memory).sum()));
    }

    fn running(&self, node: &str, version: &str, pods: &[PodUseV1]) {
        let show = |named, label, text: &str, count: usize| {
            let value = Value::Whole(u64::try_from(count).unwrap_or(u64::MAX));
            let labels = vec![(label, text.to_owned())];
            self.show(named, MetricKind::Gauge, vec![Sample { labels, value }]);
        };
        show(("kubelet_node_name", "The node's name"), "node", node, 1);
        show(("freewheel_build_info", "The agent's version"), "version", version, 1);
        let named = ("kubelet_running_pods", "Pods that have a running container");
        let running = u64::try_from(pods.len()).unwrap_or(u64::MAX);
        self.one(named, MetricKind::Gauge, Value::Whole(running));
        let named = ("kubelet_running_containers", "Containers by their state");
        let running = pods.iter().map(|pod| pod.containers.len()).sum();
        show(named, "container_state", "running", running);
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
        let device =
            DeviceV1 { version: "0.1.0".to_owned(), busy_ms: 2_500, ..DeviceV1::default() };
        let own = pod("pi-7", "a");
        vec![Figures::Device(device), Figures::Gate(gate), pod("root", "a"), own]
    }

    fn shown(whose: &str, page: Page) -> String {
        let whose = ClusterName::try_from(whose).unwrap();
        text(told(), ("pi-7", &whose), page, Format::Prometheus).unwrap()
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
}
