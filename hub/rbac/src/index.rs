//! The newest rights of all clusters, kept beside the store.
//!
//! ```text
//! commit of a role ─▶ store ─▶ catch up ─▶ answered
//! decision ─▶ the state that was published last: no lock, no wait
//! ```
//!
//! Whoever writes roles or bindings waits until they count; those are few. What reaches the store by another way, the
//! follower takes in.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{
    CommitError, Committed, Event, Layer, Reflected, Reflector, Scope, Snapshot, Store, Stored, Txn,
};
use freewheel_link::names::ClusterName;
use imbl::HashMap;
use parking_lot::Mutex;
use serde::Deserialize;
use tracing::warn;

use crate::binding::Body;
use crate::rbac_kind::{KINDS, RbacForm, RbacKind};
use crate::rights::{ClusterRights, Rules};
use crate::rule::PolicyRule;

/// How many rules are kept for others that are alike before those that nobody has are let go.
const KEPT_RULES_MIN: usize = 1_024;

type Clusters = HashMap<ClusterName, Arc<ClusterRights>>;

/// What callers may do, in every cluster.
pub struct Index {
    store: Arc<dyn Store>,
    now: ArcSwap<Clusters>,
    upkeep: Mutex<Upkeep>,
}

struct Upkeep {
    reflector: Reflector,
    rules: KnownRules,
}

/// The storage of roles and bindings.
#[must_use]
pub fn resources() -> [Resource; 4] {
    KINDS.each_ref().map(RbacKind::storage)
}

fn scopes() -> Vec<Scope> {
    let everywhere = |resource| Scope { resource, cluster: None, namespace: None };
    resources().into_iter().map(everywhere).collect()
}

impl Index {
    /// Of what is in this store, which is to be written through the second: that keeps the first up to date.
    #[must_use]
    pub fn over(store: Arc<dyn Store>) -> (Arc<Self>, Arc<dyn Store>) {
        let reflector = Reflector::new(store.clone(), scopes());
        let upkeep = Mutex::new(Upkeep { reflector, rules: KnownRules::default() });
        let index = Arc::new(Self { store: store.clone(), now: ArcSwap::default(), upkeep });
        index.catch_up();
        let written = IndexedStore { below: store, index: index.clone(), resources: resources() };
        (index, Arc::new(written))
    }

    /// What callers may do in a cluster at this moment.
    #[must_use]
    pub fn of(&self, cluster: &ClusterName) -> Option<Arc<ClusterRights>> {
        self.now.load().get(cluster).cloned()
    }

    /// Takes in what was written by another way than the store that [`Index::over`] answers. For ever.
    pub async fn follow(&self) {
        loop {
            let (_, mut watch) = self.store.follow(scopes());
            self.catch_up();
            while watch.next().await.is_ok() {
                self.catch_up();
            }
        }
    }

    /// Takes in all that is durable.
    fn catch_up(&self) {
        let mut upkeep = self.upkeep.lock();
        let Upkeep { reflector, rules } = &mut *upkeep;
        let mut clusters = Clusters::clone(&self.now.load());
        while let Some(change) = reflector.next_change() {
            match change {
                Reflected::Everything(snapshot) => clusters = read(&*snapshot, rules),
                Reflected::Events(events) => {
                    events.iter().for_each(|event| apply(&mut clusters, event, rules));
                }
            }
        }
        self.now.store(Arc::new(clusters));
    }
}

fn read(snapshot: &dyn Snapshot, rules: &mut KnownRules) -> Clusters {
    let mut clusters = Clusters::new();
    for scope in scopes() {
        for stored in snapshot.range(&scope, None) {
            set(&mut clusters, &stored.key, Some(&stored), rules);
        }
    }
    clusters
}

fn apply(clusters: &mut Clusters, event: &Event, rules: &mut KnownRules) {
    let Some(key) = event.key() else { return };
    set(clusters, key, event.now.as_deref(), rules);
}

