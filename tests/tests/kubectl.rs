//! A stock kubectl finds what its users expect, verb by verb: what is done with pods and the devices they run on.
//!
//! One fleet serves all checks: a fleet costs seconds, a verb milliseconds. `kubectl_output.rs` and `kubectl_hub.rs`
//! hold what needs no device.

use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, Table, eventually, has, http};

#[test]
fn the_verbs_of_kubectl_work() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("hello-http", "hello-http:v2");
    let kubectl = fleet.kubectl();
    nodes_and_clusters(&fleet, &kubectl);
    create_and_look(&fleet, &kubectl);
    logs(&fleet, &kubectl);
    change(&fleet, &kubectl);
    rollouts(&fleet, &kubectl);
    expose(&fleet, &kubectl);
    namespaces(&fleet, &kubectl);
    run_and_delete(&fleet, &kubectl);
}

fn nodes_and_clusters(fleet: &Fleet, kubectl: &Kubectl) {
    let nodes = kubectl.run(&["get", "nodes", "-o", "wide"]);
    let table = Table::read(&nodes);
    assert_eq!(
        table.heads().join(" "),
        "NAME STATUS ROLES AGE VERSION INTERNAL-IP EXTERNAL-IP OS-IMAGE KERNEL-VERSION CONTAINER-RUNTIME"
    );
    assert_eq!(table.column("NAME"), ["pi-1", "pi-2"]);
    let server = kubectl.run(&["version", "-o", "json"]);
    let server: serde_json::Value = serde_json::from_str(&server).expect("JSON");
    for node in ["pi-1", "pi-2"] {
        assert_eq!(table.cell(node, "STATUS"), "Ready", "{nodes}");
        assert_eq!(table.cell(node, "ROLES"), "spoke", "{nodes}");
        assert_eq!(table.cell(node, "INTERNAL-IP"), fleet.address(node).to_string(), "{nodes}");
        assert_eq!(server["serverVersion"]["gitVersion"], table.cell(node, "VERSION"), "{nodes}");
        assert!(table.cell(node, "CONTAINER-RUNTIME").starts_with("wasmtime://"), "{nodes}");
    }
    let clusters = kubectl.run(&["get", "managedclusters"]);
    let table = Table::read(&clusters);
    assert_eq!(
        table.heads(),
        ["NAME", "HUB ACCEPTED", "MANAGED CLUSTER URLS", "JOINED", "AVAILABLE", "AGE"]
    );
    for (head, cell) in [("HUB ACCEPTED", "true"), ("JOINED", "True"), ("AVAILABLE", "True")] {
        assert_eq!(table.column(head), [cell, cell], "{clusters}");
    }
    let own = format!("https://127.0.0.1:{}/clusters/pi-1", fleet.api_port());
    assert_eq!(table.cell("pi-1", "MANAGED CLUSTER URLS"), own, "{clusters}");
    missing_clusters(fleet, kubectl);
    let described = kubectl.run(&["describe", "node", "pi-1"]);
    has(&described, &["Capacity:", "Allocatable:", "Ready", "Addresses:", "System Info:"]);
    has(&described, &["HolderIdentity:  pi-1", "RenewTime:       "]);
    has(&described, &["Roles:              spoke", "kubernetes.io/hostname=pi-1"]);
    has(&described, &[&format!("InternalIP:  {}", fleet.address("pi-1"))]);
    assert_eq!(kubectl.run(&["label", "node", "pi-1", "disk=ssd"]), "node/pi-1 labeled\n");
    assert_eq!(kubectl.run(&["get", "nodes", "-l", "disk=ssd", "-o", "name"]), "node/pi-1\n");
}

fn create_and_look(fleet: &Fleet, kubectl: &Kubectl) {
    let created =
        kubectl.typed("create deployment web --image=hello-http:v1 --replicas=2 --port=8080");
    assert_eq!(created, "deployment.apps/web created\n");
    let repeated = kubectl.fails(&["create", "deployment", "web", "--image=hello-http:v1"]);
    has(&repeated, &["deployments.apps \"web\" already exists"]);
    assert_eq!(rolled_out(kubectl), "deployment \"web\" successfully rolled out\n");
    fleet.pods_ready(kubectl, "app=web", 2);
    every_kind(kubectl);
    let names = kubectl.run(&["get", "pods", "-l", "app=web", "-o", "name"]);
    let pods: Vec<&str> = names.lines().filter_map(|name| name.strip_prefix("pod/")).collect();
    where_they_run(fleet, kubectl, &pods);
    described(kubectl, pods[0]);
    watched(fleet, kubectl, &pods);
}

