//! Verbs of kubectl that nobody needs each day, with the kubectl that is there and with the newest one that is built here.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, guests, has, tools};

#[test]
fn the_kubectl_of_here_knows_its_rarer_verbs() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    verbs(&fleet, &fleet.kubectl());
}

#[test]
fn the_newest_kubectl_knows_its_rarer_verbs() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    let newest = fleet.kubectl().by(&tools::go_client("kubectl", "."));
    verbs(&fleet, &newest);
}

fn verbs(fleet: &Fleet, kubectl: &Kubectl) {
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("hello-http", "hello-http:v2");
    fleet.push("kit", "kit:v1");
    creates(kubectl);
    sets(kubectl);
    applies_folders(kubectl);
    applies_sets(kubectl);
    replaces(kubectl);
    reconciles(kubectl);
    waits(fleet, kubectl);
    taints_and_drains(fleet, kubectl);
    rolls_out(kubectl);
    attaches(kubectl);
    tells_of_every_kind(kubectl);
}

/// Everything that `kubectl create` makes, and what is shown of it.
fn creates(kubectl: &Kubectl) {
    for (line, made) in [
        ("clusterrole reader --verb=get,list --resource=pods", "clusterrole"),
        ("clusterrolebinding readers --clusterrole=reader --user=jane", "clusterrolebinding"),
        ("role r --verb=get --resource=pods/log,deployments.apps", "role"),
        ("rolebinding r --role=r --serviceaccount=default:default", "rolebinding"),
        ("serviceaccount worker", "serviceaccount"),
        ("quota small --hard=pods=50,configmaps=100", "resourcequota"),
        ("priorityclass high --value=1000", "priorityclass"),
        ("poddisruptionbudget all --selector=app=web --min-available=1", "poddisruptionbudget"),
        ("ingress site --rule=example.com/*=web:80,tls=cert", "ingress"),
        ("service clusterip plain --tcp=80:8080", "service"),
        ("service nodeport outside --tcp=80:8080", "service"),
        ("service loadbalancer balanced --tcp=80:8080", "service"),
        ("service externalname away --external-name=example.com", "service"),
        (
            "secret docker-registry pull --docker-server=r --docker-username=u --docker-password=p",
            "secret",
        ),
        ("job once --image=kit:v1 -- kit say hello", "job"),
        ("cronjob nightly --image=kit:v1 --schedule=@daily -- kit say good night", "cronjob"),
        ("job by-hand --from=cronjob/nightly", "job"),
    ] {
        has(&kubectl.typed(&format!("create {line}")), &[made, " created"]);
    }
    let token = kubectl.typed("create token worker --duration=10m");
    assert_eq!(token.trim().split('.').count(), 3, "a token: {token}");
    let used = "jsonpath={.status.hard.pods} {.status.used.pods}";
    eventually("the quota counts", PATIENCE, || {
        let said = kubectl.run(&["get", "resourcequota", "small", "-o", used]);
        if said.starts_with("50 ") && said.len() > 3 { Ok(()) } else { Err(said) }
    });
    for job in ["once", "by-hand"] {
        let line = format!("wait --for=condition=complete job/{job} --timeout=60s");
        has(&kubectl.typed(&line), &["condition met"]);
    }
    assert_eq!(kubectl.typed("logs job/by-hand"), "good night\n");
    has(&kubectl.typed("describe quota small"), &["configmaps", "pods"]);
    has(&kubectl.typed("describe ingress site"), &["example.com", "web:80", "cert terminates"]);
}

fn sets(kubectl: &Kubectl) {
    let _ = kubectl.typed("create deployment web --image=hello-http:v1 --replicas=1 --port=8080");
    let path = "jsonpath={.spec.template.spec.containers[0]}";
    for line in [
        "set resources deployment/web --limits=cpu=200m,memory=64Mi --requests=cpu=100m",
        "set env deployment/web A=b --from=configmap/kube-root-ca.crt --prefix=X_",
        "set serviceaccount deployment/web worker",
        "set subject rolebinding/r --user=joe",
        "set selector service/plain app=web",
        "autoscale deployment/web --min=1 --max=3 --cpu-percent=80",
        "label deployment/web tier=front --overwrite",
        "annotate deployment/web note=one --overwrite",
    ] {
        let _ = kubectl.typed(line);
    }
    let container = kubectl.run(&["get", "deployment", "web", "-o", path]);
    has(&container, &["\"cpu\":\"200m\"", "X_CA_CRT", "\"memory\":\"64Mi\""]);
    has(&kubectl.typed("get rolebinding r -o wide"), &["joe", "default/default"]);
    has(&kubectl.typed("label deployment/web --list"), &["tier=front", "app=web"]);
    has(&kubectl.typed("get hpa"), &["Deployment/web", "1", "3"]);
    has(&kubectl.typed("get deployment web --show-labels"), &["LABELS", "tier=front"]);
    let _ = kubectl.typed("delete hpa web");
}

