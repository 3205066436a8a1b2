//! Which kinds a logical cluster serves: those that all share, which whoever makes the registries gives, and those of
//! its own.
//!
//! ```text
//! Registries ─ of(cluster) ─▶ Registry { shared layer, own layer }     as of this moment
//!     │                          asked by path, by apiVersion and kind, by storage key
//!     ├ add, remove, forget ─▶ a new own layer for that cluster
//!     └ changes ─▶ a storage has come or gone: whoever follows all of them asks which, of which cluster
//! ```
//!
//! A request asks once and keeps what it got. A layer never changes: a cluster that gets a kind gets a new layer. A
//! cluster without kinds of its own costs nothing.
//!
//! Guarantees:
//! - no two kinds of a cluster have the same path, the same type or, unless one says so, the same storage
//!   (`what_is_taken_is_refused`);
//! - a kind of one cluster is none of another's (`a_cluster_has_its_own_kinds_and_nobody_elses`), also where both have
//!   one of the same storage (`what_is_asked_of_a_storage_is_asked_of_each_cluster_s_kind`);
//! - a change that brings and takes no storage is told to nobody who follows them, and one that does names its cluster
//!   (`what_comes_is_told_by_its_cluster_and_what_changes_is_not`); who waits for the end of a kind hears of its cluster
//!   alone (`who_waits_for_an_end_hears_of_its_cluster_alone`);
//! - a kind that is removed is held by nobody here (`what_is_removed_is_freed`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::gvk::Gvr;
use crate::kind::{Kind, KindId};
use crate::layer::{KindTaken, Layer};
use crate::object::Resource;

/// The kinds of one logical cluster, as of one moment. Cheap to clone.
#[derive(Clone)]
pub struct Registry {
    is_root: bool,
    shared: Arc<Layer>,
    own: Option<Arc<Layer>>,
}

impl Registry {
    /// What a cluster without kinds of its own serves.
    #[must_use]
    pub fn new(shared: Arc<Layer>, cluster: &ClusterName) -> Self {
        Self { is_root: cluster.is_root(), shared, own: None }
    }

    /// All kinds that a path leads to: those that are shared, then the cluster's own, each sorted.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        let shared = self.shared.all().iter().filter(|kind| self.serves(kind));
        shared.chain(self.own()).filter(|kind| kind.served)
    }

    /// The cluster's own kinds.
    #[must_use]
    pub fn own(&self) -> &[Arc<Kind>] {
        self.own.as_ref().map_or(&[], |own| own.all())
    }

    /// The layer that all clusters share, whether this one serves all of it or not.
    pub(crate) fn shared(&self) -> &Layer {
        &self.shared
    }

    /// The kind behind a path of the API.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.either(|layer| layer.find(group, version, plural).filter(|kind| kind.served))
    }

    /// The kind that an object says it is: `apiVersion` and `kind`.
    #[must_use]
    pub fn by_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.either(|layer| layer.by_kind(api_version, kind))
    }

    /// The kind under which a stored object is written: that of its own body.
    #[must_use]
    pub fn by_storage(&self, resource: &Resource) -> Option<&Arc<Kind>> {
        self.either(|layer| layer.by_storage(resource))
    }

    /// Every kind that has objects of its own, each storage once, sorted by it.
    #[must_use]
    pub fn stored(&self) -> Vec<&Arc<Kind>> {
        let shared = self.shared.all().iter().filter(|kind| self.serves(kind));
        let mut all: Vec<&Arc<Kind>> =
            shared.chain(self.own()).filter(|kind| kind.stored_as.is_none()).collect();
        all.sort_by_key(|kind| kind.storage());
        all
    }

    fn serves(&self, kind: &Kind) -> bool {
        self.is_root || !kind.root_only
    }

    fn either<'a>(
        &'a self,
        ask: impl Fn(&'a Layer) -> Option<&'a Arc<Kind>>,
    ) -> Option<&'a Arc<Kind>> {
        let shared = ask(&self.shared).filter(|kind| self.serves(kind));
        shared.or_else(|| self.own.as_deref().and_then(ask))
    }
}

type OwnLayers = BTreeMap<ClusterName, Arc<Layer>>;

/// What all clusters store, as of one moment. Cheap to clone.
#[derive(Clone)]
pub struct StoredKinds {
    shared: Arc<Layer>,
    own: Arc<OwnLayers>,
}

