//! The life of devices: their end, and boards that take the place of others.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually};

const PORT: u16 = 30500;

/// What is in the data directory of a device.
fn held(fleet: &Fleet, name: &str) -> Vec<String> {
    let dir = std::fs::read_dir(fleet.path(name)).expect("its data directory");
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.expect("an entry").file_name().into_string().expect("a name")
    };
    let mut all: Vec<String> = dir.map(name).collect();
    all.sort();
    all
}

/// Waits until a device has wiped itself and has ended.
fn is_wiped(fleet: &mut Fleet, name: &str) {
    eventually("it ends", PATIENCE, || match fleet.spoke_ended(name) {
        Some(_) => Ok(()),
        None => Err(fleet.spoke_log(name)),
    });
    assert_eq!(held(fleet, name), ["decommissioned", "lock"], "{}", fleet.spoke_log(name));
    let said = fleet.hub_cli(&["decommission"]);
    let receipt = format!("{name} is decommissioned: wiped at ");
    assert!(said.contains(&receipt), "{said}");
    let path = "jsonpath={.items[*].data.wipedAt}";
    let of = format!("freewheel.dev/device={name},freewheel.dev/device-order=wipe");
    let kubectl = fleet.kubectl();
    let at = kubectl.run(&["-n", "kube-system", "get", "configmaps", "-l", &of, "-o", path]);
    assert!(at.contains('T'), "kubectl shows it, too: {at}");
}

#[test]
fn a_decommissioned_device_wipes_what_it_held_and_stays_off() {
    let mut fleet = Fleet::with(&["pi-1", "pi-2"]);
    fleet.serve_web(2, PORT, &["pi-1", "pi-2"]);
    let before = held(&fleet, "pi-1");
    assert!(["identity", "ledger", "pods"].iter().all(|part| before.contains(&(*part).into())));
    let _ = fleet.hub_cli(&["decommission", "pi-1"]);
    is_wiped(&mut fleet, "pi-1");
    let kubectl = fleet.kubectl();
    eventually("its cluster is gone", PATIENCE, || {
        let left = kubectl.run(&["get", "managedclusters"]);
        if left.contains("pi-1") { Err(left) } else { Ok(()) }
    });
    // However often it is started, with whatever token.
    let [token, ca_hash] = fleet.token(&["--accept"]);
    fleet.join_with("pi-1", &token, &ca_hash);
    eventually("it says so and ends", PATIENCE, || match fleet.spoke_ended("pi-1") {
        Some(status) if !status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let log = fleet.spoke_log("pi-1");
    assert!(log.contains("has decommissioned this device") && log.contains("remove "), "{log}");

    // Offline, and through a start of the hub; then it is killed as soon as it has the order.
    fleet.kill_spoke("pi-2");
    let said = fleet.hub_cli(&["decommission", "pi-2"]);
    assert!(said.contains("at its next contact"), "{said}");
    fleet.kill_hub();
    fleet.start_hub();
    fleet.start_spoke("pi-2");
    let order = fleet.path("pi-2").join("decommissioned");
    eventually("it has the order", PATIENCE, || {
        if order.exists() { Ok(()) } else { Err(fleet.spoke_log("pi-2")) }
    });
    fleet.kill_spoke("pi-2");
    fleet.start_spoke("pi-2");
    is_wiped(&mut fleet, "pi-2");
}

#[test]
fn a_new_board_takes_the_place_of_a_dead_one() {
    let mut fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    kubectl.does(&["label", "managedcluster", "pi-1", "site=attic"]);
    fleet.kubectl_of("pi-1").does(&["create", "configmap", "mine", "--from-literal=a=b"]);
    fleet.serve_web(1, PORT, &["pi-1"]);
    let pod = || {
        let path = "jsonpath={.items[*].metadata.uid}";
        kubectl.run(&["get", "pods", "-l", "app=web", "-o", path])
    };
    let cluster = || {
        let path = "jsonpath={.metadata.uid} {.metadata.labels.site}";
        kubectl.run(&["get", "managedcluster", "pi-1", "-o", path])
    };
    let (own, place) = (pod(), cluster());
    assert!(place.ends_with(" attic"), "{place}");
    fleet.join("spare");
    fleet.node_ready("spare");
    let refused = fleet.try_hub_cli(&["replace", "pi-1", "spare"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("pi-1 is connected"), "{said}");

    fleet.kill_spoke("pi-1");
    eventually("the hub knows that it is away", PATIENCE, || {
        let done = fleet.try_hub_cli(&["replace", "pi-1", "spare"]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        if done.status.success() { Ok(()) } else { Err(said) }
    });
    fleet.answers("spare", PORT, "hello from web-");
    fleet.node_ready("pi-1");
    assert_eq!((pod(), cluster()), (own.clone(), place), "the same pod, the same cluster");
    fleet.kubectl_of("pi-1").does(&["get", "configmap", "mine"]);
    eventually("its first name is gone", PATIENCE, || {
        let left = kubectl.run(&["get", "managedclusters,nodes"]);
        if left.contains("spare") { Err(left) } else { Ok(()) }
    });
    // Said again it is done already.
    let _ = fleet.hub_cli(&["replace", "pi-1", "spare"]);
    // What starts the board still says how it was called, and the dead one comes back.
    fleet.stop_spoke("spare");
    let [token, ca_hash] = fleet.token(&[]);
    fleet.join_with("spare", &token, &ca_hash);
    fleet.answers("spare", PORT, "hello from web-");
    fleet.start_spoke("pi-1");
    is_wiped(&mut fleet, "pi-1");
    assert_eq!(pod(), own, "and it has disturbed nobody");
}
