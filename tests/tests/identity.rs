//! A device's identity over time, with real processes.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, guests};

/// All arguments of a running process, as every user of the machine reads them.
fn arguments(process: u32) -> String {
    let raw = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// What the doctor says of a spoke.
fn doctor(fleet: &Fleet, name: &str) -> String {
    let mut command = std::process::Command::new(guests::binary("spoke"));
    let output = command.args(["doctor", "--data"]).arg(fleet.path(name)).output();
    String::from_utf8_lossy(&output.expect("the doctor").stdout).into_owned()
}

#[test]
fn a_join_token_is_for_one_device_and_in_nobodys_sight() {
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&["--accept"]);
    fleet.join_with("pi-1", &token, &ca_hash);
    fleet.node_ready("pi-1");
    let seen = arguments(fleet.spoke_id("pi-1"));
    assert!(seen.contains("--token -") && seen.contains("--name pi-1"), "{seen}");
    assert!(!seen.contains(&token), "{seen}");
    fleet.join_with("pi-2", &token, &ca_hash);
    eventually("the second device is refused", PATIENCE, || {
        let log = fleet.spoke_log("pi-2");
        if log.contains("used by another device") { Ok(()) } else { Err(log) }
    });
}

#[test]
fn a_copied_data_directory_is_noticed_and_the_two_do_not_fight() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.kill_spoke("pi-1");
    let copied = std::process::Command::new("cp")
        .args(["-a"])
        .args([fleet.path("pi-1"), fleet.path("twin")])
        .status();
    assert!(copied.is_ok_and(|status| status.success()));
    fleet.start_spoke("pi-1");
    let sessions = |fleet: &Fleet| fleet.hub_log().matches("a spoke is in session").count();
    eventually("it is back", PATIENCE, || {
        if sessions(&fleet) == 2 { Ok(()) } else { Err(fleet.spoke_log("pi-1")) }
    });
    fleet.start_twin("twin");
    let word = "another device is in session with the same identity";
    eventually("the copy is told", PATIENCE, || {
        let log = fleet.spoke_log("twin");
        if log.contains(word) { Ok(()) } else { Err(log) }
    });
    let kubectl = fleet.kubectl();
    let path = "jsonpath={.status.conditions[?(@.type==\"DuplicateIdentity\")].status}";
    assert_eq!(kubectl.run(&["get", "managedcluster", "pi-1", "-o", path]), "True");
    let events = kubectl.run(&["get", "events", "-A"]);
    assert!(events.contains("TwoDevicesOneIdentity"), "{events}");
    assert_eq!(sessions(&fleet), 2, "nobody pushes anybody out");
    let said = doctor(&fleet, "twin");
    assert!(said.contains(word) && said.contains("copy of this device's data"), "{said}");
    fleet.stop_spoke("pi-1");
    eventually("the one that is left has the session", PATIENCE, || {
        if sessions(&fleet) == 3 { Ok(()) } else { Err(fleet.spoke_log("twin")) }
    });
}

#[test]
fn the_doctor_of_a_device_that_has_not_joined_tells_what_came_of_it() {
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&[]);
    let says = |fleet: &Fleet, name: &str, parts: &[&str]| {
        eventually(&format!("{name}: {parts:?}"), PATIENCE, || {
            let said = doctor(fleet, name);
            if parts.iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
        });
        doctor(fleet, name)
    };
    fleet.join_with("pi-1", &token, &ca_hash);
    let said = says(&fleet, "pi-1", &["waiting to be accepted", "next: on the hub, `hub accept"]);
    assert!(said.contains("ok    udp"), "{said}");
    fleet.join_with("pi-2", &token, &ca_hash);
    let said = says(&fleet, "pi-2", &["used by another device", "next: `hub token create`"]);
    assert!(!said.contains("hub accept"), "{said}");
    // A line of which half is another hub's.
    let [token, _] = fleet.token(&[]);
    fleet.join_with("pi-3", &token, &format!("sha256:{}", "0".repeat(64)));
    let said =
        says(&fleet, "pi-3", &["no answer yet", "a certificate of another authority", "--ca-hash"]);
    assert!(!said.contains("hub accept"), "{said}");
}

#[test]
fn a_kubeconfig_for_one_cluster_opens_that_cluster_alone() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.join("pi-2");
    fleet.node_ready("pi-2");
    let text = fleet.hub_cli(&["get", "kubeconfig", "--cluster", "pi-1"]);
    let file = fleet.path("site.kubeconfig");
    std::fs::write(&file, text).expect("a kubeconfig");
    let site = Kubectl::new(&file);
    let path = file.display().to_string();
    let refused = fleet.try_hub_cli(&["token", "create", "--kubeconfig", &path]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("for the cluster pi-1 alone"), "{said}");
    let secrets = ["get", "secrets", "-A"];
    let _ = site.run(&secrets);
    let _ = site.run(&["create", "configmap", "mine", "--from-literal", "a=b"]);
    let api = format!("https://127.0.0.1:{}", fleet.api_port());
    let text = fleet.hub_cli(&["get", "kubeconfig", "--cluster", "pi-1", "--user", "jane"]);
    let file = fleet.path("jane.kubeconfig");
    std::fs::write(&file, text).expect("a kubeconfig");
    let jane = Kubectl::new(&file);
    assert!(jane.fails(&["get", "configmaps"]).contains("is forbidden"));
    site.does(&["create", "clusterrolebinding", "jane", "--clusterrole=view", "--user=jane"]);
    assert!(jane.run(&["get", "configmaps"]).contains("mine"));
    for kubectl in [&site, &jane] {
        for elsewhere in [api.clone(), format!("{api}/clusters/pi-2"), format!("{api}/clusters/no")]
        {
            let said = kubectl.at(&elsewhere).fails(&["get", "configmaps", "-A"]);
            // Not even what is served, which kubectl asks for first: it has no more to say.
            assert!(said.contains("Forbidden"), "{elsewhere}: {said}");
        }
    }
}
