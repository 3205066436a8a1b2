//! What a stock kubectl does that needs no device.

use std::path::Path;

use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, has};

#[test]
fn kubectl_works_without_a_device() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    nothing_runs_on_the_hub(&kubectl);
    again(&kubectl);
    labels_and_annotations(&kubectl);
    usual_labels(&kubectl);
    configuration(&fleet, &kubectl);
    a_foreign_network_add_on(&kubectl);
    an_account_by_its_old_name(&kubectl);
    edit_and_patch(&fleet, &kubectl);
    completion(&kubectl);
    no_shell(&kubectl);
    contexts(&fleet);
}

fn nothing_runs_on_the_hub(kubectl: &Kubectl) {
    has(&kubectl.try_run(&["get", "nodes"]).err, &["No resources found"]);
    has(&kubectl.run(&["--help"]), &["kubectl controls the Kubernetes cluster manager"]);
}

fn again(kubectl: &Kubectl) {
    let yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: once}, data: {a: b}}";
    let first = kubectl.try_apply(&["create", "-f", "-"], yaml);
    assert_eq!(first.out.trim(), "configmap/once created", "{}", first.err);
    let second = kubectl.try_apply(&["create", "-f", "-"], yaml);
    has(&second.err, &["AlreadyExists", "configmaps \"once\" already exists"]);
}

/// One object of every kind that is not there from the start; nodes belong to devices.
const EVERY: &str = "
apiVersion: v1
kind: Pod
metadata: {name: every}
spec: {containers: [{name: c, image: 'hello-http:v1'}]}
---
apiVersion: v1
kind: Secret
metadata: {name: every}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: every}
spec:
  replicas: 0
  selector: {matchLabels: {app: every}}
  template:
    metadata: {labels: {app: every}}
    spec: {containers: [{name: c, image: 'hello-http:v1'}]}
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: {name: every}
spec:
  replicas: 0
  selector: {matchLabels: {set: every}}
  template:
    metadata: {labels: {set: every}}
    spec: {containers: [{name: c, image: 'hello-http:v1'}]}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: every}
---
apiVersion: v1
kind: Event
metadata: {name: every}
involvedObject: {kind: Pod, namespace: default, name: every}
reason: Labelled
---
apiVersion: cluster.open-cluster-management.io/v1
kind: ManagedCluster
metadata: {name: every}
spec: {hubAcceptsClient: false}
";

fn labels_and_annotations(kubectl: &Kubectl) {
    kubectl.apply(EVERY);
    for object in [
        "pod/every",
        "secret/every",
        "deployment/every",
        "replicaset/every",
        "lease/every",
        "event/every",
        "managedcluster/every",
        "configmap/kube-root-ca.crt",
        "endpoints/kubernetes",
        "endpointslice/kubernetes",
        "namespace/default",
        "service/kubernetes",
        "serviceaccount/default",
    ] {
        kubectl.does(&["label", object, "colour=blue"]);
        kubectl.does(&["annotate", object, "note=blue"]);
        let kind = object.split_once('/').expect("a kind").0;
        let named = kubectl.run(&["get", kind, "-l", "colour=blue", "-o", "name"]);
        assert!(named.contains(object.split_once('/').expect("a name").1), "{object}: {named}");
        assert_eq!(
            kubectl.run(&["get", object, "-o", "jsonpath={.metadata.annotations.note}"]),
            "blue"
        );
        assert_eq!(kubectl.run(&["get", kind, "-l", "note=blue", "-o", "name"]), "", "{object}");
    }
    kubectl.does(&["delete", "managedcluster/every", "deploy/every", "rs/every"]);
    kubectl.does(&["delete", "pod/every"]);
}

/// The labels of the textbooks: release, environment, colour.
fn usual_labels(kubectl: &Kubectl) {
    for (name, labels) in [
        ("stable-dev", "{release: stable, environment: dev, app: blue}"),
        ("canary-dev", "{release: canary, environment: dev, app: green}"),
        ("canary-qa", "{release: canary, environment: qa, colour: blue, type: webserver}"),
    ] {
        kubectl.apply(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {labels}}}, \
             spec: {{containers: [{{name: c, image: 'hello-http:v1'}}]}}}}"
        ));
    }
    for (selector, expected) in [
        ("release=canary", &["canary-dev", "canary-qa"][..]),
        ("environment!=qa", &["canary-dev", "stable-dev"]),
        ("release in (stable)", &["stable-dev"]),
        ("environment notin (dev),release", &["canary-qa"]),
        ("colour", &["canary-qa"]),
        ("!colour", &["canary-dev", "stable-dev"]),
        ("app=blue", &["stable-dev"]),
        ("type=webserver", &["canary-qa"]),
    ] {
        let path = "jsonpath={.items[*].metadata.name}";
        let found = kubectl.run(&["get", "pods", "-l", selector, "-o", path]);
        assert_eq!(found.split_whitespace().collect::<Vec<_>>(), expected, "{selector}");
    }
    kubectl.does(&["delete", "pods", "--all"]);
}

