//! The class of every field: *works*, *kept* with a Warning, or *refused* with a reason.
//!
//! To change a class, change the one word in front of the field.
//!
//! Guarantees:
//! - every field has a class (`every_field_of_the_schema_has_one_class`);
//! - a field that is kept says so to whoever sets it (`a_kept_field_warns_when_it_asks_for_something`);
//! - one that is refused never reaches the store (`a_refused_field_is_an_error_even_when_it_is_empty`).

use freewheel_hub_schema::error::FieldError;
use serde_json::Value;

/// Why a container that comes to a pod which runs is not started.
pub(super) const NO_MORE_CONTAINERS: &str = "spokes start no further containers in a pod that runs";

/// One field and what becomes of it.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its class.
    pub class: Class,
    /// A value that asks for nothing, beside empty ones: its default.
    usual: &'static [&'static str],
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Does what Kubernetes says.
    Works,
    /// Stored and given back, without effect; the text says why.
    Kept(&'static str),
    /// Not taken; the text says why.
    Refused(&'static str),
}

const fn works(name: &'static str) -> Field {
    Field { name, class: Class::Works, usual: &[] }
}

const fn kept(name: &'static str, why: &'static str) -> Field {
    Field { name, class: Class::Kept(why), usual: &[] }
}

const fn refused(name: &'static str, why: &'static str) -> Field {
    Field { name, class: Class::Refused(why), usual: &[] }
}

impl Field {
    const fn unless(mut self, usual: &'static [&'static str]) -> Self {
        self.usual = usual;
        self
    }
}

const NO_KERNEL: &str = "containers are Wasm modules without a host process of their own";
const NO_USERS: &str = "a Wasm module has no user, no capabilities and no system calls; it sees only what the pod spec grants";
const OWN_NETWORK: &str = "every pod keeps its own address in the user-space network";
const NO_PREEMPTION: &str = "the scheduler does not pre-empt";
const PRIORITY: &str = "it orders who is scheduled first and who is evicted first, and nothing that runs is pre-empted for it";
const NOT_SCHEDULED_BY: &str =
    "the scheduler goes by resources, nodeSelector, nodeAffinity, taints and even spreading";
const NO_TERMINAL: &str = "guests have no terminal";
const NO_SUCH_VOLUME: &str = "spokes have emptyDir, configMap, secret, projected and downwardAPI; a pod with it is not started";
const NOT_PROBED: &str = "spokes do not probe so; the container counts as if it had no such probe";
const HOOKS: &str = "the spoke does not run hooks yet";

/// PodSpec.
pub const POD: &[Field] = &[
    works("activeDeadlineSeconds"),
    works("affinity"),
    works("automountServiceAccountToken"),
    works("containers"),
    kept("dnsConfig", "names are resolved by the spoke itself"),
    kept("dnsPolicy", "names are resolved by the spoke itself").unless(&[
        "ClusterFirst",
        "ClusterFirstWithHostNet",
        "Default",
    ]),
    works("enableServiceLinks"),
    kept("ephemeralContainers", NO_MORE_CONTAINERS),
    works("hostAliases"),
    kept("hostIPC", NO_KERNEL),
    kept("hostNetwork", OWN_NETWORK),
    kept("hostPID", NO_KERNEL),
    kept("hostUsers", NO_USERS).unless(&["true"]),
    works("hostname"),
    kept("hostnameOverride", "a pod is called by its name or its hostname"),
    kept("imagePullSecrets", "modules come from the hub's own registry alone"),
    works("initContainers"),
    works("nodeName"),
    works("nodeSelector"),
    works("os"),
    works("overhead"),
    kept("preemptionPolicy", NO_PREEMPTION).unless(&["PreemptLowerPriority"]),
    kept("priority", PRIORITY).unless(&["0"]),
    kept("priorityClassName", PRIORITY),
    kept("readinessGates", "readiness follows from the containers alone"),
    refused("resourceClaims", "devices are not claimed; grant host interfaces instead"),
    kept("resources", "resources are counted per container"),
    works("restartPolicy"),
    kept("runtimeClassName", "there is one runtime; of its class, overhead and scheduling count"),
    works("schedulerName"),
    works("schedulingGates"),
    kept("schedulingGroup", "pods are scheduled one by one"),
    kept("securityContext", NO_USERS),
    works("serviceAccount"),
    works("serviceAccountName"),
    kept("setHostnameAsFQDN", "a pod is called by its name or its hostname"),
    kept("shareProcessNamespace", NO_KERNEL),
    works("subdomain"),
    works("terminationGracePeriodSeconds"),
    works("tolerations"),
    kept("topologySpreadConstraints", NOT_SCHEDULED_BY),
    works("volumes"),
];

