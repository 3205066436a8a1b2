//! What a pod needs of what is there, and what a volume does: the names that are in them.
//!
//! Guarantees:
//! - all places are looked at in which a pod names something (`all_that_a_pod_names_is_found`);
//! - a mirror pod, which a node makes itself, needs nothing (`a_mirror_pod_needs_nothing`).

use std::collections::BTreeSet;

use freewheel_hub_store::Stored;
use serde_json::Value;

/// At a pod that shows what a node runs by itself.
pub(crate) const MIRROR: &str = "kubernetes.io/config.mirror";

/// What may be needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needed {
    Secret,
    ConfigMap,
    Claim,
    Account,
    DeviceClaim,
}

/// What one pod needs, all in its own namespace.
#[derive(Debug, Default)]
pub(crate) struct Needs(BTreeSet<(Needed, String)>);

impl Needs {
    pub(super) fn has(&self, what: Needed, name: &str) -> bool {
        self.all(what).any(|own| own == name)
    }

    pub(crate) fn all(&self, what: Needed) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(own, _)| *own == what).map(|(_, name)| &**name)
    }

    fn add(&mut self, what: Needed, name: Option<&str>) {
        self.0.extend(name.map(|name| (what, name.to_owned())));
    }
}

/// Where volumes of pods name Secrets.
const SECRETS: [&str; 10] = [
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

/// Where volumes of a cluster name Secrets that a node reads.
const SECRETS_OF_VOLUMES: [&str; 10] = [
    "/cephfs/secretRef",
    "/cinder/secretRef",
    "/csi/nodeExpandSecretRef",
    "/csi/nodePublishSecretRef",
    "/csi/nodeStageSecretRef",
    "/flexVolume/secretRef",
    "/iscsi/secretRef",
    "/rbd/secretRef",
    "/scaleIO/secretRef",
    "/storageos/secretRef",
];

/// A text that is not empty.
pub(crate) fn text<'a>(value: &'a Value, path: &str) -> Option<&'a str> {
    value.pointer(path).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn items<'a>(value: &'a Value, path: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(path).and_then(Value::as_array).into_iter().flatten()
}

/// The node that a pod is bound to.
pub(super) fn node_of(pod: &Stored) -> Option<&str> {
    let node = pod.object.header.fields.get("spec.nodeName").map(String::as_str);
    node.filter(|node| !node.is_empty())
}

/// All that a pod names.
pub(crate) fn needs(pod: &Value) -> Needs {
    let mut needs = Needs::default();
    if pod.pointer("/metadata/annotations").is_some_and(|all| all.get(MIRROR).is_some()) {
        return needs;
    }
    needs.add(Needed::Account, text(pod, "/spec/serviceAccountName"));
    for secret in items(pod, "/spec/imagePullSecrets") {
        needs.add(Needed::Secret, text(secret, "/name"));
    }
    for list in ["/spec/initContainers", "/spec/containers", "/spec/ephemeralContainers"] {
        items(pod, list).for_each(|container| of_container(&mut needs, container));
    }
    let name = text(pod, "/metadata/name").unwrap_or_default();
    items(pod, "/spec/volumes").for_each(|volume| of_volume(&mut needs, name, volume));
    of_devices(&mut needs, pod);
    needs
}

fn of_container(needs: &mut Needs, container: &Value) {
    for from in items(container, "/envFrom") {
        needs.add(Needed::Secret, text(from, "/secretRef/name"));
        needs.add(Needed::ConfigMap, text(from, "/configMapRef/name"));
    }
    for variable in items(container, "/env") {
        needs.add(Needed::Secret, text(variable, "/valueFrom/secretKeyRef/name"));
        needs.add(Needed::ConfigMap, text(variable, "/valueFrom/configMapKeyRef/name"));
    }
}

fn of_volume(needs: &mut Needs, pod: &str, volume: &Value) {
    SECRETS.iter().for_each(|path| needs.add(Needed::Secret, text(volume, path)));
    needs.add(Needed::ConfigMap, text(volume, "/configMap/name"));
    for source in items(volume, "/projected/sources") {
        needs.add(Needed::Secret, text(source, "/secret/name"));
        needs.add(Needed::ConfigMap, text(source, "/configMap/name"));
    }
    needs.add(Needed::Claim, text(volume, "/persistentVolumeClaim/claimName"));
    needs.add(Needed::Claim, ephemeral_claim(pod, volume).as_deref());
}

/// The claim that is made for a volume of a pod.
pub(crate) fn ephemeral_claim(pod: &str, volume: &Value) -> Option<String> {
    let is_one = volume.get("ephemeral").is_some_and(Value::is_object);
    let name = text(volume, "/name").filter(|_| is_one)?;
    Some(format!("{pod}-{name}"))
}

