//! The hub's registry gives back what nobody needs, and keeps what somebody may ask for again.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use freewheel_link::digest::Digest;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, has};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A file of a registry that nobody needs.
fn plant(path: PathBuf) -> PathBuf {
    std::fs::write(&path, "nobody needs this").expect("a file in the hub's folder");
    path
}

/// Makes every file of a folder look as if nobody had touched it for two days.
fn age(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the hub's folder").flatten() {
        let file = File::open(entry.path()).expect("a file of the hub");
        file.set_modified(SystemTime::now() - 2 * DAY).expect("a date");
    }
}

fn deployment(image: &str) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      containers:
        - name: app
          image: {image}
          ports: [{{containerPort: 8080}}]
"
    )
}

#[test]
fn unused_files_go_at_the_start_and_a_roll_back_by_digest_finds_its_module() {
    let mut fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let file = freewheel_tests::guests::path("hello-http");
    let said = fleet.hub_cli(&["push", &file.to_string_lossy(), "app:latest"]);
    let pinned = said.split(", ").find(|part| part.starts_with("app@")).expect(&said).to_owned();
    kubectl.apply(&deployment(&pinned));
    fleet.pods_ready(&kubectl, "app=app", 1);
    // The next version takes the tag away from it, and the pods go over.
    fleet.push("tcp-echo", "app:latest");
    kubectl.apply(&deployment("app:latest"));
    fleet.pods_ready(&kubectl, "app=app", 1);

    fleet.kill_hub();
    let modules = fleet.path("hub/modules");
    let (blobs, compiled) = (modules.join("blobs/sha256"), modules.join("compiled"));
    let component = Digest::of(b"gone").hex();
    let unused = [
        plant(blobs.join(Digest::of(b"of a push that broke off").hex())),
        plant(modules.join("uploads/0123456789abcdef0123456789abcdef")),
        plant(compiled.join(format!("{component}-47-x86_64-guard4g-1-470000.zst"))),
        plant(compiled.join(format!("{component}-47-x86_64-guard4g-1-470000.json"))),
        plant(compiled.join(format!("{component}-47-x86_64-guard4g-1-470000.new"))),
    ];
    age(&blobs);
    fleet.start_hub();
    eventually("unused files are gone", Duration::from_secs(30), || {
        let left: Vec<&PathBuf> = unused.iter().filter(|path| path.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}\n{}", fleet.hub_log())) }
    });
    assert!(fleet.hub_log().contains("unused modules collected"), "{}", fleet.hub_log());

    // The device has lost everything but its plan: whatever runs comes from the hub again.
    fleet.node_ready("pi-1");
    fleet.kill_spoke("pi-1");
    std::fs::remove_dir_all(fleet.path("pi-1/modules")).expect("the device's modules");
    fleet.start_spoke("pi-1");
    fleet.node_ready("pi-1");
    fleet.pods_ready(&kubectl, "app=app", 1);
    kubectl.apply(&deployment(&pinned));
    kubectl.does(&["rollout", "status", "deployment/app", "--timeout=60s"]);
    let image = "jsonpath={.items[*].spec.containers[0].image}";
    eventually("the pods are rolled back", Duration::from_secs(60), || {
        let said = kubectl.run(&["get", "pods", "-l", "app=app", "-o", image]);
        if said.trim() == pinned { Ok(()) } else { Err(said) }
    });
    fleet.pods_ready(&kubectl, "app=app", 1);
}

#[test]
fn what_is_deleted_is_gone_and_says_so() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    fleet.push("hello-http", "app:v1");
    fleet.push("hello-http", "app:v2");
    let body = kubectl.run(&["get", "--raw", "/v2/app/manifests/v1"]);
    let path = format!("/v2/app/manifests/{}", Digest::of(body.trim().as_bytes()));
    kubectl.does(&["delete", "--raw", "/v2/app/manifests/v2"]);
    let tags = kubectl.run(&["get", "--raw", "/v2/app/tags/list"]);
    assert_eq!(tags.trim(), r#"{"name":"app","tags":["v1"]}"#);
    kubectl.does(&["delete", "--raw", &path]);
    for gone in [path.as_str(), "/v2/app/manifests/v1", "/v2/app/tags/list"] {
        let said = kubectl.fails(&["get", "--raw", gone]);
        assert!(said.contains("not find") || said.contains("NotFound"), "{said}");
    }
}

/// Pushes a file; the name by digest that it prints, and all that it prints.
fn push(fleet: &Fleet, file: &Path, name: &str) -> (String, String) {
    let said = fleet.hub_cli(&["push", &file.to_string_lossy(), name]);
    let pinned = said.split(", ").find(|part| part.contains("@sha256:")).expect(&said).to_owned();
    (pinned, said)
}