/// Container, also as init container.
pub const CONTAINER: &[Field] = &[
    works("args"),
    works("command"),
    works("env"),
    works("envFrom"),
    works("image"),
    kept("imagePullPolicy", "the hub resolves tags, and a spoke keeps what it fetched")
        .unless(&["Always", "IfNotPresent"]),
    kept("lifecycle", HOOKS),
    works("livenessProbe"),
    works("name"),
    works("ports"),
    works("readinessProbe"),
    kept("resizePolicy", "a running container keeps its limits"),
    works("resources"),
    works("restartPolicy"),
    kept("restartPolicyRules", "the pod's restartPolicy decides alone"),
    kept("securityContext", NO_USERS),
    works("startupProbe"),
    kept("stdin", NO_TERMINAL),
    kept("stdinOnce", NO_TERMINAL),
    kept("terminationMessagePath", "an exit is told by its code and its log")
        .unless(&["/dev/termination-log"]),
    kept("terminationMessagePolicy", "an exit is told by its code and its log").unless(&["File"]),
    kept("tty", NO_TERMINAL),
    refused("volumeDevices", "there are no block devices"),
    works("volumeMounts"),
    kept("workingDir", "guests start at the root of their mounts"),
];

/// Probe.
pub const PROBE: &[Field] = &[
    works("exec"),
    works("failureThreshold"),
    kept("grpc", NOT_PROBED),
    works("httpGet"),
    works("initialDelaySeconds"),
    works("periodSeconds"),
    works("successThreshold"),
    works("tcpSocket"),
    works("terminationGracePeriodSeconds"),
    works("timeoutSeconds"),
];

/// HTTPGetAction of a probe.
pub const PROBE_HTTP: &[Field] = &[
    kept("host", NOT_PROBED),
    works("httpHeaders"),
    works("path"),
    works("port"),
    kept("scheme", NOT_PROBED).unless(&["HTTP"]),
];

/// TCPSocketAction of a probe.
pub const PROBE_TCP: &[Field] = &[kept("host", NOT_PROBED), works("port")];

/// ContainerPort.
pub const PORT: &[Field] = &[
    works("containerPort"),
    kept("hostIP", "host ports are opened at the node's address"),
    works("hostPort"),
    works("name"),
    works("protocol"),
];

/// VolumeMount.
pub const MOUNT: &[Field] = &[
    works("mountPath"),
    kept("mountPropagation", NO_KERNEL),
    works("name"),
    works("readOnly"),
    kept("recursiveReadOnly", NO_KERNEL),
    works("subPath"),
    refused("subPathExpr", "use subPath; variables are not expanded in paths"),
];

/// EnvVarSource.
pub const ENV_SOURCE: &[Field] = &[
    works("configMapKeyRef"),
    works("fieldRef"),
    refused("fileKeyRef", "use configMapKeyRef or secretKeyRef"),
    works("resourceFieldRef"),
    works("secretKeyRef"),
];

/// Volume: all but its name are sources.
pub const VOLUME: &[Field] = &[
    kept("awsElasticBlockStore", NO_SUCH_VOLUME),
    kept("azureDisk", NO_SUCH_VOLUME),
    kept("azureFile", NO_SUCH_VOLUME),
    kept("cephfs", NO_SUCH_VOLUME),
    kept("cinder", NO_SUCH_VOLUME),
    works("configMap"),
    kept("csi", NO_SUCH_VOLUME),
    works("downwardAPI"),
    works("emptyDir"),
    kept("ephemeral", NO_SUCH_VOLUME),
    kept("fc", NO_SUCH_VOLUME),
    kept("flexVolume", NO_SUCH_VOLUME),
    kept("flocker", NO_SUCH_VOLUME),
    kept("gcePersistentDisk", NO_SUCH_VOLUME),
    kept("gitRepo", NO_SUCH_VOLUME),
    kept("glusterfs", NO_SUCH_VOLUME),
    kept("hostPath", NO_SUCH_VOLUME),
    kept("image", NO_SUCH_VOLUME),
    kept("iscsi", NO_SUCH_VOLUME),
    works("name"),
    kept("nfs", NO_SUCH_VOLUME),
    kept("persistentVolumeClaim", NO_SUCH_VOLUME),
    kept("photonPersistentDisk", NO_SUCH_VOLUME),
    kept("portworxVolume", NO_SUCH_VOLUME),
    works("projected"),
    kept("quobyte", NO_SUCH_VOLUME),
    kept("rbd", NO_SUCH_VOLUME),
    kept("scaleIO", NO_SUCH_VOLUME),
    works("secret"),
    kept("storageos", NO_SUCH_VOLUME),
    kept("vsphereVolume", NO_SUCH_VOLUME),
];