/// A name that no cluster has is told once and by name, whatever is asked for.
fn missing_clusters(fleet: &Fleet, kubectl: &Kubectl) {
    let nowhere = fleet.kubectl_of("pi-77");
    for arguments in [&["get", "pods"][..], &["get", "deploy", "web"], &["create", "ns", "a"]] {
        let said = nowhere.fails(arguments);
        assert_eq!(said.matches("\"pi-77\" not found").count(), 1, "{arguments:?}: {said}");
        assert!(said.contains("there is no cluster of this name here"), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{arguments:?}: {said}");
    }
    let output = fleet.try_hub_cli(&["get", "kubeconfig", "--cluster", "pi-77"]);
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    has(
        &String::from_utf8_lossy(&output.stderr),
        &["there is no cluster \"pi-77\"", "pi-1, pi-2", "kubectl get managedclusters"],
    );
    assert!(!kubectl.run(&["get", "managedclusters"]).contains("pi-77"));
}

/// Waits for the end of a roll-out and gives the last line about it.
fn rolled_out(kubectl: &Kubectl) -> String {
    let said = kubectl.run(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    said.lines().last().map(|line| format!("{line}\n")).unwrap_or_default()
}

fn every_kind(kubectl: &Kubectl) {
    let all = kubectl.run(&["get", "deploy,rs,po,svc,ep"]);
    let tables: Vec<Table> = all.split("\n\n").map(Table::read).collect();
    let [deployments, sets, pods, services, endpoints] = &tables[..] else { panic!("{all}") };
    assert_eq!(deployments.heads(), ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]);
    for (head, cell) in [("READY", "2/2"), ("UP-TO-DATE", "2"), ("AVAILABLE", "2")] {
        assert_eq!(deployments.cell("deployment.apps/web", head), cell, "{all}");
    }
    assert_eq!(sets.heads(), ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]);
    assert!(sets.column("NAME")[0].starts_with("replicaset.apps/web-"), "{all}");
    for head in ["DESIRED", "CURRENT", "READY"] {
        assert_eq!(sets.column(head), ["2"], "{all}");
    }
    assert_eq!(pods.heads(), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    for (head, cell) in [("READY", "1/1"), ("STATUS", "Running"), ("RESTARTS", "0")] {
        assert_eq!(pods.column(head), [cell, cell], "{all}");
    }
    assert_eq!(services.heads(), ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "AGE"]);
    assert_eq!(services.cell("service/kubernetes", "PORT(S)"), "443/TCP", "{all}");
    assert_eq!(endpoints.heads(), ["NAME", "ENDPOINTS", "AGE"]);
    let hub = endpoints.cell("endpoints/kubernetes", "ENDPOINTS");
    assert!(hub.starts_with("127.0.0.1:"), "{all}");
}

