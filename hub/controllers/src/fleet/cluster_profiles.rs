//! ClusterProfiles: the clusters of a set, in each namespace that is bound to it, so that tools find the fleet there that
//! know nothing of Open Cluster Management.
//!
//! ```text
//! ManagedClusterSetBinding, Bound ─▶ clusters of its set ─▶ a ClusterProfile of the cluster's name each
//! ```
//!
//! Guarantees:
//! - a namespace has the profiles of the clusters that it is bound to and no others of the hub's, and they say what their
//!   clusters say (`a_fleet_is_shown_where_it_is_bound`);
//! - what others have made is theirs (`a_profile_of_somebody_else_is_left_alone`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::conditions::BINDING_BOUND;
use freewheel_hub_api::kinds::fleet::cluster_profile::{GROUP, MANAGER, MANAGER_LABEL, profile};
use freewheel_hub_fleet::ClusterSet;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use serde_json::Value;

use super::api_group::CLUSTER_GROUP;
use super::selection::{members, sets};
use crate::engine::client::{everywhere, in_namespace, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::index::Indexes;

/// The controller.
pub struct ClusterProfiles {
    client: Client,
    indexes: Indexes,
    profiles: Arc<Kind>,
    clusters: Arc<Kind>,
    sets: Arc<Kind>,
    bindings: Arc<Kind>,
    namespaces: Arc<Kind>,
}

impl ClusterProfiles {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            profiles: kind(GROUP, "v1alpha1", "clusterprofiles")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            sets: kind(CLUSTER_GROUP, "v1beta2", "managedclustersets")?,
            bindings: kind(CLUSTER_GROUP, "v1beta2", "managedclustersetbindings")?,
            namespaces: kind("", "v1", "namespaces")?,
        })
    }

    fn key(&self, namespace: &str, cluster: &str) -> Key {
        key_of(&self.profiles, &ClusterName::root(), namespace, cluster)
    }

    /// Profiles of a cluster that says something else now, or is in other sets.
    fn of_cluster(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let facts = |side: &Option<Arc<Stored>>| {
            let header = &side.as_ref()?.object.header;
            let said = profile(&side.as_ref()?.object.value().ok()?);
            Some((said, header.labels.clone(), header.deleting))
        };
        if facts(&event.before) == facts(&event.now) {
            return Vec::new();
        }
        let sides: Vec<&Arc<Stored>> = event.before.iter().chain(event.now.iter()).collect();
        let is_in = |set: &ClusterSet| {
            sides.iter().any(|side| set.selector().matches(&side.object.header.labels))
        };
        let all = sets(now, &self.sets).into_iter().map(|(_, set)| set);
        let names: BTreeSet<String> = all.filter(is_in).map(|set| set.name).collect();
        let bindings = now.range(&everywhere(&self.bindings), None);
        let bound = bindings.filter(|it| names.contains(&*it.key.name));
        let namespaces: BTreeSet<String> = bound.map(|it| it.key.namespace.to_string()).collect();
        namespaces.iter().map(|namespace| self.key(namespace, &key.name)).collect()
    }

    /// Profiles of a namespace by one of its bindings: those that are to be there, and those that are.
    fn of_binding(&self, binding: &Key, now: &dyn Snapshot) -> Vec<Key> {
        let root = ClusterName::root();
        let scope = in_namespace(&self.profiles, &root, &binding.namespace);
        let mut keys: BTreeSet<Key> = now.range(&scope, None).map(|it| it.key.clone()).collect();
        if let Some(set) = self.set(&binding.name, now) {
            let own = members(&self.indexes, &set).into_iter();
            keys.extend(own.map(|it| self.key(&binding.namespace, &it.stored.key.name)));
        }
        keys.into_iter().collect()
    }

    fn set(&self, name: &str, now: &dyn Snapshot) -> Option<ClusterSet> {
        let stored = now.get(&key_of(&self.sets, &ClusterName::root(), "", name))?;
        Some(ClusterSet::read(&stored.object.value().ok()?))
    }

    /// The cluster whose profile is to be here.
    fn shown(&self, key: &Key, now: &dyn Snapshot) -> Option<Arc<Stored>> {
        let root = ClusterName::root();
        let stays = |it: &Arc<Stored>| !it.object.header.deleting;
        now.get(&key_of(&self.namespaces, &root, "", &key.namespace)).filter(stays)?;
        let cluster = now.get(&key_of(&self.clusters, &root, "", &key.name)).filter(stays)?;
        let labels = &cluster.object.header.labels;
        let is_bound = |binding: &Arc<Stored>| {
            let is_said = binding.object.value().is_ok_and(|it| BINDING_BOUND.holds(&it));
            let set = self.set(&binding.key.name, now).filter(|_| is_said && stays(binding));
            set.is_some_and(|set| set.selector().matches(labels))
        };
        let mut bindings = now.range(&in_namespace(&self.bindings, &root, &key.namespace), None);
        bindings.any(|it| is_bound(&it)).then(|| cluster.clone())
    }

    async fn show(
        &self,
        key: &Key,
        there: Option<Arc<Stored>>,
        cluster: &Stored,
    ) -> Result<(), Error> {
        let object = cluster.object.value().map_err(Error::api("read a ManagedCluster"))?;
        let wanted = profile(&object);
        let stored = match there {
            Some(there) => self.keep(&there, &wanted).await?,
            None => {
                let client = self.client.while_there(cluster);
                let root = ClusterName::root();
                let made = client.create(&self.profiles, &root, &key.namespace, &wanted).await;
                made.map_err(Error::api("make a ClusterProfile"))?
            }
        };
        let change = |mut value: Value| {
            for (field, said) in wanted["status"].as_object().into_iter().flatten() {
                value["status"][field] = said.clone();
            }
            Ok(value)
        };
        let said = self.client.modify_this(&self.profiles, &stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("write the status of a ClusterProfile"))
    }

    /// Has labels and name of a profile be those of its cluster.
    async fn keep(&self, stored: &Arc<Stored>, wanted: &Value) -> Result<Arc<Stored>, Error> {
        let change = |mut value: Value| {
            let labels = wanted["metadata"]["labels"].as_object().into_iter().flatten();
            for (name, label) in labels {
                value["metadata"]["labels"][name] = label.clone();
            }
            value["spec"] = wanted["spec"].clone();
            Ok(value)
        };
        let kept = self.client.modify_this(&self.profiles, stored, None, change).await;
        Ok(kept.map_err(Error::api("keep a ClusterProfile"))?.stored)
    }
}

