//! Who is asked about which resource, in each cluster: kept beside the store, as the rights of people are.
//!
//! ```text
//! commit of a configuration ─▶ store ─▶ catch up: by resource, compiled when it is asked ─▶ answered
//! write ─▶ what was published last: no lock, no wait
//! ```

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{
    CommitError, Committed, Event, Layer, Reflected, Reflector, Scope, Snapshot, Store, Stored, Txn,
};
use freewheel_link::names::ClusterName;
use imbl::OrdMap;
use parking_lot::Mutex;
use serde_json::Value;

use crate::GROUP;
use crate::policy::{Binding, Hook, Policy, Purpose};
use crate::turns::ClusterTurns;
use crate::webhook::Webhook;

const PLURALS: [&str; 6] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
];

/// The storage of what is configured.
fn resources() -> [Resource; 6] {
    PLURALS.map(|plural| Resource::new(GROUP, plural))
}

/// Whether a kind is one of those that say who is asked: about them nobody is.
pub(crate) fn is_configuration(group: &str, plural: &str) -> bool {
    group == GROUP && PLURALS.contains(&plural)
}

fn scopes() -> Vec<Scope> {
    let everywhere = |resource| Scope { resource, cluster: None, namespace: None };
    resources().into_iter().map(everywhere).collect()
}

/// Those of one sort, by the resources that they are asked about.
#[derive(Debug)]
pub(crate) struct Lookup<T> {
    all: Vec<T>,
    by_plural: HashMap<String, Vec<usize>>,
    /// Those that may be asked about any resource.
    everywhere: Vec<usize>,
}

impl<T> Default for Lookup<T> {
    fn default() -> Self {
        Self { all: Vec::new(), by_plural: HashMap::new(), everywhere: Vec::new() }
    }
}

impl<T> Lookup<T> {
    fn of(all: Vec<T>, plurals: impl Fn(&T) -> Option<Vec<&str>>) -> Self {
        let (mut by_plural, mut everywhere): (HashMap<String, Vec<usize>>, _) = Default::default();
        for (at, one) in all.iter().enumerate() {
            match plurals(one) {
                None => Vec::push(&mut everywhere, at),
                Some(mut named) => {
                    named.sort_unstable();
                    named.dedup();
                    named.into_iter().for_each(|plural| {
                        by_plural.entry(plural.to_owned()).or_default().push(at);
                    });
                }
            }
        }
        Self { all, by_plural, everywhere }
    }

    /// Whether anybody may be asked about this resource.
    pub(crate) fn has(&self, plural: &str) -> bool {
        !self.everywhere.is_empty() || self.by_plural.contains_key(plural)
    }

    /// Those that may be asked about it, in their order.
    pub(crate) fn about(&self, plural: &str) -> Vec<&T> {
        let named = self.by_plural.get(plural).map_or(&[][..], Vec::as_slice);
        let mut places: Vec<usize> = named.iter().chain(&self.everywhere).copied().collect();
        places.sort_unstable();
        places.into_iter().filter_map(|at| self.all.get(at)).collect()
    }
}

/// Who is asked in one cluster.
#[derive(Debug)]
pub(crate) struct Config {
    written: Written,
    pub(crate) validating: Lookup<Hook>,
    pub(crate) mutating: Lookup<Hook>,
    pub(crate) validating_webhooks: Lookup<Arc<Webhook>>,
    pub(crate) mutating_webhooks: Lookup<Arc<Webhook>>,
    pub(crate) bounds: Bounds,
}

/// What one cluster may take of the hub at a time.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Evaluations.
    pub(crate) turns: ClusterTurns,
}

impl Bounds {
    fn of(cluster: &ClusterName) -> Self {
        Self { turns: ClusterTurns::of(cluster) }
    }
}

/// What is written of it, by name.
#[derive(Clone, Debug, Default)]
struct Written {
    policies: [OrdMap<String, Arc<Policy>>; 2],
    bindings: [OrdMap<String, Arc<Binding>>; 2],
    webhooks: [OrdMap<String, Vec<Arc<Webhook>>>; 2],
}

impl Written {
    fn is_empty(&self) -> bool {
        self.policies.iter().all(OrdMap::is_empty)
            && self.bindings.iter().all(OrdMap::is_empty)
            && self.webhooks.iter().all(OrdMap::is_empty)
    }

    fn set(&mut self, plural: &str, name: &str, body: Option<&Value>) {
        let [policies, changes] = &mut self.policies;
        let [bindings, bindings_of_changes] = &mut self.bindings;
        let [webhooks, mutating] = &mut self.webhooks;
        match plural {
            "validatingadmissionpolicies" => {
                put(policies, name, body.map(|it| Policy::read(it, Purpose::Validating).into()));
            }
            "mutatingadmissionpolicies" => {
                put(changes, name, body.map(|it| Policy::read(it, Purpose::Mutating).into()));
            }
            "validatingadmissionpolicybindings" => {
                put(bindings, name, body.map(|it| Binding::read(it).into()));
            }
            "mutatingadmissionpolicybindings" => {
                put(bindings_of_changes, name, body.map(|it| Binding::read(it).into()));
            }
            "validatingwebhookconfigurations" => put(webhooks, name, body.map(Webhook::list)),
            "mutatingwebhookconfigurations" => put(mutating, name, body.map(Webhook::list)),
            _ => {}
        }
    }

