//! What would be done is told before it is done: `hub plan`, and a dry run of kubectl.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::{Fleet, eventually, has};

const PLACEMENT: &str = "
apiVersion: cluster.open-cluster-management.io/v1beta2
kind: ManagedClusterSetBinding
metadata: {name: global, namespace: default}
spec: {clusterSet: global}
---
apiVersion: cluster.open-cluster-management.io/v1beta1
kind: Placement
metadata: {name: all, namespace: default}
spec: {}
";

const WORKS: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: beside}
---
apiVersion: work.open-cluster-management.io/v1alpha1
kind: ManifestWorkReplicaSet
metadata: {name: web}
spec:
  placementRefs: [{name: all, rolloutStrategy: {type: All}}]
  manifestWorkTemplate:
    workload:
      manifests:
        - apiVersion: v1
          kind: Pod
          metadata: {name: web, namespace: default}
          spec: {containers: [{name: c, image: 'kit:v1'}]}
";

#[test]
fn a_plan_is_what_a_dry_run_tells() {
    let fleet = Fleet::with(&["pi-1"]);
    let kubectl = fleet.kubectl();
    fleet.push("kit", "kit:v1");
    kubectl.apply(PLACEMENT);
    eventually("the spoke is chosen", PATIENCE, || {
        let placement = kubectl.json(&["get", "placement", "all"]);
        let chosen = &placement["status"]["numberOfSelectedClusters"];
        if *chosen == 1 { Ok(()) } else { Err(placement.to_string()) }
    });
    let file = fleet.path("works.yaml");
    std::fs::write(&file, WORKS).expect("a file");
    let file = file.to_string_lossy().into_owned();
    let printed = fleet.hub_cli(&["plan", "-f", &file]);
    let lines = [
        "placement all chooses: 1 cluster: pi-1",
        "to fetch: 1 cluster: pi-1",
        "they import what modules there did not: ",
        "placement all, wave 1: 1 cluster: pi-1",
    ];
    has(&printed, &["ManifestWorkReplicaSet default/web\n"]);
    has(&printed, &lines);
    let said = kubectl.try_run(&["apply", "--dry-run=server", "-f", &file]);
    assert!(said.ok, "{}", said.err);
    has(&said.err, &lines);
    has(&said.err, &["Warning: plan: placement all"]);
    has(&kubectl.fails(&["get", "manifestworkreplicaset", "web"]), &["not found"]);
    let neither = fleet.try_hub_cli(&["plan", "-f", "/dev/null"]);
    has(&String::from_utf8_lossy(&neither.stderr), &["neither a Placement nor"]);
}
