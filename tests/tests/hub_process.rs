//! The hub as a process: what it says about its health, what a full disk does to it, how it starts and
//! how it stops.

use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::process::{Process, Signal, resident};
use freewheel_tests::{Fleet, eventually, guests, has};

#[test]
fn readiness_is_a_list_of_checks() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    let list = "[+]ping ok\n[+]gateway ok\n[+]controllers ok\n[+]bootstrap ok\n[+]shutdown ok\n\
                [+]store ok\n[+]disk-space ok\n[+]sealing-keys ok\nreadyz check passed\n";
    assert_eq!(kubectl.run(&["get", "--raw", "/readyz?verbose"]), list);
    let list = "[+]ping ok\n[+]gateway ok\n[+]controllers ok\nlivez check passed\n";
    assert_eq!(kubectl.run(&["get", "--raw", "/livez?verbose"]), list);
    assert_eq!(kubectl.run(&["get", "--raw", "/readyz/gateway"]), "ok");
    let excluded = kubectl.run(&["get", "--raw", "/readyz?verbose&exclude=store"]);
    has(&excluded, &["[+]store excluded: ok\n", "readyz check passed"]);
}

#[test]
fn figures_of_the_hub_are_read_by_its_administrator() {
    let fleet = Fleet::hub();
    let text = fleet.kubectl().run(&["get", "--raw", "/metrics"]);
    has(
        &text,
        &[
            "# TYPE apiserver_request_total counter",
            "apiserver_storage_objects{resource=\"namespaces\"}",
            "freewheel_link_sessions 0",
            "process_resident_memory_bytes ",
            "freewheel_store_commits_total{outcome=\"ok\"}",
            "workqueue_depth{name=\"node-controller\"}",
        ],
    );
}

/// From now on no file of the hub grows beyond this: a disk that is full, without a disk of one's own.
fn limit_files(hub: u32, bytes: &str) {
    let limit = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit").args(["--pid", &hub.to_string(), &limit]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit");
}

fn config_map(kubectl: &Kubectl, name: &str, bytes: usize) -> Result<(), String> {
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: {}}}\n",
        "x".repeat(bytes)
    );
    let said = kubectl.try_apply(&["create", "-f", "-"], &yaml);
    if said.ok { Ok(()) } else { Err(said.err) }
}