/// Whether the hub has made it, by what it says for good.
fn is_own(profile: &Stored) -> bool {
    let value = profile.object.value();
    value.is_ok_and(|it| it["spec"]["clusterManager"]["name"] == MANAGER)
}

#[async_trait]
impl Controller for ClusterProfiles {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let kinds = [&self.profiles, &self.clusters, &self.sets, &self.bindings];
        kinds.map(|kind| everywhere(kind)).into()
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let resource = &key.resource;
        if *resource == *self.profiles.storage() {
            let sides = event.now.iter().chain(event.before.iter());
            let mut ours = sides.filter(|it| it.object.header.labels.contains_key(MANAGER_LABEL));
            return ours.next().map(|it| it.key.clone()).into_iter().collect();
        }
        if *resource == *self.clusters.storage() {
            return self.of_cluster(event, now);
        }
        if *resource == *self.bindings.storage() {
            let bound = |side: &Option<Arc<Stored>>| {
                let stored = side.as_ref().filter(|it| !it.object.header.deleting);
                stored.is_some_and(|it| it.object.value().is_ok_and(|it| BINDING_BOUND.holds(&it)))
            };
            let changed = bound(&event.before) != bound(&event.now);
            return if changed { self.of_binding(key, now) } else { Vec::new() };
        }
        let asked = |side: &Option<Arc<Stored>>| {
            side.as_ref().map(|it| (it.object.header.generation, it.object.header.uid.clone()))
        };
        if asked(&event.before) == asked(&event.now) {
            return Vec::new();
        }
        // A binding has the name of its set.
        let bindings = now.range(&everywhere(&self.bindings), None);
        let bindings = bindings.filter(|it| it.key.name == key.name);
        bindings.flat_map(|it| self.of_binding(&it.key, now)).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let there = now.get(key);
        if there.as_ref().is_some_and(|it| it.object.header.deleting || !is_own(it)) {
            return Ok(None);
        }
        match (self.shown(key, &*now), there) {
            (Some(cluster), there) => self.show(key, there, &cluster).await?,
            (None, Some(there)) => {
                let uid = &there.object.header.uid;
                let gone = self.client.delete(&self.profiles, key, uid, Propagation::Background);
                gone.await.map_err(Error::api("delete a ClusterProfile"))?;
            }
            (None, None) => {}
        }
        Ok(None)
    }
}
