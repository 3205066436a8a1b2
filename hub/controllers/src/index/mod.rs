//! Who belongs to whom, found without a walk over everything.
//!
//! ```text
//! store ─events─▶ Index (one per kind of entry, shared by all controllers)
//!                   indexer  entries by key and by term
//!                   entry   what is read of an object, once per version
//!                   term    what an entry is found by: owner, node, label, selector
//! ```
//!
//! Guarantees:
//! - an index is never behind what its reader has seen or written: it takes in what the store has published
//!   before it answers, so there is nothing that expectations would have to bridge
//!   (`a_look_does_not_wait_to_be_called`, `an_index_that_fell_behind_reads_everything_anew`);
//! - what a look costs is what it finds and what happened since the last look (`a_look_costs_what_it_finds`);
//! - that of dependents is of every kind that there is: one that comes or goes costs what is there of it, at the next look
//!   (`a_kind_that_comes_or_goes_costs_what_is_there_of_it`).

mod entry;
mod fleet_entry;
mod indexer;
mod schema_entry;
mod term;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use freewheel_hub_api::kinds;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::registry::Registries;
use freewheel_hub_store::{Scope, Store, Stored, Watch};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

use crate::engine::Error;
use crate::engine::client::{all_of, everywhere, kind};
use crate::selector::Selector;
pub use entry::{
    Controllable, Dependent, Entry, NamedPort, NodeReachability, PodEntry, PodSummary,
    SelectorOwner, SliceEntry,
};
pub(crate) use fleet_entry::{
    ADD_ON_NAME, AGENT_ADD_ON_LABEL, AGENT_CLUSTER_LABEL, AGENT_GRANT_LABEL, GIVEN_ANNOTATION,
    PLACEMENT_LABEL, WORK_PLACEMENT_LABEL, WORK_SET_LABEL, granted_to, read_cluster, spec_digest,
};
pub use fleet_entry::{
    AddOnEntry, AgentGrant, ClusterEntry, DecisionEntry, Openness, WorkCondition, WorkEntry,
    WorkFacts,
};
pub use indexer::Indexer;
pub use schema_entry::SchemaEntry;
pub(crate) use schema_entry::level_of;
pub use term::IndexTerm;

/// The entries of some kinds, never behind the store.
pub struct Index<C> {
    store: Arc<dyn Store>,
    sought: IndexedKinds,
    follower: Mutex<Follower<C>>,
    entries_touched: Arc<AtomicU64>,
}

/// What an index is about.
enum IndexedKinds {
    /// These kinds.
    Kinds,
    /// Every kind that has owners, of those that there are at the moment.
    Owned(Arc<Registries>),
}

struct Follower<C> {
    indexer: Indexer<C>,
    scopes: Vec<Scope>,
    /// Of the registries when the scopes were read from them.
    version: Option<u64>,
    /// `None` before the first look, and after it fell too far behind.
    watch: Option<Box<dyn Watch>>,
}

impl<C: Entry> Index<C> {
    fn new(store: &Arc<dyn Store>, kinds: &[&Kind], entries_touched: &Arc<AtomicU64>) -> Self {
        let scopes = kinds.iter().map(|kind| everywhere(kind)).collect();
        Self::over(store, (IndexedKinds::Kinds, scopes), entries_touched)
    }

    fn of_owned(
        store: &Arc<dyn Store>,
        kinds: &Arc<Registries>,
        entries_touched: &Arc<AtomicU64>,
    ) -> Self {
        Self::over(store, (IndexedKinds::Owned(kinds.clone()), Vec::new()), entries_touched)
    }

    fn over(
        store: &Arc<dyn Store>,
        (sought, scopes): (IndexedKinds, Vec<Scope>),
        entries_touched: &Arc<AtomicU64>,
    ) -> Self {
        let follower = Follower { indexer: Indexer::default(), scopes, version: None, watch: None };
        let (store, entries_touched) = (store.clone(), entries_touched.clone());
        Self { store, sought, follower: Mutex::new(follower), entries_touched }
    }

