//! What a stock kubectl prints is what is there: every output form, order, watch and dry run. It needs no device.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, Table, eventually, has};
use serde_json::Value;

/// By name they come as ant, bee, cat; by replicas and by rank in other orders.
const ANIMALS: [(&str, u32, &str); 3] =
    [("ant", 3, "second"), ("bee", 1, "third"), ("cat", 2, "first")];

#[test]
fn kubectl_prints_what_is_there_in_every_form() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    discovery(&kubectl);
    without_effect(&kubectl);
    for (name, replicas, rank) in ANIMALS {
        let replicas = format!("--replicas={replicas}");
        kubectl.does(&["create", "deployment", name, "--image=hello-http:v1", &replicas]);
        kubectl.does(&["label", "deployment", name, &format!("rank={rank}")]);
    }
    as_json(&kubectl);
    as_yaml(&kubectl);
    as_words(&kubectl);
    as_table(&kubectl);
    in_order(&kubectl);
    everywhere_or_here(&kubectl);
    applied(&kubectl);
    only_tried(&kubectl);
    metadata(&kubectl);
    watched(&fleet, &kubectl);
}

fn as_json(kubectl: &Kubectl) {
    let one = kubectl.json(&["get", "deployment", "ant"]);
    assert_eq!((&one["apiVersion"], &one["kind"]), (&"apps/v1".into(), &"Deployment".into()));
    assert_eq!(one["metadata"]["name"], "ant");
    assert_eq!(one["metadata"]["labels"], serde_json::json!({"app": "ant", "rank": "second"}));
    assert_eq!(one["spec"]["replicas"], 3);
    assert_eq!(one["spec"]["template"]["spec"]["containers"][0]["image"], "hello-http:v1");
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let name = |item: &Value| format!("{} {}", item["kind"], item["metadata"]["name"]);
        items.iter().map(|item| name(item).replace('"', "")).collect()
    };
    let all = kubectl.json(&["get", "deployments"]);
    assert_eq!((&all["apiVersion"], &all["kind"]), (&"v1".into(), &"List".into()));
    assert_eq!(names(&all), ["Deployment ant", "Deployment bee", "Deployment cat"]);
    let mixed = kubectl.json(&["get", "deployment/bee", "service/kubernetes"]);
    assert_eq!(names(&mixed), ["Deployment bee", "Service kubernetes"]);
    assert_eq!(
        kubectl.json(&["get", "deployments", "-l", "rank=none"])["items"],
        serde_json::json!([])
    );
}

/// What was printed can be sent back: it says the same, and a change in it is taken.
fn as_yaml(kubectl: &Kubectl) {
    let revision = ["get", "deployment", "cat", "-o", "jsonpath={.metadata.resourceVersion}"];
    eventually("the controller has seen the deployment", PATIENCE, || {
        let path =
            "jsonpath={.metadata.generation} {.status.observedGeneration} {.status.replicas}";
        let said = kubectl.run(&["get", "deployment", "cat", "-o", path]);
        let mut words = said.split_whitespace();
        let seen = words.next() == words.next() && words.next() == Some("2");
        if seen { Ok(()) } else { Err(said) }
    });
    let yaml = kubectl.run(&["get", "deployment", "cat", "-o", "yaml"]);
    has(
        &yaml,
        &[
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n",
            "\n  name: cat\n",
            "\n  replicas: 2\n",
        ],
    );
    let before = kubectl.run(&revision);
    let same = kubectl.try_apply(&["replace", "-f", "-"], &yaml);
    assert_eq!(same.out, "deployment.apps/cat replaced\n", "{}", same.err);
    assert_eq!(kubectl.run(&revision), before, "it says the same");
    let changed = yaml.replace("image: hello-http:v1", "image: hello-http:v2");
    let said = kubectl.try_apply(&["replace", "-f", "-"], &changed);
    assert_eq!(said.out, "deployment.apps/cat replaced\n", "{}", said.err);
    has(&kubectl.run(&["get", "deployment", "cat", "-o", "yaml"]), &["image: hello-http:v2"]);
    let late = kubectl.try_apply(&["replace", "-f", "-"], &yaml);
    assert!(!late.ok, "{}", late.out);
    has(
        &late.err,
        &[
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ],
    );
}

