//! What is said of what runs pods, where it is wrong, in the words of a kube-apiserver 1.36.

use serde_json::{Value, json};

use super::shared::{apps, change, kind_of, mistakes, named, pods, wrong};

#[test]
fn core() {
    let selector = json!({"a": "b"});
    wrong(
        named(
            "v1",
            "ReplicationController",
            json!({"spec": {"replicas": -1, "selector": selector}}),
        ),
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template: Required value",
        ],
    );
    let mut other = named("v1", "ReplicationController", json!({"spec": {"selector": {"a": "c"}}}));
    other["spec"]["template"] = pods("Always");
    wrong(
        other,
        &[
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ],
    );
    wrong(
        named("v1", "PodTemplate", json!({"template": {"spec": {}}})),
        &["template.spec.containers: Required value"],
    );
    wrong(
        named(
            "v1",
            "LimitRange",
            json!({"spec": {"limits": [
                {"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}, "default": {"cpu": "1"}},
                {"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}},
                {"type": "PersistentVolumeClaim"},
                {"type": "Container", "max": {"memory": "1Gi", "gold": "1"}, "defaultRequest": {"memory": "2Gi"}},
            ]}}),
        ),
        &[
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[1].type: Duplicate value: \"Pod\"",
            "spec.limits[1].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            "spec.limits[2].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            "spec.limits[3].max[gold]: Invalid value: \"gold\": must be a standard resource type or fully qualified",
            "spec.limits[3].max[gold]: Invalid value: \"gold\": must be a standard resource for containers",
            "spec.limits[3].default[gold]: Invalid value: \"gold\": must be a standard resource type or fully qualified",
            "spec.limits[3].default[gold]: Invalid value: \"gold\": must be a standard resource for containers",
            "spec.limits[3].defaultRequest[gold]: Invalid value: \"gold\": must be a standard resource type or fully qualified",
            "spec.limits[3].defaultRequest[gold]: Invalid value: \"gold\": must be a standard resource for containers",
            "spec.limits[3].defaultRequest[memory]: Invalid value: \"2Gi\": default request value 2Gi is greater than max value 1Gi",
            "spec.limits[3].defaultRequest[memory]: Invalid value: \"2Gi\": default request value 2Gi is greater than default limit value 1Gi",
        ],
    );
    let quota =
        named("v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "1.5", "cpu": "-1"}}}));
    wrong(
        quota,
        &[
            "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ],
    );
    wrong(
        named(
            "v1",
            "ResourceQuota",
            json!({"spec": {"hard": {"services": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}}),
        ),
        &[
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: unsupported scope applied to resource",
            "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
        ],
    );
    let quota = named("v1", "ResourceQuota", json!({"spec": {"hard": {"pods": "1"}}}));
    change(
        &quota,
        None,
        |new| new["spec"]["scopes"] = json!(["BestEffort"]),
        &["spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"],
    );
}

#[test]
fn workloads() {
    let mut set = apps("DaemonSet");
    set["spec"]["updateStrategy"] =
        json!({"rollingUpdate": {"maxSurge": 1, "maxUnavailable": "10%"}});
    wrong(
        set,
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    let mut set = apps("DaemonSet");
    set["spec"]["selector"] = json!({"matchLabels": {"a": "c"}});
    set["spec"]["template"]["spec"]["restartPolicy"] = json!("Never");
    wrong(
        set,
        &[
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    let mut set = apps("StatefulSet");
    set["spec"]["podManagementPolicy"] = json!("Odd");
    set["spec"]["ordinals"] = json!({"start": -1});
    set["spec"]["serviceName"] = json!("A");
    let found = mistakes(set);
    assert_eq!(
        found[..2],
        [
            "spec.podManagementPolicy: Invalid value: \"Odd\": must be 'OrderedReady' or 'Parallel'",
            "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
    assert!(
        found[2].starts_with("spec.serviceName: Invalid value: \"A\": a lowercase RFC 1123 label")
    );
    change(
        &apps("StatefulSet"),
        None,
        |new| new["spec"]["serviceName"] = json!("other"),
        &[
            "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ],
    );
    change(
        &apps("StatefulSet"),
        Some("status"),
        |new| new["status"]["readyReplicas"] = json!(1),
        &["status.readyReplicas: Invalid value: 1: cannot be greater than status.replicas"],
    );
    wrong(
        named("apps/v1", "ControllerRevision", json!({"revision": -1})),
        &[
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Required value: data is mandatory",
        ],
    );
    change(
        &named("apps/v1", "ControllerRevision", json!({"revision": 1, "data": {"a": 1}})),
        None,
        |new| new["data"] = json!({"a": 2}),
        &["data: Invalid value: {\"a\":2}: field is immutable"],
    );
}

/// Recorded from a running server.

#[test]
fn a_cron_job_that_often_runs() {
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Always"}});
    let job = json!({"spec": {"template": template}});
    wrong(
        named("batch/v1", "CronJob", json!({"spec": {"schedule": "often", "jobTemplate": job}})),
        &[
            "spec.schedule: Invalid value: \"often\": expected exactly 5 fields, found 1: [often]",
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
        ],
    );
}

#[test]
fn a_cron_job_of_no_time_zone() {
    let template =
        json!({"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never"}});
    let of = |zone: &str| {
        let spec = json!({"schedule": "@daily", "timeZone": zone,
            "jobTemplate": {"spec": {"template": template}}});
        named("batch/v1", "CronJob", json!({"spec": spec}))
    };
    let at = "spec.timeZone: Invalid value";
    let unknown = |zone: &str| format!("{at}: \"{zone}\": unknown time zone {zone}");
    for zone in ["bad-time-zone", "europe/vaduz", "Europe/", "America/a-name-of-15-xx"] {
        wrong(of(zone), &[&unknown(zone)]);
    }
    let explicit =
        "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
    wrong(of("Local"), &[&format!("{at}: \"Local\": {explicit}")]);
    for zone in ["UTC", "Europe/Vaduz"] {
        assert_eq!(mistakes(of(zone)), [""; 0]);
    }
}

/// Recorded from a running server.

#[test]
fn batch() {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "i"}], "restartPolicy": "OnFailure"}});
    let mut job = named(
        "batch/v1",
        "Job",
        json!({"spec": {"template": template, "parallelism": -1, "maxFailedIndexes": 1,
        "podFailurePolicy": {"rules": [{"action": "FailIndex"}]}}}),
    );
    wrong(
        job.clone(),
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified",
            "spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode",
            "spec.podFailurePolicy.rules[0].action: Invalid value: \"FailIndex\": requires the backoffLimitPerIndex to be set",
            "spec.podFailurePolicy.rules[0]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
            "spec.template.spec.restartPolicy: Invalid value: \"OnFailure\": only \"Never\" is supported when podFailurePolicy is specified",
        ],
    );
    job["spec"] = json!({"template": template});
    change(
        &job,
        None,
        |new| new["spec"]["completions"] = json!(5),
        &["spec.completions: Invalid value: 5: field is immutable"],
    );
    change(&job, None, |new| new["spec"]["parallelism"] = json!(5), &[]);
    job["spec"]["selector"] = json!({"matchLabels": {"mine": "1"}});
    let found = mistakes(job);
    assert!(found[0].ends_with("`selector` not auto-generated"), "{found:?}");
}

#[test]
fn autoscaling() {
    let target = json!({"apiVersion": "v1", "kind": "Deployment", "name": "web"});
    let autoscaler = named(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": {
            "minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": target,
            "metrics": [{"type": "Pods"}, {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Value"}}}],
            "behavior": {"scaleUp": {"policies": [{"type": "Pods", "value": 0, "periodSeconds": 2000}]}},
        }}),
    );
    wrong(
        autoscaler,
        &[
            "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
            "spec.scaleTargetRef.apiVersion: Invalid value: \"v1\": apiVersion must specify API group",
            "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            "spec.metrics[1].resource.target.averageUtilization: Required value: must set either a target raw value or a target utilization",
            "spec.behavior.scaleUp.policies[0].value: Invalid value: 0: must be greater than zero",
            "spec.behavior.scaleUp.policies[0].periodSeconds: Invalid value: 2000: must be less than or equal to 1800",
        ],
    );
    wrong(
        named(
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            json!({"spec": {"maxReplicas": 0, "scaleTargetRef": {"kind": "Deployment", "name": "w", "apiVersion": "apps/v1"}}}),
        ),
        &[
            "spec.maxReplicas: Required value: must be set and greater than 0",
            "spec.maxReplicas: Invalid value: 0: must be greater than or equal to `minReplicas`",
        ],
    );
}

#[test]
fn metrics_that_nobody_measures_are_warned_of() {
    let metric = |field: &str, kind: &str, name: &str| json!({"type": kind, field: {"name": name}});
    let measured = json!([
        metric("resource", "Resource", "cpu"),
        metric("containerResource", "ContainerResource", "memory"),
    ]);
    let others = json!([
        metric("resource", "Resource", "memory"),
        metric("pods", "Pods", "m"),
        metric("object", "Object", "m"),
        metric("external", "External", "m"),
        metric("resource", "Resource", "ephemeral-storage"),
    ]);
    let warned = |api_version: &str, spec: Value| {
        let object = named(api_version, "HorizontalPodAutoscaler", json!({"spec": spec}));
        kind_of(&object).warnings(&object)
    };
    assert!(warned("autoscaling/v1", json!({"targetCPUUtilizationPercentage": 80})).is_empty());
    assert!(warned("autoscaling/v2", json!({"metrics": measured})).is_empty());
    let expected = [
        "spec.metrics[1].pods: kept without effect: nobody serves custom.metrics.k8s.io here",
        "spec.metrics[2].object: kept without effect: nobody serves custom.metrics.k8s.io here",
        "spec.metrics[3].external: kept without effect: nobody serves external.metrics.k8s.io here",
        "spec.metrics[4].resource.name: kept without effect: of pods cpu and memory are measured",
    ];
    assert_eq!(warned("autoscaling/v2", json!({"metrics": others})), expected);
    let mut older = named("autoscaling/v1", "HorizontalPodAutoscaler", json!({"spec": {}}));
    let said = json!([{"type": "Pods", "pods": {"metricName": "m", "targetAverageValue": "1"}}]);
    older["metadata"]["annotations"] =
        json!({"autoscaling.alpha.kubernetes.io/metrics": said.to_string()});
    let found = kind_of(&older).warnings(&older);
    assert!(found[0].starts_with("spec.metrics[0].pods: kept without effect"), "{found:?}");
}