impl StoredKinds {
    /// The storages of kinds for which this holds, in any cluster; each once, in order.
    pub fn storages(&self, wanted: impl Fn(&Kind) -> bool) -> BTreeSet<Resource> {
        let layers = std::iter::once(&self.shared).chain(self.own.values());
        let kinds = layers.flat_map(|layer| stored(layer)).filter(|kind| wanted(kind));
        kinds.map(|kind| kind.storage().clone()).collect()
    }

    /// The storages that clusters have of their own now and had not before, or had for other kinds of objects.
    #[must_use]
    pub fn came_since(&self, before: &Self) -> Vec<(ClusterName, Resource)> {
        let mut came = Vec::new();
        for (cluster, now) in self.own.iter() {
            let then = before.own.get(cluster);
            if then.is_some_and(|then| Arc::ptr_eq(then, now)) {
                continue;
            }
            let then: BTreeSet<_> = then.into_iter().flat_map(|layer| places(layer)).collect();
            let new = places(now).filter(|place| !then.contains(place));
            came.extend(new.map(|(storage, _)| (cluster.clone(), storage.clone())));
        }
        came
    }
}

/// The kinds of a layer that have objects of their own.
fn stored(layer: &Layer) -> impl Iterator<Item = &Arc<Kind>> {
    layer.all().iter().filter(|kind| kind.stored_as.is_none())
}

/// Where their objects are: whoever follows them asks for nothing else.
fn places(layer: &Layer) -> impl Iterator<Item = (&Resource, bool)> {
    stored(layer).map(|kind| (kind.storage(), kind.namespaced))
}

/// The registries of all logical clusters of a hub.
pub struct Registries {
    shared: Arc<Layer>,
    own: ArcSwap<OwnLayers>,
    /// Held by who makes another set of them from the one that is in force. Who holds it may take `clusters`, and not the
    /// other way round.
    writing: Mutex<()>,
    /// Storages have come or gone.
    changed: watch::Sender<u64>,
    /// The kinds of a cluster have changed; where somebody waits for that.
    clusters: Mutex<BTreeMap<ClusterName, watch::Sender<()>>>,
}

impl Registries {
    /// Of clusters that share this layer.
    #[must_use]
    pub fn new(shared: Arc<Layer>) -> Self {
        let (changed, _) = watch::channel(0);
        let (own, writing, clusters) = Default::default();
        Self { shared, own, writing, changed, clusters }
    }

    /// What a cluster serves now.
    #[must_use]
    pub fn of(&self, cluster: &ClusterName) -> Registry {
        let own = self.own.load().get(cluster).cloned();
        Registry { own, ..Registry::new(self.shared.clone(), cluster) }
    }

    /// Adds a kind to a cluster's own.
    ///
    /// # Errors
    /// When its path, its type or its storage is another kind's.
    pub fn add(&self, cluster: &ClusterName, kind: Kind) -> Result<Arc<Kind>, KindTaken> {
        let kind = Arc::new(kind);
        let _alone = self.writing.lock();
        let mut all = (**self.own.load()).clone();
        let mut own = all.get(cluster).map(|own| own.all().to_vec()).unwrap_or_default();
        let layer = Layer::new(own.clone());
        if let Some(taken) = self.shared.clash(&kind).or_else(|| layer.clash(&kind)) {
            return Err(taken);
        }
        own.push(kind.clone());
        all.insert(cluster.clone(), Arc::new(Layer::new(own)));
        self.publish(cluster, all);
        Ok(kind)
    }

    /// Makes these the kinds of one storage of a cluster, in place of those that it has of it: all versions of a custom
    /// resource, or nothing any more. What was made of the same stays what it was.
    ///
    /// # Errors
    /// When the path or type of one is another kind's, or their storage is.
    pub fn put(
        &self,
        cluster: &ClusterName,
        storage: &Resource,
        kinds: Vec<Kind>,
    ) -> Result<(), KindTaken> {
        let _alone = self.writing.lock();
        let before = self.own.load();
        let own = before.get(cluster).map(|own| own.all()).unwrap_or_default();
        let (old, mut rest): (Vec<_>, Vec<_>) =
            own.iter().cloned().partition(|kind| kind.storage() == storage);
        if is_same(&old, &kinds) {
            return Ok(());
        }
        let beside = Layer::new(rest.clone());
        for kind in &kinds {
            if let Some(taken) = self.shared.clash(kind).or_else(|| beside.clash(kind)) {
                return Err(taken);
            }
        }
        rest.extend(kinds.into_iter().map(Arc::new));
        let mut all = (**before).clone();
        if rest.is_empty() {
            all.remove(cluster);
        } else {
            all.insert(cluster.clone(), Arc::new(Layer::new(rest)));
        }
        self.publish(cluster, all);
        Ok(())
    }