fn as_words(kubectl: &Kubectl) {
    assert_eq!(
        kubectl.run(&["get", "deploy", "-o", "name"]),
        "deployment.apps/ant\ndeployment.apps/bee\ndeployment.apps/cat\n"
    );
    for (path, words) in [
        ("{.items[*].spec.replicas}", "3 1 2"),
        ("{.items[?(@.spec.replicas>1)].metadata.name}", "ant cat"),
        (
            "{range .items[*]}{.metadata.name}={.metadata.labels.rank};{end}",
            "ant=second;bee=third;cat=first;",
        ),
        ("{.items[0].spec.template.spec.containers[0].image}", "hello-http:v1"),
        ("{.items[0].metadata.labels.nothing}", ""),
    ] {
        assert_eq!(
            kubectl.run(&["get", "deploy", "-o", &format!("jsonpath={path}")]),
            words,
            "{path}"
        );
    }
    let template = "go-template={{range .items}}{{.metadata.name}} {{end}}";
    assert_eq!(kubectl.run(&["get", "deploy", "-o", template]), "ant bee cat ");
    let columns = kubectl.run(&[
        "get",
        "deploy",
        "-o",
        "custom-columns=WHO:.metadata.name,MANY:.spec.replicas",
    ]);
    let columns = Table::read(&columns);
    assert_eq!(columns.heads(), ["WHO", "MANY"]);
    assert_eq!(columns.column("MANY"), ["3", "1", "2"]);
}

fn as_table(kubectl: &Kubectl) {
    let wide = kubectl.run(&["get", "deploy", "-o", "wide", "--show-labels", "-L", "rank"]);
    let wide = Table::read(&wide);
    assert_eq!(
        wide.heads(),
        [
            "NAME",
            "READY",
            "UP-TO-DATE",
            "AVAILABLE",
            "AGE",
            "CONTAINERS",
            "IMAGES",
            "SELECTOR",
            "RANK",
            "LABELS"
        ]
    );
    assert_eq!(wide.column("READY"), ["0/3", "0/1", "0/2"]);
    assert_eq!(wide.cell("ant", "SELECTOR"), "app=ant");
    assert_eq!(wide.column("RANK"), ["second", "third", "first"]);
    assert_eq!(wide.cell("ant", "LABELS"), "app=ant,rank=second");
    let bare = kubectl.run(&["get", "deploy", "--no-headers"]);
    assert_eq!(bare.lines().count(), 3, "{bare}");
    let some = kubectl.try_run(&["get", "deploy", "cat", "dog", "ant"]);
    assert!(!some.ok);
    assert_eq!(Table::read(&some.out).column("NAME"), ["cat", "ant"]);
    has(&some.err, &["Error from server (NotFound): deployments.apps \"dog\" not found"]);
    assert_eq!(kubectl.run(&["get", "deploy", "dog", "--ignore-not-found"]), "");
    let none = kubectl.try_run(&["get", "secrets"]);
    assert_eq!(none.err, "No resources found in default namespace.\n");
    // Nobody runs them, and their user is told.
    let pods = kubectl.run(&["get", "pods", "-l", "app=bee"]);
    assert_eq!(Table::read(&pods).column("STATUS"), ["Pending"], "{pods}");
    eventually("the scheduler says why", PATIENCE, || {
        let text = kubectl.run(&["describe", "pods", "-l", "app=bee"]);
        let told = text.contains("FailedScheduling")
            && text.contains("no nodes available to schedule pods");
        if told { Ok(()) } else { Err(text) }
    });
}

/// kubectl sorts itself, by a field of the objects that the server puts into the rows.
fn in_order(kubectl: &Kubectl) {
    for (field, order) in [
        (".spec.replicas", ["bee", "cat", "ant"]),
        (".metadata.labels.rank", ["cat", "ant", "bee"]),
        ("{.metadata.name}", ["ant", "bee", "cat"]),
    ] {
        let sorted = kubectl.run(&["get", "deploy", &format!("--sort-by={field}")]);
        assert_eq!(Table::read(&sorted).column("NAME"), order, "{field}\n{sorted}");
        let names = kubectl.run(&["get", "deploy", &format!("--sort-by={field}"), "-o", "name"]);
        let names: Vec<&str> =
            names.lines().filter_map(|name| name.split_once('/')).map(|(_, name)| name).collect();
        assert_eq!(names, order, "{field}");
    }
}