const NO_PROJECTION: &str = "use configMap, secret, downwardAPI and serviceAccountToken sources";

/// VolumeProjection: one source of a projected volume.
pub const PROJECTION: &[Field] = &[
    refused("clusterTrustBundle", NO_PROJECTION),
    works("configMap"),
    works("downwardAPI"),
    refused("podCertificate", NO_PROJECTION),
    works("secret"),
    works("serviceAccountToken"),
];

/// DownwardAPIVolumeFile.
pub const DOWNWARD: &[Field] =
    &[works("fieldRef"), works("mode"), works("path"), works("resourceFieldRef")];

/// DownwardAPIVolumeSource.
pub const DOWNWARD_VOLUME: &[Field] = &[works("defaultMode"), works("items")];

/// EmptyDirVolumeSource.
pub const EMPTY_DIR: &[Field] =
    &[kept("medium", "directories are on the spoke's disk"), works("sizeLimit")];

/// Affinity.
pub const AFFINITY: &[Field] = &[
    works("nodeAffinity"),
    kept("podAffinity", NOT_SCHEDULED_BY),
    kept("podAntiAffinity", NOT_SCHEDULED_BY),
];

/// Toleration.
pub const TOLERATION: &[Field] =
    &[works("effect"), works("key"), works("operator"), works("tolerationSeconds"), works("value")];

const OUTSIDE: &str = "addresses outside of the cluster are not announced; use a NodePort";

/// ServiceSpec.
pub const SERVICE: &[Field] = &[
    kept("allocateLoadBalancerNodePorts", OUTSIDE).unless(&["true", "false"]),
    works("clusterIP"),
    works("clusterIPs"),
    kept("externalIPs", OUTSIDE),
    works("externalName"),
    kept("externalTrafficPolicy", "connections are spread over all pods").unless(&["Cluster"]),
    kept("healthCheckNodePort", OUTSIDE),
    kept("internalTrafficPolicy", "connections are spread over all pods").unless(&["Cluster"]),
    works("ipFamilies"),
    kept("ipFamilyPolicy", "the pod network is IPv4").unless(&["SingleStack", "PreferDualStack"]),
    kept("loadBalancerClass", OUTSIDE),
    kept("loadBalancerIP", OUTSIDE),
    kept("loadBalancerSourceRanges", OUTSIDE),
    works("ports"),
    works("publishNotReadyAddresses"),
    works("selector"),
    works("sessionAffinity"),
    works("sessionAffinityConfig"),
    kept("trafficDistribution", "connections are spread over all pods"),
    works("type"),
];

/// A Warning for every kept field that asks for something.
#[must_use]
pub fn warnings(table: &[Field], value: &Value, path: &str) -> Vec<String> {
    set_fields(table, value)
        .filter_map(|field| match field.class {
            Class::Kept(why) => Some(format!("{path}.{}: kept without effect: {why}", field.name)),
            Class::Works | Class::Refused(_) => None,
        })
        .collect()
}

/// An error for every refused field that asks for something.
#[must_use]
pub fn refusals(table: &[Field], value: &Value, path: &str) -> Vec<FieldError> {
    set_fields(table, value)
        .filter_map(|field| match field.class {
            Class::Refused(why) => {
                Some(FieldError::forbidden(format!("{path}.{}", field.name), why))
            }
            Class::Works | Class::Kept(_) => None,
        })
        .collect()
}

