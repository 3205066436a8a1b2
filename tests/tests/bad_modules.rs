//! Bad modules tell their user what is wrong where he looks, and leave their neighbours alone.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use freewheel_link::digest::Digest;
use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, Table, eventually, has, http};

/// A neighbour that must not notice any of it.
const NEIGHBOUR: &str = "
apiVersion: v1
kind: Pod
metadata: {name: neighbour, labels: {app: neighbour}}
spec:
  containers: [{name: web, image: 'hello-http:v1', ports: [{containerPort: 8080}]}]
---
apiVersion: v1
kind: Service
metadata: {name: neighbour}
spec:
  type: NodePort
  selector: {app: neighbour}
  ports: [{port: 80, targetPort: 8080, nodePort: 30700}]
";

#[test]
fn bad_modules_tell_their_user_and_leave_the_neighbours_alone() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("hello-http", "hello-http:v1");
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(NEIGHBOUR);
    fleet.answers("pi-1", 30700, "hello from neighbour");
    let before = restarts(&kubectl);
    unknown_image(&fleet, &kubectl);
    not_a_module(&fleet);
    not_a_module_from_another_client(&kubectl);
    missing_import(&fleet);
    trap(&kubectl);
    trap_again_and_again(&kubectl);
    memory(&kubectl);
    endless(&fleet, &kubectl);
    fleet.answers("pi-1", 30700, "hello from neighbour");
    assert_eq!(restarts(&kubectl), before, "the neighbour was not restarted");
}

#[test]
fn a_compiler_is_bounded_and_ends_with_the_hub() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.push("hello-http", "hello-http:v1");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("a file").file_name().into_string().expect("a name of ours")
    };
    let folder = fleet.path("hub/modules/compiled");
    let mut made = std::fs::read_dir(folder).expect("compiled modules").map(name);
    let made = made.find(|name| name.ends_with(".zst")).expect("a compiled module");
    let (profile, _) =
        made.split_once('-').and_then(|(_, rest)| rest.rsplit_once('-')).expect(&made);
    // A module that does not come to its end keeps the compiler waiting.
    let component = fleet.path("endless.wasm");
    let made = std::process::Command::new("mkfifo").arg(&component).status().expect("mkfifo");
    assert!(made.success());
    let digest = Digest::of(b"endless");
    let artifact = fleet.path("out.zst");
    let mut child = std::process::Command::new(freewheel_tests::guests::binary("hub"))
        .args(["compile-module", "--profile", profile, "--component"])
        .arg(&component)
        .arg("--artifact")
        .arg(&artifact)
        .args(["--digest", &digest.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the hub's compiler");
    let of = |file: &str| {
        std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).unwrap_or_default()
    };
    eventually("it has bounded itself", PATIENCE, || {
        let (limits, score) = (of("limits"), of("oom_score_adj"));
        let row = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line[name.len().min(line.len())..]
                .split_whitespace()
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let bounds = [row("Max core file size"), row("Max address space"), row("Max cpu time")];
        let bounded = bounds[0] == "0" && bounds[1..].iter().all(|bound| bound != "unlimited");
        if bounded && score.trim() == "1000" { Ok(()) } else { Err(format!("{limits}{score}")) }
    });
    // As the kernel closes it when the hub is killed.
    drop(child.stdin.take());
    let status = child.wait().expect("its end");
    assert_eq!(status.code(), Some(3), "{status}");
    assert!(!artifact.exists());
}

fn restarts(kubectl: &Kubectl) -> String {
    kubectl.run(&[
        "get",
        "pod",
        "neighbour",
        "-o",
        "jsonpath={.metadata.uid} {.status.containerStatuses[0].restartCount}",
    ])
}

fn pod(name: &str, image: &str, args: &str, extra: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{restartPolicy: Never, \
         containers: [{{name: c, image: '{image}', args: [{args}]{extra}}}]}}}}"
    )
}

/// Waits until the description of a pod says all this.
fn described(kubectl: &Kubectl, name: &str, parts: &[&str]) {
    eventually(&format!("pod {name} tells {parts:?}"), PATIENCE, || {
        let text = kubectl.run(&["describe", "pod", name]);
        if parts.iter().all(|part| text.contains(part)) { Ok(()) } else { Err(text) }
    });
}

/// A field of the container's state, once it is there.
fn state(kubectl: &Kubectl, name: &str, field: &str) -> String {
    let path = format!("jsonpath={{.status.containerStatuses[0].state.{field}}}");
    eventually(&format!("pod {name} has {field}"), PATIENCE, || {
        let said = kubectl.run(&["get", "pod", name, "-o", &path]);
        if said.is_empty() { Err(said) } else { Ok(said) }
    })
}

