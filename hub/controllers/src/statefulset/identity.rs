//! What a pod of a StatefulSet has of its own: name, host name, labels, claims. Pure.

use serde_json::{Value, json};

use crate::history::REVISION_LABEL;

/// Label with the pod's name.
pub(super) const POD_NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// Label with its ordinal.
pub(super) const POD_INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of the set's pod of this name; `None` when it cannot be the set's.
pub(super) fn ordinal_of(set: &str, pod: &str) -> Option<i64> {
    let (parent, number) = pod.rsplit_once('-')?;
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    // `start` and `replicas` have 31 bits each, and the last ordinal is beyond both.
    let ordinal: u32 = number.parse().ok().filter(|_| digits && parent == set)?;
    // web-01 is another name than web-1.
    (format!("{ordinal}") == number).then_some(i64::from(ordinal))
}

/// The pod of an ordinal, of this template.
pub(super) fn pod_of(
    set: &Value,
    template: &Value,
    owner: &Value,
    (ordinal, revision): (i64, &str),
) -> Value {
    let meta = &template["metadata"];
    let set_name = set["metadata"]["name"].as_str().unwrap_or_default();
    let name = format!("{set_name}-{ordinal}");
    let mut spec = template["spec"].clone();
    spec["hostname"] = json!(name);
    let service = set["spec"]["serviceName"].as_str().unwrap_or_default();
    if !service.is_empty() {
        spec["subdomain"] = json!(service);
    } else if let Some(spec) = spec.as_object_mut() {
        spec.remove("subdomain");
    }
    mount_claims(set, &mut spec, ordinal);
    let mut pod = json!({
        "metadata": {
            "name": name, "generateName": format!("{set_name}-"), "labels": meta["labels"],
            "annotations": meta["annotations"], "finalizers": meta["finalizers"],
            "ownerReferences": [owner],
        },
        "spec": spec,
    });
    label(&mut pod, ordinal);
    pod["metadata"]["labels"][REVISION_LABEL] = json!(revision);
    pod
}

/// Gives a pod the labels of its ordinal.
pub(super) fn label(pod: &mut Value, ordinal: i64) {
    let name = pod["metadata"]["name"].clone();
    if !pod["metadata"]["labels"].is_object() {
        pod["metadata"]["labels"] = json!({});
    }
    pod["metadata"]["labels"][POD_NAME_LABEL] = name;
    pod["metadata"]["labels"][POD_INDEX_LABEL] = json!(ordinal.to_string());
}

fn templates(set: &Value) -> impl Iterator<Item = &Value> {
    set["spec"]["volumeClaimTemplates"].as_array().into_iter().flatten()
}

/// Whether its pods have claims.
pub(super) fn has_claims(set: &Value) -> bool {
    templates(set).next().is_some()
}

fn claim_name(set: &Value, template: &Value, ordinal: i64) -> String {
    let text = |value: &Value| value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    format!("{}-{}-{ordinal}", text(template), text(set))
}

/// The volumes of the claims, before those of the template.
pub(super) fn mount_claims(set: &Value, spec: &mut Value, ordinal: i64) {
    let mut volumes: Vec<Value> = templates(set)
        .map(|template| {
            let claim = claim_name(set, template, ordinal);
            let name = &template["metadata"]["name"];
            json!({"name": name, "persistentVolumeClaim": {"claimName": claim}})
        })
        .collect();
    if volumes.is_empty() {
        return;
    }
    let own = spec["volumes"].as_array().cloned().unwrap_or_default();
    let names: Vec<Value> = volumes.iter().map(|volume| volume["name"].clone()).collect();
    volumes.extend(own.into_iter().filter(|volume| !names.contains(&volume["name"])));
    spec["volumes"] = json!(volumes);
}

/// Whether a pod has the claims of its ordinal.
pub(super) fn mounts_claims(set: &Value, pod: &Value, ordinal: i64) -> bool {
    let volumes = pod["spec"]["volumes"].as_array();
    templates(set).all(|template| {
        let claim = claim_name(set, template, ordinal);
        volumes.into_iter().flatten().any(|volume| {
            volume["name"] == template["metadata"]["name"]
                && volume["persistentVolumeClaim"]["claimName"] == json!(claim)
        })
    })
}

/// The claims of an ordinal, by name.
pub(super) fn claims_of(set: &Value, ordinal: i64) -> Vec<(String, Value)> {
    let selector = set["spec"]["selector"]["matchLabels"].as_object();
    let claim = |template: &Value| {
        let name = claim_name(set, template, ordinal);
        let mut meta = template["metadata"].clone();
        meta["name"] = json!(name);
        for (key, value) in selector.into_iter().flatten() {
            if !meta["labels"].is_object() {
                meta["labels"] = json!({});
            }
            meta["labels"][key] = value.clone();
        }
        (name, json!({"metadata": meta, "spec": template["spec"]}))
    };
    templates(set).map(claim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_ordinals() {
        let of = |pod: &str| ordinal_of("web", pod);
        assert_eq!((of("web-0"), of("web-12")), (Some(0), Some(12)));
        let last = i64::from(i32::MAX) + i64::from(i32::MAX) - 1;
        assert_eq!(
            of(&format!("web-{last}")),
            Some(last),
            "start and replicas may be as large as they go"
        );
        for other in [
            "web",
            "web-",
            "web-x",
            "web-01",
            "web--1",
            "web-+1",
            "wob-1",
            "web-1-2",
            "web-99999999999",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    fn set() -> Value {
        json!({
            "metadata": {"name": "db"},
            "spec": {
                "serviceName": "dbs", "selector": {"matchLabels": {"app": "db"}},
                "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"own": "yes"}},
                    "spec": {"accessModes": ["ReadWriteOnce"]}}],
                "template": {"metadata": {"labels": {"app": "db"}}, "spec": {
                    "subdomain": "elsewhere", "containers": [],
                    "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
                }},
            },
        })
    }

    #[test]
    fn a_pod_has_the_name_host_and_claims_of_its_ordinal() {
        let set = set();
        let pod = pod_of(&set, &set["spec"]["template"], &json!({}), (3, "db-abc"));
        assert_eq!(pod["metadata"]["name"], "db-3");
        assert_eq!(
            (&pod["spec"]["hostname"], &pod["spec"]["subdomain"]),
            (&json!("db-3"), &json!("dbs"))
        );
        assert_eq!(
            pod["metadata"]["labels"],
            json!({"app": "db", POD_NAME_LABEL: "db-3", POD_INDEX_LABEL: "3", REVISION_LABEL: "db-abc"})
        );
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-3"}},
                {"name": "tmp", "emptyDir": {}}])
        );
        assert!(mounts_claims(&set, &pod, 3) && !mounts_claims(&set, &pod, 2));
    }

    #[test]
    fn claims_have_names_and_the_selectors_labels() {
        let claims = claims_of(&set(), 1);
        assert_eq!(claims[0].0, "data-db-1");
        assert_eq!(claims[0].1["metadata"]["labels"], json!({"own": "yes", "app": "db"}));
    }

    #[test]
    fn without_a_service_there_is_no_subdomain() {
        let mut set = set();
        set["spec"]["serviceName"] = json!("");
        let pod = pod_of(&set, &set["spec"]["template"], &json!({}), (0, "r"));
        assert_eq!(pod["spec"].get("subdomain"), None);
    }
}