fn set_fields<'a>(table: &'a [Field], value: &'a Value) -> impl Iterator<Item = &'a Field> {
    table.iter().filter(|field| {
        value.get(field.name).is_some_and(|value| match value {
            Value::Null => false,
            Value::Array(items) => !items.is_empty(),
            // An empty source still names its volume: only maps of settings ask for nothing.
            Value::Object(map) => !map.is_empty() || matches!(field.class, Class::Refused(_)),
            Value::String(text) => !text.is_empty() && !field.usual.contains(&text.as_str()),
            Value::Bool(flag) if field.usual.is_empty() => *flag,
            other => !field.usual.contains(&other.to_string().as_str()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use freewheel_hub_schema::types::table::table;
    use serde_json::json;

    /// All of a ServicePort works.
    const SERVICE_PORT: &[Field] = &[
        works("appProtocol"),
        works("name"),
        works("nodePort"),
        works("port"),
        works("protocol"),
        works("targetPort"),
    ];

    /// Every table with the type of core/v1 that it covers.
    const TABLES: &[(&str, &[Field])] = &[
        ("Affinity", AFFINITY),
        ("DownwardAPIVolumeFile", DOWNWARD),
        ("DownwardAPIVolumeSource", DOWNWARD_VOLUME),
        ("EmptyDirVolumeSource", EMPTY_DIR),
        ("ServicePort", SERVICE_PORT),
        ("VolumeProjection", PROJECTION),
        ("PodSpec", POD),
        ("Container", CONTAINER),
        ("Toleration", TOLERATION),
        ("Probe", PROBE),
        ("HTTPGetAction", PROBE_HTTP),
        ("TCPSocketAction", PROBE_TCP),
        ("ContainerPort", PORT),
        ("VolumeMount", MOUNT),
        ("EnvVarSource", ENV_SOURCE),
        ("Volume", VOLUME),
        ("ServiceSpec", SERVICE),
    ];

    #[test]
    fn every_field_of_the_schema_has_one_class() {
        for (name, fields) in TABLES {
            let full = format!("io.k8s.api.core.v1.{name}");
            let known = table().by_name(&full).unwrap_or_else(|| panic!("no {full}"));
            let schema: Vec<&str> = known.fields.iter().map(|field| &*field.name).collect();
            let classed: Vec<&str> = fields.iter().map(|field| field.name).collect();
            assert_eq!(classed, schema, "{name}");
        }
    }

    #[test]
    fn a_kept_field_warns_when_it_asks_for_something() {
        let quiet = json!({
            "securityContext": {}, "dnsPolicy": "ClusterFirst", "priority": 0, "hostNetwork": false,
            "preemptionPolicy": "PreemptLowerPriority", "restartPolicy": "Always",
        });
        assert_eq!(warnings(POD, &quiet, "spec"), Vec::<String>::new());
        let evicted =
            json!({"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        assert_eq!(warnings(TOLERATION, &evicted, "t"), Vec::<String>::new());
        let loud =
            json!({"securityContext": {"runAsUser": 1000}, "hostNetwork": true, "priority": 5});
        let fields: Vec<_> = warnings(POD, &loud, "spec")
            .into_iter()
            .map(|text| text.split(':').next().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(fields, ["spec.hostNetwork", "spec.priority", "spec.securityContext"]);
    }

    #[test]
    fn what_the_spoke_honours_does_not_warn() {
        let spec = json!({"enableServiceLinks": false, "schedulingGates": [{"name": "a/b"}]});
        assert_eq!(warnings(POD, &spec, "spec"), Vec::<String>::new());
        let modes = json!({"defaultMode": 256, "items": [{"path": "a", "mode": 256}]});
        assert_eq!(warnings(DOWNWARD_VOLUME, &modes, "v"), Vec::<String>::new());
        assert_eq!(warnings(DOWNWARD, &modes["items"][0], "v"), Vec::<String>::new());
        let get = json!({"port": 80, "path": "/", "scheme": "HTTP"});
        assert_eq!(warnings(PROBE_HTTP, &get, "p"), Vec::<String>::new());
        let probe = json!({"httpGet": get, "periodSeconds": 1, "failureThreshold": 3});
        assert_eq!(warnings(PROBE, &probe, "p"), Vec::<String>::new());
    }

    #[test]
    fn a_refused_field_is_an_error_even_when_it_is_empty() {
        let from = json!({"fileKeyRef": {}});
        assert_eq!(
            refusals(ENV_SOURCE, &from, "env[0].valueFrom")[0].field,
            "env[0].valueFrom.fileKeyRef"
        );
        assert_eq!(refusals(POD, &json!({"resourceClaims": []}), "spec"), []);
    }
}
