//! Namespaces that are to be there on each cluster of a set (`managedNamespaces`), and what its ManagedCluster says of them.
//!
//! ```text
//! sets of a cluster ─▶ status.managedNamespaces ─▶ namespaces in it, each with the label of this hub
//! ```
//!
//! Guarantees:
//! - they are made, and made again, and what cannot be made is told (`namespaces_of_a_set_are_on_its_clusters`);
//! - one that is asked for no more stays with all that is in it, and only says that it is not managed any more
//!   (`namespaces_of_a_set_are_on_its_clusters`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::{CLUSTER_NAMESPACE_AVAILABLE, Condition};
use freewheel_hub_fleet::ClusterSet;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use super::selection::{members, sets};
use crate::engine::client::{everywhere, in_cluster, key as key_of, kind};
use crate::engine::clock::rfc3339;
use crate::engine::{Client, Controller, Error};
use crate::index::Indexes;
use crate::node::is_accepted;

/// How the label begins whose name goes on with the hash of the hub.
const LABEL_PREFIX: &str = "clusterset.open-cluster-management.io/";
/// Letters of that hash: as many as the name of a label may have.
const HASH_LETTERS: usize = 63;
/// Between two tries of what could not be made: nobody tells of it when it can.
const TRY_AGAIN: Duration = Duration::from_mins(1);

/// The controller.
pub struct ManagedNamespaces {
    client: Client,
    indexes: Indexes,
    clusters: Arc<Kind>,
    sets: Arc<Kind>,
    namespaces: Arc<Kind>,
    label: String,
}

/// Names of namespaces, with why one of them is not there.
type Made = BTreeMap<String, Result<(), String>>;

impl ManagedNamespaces {
    /// Writes through this client; the hub is known by its CA.
    pub fn new(client: Client, indexes: Indexes, ca_pem: &str) -> Result<Self, Error> {
        let hash = Digest::of(ca_pem.as_bytes()).hex();
        let hash: String = hash.chars().take(HASH_LETTERS).collect();
        Ok(Self {
            client,
            indexes,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            sets: kind(CLUSTER_GROUP, "v1beta2", "managedclustersets")?,
            namespaces: kind("", "v1", "namespaces")?,
            label: format!("{LABEL_PREFIX}{hash}"),
        })
    }

    fn cluster_key(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    /// Namespaces that are asked for of a cluster, each by its set.
    fn asked(&self, cluster: &Stored, now: &dyn Snapshot) -> Result<Vec<(String, String)>, Error> {
        let mut asked = BTreeSet::new();
        for (stored, set) in sets(now, &self.sets) {
            let is_in = set.selector().matches(&cluster.object.header.labels);
            if stored.object.header.deleting || !is_in {
                continue;
            }
            let object = stored.object.value().map_err(Error::api("read a ManagedClusterSet"))?;
            asked.extend(names(&object).map(|name| (set.name.clone(), name.to_owned())));
        }
        Ok(asked.into_iter().collect())
    }

    /// Has them be there.
    async fn make(&self, cluster: &Stored, asked: &[(String, String)]) -> Result<Made, Error> {
        let mut made = Made::new();
        let Ok(realm) = ClusterName::try_from(&*cluster.key.name) else { return Ok(made) };
        let client = self.client.while_there(cluster);
        for (_, name) in asked {
            if made.contains_key(name) {
                continue;
            }
            let done =
                self.mark(&client, &key_of(&self.namespaces, &realm, "", name), true).await?;
            made.insert(name.clone(), done);
        }
        let scope = in_cluster(&self.namespaces, &realm);
        let all: Vec<Key> = client
            .snapshot()
            .range(&scope, None)
            .filter(|it| it.object.header.labels.get(&self.label).is_some_and(|it| it == "true"))
            .map(|it| it.key.clone())
            .collect();
        for key in all.iter().filter(|key| !made.contains_key(&*key.name)) {
            // Why it still says so is told when it is asked for again.
            let _ = self.mark(&client, key, false).await?;
        }
        Ok(made)
    }

    /// Has a namespace say whether it is managed by this hub; one that is, is made. Or why it cannot be.
    async fn mark(
        &self,
        client: &Client,
        key: &Key,
        is_managed: bool,
    ) -> Result<Result<(), String>, Error> {
        let wanted = if is_managed { "true" } else { "false" };
        let there = client.snapshot().get(key);
        if there.as_ref().is_some_and(|it| it.object.header.deleting) {
            return Ok(Err(format!("namespace {:?} is being terminated", &*key.name)));
        }
        let label = there.as_ref().and_then(|it| it.object.header.labels.get(&self.label));
        if label.is_some_and(|label| label == wanted) {
            return Ok(Ok(()));
        }
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            value["metadata"]["labels"][&self.label] = json!(wanted);
            Ok(value)
        };
        match client.create_or_modify(&self.namespaces, key, change).await {
            Ok(_) => Ok(Ok(())),
            Err(refused) if [403, 422].contains(&refused.code) => Ok(Err(refused.message)),
            Err(other) => Err(Error::api("make a namespace of a set")(other)),
        }
    }

