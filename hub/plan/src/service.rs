//! Service and its EndpointSlices → `ServiceV1`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use freewheel_link::names::ClusterName;
use freewheel_link::plan::{EndpointV1, Kind, Record, RecordKey, ServicePortV1, ServiceV1};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use super::containers::{port_number, protocol};
use super::record_size;
use super::refused::{Fault, Refused};
use super::stored_object::{StoredObject, parse};

/// Kubernetes' timeout of ClientIP affinity: three hours.
const DEFAULT_AFFINITY_SECONDS: i32 = 10_800;

/// Whether every node listens for this Service.
#[must_use]
pub fn has_node_port(service: &StoredObject) -> bool {
    let value: serde_json::Value = serde_json::from_slice(&service.body).unwrap_or_default();
    let ports = value["spec"]["ports"].as_array();
    ports.into_iter().flatten().any(|port| port["nodePort"].as_i64().is_some_and(|p| 0 < p))
}

/// The record of a Service. `slices` looks up its EndpointSlices by namespace and name; a slice that cannot
/// be read counts as empty, because half of the endpoints serve better than none.
///
/// # Errors
/// When the Service is malformed or uses a protocol that spokes do not speak.
pub fn service_record(
    realm: &ClusterName,
    found: &StoredObject,
    slices: impl FnOnce(&str, &str) -> Vec<StoredObject>,
) -> Result<Record, Refused> {
    let service: Service = parse(realm, "services", found)?;
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let slices = slices(namespace, name);
    let revision = slices.iter().map(|slice| slice.revision).fold(found.revision, u64::max);
    let translate = || -> Result<Record, Fault> {
        let key = RecordKey {
            realm: realm.clone(),
            kind: Kind::SERVICE_V1,
            key: format!("{namespace}/{name}"),
        };
        let spec = service.spec.clone().unwrap_or_default();
        let body = body(namespace, name, &spec, &slices)?;
        Record::new(key, revision, 0, &body).map_err(Fault::malformed)
    };
    let record = translate().map_err(|fault| fault.of(realm, "services", &service.metadata))?;
    record_size::check(record, "services", &service.metadata)
}

fn body(
    namespace: &str,
    name: &str,
    spec: &ServiceSpec,
    slices: &[StoredObject],
) -> Result<ServiceV1, Fault> {
    let ports = spec.ports.as_deref().unwrap_or_default();
    let external = spec.type_.as_deref() == Some("ExternalName");
    let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
    let timeout = spec
        .session_affinity_config
        .as_ref()
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .unwrap_or(DEFAULT_AFFINITY_SECONDS);
    Ok(ServiceV1 {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        cluster_ip: if external { None } else { cluster_ip(spec)? },
        external_name: spec.external_name.clone().filter(|_| external),
        ports: ports.iter().map(port).collect::<Result<Vec<_>, Fault>>()?,
        endpoints: endpoints(ports, slices),
        affinity_seconds: sticky.then(|| u32::try_from(timeout).unwrap_or_default()),
    })
}

fn cluster_ip(spec: &ServiceSpec) -> Result<Option<IpAddr>, Fault> {
    match spec.cluster_ip.as_deref() {
        Some("None") => Ok(None),
        None | Some("") => Err(Fault::invalid("spec.clusterIP is not allocated")),
        Some(raw) => raw
            .parse::<Ipv4Addr>()
            .map(|ip| Some(ip.into()))
            .map_err(|_| Fault::unsupported(format!("spec.clusterIP {raw}: spokes speak IPv4"))),
    }
}

fn port(from: &ServicePort) -> Result<ServicePortV1, Fault> {
    Ok(ServicePortV1 {
        name: from.name.clone().unwrap_or_default(),
        protocol: protocol(from.protocol.as_deref())?,
        port: port_number(from.port)?,
        node_port: match from.node_port {
            None | Some(0) => None,
            Some(port) => Some(port_number(port)?),
        },
    })
}

/// One entry per address, in the order of addresses; an address in several slices gets the ports of all.
fn endpoints(ports: &[ServicePort], slices: &[StoredObject]) -> Vec<EndpointV1> {
    let mut all: BTreeMap<Ipv4Addr, EndpointV1> = BTreeMap::new();
    for found in slices {
        let Ok(slice) = serde_json::from_slice::<EndpointSlice>(&found.body) else { continue };
        if slice.address_type != "IPv4" {
            continue;
        }
        let targets: Vec<u16> = ports.iter().map(|port| target(port, &slice)).collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(ip) = endpoint.addresses.first().and_then(|raw| raw.parse().ok()) else {
                continue;
            };
            let entry = all.entry(ip).or_insert_with(|| blank(ip, endpoint, ports.len()));
            for (have, new) in entry.ports.iter_mut().zip(&targets) {
                *have = if *new == 0 { *have } else { *new };
            }
        }
    }
    all.into_values().collect()
}

fn blank(ip: Ipv4Addr, endpoint: &Endpoint, ports: usize) -> EndpointV1 {
    EndpointV1 {
        ip: ip.into(),
        node: endpoint.node_name.clone().unwrap_or_default(),
        hostname: endpoint.hostname.clone().unwrap_or_default(),
        ready: endpoint.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true),
        ports: vec![0; ports],
    }
}

/// The slice's port for a Service's port: the same name and protocol; 0 when there is none.
fn target(port: &ServicePort, slice: &EndpointSlice) -> u16 {
    let name = port.name.as_deref().unwrap_or_default();
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    slice
        .ports
        .iter()
        .flatten()
        .find(|p| {
            p.name.as_deref().unwrap_or_default() == name
                && p.protocol.as_deref().unwrap_or("TCP") == protocol
        })
        .and_then(|p| u16::try_from(p.port?).ok())
        .unwrap_or_default()
}
