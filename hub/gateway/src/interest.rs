//! Who has to look at the store again after a change: one watch for all spokes.
//!
//! Guarantees:
//! - the session that is in force is told after each change that may concern its plan
//!   (`the_first_change_after_a_quiet_time_waits_for_nothing`,
//!   `of_sessions_that_open_at_the_same_time_the_newest_is_in_force_and_hears_of_changes`); being told once for many changes
//!   is normal (`a_burst_of_changes_is_a_few_plans`);
//! - a look and a report cost what one spoke holds, not what the fleet holds
//!   (`a_spokes_pods_come_and_go_at_the_same_cost_in_a_larger_fleet`).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use freewheel_hub_api::kind::{Concern, Kind};
use freewheel_hub_api::kinds;
use freewheel_hub_api::namespace::NamespaceName;
use freewheel_hub_api::object::{Key, Resource};
use freewheel_hub_api::uid::Uid;
use freewheel_hub_plan::{Found, Source, ToldService};
use freewheel_hub_store::{Event, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::ranges::Ranges;
use crate::records;
use crate::services::Services;

/// Told when there is something new.
pub(crate) type Bell = Arc<Notify>;

/// Pods that are bound to a node.
#[derive(Default)]
struct Pods {
    nodes: BTreeMap<String, BTreeSet<Key>>,
    uids: BTreeMap<Uid, Key>,
    /// Namespaces of the root, with their nodes and how many pods those have of them.
    namespaces: BTreeMap<NamespaceName, BTreeMap<String, usize>>,
}

impl Pods {
    fn put(&mut self, node: &str, stored: &Stored) {
        let Stored { key, object, .. } = stored;
        self.uids.insert(object.header.uid.clone(), key.clone());
        let new = self.nodes.entry(node.to_owned()).or_default().insert(key.clone());
        if new && key.cluster.is_root() {
            let nodes = self.namespaces.entry(key.namespace.clone()).or_default();
            *nodes.entry(node.to_owned()).or_default() += 1;
        }
    }

    fn remove(&mut self, node: &str, stored: &Stored) {
        let Stored { key, object, .. } = stored;
        self.uids.remove(&object.header.uid);
        let Some(keys) = self.nodes.get_mut(node) else { return };
        if !keys.remove(key) {
            return;
        }
        if keys.is_empty() {
            self.nodes.remove(node);
        }
        if !key.cluster.is_root() {
            return;
        }
        let Some(nodes) = self.namespaces.get_mut(&key.namespace) else { return };
        if let Some(count) = nodes.get_mut(node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(node);
            }
        }
        if nodes.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
    }
}

/// Whom the kinds concern of which plans are made.
struct Concerns(BTreeMap<Resource, Concern>);

impl Default for Concerns {
    fn default() -> Self {
        let concern = |kind: &Arc<Kind>| Some((kind.storage().clone(), kind.concern?));
        Self(kinds::all().iter().filter_map(concern).collect())
    }
}

impl Concerns {
    fn scopes(&self) -> Vec<Scope> {
        let internal = ["podcidrs", "sessions"].map(|plural| Resource::new("internal", plural));
        self.0.keys().cloned().chain(internal).map(all).collect()
    }

    fn bound(&self) -> impl Iterator<Item = &Resource> {
        self.0.iter().filter(|(_, whom)| **whom == Concern::ItsNode).map(|(resource, _)| resource)
    }
}

#[derive(Default)]
pub(crate) struct Interest {
    concerns: Concerns,
    pods: Mutex<Pods>,
    pub(crate) ranges: Ranges,
    services: Services,
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
            let (snapshot, mut watch) = store.follow(self.concerns.scopes());
            self.rebuild(&*snapshot);
            drop(snapshot);
            self.ring_all();
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

