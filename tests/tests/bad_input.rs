//! Bad input gets a clear error where its user will look, and disturbs nothing else.

use std::io::{Read as _, Write as _};
use std::process::Command;
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::process::{Process, resident};
use freewheel_tests::{Fleet, eventually, guests, has, http};

#[test]
fn bad_requests_get_a_status_with_the_place() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    unknown_fields(&kubectl);
    bad_names(&kubectl);
    missing_parts(&kubectl);
    too_large(&fleet);
    strangers(&fleet);
    has(&kubectl.run(&["get", "--raw", "/readyz"]), &["ok"]);
    let left = kubectl.run(&["get", "configmaps,pods,services,deployments", "-o", "name"]);
    assert_eq!(left, "configmap/kube-root-ca.crt\nconfigmap/warned\nservice/kubernetes\n");
}

/// kubectl asks for strict reading unless its user says otherwise; a warning goes where kubectl prints it.
fn unknown_fields(kubectl: &Kubectl) {
    let yaml =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: warned}, data: {a: b}, dada: {}}";
    for verb in ["create", "apply"] {
        let said = kubectl.try_apply(&[verb, "-f", "-"], yaml);
        assert!(!said.ok && said.out.is_empty(), "{}", said.out);
        has(&said.err, &["(BadRequest)", "strict decoding error: unknown field \"dada\""]);
    }
    let deep = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: deep}, spec: {selector: {matchLabels: {a: b}}, \
                template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i, imagee: i}]}}}}";
    has(
        &kubectl.try_apply(&["apply", "-f", "-"], deep).err,
        &["unknown field \"spec.template.spec.containers[0].imagee\""],
    );
    let (proxy, _running) = kubectl.proxy();
    let path = "/api/v1/namespaces/default/configmaps?dryRun=All&fieldValidation=";
    let json = br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"raw"},"data":{"a":"b","a":"c"},"dada":{}}"#;
    let post = |how: &str| {
        http::send(proxy, "POST", &format!("{path}{how}"), "application/json", json)
            .expect("an answer")
    };
    let (strict, warn, ignore) = (post("Strict"), post("Warn"), post("Ignore"));
    assert_eq!((strict.code, warn.code, ignore.code), (400, 201, 201));
    let status: serde_json::Value = serde_json::from_str(&strict.body).expect("a Status");
    assert_eq!((&status["kind"], &status["reason"]), (&"Status".into(), &"BadRequest".into()));
    has(&strict.body, &["unknown field", "dada", "duplicate field", "data.a"]);
    has(
        &warn.head.to_lowercase(),
        &[r#"warning: 299 - "unknown field \"dada\"""#, "duplicate field"],
    );
    assert!(!ignore.head.to_lowercase().contains("warning:"), "{}", ignore.head);
    let warned = kubectl.try_apply(&["apply", "--validate=warn", "-f", "-"], yaml);
    assert_eq!(warned.out, "configmap/warned created\n");
    assert_eq!(warned.err, "Warning: unknown field \"dada\"\n");
}

fn bad_names(kubectl: &Kubectl) {
    let long = "x".repeat(254);
    for (kind, name, place) in [
        (
            "ConfigMap",
            "Not_A_Name",
            "metadata.name: Invalid value: \"Not_A_Name\": a lowercase RFC 1123 subdomain",
        ),
        ("ConfigMap", "a/b", "metadata.name: Invalid value: \"a/b\""),
        ("ConfigMap", "..", "metadata.name: Invalid value: \"..\""),
        ("ConfigMap", &long, "must be no more than 253"),
        ("Service", "1st", "metadata.name: Invalid value: \"1st\": a DNS-1035 label"),
        ("Namespace", "a.b", "metadata.name: Invalid value: \"a.b\": must not contain dots"),
    ] {
        let object = format!(
            "{{apiVersion: v1, kind: {kind}, metadata: {{name: '{name}'}}, spec: {{ports: [{{port: 80}}]}}}}"
        );
        let said = kubectl.try_apply(&["create", "--validate=ignore", "-f", "-"], &object);
        assert!(!said.ok, "{kind} {name}: {}", said.out);
        has(&said.err, &[&format!("The {kind} "), "is invalid", place]);
    }
    let labelled =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, labels: {'a b': c, d: 'e f'}}}";
    has(
        &kubectl.try_apply(&["create", "-f", "-"], labelled).err,
        &["metadata.labels: Invalid value: \"a b\"", "metadata.labels: Invalid value: \"e f\""],
    );
    has(
        &kubectl.fails(&["create", "deployment", "Web", "--image=a"]),
        &["Deployment.apps \"Web\" is invalid: metadata.name: Invalid value: \"Web\""],
    );
    has(
        &kubectl.fails(&["get", "pods", "-l", "a=b=c"]),
        &["a=b=c", "found '=', expected: ',' or 'end of string'"],
    );
    has(
        &kubectl.fails(&["get", "pods", "--field-selector=spec.colour=x"]),
        &["field label not supported: spec.colour"],
    );
}

