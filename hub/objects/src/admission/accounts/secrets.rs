//! Which Secrets a pod names, and which its account may mount.

use std::collections::BTreeSet;

use serde_json::Value;

/// Where volumes name Secrets.
const IN_VOLUMES: &[&str] = &[
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/csi/nodePublishSecretRef/name",
    "/flexVolume/secretRef/name",
    "/iscsi/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
    "/secret/secretName",
    "/storageos/secretRef/name",
];
const LISTS: [(&str, &str); 3] = [
    ("initContainers", "init container"),
    ("containers", "container"),
    ("ephemeralContainers", "ephemeral container"),
];

fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// `spec.imagePullSecrets`.
pub(super) fn pulls(pod: &Value) -> &[Value] {
    pod.pointer("/spec/imagePullSecrets").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What a mirror of a pod that a node runs by itself may not name.
pub(super) fn check_mirror(pod: &Value) -> Result<(), &'static str> {
    if text(pod, "/spec/serviceAccountName").is_some() {
        return Err("a mirror pod may not reference service accounts");
    }
    let in_containers = LISTS.iter().any(|(list, _)| {
        items(pod, &format!("/spec/{list}")).any(|container| of(container).next().is_some())
    });
    let projected = |volume: &Value, path: &str| {
        items(volume, "/projected/sources").any(|source| source.pointer(path).is_some())
    };
    let mut volumes = items(pod, "/spec/volumes");
    let in_volumes = volumes.any(|volume| {
        IN_VOLUMES.iter().any(|path| text(volume, path).is_some()) || projected(volume, "/secret")
    });
    if !pulls(pod).is_empty() || in_containers || in_volumes {
        return Err("a mirror pod may not reference secrets");
    }
    if items(pod, "/spec/volumes").any(|volume| projected(volume, "/serviceAccountToken")) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

/// The Secrets that a container names, with how.
fn of(container: &Value) -> impl Iterator<Item = (String, &str)> {
    let variables = items(container, "/env").filter_map(|variable| {
        let name = text(variable, "/name").unwrap_or_default();
        Some((format!("envVar {name}"), text(variable, "/valueFrom/secretKeyRef/name")?))
    });
    let all = items(container, "/envFrom");
    let all = all.filter_map(|from| Some(("envFrom".to_owned(), text(from, "/secretRef/name")?)));
    variables.chain(all)
}

/// What an account that is held to its own Secrets may not mount. Of a pod that is there, only the containers that
/// come to it are looked at.
pub(super) fn check_own(
    pod: &Value,
    (name, account): (&str, &Value),
    is_new: bool,
) -> Result<(), String> {
    let own = |path| -> BTreeSet<&str> {
        items(account, path).filter_map(|one| text(one, "/name")).collect()
    };
    let secrets = own("/secrets");
    if is_new {
        let volumes = items(pod, "/spec/volumes").filter_map(|v| text(v, "/secret/secretName"));
        if let Some(secret) = volumes.into_iter().find(|secret| !secrets.contains(secret)) {
            return Err(format!(
                "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not \
                 reference that secret"
            ));
        }
    }
    for (list, what) in LISTS {
        if is_new == (list == "ephemeralContainers") {
            continue;
        }
        for container in items(pod, &format!("/spec/{list}")) {
            if let Some((how, secret)) = of(container).find(|(_, secret)| !secrets.contains(secret))
            {
                let container = text(container, "/name").unwrap_or_default();
                return Err(format!(
                    "{what} {container} with {how} referencing secret.secretName=\"{secret}\" is not allowed because service \
                     account {name} does not reference that secret"
                ));
            }
        }
    }
    let pulled = own("/imagePullSecrets");
    let others = pulls(pod).iter().enumerate().filter(|_| is_new);
    for (i, secret) in others.filter_map(|(i, one)| Some((i, text(one, "/name")?))) {
        if !pulled.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{i}].name=\"{secret}\" is not allowed because service account {name} does not \
                 reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}