/// `apply -k`: what is generated has a name by its content, and what it belongs to follows.
fn applies_folders(kubectl: &Kubectl) {
    let folder = guests::root().join("tests/clients/kustomize");
    let folder = folder.to_string_lossy();
    let applied = kubectl.run(&["apply", "-k", &folder]);
    has(&applied, &["configmap/edge-settings-", "deployment.apps/edge-app created"]);
    let path = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.template.spec.containers[0].envFrom[0].configMapRef.name}";
    let found = kubectl.run(&["get", "deployment", "edge-app", "-o", path]);
    assert!(found.starts_with("2 hello-http:v2 edge-settings-"), "{found}");
    let again = kubectl.run(&["apply", "-k", &folder]);
    assert_eq!(again.matches(" unchanged").count(), 3, "{again}");
    let shown = kubectl.try_run(&["diff", "-k", &folder]);
    assert!(shown.ok && shown.out.is_empty(), "{}{}", shown.out, shown.err);
    has(&kubectl.run(&["delete", "-k", &folder]), &["edge-app\" deleted"]);
}

fn config_maps(names: &[&str]) -> String {
    let one = |name: &&str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, labels: {{set: one}}}}\n---\n"
        )
    };
    names.iter().map(one).collect()
}

/// What is left out of a set goes with the next apply, by label as of old and by an ApplySet.
fn applies_sets(kubectl: &Kubectl) {
    let by_label = ["apply", "-f", "-", "--prune", "-l", "set=one"];
    let said = kubectl.try_apply(&by_label, &config_maps(&["kept", "left-out"]));
    assert!(said.ok, "{}", said.err);
    let said = kubectl.try_apply(&by_label, &config_maps(&["kept"]));
    has(&said.out, &["configmap/kept unchanged", "configmap/left-out pruned"]);
    let set =
        ["apply", "-f", "-", "--prune", "--applyset=things", "--server-side", "-n", "default"];
    let apply = |yaml: &str| {
        let mut command = kubectl.command(&set);
        let file = std::env::temp_dir().join(format!("freewheel-set-{}", std::process::id()));
        std::fs::write(&file, yaml).expect("manifests");
        let input = std::fs::File::open(&file).expect("manifests");
        let done = command.env("KUBECTL_APPLYSET", "true").stdin(input).output().expect("kubectl");
        let _ = std::fs::remove_file(&file);
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{err}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    let first = apply(&config_maps(&["in-set", "out-of-set"]));
    has(&first, &["configmap/in-set serverside-applied"]);
    has(&apply(&config_maps(&["in-set"])), &["configmap/out-of-set pruned"]);
    has(&kubectl.typed("get secret things -o yaml"), &["applyset.kubernetes.io/id"]);
    let _ = kubectl.typed("delete configmap kept in-set");
}

fn replaces(kubectl: &Kubectl) {
    let uid = "get configmap replaced -o jsonpath={.metadata.uid}";
    kubectl.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: replaced}, data: {a: b}}");
    let before = kubectl.typed(uid);
    let fixed = "{apiVersion: v1, kind: ConfigMap, metadata: {name: replaced}, immutable: true}";
    let said = kubectl.try_apply(&["replace", "--force", "-f", "-"], fixed);
    has(&said.out, &["configmap \"replaced\" deleted", "configmap/replaced replaced"]);
    assert_ne!(kubectl.typed(uid), before);
    let changed = kubectl.fails(&[
        "patch",
        "configmap",
        "replaced",
        "--type=merge",
        "-p",
        "{\"data\":{\"a\":\"c\"}}",
    ]);
    has(&changed, &["field is immutable when `immutable` is set"]);
    let _ = kubectl.typed("delete configmap replaced");
}

fn reconciles(kubectl: &Kubectl) {
    let roles = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [secrets], verbs: [list]}]
";
    let said = kubectl.try_apply(&["auth", "reconcile", "-f", "-"], roles);
    has(&said.out, &["clusterrole.rbac.authorization.k8s.io/reader reconciled"]);
    let rules = kubectl.typed("describe clusterrole reader");
    has(&rules, &["secrets", "[list]", "pods", "[get list]"]);
    has(&kubectl.typed("auth can-i list secrets --as=jane"), &["yes"]);
    has(&kubectl.typed("auth can-i --list --as=jane"), &["secrets", "selfsubjectaccessreviews"]);
    has(&kubectl.typed("auth whoami"), &["Username", "system:masters"]);
}

