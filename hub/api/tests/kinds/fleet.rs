//! Kinds of Open Cluster Management.

use serde_json::{Value, json};

use super::shared::{create, kind_of, named, wrong};

const CLUSTER: &str = "cluster.open-cluster-management.io";
const WORK: &str = "work.open-cluster-management.io";

fn of(group: &str, version: &str, kind: &str, rest: Value) -> Value {
    named(&format!("{group}/{version}"), kind, rest)
}

#[test]
fn sets_and_placements_are_filled_in_as_their_definitions_say() {
    let set = create(of(CLUSTER, "v1beta2", "ManagedClusterSet", json!({}))).unwrap();
    assert_eq!(
        set["spec"],
        json!({"clusterSelector": {"selectorType": "ExclusiveClusterSetLabel"}})
    );
    let spec = json!({"spec": {"prioritizerPolicy": {"configurations": [{"scoreCoordinate": {"builtIn": "Steady"}}]},
        "tolerations": [{"key": "a"}], "spreadPolicy": {"spreadConstraints": [{"topologyKey": "site", "topologyKeyType": "Label"}]}}});
    let placement = create(of(CLUSTER, "v1beta1", "Placement", spec)).unwrap();
    assert_eq!(
        placement["spec"],
        json!({"sortBy": "ClusterName", "scoreRateLimit": "1m",
            "prioritizerPolicy": {"mode": "Additive", "configurations": [
                {"scoreCoordinate": {"type": "BuiltIn", "builtIn": "Steady"}, "weight": 1}]},
            "tolerations": [{"key": "a", "operator": "Equal"}],
            "spreadPolicy": {"spreadConstraints": [{"topologyKey": "site", "topologyKeyType": "Label",
                "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}]}})
    );
}

#[test]
fn placements_that_make_no_sense() {
    let spec = json!({"spec": {
        "numberOfClusters": -1,
        "sortBy": "Age",
        "scoreRateLimit": "often",
        "prioritizerPolicy": {"configurations": [{"weight": 11}]},
        "decisionStrategy": {"groupStrategy": {"clustersPerDecisionGroup": "0%"}},
    }});
    wrong(
        of(CLUSTER, "v1beta1", "Placement", spec),
        &[
            "spec.prioritizerPolicy.configurations[0].scoreCoordinate: Required value",
            "spec.sortBy: Unsupported value: \"Age\": supported values: \"ClusterName\", \"Score\"",
            "spec.numberOfClusters: Invalid value: -1: spec.numberOfClusters in body should be greater than or equal to 0",
            "spec.scoreRateLimit: Invalid value: \"often\": spec.scoreRateLimit in body should match '^[0-9]+[hms]$'",
            "spec.prioritizerPolicy.configurations[0].weight: Invalid value: 11: spec.prioritizerPolicy.configurations[0].weight in body should be less than or equal to 10",
            "spec.decisionStrategy.groupStrategy.clustersPerDecisionGroup: Invalid value: \"0%\": spec.decisionStrategy.groupStrategy.clustersPerDecisionGroup in body should match '^((100|[1-9][0-9]{0,1})%|[1-9][0-9]*)$'",
        ],
    );
}

#[test]
fn works_that_cannot_be_applied() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
    let nameless =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "a-"}});
    let spec = json!({"spec": {"workload": {"manifests": [map, map, nameless]}, "executor": {"subject": {"type": "ServiceAccount"}}}});
    wrong(
        of(WORK, "v1", "ManifestWork", spec),
        &[
            "spec.workload.manifests[1].metadata.name: Duplicate value: \"a\"",
            "spec.workload.manifests[2].metadata.name: Required value: name must be set in manifest",
            "spec.workload.manifests[2].metadata.generateName: Forbidden: generateName must not be set in manifest",
            "spec.executor.subject.serviceAccount: Required value: executor service account can not be nil",
        ],
    );
    let some = |count: usize| -> Value {
        let one = |n: usize| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": n.to_string(), "namespace": "b"}});
        let all: Vec<Value> = (0..count).map(one).collect();
        of(WORK, "v1", "ManifestWork", json!({"spec": {"workload": {"manifests": all}}}))
    };
    create(some(1_000)).unwrap();
    wrong(
        some(1_001),
        &[
            "spec.workload.manifests: Forbidden: more than 1000 manifests: what is said of them would not fit into the work",
        ],
    );
    let none = json!({"spec": {"workload": {"manifests": []}}});
    wrong(
        of(WORK, "v1", "ManifestWork", none),
        &["spec.workload.manifests: Required value: Workload manifests should not be empty"],
    );
    let large = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "x".repeat(500 << 10)}});
    let error = create(of(
        WORK,
        "v1",
        "ManifestWork",
        json!({"spec": {"workload": {"manifests": [large]}}}),
    ));
    assert!(error.unwrap_err().message.contains("which exceeds the 512000 limit"));
}

