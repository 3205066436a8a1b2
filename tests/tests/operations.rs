//! What an operator does with a fleet: drain a device, switch colours, look at a crash, grow to
//! hundreds of pods, replace them one at a time.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, http};

fn web(name: &str, replicas: usize, greeting: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  strategy: {{rollingUpdate: {{maxSurge: 1, maxUnavailable: 0}}}}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
        - name: web
          image: hello-http:v1
          env: [{{name: GREETING, value: {greeting}}}]
          ports: [{{containerPort: 8080}}]
"
    )
}

fn nodes(kubectl: &Kubectl, label: &str) -> BTreeSet<String> {
    let path = "jsonpath={.items[*].spec.nodeName}";
    let out = kubectl.run(&["get", "pods", "-l", label, "-o", path]);
    out.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_device_is_drained_and_comes_back() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(&web("web", 2, "hello"));
    fleet.pods_ready(&kubectl, "app=web", 2);
    assert_eq!(nodes(&kubectl, "app=web").len(), 2, "replicas are spread");
    kubectl.does(&["drain", "pi-1", "--ignore-daemonsets", "--timeout=60s"]);
    fleet.pods_ready(&kubectl, "app=web", 2);
    assert_eq!(nodes(&kubectl, "app=web"), BTreeSet::from(["pi-2".to_owned()]));
    let table = kubectl.run(&["get", "node", "pi-1"]);
    assert!(table.contains("Ready,SchedulingDisabled"), "{table}");
    kubectl.does(&["uncordon", "pi-1"]);
    kubectl.does(&["scale", "deployment/web", "--replicas=4"]);
    fleet.pods_ready(&kubectl, "app=web", 4);
    assert_eq!(nodes(&kubectl, "app=web").len(), 2, "the device gets pods again");
}

/// Without another start of the device or the hub, as a kubelet would need.
#[test]
fn a_node_that_somebody_deletes_comes_back_whole() {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let seen = || {
        let said = kubectl.try_run(&["get", "node", "pi-1", "-o", "json"]);
        let mut node: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
        let uid = node["metadata"]["uid"].take();
        let status = ["addresses", "capacity", "allocatable", "nodeInfo"];
        let facts = status.map(|field| node["status"][field].take());
        (uid, (facts, node["metadata"]["labels"].take()))
    };
    let before = seen();
    assert!(before.1.0.iter().all(|fact| !fact.is_null()), "{before:?}");
    kubectl.does(&["delete", "node", "pi-1"]);
    eventually("it is another Node of the same device", Duration::from_secs(20), || {
        let now = seen();
        if now.0 != before.0 && now.1 == before.1 { Ok(()) } else { Err(format!("{now:?}")) }
    });
    fleet.node_ready("pi-1");
}

#[test]
fn a_service_switches_from_blue_to_green() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    for colour in ["blue", "green"] {
        kubectl.apply(&web(colour, 2, colour));
    }
    kubectl.apply(
        "{apiVersion: v1, kind: Service, metadata: {name: shop}, spec: {type: NodePort, \
         selector: {app: blue}, ports: [{port: 80, targetPort: 8080, nodePort: 30800}]}}",
    );
    for colour in ["blue", "green"] {
        fleet.pods_ready(&kubectl, &format!("app={colour}"), 2);
    }
    let answer = || http::get(fleet.node_port("pi-1", 30800), "/");
    eventually("blue answers", PATIENCE, || match answer() {
        Ok((200, body)) if body.starts_with("blue") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    kubectl.does(&["set", "selector", "service/shop", "app=green"]);
    let mut seen_green = false;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) || !seen_green {
        assert!(start.elapsed() < PATIENCE, "green never answered");
        let (code, body) = answer().expect("no request is lost");
        assert_eq!(code, 200);
        seen_green |= body.starts_with("green");
        assert!(!seen_green || body.starts_with("green"), "no way back to blue: {body}");
    }
}

#[test]
fn a_crashed_containers_log_is_kept_and_its_restart_counted() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: panics}, \
         spec: {containers: [{name: c, image: 'kit:v1', args: [panic]}]}}",
    );
    eventually("it was restarted and waits", PATIENCE, || {
        let table = kubectl.run(&["get", "pod", "panics"]);
        if table.contains("CrashLoopBackOff") { Ok(()) } else { Err(table) }
    });
    eventually("the log of the instance before is there", PATIENCE, || {
        let said = kubectl.try_run(&["logs", "panics", "-p"]);
        if said.out.contains("asked to panic") { Ok(()) } else { Err(said.err) }
    });
}

