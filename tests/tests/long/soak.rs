//! Guests that misbehave beside good neighbours, on a device of 700 MiB, for as many minutes as
//! `FREEWHEEL_SOAK_MINUTES` says (seven when it says nothing).

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::process::resident;
use freewheel_tests::small_device::SmallDevice;
use freewheel_tests::{Fleet, eventually, http};

/// What the device has, in KiB.
const MEMORY: u64 = 700 << 10;

/// From when on memory may grow by a tenth only; in a shorter soak from three quarters of its time on. Until then every
/// guest of the zoo has come, been stopped and come again, and the device has touched what it goes on to use.
const WARM: Duration = Duration::from_secs(5 * 60);

const WEB: u16 = 30_701;
const ENDLESS: u16 = 30_702;
const GREETS: u16 = 30_703;

/// How a guest misbehaves, and what its log or its state tells when it has.
const ZOO: [(&str, &str); 16] = [
    ("fields", "fields"),
    ("files", "files: holding"),
    ("handles", "handles"),
    ("pipes", "pipes"),
    ("drained", "drained: holding"),
    ("udp", "udp: sending"),
    ("away", "away: sending"),
    ("eat", "OOMKilled"),
    ("spin", "spin: begins"),
    ("log", "log: 1 "),
    ("swap", "swap: one round"),
    ("churn", "churn: begins"),
    ("endless", "endless: listening"),
    ("hang", "hang: holding"),
    (PROBED, "probed: holding"),
    (GREETING, "GET /"),
];

/// An innocent handler of a large environment, a part of which is its answer: its clients read nothing of that.
const GREETING: &str = "greeting";

/// Who is asked by a command every second, and is ready all the time.
const PROBED: &str = "probed";

/// A server on another device, for datagrams that go there.
const SINK: &str = "
apiVersion: v1
kind: Service
metadata: {name: sink}
spec:
  selector: {app: sink}
  ports: [{port: 70, protocol: UDP}]
---
apiVersion: v1
kind: Pod
metadata: {name: sink, labels: {app: sink}}
spec:
  nodeName: pi-2
  containers:
    - {name: c, image: 'kit:v1', args: [udp-echo, '0.0.0.0:70'], ports: [{containerPort: 70, protocol: UDP}]}
";

/// What its readiness is asked by: a command that ends, and one that never does.
fn probe(way: &str) -> String {
    let command = match way {
        PROBED => "nod",
        "hang" => "spin",
        _ => return String::new(),
    };
    format!(
        "readinessProbe: {{exec: {{command: [zoo, {command}]}}, periodSeconds: 1, timeoutSeconds: 5, \
         failureThreshold: 3}}, "
    )
}

/// With 1 MiB that nobody asks for, and 640 KiB that everybody gets.
fn greeting() -> String {
    let (part, ten) = ("x".repeat(64 << 10), "$(PART)".repeat(10));
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {GREETING}, labels: {{zoo: {GREETING}}}}}, spec: {{\
         nodeName: pi-1, \
         containers: [{{name: c, image: 'hello-http:v1', ports: [{{containerPort: 8080}}], \
         resources: {{limits: {{memory: 24Mi}}}}, \
         env: [{{name: PART, value: {part}}}, {{name: GREETING, value: {ten}}}, \
         {{name: BALLAST, value: {ten}$(PART)$(PART)$(PART)$(PART)$(PART)$(PART)}}]}}]}}}}"
    )
}

fn zoo(way: &str) -> String {
    if way == GREETING {
        return greeting();
    }
    let probe = probe(way);
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {way}, labels: {{zoo: {way}}}}}, spec: {{\
         nodeName: pi-1, \
         containers: [{{name: c, image: 'zoo:v1', args: [{way}], ports: [{{containerPort: 8080}}], {probe}\
         resources: {{limits: {{memory: 24Mi}}}}, \
         volumeMounts: [{{name: v, mountPath: /v}}, {{name: v, mountPath: /s, subPath: s}}]}}], \
         volumes: [{{name: v, emptyDir: {{}}}}]}}}}"
    )
}

fn service(name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: NodePort, \
         selector: {{zoo: {name}}}, ports: [{{port: 80, targetPort: 8080, nodePort: {port}}}]}}}}"
    )
}

/// What a guest of the zoo has said and how it stands.
fn told(kubectl: &Kubectl, way: &str) -> String {
    let mut all = kubectl.try_run(&["logs", way, "--tail=3"]).out;
    // The log flood's first line is long gone.
    if way == "log" && all.contains("log: ") {
        all.push_str("log: 1 ");
    }
    all + &kubectl.try_run(&["logs", way, "--previous", "--limit-bytes=300"]).out
        + &kubectl.try_run(&["get", "pod", way, "-o", "jsonpath={.status}"]).out
}

