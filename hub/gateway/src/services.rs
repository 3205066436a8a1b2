//! Services with their EndpointSlices as the store has them, and as spokes are told of them: translated once for all,
//! when they change.
//!
//! Guarantees:
//! - a Service is translated again after a change of it or of a slice of it, and that is told only where it makes
//!   another record (`a_service_is_translated_when_it_or_a_slice_of_it_changes`);
//! - who looked before the store was read anew goes on from there (`who_looked_before_goes_on_after_all_is_read_anew`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_plan::{Concerned, ServiceRecord, ServiceSet, StoredObject, service_key};
use freewheel_hub_schema::namespace::NamespaceName;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

/// Where an EndpointSlice says whose it is.
const SERVICE: &str = "kubernetes.io/service-name";

/// A Service of a realm, by its namespace and name.
type Name = (NamespaceName, Arc<str>);

/// Services to translate.
pub(crate) type Touched = BTreeSet<(ClusterName, Name)>;

#[derive(Clone, Default)]
struct Service {
    stored: Option<Arc<Stored>>,
    slices: BTreeMap<Arc<str>, Arc<Stored>>,
}

impl Service {
    fn is_nothing(&self) -> bool {
        self.stored.is_none() && self.slices.is_empty()
    }

    fn record_for(&self, realm: &ClusterName) -> Option<ServiceRecord> {
        let stored = self.stored.as_ref()?;
        let slices = |_: &str, _: &str| self.slices.values().map(|slice| found(slice)).collect();
        Some(ServiceRecord::of(realm, &found(stored), slices))
    }
}

#[derive(Default)]
struct RealmServices {
    services: BTreeMap<Name, Service>,
    shared: Arc<ServiceSet>,
}

/// Of all realms that have any.
#[derive(Default)]
pub(crate) struct Services(Mutex<BTreeMap<ClusterName, RealmServices>>);

/// An object as a plan is made of it.
pub(crate) fn found(stored: &Stored) -> StoredObject {
    let Stored { object, revision, created, .. } = stored;
    StoredObject { body: object.body.clone(), revision: *revision, created: *created }
}

/// Whether it is a Service itself, and not an EndpointSlice of one.
fn is_service(stored: &Stored) -> bool {
    stored.key.resource.plural() == "services"
}

/// The Service that a Service or an EndpointSlice is about.
fn about(stored: &Stored) -> Option<Name> {
    let key = &stored.key;
    let name = if is_service(stored) {
        key.name.clone()
    } else {
        stored.object.header.labels.get(SERVICE)?.as_str().into()
    };
    Some((key.namespace.clone(), name))
}

impl RealmServices {
    fn put(&mut self, name: Name, stored: &Arc<Stored>) {
        let service = self.services.entry(name).or_default();
        if is_service(stored) {
            service.stored = Some(stored.clone());
        } else {
            service.slices.insert(stored.key.name.clone(), stored.clone());
        }
    }

    fn take(&mut self, name: &Name, stored: &Stored) {
        let Some(service) = self.services.get_mut(name) else { return };
        if is_service(stored) {
            service.stored = None;
        } else {
            service.slices.remove(&stored.key.name);
        }
        if service.is_nothing() {
            self.services.remove(name);
        }
    }
}

impl Services {
    /// Takes in what happened to a Service or an EndpointSlice.
    pub(crate) fn note(&self, event: &Event, touched: &mut Touched) {
        let Some(key) = event.key() else { return };
        let mut realms = self.0.lock();
        let realm = realms.entry(key.cluster.clone()).or_default();
        let before = event.before.as_ref().and_then(|before| Some((about(before)?, before)));
        let now = event.now.as_ref().and_then(|now| Some((about(now)?, now)));
        if let Some((name, before)) = &before {
            realm.take(name, before);
        }
        if let Some((name, now)) = &now {
            realm.put(name.clone(), now);
        }
        let names = before.into_iter().chain(now).map(|(name, _)| (key.cluster.clone(), name));
        touched.extend(names);
    }

    /// Reads all that is in these scopes anew. What was told before, and what is to be, is to be translated.
    pub(crate) fn rebuild(
        &self,
        snapshot: &dyn Snapshot,
        scopes: impl Iterator<Item = Scope>,
    ) -> Touched {
        let mut realms = self.0.lock();
        let mut touched = Touched::new();
        for (cluster, realm) in realms.iter_mut() {
            let old = std::mem::take(&mut realm.services).into_keys();
            touched.extend(old.map(|name| (cluster.clone(), name)));
        }
        for stored in scopes.flat_map(|scope| snapshot.range(&scope, None)) {
            let Some(name) = about(&stored) else { continue };
            let cluster = stored.key.cluster.clone();
            realms.entry(cluster.clone()).or_default().put(name.clone(), &stored);
            touched.insert((cluster, name));
        }
        touched
    }

    /// Translates these, and says for each realm whom what came of it concerns.
    pub(crate) fn translate(&self, touched: Touched) -> BTreeMap<ClusterName, Concerned> {
        let mut all = BTreeMap::new();
        for (cluster, name) in touched {
            let service = {
                let realms = self.0.lock();
                realms.get(&cluster).and_then(|realm| realm.services.get(&name)).cloned()
            };
            // Nobody waits meanwhile: a Service may have thousands of endpoints.
            let record = service.and_then(|service| service.record_for(&cluster));
            let key = service_key(&cluster, &name.0, &name.1);
            let mut realms = self.0.lock();
            let Some(realm) = realms.get_mut(&cluster) else { continue };
            let set = Arc::make_mut(&mut realm.shared);
            let concerned = match record {
                Some(record) => set.put(&key, record),
                None => set.remove(&key),
            };
            let before = all.entry(cluster).or_insert(Concerned::Nobody);
            *before = concerned.max(*before);
        }
        all
    }

