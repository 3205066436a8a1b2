//! What a valid pod spec is, container by container.

use std::collections::BTreeSet;

use freewheel_hub_schema::error::FieldError;
use freewheel_hub_schema::metadata::check_label_map;
use freewheel_hub_schema::name as names;
use serde_json::{Value, json};

use super::super::accessors::{items_of, list, text};
use super::super::address::check_written;
use super::field::one_of;
use super::{affinity, classes, container, ephemeral, toleration, volume};

const RESTART: &[&str] = &["Always", "OnFailure", "Never"];
const DNS: &[&str] = &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
/// Complaints about a name.
type Rule = fn(&str) -> Vec<String>;

const NEGATIVE: &str = "must be greater than or equal to 0";

/// Every mistake of the spec, which stands at `path`.
pub(crate) fn check(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = volume::check_all(spec, path);
    let containers = list(spec, "/containers");
    if containers.is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    errors.extend(container::check_all(spec, path));
    errors.extend(ephemeral::check_all(spec, path));
    errors.extend(one_of(spec, path, "restartPolicy", RESTART));
    errors.extend(one_of(spec, path, "dnsPolicy", DNS));
    errors.extend(check_label_map(spec.get("nodeSelector"), &format!("{path}.nodeSelector")));
    errors.extend(check_names(spec, path));
    errors.extend(check_numbers(spec, path));
    errors
        .extend(toleration::check_all(list(spec, "/tolerations"), &format!("{path}.tolerations")));
    for (i, gate) in list(spec, "/readinessGates").iter().enumerate() {
        let kind = text(gate, "/conditionType");
        let at = format!("{path}.readinessGates[{i}].conditionType");
        let wrong = names::qualified_name(kind);
        errors.extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), &json!(kind), t)));
    }
    let wanted = spec.get("affinity").unwrap_or(&Value::Null);
    errors.extend(affinity::check(wanted, &format!("{path}.affinity")));
    errors.extend(check_gates(spec, path));
    errors.extend(check_aliases(spec, path));
    errors.extend(check_sysctls(spec, path));
    errors.extend(classes::refusals(classes::POD, spec, path));
    errors
}

fn check_gates(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, gate) in items_of(spec, "schedulingGates") {
        let (name, at) = (text(gate, "/name"), format!("{path}.schedulingGates[{i}]"));
        let wrong = names::qualified_name(name);
        errors.extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), &json!(name), t)));
        if !taken.insert(name) {
            errors.push(FieldError::duplicate(at, &json!(name)));
        }
    }
    errors
}

fn check_aliases(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, alias) in items_of(spec, "hostAliases") {
        let path = format!("{path}.hostAliases[{i}]");
        let ip = text(alias, "/ip");
        errors.extend(check_written(ip, &format!("{path}.ip")));
        for (j, host) in items_of(alias, "hostnames") {
            let wrong = names::dns_subdomain(host.as_str().unwrap_or_default());
            let at = format!("{path}.hostnames[{j}]");
            errors.extend(wrong.iter().map(|t| FieldError::invalid(at.clone(), host, t)));
        }
    }
    errors
}

/// They are kept without effect, but a name that is none is still a mistake.
fn check_sysctls(spec: &Value, path: &str) -> Vec<FieldError> {
    const TEXT: &str = r"must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (i, sysctl) in list(spec, "/securityContext/sysctls").iter().enumerate() {
        let (name, at) =
            (text(sysctl, "/name"), format!("{path}.securityContext.sysctls[{i}].name"));
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !is_sysctl(name) {
            errors.push(FieldError::invalid(at, &json!(name), TEXT));
        } else if !taken.insert(name) {
            errors.push(FieldError::duplicate(at, &json!(name)));
        }
    }
    errors
}

fn is_sysctl(name: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let segment = |part: &str| {
        edge(part.bytes().next()) && edge(part.bytes().last()) && part.bytes().all(inner)
    };
    name.len() <= names::SUBDOMAIN_MAX && name.split(['.', '/']).all(segment)
}

