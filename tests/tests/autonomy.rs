//! The wheel keeps turning when the hub lets go.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::small_device::unshare;
use freewheel_tests::{Fleet, eventually, http};
use rustix::process::{Pid, Signal, kill_process};

/// Where the web server answers.
const PORT: u16 = 30500;

/// Each pod's UID and restart count.
fn pods(kubectl: &Kubectl) -> Vec<String> {
    let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    let mut lines: Vec<String> = kubectl
        .run(&["get", "pods", "-l", "app=web", "-o", path])
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_killed_hub_comes_back_with_everything_and_no_pod_is_replaced() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(2, PORT, &["pi-1"]);
    let kubectl = fleet.kubectl();
    let before = pods(&kubectl);
    kubectl.does(&["create", "configmap", "acknowledged", "--from-literal=a=b"]);
    fleet.kill_hub();
    for _ in 0..20 {
        let (code, _) =
            http::get(fleet.node_port("pi-1", PORT), "/").expect("an answer without a hub");
        assert_eq!(code, 200);
    }
    fleet.start_hub();
    assert_eq!(kubectl.run(&["get", "configmap", "acknowledged", "-o", "jsonpath={.data.a}"]), "b");
    fleet.node_ready("pi-1");
    fleet.pods_ready(&kubectl, "app=web", 2);
    assert_eq!(pods(&kubectl), before, "same pods, same restart counts");
    // The link is really back: a change reaches the device.
    kubectl.does(&["scale", "deployment/web", "--replicas=3"]);
    fleet.pods_ready(&kubectl, "app=web", 3);
}

/// A Service whose pods are on both devices answers on each of them without a hub, with the pod that is there.
#[test]
fn a_service_answers_on_every_device_while_the_hub_is_away() {
    let mut fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.serve_web(2, PORT, &["pi-1", "pi-2"]);
    let path = "jsonpath={.items[*].spec.nodeName}";
    let nodes = fleet.kubectl().run(&["get", "pods", "-l", "app=web", "-o", path]);
    assert!(nodes.contains("pi-1") && nodes.contains("pi-2"), "one pod on each: {nodes}");
    fleet.kill_hub();
    // At first the devices cannot know that nobody carries their connections any more; then they do.
    let gone = Instant::now();
    let (mut asked, mut slowest) = (0, Duration::ZERO);
    while gone.elapsed() < Duration::from_secs(45) {
        for node in ["pi-1", "pi-2"] {
            let start = Instant::now();
            let answer = http::get(fleet.node_port(node, PORT), "/");
            slowest = slowest.max(start.elapsed());
            asked += 1;
            let well = matches!(&answer, Ok((200, body)) if body.starts_with("hello from web-"));
            assert!(well, "{node} after {:?}, request {asked}: {answer:?}", gone.elapsed());
        }
        // Without a pause they take whatever the tests beside them leave of the machine, and more.
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(100 < asked, "only {asked} requests were answered in time");
    assert!(slowest < Duration::from_secs(3), "a request took {slowest:?}");
    fleet.start_hub();
    fleet.node_ready("pi-1");
    fleet.node_ready("pi-2");
    // Each device reaches the pod of the other one again.
    for node in ["pi-1", "pi-2"] {
        let mut pods = BTreeSet::new();
        eventually("both pods answer again", Duration::from_secs(10), || {
            pods.extend(http::get(fleet.node_port(node, PORT), "/").map(|(_, body)| body));
            if 1 < pods.len() { Ok(()) } else { Err(format!("on {node}: {pods:?}")) }
        });
    }
}

#[test]
fn a_killed_spoke_brings_its_pods_back_without_a_hub() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(2, PORT, &["pi-1"]);
    let kubectl = fleet.kubectl();
    let uids = |lines: Vec<String>| -> Vec<String> {
        lines.iter().filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
    };
    let before = uids(pods(&kubectl));
    fleet.kill_hub();
    fleet.kill_spoke("pi-1");
    assert!(
        http::get(fleet.node_port("pi-1", PORT), "/").is_err(),
        "nothing answers while the spoke is down"
    );
    fleet.start_spoke("pi-1");
    fleet.answers("pi-1", PORT, "hello from web-");
    fleet.start_hub();
    fleet.node_ready("pi-1");
    fleet.pods_ready(&kubectl, "app=web", 2);
    assert_eq!(uids(pods(&kubectl)), before, "the same pods run again");
}

