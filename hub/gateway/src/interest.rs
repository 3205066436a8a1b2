//! Who has to look at the store again after a change: one watch for all spokes.
//!
//! Guarantees: whoever is connected is told after each change that may concern its plan; being told once
//! for many changes is normal. The index of pods by node makes a look cost what a spoke holds, not what
//! the fleet holds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use freewheel_hub_api::object::{Key, Resource};
use freewheel_hub_api::plan::{Found, Source};
use freewheel_hub_store::{Compacted, Event, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::records;

/// Told when there is something new.
pub(crate) type Bell = Arc<Notify>;

#[derive(Default)]
pub(crate) struct Interest {
    pods: Mutex<BTreeMap<String, BTreeSet<Key>>>,
    bells: Mutex<BTreeMap<ClusterName, Bell>>,
}

impl Interest {
    /// From now on this spoke is told. A later session of the same spoke takes the place of this one.
    pub(crate) fn join(&self, spoke: &ClusterName) -> Bell {
        let bell = Bell::default();
        self.bells.lock().insert(spoke.clone(), bell.clone());
        bell
    }

    /// The session with this bell is over.
    pub(crate) fn leave(&self, spoke: &ClusterName, bell: &Bell) {
        let mut bells = self.bells.lock();
        if bells.get(spoke).is_some_and(|held| Arc::ptr_eq(held, bell)) {
            bells.remove(spoke);
        }
    }

    fn ring(&self, spoke: &str) {
        if let Ok(spoke) = ClusterName::try_from(spoke)
            && let Some(bell) = self.bells.lock().get(&spoke)
        {
            bell.notify_one();
        }
    }

    pub(crate) fn ring_one(&self, spoke: &ClusterName) {
        self.ring(spoke.as_str());
    }

    pub(crate) fn ring_all(&self) {
        self.bells.lock().values().for_each(|bell| bell.notify_one());
    }

    /// Follows the store until `stop`.
    pub(crate) async fn follow(
        &self,
        store: &Arc<dyn Store>,
        mut images: watch::Receiver<u64>,
        stop: &CancellationToken,
    ) {
        loop {
            let after = self.rebuild(&*store.snapshot());
            self.ring_all();
            let mut watch = match store.watch(scopes(), after) {
                Ok(watch) => watch,
                Err(Compacted { .. }) => continue,
            };
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Ok(()) = images.changed() => self.ring_all(),
                    events = watch.next() => match events {
                        Ok(events) => events.iter().for_each(|event| self.note(event)),
                        Err(compacted) => {
                            warn!(error = %compacted, "fell behind the store, reading it anew");
                            break;
                        }
                    }
                }
            }
        }
    }

    fn rebuild(&self, snapshot: &dyn Snapshot) -> u64 {
        let mut pods = self.pods.lock();
        pods.clear();
        for stored in snapshot.range(&all(Resource::new("", "pods")), None) {
            if let Some(node) = node_of(&stored) {
                pods.entry(node.to_owned()).or_default().insert(stored.key.clone());
            }
        }
        snapshot.revision()
    }

    fn note(&self, event: &Event) {
        let Some(key) = event.key() else { return };
        match key.resource.as_str() {
            "pods" => self.note_pod(key, event),
            "configmaps" | "secrets" if key.cluster.is_root() => {
                let pods = self.pods.lock();
                let uses = |keys: &BTreeSet<Key>| {
                    keys.iter().any(|k| k.cluster.is_root() && k.namespace == key.namespace)
                };
                let nodes = pods.iter().filter(|(_, keys)| uses(keys)).map(|(node, _)| node);
                nodes.for_each(|node| self.ring(node));
            }
            "podcidrs.internal" => {
                if let Some(stored) = event.now.as_ref().or(event.before.as_ref()) {
                    self.ring(&String::from_utf8_lossy(&stored.object.body));
                }
            }
            // A Service or its endpoints may concern every node, by node ports.
            _ if key.cluster.is_root() && key.resource.group() != "internal" => {
                if key.resource.plural() == "managedclusters" {
                    self.ring(&key.name);
                } else {
                    self.ring_all();
                }
            }
            "sessions.internal" => self.ring(&key.name),
            _ => self.ring(key.cluster.as_str()),
        }
    }

    fn note_pod(&self, key: &Key, event: &Event) {
        let before = event.before.as_deref().and_then(node_of);
        let now = event.now.as_deref().and_then(node_of);
        let mut pods = self.pods.lock();
        if let Some(node) = before.filter(|node| now != Some(*node))
            && let Some(keys) = pods.get_mut(node)
        {
            keys.remove(key);
        }
        if let Some(node) = now {
            pods.entry(node.to_owned()).or_default().insert(key.clone());
        }
        drop(pods);
        for node in [before, now].into_iter().flatten() {
            self.ring(node);
        }
    }

    /// What a plan reads, at one revision.
    pub(crate) fn source<'a>(&self, spoke: &ClusterName, at: &'a dyn Snapshot) -> View<'a> {
        let pods = self.pods.lock().get(spoke.as_str()).cloned().unwrap_or_default();
        View { at, pods }
    }
}