    /// Looks at the entries as they are now. `with` must not look at the same index again.
    pub fn look<R>(&self, with: impl FnOnce(&Indexer<C>) -> R) -> R {
        let mut follower = self.follower.lock();
        let mut taken = 0;
        if let IndexedKinds::Owned(kinds) = &self.sought {
            taken += follower.follow_kinds(&*self.store, kinds);
        }
        taken += follower.catch_up(&*self.store);
        self.entries_touched.fetch_add(taken, Ordering::Relaxed);
        with(&follower.indexer)
    }

    /// The entries with this term.
    pub fn find(&self, term: IndexTerm<'_>) -> Vec<Arc<C>> {
        self.rarest(&[term])
    }

    /// The entries with the term that the fewest have; those with all of them are among these.
    pub fn rarest(&self, terms: &[IndexTerm<'_>]) -> Vec<Arc<C>> {
        let found: Vec<Arc<C>> = self.look(|indexer| indexer.rarest(terms).cloned().collect());
        self.entries_touched.fetch_add(found.len() as u64, Ordering::Relaxed);
        found
    }
}

impl<C: Entry> Index<C> {
    /// All that there is in a namespace, read anew: where no term leads to what is sought.
    fn read_all(&self, cluster: &ClusterName, namespace: &str) -> Vec<Arc<C>> {
        let snapshot = self.store.snapshot();
        let scopes = self.follower.lock().scopes.clone();
        let here = scopes.into_iter().map(|scope| Scope {
            cluster: Some(cluster.clone()),
            namespace: Some(namespace.into()),
            ..scope
        });
        let all = here.flat_map(|scope| snapshot.range(&scope, None).collect::<Vec<_>>());
        let found: Vec<Arc<C>> = all.map(|stored| Arc::new(C::read(stored))).collect();
        self.entries_touched.fetch_add(found.len() as u64, Ordering::Relaxed);
        found
    }
}

/// Whom the object controls, and who matches its selector and is nobody's.
pub fn controlled_or_adoptable<C: Entry>(
    index: &Index<C>,
    owner: &Stored,
    selector: &Selector,
) -> Vec<Arc<C>> {
    let (cluster, namespace) = (&owner.key.cluster, &*owner.key.namespace);
    let mut orphans: Vec<IndexTerm<'_>> =
        selector.pairs().map(|(k, v)| IndexTerm::OrphanWith(cluster, namespace, k, v)).collect();
    if orphans.is_empty() {
        orphans.push(IndexTerm::Orphan(cluster, namespace));
    }
    let mut found = index.find(IndexTerm::controlled_by(owner));
    found.extend(index.rarest(&orphans));
    found
}

impl<C: Entry> Follower<C> {
    /// Takes in what is there of storages that came; how many objects that was.
    fn follow_kinds(&mut self, store: &dyn Store, kinds: &Registries) -> u64 {
        let version = Some(kinds.version());
        if self.version == version {
            return 0;
        }
        self.version = version;
        let wanted = with_owners(kinds);
        let of = |scopes: &[Scope]| -> BTreeSet<Resource> {
            scopes.iter().map(|scope| scope.resource.clone()).collect()
        };
        let (there, now) = (of(&self.scopes), of(&wanted));
        if there == now {
            return 0;
        }
        // A storage that went was emptied before, which may not have been read yet.
        let went = self.watch.is_some() && !there.is_subset(&now);
        let mut taken = if went { self.catch_up(store) } else { 0 };
        self.scopes = wanted;
        let Some(watch) = self.watch.take() else { return taken };
        let seen = watch.progress();
        let snapshot = store.snapshot();
        for scope in self.scopes.iter().filter(|scope| !there.contains(&scope.resource)) {
            for stored in snapshot.range(scope, None) {
                taken += 1;
                self.indexer.put(stored);
            }
        }
        // What has happened there since the last look comes once more.
        self.watch = store.watch(self.scopes.clone(), seen).ok();
        taken
    }