/// One pod on each device, each with an address of the pod network.
fn where_they_run(fleet: &Fleet, kubectl: &Kubectl, pods: &[&str]) {
    let wide = kubectl.run(&["get", "pods", "-o", "wide"]);
    let table = Table::read(&wide);
    assert_eq!(table.heads()[5..], ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"], "{wide}");
    let mut nodes = table.column("NODE");
    nodes.sort_unstable();
    assert_eq!(nodes, ["pi-1", "pi-2"], "{wide}");
    for pod in pods {
        let node = table.cell(pod, "NODE");
        assert!(table.cell(pod, "IP").starts_with("10."), "{wide}");
        has(
            &kubectl.run(&["describe", "pod", pod]),
            &[&format!("Node:             {node}/{}", fleet.address(node))],
        );
    }
}

fn described(kubectl: &Kubectl, pod: &str) {
    let ip = kubectl.run(&["get", "pod", pod, "-o", "jsonpath={.status.podIP}"]);
    has(
        &kubectl.run(&["describe", "pod", pod]),
        &[
            &format!("Name:             {pod}"),
            "Namespace:        default",
            "Labels:           app=web",
            "Status:           Running",
            &format!("IP:               {ip}"),
            "Controlled By:  ReplicaSet/web-",
            "Image:          hello-http:v1",
            "Image ID:       hello-http@sha256:",
            "Port:           8080/TCP",
            "State:          Running",
            "Ready:          True",
            "Restart Count:  0",
            "BestEffort",
            &format!("Successfully assigned default/{pod} to pi-"),
            "Pulled",
            "Created container: hello-http",
            "Started container hello-http",
        ],
    );
}

fn watched(fleet: &Fleet, kubectl: &Kubectl, pods: &[&str]) {
    let watch = kubectl.start(&["get", "pods", "-o", "wide", "-w"], &fleet.path("watch.out"));
    eventually("the watch shows the pods and where they run", PATIENCE, || {
        let out = watch.out();
        let shown = Table::read(&out);
        let there = shown.heads().contains(&"NODE") && pods.iter().all(|pod| out.contains(pod));
        if there { Ok(()) } else { Err(out) }
    });
    let deleted = kubectl.run(&["delete", "pod", pods[0], "--wait=false"]);
    assert_eq!(deleted, format!("pod \"{}\" deleted\n", pods[0]));
    eventually("the watch shows the end and the replacement", PATIENCE, || {
        let out = watch.out();
        let row = |name: &dyn Fn(&str) -> bool, state: &str| {
            out.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next().is_some_and(name) && words.any(|word| word == state)
            })
        };
        let new = |name: &str| name.starts_with("web-") && !pods.contains(&name);
        let old = |name: &str| name == pods[0];
        let told = row(&old, "Terminating") && row(&new, "Pending") && row(&new, "Running");
        if told { Ok(()) } else { Err(out) }
    });
    let heads = watch.out().lines().filter(|line| line.starts_with("NAME ")).count();
    assert_eq!(heads, 1, "{}", watch.out());
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn logs(fleet: &Fleet, kubectl: &Kubectl) {
    let _ = kubectl.typed(
        "expose deployment web --name=for-logs --type=NodePort --port=80 --target-port=8080",
    );
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
        kubectl.run(&["scale", "deployment/web", "--replicas=3"]),
        "deployment.apps/web scaled\n"
    );
    fleet.pods_ready(kubectl, "app=web", 3);
    kubectl.does(&["scale", "deployment/web", "--replicas=2"]);
    fleet.pods_ready(kubectl, "app=web", 2);
    let image = ["set", "image", "deployment/web", "hello-http=hello-http:v2"];
    assert_eq!(kubectl.run(&image), "deployment.apps/web image updated\n");
    rolled_out(kubectl);
    let env = ["set", "env", "deployment/web", "GREETING=moin"];
    assert_eq!(kubectl.run(&env), "deployment.apps/web env updated\n");
    rolled_out(kubectl);
    fleet.pods_ready(kubectl, "app=web", 2);
    let path = "jsonpath={range .items[*].spec.containers[0]}{.image} {.env[0].value} {end}";
    let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", path]);
    assert_eq!(pods, "hello-http:v2 moin hello-http:v2 moin ");
    has(
        &kubectl.run(&["set", "env", "deployment/web", "--list"]),
        &["# Deployment web, container hello-http", "GREETING=moin"],
    );
}

