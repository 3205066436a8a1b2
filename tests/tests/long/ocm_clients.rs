//! The typed clients of Open Cluster Management, as its API module releases them: request by request what an administrator
//! does with its command line. The program is `tests/clients/go/ocm`, and ends at the first difference.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use freewheel_tests::tools::{self, run};
use freewheel_tests::{Fleet, eventually, has};

const PATIENCE: Duration = Duration::from_secs(60);

fn ask(program: &Path, fleet: &Fleet, words: [&str; 2]) -> String {
    let mut command = Command::new(program);
    command.args(words).env("KUBECONFIG", fleet.kubeconfig()).env("HOME", fleet.path(""));
    run(command.env("SPOKE_KUBECONFIG", fleet.path("pi-1.kubeconfig")))
}

#[test]
fn a_fleet_is_administered_with_the_clients_of_open_cluster_management() {
    let program = tools::go_client("go", "ocm");
    let mut fleet = Fleet::hub();
    let [token, ca_hash] = fleet.token(&[]);
    fleet.join_with("pi-1", &token, &ca_hash);
    let kubectl = fleet.kubectl();
    eventually("the cluster asks to join", PATIENCE, || {
        let said = kubectl.try_run(&["get", "managedcluster,csr"]);
        if said.out.contains("pi-1") && said.out.contains("Pending") {
            Ok(())
        } else {
            Err(said.out)
        }
    });
    has(&ask(&program, &fleet, ["accept", "pi-1"]), &["the fleet is administered"]);
    fleet.node_ready("pi-1");
    let own = fleet.hub_cli(&["get", "kubeconfig", "--cluster", "pi-1"]);
    std::fs::write(fleet.path("pi-1.kubeconfig"), own).expect("a kubeconfig");
    has(&ask(&program, &fleet, ["fleet", "pi-1"]), &["the fleet is administered"]);
    // What it put there by a work is on the device's own cluster; what it took away is not.
    let there = fleet.kubectl_of("pi-1");
    let value = "jsonpath={.data.value}";
    assert_eq!(there.run(&["get", "configmap", "site", "-o", value]), "2");
    eventually("what was taken off is gone", PATIENCE, || {
        let said = there.try_run(&["get", "configmaps", "-o", "name"]);
        if said.out.contains("web") || said.out.contains("configmap/all") {
            Err(said.out)
        } else {
            Ok(())
        }
    });
}