fn config_maps(kubectl: &Kubectl) -> Vec<String> {
    let path = "jsonpath={.items[*].metadata.name}";
    let out = kubectl.run(&["get", "configmaps", "-o", path]);
    out.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn a_full_disk_refuses_writes_loses_nothing_and_heals() {
    let mut fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    let out = fleet.path("watch.out");
    let watch = kubectl.start(&["get", "configmaps", "-w", "-o", "name"], &out);
    // A pod whose state changes again and again, so that its device has something to report.
    fleet.push("kit", "kit:v1");
    kubectl.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: panics}, \
         spec: {containers: [{name: c, image: 'kit:v1', args: [panic]}]}}",
    );
    let restarts = || {
        let path = "jsonpath={.status.containerStatuses[0].restartCount}";
        kubectl.run(&["get", "pod", "panics", "-o", path]).parse().unwrap_or(0_u32)
    };
    eventually("it was restarted", PATIENCE, || {
        if restarts() == 0 { Err(kubectl.run(&["get", "pods"])) } else { Ok(()) }
    });
    config_map(&kubectl, "before", 500_000).expect("there is room");
    let mut acknowledged = vec!["before".to_owned()];
    let file = fleet.path("hub/store/store.redb");
    let size = std::fs::metadata(file).expect("the store's file").len();
    limit_files(fleet.hub_id(), &size.to_string());
    let refused = loop {
        let name = format!("map-{}", acknowledged.len());
        match config_map(&kubectl, &name, 500_000) {
            Ok(()) => acknowledged.push(name),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 100, "the file has grown beyond its bound");
    };
    let folder = fleet.path("hub").display().to_string();
    has(&refused, &["the store cannot write at the moment", "the disk of", &folder, "MiB free"]);

    // Reads, watches and the link go on, and who asks is told.
    let last = acknowledged.last().expect("one at least");
    eventually("the watch has seen the last that was taken", PATIENCE, || {
        if watch.out().contains(&format!("configmap/{last}")) { Ok(()) } else { Err(watch.out()) }
    });
    fleet.node_ready("pi-1");
    let found = config_maps(&kubectl);
    assert!(acknowledged.iter().all(|name| found.contains(name)), "{acknowledged:?} {found:?}");
    let probe = kubectl.fails(&["get", "--raw", "/readyz?verbose"]);
    has(&probe, &["[-]store failed: reason withheld", "readyz check failed"]);
    has(&kubectl.fails(&["get", "--raw", "/readyz/store"]), &["File too large"]);
    assert_eq!(kubectl.run(&["get", "--raw", "/livez"]), "ok", "a restart would not help");

    limit_files(fleet.hub_id(), "unlimited");
    eventually("the hub is ready again by itself", PATIENCE, || {
        let said = kubectl.try_run(&["get", "--raw", "/readyz"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    config_map(&kubectl, "after", 500_000).expect("there is room again");
    acknowledged.push("after".to_owned());
    eventually("the watch goes on", PATIENCE, || {
        if watch.out().contains("configmap/after") { Ok(()) } else { Err(watch.out()) }
    });

    let counted = restarts();
    eventually("the device's reports are written again", PATIENCE, || {
        if counted < restarts() { Ok(()) } else { Err(kubectl.run(&["get", "pods"])) }
    });
    let before = config_maps(&kubectl);
    fleet.kill_hub();
    fleet.start_hub();
    fleet.node_ready("pi-1");
    let after = config_maps(&kubectl);
    assert_eq!(after, before, "what was seen is what was kept");
    assert!(acknowledged.iter().all(|name| after.contains(name)), "{acknowledged:?} {after:?}");
}

#[test]
fn a_hub_that_starts_on_a_full_disk_serves_reads_and_heals() {
    let mut fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    config_map(&kubectl, "before", 1000).expect("there is room");
    fleet.kill_hub();
    // Not a byte can be written to a file, and the store was not closed well.
    fleet.start_hub_through("prlimit", &["--fsize=0:unlimited"]);
    eventually("the API serves reads", PATIENCE, || {
        let said = kubectl.try_run(&["get", "configmap", "before", "-o", "name"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    has(&kubectl.fails(&["get", "--raw", "/readyz/store"]), &["File too large"]);
    let refused = config_map(&kubectl, "map", 10).expect_err("no byte can be written");
    let folder = fleet.path("hub").display().to_string();
    has(&refused, &["the store cannot write at the moment", "the disk of", &folder, "MiB free"]);
    assert_eq!(kubectl.run(&["get", "--raw", "/livez"]), "ok", "a restart would not help");

    limit_files(fleet.hub_id(), "unlimited");
    eventually("the hub is ready by itself", PATIENCE, || {
        let said = kubectl.try_run(&["get", "--raw", "/readyz"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    config_map(&kubectl, "after", 10).expect("there is room again");
}

#[test]
fn a_first_start_without_room_names_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("prlimit");
    command.arg("--fsize=0:unlimited").arg(guests::binary("hub"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--data"]);
    let output = command.arg(folder.path()).output().expect("the hub's end");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = folder.path().display().to_string();
    has(&said, &["the disk of", &place, "is full", "free some of it", "--data DIR"]);
    // With room the same folder begins.
    let mut hub = Command::new(guests::binary("hub"));
    hub.args(["serve", "--listen", "127.0.0.1:0", "--link", "127.0.0.1:0", "--data"]);
    let log = folder.path().join("log");
    let _hub = Process::start(hub.arg(folder.path()), &log);
    eventually("the administrator has a kubeconfig", PATIENCE, || {
        let there = folder.path().join("admin.kubeconfig").exists();
        if there { Ok(()) } else { Err(std::fs::read_to_string(&log).unwrap_or_default()) }
    });
}

#[test]
fn a_log_that_cannot_be_written_does_not_end_the_hub() {
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    // Neither the store nor the log takes another byte.
    limit_files(fleet.hub_id(), "0");
    let refused = config_map(&kubectl, "map", 10).expect_err("no byte can be written");
    has(&refused, &["the store cannot write at the moment"]);
    assert_eq!(kubectl.run(&["get", "--raw", "/livez"]), "ok");
    limit_files(fleet.hub_id(), "unlimited");
    eventually("the hub takes writes again", PATIENCE, || {
        let said = kubectl.try_run(&["get", "--raw", "/readyz"]);
        if said.ok { Ok(()) } else { Err(said.err) }
    });
    config_map(&kubectl, "map", 10).expect("there is room again");
}

/// `hub serve` that is expected to give up.
fn serve(folder: &std::path::Path, listen: &str, link: &str) -> Output {
    let mut command = Command::new(guests::binary("hub"));
    command.args(["serve", "--listen", listen, "--link", link, "--data"]).arg(folder);
    command.output().expect("the hub's end")
}

#[test]
fn a_port_that_is_taken_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken =
        taken.local_addr().map(|address| (address.to_string(), taken)).expect("its address");
    let output = serve(folder.path(), &taken.0, "127.0.0.1:0");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    has(&said, &[&taken.0, "Kubernetes API", "--listen HOST:PORT", "in use"]);

    let link = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let link = link.local_addr().map(|address| (address.to_string(), link)).expect("its address");
    let output = serve(folder.path(), "127.0.0.1:0", &link.0);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    has(&said, &[&link.0, "link to the spokes", "--link HOST:PORT", "in use"]);
}

#[test]
fn a_folder_that_is_in_use_is_not_served_twice() {
    let fleet = Fleet::hub();
    let output = serve(&fleet.path("hub"), "127.0.0.1:0", "127.0.0.1:0");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    has(&said, &["is in use by another hub"]);
}

#[test]
fn a_hub_that_is_told_to_stop_stops_in_bounded_time_and_starts_again() {
    let mut fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    config_map(&kubectl, "kept", 10).expect("a write");
    // A watch has no end of its own, and a spoke is connected.
    let out = fleet.path("watch.out");
    let watch = kubectl.start(&["get", "configmaps", "-w", "-o", "name"], &out);
    eventually("the watch has begun", PATIENCE, || {
        if watch.out().contains("configmap/kept") { Ok(()) } else { Err(watch.out()) }
    });
    for signal in [Signal::TERM, Signal::INT] {
        let start = Instant::now();
        let status = fleet.stop_hub_by(signal, Duration::from_secs(12));
        assert_eq!(status.code(), Some(0), "{signal:?}: {}", fleet.hub_log());
        has(&fleet.hub_log(), &["hub is stopping"]);
        assert!(start.elapsed() < Duration::from_secs(12));
        fleet.start_hub();
        fleet.node_ready("pi-1");
        assert!(config_maps(&kubectl).contains(&"kept".to_owned()));
    }
}

/// What a load makes the hub hold is the system's again soon after it, but for what the store keeps of the past.
#[test]
fn memory_is_given_back_after_a_load() {
    const MIB: u64 = 1 << 10;
    let fleet = Fleet::hub();
    let kubectl = fleet.kubectl();
    let before = resident(fleet.hub_id());
    let load = &|part: usize| {
        let map = |number: usize| {
            let data = "x".repeat(48 << 10);
            format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: m-{part}-{number}}}, data: {{a: {data}}}}}"
            )
        };
        let list: Vec<String> = (0..500).map(map).collect();
        let file = fleet.path(&format!("maps-{part}.yaml"));
        std::fs::write(&file, format!("---\n{}", list.join("\n---\n"))).expect("a file");
        let file = file.to_string_lossy();
        let made = kubectl.run(&["create", "--validate=false", "-f", &file, "-o", "name"]);
        assert_eq!(made.lines().count(), 500);
    };
    std::thread::scope(|side_by_side| {
        for part in 0..4 {
            side_by_side.spawn(move || load(part));
        }
    });
    let loaded = resident(fleet.hub_id());
    assert!(before + 96 * MIB < loaded, "{before} KiB, then {loaded}");
    let gone = kubectl.run(&["delete", "--raw", "/api/v1/namespaces/default/configmaps"]);
    // With the cluster's own ConfigMap of certificates.
    has(&gone, &["2001 were deleted"]);
    eventually("the hub is small again", PATIENCE, || {
        let now = resident(fleet.hub_id());
        // Of the former bodies the store keeps 32 MiB for a while.
        if now < before + 56 * MIB {
            Ok(())
        } else {
            Err(format!("{before} KiB, {loaded}, now {now}"))
        }
    });
}
