//! What pods and nodes take, by `kubectl top`.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

/// One that does nothing else, as much as it may, and two that wait.
const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: spins, labels: {app: top, does: spin}}
spec:
  nodeName: pi-1
  terminationGracePeriodSeconds: 0
  containers:
    - name: spinner
      image: kit:v1
      args: [spin]
      resources: {limits: {cpu: 200m, memory: 64Mi}}
    - {name: waits, image: 'kit:v1', args: [sleep, '3600']}
---
apiVersion: v1
kind: Pod
metadata: {name: waits, labels: {app: top}}
spec:
  nodeName: pi-2
  terminationGracePeriodSeconds: 0
  containers: [{name: waits, image: 'kit:v1', args: [sleep, '3600']}]
";

/// Lines without the head, in columns.
fn top(kubectl: &Kubectl, words: &str) -> Vec<Vec<String>> {
    let said = kubectl.typed(&format!("top {words} --no-headers"));
    said.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

fn column(table: &[Vec<String>], number: usize) -> Vec<&str> {
    table.iter().map(|row| &*row[number]).collect()
}

/// `200m`
fn millis(cell: &str) -> u64 {
    cell.strip_suffix('m').and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{cell:?}"))
}

#[test]
fn kubectl_top_shows_what_is_taken_where() {
    let mut fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(PODS);
    fleet.pods_ready(&kubectl, "app=top", 2);

    let head = kubectl.typed("top pods");
    assert!(head.starts_with("NAME    CPU(cores)   MEMORY(bytes)"), "{head}");
    let pods = top(&kubectl, "pods --sort-by=cpu");
    assert_eq!(column(&pods, 0), ["spins", "waits"], "who takes most comes first");
    let (spins, waits) = (millis(&pods[0][1]), millis(&pods[1][1]));
    assert!((10..=400).contains(&spins) && waits < spins, "{pods:?}");
    assert!(pods.iter().all(|row| row[2].ends_with("Mi")), "{pods:?}");

    let containers = top(&kubectl, "pod spins --containers");
    let mut names = column(&containers, 1);
    names.sort_unstable();
    assert_eq!(names, ["spinner", "waits"]);
    assert_eq!(column(&top(&kubectl, "pods -l does=spin"), 0), ["spins"]);
    assert_eq!(column(&top(&kubectl, "pods --field-selector metadata.name=waits"), 0), ["waits"]);
    let everywhere = top(&kubectl, "pods -A");
    assert_eq!(column(&everywhere, 0), ["default", "default"]);
    let summed = kubectl.typed("top pods --sum");
    assert!(summed.trim_end().ends_with("Mi"), "{summed}");

    let nodes = top(&kubectl, "nodes");
    assert_eq!(column(&nodes, 0), ["pi-1", "pi-2"]);
    for row in &nodes {
        // NAME CPU(cores) CPU(%) MEMORY(bytes) MEMORY(%)
        assert!(10 <= millis(&row[1]) && row[2].ends_with('%') && row[4].ends_with('%'), "{row:?}");
    }
    assert_eq!(column(&top(&kubectl, "node pi-2"), 0), ["pi-2"]);

    // A cluster's own API knows its own.
    let own = fleet.kubectl_of("pi-1");
    assert_eq!(column(&top(&own, "nodes"), 0), ["pi-1"]);
    let nothing = own.try_run(&["top", "pods"]);
    assert!(nothing.err.contains("No resources found in default namespace."), "{}", nothing.err);

    let service = kubectl.json(&["get", "apiservice", "v1beta1.metrics.k8s.io"]);
    let available = &service["status"]["conditions"][0];
    assert_eq!((&available["type"], &available["status"]), (&"Available".into(), &"True".into()));
    let columns = kubectl.typed("get nodes.metrics.k8s.io pi-1");
    assert!(columns.starts_with("NAME   CPU"), "{columns}");
    assert!(kubectl.typed("explain podmetrics.containers").contains("FIELD: containers"));

    fleet.kill_spoke("pi-2");
    eventually("nothing is known of who is away", PATIENCE, || {
        let nodes = top(&kubectl, "nodes");
        let known = |row: &Vec<String>| row[1] != "<unknown>";
        let all: Vec<bool> = nodes.iter().map(known).collect();
        if all == [true, false] { Ok(()) } else { Err(format!("{nodes:?}")) }
    });
    let gone = kubectl.fails(&["top", "node", "pi-2"]);
    assert!(gone.contains("nodemetrics.metrics.k8s.io \"pi-2\" not found"), "{gone}");
}