    fn rebuild(&self, snapshot: &dyn Snapshot) {
        let mut pods = self.pods.lock();
        *pods = Pods::default();
        let bound = self.concerns.bound().flat_map(|resource| {
            let scope = all(resource.clone());
            snapshot.range(&scope, None).collect::<Vec<_>>()
        });
        for stored in bound {
            if let Some(node) = node_of(&stored) {
                pods.put(node, &stored);
            }
        }
        self.ranges.rebuild(snapshot);
    }

    fn note(&self, event: &Event) {
        let Some(key) = event.key() else { return };
        let Some(whom) = self.concerns.0.get(&key.resource) else {
            return self.note_internal(key, event);
        };
        if *whom == Concern::Everybody && event.now.is_none() {
            self.services.forget(key);
        }
        match whom {
            Concern::ItsNode => self.note_pod(event),
            Concern::ItsNamespace | Concern::ItsName | Concern::Everybody
                if !key.cluster.is_root() =>
            {
                self.ring(key.cluster.as_str());
            }
            Concern::ItsNamespace => {
                let pods = self.pods.lock();
                let nodes = pods.namespaces.get(&key.namespace).into_iter().flatten();
                nodes.for_each(|(node, _)| self.ring(node));
            }
            Concern::ItsName => self.ring(&key.name),
            Concern::Everybody => self.ring_all(),
        }
    }

    fn note_internal(&self, key: &Key, event: &Event) {
        if key.resource == records::pod_cidrs() {
            self.ranges.note(event);
            if let Some(stored) = event.now.as_ref().or(event.before.as_ref()) {
                self.ring(&String::from_utf8_lossy(&stored.object.body));
            }
        } else {
            // A session: it is named as its spoke.
            self.ring(&key.name);
        }
    }

    fn note_pod(&self, event: &Event) {
        let place = |stored: Option<&Arc<Stored>>| {
            let stored = stored?.clone();
            Some((node_of(&stored)?.to_owned(), stored))
        };
        let (before, now) = (place(event.before.as_ref()), place(event.now.as_ref()));
        let mut pods = self.pods.lock();
        if let Some((node, stored)) = &before {
            pods.remove(node, stored);
        }
        if let Some((node, stored)) = &now {
            pods.put(node, stored);
        }
        drop(pods);
        let [before, now] = [before, now].map(|place| place.map(|(node, _)| node));
        if before != now
            && let Some(node) = before
        {
            self.ring(&node);
        }
        if let Some(node) = now {
            self.ring(&node);
        }
    }

    /// Where the pod with this UID is, if it is bound to a node.
    pub(crate) fn pod(&self, uid: &str) -> Option<Key> {
        self.pods.lock().uids.get(uid).cloned()
    }

    /// How many pods a realm has on this spoke.
    pub(crate) fn count(&self, spoke: &ClusterName, realm: &ClusterName) -> usize {
        let pods = self.pods.lock();
        let keys = pods.nodes.get(spoke.as_str()).into_iter().flatten();
        keys.filter(|key| key.cluster == *realm).count()
    }

    /// The addresses that pods of a realm are known to have on this spoke.
    pub(crate) fn used(
        &self,
        spoke: &ClusterName,
        realm: &ClusterName,
        at: &dyn Snapshot,
    ) -> BTreeSet<Ipv4Addr> {
        let keys = self.pods.lock().nodes.get(spoke.as_str()).cloned().unwrap_or_default();
        let pods = keys.iter().filter(|key| key.cluster == *realm).filter_map(|key| at.get(key));
        pods.filter_map(|pod| pod.object.header.fields.get("status.podIP")?.parse().ok()).collect()
    }

    /// What a plan reads, at one revision.
    pub(crate) fn source<'a>(&'a self, spoke: &ClusterName, at: &'a dyn Snapshot) -> View<'a> {
        let pods = self.pods.lock().nodes.get(spoke.as_str()).cloned().unwrap_or_default();
        let realms = [ClusterName::root(), spoke.clone()].map(|realm| {
            let ranges = self.ranges.usable(&realm, spoke);
            (realm, Realm { ranges, slices: OnceCell::new() })
        });
        View { at, pods, services: &self.services, realms: realms.into() }
    }
}

