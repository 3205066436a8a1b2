//! How a Pod's health is looked at → `PodProbesV1`, a part of its record.
//!
//! What no spoke can do (gRPC, TLS, other hosts) is left out: whoever set it was warned, and the container counts as if it
//! had no such probe.

use freewheel_link::probes::{HttpGetV1, PodProbesV1, ProbeHandlerV1, ProbeKindV1, ProbeV1};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::containers::port_number;
use super::refused::Fault;

/// The pod's probes; `None`: it has none.
pub(super) fn probes(spec: &PodSpec) -> Result<Option<PodProbesV1>, Fault> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|one| one.restart_policy.as_deref() == Some("Always"));
    let mut probes = Vec::new();
    for container in sidecars.chain(&spec.containers) {
        for (kind, probe) in [
            (ProbeKindV1::Startup, &container.startup_probe),
            (ProbeKindV1::Liveness, &container.liveness_probe),
            (ProbeKindV1::Readiness, &container.readiness_probe),
        ] {
            if let Some(probe) = probe {
                probes.extend(one(container, kind, probe)?);
            }
        }
    }
    Ok((!probes.is_empty()).then_some(PodProbesV1 { probes }))
}

fn one(container: &Container, kind: ProbeKindV1, probe: &Probe) -> Result<Option<ProbeV1>, Fault> {
    let Some(handler) = handler(container, probe)? else { return Ok(None) };
    // As the API server's defaults are, for what was stored without them.
    let or = |value: Option<i32>, default: u32| {
        let set = value.and_then(|value| u32::try_from(value).ok()).filter(|value| 0 < *value);
        set.unwrap_or(default)
    };
    let grace = probe.termination_grace_period_seconds.filter(|_| kind != ProbeKindV1::Readiness);
    Ok(Some(ProbeV1 {
        container: container.name.clone(),
        kind,
        handler,
        initial_delay_seconds: or(probe.initial_delay_seconds, 0),
        period_seconds: or(probe.period_seconds, 10),
        timeout_seconds: or(probe.timeout_seconds, 1),
        success_threshold: or(probe.success_threshold, 1),
        failure_threshold: or(probe.failure_threshold, 3),
        grace_seconds: grace.and_then(|seconds| u32::try_from(seconds).ok()),
    }))
}

/// `None`: it is not a way in which spokes look.
fn handler(container: &Container, probe: &Probe) -> Result<Option<ProbeHandlerV1>, Fault> {
    let here = |host: &Option<String>| host.as_deref().is_none_or(str::is_empty);
    if let Some(exec) = &probe.exec {
        return Ok(Some(ProbeHandlerV1::Exec(exec.command.clone().unwrap_or_default())));
    }
    if let Some(get) = &probe.http_get {
        let plain = get.scheme.as_deref().is_none_or(|scheme| scheme.eq_ignore_ascii_case("HTTP"));
        return match plain && here(&get.host) {
            true => Ok(Some(ProbeHandlerV1::Http(http_get(container, get)?))),
            false => Ok(None),
        };
    }
    match &probe.tcp_socket {
        Some(socket) if here(&socket.host) => {
            Ok(Some(ProbeHandlerV1::Tcp(port(container, &socket.port)?)))
        }
        _ => Ok(None),
    }
}

fn http_get(container: &Container, get: &HTTPGetAction) -> Result<HttpGetV1, Fault> {
    let headers = get.http_headers.iter().flatten();
    Ok(HttpGetV1 {
        port: port(container, &get.port)?,
        path: get.path.clone().unwrap_or_else(|| "/".to_owned()),
        headers: headers.map(|header| (header.name.clone(), header.value.clone())).collect(),
    })
}

/// A port by its number or by its name in the container.
fn port(container: &Container, port: &IntOrString) -> Result<u16, Fault> {
    let name = match port {
        IntOrString::Int(number) => return port_number(*number),
        IntOrString::String(name) => name,
    };
    let named = container.ports.iter().flatten();
    let named = named.clone().find(|port| port.name.as_deref() == Some(name));
    match named.map(|port| port.container_port).or_else(|| name.parse().ok()) {
        Some(number) => port_number(number),
        None => Err(Fault::invalid(format!(
            "container {:?}: a probe names the port {name:?}, and no port of the container is called so",
            container.name
        ))),
    }
}