/// Claims of devices, by their own name or as they were made of a template.
fn of_devices(needs: &mut Needs, pod: &Value) {
    for claim in items(pod, "/spec/resourceClaims") {
        needs.add(Needed::DeviceClaim, text(claim, "/resourceClaimName"));
        let made = items(pod, "/status/resourceClaimStatuses")
            .filter(|made| text(made, "/name").is_some() && made.get("name") == claim.get("name"));
        made.for_each(|made| needs.add(Needed::DeviceClaim, text(made, "/resourceClaimName")));
    }
    let extended = "/status/extendedResourceClaimStatus/resourceClaimName";
    needs.add(Needed::DeviceClaim, text(pod, extended));
}

/// The claim that a volume is for: namespace and name.
pub(super) fn claim_of(volume: &Value) -> Option<(&str, &str)> {
    Some((text(volume, "/spec/claimRef/namespace")?, text(volume, "/spec/claimRef/name")?))
}

/// The Secrets that a node reads for a volume: namespace and name.
pub(super) fn secrets_of_volume(volume: &Value) -> Vec<(&str, &str)> {
    let home = text(volume, "/spec/claimRef/namespace").unwrap_or_default();
    let named = |path: &&str| {
        let secret = volume.get("spec")?.pointer(path)?;
        Some((text(secret, "/namespace").unwrap_or(home), text(secret, "/name")?))
    };
    let azure = text(volume, "/spec/azureFile/secretName")
        .map(|name| (text(volume, "/spec/azureFile/secretNamespace").unwrap_or(home), name));
    SECRETS_OF_VOLUMES.iter().filter_map(named).chain(azure).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod() -> Value {
        json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot",
                "imagePullSecrets": [{"name": "pull"}, {"name": ""}],
                "initContainers": [{"envFrom": [{"secretRef": {"name": "s1"}}]}],
                "containers": [{"env": [
                    {"valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
                    {"valueFrom": {"configMapKeyRef": {"name": "c1", "key": "k"}}},
                ]}],
                "ephemeralContainers": [{"envFrom": [{"configMapRef": {"name": "c2"}}]}],
                "volumes": [
                    {"secret": {"secretName": "s3"}}, {"configMap": {"name": "c3"}},
                    {"projected": {"sources": [
                        {"secret": {"name": "s4"}}, {"configMap": {"name": "c4"}},
                    ]}},
                    {"csi": {"nodePublishSecretRef": {"name": "s5"}}},
                    {"persistentVolumeClaim": {"claimName": "v1"}},
                    {"name": "own", "ephemeral": {"volumeClaimTemplate": {}}},
                ],
                "resourceClaims": [
                    {"name": "a", "resourceClaimName": "d1"},
                    {"name": "b", "resourceClaimTemplateName": "t"},
                ],
            },
            "status": {
                "resourceClaimStatuses": [
                    {"name": "b", "resourceClaimName": "d2"}, {"name": "z", "resourceClaimName": "d9"},
                ],
                "extendedResourceClaimStatus": {"resourceClaimName": "d3"},
            },
        })
    }

    #[test]
    fn all_that_a_pod_names_is_found() {
        let needs = needs(&pod());
        let all = |what| needs.all(what).collect::<Vec<_>>().join(" ");
        assert_eq!(all(Needed::Secret), "pull s1 s2 s3 s4 s5");
        assert_eq!(all(Needed::ConfigMap), "c1 c2 c3 c4");
        assert_eq!(all(Needed::Claim), "p-own v1");
        assert_eq!(all(Needed::Account), "robot");
        assert_eq!(all(Needed::DeviceClaim), "d1 d2 d3");
        assert!(needs.has(Needed::Secret, "s1") && !needs.has(Needed::ConfigMap, "s1"));
    }

    #[test]
    fn a_mirror_pod_needs_nothing() {
        let mut mirror = pod();
        mirror["metadata"]["annotations"] = json!({MIRROR: "x"});
        assert!(needs(&mirror).0.is_empty());
    }

    #[test]
    fn a_volume_names_secrets_where_its_claim_is_or_elsewhere() {
        let volume = json!({"spec": {
            "claimRef": {"namespace": "n", "name": "v"},
            "csi": {"nodeStageSecretRef": {"namespace": "m", "name": "s"},
                "controllerPublishSecretRef": {"namespace": "m", "name": "not for nodes"}},
            "rbd": {"secretRef": {"name": "t"}},
            "azureFile": {"secretName": "u"},
        }});
        assert_eq!(claim_of(&volume), Some(("n", "v")));
        assert_eq!(secrets_of_volume(&volume), [("m", "s"), ("n", "t"), ("n", "u")]);
    }
}