    /// Takes one of a cluster's own kinds away; its objects are the caller's to delete before. `None` when it has
    /// no such kind.
    pub fn remove(&self, cluster: &ClusterName, path: &Gvr) -> Option<Arc<Kind>> {
        let _alone = self.writing.lock();
        let mut all = (**self.own.load()).clone();
        let own = all.get(cluster)?;
        let gone = own.find(&path.group, &path.version, &path.resource)?.clone();
        let rest: Vec<Arc<Kind>> =
            own.all().iter().filter(|kind| kind.id() != gone.id()).cloned().collect();
        if rest.is_empty() {
            all.remove(cluster);
        } else {
            all.insert(cluster.clone(), Arc::new(Layer::new(rest)));
        }
        self.publish(cluster, all);
        Some(gone)
    }

    /// Takes all of a cluster's own kinds away: it is gone.
    pub fn forget(&self, cluster: &ClusterName) {
        let _alone = self.writing.lock();
        let mut all = (**self.own.load()).clone();
        if all.remove(cluster).is_some() {
            self.publish(cluster, all);
        }
    }

    /// Puts what a cluster has of its own in force.
    fn publish(&self, cluster: &ClusterName, all: OwnLayers) {
        let before = self.own.load_full();
        let there = |own: &OwnLayers| -> BTreeSet<(Resource, bool)> {
            let places = own.get(cluster).into_iter().flat_map(|layer| places(layer));
            places.map(|(storage, namespaced)| (storage.clone(), namespaced)).collect()
        };
        let is_other = there(&before) != there(&all);
        self.own.store(Arc::new(all));
        if is_other {
            self.changed.send_modify(|version| *version += 1);
        }
        let mut clusters = self.clusters.lock();
        if clusters.get(cluster).is_some_and(|waiting| waiting.send(()).is_err()) {
            // Nobody waits any more.
            clusters.remove(cluster);
        }
    }

    /// What all clusters store now.
    #[must_use]
    pub fn stored(&self) -> StoredKinds {
        StoredKinds { shared: self.shared.clone(), own: self.own.load_full() }
    }

    /// Counts up whenever a storage has come or gone.
    #[must_use]
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Tells from now on when a storage has come or gone.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn changes_of(&self, cluster: &ClusterName) -> watch::Receiver<()> {
        let mut clusters = self.clusters.lock();
        clusters.entry(cluster.clone()).or_insert_with(|| watch::Sender::new(())).subscribe()
    }