#[test]
fn a_guest_sees_its_services_and_the_secrets_of_its_own_namespace() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.does(&["create", "namespace", "team"]);
    for (namespace, word) in [("default", "ours"), ("team", "theirs")] {
        kubectl.apply(&format!(
            "
apiVersion: v1
kind: Secret
metadata: {{name: word, namespace: {namespace}}}
stringData: {{word: {word}}}
---
apiVersion: v1
kind: Service
metadata: {{name: my-shop, namespace: {namespace}}}
spec: {{selector: {{app: shop}}, ports: [{{port: 80}}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: looks, namespace: {namespace}}}
spec:
  restartPolicy: Never
  containers:
    - name: c
      image: kit:v1
      args: [env]
      env:
        - {{name: WORD, valueFrom: {{secretKeyRef: {{name: word, key: word}}}}}}
"
        ));
        let service = ["-n", namespace, "get", "svc", "my-shop", "-o"];
        let ip = kubectl.run(&[&service[..], &["jsonpath={.spec.clusterIP}"]].concat());
        let lines = [
            format!("WORD={word}"),
            format!("MY_SHOP_SERVICE_HOST={ip}"),
            "MY_SHOP_SERVICE_PORT=80".to_owned(),
            "KUBERNETES_SERVICE_HOST=10.128.0.1".to_owned(),
        ];
        eventually("the guest has printed its variables", PATIENCE, || {
            let out = kubectl.try_run(&["-n", namespace, "logs", "looks"]).out;
            let has = |line: &String| out.lines().any(|printed| printed == line);
            if lines.iter().all(has) { Ok(()) } else { Err(format!("{lines:?}\n{out}")) }
        });
    }
}

#[test]
fn ten_pods_are_replaced_one_at_a_time_and_hundreds_run() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("hello-http", "hello-http:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(&web("web", 10, "first"));
    fleet.pods_ready(&kubectl, "app=web", 10);
    let before = kubectl.run(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    kubectl.does(&["set", "env", "deployment/web", "GREETING=second"]);
    let path = "jsonpath={.status.observedGeneration} {.metadata.generation} {.status.replicas} \
                {.status.readyReplicas} {.status.updatedReplicas}";
    let mut samples = BTreeSet::new();
    eventually("the rollout ends", 2 * PATIENCE, || {
        let out = kubectl.run(&["get", "deployment", "web", "-o", path]);
        let numbers: Vec<u32> = out.split(' ').map(|n| n.parse().unwrap_or_default()).collect();
        let [seen, wanted, all, ready, updated] = numbers[..] else { panic!("{out}") };
        assert!(all <= 11 && 10 <= ready, "{out}");
        samples.insert(updated);
        if (seen, all, updated) == (wanted, 10, 10) { Ok(()) } else { Err(out) }
    });
    assert!(3 < samples.len(), "it went step by step: {samples:?}");
    fleet.pods_ready(&kubectl, "app=web", 10);
    let after = kubectl.run(&["get", "pods", "-o", "jsonpath={.items[*].metadata.uid}"]);
    assert!(after.split(' ').all(|uid| !before.contains(uid)), "all ten are new");
    kubectl.does(&["scale", "deployment/web", "--replicas=200"]);
    eventually("two hundred pods are Ready", 2 * PATIENCE, || {
        let ready = "jsonpath={.status.readyReplicas}";
        let out = kubectl.run(&["get", "deployment", "web", "-o", ready]);
        if out == "200" { Ok(()) } else { Err(out) }
    });
    for node in ["pi-1", "pi-2"] {
        let selector = format!("spec.nodeName={node}");
        let names = kubectl.run(&["get", "pods", "--field-selector", &selector, "-o", "name"]);
        assert_eq!(names.lines().count(), 100, "{node}");
        let grown = resident(fleet.spoke_id(node));
        assert!(grown < 512 << 10, "{node} takes {grown} KiB");
    }
    kubectl.does(&["delete", "deployment", "web"]);
    eventually("all are gone", Duration::from_secs(30), || {
        let left = kubectl.run(&["get", "rs,pods", "-l", "app=web", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(format!("{} left", left.lines().count())) }
    });
}

fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}
