//! Defaults of what is defaulted change nothing.

use freewheel_hub_schema::types;
use serde_json::{Value, json};

use super::shared::{apps, create, kind_of, pods};

#[test]
fn defaults_of_defaulted_objects_change_nothing() {
    let full = json!([
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {
            "hostNetwork": true,
            "initContainers": [{"name": "i", "image": "i:1", "restartPolicy": "Always"}],
            "containers": [{
                "name": "c", "image": "i", "ports": [{"containerPort": 80}],
                "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}}],
                "readinessProbe": {"httpGet": {"port": "web"}},
                "lifecycle": {"preStop": {"httpGet": {"port": 80}}},
                "resources": {"limits": {"cpu": "0.0001", "memory": "0.5Gi"}, "requests": {"cpu": "0.0001"}},
            }],
            "volumes": [
                {"name": "e"}, {"name": "s", "secret": {"secretName": "s"}},
                {"name": "d", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                {"name": "p", "projected": {"sources": [{"configMap": {"name": "c"}}]}},
            ],
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"clusterIP": "None"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {
            "type": "ExternalName", "externalName": "example.com"}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}},
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}},
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}, "status": {"capacity": {"cpu": "0.5"}}},
        {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "r"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}},
        {"apiVersion": "cluster.open-cluster-management.io/v1", "kind": "ManagedCluster", "metadata": {"name": "pi-7"}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": "e"},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.64.0.1"]}], "ports": [{"port": 80}]},
        {"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"},
            "subsets": [{"addresses": [{"ip": "10.64.0.1"}], "ports": [{"port": 80}]}]},
    ]);
    for body in full.as_array().unwrap() {
        let once = create(body.clone()).unwrap_or_else(|error| panic!("{}: {error}", body["kind"]));
        let kind = kind_of(body);
        let mut twice = once.clone();
        types::apply_defaults(&mut twice, &**kind).unwrap();
        kind.strategy.default(&mut twice);
        assert_eq!(twice, once, "{}", body["kind"]);
        types::canonicalise(&mut twice, &**kind).unwrap();
        assert_eq!(twice, once, "{}", body["kind"]);
    }
}

/// What a new object holds beside what was asked for: of each half that is given here, all.
#[track_caller]
fn filled(api_version: &str, kind: &str, given: Value, expected: &Value) {
    let mut body = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}});
    body.as_object_mut().unwrap().extend(given.as_object().unwrap().clone());
    if kind == "IPAddress" {
        body["metadata"]["name"] = json!("10.0.0.1");
    }
    let once = create(body).unwrap_or_else(|error| panic!("{kind}: {error}"));
    for (half, expected) in expected.as_object().unwrap() {
        assert_eq!(once[half], *expected, "{kind} {half}");
    }
    let rules = kind_of(&once);
    let mut twice = once.clone();
    types::apply_defaults(&mut twice, &**rules).unwrap();
    rules.strategy.default(&mut twice);
    types::canonicalise(&mut twice, &**rules).unwrap();
    assert_eq!(twice, once, "{kind}");
}

#[test]
fn core_kinds_are_filled_in_as_upstream_does() {
    let controller = json!({"template": pods("Always")});
    filled(
        "v1",
        "ReplicationController",
        json!({"spec": controller}),
        &json!({"status": {"replicas": 0}}),
    );
    filled("v1", "PodTemplate", json!({"template": pods("Never")}), &json!({}));
    let limits = json!([{"type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}}]);
    filled(
        "v1",
        "LimitRange",
        json!({"spec": {"limits": limits}}),
        &json!({"spec": {"limits": [{
        "type": "Container", "max": {"cpu": "1"}, "min": {"memory": "1Mi"}, "default": {"cpu": "1"},
        "defaultRequest": {"cpu": "1", "memory": "1Mi"}}]}}),
    );
    let hard = json!({"hard": {"cpu": "0.5", "pods": "2"}});
    filled(
        "v1",
        "ResourceQuota",
        json!({"spec": hard, "status": hard}),
        &json!({"spec": {"hard": {"cpu": "500m", "pods": "2"}}, "status": {}}),
    );
    let volume = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}});
    filled(
        "v1",
        "PersistentVolume",
        json!({"spec": volume}),
        &json!({
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x", "type": ""},
            "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"},
        "status": {"phase": "Pending", "lastPhaseTransitionTime": "2026-01-01T00:00:00Z"}}),
    );
    let source = json!({"kind": "PersistentVolumeClaim", "name": "other"});
    let claim = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "dataSource": source});
    filled(
        "v1",
        "PersistentVolumeClaim",
        json!({"spec": claim}),
        &json!({
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "volumeMode": "Filesystem",
            "dataSource": source, "dataSourceRef": source},
        "status": {"phase": "Pending"}}),
    );
}