fn configuration(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.does(&["create", "configmap", "logger", "--from-literal=log_level=debug"]);
    let level = kubectl.run(&["get", "cm", "logger", "-o", "jsonpath={.data.log_level}"]);
    assert_eq!(level, "debug");
    let file = fleet.path("password");
    std::fs::write(&file, "s3cret").expect("a file");
    let from_file = format!("--from-file=password={}", file.display());
    kubectl.does(&[
        "create",
        "secret",
        "generic",
        "my-secret",
        "--from-literal=user=me",
        &from_file,
    ]);
    kubectl
        .apply("{apiVersion: v1, kind: Secret, metadata: {name: written}, stringData: {user: me}}");
    for (name, key, encoded) in [
        ("my-secret", "user", "bWU="),
        ("my-secret", "password", "czNjcmV0"),
        ("written", "user", "bWU="),
    ] {
        let path = format!("jsonpath={{.data.{key}}}");
        assert_eq!(kubectl.run(&["get", "secret", name, "-o", &path]), encoded, "{name}.{key}");
    }
    tls(fleet, kubectl);
}

fn tls(fleet: &Fleet, kubectl: &Kubectl) {
    let made = rcgen::generate_simple_self_signed(["web.example".to_owned()]).expect("a pair");
    let (cert, key) = (fleet.path("tls.crt"), fleet.path("tls.key"));
    std::fs::write(&cert, made.cert.pem()).expect("a file");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
    kubectl.does(&["create", "secret", "tls", "web", &flag("cert", &cert), &flag("key", &key)]);
    let kind = kubectl.run(&["get", "secret", "web", "-o", "jsonpath={.type}"]);
    assert_eq!(kind, "kubernetes.io/tls");
    let half = "{apiVersion: v1, kind: Secret, type: kubernetes.io/tls, metadata: {name: half}, \
                data: {tls.crt: eA==}}";
    has(&kubectl.try_apply(&["create", "-f", "-"], half).err, &["data[tls.key]", "Required value"]);
}

/// What a network add-on brings to a cluster: kinds that do something here, and one that is kept.
const ADD_ON: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: net-agent, namespace: kube-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: net-config, namespace: kube-system}
data: {cni_network_config: '{}'}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: net-agent}
rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: net-agent, namespace: kube-system}
spec:
  selector: {matchLabels: {app: net}}
  template:
    metadata: {labels: {app: net}}
    spec: {hostNetwork: true, containers: [{name: c, image: 'net:v1'}]}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: pools.net.example}
spec:
  group: net.example
  scope: Cluster
  names: {kind: Pool, plural: pools}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
";

fn a_foreign_network_add_on(kubectl: &Kubectl) {
    let said = kubectl.try_apply(&["apply", "-f", "-"], ADD_ON);
    assert!(said.ok, "{}", said.err);
    for made in [
        "serviceaccount/net-agent created",
        "configmap/net-config created",
        "clusterrole.rbac.authorization.k8s.io/net-agent created",
        "daemonset.apps/net-agent created",
        "customresourcedefinition.apiextensions.k8s.io/pools.net.example created",
    ] {
        has(&said.out, &[made]);
    }
    has(&said.err, &["hostNetwork: kept without effect"]);
    has(&kubectl.run(&["get", "--raw", "/readyz"]), &["ok"]);
}

/// The old name of the field says the same.
fn an_account_by_its_old_name(kubectl: &Kubectl) {
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: agent, namespace: kube-system}, \
         spec: {serviceAccount: net-agent, containers: [{name: c, image: 'hello-http:v1'}]}}",
    );
    let path = "jsonpath={.spec.serviceAccountName} {.spec.serviceAccount}";
    let said = kubectl.run(&["-n", "kube-system", "get", "pod", "agent", "-o", path]);
    assert_eq!(said, "net-agent net-agent");
}

fn edit_and_patch(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.does(&[
        "patch",
        "configmap",
        "logger",
        "--type=merge",
        "-p",
        "{\"data\":{\"a\":\"b\"}}",
    ]);
    let editor = fleet.path("editor.sh");
    std::fs::write(&editor, "#!/bin/sh\nsed -i s/debug/info/ \"$1\"\n").expect("a file");
    let mut edit = kubectl.command(&["edit", "configmap", "logger"]);
    let done = edit.env("KUBE_EDITOR", format!("sh {}", editor.display())).output();
    let done = done.expect("kubectl edit");
    has(&String::from_utf8_lossy(&done.stdout), &["configmap/logger edited"]);
    let level = kubectl.run(&["get", "cm", "logger", "-o", "jsonpath={.data.log_level} {.data.a}"]);
    assert_eq!(level, "info b");
}

fn completion(kubectl: &Kubectl) {
    has(&kubectl.run(&["completion", "bash"]), &["bash completion"]);
    has(&kubectl.run(&["__complete", "get", "configmaps", "log"]), &["logger\n"]);
    has(&kubectl.run(&["__complete", "get", "deploy"]), &["deployments.apps"]);
}

fn no_shell(kubectl: &Kubectl) {
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: shell}, \
         spec: {nodeName: nowhere, containers: [{name: c, image: 'hello-http:v1'}]}}",
    );
    let told = kubectl.fails(&["exec", "shell", "--", "sh"]);
    has(&told, &["the spoke nowhere is not connected to the hub"]);
    kubectl.does(&["delete", "pod", "shell", "--force", "--grace-period=0"]);
}

fn contexts(fleet: &Fleet) {
    let own = fleet.path("own.kubeconfig");
    std::fs::copy(fleet.kubeconfig(), &own).expect("a copy");
    let kubectl = Kubectl::new(&own);
    kubectl.does(&["config", "set-context", "--current", "--namespace=kube-system"]);
    has(&kubectl.run(&["get", "configmap", "net-config", "-o", "name"]), &["net-config"]);
}