    /// Takes in what was published; how many objects that was.
    fn catch_up(&mut self, store: &dyn Store) -> u64 {
        let published = store.snapshot().revision();
        let mut nobody = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Some(watch) = &mut self.watch {
            match watch.poll_next(&mut nobody) {
                Poll::Pending => {
                    let seen = watch.progress();
                    if published <= seen {
                        return taken;
                    }
                    // Watchers are called a moment after whoever wrote has its answer, and that one
                    // may be asking: a new watch looks without being called.
                    self.watch = store.watch(self.scopes.clone(), seen).ok();
                }
                Poll::Ready(Ok(events)) => {
                    taken += events.len() as u64;
                    for event in events {
                        match (event.now, event.before) {
                            (Some(now), _) => self.indexer.put(now),
                            (None, Some(gone)) => self.indexer.remove(&gone.key),
                            (None, None) => {}
                        }
                    }
                }
                Poll::Ready(Err(_)) => self.watch = None,
            }
        }
        let (snapshot, watch) = store.follow(self.scopes.clone());
        self.indexer = Indexer::default();
        for stored in self.scopes.iter().flat_map(|scope| snapshot.range(scope, None)) {
            taken += 1;
            self.indexer.put(stored);
        }
        self.watch = Some(watch);
        taken
    }
}

/// All indexes of a hub's controllers. Cheap to clone.
#[derive(Clone)]
pub struct Indexes {
    /// Pods by controller, label and node.
    pub pods: Arc<Index<PodEntry>>,
    /// ReplicaSets by controller; those without one by label.
    pub sets: Arc<Index<Controllable>>,
    /// ControllerRevisions, in the same way.
    pub revisions: Arc<Index<Controllable>>,
    /// What chooses others (Services, ReplicaSets, Deployments), by what their selectors ask for.
    pub selector_owners: Arc<Index<SelectorOwner>>,
    /// EndpointSlices by Service.
    pub slices: Arc<Index<SliceEntry>>,
    /// Nodes: whether their spokes are heard of, and where they are.
    pub nodes: Arc<Index<NodeReachability>>,
    /// ManagedClusters by label, with what they are chosen by.
    pub clusters: Arc<Index<ClusterEntry>>,
    /// PlacementDecisions by Placement.
    pub decisions: Arc<Index<DecisionEntry>>,
    /// ManifestWorks by the set that they are of.
    pub works: Arc<Index<WorkEntry>>,
    /// ManagedClusterAddOns by name.
    pub add_ons: Arc<Index<AddOnEntry>>,
    /// Secrets and RoleBindings of agents of add-ons.
    pub grants: Arc<Index<AgentGrant>>,
    /// FlowSchemas by the level that they name.
    pub flow_schemas: Arc<Index<SchemaEntry>>,
    /// Everything that has owners, by owner.
    pub dependents: Arc<Index<Dependent>>,
    entries_touched: Arc<AtomicU64>,
}

impl Indexes {
    /// Over this store; nothing is read before the first look.
    ///
    /// # Errors
    /// When the hub does not serve a kind that is indexed.
    pub fn new(store: &Arc<dyn Store>, registries: &Arc<Registries>) -> Result<Self, Error> {
        let (sets, pods) = (kind("apps", "v1", "replicasets")?, kind("", "v1", "pods")?);
        let nodes = kind("", "v1", "nodes")?;
        let revisions = kind("apps", "v1", "controllerrevisions")?;
        let selector_owners: Vec<&Kind> = kinds::all()
            .iter()
            .map(|kind| &**kind)
            .filter(|kind| kind.selection.is_some())
            .collect();
        let slices = kind("discovery.k8s.io", "v1", "endpointslices")?;
        let clusters = kind("cluster.open-cluster-management.io", "v1", "managedclusters")?;
        let decisions =
            kind("cluster.open-cluster-management.io", "v1beta1", "placementdecisions")?;
        let works = kind("work.open-cluster-management.io", "v1", "manifestworks")?;
        let add_ons = kind("addon.open-cluster-management.io", "v1alpha1", "managedclusteraddons")?;
        let (secrets, bindings) =
            (kind("", "v1", "secrets")?, kind("rbac.authorization.k8s.io", "v1", "rolebindings")?);
        let flow_schemas = kind("flowcontrol.apiserver.k8s.io", "v1", "flowschemas")?;
        let entries_touched = Arc::new(AtomicU64::new(0));
        Ok(Self {
            pods: Arc::new(Index::new(store, &[&pods], &entries_touched)),
            sets: Arc::new(Index::new(store, &[&sets], &entries_touched)),
            revisions: Arc::new(Index::new(store, &[&revisions], &entries_touched)),
            selector_owners: Arc::new(Index::new(store, &selector_owners, &entries_touched)),
            slices: Arc::new(Index::new(store, &[&slices], &entries_touched)),
            nodes: Arc::new(Index::new(store, &[&nodes], &entries_touched)),
            clusters: Arc::new(Index::new(store, &[&clusters], &entries_touched)),
            decisions: Arc::new(Index::new(store, &[&decisions], &entries_touched)),
            works: Arc::new(Index::new(store, &[&works], &entries_touched)),
            add_ons: Arc::new(Index::new(store, &[&add_ons], &entries_touched)),
            grants: Arc::new(Index::new(store, &[&secrets, &bindings], &entries_touched)),
            flow_schemas: Arc::new(Index::new(store, &[&flow_schemas], &entries_touched)),
            dependents: Arc::new(Index::of_owned(store, registries, &entries_touched)),
            entries_touched,
        })
    }

