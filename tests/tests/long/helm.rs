//! helm 3 and helm 4 as their project releases them: a chart of ours with all that charts are made of, the chart that
//! `helm create` starts with, and one that somebody else has published.

use std::path::{Path, PathBuf};
use std::process::Command;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, eventually, guests, has};
use serde_json::Value;

/// helm with its user's home.
struct Helm {
    program: PathBuf,
    home: PathBuf,
    kubeconfig: PathBuf,
    /// Its major version: what differs between them are names of flags and how changes are made.
    major: u8,
}

impl Helm {
    fn new(fleet: &Fleet, major: u8) -> Self {
        let (package, version) = match major {
            3 => ("helm.sh/helm/v3/cmd/helm", "v3.22.0"),
            _ => ("helm.sh/helm/v4/cmd/helm", "v4.3.2"),
        };
        let home = fleet.path("helm");
        std::fs::create_dir_all(&home).expect("a home");
        let program = tools::from_go(package, version);
        Self { program, home, kubeconfig: fleet.kubeconfig(), major }
    }

    /// What a user types after `helm`, without quotes.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(line.split_whitespace())
            .current_dir(&self.home)
            .env("HOME", &self.home)
            .env("KUBECONFIG", &self.kubeconfig);
        command
    }

    #[track_caller]
    fn does(&self, line: &str) -> String {
        run(&mut self.command(line))
    }

    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let done = self.command(line).output().expect("helm");
        assert!(!done.status.success(), "helm {line} should have failed");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    #[track_caller]
    fn json(&self, line: &str) -> Value {
        let done = self.command(line).output().expect("helm");
        let err = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "helm {line} failed: {err}");
        serde_json::from_slice(&done.stdout).expect("helm's JSON")
    }

    /// The flag that takes a failed upgrade back.
    fn atomic(&self) -> &str {
        if self.major == 3 { "--atomic" } else { "--rollback-on-failure" }
    }
}

fn chart(name: &str) -> String {
    guests::root().join("tests/clients/charts").join(name).to_string_lossy().into_owned()
}

fn push(fleet: &Fleet) {
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("kit", "kit:v1");
}

fn greeting(kubectl: &Kubectl) -> String {
    kubectl.typed("get configmap shop -n shop -o jsonpath={.data.greeting}")
}

#[test]
fn helm_3_keeps_releases() {
    keeps_releases(3);
}

#[test]
fn helm_4_keeps_releases() {
    keeps_releases(4);
}

fn keeps_releases(major: u8) {
    let fleet = Fleet::with(&["pi-1"]);
    push(&fleet);
    let (helm, kubectl) = (Helm::new(&fleet, major), fleet.kubectl());
    let shop = chart("shop");
    installs(&helm, &kubectl, &shop);
    upgrades(&helm, &kubectl, &shop);
    keeps_what_others_wrote(&helm, &kubectl, &shop);
    takes_failures_back(&helm, &kubectl, &shop);
    rolls_back(&helm, &kubectl);
    uninstalls(&helm, &kubectl, &shop);
    // The same in a spoke's own cluster, which has a path of its own.
    let there = format!("--kube-apiserver https://127.0.0.1:{}/clusters/pi-1", fleet.api_port());
    let install = format!("install shop {shop} -n shop --create-namespace --wait {there}");
    has(&helm.does(&install), &["STATUS: deployed"]);
    has(&fleet.kubectl_of("pi-1").typed("get pods -n shop"), &["shop-", "1/1", "Running"]);
    has(&helm.does(&format!("uninstall shop -n shop --wait {there}")), &["uninstalled"]);
}

