//! Bad input gets a clear error where its user will look, and disturbs nothing else.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::process::Process;
use freewheel_tests::{Fleet, eventually, guests, http};

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

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
    neighbour_answers(&fleet);
    let before = restarts(&kubectl);
    unknown_image(&fleet, &kubectl);
    not_a_module(&fleet);
    missing_import(&fleet, &kubectl);
    trap(&kubectl);
    memory(&kubectl);
    endless(&fleet, &kubectl);
    neighbour_answers(&fleet);
    assert_eq!(restarts(&kubectl), before, "the neighbour was not restarted");
}

fn neighbour_answers(fleet: &Fleet) {
    eventually("the neighbour answers", PATIENCE, || {
        match http::get(fleet.node_port("pi-1", 30700), "/") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
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
        let table = kubectl.run(&["get", "pod", "unknown"]);
        if table.contains("ErrImagePull") || table.contains("ImagePullBackOff") {
            Ok(())
        } else {
            Err(table)
        }
    });
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
    let refused = fleet.try_hub_cli(&["push", "/nowhere/at/all.wasm", "script:v1"]);
    has(&String::from_utf8_lossy(&refused.stderr), &["cannot read /nowhere/at/all.wasm"]);
}

/// A component that wants an interface which no pod is given.
const GREEDY: &str = r#"(component
    (import "acme:vault/keys@1.0.0" (instance $keys (export "read" (func))))
    (core module $m (func (export "run") (result i32) i32.const 0))
    (core instance $i (instantiate $m))
    (func $run (result (result)) (canon lift (core func $i "run")))
    (instance $run-i (export "run" (func $run)))
    (export "wasi:cli/run@0.2.0" (instance $run-i)))"#;

fn missing_import(fleet: &Fleet, kubectl: &Kubectl) {
    let file = fleet.path("greedy.wasm");
    std::fs::write(&file, wat::parse_str(GREEDY).expect("a component")).expect("a file");
    let _ = fleet.hub_cli(&["push", &file.to_string_lossy(), "greedy:v1"]);
    kubectl.apply(&pod("greedy", "greedy:v1", "a", ""));
    described(kubectl, "greedy", &["acme:vault/keys@1.0.0", "StartError"]);
}

fn trap(kubectl: &Kubectl) {
    kubectl.apply(&pod("panics", "kit:v1", "panic", ""));
    described(kubectl, "panics", &["Terminated", "Error", "Exit Code:    134"]);
    has(&kubectl.run(&["logs", "panics"]), &["asked to panic"]);
}

fn memory(kubectl: &Kubectl) {
    kubectl.apply(&pod("hungry", "kit:v1", "eat, '500'", ", resources: {limits: {memory: 32Mi}}"));
    described(kubectl, "hungry", &["OOMKilled", "Exit Code:    137"]);
    has(&kubectl.run(&["get", "pod", "hungry"]), &["OOMKilled"]);
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

#[test]
fn bad_requests_get_a_status_with_the_place() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    let unknown = kubectl.try_apply(
        &["create", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, dada: {}}",
    );
    assert!(!unknown.ok);
    has(&unknown.err, &["unknown field \"dada\""]);
    let name = kubectl.try_apply(
        &["create", "-f", "-"],
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: Not_A_Name}}",
    );
    has(&name.err, &["metadata.name", "RFC 1123"]);
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}";
    has(
        &kubectl.try_apply(&["create", "-f", "-"], pod).err,
        &["spec.containers", "Required value"],
    );
    let kind = "{apiVersion: v2, kind: Nothing, metadata: {name: p}}";
    has(
        &kubectl.try_apply(&["create", "-f", "-"], kind).err,
        &["no matches for kind \"Nothing\" in version \"v2\""],
    );
    too_large(&fleet);
    strangers(&fleet);
    has(&kubectl.run(&["get", "--raw", "/readyz"]), &["ok"]);
}

/// 100 MB in one object: refused before it is held in memory.
fn too_large(fleet: &Fleet) {
    let before = resident(fleet.hub_id());
    let file = fleet.path("large.yaml");
    let body = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"large\"}},\"data\":{{\"a\":\"{}\"}}}}",
        "x".repeat(100_000_000)
    );
    std::fs::write(&file, body).expect("a file");
    let said =
        fleet.kubectl().fails(&["create", "--validate=false", "-f", &file.to_string_lossy()]);
    assert!(
        said.contains("too large")
            || said.contains("broken pipe")
            || said.contains("connection reset"),
        "{said}"
    );
    let grown = resident(fleet.hub_id()).saturating_sub(before);
    assert!(grown < 64 << 10, "the hub grew by {grown} KiB");
}

