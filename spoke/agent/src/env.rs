//! What a container finds in its environment, resolved on the spoke: configuration, the pod's own fields, and
//! the Services of its namespace, with `$(NAME)` filled in.
//!
//! Guarantees:
//! - no environment and no arguments grow beyond [`ENV_BYTES_MAX`], however often values name each other or come again
//!   (`values_that_name_each_other_do_not_grow_without_end`);
//! - they are made in a time that goes with their size, as the agent does nothing else meanwhile
//!   (`an_environment_of_many_keys_is_made_at_once`), and without a look at the endpoints of Services
//!   (`of_a_service_no_more_is_read_than_its_containers_are_told`).

use std::collections::HashMap;
use std::net::IpAddr;

use freewheel_link::plan::{
    ConfigV1, ContainerV1, EnvSourceV1, Kind, PodV1, Protocol, ServicePortV1, StorageV1,
};
use serde::Deserialize;

use crate::configs::Configs;

/// Bytes of a container's environment, and of its arguments: more than any kernel gives to a process. Each variable
/// may name others twice, so ten short ones could be gigabytes.
pub const ENV_BYTES_MAX: usize = 8 << 20;

/// Everything that values are taken from.
pub struct EnvSources<'a> {
    /// The pod's record.
    pub pod: &'a PodV1,
    /// Its address.
    pub ip: IpAddr,
    /// The node's own address.
    pub host_ip: IpAddr,
    /// What the node has, for containers without limits.
    pub allocatable: Allocatable,
    /// What the pod's containers say of the disk.
    pub storage: &'a [StorageV1],
    /// A ConfigMap or Secret of the pod's namespace.
    pub config: &'a dyn Fn(Kind, &str) -> Option<ConfigV1>,
    /// Services of its namespace, and `default/kubernetes`: read when a container starts, and for nothing else.
    pub services: &'a dyn Fn() -> Vec<LinkedServiceV1>,
}

/// What a container is told of a Service: the beginning of a [`ServiceV1`](freewheel_link::plan::ServiceV1), without its
/// endpoints, which may be thousands.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LinkedServiceV1 {
    /// metadata.namespace
    pub namespace: String,
    /// metadata.name
    pub name: String,
    /// spec.clusterIP; `None`: headless or ExternalName.
    pub cluster_ip: Option<IpAddr>,
    /// spec.externalName, for type ExternalName.
    pub external_name: Option<String>,
    /// spec.ports
    pub ports: Vec<ServicePortV1>,
}

/// What the guests of the node have together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocatable {
    /// Bytes.
    pub memory: u64,
    /// Thousandths of a core.
    pub cpu_milli: u32,
    /// Bytes of the disk.
    pub storage: u64,
}

/// The environment of one container, in the order of its declaration.
///
/// # Errors
/// With kubelet's text when something that is not optional is missing.
pub fn environment(
    container: &ContainerV1,
    around: &EnvSources<'_>,
) -> Result<Vec<(String, String)>, String> {
    let services = service_variables(around);
    let mut linked = HashMap::new();
    for (name, value) in &services {
        linked.entry(name.as_str()).or_insert(value.as_str());
    }
    let configs = Configs::new(around.config);
    let mut out = Variables::default();
    out.set("HOSTNAME", around.pod.hostname.clone())?;
    for from in &container.env_from {
        match configs.get(from.kind, &from.name) {
            Some(config) => {
                for (key, value) in config.iter() {
                    let name = format!("{}{key}", from.prefix);
                    out.set(&name, String::from_utf8_lossy(value).into_owned())?;
                }
            }
            None if from.optional => {}
            None => return Err(not_found(from.kind, &from.name)),
        }
    }
    for variable in &container.env {
        let value = match &variable.source {
            EnvSourceV1::Value(text) => {
                let known = |name: &str| out.get(name).or_else(|| linked.get(name).copied());
                Some(expand(text, known, ENV_BYTES_MAX).ok_or_else(too_large)?)
            }
            EnvSourceV1::Key { kind, name, key, optional } => {
                key_value(around, &configs, (*kind, name, key), *optional)?
            }
            EnvSourceV1::Field(path) => Some(field(around, path)?),
            EnvSourceV1::Resource(of, what, divisor) => {
                let of = if of.is_empty() { &container.name } else { of };
                Some(resource(around, of, what, divisor)?)
            }
        };
        if let Some(value) = value {
            out.set(&variable.name, value)?;
        }
    }
    for (name, value) in services {
        if out.get(&name).is_none() {
            out.set(&name, value)?;
        }
    }
    Ok(out.list)
}

