//! A pod's spec, wherever it stands: in a Pod or in a workload's template.
//!
//! ```text
//! defaults     what Kubernetes fills in
//! check        what a valid spec is; container, resources, volume, probe, toleration and affinity are its parts
//! requirements what all of a pod asks for
//! field        what those check alike
//! update       what a running pod may still change
//! ephemeral    containers that come to a pod which runs
//! resize       what its containers may ask for anew
//! classes      which fields work, are kept, are refused
//! ```

mod affinity;
mod check;
pub mod classes;
mod container;
mod defaults;
mod ephemeral;
mod field;
mod probe;
pub mod requirements;
mod resize;
mod resources;
mod toleration;
mod update;
mod volume;
mod volume_source;

use std::collections::BTreeSet;

use serde_json::Value;

use super::accessors::{items_of, list, map, text};

pub(super) use affinity::check_node_selector;
pub(super) use check::check;
pub(super) use defaults::default;
pub(super) use ephemeral::{
    check_change as check_ephemeral_change, put_statuses as put_ephemeral_statuses,
};
pub(super) use resize::{check as check_resize, keep_all_but_resources};
pub(super) use toleration::check_all as check_tolerations;
pub(super) use update::check_update;

/// A Warning text for each field that is kept without effect.
pub(super) fn warnings(spec: &Value, path: &str) -> Vec<String> {
    let mut found = classes::warnings(classes::POD, spec, path);
    let affinity = spec.get("affinity").unwrap_or(&Value::Null);
    found.extend(classes::warnings(classes::AFFINITY, affinity, &format!("{path}.affinity")));
    for (i, toleration) in list(spec, "/tolerations").iter().enumerate() {
        let path = format!("{path}.tolerations[{i}]");
        found.extend(classes::warnings(classes::TOLERATION, toleration, &path));
    }
    for (list, i, container) in containers(spec) {
        let path = format!("{path}.{list}[{i}]");
        found.extend(classes::warnings(classes::CONTAINER, container, &path));
        if let Some(program) = container.pointer("/command/0").and_then(Value::as_str) {
            // The whole of a warning is one header.
            let program: String = program.chars().take(64).collect();
            found.push(format!(
                "{path}.command: the image is the program, and there is no other in it: {program:?} becomes \
                 its name (argv[0]) and is not run"
            ));
        }
        for kind in probe::KINDS {
            let probe = container.get(*kind).unwrap_or(&Value::Null);
            found.extend(probe::warnings(probe, &format!("{path}.{kind}")));
        }
        for (i, port) in items_of(container, "ports") {
            found.extend(classes::warnings(classes::PORT, port, &format!("{path}.ports[{i}]")));
        }
        for (i, mount) in items_of(container, "volumeMounts") {
            let path = format!("{path}.volumeMounts[{i}]");
            found.extend(classes::warnings(classes::MOUNT, mount, &path));
        }
        for (i, variable) in items_of(container, "env") {
            let from = variable.get("valueFrom").unwrap_or(&Value::Null);
            let path = format!("{path}.env[{i}].valueFrom");
            found.extend(classes::warnings(classes::ENV_SOURCE, from, &path));
        }
    }
    for (i, volume) in list(spec, "/volumes").iter().enumerate() {
        let path = format!("{path}.volumes[{i}]");
        found.extend(classes::warnings(classes::VOLUME, volume, &path));
        let dir = volume.get("emptyDir").unwrap_or(&Value::Null);
        found.extend(classes::warnings(classes::EMPTY_DIR, dir, &format!("{path}.emptyDir")));
        let downward = volume.get("downwardAPI").unwrap_or(&Value::Null);
        let at = format!("{path}.downwardAPI");
        found.extend(classes::warnings(classes::DOWNWARD_VOLUME, downward, &at));
        for (i, file) in items_of(downward, "items") {
            let path = format!("{path}.downwardAPI.items[{i}]");
            found.extend(classes::warnings(classes::DOWNWARD, file, &path));
        }
    }
    found
}

/// All containers with the name of their list and their index there, init containers first.
pub(super) fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    ["initContainers", "containers"].into_iter().flat_map(move |name| {
        let all = spec.get(name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        all.iter().enumerate().map(move |(i, container)| (name, i, container))
    })
}

/// `Guaranteed` when every container limits cpu and memory to what it requests, `BestEffort` when
/// none asks for any, else `Burstable`.
#[must_use]
pub fn qos_class(spec: &Value) -> &'static str {
    let mut asks = false;
    let mut guaranteed = true;
    for (_, _, container) in containers(spec) {
        for resource in ["cpu", "memory"] {
            let amount = |kind: &str| {
                let pointer = format!("/resources/{kind}/{resource}");
                match text(container, &pointer) {
                    "" | "0" => None,
                    amount => Some(amount),
                }
            };
            let (limit, request) = (amount("limits"), amount("requests"));
            asks |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (asks, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// Names of the volumes.
pub(super) fn volume_names(spec: &Value) -> BTreeSet<&str> {
    list(spec, "/volumes").iter().map(|v| text(v, "/name")).collect()
}

/// How many of the volume's keys name a source.
pub(super) fn sources(volume: &Value) -> Vec<&str> {
    map(volume, "").map(|(key, _)| key).filter(|key| *key != "name").collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn classes_of_service_follow_from_requests_and_limits() {
        let pod = |resources: Value| json!({"containers": [{"resources": resources}]});
        assert_eq!(qos_class(&pod(json!({}))), "BestEffort");
        assert_eq!(qos_class(&pod(json!({"requests": {"cpu": "1"}}))), "Burstable");
        let both = json!({"cpu": "1", "memory": "1Gi"});
        assert_eq!(qos_class(&pod(json!({"limits": both, "requests": both}))), "Guaranteed");
        assert_eq!(
            qos_class(&pod(json!({"limits": both, "requests": {"cpu": "500m"}}))),
            "Burstable"
        );
    }
}
