//! What a device counts, under the names that a kubelet gives it; others begin with `freewheel_`.
//!
//! Guarantees:
//! - figures are called as a kubelet's, and pods are told apart by their cluster, too
//!   (`a_device_s_figures_are_called_as_a_kubelet_s`), those of containers as its cadvisor's, too
//!   (`containers_are_called_as_cadvisor_s_are`);
//! - of one cluster, pods of no other are shown, and in the root none of a cluster that the device is no part of
//!   (`a_cluster_sees_its_own_device_and_its_own_pods`, `a_device_speaks_for_pods_of_no_other_cluster`);
//! - each series is there once, of two containers of one name the newer one's (`of_two_of_one_name_the_newer_is_shown`);
//! - how much the text takes at most is known before it is made (`the_text_takes_no_more_than_was_said_before`).

mod stored_pod;
mod summary;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use freewheel_hub_metrics::Format;
use freewheel_hub_store::Snapshot;
use freewheel_link::figures::{ContainerUseV1, DeviceV1, Figures, GateV1, PodUseV1};
use freewheel_link::names::ClusterName;

use stored_pod::{Pods, StoredPod};
use text::Text;

/// Lines about each container, the most of any page.
const CONTAINER_LINES: usize = 7;
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
    /// The same of containers, under cadvisor's names.
    Cadvisor,
    /// The same in JSON.
    Summary,
}

impl Page {
    /// The page of this path, if there is one.
    pub(crate) fn of(path: &str) -> Option<Self> {
        match path {
            "metrics" => Some(Self::All),
            "metrics/resource" => Some(Self::Resource),
            "metrics/cadvisor" => Some(Self::Cadvisor),
            "stats/summary" => Some(Self::Summary),
            _ => None,
        }
    }
}

/// A device's figures as they came, and to whom they are shown.
pub(crate) struct DeviceFigures {
    pub(crate) figures: Arc<[Figures]>,
    pub(crate) spoke: ClusterName,
    /// In the root they are of all its pods, elsewhere of the cluster's own.
    pub(crate) shown_in: ClusterName,
}

/// What one page shows: each pod and each gate once.
pub(crate) struct DevicePage {
    page: Page,
    device: DeviceV1,
    gates: Vec<GateV1>,
    pods: Pods,
    shown_in: ClusterName,
}

impl DeviceFigures {
    fn shows(&self, pod: &PodUseV1, page: Page) -> bool {
        let is_its_own = pod.realm.is_root() || pod.realm == self.spoke;
        let of_all = self.shown_in.is_root() && page != Page::Summary;
        is_its_own && (of_all || pod.realm == self.shown_in)
    }

    /// Puts a page together.
    pub(crate) fn page(self, page: Page, at: &dyn Snapshot) -> DevicePage {
        let (mut device, mut gates) = (DeviceV1::default(), BTreeMap::<String, GateV1>::new());
        let mut pods = BTreeMap::<_, BTreeMap<String, ContainerUseV1>>::new();
        for one in &*self.figures {
            match one {
                Figures::Device(figures) => device = figures.clone(),
                Figures::Gate(gate) => match gates.get_mut(&gate.gate) {
                    Some(same) => same.add(gate),
                    None => drop(gates.insert(gate.gate.clone(), gate.clone())),
                },
                Figures::Pod(pod) if self.shows(pod, page) => {
                    let key = (pod.realm.clone(), pod.namespace.clone(), pod.name.clone());
                    newest(pods.entry(key).or_default(), &pod.containers);
                }
                Figures::Pod(_) => {}
            }
        }
        let whole = |((realm, namespace, name), containers): (_, BTreeMap<_, _>)| {
            let containers = containers.into_values().collect();
            let pod = PodUseV1 { realm, namespace, name, containers };
            let stored = match page {
                Page::All | Page::Resource => StoredPod::default(),
                Page::Cadvisor | Page::Summary => StoredPod::of(&pod, at),
            };
            (pod, stored)
        };
        let pods = pods.into_iter().map(whole).collect();
        let gates = gates.into_values().collect();
        DevicePage { page, device, gates, pods, shown_in: self.shown_in }
    }
}

impl DevicePage {
    /// The most bytes that it takes with its text.
    pub(crate) fn most_bytes(&self) -> usize {
        let of_pod = |(pod, stored): &(PodUseV1, StoredPod)| {
            let labels = [pod.realm.as_str(), &*pod.namespace, &*pod.name, &*stored.uid];
            let line = LINE_BYTES_MAX + labels.into_iter().map(written).sum::<usize>();
            let of_container = |one: &ContainerUseV1| {
                let own = written(&one.name) + written(stored.image(&one.name));
                size_of::<ContainerUseV1>() + CONTAINER_LINES * (line + own)
            };
            let containers = pod.containers.iter().map(of_container).sum::<usize>();
            size_of::<(PodUseV1, StoredPod)>() + POD_LINES * line + containers
        };
        OTHER_BYTES_MAX + self.pods.iter().map(of_pod).sum::<usize>()
    }

    /// As text, of the node of this name, at this time since the Unix epoch.
    pub(crate) fn text(self, node: &str, format: Format, now: i64) -> Result<String, fmt::Error> {
        let text = Text::default();
        match self.page {
            Page::Summary => {
                return Ok(summary::summary(node, &self.device, &self.pods, now).to_string());
            }
            Page::Cadvisor => text.cadvisor(&self.pods),
            Page::All | Page::Resource => {
                text.machine(&self.device);
                text.containers(&self.pods);
                text.pods(&self.pods);
            }
        }
        if self.page == Page::All {
            text.running(node, &self.device.version, self.running());
            text.agent(&self.device);
            text.gates(&self.gates);
        }
        text.written(format)
    }