fn all(resource: Resource) -> Scope {
    Scope { resource, cluster: None, namespace: None }
}

/// The node that a pod is bound to: any for one of the root, for one of a spoke's cluster that spoke. What
/// else its owner names is nobody's node.
fn node_of(stored: &Stored) -> Option<&str> {
    let cluster = &stored.key.cluster;
    let node = stored.object.header.fields.get("spec.nodeName").map(String::as_str)?;
    (!node.is_empty() && (cluster.is_root() || cluster.as_str() == node)).then_some(node)
}

/// EndpointSlices by namespace and Service.
type Slices = BTreeMap<(NamespaceName, String), Vec<Found>>;

/// What is known of one of the spoke's realms.
struct Realm {
    ranges: Vec<Ipv4Addr>,
    /// Sorted when the first Service asks: all of them do.
    slices: OnceCell<Slices>,
}

/// One snapshot, with what one spoke has in it.
pub(crate) struct View<'a> {
    at: &'a dyn Snapshot,
    pods: BTreeSet<Key>,
    services: &'a Services,
    realms: BTreeMap<ClusterName, Realm>,
}

impl View<'_> {
    fn slices(&self, realm: &ClusterName) -> Slices {
        let resource = Resource::new("discovery.k8s.io", "endpointslices");
        let scope = Scope { resource, cluster: Some(realm.clone()), namespace: None };
        let mut slices = Slices::new();
        for stored in self.at.range(&scope, None) {
            let service = stored.object.header.labels.get("kubernetes.io/service-name");
            if let Some(service) = service {
                let key = (stored.key.namespace.clone(), service.clone());
                slices.entry(key).or_default().push(found(&stored));
            }
        }
        slices
    }

    fn all_services(&self, realm: &ClusterName) -> impl Iterator<Item = Arc<Stored>> {
        let resource = Resource::new("", "services");
        let scope = Scope { resource, cluster: Some(realm.clone()), namespace: None };
        self.at.range(&scope, None)
    }

    fn one(&self, plural: &str, realm: &ClusterName, namespace: &str, name: &str) -> Option<Found> {
        let key = Key::new(&Resource::new("", plural), realm, namespace, name);
        self.at.get(&key).map(|stored| found(&stored))
    }
}

fn found(stored: &Stored) -> Found {
    let Stored { object, revision, created, .. } = stored;
    Found { body: object.body.clone(), revision: *revision, created: *created }
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
        self.all_services(realm).map(|stored| found(&stored)).collect()
    }

    fn told_services(&self, realm: &ClusterName) -> Vec<Arc<ToldService>> {
        let told = |stored: Arc<Stored>| {
            let Key { namespace, name, .. } = &stored.key;
            let slices = self.endpoint_slices(realm, namespace, name);
            self.services.told(&stored.key, &found(&stored), &slices)
        };
        self.all_services(realm).map(told).collect()
    }

    fn endpoint_slices(&self, realm: &ClusterName, namespace: &str, service: &str) -> Vec<Found> {
        let Some(known) = self.realms.get(realm) else { return Vec::new() };
        let slices = known.slices.get_or_init(|| self.slices(realm));
        slices.get(&(namespace.into(), service.to_owned())).cloned().unwrap_or_default()
    }

    fn pod_cidrs(&self, realm: &ClusterName, spoke: &str) -> Vec<(String, u64)> {
        let ranges = self.realms.get(realm).into_iter().flat_map(|known| &known.ranges);
        let leased = ranges.filter_map(|base| {
            let name = base.to_string();
            let stored = self.at.get(&Key::new(&records::pod_cidrs(), realm, "", &name))?;
            (*stored.object.body == *spoke.as_bytes()).then_some((name, stored.revision))
        });
        leased.collect()
    }
}
