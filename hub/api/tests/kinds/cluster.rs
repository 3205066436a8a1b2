//! What is said of what a cluster is made of, where it is wrong, in the words of a kube-apiserver 1.36.

use serde_json::{Value, json};

use super::shared::{change, create, kind_of, mistakes, named, update, wrong};

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
    let mut local = volume;
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
fn admission_has_as_many_expressions_as_it_may() {
    let policy = |spec: Value| {
        named("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", json!({"spec": spec}))
    };
    let rules = json!([{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]);
    let constraints = json!({"resourceRules": rules});
    let spec = |variables: Value, validations: Value| {
        policy(
            json!({"matchConstraints": constraints, "variables": variables, "validations": validations}),
        )
    };
    let twice =
        json!([{"name": "a", "expression": "1"}, {"name": "a", "expression": "variables.a"}]);
    let always = json!({"expression": "true"});
    wrong(spec(twice, json!([always])), &["spec.variables[1].name: Duplicate value: \"a\""]);
    wrong(
        spec(json!([]), json!(vec![always; 1_001])),
        &["spec: Too many: 1001: must have at most 1000 items"],
    );
    let condition = json!({"name": "a", "expression": "true"});
    let hook = json!({"name": "a.b.c", "matchConditions": vec![condition; 600]});
    wrong(
        named(
            "admissionregistration.k8s.io/v1",
            "MutatingWebhookConfiguration",
            json!({"webhooks": [hook, hook]}),
        ),
        &["webhooks: Too many: 1200: must have at most 1000 items"],
    );
}

#[test]
fn what_nobody_acts_on_says_so() {
    for (api_version, kind) in [
        ("v1", "PersistentVolume"),
        ("v1", "PersistentVolumeClaim"),
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
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"});
    let warnings = kind_of(&policy).warnings(&json!({}));
    let expected = "NetworkPolicy: kept without effect: it is NOT enforced yet";
    assert!(warnings[0].starts_with(expected), "{warnings:?}");
}