#[test]
fn executors_and_ignored_fields_are_checked() {
    let one = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
    let ignored = json!([{"jsonPaths": [".data"]}, {"condition": "OnSpokePresent", "jqPathExpressions": [".data"]}]);
    let config = json!({"resourceIdentifier": {"resource": "configmaps", "name": "a"},
        "updateStrategy": {"type": "ServerSideApply", "serverSideApply": {"ignoreFields": ignored}}});
    let account = json!({"namespace": "B", "name": "a"});
    let spec = json!({"spec": {"workload": {"manifests": [one]}, "manifestConfigs": [config],
        "executor": {"subject": {"type": "ServiceAccount", "serviceAccount": account}}}});
    let ignored = "spec.manifestConfigs[0].updateStrategy.serverSideApply.ignoreFields[1]";
    wrong(
        of(WORK, "v1", "ManifestWork", spec),
        &[
            r#"spec.executor.subject.serviceAccount.namespace: Invalid value: "B": spec.executor.subject.serviceAccount.namespace in body should match '^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)$'"#,
            &format!(
                r#"{ignored}: Duplicate value: {{"condition":"OnSpokePresent","jqPathExpressions":[".data"]}}"#
            ),
            &format!(
                "{ignored}.jqPathExpressions: Forbidden: there is no jq here; name the fields by jsonPaths or jsonPointers"
            ),
        ],
    );
}

#[test]
fn sets_of_works_are_filled_in_and_checked() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}});
    let set = |refs: Value| {
        of(
            WORK,
            "v1alpha1",
            "ManifestWorkReplicaSet",
            json!({"spec": {"manifestWorkTemplate": {"workload": {"manifests": [map]}}, "placementRefs": refs}}),
        )
    };
    let filled = create(set(json!([{"name": "all"}]))).unwrap();
    assert_eq!(filled["spec"]["cascadeDeletionPolicy"], "Background");
    assert_eq!(filled["spec"]["placementRefs"][0]["rolloutStrategy"]["type"], "All");
    assert_eq!(
        filled["spec"]["placementRefs"][0]["rolloutStrategy"]["all"]["progressDeadline"],
        "None"
    );
    wrong(
        set(json!([])),
        &[
            "spec.placementRefs: Invalid value: []: spec.placementRefs in body should have at least 1 items",
        ],
    );
    let odd = json!([{"name": "all", "rolloutStrategy": {"type": "Progressive", "progressive": {"maxConcurrency": "some"}}}]);
    wrong(
        set(odd),
        &[
            "spec.placementRefs[0].rolloutStrategy.progressive.maxConcurrency: Invalid value: \"some\": spec.placementRefs[0].rolloutStrategy.progressive.maxConcurrency in body should match '^((100|[0-9]{1,2})%|[0-9]+)$'",
        ],
    );
    let with = |field: &str, text: &str| {
        set(
            json!([{"name": "all", "rolloutStrategy": {"type": "Progressive", "progressive": {field: text}}}]),
        )
    };
    for (field, text, good) in [
        ("progressDeadline", "5m", true),
        ("progressDeadline", "None", true),
        ("progressDeadline", "5mfoo", false),
        ("progressDeadline", "5|", false),
        ("progressDeadline", "xNone", false),
        ("minSuccessTime", "0", true),
        ("minSuccessTime", "1h30m", true),
        ("minSuccessTime", "1.5h", true),
        ("minSuccessTime", "250ms", true),
        ("minSuccessTime", "soon", false),
        ("minSuccessTime", "5", false),
        ("minSuccessTime", "-5s", false),
    ] {
        assert_eq!(create(with(field, text)).is_ok(), good, "{field} {text}");
    }
    let mut odd = set(json!([{"name": "all"}]));
    assert_eq!(kind_of(&odd).warnings(&odd), Vec::<String>::new());
    odd["metadata"]["annotations"]["freewheel.dev/rollback"] = json!("Automatic");
    let told = kind_of(&odd).warnings(&odd);
    assert!(told.iter().any(|it| it.contains("it never goes back by itself")), "{told:?}");
    odd["metadata"]["annotations"]["freewheel.dev/rollback"] = json!("yes");
    let why = "must be Automatic or Manual";
    wrong(
        odd,
        &[&format!("metadata.annotations[freewheel.dev/rollback]: Invalid value: \"yes\": {why}")],
    );
}

const ADD_ON: &str = "addon.open-cluster-management.io";