/// A name server that takes questions and answers none, as long as it is held.
struct Mute {
    _socket: UdpSocket,
    /// The command that starts a program which knows no other name server, and no names by heart.
    front: Vec<String>,
}

impl Mute {
    fn new(fleet: &Fleet) -> Self {
        // Somewhere in this machine's own network, as the fleet's nodes: libc asks port 53 only.
        let address = (Ipv4Addr::new(127, 53, 53, 53), 53);
        let socket = UdpSocket::bind(address).expect("port 53 of an address of this machine");
        let (resolv, hosts) = (fleet.path("resolv.conf"), fleet.path("hosts"));
        // Far longer than the test is ready to wait.
        let text = format!("nameserver {}\noptions timeout:30 attempts:5\n", address.0);
        std::fs::write(&resolv, text).expect("a file");
        std::fs::write(&hosts, "127.0.0.1 localhost\n").expect("a file");
        let script = format!(
            "mount --bind '{}' /etc/resolv.conf && mount --bind '{}' /etc/hosts && exec \"$0\" \"$@\"",
            resolv.display(),
            hosts.display()
        );
        let mut front = unshare();
        front.extend(["sh".to_owned(), "-c".to_owned(), script]);
        Self { _socket: socket, front }
    }
}

/// A boot where nobody answers what the hub's name stands for: pods come first, and the agent ends when it is told to.
#[test]
fn pods_start_while_no_name_server_answers() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(2, PORT, &["pi-1"]);
    fleet.kill_spoke("pi-1");
    let mute = Mute::new(&fleet);
    fleet.start_through("pi-1", mute.front.clone());
    let port = fleet.link_address().rsplit_once(':').expect("a port").1.to_owned();
    std::fs::write(fleet.path("pi-1").join("identity/hub"), format!("hub.example:{port}"))
        .expect("the hub's name");
    fleet.start_spoke("pi-1");
    fleet.answers("pi-1", PORT, "hello from web-");
    let log = fleet.spoke_log("pi-1");
    assert!(log.contains("hub=\"hub.example:") || log.contains("hub=hub.example:"), "{log}");
    fleet.stop_spoke("pi-1");
}