    async fn tell(
        &self,
        cluster: &Arc<Stored>,
        asked: &[(String, String)],
        made: &Made,
    ) -> Result<(), Error> {
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            let before = value["status"]["managedNamespaces"].take();
            let before = before.as_array().map(Vec::as_slice).unwrap_or_default();
            let one = |(set, name): &(String, String)| {
                let same = |it: &&Value| it["clusterSet"] == **set && it["name"] == **name;
                let said = before.iter().find(same).map(|it| it["conditions"].clone());
                let mut conditions = said.unwrap_or_default();
                condition(made.get(name)).put(&mut conditions, &now);
                json!({"clusterSet": set, "name": name, "conditions": conditions})
            };
            if !asked.is_empty() {
                value["status"]["managedNamespaces"] = asked.iter().map(one).collect();
            }
            Ok(value)
        };
        let said = self.client.modify_this(&self.clusters, cluster, Some("status"), change).await;
        said.map(drop).map_err(Error::api("tell of the namespaces of a cluster"))
    }

    /// Clusters of a set that asks for something else now.
    fn of_set(&self, event: &Event) -> Vec<Key> {
        let asked = |side: &Option<Arc<Stored>>| {
            let stored = side.as_ref()?;
            let object = stored.object.value().ok()?;
            let names: BTreeSet<String> = names(&object).map(str::to_owned).collect();
            let is_one = !names.is_empty() && !stored.object.header.deleting;
            is_one.then(|| {
                (names, object["spec"]["clusterSelector"].clone(), ClusterSet::read(&object))
            })
        };
        let (before, after) = (asked(&event.before), asked(&event.now));
        let facts = |side: &Option<(BTreeSet<String>, Value, ClusterSet)>| {
            side.as_ref().map(|(names, selector, _)| (names.clone(), selector.clone()))
        };
        if facts(&before) == facts(&after) {
            return Vec::new();
        }
        let both = before.iter().chain(&after).flat_map(|(.., set)| members(&self.indexes, set));
        let keys: BTreeSet<Key> = both.map(|it| it.stored.key.clone()).collect();
        keys.into_iter().collect()
    }
}

/// Namespaces that a set asks for.
fn names(set: &Value) -> impl Iterator<Item = &str> {
    let all = set["spec"]["managedNamespaces"].as_array().into_iter().flatten();
    all.filter_map(|it| it["name"].as_str())
}

fn condition(made: Option<&Result<(), String>>) -> Condition<'static> {
    match made {
        Some(Err(why)) => {
            let text = format!("Failed to apply namespace: {why}");
            Condition::new(&CLUSTER_NAMESPACE_AVAILABLE, false, "NamespaceApplyFailed", text)
        }
        Some(Ok(())) | None => {
            let text = "Namespace successfully applied and managed";
            Condition::new(&CLUSTER_NAMESPACE_AVAILABLE, true, "NamespaceApplied", text)
        }
    }
}

#[async_trait]
impl Controller for ManagedNamespaces {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        [&self.clusters, &self.sets, &self.namespaces].map(|kind| everywhere(kind)).into()
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.sets.storage() {
            return self.of_set(event);
        }
        if key.resource == *self.clusters.storage() {
            let facts = |side: &Option<Arc<Stored>>| {
                side.as_ref().map(|it| (it.object.header.labels.clone(), is_accepted(it)))
            };
            let changed = facts(&event.before) != facts(&event.now);
            return if changed { vec![key.clone()] } else { Vec::new() };
        }
        // One of this hub's in a cluster: it has gone, or somebody has written what it says.
        let mut sides = event.now.iter().chain(event.before.iter());
        let is_ours = sides.any(|it| it.object.header.labels.contains_key(&self.label));
        if key.cluster.is_root() || !is_ours {
            return Vec::new();
        }
        vec![self.cluster_key(key.cluster.as_str())]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let stays = |it: &Arc<Stored>| is_accepted(it) && !it.object.header.deleting;
        let Some(cluster) = now.get(key).filter(stays) else { return Ok(None) };
        let asked = self.asked(&cluster, &*now)?;
        let made = self.make(&cluster, &asked).await?;
        let object = cluster.object.value().map_err(Error::api("read a ManagedCluster"))?;
        if !asked.is_empty() || !object["status"]["managedNamespaces"].is_null() {
            self.tell(&cluster, &asked, &made).await?;
        }
        Ok(made.values().any(Result::is_err).then_some(TRY_AGAIN))
    }
}
