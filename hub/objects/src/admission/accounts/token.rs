//! The volume with an account's token, and its mount in each container.

use serde_json::{Value, json};

/// What the volume is called, before what makes the name its own.
pub(super) const VOLUME_PREFIX: &str = "kube-api-access-";
/// Where programs look for it.
const PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// What kubelet asks for: its programs may go on with a token that they have read once.
const TOKEN_SECONDS: u32 = 3_607;

/// Whether a pod of this account gets its token: the pod has the first word.
pub(super) fn is_wanted(pod: &Value, account: &Value) -> bool {
    let said = |value: Option<&Value>| value.and_then(Value::as_bool);
    said(pod.pointer("/spec/automountServiceAccountToken"))
        .or_else(|| said(account.get("automountServiceAccountToken")))
        .unwrap_or(true)
}

/// Mounts it in each container that mounts nothing there itself.
pub(super) fn mount(pod: &mut Value, new_name: impl FnOnce() -> String) {
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    let mut names = volumes.into_iter().flatten().filter_map(|volume| volume["name"].as_str());
    let there = names.find(|name| name.starts_with(VOLUME_PREFIX)).map(str::to_owned);
    let is_new = there.is_none();
    let name = there.unwrap_or_else(new_name);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let all = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten().filter(|container| container.is_object()) {
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            let mut mounts = mounts.cloned().unwrap_or_default();
            if mounts.iter().any(|mount| mount["mountPath"] == PATH) {
                continue;
            }
            mounts.push(json!({"mountPath": PATH, "name": name, "readOnly": true}));
            container["volumeMounts"] = mounts.into();
            mounted = true;
        }
    }
    if is_new && mounted {
        let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
        let mut volumes = volumes.cloned().unwrap_or_default();
        volumes.push(volume(&name));
        pod["spec"]["volumes"] = volumes.into();
    }
}

fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {
            "items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt",
        }},
        {"downwardAPI": {"items": [{
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace",
        }]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(mut pod: Value) -> Value {
        mount(&mut pod, || "kube-api-access-new".to_owned());
        pod
    }

    #[test]
    fn each_container_mounts_it_that_mounts_nothing_there() {
        let own = json!([{"mountPath": PATH, "name": "mine"}]);
        let pod = mounted(json!({"spec": {
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a", "volumeMounts": own}, {"name": "b"}],
        }}));
        let token = json!([{"mountPath": PATH, "name": "kube-api-access-new", "readOnly": true}]);
        assert_eq!(pod["spec"]["initContainers"][0]["volumeMounts"], token);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"], own);
        assert_eq!(pod["spec"]["containers"][1]["volumeMounts"], token);
        assert_eq!(pod["spec"]["volumes"], json!([volume("kube-api-access-new")]));
    }

    #[test]
    fn a_volume_that_is_there_is_taken_and_one_that_nobody_needs_is_not_made() {
        let there = json!([{"name": "kube-api-access-old", "emptyDir": {}}]);
        let pod = mounted(json!({"spec": {"containers": [{"name": "a"}], "volumes": there}}));
        assert_eq!(pod["spec"]["volumes"], there);
        assert_eq!(pod["spec"]["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-old");
        let own = json!([{"mountPath": PATH, "name": "mine"}]);
        let pod = mounted(json!({"spec": {"containers": [{"volumeMounts": own}]}}));
        assert_eq!(pod["spec"].get("volumes"), None);
    }
}