fn too_large() -> String {
    format!(
        "the container's environment and arguments may have {ENV_BYTES_MAX} bytes each, and are larger"
    )
}

/// `command` and `args` with `$(NAME)` filled in from the container's environment.
///
/// # Errors
/// When they are too large.
pub fn arguments(container: &ContainerV1, env: &[(String, String)]) -> Result<Vec<String>, String> {
    if container.args.is_empty() {
        let path = container.image.split('@').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        return Ok(vec![last.split(':').next().unwrap_or_default().to_owned()]);
    }
    let known: HashMap<&str, &str> =
        env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut left = ENV_BYTES_MAX;
    let mut out = Vec::with_capacity(container.args.len());
    for text in &container.args {
        let text = expand(text, |name| known.get(name).copied(), left).ok_or_else(too_large)?;
        left -= text.len();
        out.push(text);
    }
    Ok(out)
}

#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
    /// All that was ever put in, also what something later took the place of: it is work all the same.
    bytes: usize,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.list.get(*self.index.get(name)?)?;
        Some(value)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        self.bytes += name.len() + value.len();
        match self.index.get(name).and_then(|at| self.list.get_mut(*at)) {
            Some((_, old)) => *old = value,
            None => {
                self.index.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
        if ENV_BYTES_MAX < self.bytes { Err(too_large()) } else { Ok(()) }
    }
}

fn find<'a>(list: &'a [(String, String)], name: &str) -> Option<&'a str> {
    list.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
}

/// The hub signs them once the account is there.
const NO_TOKEN: &str = "the token of the pod's service account has not come yet";

/// kubelet's text for configuration that is not there.
#[must_use]
pub fn not_found(kind: Kind, name: &str) -> String {
    if kind == Kind::POD_TOKENS_V1 {
        return NO_TOKEN.to_owned();
    }
    let what = if kind == Kind::SECRET_V1 { "secret" } else { "configmap" };
    format!("{what} {name:?} not found")
}

fn key_value(
    around: &EnvSources<'_>,
    configs: &Configs<'_>,
    (kind, name, key): (Kind, &str, &str),
    optional: bool,
) -> Result<Option<String>, String> {
    let Some(config) = configs.get(kind, name) else {
        return if optional { Ok(None) } else { Err(not_found(kind, name)) };
    };
    match config.value(key) {
        Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
        None if optional => Ok(None),
        None => {
            let what = if kind == Kind::SECRET_V1 { "Secret" } else { "ConfigMap" };
            Err(format!("couldn't find key {key} in {what} {}/{name}", around.pod.namespace))
        }
    }
}

/// A field of the pod as the downward API spells it.
///
/// # Errors
/// When there is no such field.
pub fn field(around: &EnvSources<'_>, path: &str) -> Result<String, String> {
    let pod = around.pod;
    if let Some(key) = subscript(path, "metadata.labels") {
        return Ok(find(&pod.labels, key).unwrap_or_default().to_owned());
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return Ok(find(&pod.annotations, key).unwrap_or_default().to_owned());
    }
    Ok(match path {
        "metadata.name" => pod.name.clone(),
        "metadata.namespace" => pod.namespace.clone(),
        "metadata.uid" => pod.uid.clone(),
        "metadata.labels" => lines(&pod.labels),
        "metadata.annotations" => lines(&pod.annotations),
        "spec.nodeName" => pod.node.clone(),
        "spec.serviceAccountName" => pod.service_account.clone(),
        "status.hostIP" | "status.hostIPs" => around.host_ip.to_string(),
        "status.podIP" | "status.podIPs" => around.ip.to_string(),
        other => return Err(format!("unsupported fieldPath: {other}")),
    })
}

fn subscript<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']")
}

/// All labels or annotations in one file, as the downward API formats them.
fn lines(list: &[(String, String)]) -> String {
    list.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
}