    /// Ready when a cluster's own kind is none of its kinds any more.
    pub fn end_of(
        self: &Arc<Self>,
        cluster: &ClusterName,
        id: KindId,
    ) -> impl Future<Output = ()> + Send + 'static {
        let (registries, cluster) = (self.clone(), cluster.clone());
        let mut changes = self.changes_of(&cluster);
        async move {
            loop {
                // What comes after this look is a change.
                changes.mark_unchanged();
                if !registries.of(&cluster).own().iter().any(|kind| kind.id() == id) {
                    return;
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether these kinds were made of what those would be made of.
fn is_same(old: &[Arc<Kind>], new: &[Kind]) -> bool {
    let same = |(old, new): (&Arc<Kind>, &Kind)| {
        !new.origin().is_empty() && old.gvk() == new.gvk() && old.origin() == new.origin()
    };
    let mut sorted: Vec<&Kind> = new.iter().collect();
    sorted.sort_by(|a, b| a.version().cmp(b.version()));
    old.len() == new.len() && old.iter().zip(sorted).all(same)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;
    use serde_json::json;

    use super::*;
    use crate::gvk::Gvk;
    use crate::kind::Strategy;

    struct Plain;

    impl Strategy for Plain {}

    fn kind(group: String, kind: &'static str, plural: &'static str) -> Kind {
        Kind::new(Gvk::new(group, "v1", kind), plural, Plain)
    }

    fn widgets() -> Kind {
        kind("example.com".to_owned(), "Widget", "widgets")
    }

    /// Pods, and what the root alone has.
    fn shared() -> Arc<Layer> {
        let fleet = kind("fleet".to_owned(), "Spoke", "spokes").in_the_root_only();
        let all = [kind(String::new(), "Pod", "pods"), fleet];
        Arc::new(Layer::new(all.into_iter().map(Arc::new).collect()))
    }

    fn registries() -> Registries {
        Registries::new(shared())
    }

    fn pi() -> ClusterName {
        ClusterName::try_from("pi-7").unwrap()
    }

    #[test]
    fn a_cluster_has_its_own_kinds_and_nobody_elses() {
        let registries = registries();
        registries.add(&pi(), widgets()).unwrap();
        let here = registries.of(&pi());
        assert_eq!(here.find("example.com", "v1", "widgets").unwrap().kind(), "Widget");
        assert_eq!(here.by_kind("example.com/v1", "Widget").unwrap().plural(), "widgets");
        let storage = Resource::new("example.com", "widgets");
        assert_eq!(here.by_storage(&storage).unwrap().plural(), "widgets");
        assert!(here.find("", "v1", "pods").is_some());
        let there = registries.of(&ClusterName::root());
        assert!(there.find("example.com", "v1", "widgets").is_none());
        assert!(there.by_kind("example.com/v1", "Widget").is_none());
        assert!(there.by_storage(&storage).is_none());
        registries.add(&ClusterName::root(), widgets()).unwrap();
        assert!(registries.stored().storages(|_| true).contains(&storage));
    }

    #[test]
    fn what_is_asked_of_a_storage_is_asked_of_each_cluster_s_kind() {
        let registries = registries();
        let first = ClusterName::try_from("a").unwrap();
        let storage = Resource::new("example.com", "widgets");
        registries.put(&first, &storage, vec![widgets().cluster_scoped()]).unwrap();
        registries.put(&pi(), &storage, vec![widgets()]).unwrap();
        let namespaced = registries.stored().storages(|kind| kind.namespaced);
        assert!(namespaced.contains(&storage), "{namespaced:?}");
        assert!(registries.stored().storages(|kind| !kind.namespaced).contains(&storage));
    }

    #[test]
    fn what_comes_is_told_by_its_cluster_and_what_changes_is_not() {
        let registries = registries();
        let storage = Resource::new("example.com", "widgets");
        let changes = registries.changes();
        let put = |cluster: &ClusterName, origin: &'static str| {
            let before = registries.stored();
            registries.put(cluster, &storage, vec![widgets().made_of(origin)]).unwrap();
            registries.stored().came_since(&before)
        };
        assert_eq!(put(&pi(), "a"), [(pi(), storage.clone())]);
        let before = *changes.borrow();
        for origin in ["b", "c"] {
            assert_eq!(put(&pi(), origin), [], "a description of it");
        }
        assert_eq!(*changes.borrow(), before);
        let root = ClusterName::root();
        assert_eq!(
            put(&root, "a"),
            [(root.clone(), storage.clone())],
            "another's of the same name"
        );
        let before = registries.stored();
        let wide = vec![widgets().cluster_scoped().made_of("d")];
        registries.put(&root, &storage, wide).unwrap();
        assert_eq!(registries.stored().came_since(&before), [(root, storage.clone())]);
        let before = registries.stored();
        registries.put(&pi(), &storage, Vec::new()).unwrap();
        assert_eq!(registries.stored().came_since(&before), []);
        assert_eq!(*changes.borrow(), 4, "two came, one is another, one went");
    }

    /// How often somebody was called.
    #[derive(Default)]
    struct Calls(AtomicUsize);

    impl std::task::Wake for Calls {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_for_an_end_hears_of_its_cluster_alone() {
        let registries = Arc::new(registries());
        let id = registries.add(&pi(), widgets()).unwrap().id();
        let its = pi();
        let mut ends: Vec<_> = (0..3).map(|_| Box::pin(registries.end_of(&its, id))).collect();
        let count = Arc::new(Calls::default());
        let waker = count.clone().into();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(ends.iter_mut().all(|end| end.as_mut().poll(&mut cx).is_pending()));
        let other = ClusterName::try_from("pi-8").unwrap();
        registries.add(&other, widgets()).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        registries.forget(&pi());
        assert_eq!(count.0.load(Ordering::Relaxed), 3);
        assert!(ends.iter_mut().all(|end| end.as_mut().poll(&mut cx).is_ready()));
        drop(ends);
        registries.add(&pi(), widgets()).unwrap();
        assert!(registries.clusters.lock().is_empty(), "nobody waits any more");
    }

    #[test]
    fn what_the_root_alone_has_no_other_cluster_serves() {
        let of = |cluster: &ClusterName| {
            let registry = Registry::new(shared(), cluster);
            registry.by_kind("fleet/v1", "Spoke").is_some()
        };
        assert!(of(&ClusterName::root()));
        assert!(!of(&pi()));
    }

    #[test]
    fn what_is_taken_is_refused() {
        let registries = registries();
        registries.add(&pi(), widgets()).unwrap();
        let twice = registries.add(&pi(), widgets()).unwrap_err();
        assert_eq!(twice.to_string(), "widgets of example.com/v1 is another kind's already");
        let same_type = kind("example.com".to_owned(), "Widget", "gadgets");
        assert!(registries.add(&pi(), same_type).is_err());
        let pods = kind(String::new(), "Cabin", "pods");
        assert!(registries.add(&pi(), pods).is_err());
        let newer = Kind::new(Gvk::new("example.com", "v2", "Widget"), "widgets", Plain);
        assert_eq!(
            registries.add(&pi(), newer).unwrap_err().to_string(),
            "the storage widgets.example.com is another kind's already"
        );
        let newer = Kind::new(Gvk::new("example.com", "v2", "Widget"), "widgets", Plain);
        let stored = Gvr::new("example.com", "v1", "widgets");
        registries.add(&pi(), newer.stored_as(stored)).unwrap();
    }

    #[test]
    fn versions_of_a_storage_come_and_go_together() {
        let registries = registries();
        let storage = Resource::new("example.com", "widgets");
        let versions = |origin: &'static str| {
            let newer = Kind::new(Gvk::new("example.com", "v2", "Widget"), "widgets", Plain);
            let stored = Gvr::new("example.com", "v1", "widgets");
            let first = widgets().only_stored().made_of(origin);
            vec![newer.stored_as(stored).made_of(origin), first]
        };
        registries.put(&pi(), &storage, versions("a")).unwrap();
        let here = registries.of(&pi());
        assert!(here.find("example.com", "v1", "widgets").is_none(), "no path leads to it");
        let id = here.find("example.com", "v2", "widgets").unwrap().id();
        assert_eq!(here.by_storage(&storage).unwrap().version(), "v1");
        assert_eq!(here.stored().iter().filter(|kind| *kind.storage() == storage).count(), 1);
        registries.put(&pi(), &storage, versions("a")).unwrap();
        assert_eq!(registries.of(&pi()).find("example.com", "v2", "widgets").unwrap().id(), id);
        registries.put(&pi(), &storage, versions("b")).unwrap();
        assert_ne!(registries.of(&pi()).find("example.com", "v2", "widgets").unwrap().id(), id);
        registries.put(&pi(), &storage, Vec::new()).unwrap();
        assert!(registries.of(&pi()).own().is_empty());
    }

    #[test]
    fn what_is_removed_is_freed() {
        let registries = Arc::new(registries());
        let kind = registries.add(&pi(), widgets()).unwrap();
        let path = Gvr::new("example.com", "v1", "widgets");
        let (id, held) = (kind.id(), Arc::downgrade(&kind));
        drop(kind);
        let mut end = Box::pin(registries.end_of(&pi(), id));
        assert!((&mut end).now_or_never().is_none());
        let before = registries.version();
        drop(registries.remove(&pi(), &path));
        assert!(held.upgrade().is_none());
        assert_ne!(registries.version(), before);
        assert!(end.now_or_never().is_some());
        assert!(registries.remove(&pi(), &path).is_none());
        let again = registries.add(&pi(), widgets()).unwrap();
        assert_ne!(again.id(), id, "it is another one");
        assert_eq!(json!(again.api_version()), "example.com/v1");
        registries.forget(&pi());
        assert!(registries.of(&pi()).own().is_empty());
    }
}