fn set(clusters: &mut Clusters, key: &Key, stored: Option<&Stored>, rules: &mut KnownRules) {
    let Some(kind) = RbacKind::stored_in(&key.resource) else { return };
    let cluster = clusters.get(&key.cluster);
    let mut cluster = cluster.map(|it| (**it).clone()).unwrap_or_default();
    let (namespace, name) = (&*key.namespace, &key.name);
    cluster.change(namespace, |rights| match kind.form {
        RbacForm::Role => rights.set_role(name, stored.and_then(|stored| rules.of(stored))),
        RbacForm::Binding => {
            let binding = stored.and_then(typed::<Body>);
            rights.set_binding(name, binding.and_then(|body| body.binding(namespace, name)));
        }
    });
    if cluster.is_empty() {
        clusters.remove(&key.cluster);
    } else {
        clusters.insert(key.cluster.clone(), Arc::new(cluster));
    }
}

/// What cannot be read gives nobody anything.
fn typed<T: serde::de::DeserializeOwned>(stored: &Stored) -> Option<T> {
    let read = serde_json::from_slice(&stored.object.body);
    read.map_err(|error| warn!(key = ?stored.key, %error, "it gives nobody a right")).ok()
}

/// Rules that are the same in many clusters are there once.
#[derive(Default)]
struct KnownRules {
    all: HashSet<Rules>,
    /// Of how many, those are let go that nobody has.
    full: usize,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

impl KnownRules {
    fn of(&mut self, role: &Stored) -> Option<Rules> {
        let rules = Arc::new(typed::<Role>(role)?.rules.unwrap_or_default());
        if let Some(known) = self.all.get(&rules) {
            return Some(known.clone());
        }
        if self.full.max(KEPT_RULES_MIN) <= self.all.len() {
            self.all.retain(|rules| 1 < Arc::strong_count(rules));
            self.full = 2 * self.all.len();
        }
        self.all.insert(rules.clone());
        Some(rules)
    }
}

/// A store whose writers of roles and bindings are answered when these count.
pub struct IndexedStore {
    below: Arc<dyn Store>,
    index: Arc<Index>,
    resources: [Resource; 4],
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

#[cfg(test)]
mod tests {
    use freewheel_hub_schema::object::{Header, Object};
    use freewheel_hub_store::Operation;
    use freewheel_hub_store::memory::MemoryStore;
    use serde_json::{Value, json};

    use super::*;
    use crate::{GROUP, Request, Who};

    const READ: &str = "read";

    fn put(cluster: &str, plural: &str, namespace: &str, name: &str, body: &Value) -> Operation {
        let cluster = ClusterName::try_from(cluster).unwrap();
        let key = Key::new(&Resource::new(GROUP, plural), &cluster, namespace, name);
        let object = Object { header: Header::default(), body: body.to_string().into() };
        Operation::Put(key, object)
    }

    fn binding(role: &str, subjects: &Value) -> Value {
        json!({"roleRef": {"kind": role, "name": READ}, "subjects": subjects})
    }

