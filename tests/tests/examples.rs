//! Every manifest in manifests/examples works as its first lines say.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually, guests, has};

#[test]
fn every_example_answers_through_its_node_port() {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    for (guest, image) in [
        ("hello-http", "hello-http:v1"),
        ("web-with-sidecar", "web-with-sidecar:v1"),
        ("web-content", "web-content:v1"),
        ("tcp-echo", "tcp-echo:v1"),
    ] {
        fleet.push(guest, image);
    }
    let kubectl = fleet.kubectl();
    let examples = guests::root().join("manifests/examples");
    kubectl.does(&["apply", "-f", &examples.to_string_lossy()]);
    fleet.pods_ready(&kubectl, "app=hello-http", 2);
    fleet.pods_ready(&kubectl, "app=web-with-sidecar", 1);
    fleet.pods_ready(&kubectl, "app=tcp-echo", 1);
    fleet.pods_ready(&kubectl, "app=daemon-hello", 2);
    fleet.pods_ready(&kubectl, "app=numbered-hello", 2);
    fleet.pods_ready(&kubectl, "app=hello-autoscaled", 1);

    // Every node answers, whichever runs the pod.
    for node in ["pi-1", "pi-2"] {
        fleet.answers(node, 30080, "hello from hello-http-");
        fleet.answers(node, 30081, "Written by a sidecar");
        fleet.answers(node, 30082, "hello from daemon-hello-");
        fleet.answers(node, 30083, "hello from numbered-hello-");
        fleet.answers(node, 30084, "hello from hello-autoscaled-");
        eventually("tcp-echo echoes", PATIENCE, || echo(&fleet, node));
    }
    let shown = kubectl.typed("get hpa hello-autoscaled --no-headers");
    has(&shown, &["Deployment/hello-autoscaled", "/60%"]);
    let again = kubectl.run(&["apply", "-f", &examples.to_string_lossy()]);
    // A budget's selector is replaced by each apply (its patch strategy), so that kubectl always calls one configured.
    let mut others = again.lines().filter(|line| !line.starts_with("poddisruptionbudget"));
    assert!(others.all(|line| line.ends_with("unchanged")), "{again}");
    for set in ["daemonset/daemon-hello", "statefulset/numbered-hello"] {
        kubectl.does(&["set", "env", set, "GREETING=good day"]);
        kubectl.does(&["rollout", "status", set, "--timeout=60s"]);
        kubectl.does(&["rollout", "undo", set]);
        kubectl.does(&["rollout", "status", set, "--timeout=60s"]);
        let history = kubectl.run(&["rollout", "history", set]);
        assert!(history.contains("\n2 ") && history.contains("\n3 "), "{history}");
    }
}

fn echo(fleet: &Fleet, node: &str) -> Result<(), String> {
    let lost = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(fleet.node_port(node, 30007)).map_err(lost)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(lost)?;
    stream.write_all(b"round and round").map_err(lost)?;
    stream.shutdown(std::net::Shutdown::Write).map_err(lost)?;
    let mut back = String::new();
    stream.read_to_string(&mut back).map_err(lost)?;
    if back == "round and round" { Ok(()) } else { Err(format!("{back:?}")) }
}