    /// Pods and containers.
    fn running(&self) -> (u64, u64) {
        if self.shown_in.is_root() {
            return (self.device.pods, self.device.containers);
        }
        let containers = self.pods.iter().map(|(pod, _)| pod.containers.len()).sum();
        (count(self.pods.len()), count(containers))
    }
}

/// Of two containers of one name, a pod that ends and the one in its place, the newer one.
fn newest(all: &mut BTreeMap<String, ContainerUseV1>, figures: &[ContainerUseV1]) {
    for one in figures {
        if all.get(&one.name).is_none_or(|other| other.started <= one.started) {
            all.insert(one.name.clone(), one.clone());
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

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Key, Object, Resource};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Store as _, Txn};
    use freewheel_link::figures::{GATES, LossV1, REASONS};
    use futures::FutureExt as _;
    use serde_json::json;

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

    fn figures() -> Vec<Figures> {
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
        text(figures(), whose, page)
    }

    /// As the device pi-7 shows it there.
    fn text(figures: Vec<Figures>, whose: &str, page: Page) -> String {
        let page = of(figures, whose).page(page, &*stored());
        page.text("pi-7", Format::Prometheus, 1_800_000_060).unwrap()
    }

    /// A store that knows the root's pod.
    fn stored() -> Arc<dyn Snapshot> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "default", "uid": "u-1"},
            "spec": {"containers": [{"name": "web", "image": "shop/web:1"}]},
            "status": {"startTime": "2027-01-15T08:00:00Z"},
        });
        let resource = Resource::new("", "pods");
        let key = Key::new(&resource, &ClusterName::root(), "default", "a");
        let put = Operation::Put(key, Object::from_value(pod, BTreeMap::new()).unwrap());
        let store = MemoryStore::with_incarnation(1);
        let txn = Txn { expect: Vec::new(), operations: vec![put] };
        store.commit(txn).now_or_never().unwrap().unwrap();
        store.snapshot()
    }

    fn of(figures: Vec<Figures>, whose: &str) -> DeviceFigures {
        let [spoke, shown_in] = ["pi-7", whose].map(|name| ClusterName::try_from(name).unwrap());
        DeviceFigures { figures: figures.into(), spoke, shown_in }
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
    fn containers_are_called_as_cadvisor_s_are() {
        let page = shown("root", Page::Cadvisor);
        let of_a = r#"cluster="root",namespace="default",pod="a""#;
        for line in [
            &*format!(
                "container_cpu_usage_seconds_total{{container=\"web\",{of_a},image=\"shop/web:1\"}} 1.5"
            ),
            &*format!(
                "container_memory_working_set_bytes{{container=\"web\",{of_a},image=\"shop/web:1\"}} 1048576"
            ),
            &*format!(
                "container_memory_usage_bytes{{container=\"web\",{of_a},image=\"shop/web:1\"}} 1048576"
            ),
            &*format!("container_oom_events_total{{container=\"side\",{of_a},image=\"\"}} 1"),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
        for other in ["pod_", "node_", "kubelet_", "freewheel_"] {
            assert!(!page.lines().any(|found| found.starts_with(other)), "{other}\n{page}");
        }
    }

    #[test]
    fn a_summary_is_of_the_pods_of_one_cluster() {
        let of = |whose| serde_json::from_str::<serde_json::Value>(&shown(whose, Page::Summary));
        let root = of("root").unwrap();
        assert_eq!(root["node"]["nodeName"], "pi-7");
        assert_eq!(root["node"]["cpu"]["usageCoreNanoSeconds"], 2_500_000_000_u64);
        let [pod] = &root["pods"].as_array().unwrap()[..] else { panic!("{root}") };
        let uid = json!({"name": "a", "namespace": "default", "uid": "u-1"});
        assert_eq!(pod["podRef"], uid);
        assert_eq!(pod["startTime"], "2027-01-15T08:00:00Z");
        assert_eq!(pod["memory"]["workingSetBytes"], 2 << 20);
        assert_eq!(pod["containers"][1]["name"], "web");
        assert_eq!(pod["containers"][1]["cpu"]["usageCoreNanoSeconds"], 1_500_000_000_u64);
        assert_eq!(pod["cpu"]["time"], "2027-01-15T08:01:00Z");
        let own = of("pi-7").unwrap();
        assert_eq!(own["pods"][0]["podRef"]["uid"], "", "the API knows it no more");
    }

    #[test]
    fn a_cluster_sees_its_own_device_and_its_own_pods() {
        let own = shown("pi-7", Page::All);
        assert!(own.contains("kubelet_running_pods 1\n"), "{own}");
        assert!(own.contains("cluster=\"pi-7\"") && !own.contains("cluster=\"root\""), "{own}");
    }

    #[test]
    fn a_device_speaks_for_pods_of_no_other_cluster() {
        let figures = vec![pod("pi-8", "a"), pod("pi-7", "a")];
        let all = text(figures, "root", Page::All);
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
        let figures = vec![started(2_000), started(1_000), gate(1), gate(2)];
        let all = text(figures, "root", Page::All);
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
            let figures = std::iter::once(device.clone()).chain(gates.clone());
            let figures: Vec<_> = figures.chain((0..pods).map(largest)).collect();
            for page in [Page::All, Page::Resource, Page::Cadvisor, Page::Summary] {
                let page = of(figures.clone(), "root").page(page, &*stored());
                let most = page.most_bytes();
                let text = page.text(&long(253), Format::OpenMetrics, i64::MAX).unwrap();
                assert!(text.len() <= most, "{pods} pods: {most}, and {} are written", text.len());
            }
        }
    }
}