fn resident(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the hub's status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
}

/// Without a certificate of ours there is nothing but health and version.
fn strangers(fleet: &Fleet) {
    let nobody = fleet.path("nobody.kubeconfig");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(fleet.kubeconfig()).expect("the kubeconfig"))
            .expect("JSON");
    // With nothing at all kubectl would ask for a name and password on the terminal.
    config["users"][0]["user"] = serde_json::json!({"token": "nobody"});
    std::fs::write(&nobody, config.to_string()).expect("a file");
    let said = Kubectl::new(&nobody).fails(&["get", "--raw", "/api/v1/pods"]);
    assert!(said.contains("Unauthorized") || said.contains("must be logged in"), "{said}");
}

#[test]
fn a_spoke_with_wrong_papers_is_told_what_is_wrong() {
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&["--accept"]);
    let hub = fleet.link_address();
    let run = |fleet: &Fleet, name: &str, flags: &[&str]| {
        let mut command = Command::new(guests::binary("spoke"));
        command
            .args(["run", "--data"])
            .arg(fleet.path(name))
            .args(["--name", name, "--hub", &hub, "--address", "127.0.0.77"])
            .args(flags);
        Process::start(&mut command, &fleet.path(&format!("{name}.log")))
    };
    let tells = |mut process: Process, parts: &[&str]| {
        eventually(&format!("the spoke tells {parts:?}"), PATIENCE, || {
            let log = process.log();
            if parts.iter().all(|part| log.contains(part)) { Ok(()) } else { Err(log) }
        });
        process.kill();
    };
    let bad = "abcdef.0123456789abcdef";
    // Not a word of what the spoke says before it is refused.
    tells(
        run(&fleet, "stranger", &["--token", bad, "--ca-hash", &ca_hash]),
        &["the hub refuses", "the token is unknown, wrong or has expired"],
    );
    let other = format!("sha256:{}", "0".repeat(64));
    tells(
        run(&fleet, "wrong-hash", &["--token", &token, "--ca-hash", &other]),
        &["CA", "sha256:0000"],
    );
    // A name that another device holds: its certificate is not handed out again.
    fleet.join("taken");
    fleet.node_ready("taken");
    let mut command = Command::new(guests::binary("spoke"));
    command.args(["run", "--data"]).arg(fleet.path("thief"));
    command.args(["--name", "taken", "--hub", &hub, "--address", "127.0.0.78"]);
    command.args(["--token", &token, "--ca-hash", &ca_hash]);
    tells(
        Process::start(&mut command, &fleet.path("thief.log")),
        &["the hub refuses", "\"taken\" belongs to another device"],
    );
    fleet.node_ready("taken");
}

#[test]
fn without_accept_a_spoke_waits_until_somebody_accepts_it() {
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&[]);
    let mut command = Command::new(guests::binary("spoke"));
    command.args(["run", "--data"]).arg(fleet.path("pi-7")).args([
        "--name",
        "pi-7",
        "--hub",
        &fleet.link_address(),
    ]);
    command.args(["--token", &token, "--ca-hash", &ca_hash, "--address", "127.0.0.79"]);
    let process = Process::start(&mut command, &fleet.path("pi-7.log"));
    let kubectl = fleet.kubectl();
    eventually("the cluster asks to join", PATIENCE, || {
        let said = kubectl.try_run(&["get", "managedcluster,csr"]);
        if said.out.contains("pi-7") && said.out.contains("Pending") {
            Ok(())
        } else {
            Err(format!("{}{}", said.out, said.err))
        }
    });
    assert!(!kubectl.try_run(&["get", "node", "pi-7"]).ok, "no node before it is accepted");
    has(&fleet.hub_cli(&["accept", "pi-7"]), &["pi-7 accepted"]);
    fleet.node_ready("pi-7");
    // Taking it back closes the link.
    kubectl.does(&[
        "patch",
        "managedcluster",
        "pi-7",
        "--type=merge",
        "-p",
        "{\"spec\":{\"hubAcceptsClient\":false}}",
    ]);
    eventually("the node is not Ready any more", Duration::from_secs(20), || {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        let said = kubectl.try_run(&["get", "node", "pi-7", "-o", path]);
        if said.out == "True" { Err(said.out) } else { Ok(()) }
    });
    drop(process);
    let _ = &mut fleet;
}

#[test]
fn garbage_on_the_api_port_harms_nobody() {
    let fleet = Fleet::hub();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x16\x03\x01\xff\xff"] {
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", fleet.api_port())).expect("the API port");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
        // The hub may hang up while we still write; that is its right.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    has(&fleet.kubectl().run(&["get", "--raw", "/readyz"]), &["ok"]);
}
