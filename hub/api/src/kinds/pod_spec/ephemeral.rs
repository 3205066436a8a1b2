//! Containers that come to a pod which runs, for somebody who looks into it.
//!
//! Guarantees:
//! - each has a status that says what becomes of it (`who_has_come_is_told_of`);
//! - none changes or goes (`who_has_come_stays`).

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use serde_json::{Value, json};

use super::super::accessors::{child, items_of, list, text};
use super::classes::NO_MORE_CONTAINERS;
use super::container::{check, check_name};
use super::{containers, volume_names};

const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
/// What containers say that others rely on.
const OF_OTHERS: &[&str] = &[
    "ports",
    "resources",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
];

/// Every mistake in those of a pod.
pub(super) fn check_all(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let others: BTreeSet<&str> = containers(spec).map(|(_, _, one)| text(one, "/name")).collect();
    let (mut taken, volumes) = (others.clone(), volume_names(spec));
    for (i, container) in items_of(spec, "ephemeralContainers") {
        let path = format!("{path}.ephemeralContainers[{i}]");
        errors.extend(check_name(container, &path, &mut taken));
        errors.extend(check(container, &path, &volumes, false));
        let target = text(container, "/targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            let at = format!("{path}.targetContainerName");
            errors.push(FieldError::not_found(at, &json!(target)));
        }
        let foreign = OF_OTHERS.iter().filter(|field| has(container, field));
        errors.extend(
            foreign.map(|field| FieldError::forbidden(format!("{path}.{field}"), NOT_HERE)),
        );
        for (j, mount) in items_of(container, "volumeMounts") {
            for field in ["subPath", "subPathExpr"] {
                if has(mount, field) {
                    let at = format!("{path}.volumeMounts[{j}].{field}");
                    errors.push(FieldError::forbidden(at, NOT_HERE));
                }
            }
        }
    }
    errors
}

fn has(value: &Value, field: &str) -> bool {
    value.get(field).is_some_and(|value| match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    })
}

/// Those that are there stay as they are.
pub(crate) fn check_change(new: &Value, old: &Value) -> Vec<FieldError> {
    let all = list(new, "/spec/ephemeralContainers");
    let wrong = list(old, "/spec/ephemeralContainers").iter().filter_map(|was| {
        let name = text(was, "/name");
        let what = match all.iter().find(|now| text(now, "/name") == name) {
            None => "removed",
            Some(now) if now != was => "changed",
            Some(_) => return None,
        };
        let text = format!("existing ephemeral containers {name:?} may not be {what}\n");
        Some(FieldError::forbidden("spec.ephemeralContainers", &text))
    });
    wrong.collect()
}

/// What runtimes end with that cannot start a container, and kubelet tells.
const CANNOT_RUN: (&str, i32) = ("ContainerCannotRun", 128);

/// Says of each that is not told of yet how it is: it has ended, as it could not start. Devices know of none, so nobody
/// else says so; who waits for one to run or to end (`kubectl debug -it`) goes on, and reads why.
pub(crate) fn put_statuses(pod: &mut Value) {
    let old = list(pod, "/status/ephemeralContainerStatuses");
    let known: BTreeSet<&str> = old.iter().map(|one| text(one, "/name")).collect();
    let mut statuses = old.to_vec();
    let all = list(pod, "/spec/ephemeralContainers").iter();
    let (reason, code) = CANNOT_RUN;
    let untold = all.filter(|one| !known.contains(text(one, "/name"))).map(|one| {
        json!({
            "name": text(one, "/name"), "image": text(one, "/image"), "imageID": "",
            "ready": false, "restartCount": 0, "lastState": {},
            "state": {"terminated": {"exitCode": code, "reason": reason, "message": NO_MORE_CONTAINERS}},
        })
    });
    statuses.extend(untold);
    if statuses.is_empty() {
        return;
    }
    if let Some(status) = child(pod, "status") {
        status.insert("ephemeralContainerStatuses".to_owned(), statuses.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mut container: Value) -> Value {
        container["imagePullPolicy"] = json!("Always");
        container["terminationMessagePolicy"] = json!("File");
        json!({"containers": [{"name": "c"}], "ephemeralContainers": [container]})
    }

    #[track_caller]
    fn wrong(container: Value, expected: &[&str]) {
        let errors = check_all(&spec(container), "spec");
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected);
    }

    #[test]
    fn who_looks_into_a_pod_is_no_part_of_it() {
        let plain =
            json!({"name": "debug", "image": "i", "targetContainerName": "c", "resources": {}});
        wrong(plain, &[]);
        wrong(
            json!({"name": "c", "image": "i"}),
            &["spec.ephemeralContainers[0].name: Duplicate value: \"c\""],
        );
        wrong(
            json!({"name": "d", "image": "i", "targetContainerName": "x",
            "ports": [{"containerPort": 1, "protocol": "TCP"}], "resources": {"limits": {"cpu": "1"}}}),
            &[
                "spec.ephemeralContainers[0].targetContainerName: Not found: \"x\"",
                "spec.ephemeralContainers[0].ports: Forbidden: cannot be set for an Ephemeral Container",
                "spec.ephemeralContainers[0].resources: Forbidden: cannot be set for an Ephemeral Container",
            ],
        );
    }

    #[test]
    fn who_has_come_is_told_of() {
        let mut pod = json!({"spec": {"containers": [{"name": "c"}]}});
        put_statuses(&mut pod);
        assert_eq!(pod.get("status"), None);
        pod["spec"]["ephemeralContainers"] =
            json!([{"name": "a", "image": "i"}, {"name": "b", "image": "j"}]);
        let ended = json!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
        pod["status"]["ephemeralContainerStatuses"] = json!([ended]);
        for _ in 0..2 {
            put_statuses(&mut pod);
            let told = &pod["status"]["ephemeralContainerStatuses"];
            assert_eq!((told.as_array().unwrap().len(), &told[0]), (2, &ended));
            assert_eq!((&told[1]["name"], &told[1]["image"]), (&json!("b"), &json!("j")));
            let end = &told[1]["state"]["terminated"];
            assert_eq!(
                (&end["message"], &end["exitCode"]),
                (&json!(NO_MORE_CONTAINERS), &json!(128))
            );
        }
    }

    #[test]
    fn who_has_come_stays() {
        let pod = |containers: &[(&str, &str)]| {
            let one = |(name, image): &(&str, &str)| json!({"name": name, "image": image});
            json!({"spec": {"ephemeralContainers": containers.iter().map(one).collect::<Vec<_>>()}})
        };
        let old = pod(&[("a", "1"), ("b", "1")]);
        assert_eq!(check_change(&pod(&[("c", "1"), ("b", "1"), ("a", "1")]), &old), []);
        let errors = check_change(&pod(&[("b", "2")]), &old);
        let texts: Vec<_> = errors.iter().map(|error| &*error.message).collect();
        assert_eq!(
            texts,
            [
                "Forbidden: existing ephemeral containers \"a\" may not be removed\n",
                "Forbidden: existing ephemeral containers \"b\" may not be changed\n",
            ]
        );
    }
}