fn everywhere_or_here(kubectl: &Kubectl) {
    kubectl.does(&["create", "namespace", "zoo"]);
    let created =
        kubectl.run(&["-n", "zoo", "create", "deployment", "bee", "--image=hello-http:v1"]);
    assert_eq!(created, "deployment.apps/bee created\n");
    let path = "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}";
    assert_eq!(kubectl.run(&["-n", "zoo", "get", "deploy", "-o", path]), "zoo/bee ");
    assert_eq!(
        kubectl.run(&["get", "deploy", "-A", "-o", path]),
        "default/ant default/bee default/cat zoo/bee "
    );
    let table = kubectl.run(&["get", "deploy", "-A", "-l", "app=bee"]);
    let table = Table::read(&table);
    assert_eq!(table.heads()[..2], ["NAMESPACE", "NAME"]);
    assert_eq!(table.column("NAMESPACE"), ["default", "zoo"]);
    // In pages of one it is the same list.
    let paged = kubectl.run(&["get", "deploy", "-A", "--chunk-size=1", "-o", path]);
    assert_eq!(paged, "default/ant default/bee default/cat zoo/bee ");
    assert_eq!(
        kubectl.run(&["-n", "zoo", "delete", "deployment", "bee"]),
        "deployment.apps \"bee\" deleted\n"
    );
    let nowhere = kubectl.try_run(&["-n", "nowhere", "get", "deploy"]);
    assert_eq!(nowhere.err, "No resources found in nowhere namespace.\n");
    has(
        &kubectl.fails(&["-n", "nowhere", "create", "configmap", "lost"]),
        &["namespaces \"nowhere\" not found"],
    );
}

/// `apply` says which of the three it was.
fn applied(kubectl: &Kubectl) {
    let yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: word}, data: {word: one}}";
    for (yaml, how) in [
        (yaml.to_owned(), "created"),
        (yaml.to_owned(), "unchanged"),
        (yaml.replace("one", "two"), "configured"),
    ] {
        let said = kubectl.try_apply(&["apply", "-f", "-"], &yaml);
        assert_eq!(said.out, format!("configmap/word {how}\n"), "{}", said.err);
        assert_eq!(said.err, "");
    }
    let word = kubectl.run(&["get", "configmap", "word", "-o", "jsonpath={.data.word}"]);
    assert_eq!(word, "two");
    let deleted = kubectl.try_apply(&["delete", "-f", "-"], yaml);
    assert_eq!(deleted.out, "configmap \"word\" deleted\n", "{}", deleted.err);
}

/// `--dry-run=server` says what would be, and nothing is.
fn only_tried(kubectl: &Kubectl) {
    let state = || {
        let names = kubectl.run(&["get", "pods,services", "-o", "name"]);
        kubectl.run(&["get", "deployments", "-o", "yaml"]) + &names
    };
    let mut before = String::new();
    let settled = eventually("the controllers are done", PATIENCE, || {
        let now = state();
        if before == now { Ok(now) } else { Err(std::mem::replace(&mut before, now)) }
    });
    for (arguments, said) in [
        (&["create", "deployment", "dog", "--image=a"][..], "deployment.apps/dog created"),
        (&["scale", "deployment/ant", "--replicas=9"], "deployment.apps/ant scaled"),
        (&["set", "image", "deployment/ant", "hello-http=b"], "deployment.apps/ant image updated"),
        (&["set", "env", "deployment/ant", "A=b"], "deployment.apps/ant env updated"),
        (&["label", "deployment", "ant", "a=b"], "deployment.apps/ant labeled"),
        (&["annotate", "deployment", "ant", "a=b"], "deployment.apps/ant annotated"),
        (&["expose", "deployment", "ant", "--port=80"], "service/ant exposed"),
        (&["run", "dog", "--image=a"], "pod/dog created"),
        (&["delete", "deployment", "ant"], "deployment.apps \"ant\" deleted"),
    ] {
        let mut all = arguments.to_vec();
        all.push("--dry-run=server");
        assert_eq!(kubectl.run(&all), format!("{said} (server dry run)\n"));
    }
    assert_eq!(state(), settled);
    // The server did look: what it would refuse is refused.
    has(
        &kubectl.fails(&["run", "Dog", "--image=a", "--dry-run=server"]),
        &["metadata.name: Invalid value: \"Dog\""],
    );
}