fn all(resource: Resource) -> Scope {
    Scope { resource, cluster: None, namespace: None }
}

fn scopes() -> Vec<Scope> {
    let named = [
        ("", "pods"),
        ("", "configmaps"),
        ("", "secrets"),
        ("", "services"),
        ("discovery.k8s.io", "endpointslices"),
        ("cluster.open-cluster-management.io", "managedclusters"),
        ("internal", "podcidrs"),
        ("internal", "sessions"),
    ];
    named.into_iter().map(|(group, plural)| all(Resource::new(group, plural))).collect()
}

fn node_of(stored: &Stored) -> Option<&str> {
    stored.object.header.fields.get("spec.nodeName").map(String::as_str).filter(|n| !n.is_empty())
}

/// One snapshot, with the pods of one spoke.
pub(crate) struct View<'a> {
    at: &'a dyn Snapshot,
    pods: BTreeSet<Key>,
}

impl View<'_> {
    /// How many pods a realm has on this spoke.
    pub(crate) fn count(&self, realm: &ClusterName) -> usize {
        self.pods.iter().filter(|key| key.cluster == *realm).count()
    }

    fn one(&self, plural: &str, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found> {
        let key = Key::new(&Resource::new("", plural), realm, namespace, name);
        self.at.get(&key).map(|stored| found(&stored))
    }
}

fn found(stored: &Stored) -> Found {
    Found { body: stored.object.body.clone(), revision: stored.revision }
}

impl Source for View<'_> {
    fn pods(&self, realm: &ClusterName, node: &str) -> Vec<Found> {
        let here = |stored: &Arc<Stored>| node_of(stored) == Some(node);
        let keys = self.pods.iter().filter(|key| key.cluster == *realm);
        keys.filter_map(|key| self.at.get(key)).filter(here).map(|s| found(&s)).collect()
    }

    fn config_map(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found> {
        self.one("configmaps", realm, namespace, name)
    }

    fn secret(&self, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found> {
        self.one("secrets", realm, namespace, name)
    }

    fn services(&self, realm: &ClusterName) -> Vec<Found> {
        let resource = Resource::new("", "services");
        let scope = Scope { resource, cluster: Some(realm.clone()), namespace: None };
        self.at.range(&scope, None).map(|stored| found(&stored)).collect()
    }

    fn endpoint_slices(&self, realm: &ClusterName, namespace: &str, service: &str) -> Vec<Found> {
        let scope = Scope {
            resource: Resource::new("discovery.k8s.io", "endpointslices"),
            cluster: Some(realm.clone()),
            namespace: Some(namespace.into()),
        };
        let of_service = |stored: &Arc<Stored>| {
            let label = stored.object.header.labels.get("kubernetes.io/service-name");
            label.is_some_and(|name| name == service)
        };
        self.at.range(&scope, None).filter(of_service).map(|stored| found(&stored)).collect()
    }

    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)> {
        records::leases(self.at, realm, spoke)
    }
}