#[test]
fn workloads_are_filled_in_as_upstream_does() {
    let set = create(apps("DaemonSet")).unwrap();
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    assert_eq!(set["spec"]["revisionHistoryLimit"], 10);
    assert_eq!(set["metadata"]["annotations"]["deprecated.daemonset.template.generation"], "1");
    let set = create(apps("StatefulSet")).unwrap();
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(set["spec"]["podManagementPolicy"], "OrderedReady");
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(set["status"], json!({"availableReplicas": 0, "replicas": 0}));
    let job = json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": {"template": pods("Never")}});
    let job = create(job).unwrap();
    let mut spec = job["spec"].as_object().unwrap().clone();
    spec.remove("template");
    assert_eq!(
        Value::Object(spec),
        json!({"backoffLimit": 6, "completionMode": "NonIndexed", "completions": 1, "manualSelector": false,
        "parallelism": 1, "podReplacementPolicy": "TerminatingOrFailed", "suspend": false,
        "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "8f0b2c1e-0000-4000-8000-000000000000"}}})
    );
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "x"},
        "spec": {"schedule": "@daily", "jobTemplate": {"spec": {"template": pods("Never")}}}});
    let cron = create(cron).unwrap();
    assert_eq!(cron["spec"]["jobTemplate"]["spec"].as_object().unwrap().len(), 1, "no Job yet");
    assert_eq!(cron["spec"]["concurrencyPolicy"], "Allow");
    assert_eq!(cron["spec"]["successfulJobsHistoryLimit"], 3);
    filled(
        "apps/v1",
        "ControllerRevision",
        json!({"revision": 1, "data": {"a": 1}}),
        &json!({"data": {"a": 1}}),
    );
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
    let asked = json!({"maxReplicas": 3, "scaleTargetRef": target});
    let cpu = json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}});
    filled(
        "autoscaling/v2",
        "HorizontalPodAutoscaler",
        json!({"spec": asked}),
        &json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target, "metrics": [cpu]}}),
    );
    filled(
        "autoscaling/v1",
        "HorizontalPodAutoscaler",
        json!({"spec": asked}),
        &json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": target}}),
    );
}