fn installs(helm: &Helm, kubectl: &Kubectl, shop: &str) {
    let install = format!("install shop {shop} -n shop --create-namespace --wait --timeout 60s");
    has(&helm.does(&install), &["STATUS: deployed", "REVISION: 1", "The shop says first on"]);
    let ready = kubectl.typed("get deployment shop -n shop -o jsonpath={.status.readyReplicas}");
    assert_eq!(ready, "1", "helm has waited");
    let menu = kubectl.typed("get menus -n shop -o jsonpath={.items[*].spec.dishes}");
    assert_eq!(menu, r#"["soup","first"]"#, "the definition came before its object");
    let events = kubectl.typed("get events -n shop --field-selector reason=Completed -o name");
    assert!(!events.is_empty(), "the migration has run");
    has(&kubectl.fails(&["get", "job", "shop-migration", "-n", "shop"]), &["not found"]);
    kubectl.does(&["get", "configmap", "shop-post-install", "-n", "shop"]);
    let list = helm.json("list -n shop -o json");
    assert_eq!(list[0]["name"], "shop", "{list}");
    assert_eq!((&list[0]["revision"], &list[0]["status"]), (&"1".into(), &"deployed".into()));
    has(&helm.does("get manifest shop -n shop"), &["kind: Menu", "kind: RoleBinding"]);
    has(&helm.does("get hooks shop -n shop"), &["shop-migration", "shop-says"]);
    let dry = format!("install other {shop} -n shop --dry-run=server");
    has(&helm.does(&dry), &["STATUS: pending-install", "namespace: ", "deployments: served"]);
    has(&kubectl.fails(&["get", "configmap", "other", "-n", "shop"]), &["not found"]);
    let again = helm.fails(&format!("install shop {shop} -n shop"));
    has(&again, &["a name that is still in use"]);
    // A test's pod runs to its end, and its log is told.
    has(&helm.does("test shop -n shop --logs"), &["Succeeded", "the shop is open"]);
}

fn upgrades(helm: &Helm, kubectl: &Kubectl, shop: &str) {
    let atomic = helm.atomic();
    let line = format!("upgrade shop {shop} -n shop --set greeting=second {atomic} --timeout 60s");
    has(&helm.does(&line), &["has been upgraded", "REVISION: 2", "The shop says second"]);
    assert_eq!(greeting(kubectl), "second");
    kubectl.does(&["get", "configmap", "shop-post-upgrade", "-n", "shop"]);
    has(&helm.does("get values shop -n shop"), &["greeting: second"]);
    // What is left out of a release goes.
    let less = "--reuse-values --set cache.enabled=false,replicas=2";
    has(&helm.does(&format!("upgrade shop {shop} -n shop {less} --wait")), &["REVISION: 3"]);
    let ready = kubectl.typed("get deployment shop -n shop -o jsonpath={.status.readyReplicas}");
    assert_eq!(ready, "2");
}

fn keeps_what_others_wrote(helm: &Helm, kubectl: &Kubectl, shop: &str) {
    let _ = kubectl.typed("annotate deployment shop -n shop team=mine");
    let drift = r#"{"data":{"greeting":"somebody's"}}"#;
    kubectl.does(&["patch", "configmap", "shop", "-n", "shop", "--type=merge", "-p", drift]);
    let again = format!("upgrade shop {shop} -n shop --reuse-values --wait");
    if helm.major == 3 {
        let _ = helm.does(&again);
    } else {
        let told = helm.fails(&again);
        has(&told, &["conflict with \"kubectl-patch\" using v1: .data.greeting"]);
        let _ = helm.does(&format!("{again} --force-conflicts"));
    }
    assert_eq!(greeting(kubectl), "second", "what the chart says is put right");
    let team = "jsonpath={.metadata.annotations.team}";
    assert_eq!(kubectl.typed(&format!("get deployment shop -n shop -o {team}")), "mine");
}

/// Revisions and what became of them, newest last.
fn history(helm: &Helm) -> Vec<String> {
    let history = helm.json("history shop -n shop -o json");
    let rows = history.as_array().expect("a list").iter();
    rows.map(|row| row["status"].as_str().expect("a state").to_owned()).collect()
}

fn takes_failures_back(helm: &Helm, kubectl: &Kubectl, shop: &str) {
    let before = history(helm).len();
    let with = format!("upgrade shop {shop} -n shop --set greeting=third {}", helm.atomic());
    let told = helm.fails(&format!("{with} --set migration.code=3 --timeout 60s"));
    has(&told, &["UPGRADE FAILED", "rolled back"]);
    assert_eq!(greeting(kubectl), "second");
    let told = helm.fails(&format!("{with} --set image=missing:v1 --timeout 5s"));
    has(&told, &["UPGRADE FAILED", "rolled back"]);
    assert_eq!(greeting(kubectl), "second");
    let image = "jsonpath={.spec.template.spec.containers[0].image}";
    let image = kubectl.typed(&format!("get deployment shop -n shop -o {image}"));
    assert_eq!(image, "hello-http:v1");
    assert_eq!(history(helm)[before..], ["failed", "superseded", "failed", "deployed"]);
}

fn rolls_back(helm: &Helm, kubectl: &Kubectl) {
    has(&helm.does("rollback shop 1 -n shop --wait --timeout 60s"), &["Rollback was a success"]);
    assert_eq!(greeting(kubectl), "first");
    let replicas = kubectl.typed("get deployment shop -n shop -o jsonpath={.spec.replicas}");
    assert_eq!(replicas, "1");
    assert_eq!(kubectl.typed("get configmap shop-cache -n shop -o jsonpath={.data.size}"), "5");
    kubectl.does(&["get", "configmap", "shop-pre-rollback", "-n", "shop"]);
    assert_eq!(history(helm).last().map(String::as_str), Some("deployed"));
    has(&helm.fails("rollback shop 99 -n shop"), &["99"]);
}

fn uninstalls(helm: &Helm, kubectl: &Kubectl, shop: &str) {
    let gone = helm.does("uninstall shop -n shop --wait --timeout 60s");
    has(&gone, &["kept due to the resource policy", "shop-cache", "release \"shop\" uninstalled"]);
    kubectl.does(&["get", "configmap", "shop-post-delete", "-n", "shop"]);
    kubectl.does(&["get", "crd", "menus.shop.example.com"]);
    kubectl.does(&["get", "configmap", "shop-cache", "-n", "shop"]);
    let left = "get deploy,svc,sa,role,rolebinding,menu,secret,job -n shop -o name";
    let left = kubectl.typed(left);
    assert_eq!(left, "serviceaccount/default\n", "all else is gone");
    assert_eq!(helm.json("list -n shop -o json"), Value::Array(Vec::new()));
    // What was kept is taken over by the release of the same name.
    has(&helm.does(&format!("install shop {shop} -n shop --wait")), &["STATUS: deployed"]);
    let keep = "uninstall shop -n shop --keep-history";
    has(&helm.does(keep), &["release \"shop\" uninstalled"]);
    assert_eq!(history(helm), ["uninstalled"]);
    kubectl.does(&["delete", "namespace", "shop"]);
}

/// The chart that helm starts everybody's with: its probes, Service, Ingress and autoscaler.
#[test]
fn the_chart_that_helm_creates_runs() {
    let fleet = Fleet::with(&["pi-1"]);
    push(&fleet);
    for major in [3, 4] {
        let (helm, kubectl) = (Helm::new(&fleet, major), fleet.kubectl());
        let web = format!("web-{major}");
        let _ = helm.does(&format!("create {web}"));
        let values = "image.repository=hello-http,image.tag=v1,service.type=NodePort,\
                      service.port=8080,ingress.enabled=true,autoscaling.enabled=true";
        // Releases may be kept in ConfigMaps, too.
        let line = format!("install {web} ./{web} --set {values} --wait --timeout 60s");
        has(&run(helm.command(&line).env("HELM_DRIVER", "configmap")), &["STATUS: deployed"]);
        let port =
            kubectl.typed(&format!("get service {web} -o jsonpath={{.spec.ports[0].nodePort}}"));
        fleet.answers("pi-1", port.parse().expect("a port"), &format!("hello from {web}-"));
        let all = kubectl.typed("get deploy,svc,ingress,hpa,sa -o name");
        for kind in ["deployment.apps", "service", "ingress.networking.k8s.io", "serviceaccount"] {
            has(&all, &[&format!("{kind}/{web}\n")]);
        }
        has(&all, &[&format!("horizontalpodautoscaler.autoscaling/{web}\n")]);
        let uninstall = format!("uninstall {web} --wait");
        has(&run(helm.command(&uninstall).env("HELM_DRIVER", "configmap")), &["uninstalled"]);
        applies_what_helm_writes(&fleet, &helm, &format!("template {web} ./{web} --set {values}"));
    }
}

/// What helm makes of a chart is YAML like any other.
fn applies_what_helm_writes(fleet: &Fleet, helm: &Helm, template: &str) {
    let kubectl = fleet.kubectl();
    let manifests = helm.does(&format!("{template} --skip-tests"));
    let applied = kubectl.try_apply(&["apply", "-f", "-"], &manifests);
    assert!(applied.ok, "{}", applied.err);
    let name = "app.kubernetes.io/managed-by=Helm";
    fleet.pods_ready(&kubectl, name, 1);
    let again = kubectl.try_apply(&["apply", "-f", "-"], &manifests);
    assert_eq!(again.out.matches(" unchanged").count(), 5, "{}{}", again.out, again.err);
    assert!(kubectl.try_apply(&["delete", "-f", "-", "--timeout=60s"], &manifests).ok);
}

/// A chart that others have published, in the only registry of packages that has charts for us: Python's.
const PUBLISHED: [&str; 2] = ["ragleap-app-chart", "0.3.2"];

const VALUES: &str = "
services:
- name: web
  image: hello-http:v1
  port: 8080
  dependsOn: [store]
  expose: true
  hostname: shop.example.com
  autoscaling: {enabled: true, minReplicas: 2, maxReplicas: 3}
  pdb: {enabled: true}
- {name: store, image: 'hello-http:v1', port: 8080}
- {name: disk, image: 'hello-http:v1', port: 8080, persistent: true, storage: 1Gi}
";

fn published() -> PathBuf {
    let python = tools::python_with(PUBLISHED[0], PUBLISHED[1]);
    let lib = python.parent().and_then(Path::parent).expect("an environment").join("lib");
    let version = std::fs::read_dir(lib).expect("its packages").flatten().next();
    let packages = version.expect("a version").path().join("site-packages");
    packages.join("ragleap_app_chart/helm/ragleap-app-chart")
}

#[test]
fn a_published_chart_runs() {
    let fleet = Fleet::with(&["pi-1"]);
    push(&fleet);
    let chart = published();
    let kubectl = fleet.kubectl();
    std::fs::write(fleet.path("values.yaml"), VALUES).expect("values");
    for major in [3, 4] {
        let helm = Helm::new(&fleet, major);
        let values = fleet.path("values.yaml");
        // Nobody provides its volume, so helm does not wait for all of it.
        let line = format!("install app {} -f {}", chart.display(), values.display());
        has(&helm.does(&line), &["STATUS: deployed"]);
        // Its autoscaler says so.
        fleet.pods_ready(&kubectl, "app=web", 2);
        fleet.pods_ready(&kubectl, "app=store", 1);
        let kinds = "get deploy,svc,ingress,netpol,pdb,hpa,pvc -o name";
        let all = kubectl.typed(kinds);
        for name in [
            "deployment.apps/app-web",
            "deployment.apps/app-store",
            "ingress.networking.k8s.io/app-web",
            "networkpolicy.networking.k8s.io/app-store-deny-by-default",
            "poddisruptionbudget.policy/app-web",
            "horizontalpodautoscaler.autoscaling/app-web",
            "persistentvolumeclaim/app-disk",
        ] {
            has(&all, &[&format!("{name}\n")]);
        }
        let upgrade = line.replacen("install", "upgrade", 1);
        let upgrade = format!("{upgrade} --set services[1].replicaCount=2");
        has(&helm.does(&upgrade), &["REVISION: 2"]);
        fleet.pods_ready(&kubectl, "app=store", 2);
        has(&helm.does("uninstall app --wait"), &["uninstalled"]);
        eventually("only the Service of the API is left", PATIENCE, || {
            let left = kubectl.typed(kinds);
            if left == "service/kubernetes\n" { Ok(()) } else { Err(left) }
        });
    }
}
