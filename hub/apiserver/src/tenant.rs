//! The logical cluster that a request is about: a name, and the ManagedCluster that has it.
//!
//! ```text
//! /clusters/pi-7/… ─▶ Tenant { pi-7, uid, since } ─▶ what runs on asks [`Tenants`] for the end of that uid
//! ```
//!
//! Guarantees:
//! - what runs on ends with the cluster that it was opened for, and reads nothing of the next one of that name
//!   (`watches_and_logs_end_with_their_cluster_and_read_nothing_of_the_next`);
//! - nobody reads from before their cluster was made
//!   (`what_was_before_a_cluster_was_made_is_not_its_past`);
//! - a write that was on its way when its cluster went is refused
//!   (`a_write_whose_cluster_goes_while_its_body_comes_is_not_for_the_next`), up to its very commit
//!   (`a_write_whose_cluster_goes_just_before_its_commit_is_not_for_the_next`).

use std::collections::HashMap;
use std::sync::Arc;

use freewheel_hub_api::kinds;
use freewheel_hub_objects::OVERTAKEN;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Event, Expect, Revision, Scope, Snapshot, Store, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;

use crate::authz::Cluster;
use crate::shutdown::{Begun, Shutdown};

/// The logical cluster of a request.
#[derive(Clone, Debug)]
pub(crate) struct Tenant {
    pub(crate) name: ClusterName,
    /// `None` for the root, which nobody can remove, and where no object is read or written.
    managed: Option<Managed>,
}

#[derive(Clone, Debug)]
struct Managed {
    uid: Uid,
    /// The revision that made it.
    since: Revision,
}

impl Tenant {
    /// The root.
    pub(crate) fn root() -> Self {
        Self { name: ClusterName::root(), managed: None }
    }

    /// A managed cluster as far as its API goes, which is the same in all of them.
    pub(crate) fn any() -> Result<Self, ApiError> {
        let name = ClusterName::try_from("any").map_err(ApiError::internal)?;
        Ok(Self { name, managed: None })
    }

    /// The root, or a managed cluster that exists.
    pub(crate) fn find(snapshot: &dyn Snapshot, name: Option<&str>) -> Result<Self, ApiError> {
        let Some(name) = name else { return Ok(Self::root()) };
        let unknown = || {
            let mut error =
                ApiError::not_found("cluster.open-cluster-management.io", "managedclusters", name);
            error.message.push_str(
                ": there is no cluster of this name here; `kubectl get managedclusters` in the root lists them",
            );
            error
        };
        let cluster = ClusterName::try_from(name).map_err(|_| unknown())?;
        if cluster.is_root() {
            return Ok(Self::root());
        }
        let stored = find(snapshot, &cluster).ok_or_else(unknown)?;
        let managed = Managed { uid: stored.object.header.uid.clone(), since: stored.created };
        Ok(Self { name: cluster, managed: Some(managed) })
    }

    /// The same as a right sees it.
    pub(crate) fn cluster(&self) -> Cluster<'_> {
        Cluster { name: &self.name, uid: self.managed.as_ref().map(|managed| &managed.uid) }
    }

    /// Whether the cluster is still there.
    ///
    /// # Errors
    /// 410 when it is gone, whether or not there is another one of its name.
    pub(crate) fn check(&self, snapshot: &dyn Snapshot) -> Result<(), ApiError> {
        let Some(managed) = &self.managed else { return Ok(()) };
        let found = find(snapshot, &self.name);
        let same = found.is_some_and(|stored| stored.object.header.uid == managed.uid);
        if same { Ok(()) } else { Err(self.gone()) }
    }

    /// The same, in the newest state, which nobody asks for where there is nothing that could be gone.
    ///
    /// # Errors
    /// 410 as well.
    pub(crate) fn check_newest(&self, store: &dyn Store) -> Result<(), ApiError> {
        if self.managed.is_none() { Ok(()) } else { self.check(&*store.snapshot()) }
    }

    /// The device behind a Node of this name. In a cluster that is its own: its owner may write Nodes of any name
    /// there.
    pub(crate) fn device(&self, node: &str) -> Option<ClusterName> {
        let named = ClusterName::try_from(node).ok().filter(|name| !name.is_root());
        named.filter(|name| self.name.is_root() || *name == self.name)
    }

    /// What must hold when something is written here.
    pub(crate) fn expect(&self) -> Vec<Expect> {
        let held = self.managed.as_ref().zip(key_of(&self.name));
        held.map(|(managed, key)| Expect::Created(key, managed.since)).into_iter().collect()
    }

    /// A refusal of a write, seen from outside.
    pub(crate) fn explained(&self, error: ApiError) -> ApiError {
        if error.reason == OVERTAKEN { self.gone() } else { error }
    }

    /// That it is gone.
    pub(crate) fn gone(&self) -> ApiError {
        ApiError::expired(format!(
            "the cluster {:?} that this was opened for is gone; a later one of that name is another one",
            self.name.as_str()
        ))
    }

    /// Whether this revision is of the cluster's own time.
    ///
    /// # Errors
    /// 410 when it is older than the cluster.
    pub(crate) fn reaches(&self, asked: Revision) -> Result<(), ApiError> {
        let Some(managed) = self.managed.as_ref().filter(|managed| asked < managed.since) else {
            return Ok(());
        };
        let oldest = managed.since;
        Err(ApiError::expired(format!("too old resource version: {asked} ({oldest})")))
    }
}