#[test]
fn the_rest_is_filled_in_as_upstream_does() {
    filled(
        "policy/v1",
        "PodDisruptionBudget",
        json!({"spec": {"minAvailable": 1}}),
        &json!({
        "status": {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}}),
    );
    filled(
        "scheduling.k8s.io/v1",
        "PriorityClass",
        json!({"value": 5}),
        &json!({"preemptionPolicy": "PreemptLowerPriority"}),
    );
    filled(
        "node.k8s.io/v1",
        "RuntimeClass",
        json!({"handler": "h", "overhead": {"podFixed": {"cpu": "0.25"}}}),
        &json!({"overhead": {"podFixed": {"cpu": "250m"}}}),
    );
    filled(
        "storage.k8s.io/v1",
        "StorageClass",
        json!({"provisioner": "a/b"}),
        &json!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
    );
    filled(
        "storage.k8s.io/v1",
        "CSIDriver",
        json!({"spec": {}}),
        &json!({"spec": {"attachRequired": true, "podInfoOnMount": false,
        "storageCapacity": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
        "requiresRepublish": false, "seLinuxMount": false}}),
    );
    filled("storage.k8s.io/v1", "CSINode", json!({"spec": {"drivers": []}}), &json!({}));
    filled(
        "storage.k8s.io/v1",
        "CSIStorageCapacity",
        json!({"storageClassName": "fast"}),
        &json!({}),
    );
    filled(
        "storage.k8s.io/v1",
        "VolumeAttributesClass",
        json!({"driverName": "a/b", "parameters": {"a": "b"}}),
        &json!({}),
    );
    filled(
        "storage.k8s.io/v1",
        "VolumeAttachment",
        json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "v"}}}),
        &json!({"status": {"attached": false}}),
    );
    filled(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53}]}]}}),
        &json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}}),
    );
    filled(
        "networking.k8s.io/v1",
        "Ingress",
        json!({"spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}}),
        &json!({"status": {"loadBalancer": {}}}),
    );
    filled(
        "networking.k8s.io/v1",
        "IngressClass",
        json!({"spec": {"controller": "a/b", "parameters": {"kind": "C", "name": "c"}}}),
        &json!({"spec": {"controller": "a/b", "parameters": {"kind": "C", "name": "c", "scope": "Cluster"}}}),
    );
    filled(
        "networking.k8s.io/v1",
        "ServiceCIDR",
        json!({"spec": {"cidrs": ["10.0.0.0/8"]}}),
        &json!({"status": {}}),
    );
    filled(
        "networking.k8s.io/v1",
        "IPAddress",
        json!({"spec": {"parentRef": {"resource": "services", "name": "s"}}}),
        &json!({}),
    );
    let service =
        json!({"group": "g.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
    let mut body = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.g.io"}, "spec": service});
    let local = create(body.clone()).unwrap();
    assert_eq!(local["status"]["conditions"][0]["reason"], "Local");
    body["spec"]["service"] = json!({"name": "s", "namespace": "n"});
    assert_eq!(create(body).unwrap()["spec"]["service"]["port"], 443);
    let hook = json!({"name": "a.b.c", "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "sideEffects": "None", "admissionReviewVersions": ["v1"]});
    let mut whole = hook.clone();
    whole.as_object_mut().unwrap().extend(
        json!({"failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {},
        "objectSelector": {}, "timeoutSeconds": 10})
        .as_object()
        .unwrap()
        .clone(),
    );
    whole["clientConfig"]["service"]["port"] = json!(443);
    let admission = "admissionregistration.k8s.io/v1";
    filled(
        admission,
        "ValidatingWebhookConfiguration",
        json!({"webhooks": [hook]}),
        &json!({"webhooks": [whole]}),
    );
    whole["reinvocationPolicy"] = json!("Never");
    filled(
        admission,
        "MutatingWebhookConfiguration",
        json!({"webhooks": [hook]}),
        &json!({"webhooks": [whole]}),
    );
    let resources = json!({"resourceRules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    let mut all = resources.clone();
    all["resourceRules"][0]["scope"] = json!("*");
    all.as_object_mut().unwrap().extend(
        json!({"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}})
            .as_object()
            .unwrap()
            .clone(),
    );
    filled(
        admission,
        "ValidatingAdmissionPolicy",
        json!({"spec": {"matchConstraints": resources, "validations": [{"expression": "true"}]}}),
        &json!({"spec": {"failurePolicy": "Fail", "matchConstraints": all, "validations": [{"expression": "true"}]}}),
    );
    let mutation = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]);
    filled(
        admission,
        "MutatingAdmissionPolicy",
        json!({"spec": {"matchConstraints": resources, "mutations": mutation, "reinvocationPolicy": "Never"}}),
        &json!({}),
    );
    filled(
        admission,
        "MutatingAdmissionPolicyBinding",
        json!({"spec": {"policyName": "p", "matchResources": resources}}),
        &json!({"spec": {"policyName": "p", "matchResources": all}}),
    );
    filled(
        admission,
        "ValidatingAdmissionPolicyBinding",
        json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        &json!({}),
    );
    let request = json!({"name": "gpu", "exactly": {"deviceClassName": "gpu"}});
    let devices = json!({"devices": {"requests": [request]}});
    let mut one = devices.clone();
    one["devices"]["requests"][0]["exactly"] =
        json!({"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1});
    filled(
        "resource.k8s.io/v1",
        "ResourceClaim",
        json!({"spec": devices}),
        &json!({"spec": one, "status": {}}),
    );
    filled(
        "resource.k8s.io/v1",
        "ResourceClaimTemplate",
        json!({"spec": {"spec": devices}}),
        &json!({"spec": {"metadata": {}, "spec": one}}),
    );
    filled("resource.k8s.io/v1", "DeviceClass", json!({"spec": {}}), &json!({}));
    filled(
        "resource.k8s.io/v1",
        "ResourceSlice",
        json!({"spec": {"driver": "a", "pool": {"name": "p", "resourceSliceCount": 1, "generation": 0}, "nodeName": "n"}}),
        &json!({}),
    );
}
