//! What a realm knows: its pods on this node, and its Services with their endpoints.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use freewheel_link::plan::ServiceV1;

use crate::service::Service;

/// What a realm knows; `P` is what stands for a pod.
pub(crate) struct RealmTables<P> {
    pods: HashMap<Ipv4Addr, Arc<P>>,
    services: HashMap<(String, String), Arc<Service>>,
    addresses: HashMap<Ipv4Addr, Arc<Service>>,
}

impl<P> Default for RealmTables<P> {
    fn default() -> Self {
        Self { pods: HashMap::new(), services: HashMap::new(), addresses: HashMap::new() }
    }
}

impl<P> RealmTables<P> {
    pub(crate) fn put_pod(&mut self, ip: Ipv4Addr, pod: Arc<P>) {
        self.pods.insert(ip, pod);
    }

    /// Removes the pod at this address if it `is` the one that is meant.
    pub(crate) fn remove_pod(&mut self, ip: Ipv4Addr, is: impl FnOnce(&P) -> bool) {
        if self.pods.get(&ip).is_some_and(|found| is(found)) {
            self.pods.remove(&ip);
        }
    }

    pub(crate) fn set_service(&mut self, namespace: &str, name: &str, spec: Option<ServiceV1>) {
        let key = (namespace.to_owned(), name.to_owned());
        let former = self.services.remove(&key);
        if let Some(former) = &former
            && let Some(IpAddr::V4(ip)) = former.spec().cluster_ip
            // The address may be another Service's by now: records come in any order.
            && self.addresses.get(&ip).is_some_and(|holder| Arc::ptr_eq(holder, former))
        {
            self.addresses.remove(&ip);
        }
        let Some(spec) = spec else { return };
        let service = Arc::new(Service::new(spec, former.as_deref()));
        if let Some(IpAddr::V4(ip)) = service.spec().cluster_ip {
            self.addresses.insert(ip, service.clone());
        }
        self.services.insert(key, service);
    }

    /// The Service with this name.
    pub(crate) fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The Service with this address.
    pub(crate) fn service_at(&self, ip: IpAddr) -> Option<&Arc<Service>> {
        match ip {
            IpAddr::V4(ip) => self.addresses.get(&ip),
            IpAddr::V6(_) => None,
        }
    }

    /// The pod with this address, if it is on this node.
    pub(crate) fn pod_at(&self, ip: IpAddr) -> Option<&Arc<P>> {
        match ip {
            IpAddr::V4(ip) => self.pods.get(&ip),
            IpAddr::V6(_) => None,
        }
    }

    /// Whether a pod with this address is here, or an endpoint of a Service on another node.
    pub(crate) fn knows(&self, ip: Ipv4Addr) -> bool {
        let endpoint = |service: &Arc<Service>| {
            service.spec().endpoints.iter().any(|e| e.ip == IpAddr::V4(ip))
        };
        self.pods.contains_key(&ip) || self.services.values().any(endpoint)
    }
}