    /// The objects of this kind in the namespace of `chosen` whose selectors match its labels.
    #[must_use]
    pub fn selector_owners_of(&self, kind: &Kind, chosen: &Stored) -> Vec<Key> {
        let (cluster, namespace) = (&chosen.key.cluster, &*chosen.key.namespace);
        let (labels, resource) = (&chosen.object.header.labels, kind.storage());
        let asks = |(k, v)| IndexTerm::Asks(resource, cluster, namespace, k, v);
        let pairs = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        let terms = pairs.map(asks).chain([IndexTerm::AsksOtherwise(resource, cluster, namespace)]);
        let found = terms.flat_map(|term| self.selector_owners.find(term));
        found
            .filter(|selector_owner| {
                selector_owner.selector.as_ref().is_some_and(|s| s.matches(labels))
            })
            .map(|selector_owner| selector_owner.stored.key.clone())
            .collect()
    }

    /// The pods of a namespace that a selector chooses.
    #[must_use]
    pub fn pods_chosen_by(
        &self,
        (cluster, namespace): (&ClusterName, &str),
        selector: &Selector,
    ) -> Vec<Arc<PodEntry>> {
        let terms: Vec<IndexTerm<'_>> =
            selector.pairs().map(|(k, v)| IndexTerm::Label(cluster, namespace, k, v)).collect();
        let mut found = if terms.is_empty() {
            self.pods.read_all(cluster, namespace)
        } else {
            self.pods.rarest(&terms)
        };
        found.retain(|pod| selector.matches(&pod.stored.object.header.labels));
        found
    }

    /// How many objects all looks together have touched.
    #[must_use]
    pub fn entries_touched(&self) -> u64 {
        self.entries_touched.load(Ordering::Relaxed)
    }
}

/// All that can have owners that matter.
#[must_use]
pub fn with_owners(kinds: &Registries) -> Vec<Scope> {
    let all = kinds.stored().storages(|kind| !kind.has(Trait::HasNoOwners));
    all.into_iter().map(all_of).collect()
}

#[cfg(test)]
mod tests;