fn missing_parts(kubectl: &Kubectl) {
    let says = |yaml: &str, parts: &[&str]| {
        let said = kubectl.try_apply(&["create", "-f", "-"], yaml);
        assert!(!said.ok, "{}", said.out);
        has(&said.err, parts);
    };
    says(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: []}}",
        &["The Pod \"p\" is invalid: spec.containers: Required value"],
    );
    // All that is wrong is told at once.
    says(
        "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {restartPolicy: Often, \
         containers: [{name: A_b, image: '', ports: [{containerPort: 70000}]}]}}",
        &[
            "* spec.containers[0].name: Invalid value: \"A_b\"",
            "* spec.containers[0].image: Required value",
            "* spec.containers[0].ports[0].containerPort: Invalid value: 70000",
            "* spec.restartPolicy: Unsupported value: \"Often\"",
        ],
    );
    says(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: 1}}",
        &["cannot unmarshal number into Go struct field ConfigMap.data of type string"],
    );
    says(
        "{apiVersion: v2, kind: Nothing, metadata: {name: p}}",
        &["no matches for kind \"Nothing\" in version \"v2\""],
    );
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
    has(&said, &["(RequestEntityTooLarge)", "Request entity too large: limit is 3145728"]);
    let grown = resident(fleet.hub_id()).saturating_sub(before);
    assert!(grown < 64 << 10, "the hub grew by {grown} KiB");
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
        &["the hub refuses", "the token is unknown, wrong, used by another device or has expired"],
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

/// A device that is pointed at the wrong hub: neither takes the other for its own, and its pods go on.
#[test]
fn another_hub_is_not_talked_to() {
    let mut own = Fleet::with(&["pi-1"]);
    own.serve_web(1, 30701, &["pi-1"]);
    let other = Fleet::with(&["pi-1"]);
    own.stop_spoke("pi-1");
    let data = own.path("pi-1");
    let address = own.address("pi-1").to_string();
    let mut command = Command::new(guests::binary("spoke"));
    command.args(["run", "--hub", &other.link_address(), "--address", &address, "--data"]);
    let process = Process::start(command.arg(&data), &own.path("astray.log"));
    let words = format!("{} has a certificate of another authority", other.link_address());
    eventually("the spoke tells whom it met", PATIENCE, || {
        let log = process.log();
        if log.contains(&words) { Ok(()) } else { Err(log) }
    });
    own.answers("pi-1", 30701, "hello from web-");
    let doctor =
        Command::new(guests::binary("spoke")).args(["doctor", "--data"]).arg(&data).output();
    let doctor = doctor.expect("spoke doctor");
    assert!(!doctor.status.success());
    has(
        &String::from_utf8_lossy(&doctor.stdout),
        &["FAIL  udp", &words, "next: another hub answers there: correct --hub, or join anew"],
    );
    // The other hub's device of the same name has not noticed.
    other.node_ready("pi-1");
    let pods = other.kubectl().try_run(&["get", "pods", "-A"]);
    has(&pods.err, &["No resources found"]);
    drop(process);
    let hub = own.link_address();
    let mut command = Command::new(guests::binary("spoke"));
    command.args(["run", "--hub", &hub, "--address", &address, "--data"]);
    let _back = Process::start(command.arg(&data), &own.path("pi-1.log"));
    own.node_ready("pi-1");
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
fn garbage_on_the_hubs_ports_harms_nobody() {
    let mut fleet = Fleet::with(&["pi-1"]);
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"\x16\x03\x01\xff\xff"] {
        let mut stream =
            std::net::TcpStream::connect(("127.0.0.1", fleet.api_port())).expect("the API port");
        stream.set_read_timeout(Some(Duration::from_secs(15))).expect("a timeout");
        // The hub may hang up while we still write; that is its right.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
    // Datagrams that look like QUIC at first sight, and others.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut datagram = [0_u8; 1200];
    for round in 0..=u8::MAX {
        datagram.iter_mut().zip(0_u32..).for_each(|(byte, at)| {
            *byte = round.wrapping_mul(31).wrapping_add(at.to_le_bytes()[0]);
        });
        datagram[0] = round;
        socket.send_to(&datagram[..1200 - usize::from(round)], fleet.link_address()).expect("sent");
    }
    has(&fleet.kubectl().run(&["get", "--raw", "/readyz"]), &["ok"]);
    fleet.join("pi-2");
    for node in ["pi-1", "pi-2"] {
        fleet.node_ready(node);
    }
}
