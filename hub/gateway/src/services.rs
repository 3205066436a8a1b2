//! Services as spokes are told of them, translated once for all spokes.
//!
//! Guarantees:
//! - what is kept is given for the same revisions of the Service and of its EndpointSlices only, so a look at an older or
//!   a newer snapshot gets what is true there (`a_service_is_translated_once_until_it_or_a_slice_of_it_changes`).

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_api::object::Key;
use freewheel_hub_plan::{Found, ToldService};
use parking_lot::RwLock;

/// Services that are kept. When there are more, all are forgotten and translated again.
const MOST: usize = 65_536;

struct Known {
    revisions: Vec<u64>,
    told: Arc<ToldService>,
}

/// What was translated.
#[derive(Default)]
pub(crate) struct Services(RwLock<BTreeMap<Key, Known>>);

impl Services {
    /// The Service under this key as spokes are told of it.
    pub(crate) fn told(&self, key: &Key, service: &Found, slices: &[Found]) -> Arc<ToldService> {
        let of = |slice: &Found| slice.revision;
        let revisions: Vec<u64> =
            std::iter::once(service.revision).chain(slices.iter().map(of)).collect();
        if let Some(known) = self.0.read().get(key)
            && known.revisions == revisions
        {
            return known.told.clone();
        }
        let told = Arc::new(ToldService::of(&key.cluster, service, |_, _| slices.to_vec()));
        let mut known = self.0.write();
        if MOST <= known.len() {
            known.clear();
        }
        known.insert(key.clone(), Known { revisions, told: told.clone() });
        told
    }

    /// The Service is gone.
    pub(crate) fn forget(&self, key: &Key) {
        self.0.write().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_api::object::Resource;
    use freewheel_link::names::ClusterName;
    use freewheel_link::plan::ServiceV1;
    use serde_json::{Value, json};

    use super::*;

    fn found(revision: u64, value: &Value) -> Found {
        Found { body: value.to_string().into(), revision, created: 1 }
    }

    fn service(revision: u64, port: u16) -> Found {
        let value = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.128.0.9", "ports": [{"port": port, "protocol": "TCP"}]},
        });
        found(revision, &value)
    }

    fn slice(revision: u64, ip: &str) -> Found {
        let value = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "default"}, "addressType": "IPv4",
            "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        });
        found(revision, &value)
    }

    #[test]
    fn a_service_is_translated_once_until_it_or_a_slice_of_it_changes() {
        let services = Services::default();
        let root = ClusterName::root();
        let key = Key::new(&Resource::new("", "services"), &root, "default", "web");
        let told = |service: &Found, slices: &[Found]| services.told(&key, service, slices);
        let body =
            |told: &ToldService| -> ServiceV1 { told.record.as_ref().unwrap().body().unwrap() };
        let (old, one) = (service(3, 80), slice(4, "10.64.0.2"));
        let first = told(&old, std::slice::from_ref(&one));
        assert_eq!(body(&first).endpoints[0].ip.to_string(), "10.64.0.2");
        assert!(Arc::ptr_eq(&first, &told(&old, std::slice::from_ref(&one))), "the same for all");
        let moved = told(&old, &[slice(5, "10.64.0.3")]);
        assert_eq!(body(&moved).endpoints[0].ip.to_string(), "10.64.0.3");
        assert_eq!(body(&told(&old, &[])).endpoints.len(), 0);
        assert_eq!(body(&told(&service(6, 81), &[one])).ports[0].port, 81);
        services.forget(&key);
        assert_eq!(services.0.read().len(), 0);
    }
}
