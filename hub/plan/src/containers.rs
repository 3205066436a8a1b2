//! Container → `ContainerV1`, with its image resolved.

use freewheel_link::plan::{
    ContainerPortV1, ContainerV1, EnvFromV1, EnvSourceV1, EnvV1, HttpV1, Kind, ModuleV1, MountV1,
    Protocol,
};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvFromSource, EnvVar, EnvVarSource, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::Fault;
use super::amount::{milli, whole};
use freewheel_hub_api::images::{ImageProblem, Resolved};

pub(super) fn container(
    from: &Container,
    init: bool,
    http: HttpV1,
    resolve: &dyn Fn(&str) -> Result<Resolved, ImageProblem>,
) -> Result<ContainerV1, Fault> {
    let image = from.image.clone().unwrap_or_default();
    let module = match resolve(&image) {
        Ok(found) => ModuleV1::Component(found.component),
        Err(problem) => ModuleV1::Missing(problem.reason.to_owned(), problem.message),
    };
    let resources = from.resources.clone().unwrap_or_default();
    let limits = resources.limits.unwrap_or_default();
    let requests = resources.requests.unwrap_or_default();
    Ok(ContainerV1 {
        name: from.name.clone(),
        args: args(from, &image),
        module,
        env_from: from.env_from.iter().flatten().filter_map(env_from).collect(),
        env: from.env.iter().flatten().map(env).collect::<Result<Vec<_>, Fault>>()?,
        ports: from.ports.iter().flatten().map(port).collect::<Result<Vec<_>, Fault>>()?,
        mounts: from
            .volume_mounts
            .iter()
            .flatten()
            .map(mount)
            .collect::<Result<Vec<_>, Fault>>()?,
        // As the kernel has it, a limit of zero is none.
        memory_limit: amount(&from.name, "memory", limits.get("memory"), whole)?
            .filter(|it| *it != 0),
        cpu_limit_milli: amount(&from.name, "cpu", limits.get("cpu"), milli)?.filter(|it| *it != 0),
        requests: (
            amount(&from.name, "memory", requests.get("memory"), whole)?,
            amount(&from.name, "cpu", requests.get("cpu"), milli)?,
        ),
        sidecar: init && from.restart_policy.as_deref() == Some("Always"),
        working_dir: from.working_dir.clone().unwrap_or_default(),
        http,
        image,
    })
}

/// argv: `command` replaces the image's own name, which `args` alone follow.
fn args(from: &Container, image: &str) -> Vec<String> {
    let mut out = from.command.clone().unwrap_or_default();
    let args = from.args.as_deref().unwrap_or_default();
    if out.is_empty() && !args.is_empty() {
        let path = image.split('@').next().unwrap_or_default();
        let last = path.rsplit('/').next().unwrap_or_default();
        out.push(last.split(':').next().unwrap_or_default().to_owned());
    }
    out.extend_from_slice(args);
    out
}

fn amount<T>(
    container: &str,
    what: &str,
    quantity: Option<&Quantity>,
    read: fn(&str) -> Option<T>,
) -> Result<Option<T>, Fault> {
    let Some(Quantity(raw)) = quantity else { return Ok(None) };
    match read(raw) {
        Some(value) => Ok(Some(value)),
        None => Err(Fault::invalid(format!("container {container:?}: {what} {raw:?}"))),
    }
}

fn env_from(from: &EnvFromSource) -> Option<EnvFromV1> {
    let (kind, name, optional) = if let Some(map) = &from.config_map_ref {
        (Kind::CONFIG_MAP_V1, &map.name, map.optional)
    } else if let Some(secret) = &from.secret_ref {
        (Kind::SECRET_V1, &secret.name, secret.optional)
    } else {
        return None;
    };
    Some(EnvFromV1 {
        kind,
        name: name.clone(),
        prefix: from.prefix.clone().unwrap_or_default(),
        optional: optional.unwrap_or_default(),
    })
}

fn env(from: &EnvVar) -> Result<EnvV1, Fault> {
    let source = match &from.value_from {
        Some(source) => env_source(&from.name, source)?,
        None => EnvSourceV1::Value(from.value.clone().unwrap_or_default()),
    };
    Ok(EnvV1 { name: from.name.clone(), source })
}

fn env_source(variable: &str, from: &EnvVarSource) -> Result<EnvSourceV1, Fault> {
    if let Some(key) = &from.config_map_key_ref {
        return Ok(EnvSourceV1::Key {
            kind: Kind::CONFIG_MAP_V1,
            name: key.name.clone(),
            key: key.key.clone(),
            optional: key.optional.unwrap_or_default(),
        });
    }
    if let Some(key) = &from.secret_key_ref {
        return Ok(EnvSourceV1::Key {
            kind: Kind::SECRET_V1,
            name: key.name.clone(),
            key: key.key.clone(),
            optional: key.optional.unwrap_or_default(),
        });
    }
    if let Some(field) = &from.field_ref {
        return Ok(EnvSourceV1::Field(field.field_path.clone()));
    }
    if let Some(resource) = &from.resource_field_ref {
        return Ok(EnvSourceV1::Resource(
            resource.container_name.clone().unwrap_or_default(),
            resource.resource.clone(),
            resource.divisor.as_ref().map(|d| d.0.clone()).unwrap_or_default(),
        ));
    }
    Err(Fault::unsupported(format!(
        "environment variable {variable:?} takes its value from a source that spokes do not have"
    )))
}

fn port(from: &ContainerPort) -> Result<ContainerPortV1, Fault> {
    Ok(ContainerPortV1 {
        name: from.name.clone().unwrap_or_default(),
        port: port_number(from.container_port)?,
        protocol: protocol(from.protocol.as_deref())?,
        host_port: match from.host_port {
            None | Some(0) => None,
            Some(port) => Some(port_number(port)?),
        },
    })
}

pub(super) fn port_number(raw: i32) -> Result<u16, Fault> {
    u16::try_from(raw)
        .ok()
        .filter(|port| 0 < *port)
        .ok_or_else(|| Fault::invalid(format!("port {raw} is not between 1 and 65535")))
}

pub(super) fn protocol(raw: Option<&str>) -> Result<Protocol, Fault> {
    match raw {
        None | Some("TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some(other) => {
            Err(Fault::unsupported(format!("protocol {other}: spokes speak TCP and UDP")))
        }
    }
}

fn mount(from: &VolumeMount) -> Result<MountV1, Fault> {
    if from.sub_path_expr.as_deref().is_some_and(|expr| !expr.is_empty()) {
        return Err(Fault::unsupported(format!(
            "volumeMount {:?}: subPathExpr is not supported, use subPath",
            from.name
        )));
    }
    Ok(MountV1 {
        volume: from.name.clone(),
        path: from.mount_path.clone(),
        sub_path: from.sub_path.clone().unwrap_or_default(),
        read_only: from.read_only.unwrap_or_default(),
    })
}