/// What `get pod` has under STATUS.
fn shown(kubectl: &Kubectl, name: &str) -> String {
    let table = kubectl.run(&["get", "pod", name]);
    Table::read(&table).cell(name, "STATUS").to_owned()
}

fn unknown_image(fleet: &Fleet, kubectl: &Kubectl) {
    kubectl.apply(&pod("unknown", "pushed-late:v1", "say, here, I, am", ""));
    described(
        kubectl,
        "unknown",
        &[
            "Failed to pull image \"pushed-late:v1\": module \"pushed-late:v1\" is not in the hub's registry",
            "hub push",
            "Error: ErrImagePull",
        ],
    );
    eventually("the table tells too", PATIENCE, || {
        let status = shown(kubectl, "unknown");
        if ["ErrImagePull", "ImagePullBackOff"].contains(&&*status) { Ok(()) } else { Err(status) }
    });
    has(&state(kubectl, "unknown", "waiting.message"), &["pushed-late:v1"]);
    has(&kubectl.fails(&["logs", "unknown"]), &["waiting to start", "pull image"]);
    described(
        kubectl,
        "unknown",
        &["Back-off pulling image \"pushed-late:v1\"", "ImagePullBackOff"],
    );
    // It waits for nothing but the module.
    fleet.push("kit", "pushed-late:v1");
    described(kubectl, "unknown", &["Succeeded", "Completed"]);
    has(&kubectl.run(&["logs", "unknown"]), &["here I am"]);
    // A name too much, and a registry that is not ours.
    kubectl.apply(&pod("mistagged", "kit:v9", "a", ""));
    described(kubectl, "mistagged", &["the registry has kit with the tags v1"]);
    kubectl.apply(&pod("foreign", "registry.example/kit:v1", "a", ""));
    described(
        kubectl,
        "foreign",
        &["is in the registry registry.example", "hub push FILE.wasm kit:v1"],
    );
    kubectl.apply(&pod("misnamed", "'Not A Name'", "a", "").replace("''", "'"));
    described(kubectl, "misnamed", &["InvalidImageName", "not an image reference"]);
}

fn not_a_module(fleet: &Fleet) {
    let file = fleet.path("script.wasm");
    std::fs::write(&file, "#!/bin/sh\necho hello\n").expect("a file");
    let refused = fleet.try_hub_cli(&["push", &file.to_string_lossy(), "script:v1"]);
    assert!(!refused.status.success());
    has(&String::from_utf8_lossy(&refused.stderr), &["not a WebAssembly file"]);
    std::fs::write(&file, b"\0asm\x0d\0\x01\0\xff\xff\xff").expect("a file");
    let refused = fleet.try_hub_cli(&["push", &file.to_string_lossy(), "script:v1"]);
    assert!(!refused.status.success());
    has(&String::from_utf8_lossy(&refused.stderr), &["not valid WebAssembly"]);
    for (text, why) in [
        ("(module)", "a core module without a function `_start`"),
        (r#"(module (import "env" "x" (func)))"#, "a core module that imports env x"),
    ] {
        std::fs::write(&file, wat::parse_str(text).expect("a module")).expect("a file");
        let refused = fleet.try_hub_cli(&["push", &file.to_string_lossy(), "script:v1"]);
        assert!(!refused.status.success());
        has(&String::from_utf8_lossy(&refused.stderr), &[why, "component"]);
    }
    let refused = fleet.try_hub_cli(&["push", "/nowhere/at/all.wasm", "script:v1"]);
    has(&String::from_utf8_lossy(&refused.stderr), &["cannot read /nowhere/at/all.wasm"]);
}

/// Any OCI client may push: what it brings is looked at by the same rules.
fn not_a_module_from_another_client(kubectl: &Kubectl) {
    let (registry, _running) = kubectl.proxy();
    let script = upload(registry, b"#!/bin/sh\necho hello\n");
    let core = upload(registry, &wat::parse_str("(module)").expect("a module"));
    let config = upload(registry, b"{}");
    let nowhere = Digest::of(b"never sent");
    for (layer, kind, word) in [
        (&script, "application/wasm", "not a WebAssembly file"),
        (&core, "application/wasm", "core module"),
        (
            &script,
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "it has no layer that is a module",
        ),
        (&nowhere, "application/wasm", "push the blob sha256:"),
    ] {
        let kind_of_manifest = "application/vnd.oci.image.manifest.v1+json";
        let manifest = format!(
            "{{\"schemaVersion\":2,\"mediaType\":\"{kind_of_manifest}\",\
             \"config\":{{\"mediaType\":\"application/vnd.wasm.config.v0+json\",\"digest\":\"{config}\",\"size\":2}},\
             \"layers\":[{{\"mediaType\":\"{kind}\",\"digest\":\"{layer}\",\"size\":21}}]}}"
        );
        let path = "/v2/raw/manifests/v1";
        let answer = http::send(registry, "PUT", path, kind_of_manifest, manifest.as_bytes());
        let answer = answer.expect("an answer");
        assert!((400..500).contains(&answer.code), "{answer:?}");
        has(&answer.body, &["\"errors\"", "\"code\"", word]);
    }
    let (code, body) = http::get(registry, "/v2/raw/tags/list").expect("an answer");
    assert_eq!(code, 404, "{body}");
    kubectl.apply(&pod("raw", "raw:v1", "a", ""));
    described(kubectl, "raw", &["module \"raw:v1\" is not in the hub's registry", "ErrImagePull"]);
}

fn upload(registry: SocketAddr, blob: &[u8]) -> Digest {
    let digest = Digest::of(blob);
    let path = format!("/v2/raw/blobs/uploads/?digest={digest}");
    let answer = http::send(registry, "POST", &path, "application/octet-stream", blob);
    assert_eq!(answer.expect("an answer").code, 201);
    digest
}

/// A component that wants an interface which no pod is given.
const GREEDY: &str = r#"(component
    (import "acme:vault/keys@1.0.0" (instance $keys (export "read" (func))))
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run-i (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run-i)))"#;