/// What a container requests or may use, as the downward API spells it.
///
/// # Errors
/// When there is no such container or resource.
pub fn resource(
    around: &EnvSources<'_>,
    of: &str,
    resource: &str,
    divisor: &str,
) -> Result<String, String> {
    let mut all = around.pod.init.iter().chain(&around.pod.containers);
    let container =
        all.find(|c| c.name == of).ok_or_else(|| format!("container {of} not found"))?;
    let memory_limit = container.memory_limit.unwrap_or(around.allocatable.memory);
    let cpu_limit = container.cpu_limit_milli.unwrap_or(around.allocatable.cpu_milli);
    let disk = around.storage.iter().find(|one| one.container == container.name);
    let disk_limit = disk.and_then(|one| one.limit).unwrap_or(around.allocatable.storage);
    let disk_request = disk.and_then(|one| one.request).unwrap_or(0);
    // In thousandths, as the smallest divisor is 1m.
    let thousandths = match resource {
        "limits.memory" => u128::from(memory_limit) * 1000,
        "requests.memory" => u128::from(container.requests.0.unwrap_or(0)) * 1000,
        "limits.cpu" => u128::from(cpu_limit),
        "requests.cpu" => u128::from(container.requests.1.unwrap_or(0)),
        "limits.ephemeral-storage" => u128::from(disk_limit) * 1000,
        "requests.ephemeral-storage" => u128::from(disk_request) * 1000,
        other => return Err(format!("unsupported container resource: {other}")),
    };
    let unit = divisor_thousandths(divisor).ok_or_else(|| format!("bad divisor {divisor:?}"))?;
    Ok(thousandths.div_ceil(unit).to_string())
}

/// The divisors that Kubernetes allows.
fn divisor_thousandths(divisor: &str) -> Option<u128> {
    let power = |base: u128, exponent: u32| 1000 * base.pow(exponent);
    Some(match divisor {
        "1m" => 1,
        "" | "0" | "1" => 1000,
        "1k" => power(1000, 1),
        "1M" => power(1000, 2),
        "1G" => power(1000, 3),
        "1T" => power(1000, 4),
        "1P" => power(1000, 5),
        "1E" => power(1000, 6),
        "1Ki" => power(1024, 1),
        "1Mi" => power(1024, 2),
        "1Gi" => power(1024, 3),
        "1Ti" => power(1024, 4),
        "1Pi" => power(1024, 5),
        "1Ei" => power(1024, 6),
        _ => return None,
    })
}

/// `$(NAME)` becomes the value, `$$` a dollar; an unknown name stays as it is written. None: it would be more than
/// `most` bytes.
fn expand<'a>(text: &str, value: impl Fn(&str) -> Option<&'a str>, most: usize) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    // Behind the last one no name ends: it is not looked for at each `$(` anew.
    let last = text.rfind(')').map_or(0, |at| text.len() - at);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let after = &from[1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .filter(|inner| last != 0 && last <= inner.len())
            .and_then(|inner| inner.split_once(')'))
        {
            match value(name) {
                Some(found) if most < out.len() + found.len() => return None,
                Some(found) => out.push_str(found),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    (out.len() <= most).then_some(out)
}

/// `<NAME>_SERVICE_HOST` and its kin, as kubelet and docker links spell them.
fn service_variables(around: &EnvSources<'_>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in (around.services)() {
        let api = service.namespace == "default" && service.name == "kubernetes";
        let linked = around.pod.service_links && service.namespace == around.pod.namespace;
        let (Some(ip), Some(first)) = (service.cluster_ip, service.ports.first()) else { continue };
        if !api && !linked {
            continue;
        }
        let name = service.name.to_uppercase().replace('-', "_");
        let mut set = |key: String, value: String| out.push((format!("{name}_{key}"), value));
        set("SERVICE_HOST".to_owned(), ip.to_string());
        set("SERVICE_PORT".to_owned(), first.port.to_string());
        for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
            let port_name = port.name.to_uppercase().replace('-', "_");
            set(format!("SERVICE_PORT_{port_name}"), port.port.to_string());
        }
        for (index, port) in service.ports.iter().enumerate() {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            let url = format!("{protocol}://{ip}:{}", port.port);
            if index == 0 {
                set("PORT".to_owned(), url.clone());
            }
            let prefix = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
            set(prefix.clone(), url);
            set(format!("{prefix}_PROTO"), protocol.to_owned());
            set(format!("{prefix}_PORT"), port.port.to_string());
            set(format!("{prefix}_ADDR"), ip.to_string());
        }
    }
    out
}

#[cfg(test)]
mod tests;