fn check_names(spec: &Value, path: &str) -> Vec<FieldError> {
    let rules: [(&str, Rule); 6] = [
        ("serviceAccountName", names::dns_subdomain),
        ("nodeName", names::dns_subdomain),
        ("hostname", names::dns_label),
        ("subdomain", names::dns_label),
        ("schedulerName", names::qualified_name),
        ("priorityClassName", names::dns_subdomain),
    ];
    let mut errors = Vec::new();
    for (key, rule) in rules {
        let value = spec.get(key).and_then(Value::as_str).unwrap_or_default();
        if value.is_empty() {
            continue;
        }
        let at = format!("{path}.{key}");
        errors
            .extend(rule(value).iter().map(|t| FieldError::invalid(at.clone(), &json!(value), t)));
    }
    errors
}

fn check_numbers(spec: &Value, path: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let number = |key: &str| spec.get(key).and_then(Value::as_i64);
    if let Some(seconds) = number("terminationGracePeriodSeconds").filter(|s| *s < 0) {
        let at = format!("{path}.terminationGracePeriodSeconds");
        errors.push(FieldError::invalid(at, &json!(seconds), NEGATIVE));
    }
    if let Some(seconds) = number("activeDeadlineSeconds")
        && !(1..=i64::from(i32::MAX)).contains(&seconds)
    {
        let at = format!("{path}.activeDeadlineSeconds");
        let text = "must be between 1 and 2147483647, inclusive";
        errors.push(FieldError::invalid(at, &json!(seconds), text));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mistakes of a spec after defaults.
    #[track_caller]
    fn wrong(mut spec: Value, expected: &[&str]) {
        if let Some(map) = spec.as_object_mut() {
            super::super::default(map);
        }
        let errors = check(&spec, "spec");
        let texts: Vec<_> = errors.iter().map(|e| format!("{}: {}", e.field, e.message)).collect();
        assert_eq!(texts, expected);
    }

    fn with(key: &str, value: Value) -> Value {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        spec[key] = value;
        spec
    }

    #[test]
    fn containers_are_needed_and_named_once() {
        wrong(json!({}), &["spec.containers: Required value"]);
        wrong(
            json!({"containers": [{"name": "c"}]}),
            &["spec.containers[0].image: Required value"],
        );
        wrong(
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
            &["spec.containers[1].name: Duplicate value: \"c\""],
        );
        wrong(
            json!({"containers": [{"name": "C_", "image": "i", "ports": [{"containerPort": 99999}]}]}),
            &[
                "spec.containers[0].name: Invalid value: \"C_\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.containers[0].ports[0].containerPort: Invalid value: 99999: must be between 1 and 65535, inclusive",
            ],
        );
    }

    #[test]
    fn policies_are_from_closed_lists() {
        wrong(
            with("restartPolicy", json!("Sometimes")),
            &[
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
            ],
        );
        wrong(
            with("tolerations", json!([{"key": "a", "operator": "Exists", "value": "b"}])),
            &[
                "spec.tolerations[0].operator: Invalid value: {\"key\":\"a\",\"operator\":\"Exists\",\"value\":\"b\"}: value must be empty when `operator` is 'Exists'",
            ],
        );
        wrong(with("tolerations", json!([{"operator": "Exists"}])), &[]);
    }

    #[test]
    fn requests_stay_below_limits() {
        let container = json!([{"name": "c", "image": "i", "resources": {
            "limits": {"memory": "1Mi"}, "requests": {"memory": "2Mi"}}}]);
        wrong(
            with("containers", container),
            &[
                "spec.containers[0].resources.requests: Invalid value: \"2Mi\": must be less than or equal to memory limit of 1Mi",
            ],
        );
    }

    #[test]
    fn a_pod_has_no_more_mounts_than_a_device_opens() {
        let container = |name: &str, mounts: usize| {
            let at = |n: usize| json!({"name": "v", "mountPath": format!("/{n}"), "subPath": "f"});
            let mounts: Vec<Value> = (0..mounts).map(at).collect();
            json!({"name": name, "image": "i", "volumeMounts": mounts})
        };
        let pod = |more: usize| {
            let mut pod = with("volumes", json!([{"name": "v", "emptyDir": {}}]));
            pod["containers"] = json!([container("a", 100), container("b", more)]);
            pod
        };
        wrong(pod(28), &[]);
        let text = "spec.containers[*].volumeMounts: Too many: 129: must have at most 128 items";
        wrong(pod(29), &[text]);
    }

    #[test]
    fn mounts_name_volumes_that_are_there() {
        let container = json!([{"name": "c", "image": "i", "volumeMounts": [{"name": "v", "mountPath": "/x"}]}]);
        wrong(
            with("containers", container),
            &["spec.containers[0].volumeMounts[0].name: Not found: \"v\""],
        );
        let twice = json!([{"name": "v"}, {"name": "v"}]);
        wrong(with("volumes", twice), &["spec.volumes[1].name: Duplicate value: \"v\""]);
        let foreign = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        wrong(with("volumes", foreign), &[]);
        let both = json!([{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]);
        wrong(
            with("volumes", both),
            &["spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
        );
    }

    #[test]
    fn environment_is_checked() {
        let container = |env: Value| json!([{"name": "c", "image": "i", "env": env}]);
        wrong(
            with("containers", container(json!([{"name": "A=B", "value": "x"}]))),
            &[
                "spec.containers[0].env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        );
        wrong(
            with(
                "containers",
                container(
                    json!([{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]),
                ),
            ),
            &[
                "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        );
        wrong(
            with(
                "containers",
                container(
                    json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.x"}}}]),
                ),
            ),
            &[
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"spec.x\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            ],
        );
    }

    #[test]
    fn probes_have_one_handler() {
        let container = |probe: Value| json!([{"name": "c", "image": "i", "livenessProbe": probe}]);
        wrong(
            with("containers", container(json!({"periodSeconds": 5}))),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        );
        wrong(
            with(
                "containers",
                container(json!({"tcpSocket": {"port": 80}, "successThreshold": 2})),
            ),
            &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        );
        let grace = json!({"tcpSocket": {"port": 80}, "terminationGracePeriodSeconds": 0});
        wrong(
            with("containers", container(grace)),
            &[
                "spec.containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0",
            ],
        );
        let readiness = json!({"tcpSocket": {"port": 80}, "terminationGracePeriodSeconds": 5});
        wrong(
            with("containers", json!([{"name": "c", "image": "i", "readinessProbe": readiness}])),
            &[
                "spec.containers[0].readinessProbe.terminationGracePeriodSeconds: Invalid value: 5: must not be set for readinessProbes",
            ],
        );
    }

    #[test]
    fn names_inside_of_lists_are_checked() {
        wrong(with("schedulingGates", json!([{"name": "a/b"}])), &[]);
        let gates = json!([{"name": "foo-"}, {"name": "ok"}, {"name": "ok"}]);
        wrong(
            with("schedulingGates", gates),
            &[
                "spec.schedulingGates[0]: Invalid value: \"foo-\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
                "spec.schedulingGates[2]: Duplicate value: \"ok\"",
            ],
        );
        let aliases = json!([{"ip": "10.0.0.1", "hostnames": ["a.b"]}, {"ip": "here", "hostnames": ["a..b"]}]);
        let fields = |key: &str, value: Value| -> Vec<String> {
            check(&with(key, value), "spec").into_iter().map(|e| e.field).collect()
        };
        let of_list = |key: &str, value: Value| -> Vec<String> {
            fields(key, value)
                .into_iter()
                .filter(|f| f.starts_with(&format!("spec.{key}")))
                .collect()
        };
        assert_eq!(
            of_list("hostAliases", aliases),
            ["spec.hostAliases[1].ip", "spec.hostAliases[1].hostnames[0]"]
        );
        let sysctls = json!({"sysctls": [
            {"name": "net.ipv4/tcp_syncookies"}, {"name": "foo-"}, {"name": "bar.."}, {}, {"name": "Net"},
        ]});
        let at = |i: usize| format!("spec.securityContext.sysctls[{i}].name");
        assert_eq!(of_list("securityContext", sysctls), [at(1), at(2), at(3), at(4)]);
    }

    #[test]
    fn what_no_spoke_can_do_is_refused() {
        let claims = with("resourceClaims", json!([{"name": "gpu"}]));
        wrong(
            claims,
            &[
                "spec.resourceClaims: Forbidden: devices are not claimed; grant host interfaces instead",
            ],
        );
    }
}