#[test]
fn add_ons_are_filled_in_and_checked() {
    for version in ["v1alpha1", "v1beta1"] {
        let plain =
            create(of(ADD_ON, version, "ClusterManagementAddOn", json!({"spec": {}}))).unwrap();
        assert_eq!(plain["spec"]["installStrategy"], json!({"type": "Manual"}));
        let there = json!({"namespace": "default", "name": "all"});
        let odd = json!({"namespace": "default", "name": "odd",
            "rolloutStrategy": {"type": "Progressive", "progressive": {"maxConcurrency": "some"}}});
        let strategy = json!({"type": "Placements", "placements": [there, there, odd]});
        let place = "spec.installStrategy.placements";
        let wrong_amount = "rolloutStrategy.progressive.maxConcurrency";
        wrong(
            of(
                ADD_ON,
                version,
                "ClusterManagementAddOn",
                json!({"spec": {"installStrategy": strategy}}),
            ),
            &[
                &format!(
                    "{place}[1]: Duplicate value: {{\"name\":\"all\",\"namespace\":\"default\",\"rolloutStrategy\":{}}}",
                    "{\"type\":\"All\"}"
                ),
                &format!(
                    "{place}[2].{wrong_amount}: Invalid value: \"some\": {place}[2].{wrong_amount} in body should match '^((100|[0-9]{{1,2}})%|[0-9]+)$'"
                ),
            ],
        );
    }
    let odd = json!({"spec": {"installStrategy": {"type": "Always"}}});
    wrong(
        of(ADD_ON, "v1alpha1", "ClusterManagementAddOn", odd),
        &[
            "spec.installStrategy.type: Unsupported value: \"Always\": supported values: \"Manual\", \"Placements\"",
        ],
    );
    let instance =
        create(of(ADD_ON, "v1alpha1", "ManagedClusterAddOn", json!({"spec": {}}))).unwrap();
    assert_eq!(instance["spec"]["installNamespace"], "open-cluster-management-agent-addon");
    let odd = json!({"spec": {"installNamespace": "A B"}});
    wrong(
        of(ADD_ON, "v1alpha1", "ManagedClusterAddOn", odd),
        &[
            "spec.installNamespace: Invalid value: \"A B\": spec.installNamespace in body should match '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$'",
        ],
    );
}

#[test]
fn configurations_and_templates_of_add_ons_are_checked() {
    let spec = json!({"spec": {"customizedVariables": [{"name": "1A", "value": "x"}], "agentInstallNamespace": "A",
        "resourceRequirements": [{"containerID": "x:y:z", "resources": {}}]}});
    for version in ["v1alpha1", "v1beta1"] {
        wrong(
            of(ADD_ON, version, "AddOnDeploymentConfig", spec.clone()),
            &[
                "spec.customizedVariables[0].name: Invalid value: \"1A\": spec.customizedVariables[0].name in body should match '^[a-zA-Z_][_a-zA-Z0-9]*$'",
                "spec.agentInstallNamespace: Invalid value: \"A\": spec.agentInstallNamespace in body should match '^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$'",
                "spec.resourceRequirements[0].containerID: Invalid value: \"x:y:z\": spec.resourceRequirements[0].containerID in body should match '^(deployments|daemonsets|statefulsets|replicasets|jobs|cronjobs|pods|\\*):.+:.+$'",
            ],
        );
    }
    let registration = json!([{"type": "CustomSigner", "customSigner": {"signerName": "me", "signingCA": {"name": "ca"}}}]);
    let spec = json!({"spec": {"addonName": "a", "agentSpec": {}, "registration": registration}});
    wrong(
        of(ADD_ON, "v1alpha1", "AddOnTemplate", spec),
        &[
            "spec.registration[0].customSigner.signerName: Invalid value: \"me\": spec.registration[0].customSigner.signerName in body should match '^([a-z0-9][a-z0-9-]*[a-z0-9]\\.)+[a-z]+\\/[a-z0-9-\\.]+$'",
        ],
    );
}

#[test]
fn add_ons_are_named_as_in_open_cluster_management() {
    use freewheel_hub_api::kinds;
    for (plural, version, short, columns) in [
        (
            "clustermanagementaddons",
            "v1alpha1",
            &["cma", "cmas"][..],
            &["Name", "DISPLAY NAME", "CRD NAME"][..],
        ),
        ("clustermanagementaddons", "v1beta1", &["cma", "cmas"], &["Name", "DISPLAY NAME"]),
        (
            "managedclusteraddons",
            "v1alpha1",
            &["mca", "mcas"],
            &["Name", "Available", "Degraded", "Progressing"],
        ),
        (
            "managedclusteraddons",
            "v1beta1",
            &["mca", "mcas"],
            &["Name", "Available", "Degraded", "Progressing"],
        ),
        ("addondeploymentconfigs", "v1alpha1", &[], &["Name", "Age"]),
        ("addondeploymentconfigs", "v1beta1", &[], &["Name", "Age"]),
        ("addontemplates", "v1alpha1", &[], &["Name", "ADDON NAME"]),
    ] {
        let kind = kinds::find(ADD_ON, version, plural).unwrap();
        assert_eq!(kind.short_names, short, "{kind:?}");
        let found: Vec<_> = kind.columns.iter().map(|column| &*column.name).collect();
        assert_eq!(found, columns, "{kind:?}");
        let has_status = plural.starts_with("cluster") || plural.starts_with("managed");
        assert_eq!(kind.subresource_named("status").is_some(), has_status, "{kind:?}");
        assert_eq!(kind.storage(), kinds::find(ADD_ON, "v1alpha1", plural).unwrap().storage());
    }
}

#[test]
fn claims_say_something() {
    let claim =
        |value: &str| of(CLUSTER, "v1alpha1", "ClusterClaim", json!({"spec": {"value": value}}));
    create(claim("north")).unwrap();
    wrong(
        claim(""),
        &["spec.value: Invalid value: \"\": spec.value in body should be at least 1 chars long"],
    );
    wrong(claim(&"x".repeat(1025)), &["spec.value: Too long: may not be more than 1024 bytes"]);
}