fn waits(fleet: &Fleet, kubectl: &Kubectl) {
    let wait = "wait --for=create configmap/awaited --timeout=60s";
    let words: Vec<&str> = wait.split_whitespace().collect();
    let created = kubectl.start(&words, &fleet.path("created.out"));
    let _ = kubectl.typed("create configmap awaited --from-literal=state=new");
    eventually("it waits until it is there", PATIENCE, || {
        let out = created.out();
        if out.contains("condition met") { Ok(()) } else { Err(out) }
    });
    let words = ["wait", "--for=jsonpath={.data.state}=old", "configmap/awaited"];
    let changed = kubectl.start(&words, &fleet.path("changed.out"));
    let deleted =
        kubectl.start(&["wait", "--for=delete", "configmap/awaited"], &fleet.path("deleted.out"));
    let old = "{\"data\":{\"state\":\"old\"}}";
    kubectl.does(&["patch", "configmap", "awaited", "--type=merge", "-p", old]);
    eventually("it waits until it says so", PATIENCE, || {
        let out = changed.out();
        if out.contains("condition met") { Ok(()) } else { Err(out) }
    });
    let _ = kubectl.typed("delete configmap awaited");
    eventually("it waits until it is gone", PATIENCE, || {
        let out = deleted.out();
        if out.contains("condition met") { Ok(()) } else { Err(out) }
    });
    let late = "wait --for=condition=Available deployment/none --timeout=1s";
    has(&kubectl.fails(&late.split_whitespace().collect::<Vec<_>>()), &["not found"]);
}

fn taints_and_drains(fleet: &Fleet, kubectl: &Kubectl) {
    has(&kubectl.typed("taint nodes pi-1 broken=yes:NoSchedule"), &["node/pi-1 tainted"]);
    let _ = kubectl.typed("scale deployment/web --replicas=3");
    fleet.pods_ready(kubectl, "app=web", 3);
    has(&kubectl.typed("taint nodes pi-1 broken=yes:NoSchedule-"), &["untainted"]);
    let dry = kubectl.typed("drain pi-2 --ignore-daemonsets --dry-run=server");
    has(&dry, &["drained (server dry run)"]);
    let drained = kubectl
        .typed("drain pi-2 --ignore-daemonsets --delete-emptydir-data --force --timeout=60s");
    has(&drained, &["node/pi-2 drained"]);
    let on_it = "get pods -l app=web --field-selector=spec.nodeName=pi-2 -o name";
    assert_eq!(kubectl.typed(on_it), "");
    has(&kubectl.typed("get nodes"), &["Ready,SchedulingDisabled"]);
    fleet.pods_ready(kubectl, "app=web", 3);
    has(&kubectl.typed("uncordon pi-2"), &["uncordoned"]);
    has(&kubectl.typed("cordon pi-2"), &["cordoned"]);
    let _ = kubectl.typed("uncordon pi-2");
}

fn rolls_out(kubectl: &Kubectl) {
    has(&kubectl.typed("rollout pause deployment/web"), &["paused"]);
    let _ = kubectl.typed("set image deployment/web hello-http=hello-http:v2");
    has(&kubectl.typed("rollout resume deployment/web"), &["resumed"]);
    has(&kubectl.typed("rollout status deployment/web --timeout=60s"), &["successfully"]);
    has(&kubectl.typed("rollout restart deployment/web"), &["restarted"]);
    has(&kubectl.typed("rollout status deployment/web --timeout=60s"), &["successfully"]);
    let events = kubectl.typed("events --for=deployment/web");
    has(&events, &["ScalingReplicaSet", "Deployment/web"]);
    has(&kubectl.typed("events --types=Normal"), &["Scheduled"]);
    let name = kubectl.typed("get rs -l app=web -o name");
    let orphans = name.lines().count();
    let _ = kubectl.typed("delete deployment web --cascade=orphan");
    assert_eq!(kubectl.typed("get rs -l app=web -o name").lines().count(), orphans);
    let _ = kubectl.typed("delete rs -l app=web --cascade=foreground --timeout=60s");
    assert_eq!(kubectl.typed("get pods -l app=web -o name"), "", "the pods went first");
}

fn attaches(kubectl: &Kubectl) {
    let line = "run once --image=kit:v1 --rm -i --restart=Never --quiet -- say it is done";
    has(&kubectl.typed(line), &["it is done"]);
    has(&kubectl.fails(&["get", "pod", "once"]), &["not found"]);
    has(&kubectl.typed("cluster-info"), &["control plane", "is running at", "https://127.0.0.1:"]);
    has(
        &kubectl.typed("api-versions"),
        &["apps/v1\n", "v1\n", "cluster.open-cluster-management.io/v1"],
    );
    let dump = kubectl.typed("cluster-info dump --namespaces=default");
    has(&dump, &["\"kind\": \"NodeList\"", "\"kind\": \"PodList\""]);
}

/// Every kind that can be listed is listed, printed in each form and described.
fn tells_of_every_kind(kubectl: &Kubectl) {
    let kinds = kubectl.typed("api-resources --verbs=list -o name");
    assert!(kinds.lines().count() > 30, "{kinds}");
    for kind in kinds.lines() {
        for form in ["wide", "json", "yaml", "name"] {
            let _ = kubectl.run(&["get", kind, "-A", "-o", form]);
        }
        // kubectl itself takes the last part of this name for a field's.
        if kind != "events.events.k8s.io" {
            let _ = kubectl.run(&["explain", kind]);
        }
        let _ = kubectl.run(&["describe", kind, "-A"]);
    }
}
