//! A client of a NodePort whose device, pod's device or hub is killed: it is reset, never told that this was all, and
//! never left waiting.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually};

/// Where the echo answers.
const PORT: u16 = 30507;
/// A connection without a word is given up after half a minute; the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(50);

/// pi-1 with the door and pi-2 with the pod.
fn fleet() -> Fleet {
    let fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.push("tcp-echo", "tcp-echo:v1");
    let kubectl = fleet.kubectl();
    kubectl.apply(&format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: echo, labels: {{app: echo}}}}
spec:
  nodeSelector: {{kubernetes.io/hostname: pi-2}}
  containers: [{{name: echo, image: 'tcp-echo:v1', ports: [{{containerPort: 7000}}]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: echo}}
spec:
  type: NodePort
  selector: {{app: echo}}
  ports: [{{port: 7, targetPort: 7000, nodePort: {PORT}}}]
"
    ));
    fleet.pods_ready(&kubectl, "app=echo", 1);
    fleet
}

/// A client that has had an answer, and one that waits for its turn: the echo serves one after the other.
fn clients(fleet: &Fleet) -> [TcpStream; 2] {
    let mut talking = None;
    eventually("the echo answers on pi-1", PATIENCE, || {
        talking = Some(talk(fleet)?);
        Ok(())
    });
    let silent = TcpStream::connect(fleet.node_port("pi-1", PORT)).expect("a connection");
    [talking.expect("a client"), silent]
}

fn talk(fleet: &Fleet) -> Result<TcpStream, String> {
    let lost = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(fleet.node_port("pi-1", PORT)).map_err(lost)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(lost)?;
    stream.write_all(b"ping").map_err(lost)?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).map_err(lost)?;
    Ok(stream)
}

/// Reads on until the connection is reset.
#[track_caller]
fn is_reset(mut client: TcpStream, since: Instant) {
    client.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
    let mut buffer = [0; 64];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => panic!("a plain end after {:?}, as if this was all", since.elapsed()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                assert!(since.elapsed() < BOUND, "nothing was heard for {BOUND:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                return;
            }
        }
    }
}

fn are_reset(clients: [TcpStream; 2], since: Instant) {
    for client in clients {
        is_reset(client, since);
    }
}

#[test]
fn a_killed_device_breaks_its_connections_off_wherever_their_clients_are() {
    let mut fleet = fleet();
    let waiting = clients(&fleet);
    let killed = Instant::now();
    fleet.kill_spoke("pi-1");
    are_reset(waiting, killed);
    fleet.start_spoke("pi-1");

    // The pod's device is started again, as a supervisor does it: its new session ends what the old one carried.
    let waiting = clients(&fleet);
    let killed = Instant::now();
    fleet.kill_spoke("pi-2");
    fleet.start_spoke("pi-2");
    are_reset(waiting, killed);

    // It stays away.
    let waiting = clients(&fleet);
    let killed = Instant::now();
    fleet.kill_spoke("pi-2");
    are_reset(waiting, killed);
}

#[test]
fn a_hub_that_is_gone_breaks_off_what_it_carried() {
    let mut fleet = fleet();
    let waiting = clients(&fleet);
    let killed = Instant::now();
    fleet.kill_hub();
    are_reset(waiting, killed);
}