fn missing_import(fleet: &Fleet) {
    let file = fleet.path("greedy.wasm");
    std::fs::write(&file, wat::parse_str(GREEDY).expect("a component")).expect("a file");
    let refused = fleet.try_hub_cli(&["push", &file.to_string_lossy(), "greedy:v1"]);
    assert!(!refused.status.success());
    let said = String::from_utf8_lossy(&refused.stderr);
    has(
        &said,
        &["it imports acme:vault/keys@1.0.0, which pods are not given", "wasi:io/{error,poll,"],
    );
}

fn trap(kubectl: &Kubectl) {
    kubectl.apply(&pod("panics", "kit:v1", "panic", ""));
    described(
        kubectl,
        "panics",
        &[
            "State:          Terminated",
            "Reason:       Error",
            "Message:      wasm trap: wasm `unreachable` instruction executed",
            "Exit Code:    134",
        ],
    );
    assert_eq!(shown(kubectl, "panics"), "Error");
    has(&kubectl.run(&["logs", "panics"]), &["asked to panic"]);
}

fn trap_again_and_again(kubectl: &Kubectl) {
    let yaml = pod("keeps-on", "kit:v1", "panic", "")
        .replace("restartPolicy: Never", "restartPolicy: Always");
    kubectl.apply(&yaml);
    described(
        kubectl,
        "keeps-on",
        &[
            "Reason:       CrashLoopBackOff",
            "Last State:     Terminated",
            "Message:      wasm trap: wasm `unreachable` instruction executed",
            "Exit Code:    134",
            "Back-off restarting failed container c in pod keeps-on_default(",
        ],
    );
    kubectl.does(&["delete", "pod", "keeps-on", "--timeout=30s"]);
}

fn memory(kubectl: &Kubectl) {
    kubectl.apply(&pod("hungry", "kit:v1", "eat, '500'", ", resources: {limits: {memory: 32Mi}}"));
    described(
        kubectl,
        "hungry",
        &["Reason:       OOMKilled", "Exit Code:    137", "memory limit of 33554432 bytes reached"],
    );
    assert_eq!(state(kubectl, "hungry", "terminated.exitCode"), "137");
    assert_eq!(shown(kubectl, "hungry"), "OOMKilled");
    described(kubectl, "hungry", &["OOMKilling"]);
}

fn endless(fleet: &Fleet, kubectl: &Kubectl) {
    for name in ["spins-1", "spins-2", "spins-3"] {
        kubectl.apply(&pod(name, "kit:v1", "spin", ""));
        described(kubectl, name, &["State:          Running"]);
    }
    // Three guests that never yield, two cores: the neighbour still answers, and promptly.
    let slowest = (0..20)
        .map(|_| {
            let start = Instant::now();
            let (code, _) = http::get(fleet.node_port("pi-1", 30700), "/").expect("an answer");
            assert_eq!(code, 200);
            start.elapsed()
        })
        .max()
        .expect("twenty answers");
    assert!(slowest < Duration::from_secs(3), "{slowest:?}");
    for name in ["spins-1", "spins-2", "spins-3"] {
        kubectl.does(&["delete", "pod", name, "--grace-period=1", "--timeout=30s"]);
    }
}
