//! What one cluster may have in the hub's store.

use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually, has};

fn config_map(kubectl: &Kubectl, name: &str) -> Result<(), String> {
    let yaml = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: {}}}\n",
        "x".repeat(500_000)
    );
    let said = kubectl.try_apply(&["create", "-f", "-"], &yaml);
    if said.ok { Ok(()) } else { Err(said.err) }
}

/// Until the cluster takes no more: with how many, and what was said.
fn fill(kubectl: &Kubectl, name: &str) -> (usize, String) {
    let refused = |number| {
        let error = config_map(kubectl, &format!("{name}-{number}")).err()?;
        Some((number, error))
    };
    (0..20).find_map(refused).expect("it takes more than it may have")
}

#[test]
fn a_cluster_that_is_full_stands_in_nobody_elses_way() {
    let mut fleet = Fleet::hub_with(&["--cluster-quota-bytes", "5Mi"]);
    for name in ["pi-1", "pi-2"] {
        fleet.join(name);
        fleet.node_ready(name);
    }
    let (first, second) = (fleet.kubectl_of("pi-1"), fleet.kubectl_of("pi-2"));
    let (made, refused) = fill(&first, "fill");
    assert!((5..11).contains(&made), "{made}: {refused}");
    has(
        &refused,
        &["(InsufficientStorage)", "cluster \"pi-1\" has", "of 5242880", "delete something"],
    );
    config_map(&second, "other").expect("another cluster has room");
    config_map(&fleet.kubectl(), "other").expect("the root has room");
    has(
        &fleet.kubectl().run(&["get", "--raw", "/metrics"]),
        &[
            "freewheel_store_cluster_bytes{cluster=\"pi-1\"}",
            "freewheel_store_cluster_quota_bytes 5242880",
            "freewheel_store_commits_total{outcome=\"cluster_full\"} 1",
        ],
    );

    // It is as full after a start, and what is there is told of, changed and deleted as ever.
    fleet.kill_hub();
    fleet.start_hub();
    fleet.node_ready("pi-1");
    assert_eq!(fill(&first, "again").0, 0);
    let _ = first.run(&["annotate", "configmap", "fill-0", "example.org/note=here"]);
    let _ = first.run(&["delete", "configmap", "fill-0", "fill-1"]);
    config_map(&first, "room").expect("what was deleted is room");
    let _ = first.run(&["create", "namespace", "away"]);
    let _ = first.run(&["delete", "namespace", "away"]);
    let _ = fleet.kubectl().run(&["delete", "managedcluster", "pi-1", "--wait=false"]);
    eventually("nothing of a cluster is left when it is gone", PATIENCE, || {
        let text = fleet.kubectl().run(&["get", "--raw", "/metrics"]);
        let gone = !text.contains("freewheel_store_cluster_bytes{cluster=\"pi-1\"}");
        if gone { Ok(()) } else { Err(text) }
    });
}
