//! A device that runs on while what it was to keep is taken from it: its data folder, its ledger, the disk's being written.

use std::fs;
use std::process::Command;
use std::time::Duration;

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::small_device::unshare;
use freewheel_tests::{Fleet, eventually, guests};

/// Where the web server answers.
const PORT: u16 = 30510;

/// Waits until the Node's Ready says this: status and reason.
#[track_caller]
fn ready_says(fleet: &Fleet, status_and_reason: &str) {
    let ready = ".status.conditions[?(@.type==\"Ready\")]";
    let path = format!("jsonpath={{{ready}.status}} {{{ready}.reason}}");
    eventually(&format!("the node says {status_and_reason}"), PATIENCE, || {
        let said = fleet.kubectl().run(&["get", "node", "pi-1", "-o", &path]);
        if said == status_and_reason { Ok(()) } else { Err(said) }
    });
}

/// The pod's UID.
fn uid(fleet: &Fleet) -> String {
    fleet.kubectl().run(&[
        "get",
        "pods",
        "-l",
        "app=web",
        "-o",
        "jsonpath={.items[*].metadata.uid}",
    ])
}

/// What the doctor says on the device.
fn doctor(fleet: &Fleet) -> String {
    let mut command = Command::new(guests::binary("spoke"));
    let output = command.args(["doctor", "--data"]).arg(fleet.path("pi-1")).output();
    String::from_utf8_lossy(&output.expect("the doctor").stdout).into_owned()
}

/// The agent dies, and the same pod is there again with the next.
#[track_caller]
fn comes_back(fleet: &mut Fleet, before: &str) {
    fleet.kill_spoke("pi-1");
    fleet.start_spoke("pi-1");
    fleet.answers("pi-1", PORT, "hello from web-");
    fleet.node_ready("pi-1");
    assert_eq!(uid(fleet), before);
}

#[test]
fn a_device_whose_data_folder_goes_is_not_ready_until_it_is_back() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(1, PORT, &["pi-1"]);
    let (before, home, away) = (uid(&fleet), fleet.path("pi-1"), fleet.path("away"));
    fs::rename(&home, &away).expect("a data folder");
    ready_says(&fleet, "False LedgerUnwritable");
    fleet.answers("pi-1", PORT, "hello from web-");
    let said = doctor(&fleet);
    assert!(said.contains("mount its d"), "{said}");
    // What guests log makes a folder anew, or somebody does: nothing of the agent's is begun there.
    fs::create_dir_all(&home).expect("a folder");
    std::thread::sleep(Duration::from_secs(6));
    assert!(!home.join("ledger").exists(), "that is another folder");
    eventually("the folder is put back", PATIENCE, || {
        let _ = fs::remove_dir_all(&home);
        fs::rename(&away, &home).map_err(|error| error.to_string())
    });
    ready_says(&fleet, "True KubeletReady");
    assert_eq!(uid(&fleet), before);
    comes_back(&mut fleet, &before);
}

#[test]
fn a_ledger_that_is_removed_under_a_running_agent_is_there_again() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.serve_web(1, PORT, &["pi-1"]);
    let (before, ledger) = (uid(&fleet), fleet.path("pi-1").join("ledger"));
    fs::remove_file(&ledger).expect("a ledger");
    eventually("it is written anew", PATIENCE, || {
        ledger.exists().then_some(()).ok_or_else(String::new)
    });
    fleet.kill_hub();
    fleet.kill_spoke("pi-1");
    fleet.start_spoke("pi-1");
    fleet.answers("pi-1", PORT, "hello from web-");
    fleet.start_hub();
    fleet.node_ready("pi-1");
    assert_eq!(uid(&fleet), before);
}

#[test]
fn a_device_whose_disk_is_made_read_only_is_not_ready_meanwhile() {
    let mut fleet = Fleet::hub();
    let (home, flag) = (fleet.path("pi-1"), fleet.path("read-only"));
    fs::create_dir(&home).expect("a data folder");
    let mut words = unshare();
    let mount = "(until [ -e $1 ] || ! [ -d $0 ]; do sleep 0.2; done
        mount --bind $0 $0 && mount -o remount,ro,bind $0
        while [ -e $1 ]; do sleep 0.2; done
        umount -l $0) & shift; exec \"$@\"";
    words.extend(["sh", "-c", mount].map(str::to_owned));
    words.extend([&home, &flag].map(|path| path.to_string_lossy().into_owned()));
    fleet.start_through("pi-1", words);
    fleet.join("pi-1");
    fleet.node_ready("pi-1");
    fleet.serve_web(1, PORT, &["pi-1"]);
    fs::write(&flag, "").expect("a file");
    ready_says(&fleet, "False LedgerUnwritable");
    fleet.answers("pi-1", PORT, "hello from web-");
    fs::remove_file(&flag).expect("a file");
    ready_says(&fleet, "True KubeletReady");
    let before = uid(&fleet);
    comes_back(&mut fleet, &before);
}