    /// A cluster is gone, with all that was in it.
    pub(crate) fn forget(&self, cluster: &str) {
        let mut realms = self.0.lock();
        if realms.get(cluster).is_some_and(|realm| realm.services.is_empty()) {
            realms.remove(cluster);
        }
    }

    /// What a realm's spokes are told of.
    pub(crate) fn of(&self, realm: &ClusterName) -> Arc<ServiceSet> {
        self.0.lock().get(realm).map(|realm| realm.shared.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_plan::Scope as Told;
    use freewheel_hub_schema::object::{Header, Key, Object, Resource};
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Store as _, Txn};
    use freewheel_link::plan::ServiceV1;
    use serde_json::{Value, json};

    use super::*;

    fn stored(plural: (&str, &str), revision: u64, value: &Value) -> Arc<Stored> {
        let resource = Resource::new(plural.0, plural.1);
        let name = value["metadata"]["name"].as_str().unwrap();
        let key = Key::new(&resource, &ClusterName::root(), "default", name);
        let labels = serde_json::from_value(value["metadata"]["labels"].clone());
        let header = Header { labels: labels.unwrap_or_default(), ..Header::default() };
        let object = Object { header, body: value.to_string().into() };
        Arc::new(Stored { key, object, revision, created: 1 })
    }

    fn scopes() -> impl Iterator<Item = Scope> {
        let all = [("", "services"), ("discovery.k8s.io", "endpointslices")];
        all.into_iter().map(|(group, plural)| {
            let resource = Resource::new(group, plural);
            Scope { resource, cluster: None, namespace: None }
        })
    }

    fn service(revision: u64, port: u16) -> Arc<Stored> {
        let value = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"clusterIP": "10.128.0.9", "ports": [{"port": port, "protocol": "TCP"}]},
        });
        stored(("", "services"), revision, &value)
    }

    fn slice(revision: u64, ip: &str) -> Arc<Stored> {
        let value = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": "web-1", "namespace": "default", "labels": {SERVICE: "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
            "endpoints": [{"addresses": [ip], "conditions": {"ready": true}}],
        });
        stored(("discovery.k8s.io", "endpointslices"), revision, &value)
    }

    fn happens(
        services: &Services,
        before: Option<&Arc<Stored>>,
        now: Option<&Arc<Stored>>,
    ) -> Concerned {
        let event = Event { revision: 9, before: before.cloned(), now: now.cloned() };
        let mut touched = Touched::new();
        services.note(&event, &mut touched);
        services.translate(touched)[&ClusterName::root()]
    }

    fn records(services: &Services) -> Vec<ServiceV1> {
        let set = services.of(&ClusterName::root());
        set.of(Told::All).iter().map(|record| record.body().unwrap()).collect()
    }

    #[test]
    fn a_service_is_translated_when_it_or_a_slice_of_it_changes() {
        let services = Services::default();
        let (old, one) = (service(3, 80), slice(4, "10.64.0.2"));
        assert_eq!(happens(&services, None, Some(&one)), Concerned::Nobody, "without its Service");
        assert_eq!(happens(&services, None, Some(&old)), Concerned::WithPods);
        assert_eq!(records(&services)[0].endpoints[0].ip.to_string(), "10.64.0.2");
        let again = slice(5, "10.64.0.2");
        assert_eq!(happens(&services, Some(&one), Some(&again)), Concerned::Nobody, "the same");
        let moved = slice(6, "10.64.0.3");
        assert_eq!(happens(&services, Some(&again), Some(&moved)), Concerned::WithPods);
        assert_eq!(records(&services)[0].endpoints[0].ip.to_string(), "10.64.0.3");
        assert_eq!(happens(&services, Some(&moved), None), Concerned::WithPods);
        assert_eq!(records(&services)[0].endpoints.len(), 0);
        let new = service(7, 81);
        assert_eq!(happens(&services, Some(&old), Some(&new)), Concerned::WithPods);
        assert_eq!(records(&services)[0].ports[0].port, 81);
        assert_eq!(happens(&services, Some(&new), None), Concerned::WithPods);
        assert_eq!(records(&services).len(), 0);
        services.forget("root");
        assert_eq!(services.0.lock().len(), 0);
    }

    #[tokio::test]
    async fn who_looked_before_goes_on_after_all_is_read_anew() {
        let services = Services::default();
        happens(&services, None, Some(&service(3, 80)));
        let before = services.of(&ClusterName::root()).of(Told::All).version();
        let store = MemoryStore::with_incarnation(1);
        let rebuilt = services.rebuild(&*store.snapshot(), scopes());
        assert_eq!(services.translate(rebuilt).len(), 1, "it is gone");
        let put = |stored: &Stored| Operation::Put(stored.key.clone(), stored.object.clone());
        let operations = vec![put(&service(0, 81)), put(&slice(0, "10.64.0.2"))];
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        services.translate(services.rebuild(&*store.snapshot(), scopes()));
        let now = services.of(&ClusterName::root());
        let way = now.of(Told::All).way(now.of(Told::All), before).unwrap();
        assert_eq!((way.put.len(), way.remove.len()), (1, 0));
        assert_eq!(records(&services)[0].ports[0].port, 81);
        assert_eq!(records(&services)[0].endpoints.len(), 1, "its slice was read, too");
    }
}