/// Asks for as long as it may, ten times a second, and keeps what was not answered.
fn ask(address: SocketAddr, stop: &AtomicBool) -> (u64, Vec<String>) {
    let (start, mut asked, mut failed) = (Instant::now(), 0, Vec::new());
    while !stop.load(Relaxed) {
        asked += 1;
        match http::get_within(address, "/", Duration::from_secs(10)) {
            Ok((200, body)) if body.starts_with("hello from ") => {}
            other => failed.push(format!("after {:?}: {other:?}", start.elapsed())),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    (asked, failed)
}

/// Clients that read nothing of what never ends, for as long as it may.
fn read_nothing(address: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Relaxed) {
        let clients: Vec<_> = (0..8).filter_map(|_| TcpStream::connect(address).ok()).collect();
        for mut client in &clients {
            let _ = client.set_read_timeout(Some(Duration::from_secs(1)));
            let _ = client.read(&mut [0; 16]);
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Clients that ask and read nothing of the answer, for as long as it may.
fn ask_and_read_nothing(address: SocketAddr, stop: &AtomicBool) {
    let ask = |_| {
        let mut client = TcpStream::connect(address).ok()?;
        client.write_all(b"GET / HTTP/1.1\r\nhost: greeting\r\n\r\n").ok()?;
        Some(client)
    };
    while !stop.load(Relaxed) {
        let clients: Vec<_> = (0..60).filter_map(ask).collect();
        std::thread::sleep(Duration::from_secs(3));
        drop(clients);
    }
}

/// The middle of what was held over a while.
fn middle(samples: &[(Duration, u64)], from: Duration, to: Duration) -> u64 {
    let mut held: Vec<u64> =
        samples.iter().filter(|(at, _)| from <= *at && *at < to).map(|(_, kib)| *kib).collect();
    held.sort_unstable();
    held[held.len() / 2]
}

#[test]
fn a_zoo_takes_nothing_from_its_neighbours_and_memory_does_not_grow() {
    let minutes = std::env::var("FREEWHEEL_SOAK_MINUTES").map_or(7.0, |minutes| {
        minutes.parse::<f64>().expect("FREEWHEEL_SOAK_MINUTES is a number of minutes")
    });
    let length = Duration::from_secs_f64(minutes * 60.0);
    let warm = WARM.min(length * 3 / 4);
    let mut fleet = Fleet::hub();
    let device = SmallDevice::join(&mut fleet, "pi-1", MEMORY);
    fleet.node_ready("pi-1");
    fleet.serve_web(2, WEB, &["pi-1"]);
    fleet.push("zoo", "zoo:v1");
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    fleet.join("pi-2");
    fleet.node_ready("pi-2");
    kubectl.apply(SINK);
    fleet.pods_ready(&kubectl, "app=sink", 1);
    let capacity =
        kubectl.run(&["get", "node", "pi-1", "-o", "jsonpath={.status.capacity.memory}"]);
    assert_eq!(capacity, format!("{}Mi", MEMORY >> 10), "the device is a small one");
    for (way, _) in ZOO {
        kubectl.apply(&zoo(way));
    }
    kubectl.apply(&service("endless", ENDLESS));
    kubectl.apply(&service(GREETING, GREETS));
    let agent = fleet.spoke_id("pi-1");
    let [web, endless, greets] = [WEB, ENDLESS, GREETS].map(|port| fleet.node_port("pi-1", port));

    let stop = AtomicBool::new(false);
    let mut samples = Vec::new();
    let answers = std::thread::scope(|scope| {
        let neighbours: Vec<_> = (0..2).map(|_| scope.spawn(|| ask(web, &stop))).collect();
        scope.spawn(|| read_nothing(endless, &stop));
        scope.spawn(|| ask_and_read_nothing(greets, &stop));
        let misbehaved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for (way, sign) in ZOO {
                eventually(&format!("{way} misbehaves"), PATIENCE, || {
                    let told = told(&kubectl, way);
                    if told.contains(sign) { Ok(()) } else { Err(told) }
                });
            }
        }));
        let start = Instant::now();
        while misbehaved.is_ok() && start.elapsed() < length && fleet.spoke_ended("pi-1").is_none()
        {
            samples.push((start.elapsed(), resident(agent)));
            std::thread::sleep(Duration::from_millis(500));
        }
        stop.store(true, Relaxed);
        let answers: Vec<_> =
            neighbours.into_iter().map(|thread| thread.join().expect("answers")).collect();
        misbehaved.unwrap_or_else(|why| std::panic::resume_unwind(why));
        answers
    });

    assert_eq!(fleet.spoke_ended("pi-1"), None, "{}", fleet.spoke_log("pi-1"));
    let (before, after) =
        (middle(&samples, warm, warm + length / 10), middle(&samples, length * 9 / 10, length));
    let asked: u64 = answers.iter().map(|(asked, _)| asked).sum();
    let mut said = format!(
        "{minutes} minutes: {asked} requests, {before} KiB after {warm:?}, {after} KiB at the end, {} KiB at the most\n",
        device.most()
    );
    let restarts = "jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let pods = kubectl.run(&["get", "pods", "-o", restarts]);
    let _ = write!(said, "{pods}");
    println!("{said}");
    for (_, failed) in &answers {
        assert!(failed.is_empty(), "a neighbour's requests failed: {failed:#?}\n{said}");
    }
    let mut neighbours = pods.lines().filter(|line| line.starts_with("web-"));
    assert!(neighbours.all(|line| line.ends_with(" 0")), "a neighbour was restarted:\n{said}");
    let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    assert_eq!(kubectl.run(&["get", "pod", PROBED, "-o", ready]), "True", "{said}");
    let swapped = kubectl.try_run(&["logs", "swap"]).out
        + &kubectl.try_run(&["logs", "swap", "--previous"]).out;
    assert!(!swapped.contains("ESCAPED"), "{swapped}");
    assert!(device.most() < MEMORY, "the device's memory was not enough: {said}");
    assert!(after * 10 <= before * 11, "memory grew: {said}");
}
