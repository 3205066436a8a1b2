//! The root and each spoke's own API are clusters of their own, even on the same device.

use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

const SERVER: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: greeter}
spec:
  selector: {matchLabels: {app: greeter}}
  template:
    metadata: {labels: {app: greeter}}
    spec:
      containers:
        - name: kit
          image: kit:v1
          args: [greet, '0.0.0.0:7000', WHOSE]
          ports: [{containerPort: 7000}]
---
apiVersion: v1
kind: Service
metadata: {name: greeter}
spec:
  selector: {app: greeter}
  ports: [{port: 70, targetPort: 7000}]
---
apiVersion: v1
kind: Pod
metadata: {name: asker}
spec:
  restartPolicy: Never
  containers:
    - {name: kit, image: 'kit:v1', args: [ask-until, 'greeter:70', hi]}
";

#[test]
fn the_same_names_in_root_and_in_a_spoke_s_cluster_do_not_meet() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let root = fleet.kubectl();
    let own = fleet.kubectl_of("pi-1");
    root.apply(&SERVER.replace("WHOSE", "root"));
    own.apply(&SERVER.replace("WHOSE", "pi"));
    answered(&root, "root");
    answered(&own, "pi");
    for kubectl in [&root, &own] {
        let nodes = kubectl.run(&["get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}"]);
        assert_eq!(nodes, "pi-1 pi-1", "both clusters' pods run on the same spoke");
    }
    let uid = |kubectl: &Kubectl| {
        kubectl.run(&["get", "deployment", "greeter", "-o", "jsonpath={.metadata.uid}"])
    };
    assert_ne!(uid(&root), uid(&own));
    root.does(&["delete", "deployment,service,pod", "--all", "--wait=false"]);
    eventually("the root's pods are gone", PATIENCE, || {
        let left = root.run(&["get", "pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    own.does(&["wait", "--for=condition=Ready", "pod", "-l", "app=greeter", "--timeout=10s"]);
    let nobody = fleet.kubectl_of("pi-9").fails(&["get", "pods"]);
    assert!(
        nobody.contains("pi-9")
            || nobody.contains("not found")
            || nobody.contains("could not find"),
        "{nobody}"
    );
}

fn answered(kubectl: &Kubectl, whose: &str) {
    eventually(&format!("the asker heard {whose}"), PATIENCE + Duration::from_secs(10), || {
        let logs = kubectl.try_run(&["logs", "asker"]);
        let pods = kubectl.try_run(&["get", "pods"]);
        if logs.out.contains(&format!("answer: {whose}")) {
            Ok(())
        } else {
            Err(format!("{}{}\n{}", logs.out, logs.err, pods.out))
        }
    });
}
