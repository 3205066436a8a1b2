//! Who has to look again after a change, and at what: one watch for all spokes.
//!
//! ```text
//! events of the store ─▶ indexes: pods, ranges, Services ─▶ whom it concerns ─▶ noted at their signals ─▶ raised
//!                                                                                 │
//! a session takes what is noted, with the revision that all of it comes up to  ◀──┘
//! ```
//!
//! Guarantees:
//! - the session that is in force is told after each change that may concern its plan
//!   (`the_first_change_after_a_quiet_time_waits_for_nothing`,
//!   `of_sessions_that_open_at_the_same_time_the_newest_is_in_force_and_hears_of_changes`); being told once for many
//!   changes is normal (`a_burst_of_changes_is_a_few_plans`);
//! - and nobody else is told of a Service (`a_service_of_the_root_wakes_whom_it_concerns`), of a ConfigMap or of a Secret
//!   (`configuration_wakes_those_alone_whose_pods_name_it`);
//! - it is told when its device is to be wiped, also while its ManagedCluster is still there
//!   (`an_order_ends_the_session_before_the_cluster_goes`);
//! - it is told when its Node, in the root or in its own cluster, is another one than before
//!   (`a_node_that_is_deleted_or_made_anew_has_all_that_its_device_said`) or says something else
//!   (`what_somebody_writes_into_a_node_s_status_is_as_its_device_said_again`);
//! - a look and a report cost what one spoke holds, not what the fleet holds
//!   (`a_spokes_pods_come_and_go_at_the_same_cost_in_a_larger_fleet`).

use freewheel_hub_objects::internal;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use freewheel_hub_api::conditions::SAID_OF_SILENT;
use freewheel_hub_api::device_orders::{DEVICE_LABEL, ORDER_LABEL};
use freewheel_hub_api::kinds;
use freewheel_hub_plan::{Changes, Concerned, ServiceSet, config_record_key};
use freewheel_hub_schema::kind::{Concern, Kind};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Event, Revision, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use freewheel_link::plan::RecordKey;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::bound_pods::{BoundPods, node_of};
use crate::config_readers::ConfigReaders;
use crate::config_records::ConfigRecords;
use crate::pod_cidr_leases::PodCidrLeases;
use crate::services::{Services, Touched};
use crate::sync_signal::SyncSignal;
use crate::view::PlanView;

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
        let internal = [internal::pod_cidrs(), internal::sessions()];
        self.0.keys().cloned().chain(internal).chain([nodes()]).map(all).collect()
    }

    /// The storages of kinds that concern these.
    fn of(&self, whom: Concern) -> impl Iterator<Item = &Resource> {
        self.0.iter().filter(move |(_, its)| **its == whom).map(|(resource, _)| resource)
    }
}

/// What some events come to, for each spoke by its name.
#[derive(Default)]
struct PendingChanges {
    spokes: BTreeMap<String, Changes>,
    /// Those that may have to end.
    to_recheck: BTreeSet<String>,
    /// Those with Nodes that have changed.
    nodes: BTreeSet<String>,
    config: BTreeSet<RecordKey>,
    services: Touched,
}

impl PendingChanges {
    fn of(&mut self, spoke: &str) -> &mut Changes {
        self.spokes.entry(spoke.to_owned()).or_default()
    }
}

/// Who holds `signals` may take `at`, the readers and what waits at a signal, and nobody who holds one of these asks for
/// signals: what is noted and how far it goes are one for whoever takes it. All other locks are taken alone.
#[derive(Default)]
pub(crate) struct ChangeFanout {
    concerns: Concerns,
    pods: Mutex<BoundPods>,
    pub(crate) ranges: PodCidrLeases,
    services: Services,
    /// ConfigMaps and Secrets as spokes are told of them, and who is.
    config: ConfigRecords,
    pub(crate) readers: ConfigReaders,
    signals: Mutex<BTreeMap<ClusterName, Arc<SyncSignal>>>,
    /// Everything up to this revision is in the indexes and noted at the signals; none while nobody follows the store.
    at: Mutex<Option<Revision>>,
    /// It is another now. Who waits goes on in the order of their coming: a watch channel wakes by chance.
    moved: Notify,
}

impl ChangeFanout {
    /// From now on this spoke is told. A later session of the same spoke takes the place of this one.
    pub(crate) fn join(&self, spoke: &ClusterName) -> Arc<SyncSignal> {
        let signal = Arc::<SyncSignal>::default();
        self.signals.lock().insert(spoke.clone(), signal.clone());
        signal
    }

    /// The session with this signal is over.
    pub(crate) fn leave(&self, spoke: &ClusterName, signal: &Arc<SyncSignal>) {
        let mut signals = self.signals.lock();
        if signals.get(spoke).is_some_and(|held| Arc::ptr_eq(held, signal)) {
            signals.remove(spoke);
        }
    }

