//! A stock kubectl finds what its users expect, verb by verb.
//!
//! One fleet serves all checks: a fleet costs seconds, a verb milliseconds.

use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, http};

#[test]
fn the_verbs_of_kubectl_work() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("hello-http", "hello-http:v2");
    let kubectl = fleet.kubectl();
    nodes_and_clusters(&kubectl);
    discovery(&kubectl);
    create_and_look(&fleet, &kubectl);
    logs(&fleet, &kubectl);
    change(&fleet, &kubectl);
    rollouts(&fleet, &kubectl);
    expose(&fleet, &kubectl);
    metadata(&kubectl);
    without_effect(&kubectl);
    namespaces(&fleet, &kubectl);
    run_and_delete(&fleet, &kubectl);
}

/// Asserts that a table has these column heads in this order.
#[track_caller]
fn heads(table: &str, expected: &[&str]) {
    let line = table.lines().next().unwrap_or_default();
    let found: Vec<&str> =
        line.split("   ").map(str::trim).filter(|head| !head.is_empty()).collect();
    assert_eq!(found, expected, "{table}");
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

fn nodes_and_clusters(kubectl: &Kubectl) {
    let nodes = kubectl.run(&["get", "nodes", "-o", "wide"]);
    has(
        &nodes,
        &[
            "NAME",
            "STATUS",
            "ROLES",
            "AGE",
            "VERSION",
            "INTERNAL-IP",
            "CONTAINER-RUNTIME",
            "pi-1",
            "pi-2",
            "Ready",
            "wasmtime://",
        ],
    );
    let clusters = kubectl.run(&["get", "managedclusters"]);
    heads(
        &clusters,
        &["NAME", "HUB ACCEPTED", "MANAGED CLUSTER URLS", "JOINED", "AVAILABLE", "AGE"],
    );
    let row = clusters.lines().find(|line| line.starts_with("pi-1")).expect("a row for pi-1");
    assert_eq!(
        row.split_whitespace().filter(|word| *word == "true" || *word == "True").count(),
        3,
        "{clusters}"
    );
    let described = kubectl.run(&["describe", "node", "pi-1"]);
    has(&described, &["Capacity:", "Allocatable:", "Ready", "Addresses:", "System Info:"]);
    has(&described, &["HolderIdentity:  pi-1", "RenewTime:       "]);
    kubectl.does(&["label", "node", "pi-1", "disk=ssd"]);
    assert_eq!(kubectl.run(&["get", "nodes", "-l", "disk=ssd", "-o", "name"]), "node/pi-1\n");
}

fn discovery(kubectl: &Kubectl) {
    let resources = kubectl.run(&["api-resources"]);
    has(
        &resources,
        &[
            "deployments",
            "deploy",
            "apps/v1",
            "pods",
            "po",
            "managedclusters",
            "cluster.open-cluster-management.io/v1",
            "endpointslices",
        ],
    );
    let explained = kubectl.run(&["explain", "pod.spec"]);
    has(&explained, &["KIND:", "Pod", "containers", "-required-", "restartPolicy"]);
    assert!(explained.contains("DESCRIPTION"), "{explained}");
    has(
        &kubectl.run(&["explain", "deployment.spec.strategy.rollingUpdate.maxSurge"]),
        &["maxSurge", "IntOrString"],
    );
    has(&kubectl.run(&["version"]), &["Server Version: v1."]);
    let wrong = kubectl.fails(&["get", "scv"]);
    has(&wrong, &["the server doesn't have a resource type \"scv\""]);
}

fn create_and_look(fleet: &Fleet, kubectl: &Kubectl) {
    let created = kubectl.run(&[
        "create",
        "deployment",
        "web",
        "--image=hello-http:v1",
        "--replicas=2",
        "--port=8080",
    ]);
    assert_eq!(created.trim(), "deployment.apps/web created");
    let repeated = kubectl.fails(&["create", "deployment", "web", "--image=hello-http:v1"]);
    has(&repeated, &["deployments.apps \"web\" already exists"]);
    fleet.pods_ready(kubectl, "app=web", 2);
    kubectl.does(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let all = kubectl.run(&["get", "deploy,rs,po,svc,ep"]);
    has(
        &all,
        &[
            "deployment.apps/web",
            "2/2",
            "replicaset.apps/web-",
            "pod/web-",
            "1/1",
            "Running",
            "service/kubernetes",
            "endpoints/kubernetes",
        ],
    );
    let wide = kubectl.run(&["get", "pods", "-o", "wide"]);
    has(&wide, &["NOMINATED NODE", "READINESS GATES", "pi-1", "pi-2", "10."]);
    let name = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let pod = name.lines().next().expect("a pod");
    let described = kubectl.run(&["describe", pod]);
    has(
        &described,
        &[
            "Status:",
            "Running",
            "Image ID:",
            "sha256:",
            "Events:",
            "Scheduled",
            "Pulled",
            "Created",
            "Started",
        ],
    );
    has(&kubectl.run(&["get", pod, "-o", "yaml"]), &["apiVersion: v1", "kind: Pod", "podIP:"]);
    assert_eq!(kubectl.run(&["get", pod, "-o", "jsonpath={.status.phase}"]), "Running");
    let sorted = kubectl.run(&["get", "pods", "--sort-by=.metadata.name", "-o", "name"]);
    let mut names: Vec<&str> = sorted.lines().collect();
    let as_printed = names.clone();
    names.sort_unstable();
    assert_eq!(names, as_printed);
    let watch = kubectl.start(&["get", "pods", "-o", "wide", "-w"], &fleet.path("watch.out"));
    eventually("the watch shows the pods", PATIENCE, || {
        let out = watch.out();
        if out.matches("web-").count() >= 2 { Ok(()) } else { Err(out) }
    });
    kubectl.does(&["delete", pod, "--wait=false"]);
    eventually("the watch shows the replacement", PATIENCE, || {
        let out = watch.out();
        if out.contains("Terminating") && out.contains("Pending") { Ok(()) } else { Err(out) }
    });
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn logs(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.does(&[
        "expose",
        "deployment",
        "web",
        "--name=for-logs",
        "--type=NodePort",
        "--port=80",
        "--target-port=8080",
    ]);
    let port = node_port(kubectl, "for-logs");
    let pod =
        kubectl.run(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"]);
    let follow = kubectl.start(&["logs", "-f", "--timestamps", &pod], &fleet.path("follow.out"));
    eventually("each pod has answered and its log tells", PATIENCE, || {
        let answer = http::get(fleet.node_port("pi-1", port), "/hello-log");
        let out = follow.out();
        if out.contains("GET /hello-log") { Ok(()) } else { Err(format!("{answer:?} {out}")) }
    });
    let line = follow.out();
    let stamp = line.split_whitespace().next().expect("a time").to_owned();
    assert!(stamp.ends_with('Z') && stamp.contains('T'), "{stamp}");
    assert_eq!(kubectl.run(&["logs", &pod, "--tail=1"]).lines().count(), 1);
    has(
        &kubectl.fails(&["logs", &pod, "-c", "nobody"]),
        &["container nobody is not valid for pod"],
    );
    kubectl.does(&["delete", "service", "for-logs"]);
}

fn change(fleet: &Fleet, kubectl: &Kubectl) {
    assert_eq!(
        kubectl.run(&["scale", "deployment/web", "--replicas=3"]).trim(),
        "deployment.apps/web scaled"
    );
    fleet.pods_ready(kubectl, "app=web", 3);
    kubectl.does(&["scale", "deployment/web", "--replicas=2"]);
    fleet.pods_ready(kubectl, "app=web", 2);
    kubectl.does(&["set", "image", "deployment/web", "hello-http=hello-http:v2"]);
    kubectl.does(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    kubectl.does(&["set", "env", "deployment/web", "GREETING=moin"]);
    kubectl.does(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn rollouts(fleet: &Fleet, kubectl: &Kubectl) {
    let history = kubectl.run(&["rollout", "history", "deployment/web"]);
    has(&history, &["REVISION", "CHANGE-CAUSE"]);
    assert_eq!(
        history.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).count(),
        3,
        "{history}"
    );
    kubectl.does(&["rollout", "undo", "deployment/web", "--to-revision=1"]);
    kubectl.does(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    let image = kubectl.run(&[
        "get",
        "deployment",
        "web",
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    assert_eq!(image, "hello-http:v1");
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn node_port(kubectl: &Kubectl, service: &str) -> u16 {
    let text =
        kubectl.run(&["get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    text.parse().unwrap_or_else(|_| panic!("no node port: {text:?}"))
}

fn expose(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.does(&[
        "expose",
        "deployment",
        "web",
        "--type=NodePort",
        "--port=8080",
        "--target-port=8080",
    ]);
    let port = node_port(kubectl, "web");
    assert!((30000..=32767).contains(&port), "{port}");
    for node in ["pi-1", "pi-2"] {
        eventually("the exposed deployment answers", PATIENCE, || {
            match http::get(fleet.node_port(node, port), "/") {
                Ok((200, body)) if body.starts_with("hello from web-") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    let endpoints =
        kubectl.run(&["get", "endpoints", "web", "-o", "jsonpath={.subsets[0].addresses[*].ip}"]);
    assert_eq!(endpoints.split_whitespace().count(), 2, "{endpoints}");
    has(
        &kubectl.run(&["describe", "service", "web"]),
        &["Type:", "NodePort", "Endpoints:", ":8080"],
    );
}

fn metadata(kubectl: &Kubectl) {
    assert_eq!(
        kubectl.run(&["label", "deployment", "web", "tier=front"]).trim(),
        "deployment.apps/web labeled"
    );
    has(
        &kubectl.fails(&["label", "deployment", "web", "tier=back"]),
        &["already has a value (front), and --overwrite is false"],
    );
    kubectl.does(&["annotate", "deployment", "web", "note=a b c"]);
    assert_eq!(
        kubectl.run(&["get", "deploy", "-l", "tier in (front)", "-o", "name"]).trim(),
        "deployment.apps/web"
    );
    assert_eq!(kubectl.run(&["get", "deploy", "-l", "tier!=front", "-o", "name"]), "");
    has(&kubectl.run(&["get", "pods", "-A"]), &["NAMESPACE", "default"]);
}

fn without_effect(kubectl: &Kubectl) {
    let yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: only-looked-at}, data: {a: b}}";
    let said = kubectl.try_apply(&["apply", "--dry-run=server", "-f", "-"], yaml);
    assert_eq!(
        said.out.trim(),
        "configmap/only-looked-at created (server dry run)",
        "{}",
        said.err
    );
    has(
        &kubectl.fails(&["get", "configmap", "only-looked-at"]),
        &["NotFound", "configmaps \"only-looked-at\" not found"],
    );
    kubectl.apply(yaml);
    let changed = yaml.replace("a: b", "a: c");
    let diff = kubectl.try_apply(&["diff", "-f", "-"], &changed);
    assert!(!diff.ok, "diff says 1 when there is a difference");
    has(&diff.out, &["-  a: b", "+  a: c"]);
    assert!(kubectl.try_apply(&["diff", "-f", "-"], yaml).ok);
    let before = kubectl.run(&[
        "get",
        "configmap",
        "only-looked-at",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ]);
    kubectl.apply(yaml);
    let after = kubectl.run(&[
        "get",
        "configmap",
        "only-looked-at",
        "-o",
        "jsonpath={.metadata.resourceVersion}",
    ]);
    assert_eq!(before, after, "a write that changes nothing keeps its revision");
}

fn namespaces(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.does(&["create", "namespace", "team"]);
    eventually("the namespace has its account and CA", PATIENCE, || {
        let said = kubectl.try_run(&[
            "get",
            "-n",
            "team",
            "serviceaccount/default",
            "configmap/kube-root-ca.crt",
        ]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    kubectl.does(&[
        "-n",
        "team",
        "create",
        "deployment",
        "web",
        "--image=hello-http:v1",
        "--port=8080",
    ]);
    eventually("the pod in the namespace is Ready", PATIENCE, || {
        let said = kubectl.try_run(&[
            "-n",
            "team",
            "wait",
            "pod",
            "-l",
            "app=web",
            "--for=condition=Ready",
            "--timeout=5s",
        ]);
        if said.ok {
            Ok(())
        } else {
            Err(format!("{}{}", said.err, kubectl.run(&["-n", "team", "describe", "pods"])))
        }
    });
    has(
        &kubectl.run(&["get", "namespaces"]),
        &["default", "kube-system", "kube-public", "kube-node-lease", "team", "Active"],
    );
    kubectl.does(&["delete", "namespace", "team", "--timeout=60s"]);
    has(&kubectl.fails(&["get", "namespace", "team"]), &["NotFound"]);
    assert_eq!(
        kubectl.run(&[
            "get",
            "pods",
            "-A",
            "--field-selector=metadata.namespace=team",
            "-o",
            "name"
        ]),
        ""
    );
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn run_and_delete(fleet: &Fleet, kubectl: &Kubectl) {
    fleet.push("kit", "kit:v1");
    kubectl.does(&[
        "run",
        "job",
        "--image=kit:v1",
        "--restart=Never",
        "--",
        "say",
        "hello",
        "world",
    ]);
    eventually("the pod has completed", PATIENCE, || {
        let table = kubectl.run(&["get", "pod", "job"]);
        if table.contains("Completed") { Ok(()) } else { Err(table) }
    });
    assert_eq!(kubectl.run(&["logs", "job"]), "hello world\n");
    has(&kubectl.run(&["delete", "pod", "job"]), &["pod \"job\" deleted"]);
    let active = "jsonpath={.items[?(@.spec.replicas==2)].metadata.name}";
    let rs = kubectl.run(&["get", "rs", "-l", "app=web", "-o", active]);
    let uids = |kubectl: &Kubectl| {
        kubectl.run(&["get", "rs", "-l", "app=web", "-o", "jsonpath={.items[*].metadata.uid}"])
    };
    let before = uids(kubectl);
    kubectl.does(&["delete", "rs", &rs, "--wait=false"]);
    eventually("the deployment makes its replica set again", Duration::from_secs(30), || {
        let now = kubectl.run(&["get", "deploy", "web", "-o", "jsonpath={.status.readyReplicas}"]);
        let sets = uids(kubectl);
        let is_new = sets.split(' ').any(|uid| !uid.is_empty() && !before.contains(uid));
        if now == "2" && is_new { Ok(()) } else { Err(format!("{now} ready, sets {sets}")) }
    });
    kubectl.does(&["delete", "deployment", "web"]);
    eventually("everything under the deployment is gone", Duration::from_secs(60), || {
        let left = kubectl.run(&["get", "rs,pods", "-l", "app=web", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    has(&kubectl.fails(&["delete", "deployment", "web"]), &["NotFound"]);
}