/// The identity is kept and the ledger is not: the pod's starts are counted on, and each has its log.
#[test]
fn a_spoke_that_lost_its_ledger_counts_on_from_its_logs() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    kubectl.does(&["run", "ticks", "--image=kit:v1", "--", "tick"]);
    let restarts = |count: &str| {
        let path = "jsonpath={.status.containerStatuses[0].restartCount} {.status.phase}";
        let wanted = format!("{count} Running");
        eventually(&format!("it is start {count} that runs"), PATIENCE, || {
            let said = kubectl.run(&["get", "pod", "ticks", "-o", path]);
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    restarts("0");
    fleet.kill_spoke("pi-1");
    fleet.start_spoke("pi-1");
    restarts("1");
    // In order, and then it says nothing of what went wrong.
    fleet.stop_spoke("pi-1");
    let log = fleet.spoke_log("pi-1");
    let (_, end) = log.rsplit_once("stopping").expect("the spoke says that it stops");
    assert!(!end.contains("WARN") && !end.contains("ERROR"), "{end}");
    std::fs::remove_file(fleet.path("pi-1").join("ledger")).expect("a ledger");
    fleet.start_spoke("pi-1");
    restarts("2");
    for (flags, start) in [(&[][..], "2.log"), (&["--previous"][..], "1.log")] {
        let log = [&["logs", "ticks", "--timestamps", "--limit-bytes=24"][..], flags].concat();
        eventually(&format!("{log:?} is that of the start"), PATIENCE, || {
            let (said, file) = (kubectl.try_run(&log), find(&fleet.path("pi-1/pods"), start));
            let own = std::fs::read_to_string(file).unwrap_or_default();
            let same = said.ok && said.out.len() == 24 && own.starts_with(&said.out);
            if same { Ok(()) } else { Err(format!("{}{}\n{own}", said.out, said.err)) }
        });
    }
}

/// The file of this name below a folder.
fn find(below: &Path, name: &str) -> PathBuf {
    let entries = std::fs::read_dir(below).into_iter().flatten().flatten();
    let mut found = entries.filter_map(|entry| match entry.path() {
        dir if dir.is_dir() => Some(find(&dir, name)).filter(|found| found.exists()),
        file => Some(file).filter(|file| file.ends_with(name)),
    });
    found.next().unwrap_or_default()
}

#[test]
fn a_silent_spoke_is_unknown_and_nothing_is_evicted() {
    let fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(2, PORT, &["pi-1"]);
    let kubectl = fleet.kubectl();
    let before = pods(&kubectl);
    // The same process comes back: nothing has happened to its pods, and it says all the same how they are.
    let process = fleet.spoke_id("pi-1").try_into().ok().and_then(Pid::from_raw).expect("an id");
    kill_process(process, Signal::STOP).expect("it stops");
    let condition = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
    eventually("the node is Unknown", Duration::from_secs(90), || {
        let said = kubectl.run(&["get", "node", "pi-1", "-o", condition]);
        if said == "Unknown" { Ok(()) } else { Err(said) }
    });
    let clusters = kubectl.run(&["get", "managedcluster", "pi-1"]);
    assert!(clusters.contains("Unknown"), "{clusters}");
    let ready = "jsonpath={range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
    eventually("no pod is called ready", PATIENCE, || {
        let said = kubectl.run(&["get", "pods", "-l", "app=web", "-o", ready]);
        if said.trim() == "False False" { Ok(()) } else { Err(said) }
    });
    assert_eq!(pods(&kubectl), before, "silence makes a cluster Unknown, not empty");
    kill_process(process, Signal::CONT).expect("it goes on");
    fleet.node_ready("pi-1");
    fleet.pods_ready(&kubectl, "app=web", 2);
    fleet.answers("pi-1", PORT, "hello from web-");
    assert_eq!(pods(&kubectl), before, "and nothing was started anew");
}

/// A device without its ledger has forgotten its pods. Those that have ended are not its to run again.
#[test]
fn what_has_ended_does_not_run_again_on_a_device_that_lost_its_ledger() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.push("kit", "kit:v1");
    let kubectl = fleet.kubectl();
    let pod = |name: &str, command: &str| {
        format!(
            "apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  containers: [{{name: c, image: 'kit:v1', args: {command}}}]
"
        )
    };
    let ends = |name: &str, phase: &str| {
        let path = ["get", "pod", name, "-o", "jsonpath={.status.phase}"];
        eventually(&format!("{name} ends"), Duration::from_secs(30), || {
            let said = kubectl.run(&path);
            if said == phase { Ok(()) } else { Err(said) }
        });
    };
    kubectl.apply(&pod("well", "[say, once]"));
    kubectl.apply(&pod("badly", "[exit, '3']"));
    let all = [("well", "Succeeded"), ("badly", "Failed")];
    all.iter().for_each(|(name, phase)| ends(name, phase));
    let status = |name: &str| kubectl.json(&["get", "pod", name])["status"].clone();
    let before = all.map(|(name, _)| status(name));

    fleet.stop_spoke("pi-1");
    std::fs::remove_file(fleet.path("pi-1").join("ledger")).expect("there was a ledger");
    fleet.start_spoke("pi-1");
    // Behind what it was sent first.
    kubectl.apply(&pod("later", "[say, later]"));
    ends("later", "Succeeded");
    assert_eq!(all.map(|(name, _)| status(name)), before);
    let log = fleet.spoke_log("pi-1");
    let starts = |name: &str| {
        let pod = format!("default/{name}");
        log.lines().filter(|line| line.contains("container starts") && line.contains(&pod)).count()
    };
    assert_eq!(["well", "badly", "later"].map(starts), [1, 1, 1], "{log}");
    kubectl.does(&["delete", "pod", "well", "badly", "--timeout=30s"]);
}