    fn pods() -> Value {
        json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]})
    }

    async fn commit(store: &dyn Store, operations: Vec<Operation>) {
        store.commit(Txn { expect: Vec::new(), operations }).await.unwrap();
    }

    fn may(index: &Index, cluster: &str, who: (&str, &[&str]), namespace: &str) -> bool {
        let Some(rights) = index.of(&ClusterName::try_from(cluster).unwrap()) else { return false };
        let groups: Vec<String> = who.1.iter().map(|group| (*group).to_owned()).collect();
        let who = Who { name: who.0, groups: &groups };
        let request = Request::Resource {
            verb: "get",
            group: "",
            resource: "pods",
            subresource: "",
            name: "p",
        };
        rights.given(who, namespace).flatten().any(|it| it.rules.iter().any(|r| r.allows(&request)))
    }

    #[tokio::test]
    async fn what_is_given_in_one_cluster_is_nothing_in_another() {
        let (index, store) = Index::over(Arc::new(MemoryStore::new()));
        let jane = json!([{"kind": "User", "name": "jane"}]);
        commit(
            &*store,
            vec![
                put("root", "clusterroles", "", READ, &pods()),
                put("root", "clusterrolebindings", "", "b", &binding("ClusterRole", &jane)),
                put("pi-8", "clusterroles", "", READ, &pods()),
                // Of its own cluster's role, not of another's.
                put("pi-7", "clusterrolebindings", "", "b", &binding("ClusterRole", &jane)),
            ],
        )
        .await;
        for (cluster, is) in [("root", true), ("pi-7", false), ("pi-8", false), ("pi-9", false)] {
            assert_eq!(may(&index, cluster, ("jane", &[]), "n"), is, "{cluster}");
        }
    }

    #[tokio::test]
    async fn whoever_was_answered_is_decided_by_what_they_wrote() {
        let (index, store) = Index::over(Arc::new(MemoryStore::new()));
        let group = json!([{"kind": "Group", "name": "people"},
            {"kind": "ServiceAccount", "name": "a"}]);
        let given = put("root", "rolebindings", "n", "b", &binding("Role", &group));
        let Operation::Put(key, _) = &given else { unreachable!("it is one") };
        let key = key.clone();
        for _ in 0..3 {
            commit(&*store, vec![put("root", "roles", "n", READ, &pods()), given.clone()]).await;
            assert!(may(&index, "root", ("jane", &["people"]), "n"));
            assert!(may(&index, "root", ("system:serviceaccount:n:a", &[]), "n"));
            assert!(!may(&index, "root", ("people", &["jane"]), "n"), "a user is no group");
            assert!(!may(&index, "root", ("jane", &["people"]), "m"), "another namespace");
            assert!(!may(&index, "root", ("jane", &["people"]), ""), "all namespaces");
            commit(&*store, vec![Operation::Delete(key.clone())]).await;
            assert!(!may(&index, "root", ("jane", &["people"]), "n"));
        }
        let role = Key::new(&Resource::new(GROUP, "roles"), &ClusterName::root(), "n", READ);
        commit(&*store, vec![Operation::Delete(role)]).await;
        assert!(index.of(&ClusterName::root()).is_none(), "nothing is left of it");
    }

    #[tokio::test]
    async fn what_is_written_past_it_is_taken_in() {
        let below: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let (index, _) = Index::over(below.clone());
        let follower = index.clone();
        let task = tokio::spawn(async move { follower.follow().await });
        let all = json!([{"kind": "User", "name": "jane"}]);
        commit(
            &*below,
            vec![
                put("root", "clusterroles", "", READ, &pods()),
                put("root", "clusterrolebindings", "", "b", &binding("ClusterRole", &all)),
            ],
        )
        .await;
        for _ in 0..1_000 {
            if may(&index, "root", ("jane", &[]), "n") {
                return task.abort();
            }
            tokio::task::yield_now().await;
        }
        panic!("it was not taken in");
    }

    #[tokio::test]
    async fn a_decision_looks_at_the_callers_own_bindings_only() {
        let (index, store) = Index::over(Arc::new(MemoryStore::new()));
        let mut all = vec![put("root", "clusterroles", "", READ, &pods())];
        for i in 0..1_000 {
            let user = json!([{"kind": "User", "name": format!("user-{i}")}]);
            let binding = binding("ClusterRole", &user);
            all.push(put("root", "clusterrolebindings", "", &format!("b-{i}"), &binding));
        }
        commit(&*store, all).await;
        let rights = index.of(&ClusterName::root()).unwrap();
        let given: Vec<_> = rights.given(Who { name: "user-7", groups: &[] }, "n").collect();
        assert_eq!(given.len(), 1);
        assert_eq!(
            given[0].as_ref().unwrap().to_string(),
            r#"ClusterRoleBinding "b-7" of ClusterRole "read" to User "user-7""#
        );
    }

    #[tokio::test]
    async fn rules_that_are_alike_are_there_once() {
        let (index, store) = Index::over(Arc::new(MemoryStore::new()));
        for cluster in ["root", "pi-7"] {
            commit(&*store, vec![put(cluster, "clusterroles", "", READ, &pods())]).await;
        }
        let rules = |cluster: &str| {
            let rights = index.of(&ClusterName::try_from(cluster).unwrap()).unwrap();
            let role = crate::RoleRef::ClusterRole(READ.to_owned());
            rights.rules_of(&role, "").unwrap().as_ptr()
        };
        assert_eq!(rules("root"), rules("pi-7"));
    }
}
