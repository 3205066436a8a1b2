//! Probes, as `kubectl` shows what they come to.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

use super::shows;

const PODS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: health}
data: {alive: yes-it-is}
---
apiVersion: v1
kind: Service
metadata: {name: gate}
spec:
  selector: {app: gate}
  ports: [{port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: gate, labels: {app: gate}}
spec:
  terminationGracePeriodSeconds: 1
  volumes: [{name: v, configMap: {name: health}}]
  containers:
    - name: c
      image: 'kit:v1'
      args: [tick]
      volumeMounts: [{name: v, mountPath: /health}]
      startupProbe:
        exec: {command: [kit, cat, /health/alive]}
        periodSeconds: 1
        timeoutSeconds: 20
        failureThreshold: 60
      livenessProbe:
        exec: {command: [kit, cat, /health/alive]}
        periodSeconds: 1
        timeoutSeconds: 20
        failureThreshold: 2
      readinessProbe: {exec: {command: [kit, cat, /health/ready]}, periodSeconds: 1, timeoutSeconds: 20}
---
apiVersion: v1
kind: Pod
metadata: {name: served}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: c
      image: 'hello-http:v1'
      ports: [{name: web, containerPort: 8080}]
      readinessProbe: {httpGet: {path: /, port: web}, periodSeconds: 1, timeoutSeconds: 20}
      livenessProbe: {tcpSocket: {port: web}, periodSeconds: 1}
---
apiVersion: v1
kind: Pod
metadata: {name: remote}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - {name: c, image: 'kit:v1', args: [tick], readinessProbe: {grpc: {port: 80}}}
";

#[test]
fn probes_gate_traffic_and_restart() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    let said = kubectl.try_apply(&["apply", "-f", "-"], PODS);
    assert!(
        said.ok && said.err.contains("readinessProbe.grpc: kept without effect"),
        "{}",
        said.err
    );
    let _ = shows(&kubectl, &["get", "pod", "served"], &["1/1", "Running"]);
    let _ = shows(&kubectl, &["get", "pod", "remote"], &["1/1", "Running"]);

    // Up, and not ready: its Service leads nowhere.
    let parts = ["Warning  Unhealthy", "Readiness probe failed: "];
    let _ = shows(&kubectl, &["describe", "pod", "gate"], &parts);
    let _ = shows(&kubectl, &["get", "pod", "gate"], &["0/1", "Running"]);
    let started = "jsonpath={.status.containerStatuses[0].started}";
    let _ = shows(&kubectl, &["get", "pod", "gate", "-o", started], &["true"]);
    endpoints(&kubectl, "false");
    kubectl.does(&["patch", "configmap", "health", "-p", "{\"data\":{\"ready\":\"yes\"}}"]);
    let _ = shows(&kubectl, &["get", "pod", "gate"], &["1/1", "Running"]);
    endpoints(&kubectl, "true");
    let restarts = "jsonpath={.status.containerStatuses[0].restartCount}";
    assert_eq!(kubectl.run(&["get", "pod", "gate", "-o", restarts]), "0");

    kubectl.does(&["patch", "configmap", "health", "-p", "{\"data\":{\"alive\":null}}"]);
    let parts = ["Container c failed liveness probe, will be restarted", "Liveness probe failed: "];
    let _ = shows(&kubectl, &["describe", "pod", "gate"], &parts);
    // The next start is never up: it is ready no more, whatever its readiness probe would say.
    let _ = shows(&kubectl, &["describe", "pod", "gate"], &["Startup probe failed: "]);
    let _ = shows(&kubectl, &["get", "pod", "gate"], &["0/1"]);
    endpoints(&kubectl, "false");
}

/// Waits until the Service's one endpoint is so.
fn endpoints(kubectl: &Kubectl, ready: &str) {
    let path = "jsonpath={.items[*].endpoints[*].conditions.ready}";
    let of = ["get", "endpointslices", "-l", "kubernetes.io/service-name=gate", "-o", path];
    eventually("the endpoint follows", PATIENCE, || {
        let said = kubectl.run(&of);
        if said == ready { Ok(()) } else { Err(said) }
    });
}
