//! What is said of objects that are wrong, in the words of a kube-apiserver 1.36.

use serde_json::{Value, json};

use super::shared::{apps, create, kind_of, mistakes, pods, update};

#[track_caller]
fn wrong(body: Value, expected: &[&str]) {
    let found = mistakes(body.clone());
    assert_eq!(found, expected, "{body}");
}

/// A change from what is valid; both as they are written by the door.
#[track_caller]
fn change(old: &Value, door: Option<&str>, by: impl Fn(&mut Value), expected: &[&str]) {
    let old = create(old.clone()).unwrap();
    let mut new = old.clone();
    by(&mut new);
    assert_eq!(update(door, new, &old), expected, "{}", old["kind"]);
}

fn named(api_version: &str, kind: &str, rest: Value) -> Value {
    let mut body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
    let rest = rest.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(rest);
    body
}

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
fn volumes() {
    wrong(
        named(
            "v1",
            "PersistentVolume",
            json!({"spec": {"hostPath": {"path": "/a/../b"}, "nfs": {"server": "s", "path": "/"}}}),
        ),
        &[
            "spec.accessModes: Required value",
            "spec.capacity: Required value",
            "spec.capacity: Unsupported value: null: supported values: \"storage\"",
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ],
    );
    let volume = named(
        "v1",
        "PersistentVolume",
        json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}}}),
    );
    change(
        &volume,
        None,
        |new| new["spec"]["hostPath"]["path"] = json!("/y"),
        &[
            "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation",
        ],
    );
    let mut local = volume.clone();
    local["spec"].as_object_mut().unwrap().remove("hostPath");
    local["spec"]["local"] = json!({"path": "/x"});
    wrong(local, &["spec.nodeAffinity: Required value: Local volume requires node affinity"]);
    wrong(
        named(
            "v1",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}}),
        ),
        &[
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.resources[storage]: Required value",
        ],
    );
    let claim = named(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}}}),
    );
    change(
        &claim,
        None,
        |new| new["spec"]["resources"]["requests"]["storage"] = json!("1Gi"),
        &[
            "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        ],
    );
    change(&claim, None, |new| new["spec"]["volumeName"] = json!("v"), &[]);
    let mut bound = create(claim).unwrap();
    bound["status"]["phase"] = json!("Bound");
    let mut grown = bound.clone();
    grown["spec"]["resources"]["requests"]["storage"] = json!("3Gi");
    assert_eq!(update(None, grown, &bound), Vec::<String>::new());
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

/// Recorded from a running server.
#[test]
fn an_ingress_that_leads_nowhere() {
    let path = json!({"path": "x", "pathType": "Maybe", "backend": {}});
    let rule = json!({"host": "A_", "http": {"paths": [path]}});
    let found =
        mistakes(named("networking.k8s.io/v1", "Ingress", json!({"spec": {"rules": [rule]}})));
    assert!(
        found[0].starts_with(
            "spec.rules[0].host: Invalid value: \"A_\": a lowercase RFC 1123 subdomain"
        )
    );
    assert_eq!(
        found[1..],
        [
            "spec.rules[0].http.paths[0].pathType: Unsupported value: \"Maybe\": supported values: \"Exact\", \"ImplementationSpecific\", \"Prefix\"",
            "spec.rules[0].http.paths[0].backend: Invalid value: \"\": resource or service backend is required",
        ]
    );
}

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
fn networking() {
    let peer =
        json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}, "podSelector": {}});
    wrong(
        named(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "policyTypes": ["Both"],
        "ingress": [{"from": [peer, {}], "ports": [{"port": "A-long-name-it-is"}, {"port": 80, "endPort": 70}]}]}}),
        ),
        &[
            "spec.ingress[0].ports[0].port: Invalid value: \"A-long-name-it-is\": must be no more than 15 characters",
            "spec.ingress[0].ports[0].port: Invalid value: \"A-long-name-it-is\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
            "spec.ingress[0].ports[1].endPort: Invalid value: 80: must be greater than or equal to `port`",
            "spec.ingress[0].from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/8\": must be a strict subset of `cidr`",
            "spec.ingress[0].from[0]: Forbidden: may not specify both ipBlock and another peer",
            "spec.ingress[0].from[1]: Required value: must specify a peer",
            "spec.policyTypes[0]: Unsupported value: \"Both\": supported values: \"Ingress\", \"Egress\"",
        ],
    );
    wrong(
        named(
            "networking.k8s.io/v1",
            "IngressClass",
            json!({"spec": {"controller": "nginx", "parameters": {"kind": "C", "name": "c", "scope": "Namespace"}}}),
        ),
        &[
            "spec.controller: Invalid value: \"nginx\": must be a domain-prefixed path (such as \"acme.io/foo\")",
            "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
        ],
    );
    wrong(
        named(
            "networking.k8s.io/v1",
            "ServiceCIDR",
            json!({"spec": {"cidrs": ["10.0.0.0/8", "11.0.0.1/8"]}}),
        ),
        &[
            "spec.cidrs[1]: Invalid value: \"11.0.0.1/8\": must not have bits set beyond the prefix length",
            "spec.cidrs: Invalid value: [\"10.0.0.0/8\",\"11.0.0.1/8\"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64",
        ],
    );
    let range =
        named("networking.k8s.io/v1", "ServiceCIDR", json!({"spec": {"cidrs": ["10.0.0.0/8"]}}));
    change(
        &range,
        None,
        |new| new["spec"]["cidrs"] = json!(["11.0.0.0/8"]),
        &["spec.cidrs[0]: Invalid value: \"11.0.0.0/8\": field is immutable"],
    );
    wrong(
        named("networking.k8s.io/v1", "IPAddress", json!({"spec": {}})),
        &[
            "metadata.name: Invalid value: \"x\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "spec.parentRef: Required value",
        ],
    );
}