    pub(crate) fn raise(&self, spoke: &ClusterName) {
        if let Some(signal) = self.signals.lock().get(spoke) {
            signal.raise();
        }
    }

    /// Notes the same for all, and calls them. What is noted and how far it goes are one.
    fn raise_all(&self, changes: &Changes, upto: Option<Revision>) {
        let to_recheck = upto.is_some();
        let signals = self.signals.lock();
        for signal in signals.values() {
            signal.note(changes.clone());
            if to_recheck {
                signal.recheck();
                signal.note_node();
            }
            signal.raise();
        }
        upto.into_iter().for_each(|revision| self.is_at(revision));
    }

    /// What waits for this session, and the revision that it comes up to, if anybody follows the store.
    pub(crate) fn take(&self, signal: &SyncSignal) -> (Option<Revision>, Changes) {
        // What is noted and how far it goes are one.
        let _signals = self.signals.lock();
        (*self.at.lock(), signal.take())
    }

    /// Resolves once everything up to this revision is noted.
    pub(crate) async fn caught_up(&self, revision: Revision) {
        loop {
            let moved = self.moved.notified();
            // Where nobody follows the store there is nothing to wait for.
            if self.at.lock().is_none_or(|at| revision <= at) {
                return;
            }
            moved.await;
        }
    }