fn watched(fleet: &Fleet, kubectl: &Kubectl) {
    let flags = ["get", "configmap", "-w", "--output-watch-events", "--no-headers"];
    let watch = kubectl.start(&flags, &fleet.path("watch.out"));
    let tells = |event: &str, data: &str| {
        eventually(&format!("the watch tells {event}"), PATIENCE, || {
            let out = watch.out();
            let row = out.lines().any(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                words[..words.len().min(3)] == [event, "seen", data]
            });
            if row { Ok(()) } else { Err(out) }
        });
    };
    kubectl.does(&["create", "configmap", "seen", "--from-literal=a=b"]);
    tells("ADDED", "1");
    kubectl.does(&["patch", "configmap", "seen", "-p", "{\"data\":{\"c\":\"d\"}}"]);
    tells("MODIFIED", "2");
    kubectl.does(&["delete", "configmap", "seen"]);
    tells("DELETED", "2");
}

fn discovery(kubectl: &Kubectl) {
    let resources = kubectl.run(&["api-resources"]);
    let table = Table::read(&resources);
    assert_eq!(table.heads(), ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]);
    for (name, short, version, namespaced, kind) in [
        ("pods", "po", "v1", "true", "Pod"),
        ("nodes", "no", "v1", "false", "Node"),
        ("deployments", "deploy", "apps/v1", "true", "Deployment"),
        ("endpointslices", "", "discovery.k8s.io/v1", "true", "EndpointSlice"),
        (
            "managedclusters",
            "mcl,mcls",
            "cluster.open-cluster-management.io/v1",
            "false",
            "ManagedCluster",
        ),
    ] {
        for (head, cell) in [
            ("SHORTNAMES", short),
            ("APIVERSION", version),
            ("NAMESPACED", namespaced),
            ("KIND", kind),
        ] {
            assert_eq!(table.cell(name, head), cell, "{resources}");
        }
    }
    let explained = kubectl.run(&["explain", "pod.spec"]);
    has(
        &explained,
        &[
            "KIND:       Pod",
            "VERSION:    v1",
            "FIELD: spec <PodSpec>",
            "DESCRIPTION:",
            "Specification of the desired behavior of the pod.",
            "containers\t<[]Container> -required-",
            "restartPolicy\t<string>",
        ],
    );
    has(
        &kubectl.run(&["explain", "deployment.spec.strategy.rollingUpdate.maxSurge"]),
        &["maxSurge", "IntOrString"],
    );
    has(&kubectl.fails(&["explain", "pod.spec.nothing"]), &["field \"nothing\" does not exist"]);
    has(&kubectl.run(&["version"]), &["Server Version: v1."]);
    let wrong = kubectl.fails(&["get", "scv"]);
    has(&wrong, &["the server doesn't have a resource type \"scv\""]);
}

fn metadata(kubectl: &Kubectl) {
    assert_eq!(
        kubectl.run(&["label", "deployment", "ant", "tier=front"]),
        "deployment.apps/ant labeled\n"
    );
    has(
        &kubectl.fails(&["label", "deployment", "ant", "tier=back"]),
        &["already has a value (front), and --overwrite is false"],
    );
    assert_eq!(
        kubectl.run(&["annotate", "deployment", "ant", "note=a b c"]),
        "deployment.apps/ant annotated\n"
    );
    let note = ["get", "deployment", "ant", "-o", "jsonpath={.metadata.annotations.note}"];
    assert_eq!(kubectl.run(&note), "a b c");
    assert_eq!(
        kubectl.run(&["get", "deploy", "-l", "tier in (front)", "-o", "name"]),
        "deployment.apps/ant\n"
    );
    assert_eq!(
        kubectl.run(&["get", "deploy", "-l", "tier!=front", "-o", "name"]),
        "deployment.apps/bee\ndeployment.apps/cat\n"
    );
    kubectl.does(&["label", "deployment", "ant", "tier-"]);
    assert_eq!(kubectl.run(&["get", "deploy", "-l", "tier", "-o", "name"]), "");
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
    let first = kubectl.try_apply(&["apply", "-f", "-"], yaml);
    assert_eq!(first.out, "configmap/only-looked-at created\n", "{}", first.err);
    let changed = yaml.replace("a: b", "a: c");
    let diff = kubectl.try_apply(&["diff", "-f", "-"], &changed);
    assert!(!diff.ok, "diff says 1 when there is a difference");
    has(&diff.out, &["-  a: b", "+  a: c"]);
    assert!(kubectl.try_apply(&["diff", "-f", "-"], yaml).ok);
    let revision =
        ["get", "configmap", "only-looked-at", "-o", "jsonpath={.metadata.resourceVersion}"];
    let before = kubectl.run(&revision);
    kubectl.apply(yaml);
    assert_eq!(kubectl.run(&revision), before, "a write that changes nothing keeps its revision");
}