#[test]
fn policy_scheduling_and_nodes() {
    wrong(
        named(
            "policy/v1",
            "PodDisruptionBudget",
            json!({"spec": {"minAvailable": "120%", "maxUnavailable": -1}}),
        ),
        &[
            "spec: Invalid value: {\"maxUnavailable\":-1,\"minAvailable\":\"120%\"}: minAvailable and maxUnavailable cannot be both set",
            "spec.minAvailable: Invalid value: \"120%\": must not be greater than 100%",
            "spec.maxUnavailable: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    wrong(
        named(
            "scheduling.k8s.io/v1",
            "PriorityClass",
            json!({"value": 1_000_000_001, "preemptionPolicy": "Often"}),
        ),
        &[
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            "preemptionPolicy: Unsupported value: \"Often\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ],
    );
    let class = named("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1}));
    change(
        &class,
        None,
        |new| {
            new["value"] = json!(2);
            new["preemptionPolicy"] = json!("Never");
        },
        &[
            "value: Forbidden: may not be changed in an update.",
            "preemptionPolicy: Invalid value: \"Never\": field is immutable",
        ],
    );
    let class = named("node.k8s.io/v1", "RuntimeClass", json!({"handler": "wasm"}));
    change(
        &class,
        None,
        |new| new["handler"] = json!("other"),
        &["handler: Invalid value: \"other\": field is immutable"],
    );
    wrong(named("node.k8s.io/v1", "RuntimeClass", json!({})), &["handler: Required value"]);
}

#[test]
fn storage() {
    wrong(
        named(
            "storage.k8s.io/v1",
            "StorageClass",
            json!({"provisioner": "", "reclaimPolicy": "Recycle"}),
        ),
        &[
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
        ],
    );
    let class =
        named("storage.k8s.io/v1", "StorageClass", json!({"provisioner": "example.com/disk"}));
    change(
        &class,
        None,
        |new| new["parameters"] = json!({"a": "b"}),
        &["parameters: Invalid value: {\"a\":\"b\"}: field is immutable"],
    );
    wrong(
        named("storage.k8s.io/v1", "VolumeAttributesClass", json!({"driverName": "example.com"})),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    wrong(
        named(
            "storage.k8s.io/v1",
            "VolumeAttachment",
            json!({"spec": {"attacher": "example.com", "nodeName": "n", "source": {}}}),
        ),
        &[
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    wrong(
        named(
            "storage.k8s.io/v1",
            "CSIDriver",
            json!({"spec": {"volumeLifecycleModes": ["Long"], "tokenRequests": [{"audience": "a", "expirationSeconds": 5}]}}),
        ),
        &[
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
            "spec.volumeLifecycleModes: Unsupported value: \"Long\": supported values: \"Persistent\", \"Ephemeral\"",
        ],
    );
    wrong(
        named(
            "storage.k8s.io/v1",
            "CSINode",
            json!({"spec": {"drivers": [{"name": "a", "nodeID": "", "allocatable": {"count": -1}}]}}),
        ),
        &[
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
    let capacity = named(
        "storage.k8s.io/v1",
        "CSIStorageCapacity",
        json!({"storageClassName": "fast", "capacity": "1Gi"}),
    );
    change(
        &capacity,
        None,
        |new| new["storageClassName"] = json!("slow"),
        &["storageClassName: Invalid value: \"slow\": field is immutable"],
    );
}

#[test]
fn admission_and_aggregation() {
    let hook = json!({"name": "a.b.c", "clientConfig": {"url": "http://h?q"}, "rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*"],
        "apiVersions": ["v1"], "resources": ["pods/*", "pods/status"]}], "timeoutSeconds": 31});
    wrong(
        named(
            "admissionregistration.k8s.io/v1",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [hook]}),
        ),
        &[
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
            "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/status\": if 'pods/*' is present, must not specify pods/status",
            "webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun",
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            "webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1",
        ],
    );
    wrong(
        named(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicy",
            json!({"spec": {"variables": [{"name": "if", "expression": "1"}]}}),
        ),
        &[
            "spec.matchConstraints: Required value",
            "spec.variables[0].name: Invalid value: \"if\": must be a valid CEL identifier",
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
            "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
        ],
    );
    wrong(
        named(
            "admissionregistration.k8s.io/v1",
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "p", "paramRef": {}, "validationActions": ["Deny", "Warn"]}}),
        ),
        &[
            "spec.paramRef: Required value: one of name or selector must be specified",
            "spec.paramRef.parameterNotFoundAction: Required value",
            "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)",
        ],
    );
    wrong(
        named(
            "admissionregistration.k8s.io/v1",
            "MutatingAdmissionPolicy",
            json!({"spec": {"reinvocationPolicy": "Never", "matchConstraints": {"resourceRules": [
        {"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        "mutations": [{"patchType": "JSONPatch", "applyConfiguration": {"expression": "1"}}]}}),
        ),
        &[
            "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \"CONNECT\", \"CREATE\", \"UPDATE\"",
            "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch",
            "spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
        ],
    );
    wrong(
        named(
            "apiregistration.k8s.io/v1",
            "APIService",
            json!({"spec": {"group": "g", "version": "v1", "groupPriorityMinimum": 0, "versionPriority": 1, "service": {"name": "s", "namespace": "n"}}}),
        ),
        &[
            "metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.g\"",
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
        ],
    );
}

#[test]
fn flow_control() {
    let rule = json!({"subjects": [{"kind": "User", "group": {"name": "g"}}], "nonResourceRules": [{"verbs": ["eat"], "nonResourceURLs": ["x"]}]});
    wrong(
        named(
            "flowcontrol.apiserver.k8s.io/v1",
            "FlowSchema",
            json!({"spec": {"matchingPrecedence": 1, "priorityLevelConfiguration": {}, "rules": [rule]}}),
        ),
        &[
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            "spec.rules[0].nonResourceRules[0].verbs: Unsupported value: [\"eat\"]: supported values: \"create\", \"delete\", \"deletecollection\", \"get\", \"list\", \"patch\", \"proxy\", \"update\", \"watch\"",
            "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"x\": must start with slash",
        ],
    );
    wrong(
        named(
            "flowcontrol.apiserver.k8s.io/v1",
            "PriorityLevelConfiguration",
            json!({"spec": {"type": "Limited", "limited": {"lendablePercent": 101, "limitResponse": {"type": "Queue", "queuing": {"queues": 4, "handSize": 5, "queueLengthLimit": 1}}}}}),
        ),
        &[
            "spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            "spec.limited.limitResponse.queuing.handSize: Invalid value: 5: should not be greater than queues (4)",
        ],
    );
    let mut catch_all = named(
        "flowcontrol.apiserver.k8s.io/v1",
        "PriorityLevelConfiguration",
        json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}}),
    );
    catch_all["metadata"]["name"] = json!("catch-all");
    assert!(mistakes(catch_all)[0].ends_with("spec of 'catch-all' must equal the fixed value"));
}

#[test]
fn devices() {
    let request = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu", "allocationMode": "All", "count": 2}});
    wrong(
        named(
            "resource.k8s.io/v1",
            "ResourceClaim",
            json!({"spec": {"devices": {"requests": [request, {"name": "gpu"}],
        "config": [{"requests": ["other"], "opaque": {"driver": "example.com", "parameters": {"a": 1}}}]}}}),
        ),
        &[
            "spec.devices.requests[0].exactly.count: Invalid value: 2: must not be specified when allocationMode is 'All'",
            "spec.devices.requests[1]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            "spec.devices.requests[1]: Duplicate value: \"gpu\"",
            "spec.devices.config[0].requests[0]: Invalid value: \"other\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
        ],
    );
    wrong(
        named(
            "resource.k8s.io/v1",
            "DeviceClass",
            json!({"spec": {"selectors": [{}], "extendedResourceName": "cpu"}}),
        ),
        &[
            "spec.selectors[0].cel: Required value",
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ],
    );
    let device = json!({"name": "d-1", "attributes": {"model": {"string": "a", "int": 1}, "bad-name": {"bool": true}}});
    let found = mistakes(named(
        "resource.k8s.io/v1",
        "ResourceSlice",
        json!({"spec": {"driver": "example.com", "pool": {"name": "p", "resourceSliceCount": 0, "generation": 0},
        "nodeName": "n", "allNodes": true, "devices": [device]}}),
    ));
    assert_eq!(
        found[..2],
        [
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ]
    );
    assert_eq!(found.len(), 4, "{found:?}");
    let claim = named("resource.k8s.io/v1", "ResourceClaim", json!({"spec": {}}));
    change(
        &claim,
        Some("status"),
        |new| new["status"]["reservedFor"] = json!([{"resource": "pods", "name": "p", "uid": "u"}]),
        &["status.reservedFor: Forbidden: may not be specified when `allocated` is not set"],
    );
}

/// Nothing of it is enforced or done yet, and whoever makes one is told so.
#[test]
fn what_nobody_acts_on_says_so() {
    for (api_version, kind) in [
        ("v1", "ReplicationController"),
        ("v1", "PersistentVolume"),
        ("v1", "PersistentVolumeClaim"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "StatefulSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("autoscaling/v1", "HorizontalPodAutoscaler"),
        ("autoscaling/v2", "HorizontalPodAutoscaler"),
        ("networking.k8s.io/v1", "Ingress"),
    ] {
        let warnings =
            kind_of(&json!({"apiVersion": api_version, "kind": kind})).warnings(&json!({}));
        assert!(
            warnings[0]
                .starts_with(&format!("{kind}: kept without effect: no controller of this hub")),
            "{warnings:?}"
        );
    }
    for (api_version, kind) in [
        ("policy/v1", "PodDisruptionBudget"),
        ("networking.k8s.io/v1", "NetworkPolicy"),
        ("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration"),
        ("admissionregistration.k8s.io/v1", "MutatingAdmissionPolicyBinding"),
    ] {
        let warnings =
            kind_of(&json!({"apiVersion": api_version, "kind": kind})).warnings(&json!({}));
        assert!(
            warnings[0]
                .starts_with(&format!("{kind}: kept without effect: it is NOT enforced yet")),
            "{warnings:?}"
        );
    }
}
