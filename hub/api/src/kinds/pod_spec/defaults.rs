//! What Kubernetes fills into a pod spec.

use serde_json::{Map, Value, json};

use super::super::accessors::{items, round_amounts, set_default};
use super::super::volume_claim_spec;

/// Read for the owner, read for others.
const DEFAULT_FILE_MODE: i64 = 0o644;
/// Seconds that a service account's token in a volume lives.
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

/// Fills in everything that pods and templates share.
pub(crate) fn default(spec: &mut Map<String, Value>) {
    set_default(spec, "restartPolicy", "Always");
    set_default(spec, "dnsPolicy", "ClusterFirst");
    set_default(spec, "schedulerName", "default-scheduler");
    set_default(spec, "securityContext", json!({}));
    set_default(spec, "terminationGracePeriodSeconds", 30);
    let alias = spec.get("serviceAccount").cloned();
    if let (None, Some(alias)) = (spec.get("serviceAccountName"), alias) {
        spec.insert("serviceAccountName".to_owned(), alias);
    }
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        set_default(spec, "serviceAccount", account);
    }
    round_amounts(spec, "overhead");
    for volume in items(spec, "volumes") {
        default_volume(volume);
    }
    for container in items(spec, "ephemeralContainers") {
        default_container(container);
    }
    let host_network = spec.get("hostNetwork").and_then(Value::as_bool).unwrap_or_default();
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            default_container(container);
            for port in items(container, "ports").filter(|_| host_network) {
                if let Some(number) = port.get("containerPort").cloned() {
                    set_default(port, "hostPort", number);
                }
            }
        }
    }
}

fn default_container(container: &mut Map<String, Value>) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or_default();
    set_default(container, "imagePullPolicy", pull_policy(image));
    set_default(container, "terminationMessagePath", "/dev/termination-log");
    set_default(container, "terminationMessagePolicy", "File");
    set_default(container, "resources", json!({}));
    for port in items(container, "ports") {
        set_default(port, "protocol", "TCP");
    }
    for variable in items(container, "env") {
        let from = variable.get_mut("valueFrom").and_then(Value::as_object_mut);
        let Some(from) = from else { continue };
        if let Some(field) = from.get_mut("fieldRef").and_then(Value::as_object_mut) {
            set_default(field, "apiVersion", "v1");
        }
        default_divisor(from);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name).and_then(Value::as_object_mut) {
            default_probe(probe);
        }
    }
    if let Some(hooks) = container.get_mut("lifecycle").and_then(Value::as_object_mut) {
        for name in ["postStart", "preStop"] {
            if let Some(hook) = hooks.get_mut(name).and_then(Value::as_object_mut) {
                default_http(hook);
            }
        }
    }
    if let Some(resources) = container.get_mut("resources").and_then(Value::as_object_mut) {
        default_resources(resources);
    }
}

/// A tag that moves is pulled anew each time.
fn pull_policy(image: &str) -> &'static str {
    if image.contains('@') {
        return "IfNotPresent";
    }
    let last = image.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        None | Some((_, "latest" | "")) => "Always",
        Some(_) => "IfNotPresent",
    }
}

/// Requests that are not made are the limits; amounts are whole thousandths.
fn default_resources(resources: &mut Map<String, Value>) {
    for list in ["limits", "requests"] {
        round_amounts(resources, list);
    }
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else { return };
    set_default(resources, "requests", json!({}));
    if let Some(requests) = resources.get_mut("requests").and_then(Value::as_object_mut) {
        for (resource, amount) in limits {
            set_default(requests, &resource, amount);
        }
        if requests.is_empty() {
            resources.remove("requests");
        }
    }
}

fn default_probe(probe: &mut Map<String, Value>) {
    for (key, value) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        if probe.get(key).and_then(Value::as_i64).unwrap_or_default() == 0 {
            probe.insert(key.to_owned(), value.into());
        }
    }
    default_http(probe);
    if let Some(grpc) = probe.get_mut("grpc").and_then(Value::as_object_mut) {
        set_default(grpc, "service", "");
    }
}

fn default_http(handler: &mut Map<String, Value>) {
    if let Some(http) = handler.get_mut("httpGet").and_then(Value::as_object_mut) {
        set_default(http, "path", "/");
        set_default(http, "scheme", "HTTP");
    }
}

fn default_divisor(from: &mut Map<String, Value>) {
    if let Some(field) = from.get_mut("resourceFieldRef").and_then(Value::as_object_mut) {
        set_default(field, "divisor", "0");
    }
}

fn default_volume(volume: &mut Map<String, Value>) {
    if volume.keys().all(|key| key == "name") {
        volume.insert("emptyDir".to_owned(), json!({}));
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        let Some(source) = volume.get_mut(source).and_then(Value::as_object_mut) else { continue };
        set_default(source, "defaultMode", DEFAULT_FILE_MODE);
        default_downward_items(source);
        for projection in items(source, "sources") {
            if let Some(token) =
                projection.get_mut("serviceAccountToken").and_then(Value::as_object_mut)
            {
                set_default(token, "expirationSeconds", DEFAULT_TOKEN_SECONDS);
            }
            if let Some(downward) = projection.get_mut("downwardAPI").and_then(Value::as_object_mut)
            {
                default_downward_items(downward);
            }
        }
    }
    if let Some(path) = volume.get_mut("hostPath").and_then(Value::as_object_mut) {
        set_default(path, "type", "");
    }
    if let Some(image) = volume.get_mut("image").and_then(Value::as_object_mut) {
        let reference = image.get("reference").and_then(Value::as_str).unwrap_or_default();
        let policy = pull_policy(reference);
        set_default(image, "pullPolicy", policy);
    }
    let claim =
        volume.get_mut("ephemeral").and_then(|own| own.pointer_mut("/volumeClaimTemplate/spec"));
    if let Some(claim) = claim.and_then(Value::as_object_mut) {
        volume_claim_spec::default(claim);
    }
}

fn default_downward_items(source: &mut Map<String, Value>) {
    for item in items(source, "items") {
        if let Some(field) = item.get_mut("fieldRef").and_then(Value::as_object_mut) {
            set_default(field, "apiVersion", "v1");
        }
        default_divisor(item);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaulted(mut spec: Value) -> Value {
        default(spec.as_object_mut().unwrap());
        spec
    }

    #[test]
    fn a_tag_decides_how_to_pull() {
        for (image, policy) in [
            ("web", "Always"),
            ("web:latest", "Always"),
            ("host:5000/web", "Always"),
            ("host:5000/web:1.2", "IfNotPresent"),
            ("web@sha256:00", "IfNotPresent"),
        ] {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }

    #[test]
    fn requests_follow_limits_and_are_canonical() {
        let spec = defaulted(json!({"containers": [{
            "resources": {"limits": {"cpu": "0.5", "memory": "1024Ki"}, "requests": {"cpu": "0.1"}},
        }]}));
        assert_eq!(
            spec["containers"][0]["resources"],
            json!({"limits": {"cpu": "500m", "memory": "1Mi"}, "requests": {"cpu": "100m", "memory": "1Mi"}})
        );
    }

    #[test]
    fn probes_volumes_and_references() {
        let spec = defaulted(json!({
            "containers": [{
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}},
            }],
            "volumes": [{"name": "e"}, {"name": "s", "secret": {"secretName": "s"}}],
        }));
        let container = &spec["containers"][0];
        assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["apiVersion"], "v1");
        assert_eq!(
            container["livenessProbe"],
            json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3})
        );
        assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
        assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    }
}