/// The same program with a section behind it that means nothing.
fn another_build(fleet: &Fleet, file: &Path) -> PathBuf {
    let mut bytes = std::fs::read(file).expect("a guest");
    bytes.extend([0, 3, 1, b'x', b'y']);
    let other = fleet.path("other.wasm");
    std::fs::write(&other, bytes).expect("another build");
    other
}

/// What the pods say that they run, once each.
fn builds(kubectl: &Kubectl) -> BTreeSet<String> {
    let path = "jsonpath={.items[*].status.containerStatuses[*].imageID}";
    let said = kubectl.run(&["get", "pods", "-l", "app=app", "-o", path]);
    said.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn pods_of_one_set_run_one_build_however_its_tag_moves() {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let file = freewheel_tests::guests::path("hello-http");
    let (first, said) = push(&fleet, &file, "app:v1");
    assert!(!said.contains("stood for"), "{said}");
    kubectl.apply(&deployment("app:v1"));
    fleet.pods_ready(&kubectl, "app=app", 1);
    assert_eq!(builds(&kubectl), BTreeSet::from([first.clone()]), "what the push printed");

    let (second, said) = push(&fleet, &another_build(&fleet, &file), "app:v1");
    let digest = |pinned: &str| pinned.trim_start_matches("app@").to_owned();
    let moved =
        format!("app:v1 stood for {} and stands for {} now", digest(&first), digest(&second));
    let todo = "keep it: 1; to let them go over: kubectl -n default rollout restart deployment/app";
    has(&said, &[&moved, todo]);

    for kind in ["replicasets", "pods"] {
        // Nobody takes off what the hub keeps there.
        kubectl.does(&["annotate", kind, "-l", "app=app", "freewheel.dev/resolved-images-"]);
    }
    kubectl.does(&["scale", "deployment/app", "--replicas=3"]);
    fleet.pods_ready(&kubectl, "app=app", 3);
    assert_eq!(builds(&kubectl), BTreeSet::from([first.clone()]), "one set runs one build");
    for (verb, build) in [("restart", &second), ("undo", &first)] {
        kubectl.does(&["rollout", verb, "deployment/app"]);
        kubectl.does(&["rollout", "status", "deployment/app", "--timeout=60s"]);
        fleet.pods_ready(&kubectl, "app=app", 3);
        assert_eq!(builds(&kubectl), BTreeSet::from([build.clone()]), "{verb}");
    }

    for (build, who) in [(&first, ": 3; ReplicaSets"), (&second, "run it again: 1.")] {
        let refused = fleet.try_hub_cli(&["rm", build]);
        assert!(!refused.status.success());
        has(&String::from_utf8_lossy(&refused.stderr), &[who, "hub rm --force"]);
    }
    has(&fleet.hub_cli(&["rm", "--force", &second]), &["run it again: 1.", "removed"]);
}

#[test]
fn pods_of_one_revision_run_one_build_however_its_tag_moves() {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let file = freewheel_tests::guests::path("hello-http");
    let (first, _) = push(&fleet, &file, "app:v1");
    let set = deployment("app:v1").replace("kind: Deployment", "kind: StatefulSet");
    kubectl.apply(&set.replace("spec:\n  selector:", "spec:\n  serviceName: app\n  selector:"));
    fleet.pods_ready(&kubectl, "app=app", 1);
    let (second, said) = push(&fleet, &another_build(&fleet, &file), "app:v1");
    has(
        &said,
        &["keep it: 1; to let them go over: kubectl -n default rollout restart statefulset/app"],
    );
    kubectl.does(&["scale", "statefulset/app", "--replicas=2"]);
    fleet.pods_ready(&kubectl, "app=app", 2);
    assert_eq!(builds(&kubectl), BTreeSet::from([first.clone()]), "one revision runs one build");
    for (verb, build, revisions) in
        [("restart", &second, ["1 ", "2 "]), ("undo", &first, ["2 ", "3 "])]
    {
        kubectl.does(&["rollout", verb, "statefulset/app"]);
        kubectl.does(&["rollout", "status", "statefulset/app", "--timeout=60s"]);
        fleet.pods_ready(&kubectl, "app=app", 2);
        assert_eq!(builds(&kubectl), BTreeSet::from([build.clone()]), "{verb}");
        let told = kubectl.run(&["rollout", "history", "statefulset/app"]);
        let numbers: Vec<&str> = told.lines().filter(|line| line.contains("<none>")).collect();
        assert_eq!(numbers.len(), 2, "{told}");
        assert!(numbers.iter().zip(revisions).all(|(line, it)| line.starts_with(it)), "{told}");
    }
    let refused = fleet.try_hub_cli(&["rm", &second]);
    assert!(!refused.status.success());
    has(&String::from_utf8_lossy(&refused.stderr), &["run it again: 1.", "hub rm --force"]);
}
