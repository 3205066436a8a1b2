//! The official client of Python, as PyPI has it; its program is `tests/clients/python/client.py`.

use std::process::Command;

use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, guests, has};

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kit, labels: {app: python}}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: kit
    image: kit:v1
    args: [keep, /data/it, it is open]
    volumeMounts: [{name: data, mountPath: /data}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: python}}
spec:
  containers: [{name: echo, image: 'tcp-echo:v1', ports: [{containerPort: 7000}]}]
";

#[test]
fn python_reads_writes_watches_and_streams() {
    let python = tools::python_with("kubernetes", "37.0.2");
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    fleet.push("tcp-echo", "tcp-echo:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(PODS);
    fleet.pods_ready(&kubectl, "app=python", 2);
    let program = guests::root().join("tests/clients/python/client.py");
    let mut command = Command::new(python);
    let command = command.arg("-B").arg(program).env("KUBECONFIG", fleet.kubeconfig());
    has(&run(command), &["python works"]);
}
