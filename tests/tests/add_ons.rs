//! Agents of add-ons come to the hub with what it has laid into their clusters.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_tests::fleet::PATIENCE;
use freewheel_tests::kubectl::Kubectl;
use freewheel_tests::{Fleet, eventually};

/// An add-on of nothing but its registration, on all clusters.
const ADD_ON: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: map-reader}
rules: [{apiGroups: [''], resources: [configmaps], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: secret-reader}
rules: [{apiGroups: [''], resources: [secrets], verbs: [get, list]}]
---
apiVersion: cluster.open-cluster-management.io/v1beta2
kind: ManagedClusterSetBinding
metadata: {name: global, namespace: default}
spec: {clusterSet: global}
---
apiVersion: cluster.open-cluster-management.io/v1beta1
kind: Placement
metadata: {name: all, namespace: default}
spec: {}
---
apiVersion: addon.open-cluster-management.io/v1alpha1
kind: AddOnTemplate
metadata: {name: web}
spec:
  addonName: web
  agentSpec: {workload: {manifests: []}}
  registration:
    - type: KubeClient
      kubeClient:
        hubPermissions: [{type: CurrentCluster, currentCluster: {clusterRoleName: map-reader}}]
---
apiVersion: addon.open-cluster-management.io/v1alpha1
kind: ClusterManagementAddOn
metadata: {name: web}
spec:
  supportedConfigs:
    - {group: addon.open-cluster-management.io, resource: addontemplates, defaultConfig: {name: web}}
  installStrategy: {type: Placements, placements: [{namespace: default, name: all}]}
";

const SECRET: [&str; 4] =
    ["-n", "open-cluster-management-agent-addon", "secret", "web-hub-kubeconfig"];

/// The agent of a cluster, with what its Secret holds.
fn agent(fleet: &Fleet, cluster: &str) -> Kubectl {
    let own = fleet.kubectl_of(cluster);
    let [in_namespace, namespace, kind, name] = SECRET;
    let get = ["get", in_namespace, namespace, kind, name];
    eventually("the agent has its credentials", PATIENCE, || {
        let said = own.try_run(&get);
        if said.err.is_empty() { Ok(()) } else { Err(said.err) }
    });
    let secret = own.json(&get);
    let folder: PathBuf = fleet.path(&format!("agent-{cluster}"));
    std::fs::create_dir(&folder).expect("a folder");
    for (name, data) in secret["data"].as_object().expect("data") {
        let data = STANDARD.decode(data.as_str().expect("text")).expect("base64");
        std::fs::write(folder.join(name), data).expect("a file");
    }
    Kubectl::new(&folder.join("kubeconfig"))
}

#[test]
fn an_agent_reads_what_its_add_on_may_and_nothing_of_other_clusters() {
    let mut fleet = Fleet::with(&["pi-1"]);
    fleet.join("pi-2");
    fleet.node_ready("pi-2");
    let root = fleet.kubectl();
    root.apply(ADD_ON);
    let (first, second) = (agent(&fleet, "pi-1"), agent(&fleet, "pi-2"));
    let maps = |kubectl: &Kubectl, cluster: &str| {
        kubectl.try_run(&["-n", cluster, "get", "configmaps", "-o", "name"])
    };
    for (agent, own, other) in [(&first, "pi-1", "pi-2"), (&second, "pi-2", "pi-1")] {
        eventually("it reads what it may", PATIENCE, || {
            let said = maps(agent, own);
            if said.out.contains("kube-root-ca.crt") { Ok(()) } else { Err(said.err) }
        });
        let said = maps(agent, other).err;
        assert!(
            said.contains("is forbidden: User \"system:open-cluster-management:cluster:"),
            "{said}"
        );
        assert!(agent.fails(&["-n", own, "get", "secrets"]).contains("is forbidden"));
    }
    // Nobody gives away by a template what the manager of add-ons may not.
    let path = "/spec/registration/0/kubeClient/hubPermissions/0/currentCluster/clusterRoleName";
    let patch = format!(r#"[{{"op": "replace", "path": "{path}", "value": "secret-reader"}}]"#);
    root.does(&["patch", "addontemplate", "web", "--type=json", "-p", &patch]);
    let why = r#"-o=jsonpath={.status.conditions[?(@.type=="RegistrationApplied")].message}"#;
    eventually("more is refused", PATIENCE, || {
        let said = root.run(&["-n", "pi-1", "get", "managedclusteraddon", "web", why]);
        let is_refused =
            said.contains("is attempting to grant RBAC permissions not currently held");
        if is_refused { Ok(()) } else { Err(said) }
    });
    assert!(first.fails(&["-n", "pi-1", "get", "secrets"]).contains("is forbidden"));
    root.does(&["delete", "clustermanagementaddon", "web"]);
    eventually("what was given is good no more", PATIENCE, || {
        let said = maps(&first, "pi-1");
        if said.err.contains("Unauthorized") { Ok(()) } else { Err(said.out + &said.err) }
    });
    let [in_namespace, namespace, kind, name] = SECRET;
    eventually("and has gone", PATIENCE, || {
        let get = ["get", in_namespace, namespace, kind, name];
        let said = fleet.kubectl_of("pi-1").try_run(&get);
        if said.err.contains("NotFound") { Ok(()) } else { Err(said.out + &said.err) }
    });
}