fn clusters() -> Option<Resource> {
    let kind = kinds::find("cluster.open-cluster-management.io", "v1", "managedclusters");
    kind.map(|kind| kind.storage().clone())
}

fn key_of(name: &ClusterName) -> Option<Key> {
    Some(Key::new(&clusters()?, &ClusterName::root(), "", name.as_str()))
}

fn find(snapshot: &dyn Snapshot, name: &ClusterName) -> Option<Arc<Stored>> {
    snapshot.get(&key_of(name)?)
}

/// Which of all clusters that ever had this name has it now.
pub(crate) fn uid(snapshot: &dyn Snapshot, name: &ClusterName) -> Option<Uid> {
    find(snapshot, name).map(|stored| stored.object.header.uid.clone())
}

/// The ends of managed clusters, for what runs on in them.
///
/// There is one signal per cluster that was ever asked about and still exists.
#[derive(Default)]
pub(crate) struct Tenants(Mutex<HashMap<Uid, Arc<Shutdown>>>);

impl Tenants {
    /// Ready when the cluster is gone; `None` for one that cannot go.
    pub(crate) fn end_of(&self, tenant: &Tenant, store: &dyn Store) -> Option<Begun> {
        let managed = tenant.managed.as_ref()?;
        let end = self.0.lock().entry(managed.uid.clone()).or_default().clone();
        // Had it gone before it stood in the table, nobody would say so.
        if tenant.check(&*store.snapshot()).is_err() {
            self.ended(&managed.uid);
        }
        Some(end.begun())
    }

    fn ended(&self, uid: &str) {
        let end = self.0.lock().remove(uid);
        if let Some(end) = end {
            end.begin();
        }
    }

    /// Gives the signals, for ever.
    pub(crate) async fn follow(&self, store: &dyn Store) {
        let Some(resource) = clusters() else { return std::future::pending().await };
        let scope = Scope { resource, cluster: Some(ClusterName::root()), namespace: None };
        loop {
            let snapshot = store.snapshot();
            let there: Vec<_> = snapshot.range(&scope, None).collect();
            let is_there = |uid: &Uid| there.iter().any(|one| one.object.header.uid == *uid);
            let gone: Vec<Uid> =
                self.0.lock().keys().filter(|uid| !is_there(uid)).cloned().collect();
            gone.iter().for_each(|uid| self.ended(uid));
            let Ok(mut watch) = store.watch(vec![scope.clone()], snapshot.revision()) else {
                continue;
            };
            drop((there, snapshot));
            // Who falls behind looks at all of them again.
            while let Ok(events) = watch.next().await {
                events.iter().filter_map(gone_with).for_each(|uid| self.ended(uid));
            }
        }
    }
}

/// The UID that is no more after this event.
fn gone_with(event: &Event) -> Option<&str> {
    let before = &*event.before.as_ref()?.object.header.uid;
    let now = event.now.as_ref().map(|now| &*now.object.header.uid);
    (now != Some(before)).then_some(before)
}
