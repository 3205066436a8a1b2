//! Who is behind `pods/[SCHEME:]NAME[:PORT]/proxy` and `services/…`: a port of a pod on a device.
//!
//! Guarantees:
//! - a Service leads to a pod of its own namespace that is ready, whatever somebody writes into its EndpointSlices
//!   (`a_service_leads_to_its_pods_alone`).

use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::addressed::Addressed;
use super::pod::spoke_of;
use crate::call::Call;
use crate::tenant::Tenant;

/// The port of a URL that names none.
const HTTP_PORT: u16 = 80;

/// A port of a pod.
#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) spoke: ClusterName,
    pub(super) uid: Uid,
    pub(super) port: u16,
}

/// Who is behind what a call names.
///
/// # Errors
/// When it is nobody.
pub(super) fn of(call: &Call) -> Result<Backend, ApiError> {
    let of_service = call.view.served.has(Trait::HoldsAddresses);
    let named = Addressed::read(&call.name, call.view.served.singular())?;
    if named.scheme == "https" {
        return Err(unavailable(
            "error trying to reach service: this hub speaks no TLS to pods".to_owned(),
        ));
    }
    let state = call.hub.server.objects.store().snapshot();
    let (tenant, namespace) = (&call.tenant, &*call.namespace);
    let place = NamespaceView { state: &*state, tenant, namespace };
    if of_service { place.service(named.name, named.port) } else { place.pod(&named) }
}

fn unavailable(text: String) -> ApiError {
    ApiError::new(503, "ServiceUnavailable", text)
}

/// A namespace in which somebody is looked for.
pub(super) struct NamespaceView<'a> {
    pub(super) state: &'a dyn Snapshot,
    pub(super) tenant: &'a Tenant,
    pub(super) namespace: &'a str,
}

impl NamespaceView<'_> {
    /// A port of one of the pods that serve a Service's, named or by its number, drawn anew each time.
    pub(super) fn service(&self, name: &str, port: &str) -> Result<Backend, ApiError> {
        let service = self.get("services", name)?.object.value()?;
        let port = port_name(&service, name, port)?;
        let mut found: Vec<_> =
            self.endpoints(name)?.iter().flat_map(|slice| serving(slice, &port)).collect();
        fastrand::shuffle(&mut found);
        for (pod, port) in found {
            let Ok(stored) = self.get("pods", &pod) else { continue };
            if let Ok(backend) = self.on(&stored.object.value()?, &stored, port) {
                return Ok(backend);
            }
        }
        Err(unavailable(format!("no endpoints available for service {name:?}")))
    }

    /// The pod's port that is named, or its first one.
    fn pod(&self, named: &Addressed<'_>) -> Result<Backend, ApiError> {
        let stored = self.get("pods", named.name)?;
        let pod = stored.object.value()?;
        let port = match named.port {
            "" => first_port(&pod),
            text => text.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
                unavailable(format!("error trying to reach service: unknown port {text:?}"))
            })?,
        };
        self.on(&pod, &stored, port)
    }

    fn on(&self, pod: &Value, stored: &Stored, port: u16) -> Result<Backend, ApiError> {
        let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default();
        if text("/status/podIP").is_empty() {
            return Err(ApiError::bad_request("address not allowed"));
        }
        let spoke = spoke_of(self.tenant, text("/spec/nodeName"))?;
        Ok(Backend { spoke, uid: stored.object.header.uid.clone(), port })
    }

    fn get(&self, plural: &str, name: &str) -> Result<Arc<Stored>, ApiError> {
        let kind = kind("", plural)?;
        let key = Key::new(kind.storage(), &self.tenant.name, self.namespace, name);
        self.state.get(&key).ok_or_else(|| ApiError::not_found("", plural, name))
    }

    /// EndpointSlices of a Service.
    fn endpoints(&self, service: &str) -> Result<Vec<Value>, ApiError> {
        let scope = Scope {
            resource: kind("discovery.k8s.io", "endpointslices")?.storage().clone(),
            cluster: Some(self.tenant.name.clone()),
            namespace: Some(self.namespace.into()),
        };
        let is_its = |stored: &Arc<Stored>| {
            let labels = &stored.object.header.labels;
            labels.get("kubernetes.io/service-name").is_some_and(|name| name == service)
        };
        let slices = self.state.range(&scope, None).filter(is_its);
        slices.map(|stored| stored.object.value()).collect()
    }
}

fn kind(group: &str, plural: &str) -> Result<&'static Arc<Kind>, ApiError> {
    let kind = kinds::find(group, "v1", plural);
    kind.ok_or_else(|| ApiError::internal(format!("there are no {plural}")))
}

fn first_port(pod: &Value) -> u16 {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let ports = containers.into_iter().flatten().filter_map(|container| {
        let port = container.pointer("/ports/0/containerPort")?.as_u64()?;
        u16::try_from(port).ok()
    });
    ports.into_iter().next().unwrap_or(HTTP_PORT)
}

/// The name of the Service's port with this number, or the name itself.
fn port_name(service: &Value, name: &str, port: &str) -> Result<String, ApiError> {
    let Ok(number) = port.parse::<u64>() else { return Ok(port.to_owned()) };
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let port = ports.into_iter().flatten().find(|port| port["port"] == number);
    let named = |port: &Value| port["name"].as_str().unwrap_or_default().to_owned();
    port.map(named)
        .ok_or_else(|| unavailable(format!("no service port {number} found for service {name:?}")))
}

/// Pods of a slice that are ready, with their port of this name.
fn serving<'a>(slice: &'a Value, port: &'a str) -> impl Iterator<Item = (String, u16)> + 'a {
    let ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports
        .filter(|own| own["name"].as_str().unwrap_or_default() == port)
        .find_map(|own| u16::try_from(own["port"].as_u64()?).ok());
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints
        .filter(|one| one["conditions"]["ready"] != false && one["targetRef"]["kind"] == "Pod");
    ready.filter_map(move |one| Some((one["targetRef"]["name"].as_str()?.to_owned(), port?)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_port_of_a_pod_is_meant_where_none_is_named() {
        let pod = json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}, {"containerPort": 1}]}]}});
        assert_eq!(first_port(&pod), 8080);
        assert_eq!(first_port(&json!({})), HTTP_PORT);
    }

    #[test]
    fn a_slice_gives_its_ready_pods() {
        let endpoint = |name: &str, ready: bool| json!({"conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}});
        let slice = json!({"ports": [{"name": "", "port": 8080}, {"name": "admin", "port": 9000}],
            "endpoints": [endpoint("a", true), endpoint("b", false), {"addresses": ["10.64.0.9"]}]});
        let found = |port| serving(&slice, port).collect::<Vec<_>>();
        assert_eq!(found(""), [("a".to_owned(), 8080)]);
        assert_eq!(found("admin"), [("a".to_owned(), 9000)]);
        assert_eq!(found("other"), []);
    }
}