/// The numbers in a roll-out's history.
fn revisions(kubectl: &Kubectl) -> Vec<u32> {
    let history = kubectl.run(&["rollout", "history", "deployment/web"]);
    has(&history, &["deployment.apps/web", "REVISION  CHANGE-CAUSE"]);
    history.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn rollouts(fleet: &Fleet, kubectl: &Kubectl) {
    assert_eq!(revisions(kubectl), [1, 2, 3]);
    let third = kubectl.run(&["rollout", "history", "deployment/web", "--revision=3"]);
    has(&third, &["revision #3", "Image:\thello-http:v2", "GREETING:\tmoin"]);
    let undone = kubectl.run(&["rollout", "undo", "deployment/web", "--to-revision=1"]);
    assert_eq!(undone, "deployment.apps/web rolled back\n");
    rolled_out(kubectl);
    assert_eq!(revisions(kubectl), [2, 3, 4]);
    let path = "jsonpath={.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].env}";
    let image = kubectl.run(&["get", "deployment", "web", "-o", path]);
    assert_eq!(image, "hello-http:v1 ", "the first revision had no environment");
    has(
        &kubectl.fails(&["rollout", "undo", "deployment/web", "--to-revision=1"]),
        &["unable to find specified revision 1 in history"],
    );
    fleet.pods_ready(kubectl, "app=web", 2);
}

fn node_port(kubectl: &Kubectl, service: &str) -> u16 {
    let text =
        kubectl.run(&["get", "service", service, "-o", "jsonpath={.spec.ports[0].nodePort}"]);
    text.parse().unwrap_or_else(|_| panic!("no node port: {text:?}"))
}

fn expose(fleet: &Fleet, kubectl: &Kubectl) {
    let exposed =
        kubectl.typed("expose deployment web --type=NodePort --port=8080 --target-port=8080");
    assert_eq!(exposed, "service/web exposed\n");
    let port = node_port(kubectl, "web");
    assert!((30000..=32767).contains(&port), "{port}");
    for node in ["pi-1", "pi-2"] {
        fleet.answers(node, port, "hello from web-");
    }
    let path = "jsonpath={range .items[*]}{.status.podIP}:8080{\"\\n\"}{end}";
    let pods = kubectl.run(&["get", "pods", "-l", "app=web", "-o", path]);
    let mut pods: Vec<&str> = pods.lines().collect();
    pods.sort_unstable();
    let both = kubectl.run(&["get", "svc/web", "ep/web"]);
    let tables: Vec<Table> = both.split("\n\n").map(Table::read).collect();
    assert_eq!(tables[0].cell("service/web", "TYPE"), "NodePort", "{both}");
    assert_eq!(tables[0].cell("service/web", "PORT(S)"), format!("8080:{port}/TCP"), "{both}");
    let mut endpoints: Vec<&str> =
        tables[1].cell("endpoints/web", "ENDPOINTS").split(',').collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, pods, "{both}");
    let described = kubectl.run(&["describe", "service", "web"]);
    has(
        &described,
        &["Type:                     NodePort", &format!("{port}/TCP"), pods[0], pods[1]],
    );
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
    let _ = kubectl.typed("-n team create deployment web --image=hello-http:v1 --port=8080");
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
    let here = kubectl.run(&["-n", "team", "get", "deploy"]);
    assert_eq!(Table::read(&here).column("NAME"), ["web"]);
    assert_eq!(Table::read(&here).cell("web", "READY"), "1/1", "{here}");
    let everywhere = kubectl.run(&["get", "pods", "-A"]);
    let everywhere = Table::read(&everywhere);
    assert_eq!(everywhere.heads()[..2], ["NAMESPACE", "NAME"]);
    assert_eq!(everywhere.column("NAMESPACE"), ["default", "default", "team"]);
    let namespaces = kubectl.run(&["get", "namespaces"]);
    assert_eq!(
        Table::read(&namespaces).column("NAME"),
        [
            "default",
            "kube-node-lease",
            "kube-public",
            "kube-system",
            "open-cluster-management",
            "open-cluster-management-hub",
            "pi-1",
            "pi-2",
            "team"
        ]
    );
    assert_eq!(Table::read(&namespaces).column("STATUS"), ["Active"; 9]);
    let deleted = kubectl.run(&["delete", "namespace", "team", "--timeout=60s"]);
    assert_eq!(deleted, "namespace \"team\" deleted\n");
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
    let run = kubectl.typed("run job --image=kit:v1 --restart=Never -- say hello world");
    assert_eq!(run, "pod/job created\n");
    eventually("the pod has completed", PATIENCE, || {
        let table = kubectl.run(&["get", "pod", "job"]);
        if table.contains("Completed") { Ok(()) } else { Err(table) }
    });
    assert_eq!(kubectl.run(&["logs", "job"]), "hello world\n");
    assert_eq!(kubectl.run(&["delete", "pod", "job"]), "pod \"job\" deleted\n");
    has(&kubectl.fails(&["get", "pod", "job"]), &["pods \"job\" not found"]);
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
    let deleted = kubectl.run(&["delete", "deployment", "web"]);
    assert_eq!(deleted, "deployment.apps \"web\" deleted\n");
    eventually("everything under the deployment is gone", Duration::from_secs(60), || {
        let left = kubectl.run(&["get", "rs,pods", "-l", "app=web", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    has(&kubectl.fails(&["delete", "deployment", "web"]), &["NotFound"]);
}
