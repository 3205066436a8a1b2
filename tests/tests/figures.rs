//! What is to be seen of a device: its figures through its node, and spans in the logs.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, http};

const NODE_PORT: u16 = 30_087;

const WEB: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 2
  containers:
    - name: web
      image: hello-http:v1
      ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080, nodePort: 30087}]
";

const FIGURES: &str = "/api/v1/nodes/pi-1/proxy/metrics";

/// The value of a series.
fn value(kubectl: &Kubectl, series: &str) -> Option<f64> {
    let page = kubectl.run(&["get", "--raw", FIGURES]);
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap_or_else(|_| panic!("{series} {value:?}")))
}

#[test]
fn a_device_s_figures_are_read_through_its_node() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(WEB);
    fleet.pods_ready(&kubectl, "app=web", 1);
    eventually("the pod answers through the node's port", PATIENCE, || {
        match http::get(fleet.node_port("pi-1", NODE_PORT), "/") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    let of_web = r#"cluster="root",namespace="default",pod="web""#;
    let memory = format!("container_memory_working_set_bytes{{container=\"web\",{of_web}}}");
    assert!(value(&kubectl, &memory).is_some_and(|bytes| 0.0 <= bytes), "{memory}");
    assert_eq!(value(&kubectl, "kubelet_running_pods"), Some(1.0));
    assert!(value(&kubectl, "process_resident_memory_bytes").is_some_and(|bytes| 1e6 < bytes));
    for gate in ["node_port", "service", "pod"] {
        let series = format!("freewheel_network_connections_accepted_total{{gate=\"{gate}\"}}");
        assert!(value(&kubectl, &series).is_some_and(|count| 1.0 <= count), "{series}");
    }
    let out = r#"freewheel_network_bytes_total{gate="node_port",direction="out"}"#;
    eventually("the answer is counted", PATIENCE, || match value(&kubectl, out) {
        Some(bytes) if 0.0 < bytes => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // kubectl takes such a path from the root on, whatever its server's is.
    let own = kubectl.run(&["get", "--raw", &format!("/clusters/pi-1{FIGURES}")]);
    assert!(own.contains("kubelet_running_pods 0\n") && !own.contains("\"web\""), "{own}");
    let log = fleet.spoke_log("pi-1");
    let start = log.lines().find(|line| line.contains("container starts")).unwrap_or_default();
    assert!(start.contains("pod{cluster=root namespace=\"default\" name=\"web\" uid="), "{log}");
    fleet.kill_spoke("pi-1");
    eventually("the hub tells that the device is away", PATIENCE, || {
        let said = kubectl.try_run(&["get", "--raw", FIGURES]);
        let clear = said.err.contains("the spoke pi-1 is not connected");
        if !said.ok && clear { Ok(()) } else { Err(format!("{}{}", said.out, said.err)) }
    });
}