    fn is_at(&self, revision: Revision) {
        *self.at.lock() = Some(revision);
        self.moved.notify_waiters();
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
            loop {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    Ok(()) = images.changed() => {
                        let changes = Changes { images: true, ..Changes::default() };
                        self.raise_all(&changes, None);
                    }
                    events = watch.next() => match events {
                        Ok(events) => self.note_all(&events, watch.progress()),
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
        {
            let mut pods = self.pods.lock();
            *pods = BoundPods::default();
            let bound = self.concerns.of(Concern::ItsNode).flat_map(|resource| {
                let scope = all(resource.clone());
                snapshot.range(&scope, None).collect::<Vec<_>>()
            });
            for stored in bound {
                if let Some(node) = node_of(&stored) {
                    pods.put(node, &stored);
                }
            }
        }
        self.ranges.rebuild(snapshot);
        let reached = self.concerns.of(Concern::Everybody).cloned().map(all);
        self.services.translate(self.services.rebuild(snapshot, reached));
        let everything = Changes { everything: true, ..Changes::default() };
        self.raise_all(&everything, Some(snapshot.revision()));
    }

    fn note_all(&self, events: &[Event], upto: Revision) {
        let mut news = PendingChanges::default();
        for event in events {
            self.note(event, &mut news);
        }
        let services = self.services.translate(std::mem::take(&mut news.services));
        let mut in_root = Vec::new();
        if let Some(Concerned::WithPods) = services.get(&ClusterName::root()) {
            in_root.extend(self.pods.lock().in_root().map(str::to_owned));
        }
        let signals = self.signals.lock();
        for (spoke, changes) in news.spokes {
            if let Some(signal) = signals.get(&*spoke) {
                signal.note(changes);
                signal.raise();
            }
        }
        news.config.iter().for_each(|key| self.readers.notify(key));
        for signal in news.to_recheck.iter().filter_map(|spoke| signals.get(&**spoke)) {
            signal.recheck();
            signal.raise();
        }
        for signal in news.nodes.iter().filter_map(|spoke| signals.get(&**spoke)) {
            signal.note_node();
        }
        for (realm, concerned) in services {
            match concerned {
                Concerned::Nobody => {}
                Concerned::Everybody if realm.is_root() => {
                    signals.values().for_each(|signal| signal.raise());
                }
                Concerned::Everybody | Concerned::WithPods => {
                    signals.get(&realm).into_iter().for_each(|signal| signal.raise());
                }
            }
        }
        in_root.iter().filter_map(|spoke| signals.get(&**spoke)).for_each(|signal| signal.raise());
        self.is_at(upto);
    }

    fn note(&self, event: &Event, news: &mut PendingChanges) {
        let Some(key) = event.key() else { return };
        let Some(whom) = self.concerns.0.get(&key.resource) else {
            return self.note_other(key, event, news);
        };
        match whom {
            Concern::ItsNode => self.note_pod(event, news),
            Concern::ItsNamespace => {
                news.config.extend(config_record_key(key));
                news.to_recheck.extend(ordered(event));
            }
            Concern::ItsName => {
                if event.now.is_none() {
                    self.services.forget(&key.name);
                }
                let spoke = if key.cluster.is_root() { &*key.name } else { key.cluster.as_str() };
                news.to_recheck.insert(spoke.to_owned());
            }
            Concern::Everybody => self.services.note(event, &mut news.services),
        }
    }

    /// Nodes, and what the gateway keeps itself.
    fn note_other(&self, key: &Key, event: &Event, news: &mut PendingChanges) {
        if key.resource == nodes() {
            note_node(key, news);
        } else if key.resource == internal::pod_cidrs() {
            self.ranges.note(event);
            if let Some(stored) = event.now.as_ref().or(event.before.as_ref()) {
                news.of(&String::from_utf8_lossy(&stored.object.body));
            }
        } else {
            // A session: it is named as its spoke.
            news.to_recheck.insert(key.name.to_string());
        }
    }

    fn note_pod(&self, event: &Event, news: &mut PendingChanges) {
        let mut pods = self.pods.lock();
        let changes = [(&event.before, false), (&event.now, true)];
        for (stored, is_there) in changes.into_iter().filter_map(|(s, on)| Some((s.as_ref()?, on)))
        {
            let Some(node) = node_of(stored) else { continue };
            if is_there {
                pods.put(node, stored);
            } else {
                pods.remove(node, stored);
            }
            news.of(node).pods.insert(stored.key.clone());
        }
    }

    /// Where the pod with this UID is, if it is bound to a node.
    pub(crate) fn pod(&self, uid: &str) -> Option<Key> {
        self.pods.lock().by_uid(uid).cloned()
    }

    /// How many pods a realm has on this spoke.
    pub(crate) fn count(&self, spoke: &ClusterName, realm: &ClusterName) -> usize {
        self.pods.lock().on(spoke.as_str(), realm).map_or(0, BTreeSet::len)
    }

    /// Whether the hub has said of a pod on this spoke, while that was silent, that it is not ready.
    pub(crate) fn spoke_for(&self, spoke: &ClusterName, at: &dyn Snapshot) -> bool {
        let needle = format!("\"{SAID_OF_SILENT}\"");
        let of = |realm: &ClusterName| {
            self.pods.lock().on(spoke.as_str(), realm).cloned().unwrap_or_default()
        };
        let mut keys = of(&ClusterName::root()).into_iter().chain(of(spoke));
        // Most pods do not have the word, which shows without parsing; one that has it elsewhere costs a report or two.
        let has = |stored: Arc<Stored>| {
            let body = &stored.object.body;
            body.windows(needle.len()).any(|part| part == needle.as_bytes())
        };
        keys.any(|key| at.get(&key).is_some_and(has))
    }

    /// The addresses that pods of a realm are known to have on this spoke.
    pub(crate) fn used(
        &self,
        spoke: &ClusterName,
        realm: &ClusterName,
        at: &dyn Snapshot,
    ) -> BTreeSet<Ipv4Addr> {
        let keys = self.pods.lock().on(spoke.as_str(), realm).cloned().unwrap_or_default();
        let pods = keys.iter().filter_map(|key| at.get(key));
        let address =
            |stored: Arc<Stored>| stored.object.header.fields.get("status.podIP")?.parse().ok();
        pods.filter_map(address).collect()
    }

    /// What a plan reads, in one snapshot.
    pub(crate) fn view<'a>(&'a self, at: &'a dyn Snapshot) -> PlanView<'a> {
        let (pods, config, ranges) = (&self.pods, &self.config, &self.ranges);
        PlanView { at, pods, config, ranges, tokens: None }
    }

    /// The Services of a realm as its spokes are told of them.
    pub(crate) fn services(&self, realm: &ClusterName) -> Arc<ServiceSet> {
        self.services.of(realm)
    }
}

fn nodes() -> Resource {
    Resource::new("", "nodes")
}

/// The device that an order is to, by the name that it had then: it may be let in no more.
fn ordered(event: &Event) -> Option<String> {
    let order = event.now.as_ref().filter(|order| order.key.cluster.is_root())?;
    let labels = &order.object.header.labels;
    labels.get(DEVICE_LABEL).filter(|_| labels.contains_key(ORDER_LABEL)).cloned()
}

/// A Node may be gone, or somebody may have written into it what its device has not said.
fn note_node(key: &Key, news: &mut PendingChanges) {
    if key.cluster.is_root() || key.cluster.as_str() == &*key.name {
        news.nodes.insert(key.name.to_string());
    }
}

fn all(resource: Resource) -> Scope {
    Scope { resource, cluster: None, namespace: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_made_of_what_concerns_everybody() {
        let concerns = Concerns::default();
        let storages = |whom| concerns.of(whom).map(Resource::as_str).collect::<Vec<_>>();
        assert_eq!(storages(Concern::Everybody), ["endpointslices.discovery.k8s.io", "services"]);
        assert_eq!(storages(Concern::ItsNode), ["pods"]);
    }
}
