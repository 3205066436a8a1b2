//! kube-rs, as crates.io has it; its program is a workspace of its own, `tests/clients/kube-rs`.

use std::process::Command;

use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, has};

const KIT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: kit, labels: {app: kit}}
spec:
  volumes: [{name: data, emptyDir: {}}]
  containers:
  - name: kit
    image: kit:v1
    args: [keep, /data/it, it is open]
    volumeMounts: [{name: data, mountPath: /data}]
";

#[test]
fn kube_rs_controls_applies_watches_and_streams() {
    let program = tools::rust_client("kube-rs");
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(KIT);
    fleet.pods_ready(&kubectl, "app=kit", 1);
    let mut command = Command::new(program);
    has(&run(command.env("KUBECONFIG", fleet.kubeconfig())), &["kube-rs works"]);
}