    fn hooks(&self, which: usize) -> Lookup<Hook> {
        let (Some(policies), Some(bindings)) = (self.policies.get(which), self.bindings.get(which))
        else {
            return Lookup::default();
        };
        let mut by_policy: HashMap<&str, Vec<Arc<Binding>>> = HashMap::new();
        for binding in bindings.values() {
            by_policy.entry(&binding.policy).or_default().push(binding.clone());
        }
        let mut bound = |policy: &Arc<Policy>| {
            // A policy that is bound to nothing asks nobody.
            let bindings = by_policy.remove(&*policy.name)?;
            Some(Hook { policy: policy.clone(), bindings })
        };
        let all = policies.values().filter_map(&mut bound).collect();
        Lookup::of(all, |hook: &Hook| hook.policy.selection.plurals())
    }

    fn webhooks(&self, which: usize) -> Lookup<Arc<Webhook>> {
        let all = self.webhooks.get(which).into_iter().flat_map(|all| all.values().flatten());
        Lookup::of(all.cloned().collect(), |hook: &Arc<Webhook>| hook.selection.plurals())
    }

    fn config(self, bounds: Bounds) -> Config {
        Config {
            validating: self.hooks(0),
            mutating: self.hooks(1),
            validating_webhooks: self.webhooks(0),
            mutating_webhooks: self.webhooks(1),
            written: self,
            bounds,
        }
    }
}

fn put<T: Clone>(all: &mut OrdMap<String, T>, name: &str, one: Option<T>) {
    match one {
        Some(one) => drop(all.insert(name.to_owned(), one)),
        None => drop(all.remove(name)),
    }
}

type Clusters = imbl::HashMap<ClusterName, Arc<Config>>;

/// Who is asked, in every cluster.
pub struct Index {
    now: ArcSwap<Clusters>,
    reflector: Mutex<Reflector>,
}

impl Index {
    /// Of what is in this store, which is to be written through the second: that keeps the first up to date.
    #[must_use]
    pub fn over(store: Arc<dyn Store>) -> (Arc<Self>, Arc<dyn Store>) {
        let reflector = Mutex::new(Reflector::new(store.clone(), scopes()));
        let index = Arc::new(Self { now: ArcSwap::default(), reflector });
        index.catch_up();
        let written = IndexedStore { below: store, index: index.clone(), resources: resources() };
        (index, Arc::new(written))
    }

    /// Who is asked in a cluster at this moment; nothing where nobody is.
    pub(crate) fn of(&self, cluster: &ClusterName) -> Option<Arc<Config>> {
        self.now.load().get(cluster).cloned()
    }

    /// Takes in all that is durable.
    fn catch_up(&self) {
        let mut reflector = self.reflector.lock();
        let mut clusters = Clusters::clone(&self.now.load());
        while let Some(change) = reflector.next_change() {
            match change {
                Reflected::Everything(snapshot) => clusters = read(&*snapshot),
                Reflected::Events(events) => apply(&mut clusters, &events),
            }
        }
        self.now.store(Arc::new(clusters));
    }
}

fn read(snapshot: &dyn Snapshot) -> Clusters {
    let mut all: HashMap<ClusterName, Written> = HashMap::new();
    for scope in scopes() {
        for stored in snapshot.range(&scope, None) {
            let written = all.entry(stored.key.cluster.clone()).or_default();
            written.set(stored.key.resource.plural(), &stored.key.name, value(&stored).as_ref());
        }
    }
    let config = |(cluster, written): (ClusterName, Written)| {
        let bounds = Bounds::of(&cluster);
        (cluster, Arc::new(written.config(bounds)))
    };
    all.into_iter().map(config).collect()
}

fn value(stored: &Stored) -> Option<Value> {
    stored.object.value().ok()
}

fn apply(clusters: &mut Clusters, events: &[Event]) {
    for event in events {
        let Some(Key { resource, cluster, name, .. }) = event.key() else { continue };
        let before = clusters.get(cluster);
        let mut written = before.map(|it| it.written.clone()).unwrap_or_default();
        written.set(resource.plural(), name, event.now.as_deref().and_then(value).as_ref());
        let bounds = before.map_or_else(|| Bounds::of(cluster), |it| it.bounds.clone());
        if written.is_empty() {
            clusters.remove(cluster);
        } else {
            clusters.insert(cluster.clone(), Arc::new(written.config(bounds)));
        }
    }
}

/// A store whose writers of configurations are answered when these count.
struct IndexedStore {
    below: Arc<dyn Store>,
    index: Arc<Index>,
    resources: [Resource; 6],
}

#[async_trait]
impl Layer for IndexedStore {
    fn below(&self) -> &dyn Store {
        &*self.below
    }

    async fn commit(&self, txn: Txn) -> Result<Committed, CommitError> {
        let mut operations = txn.operations.iter();
        let concerns = operations.any(|one| self.resources.contains(&one.key().resource));
        let committed = self.below.commit(txn).await;
        if concerns && committed.is_ok() {
            self.index.catch_up();
        }
        committed
    }
}
