//! Gives each cluster the roles and bindings that it has from the start, as kube-apiserver does when it starts.
//!
//! Guarantees:
//! - what people are given to begin with is there in the root and in every accepted cluster
//!   (`every_cluster_has_its_roles_from_the_start`);
//! - what somebody added stays, what is missing comes back with the next start, and what says so is left alone
//!   (`a_start_brings_back_what_is_missing_and_takes_nothing`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_rbac::policy::{self, PolicyObject};
use freewheel_hub_rbac::reconcile::{self, Step};
use freewheel_hub_rbac::{GROUP, KINDS, RbacForm};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::names::ClusterName;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// Written at the same time: they share a commit's wait for the disk.
const WRITES_AT_ONCE: usize = 32;
/// Namespaces in which some of them are.
const NAMESPACES: [&str; 2] = ["kube-system", "kube-public"];

/// The controller.
pub struct BootstrapPolicy {
    client: Client,
    clusters: Arc<Kind>,
    namespaces: Arc<Kind>,
    kinds: Vec<Arc<Kind>>,
}

impl BootstrapPolicy {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            client,
            clusters: kind("cluster.open-cluster-management.io", "v1", "managedclusters")?,
            namespaces: kind("", "v1", "namespaces")?,
            kinds: KINDS
                .iter()
                .map(|one| kind(GROUP, "v1", one.plural))
                .collect::<Result<_, _>>()?,
        })
    }

    fn key_for(&self, cluster: &str) -> Key {
        key_of(&self.clusters, &ClusterName::root(), "", cluster)
    }

    async fn ensure(
        &self,
        client: &Client,
        cluster: &ClusterName,
        wanted: &PolicyObject,
    ) -> Result<(), Error> {
        let plural = wanted.kind.plural;
        let Some(kind) = self.kinds.iter().find(|kind| kind.plural() == plural) else {
            return Err(Error::NoSuchKind(plural));
        };
        let key = key_of(kind, cluster, &wanted.namespace, &wanted.name);
        let done = match client.snapshot().get(&key) {
            None => self.make(client, (kind, cluster), wanted).await,
            Some(there) => self.mend(client, kind, &there, wanted).await,
        };
        match done {
            // Its namespace comes in a moment, or is on its way out.
            Err(error) if error.code == 404 || error.is_namespace_terminating() => Ok(()),
            Err(error) if error.reason == "AlreadyExists" => Ok(()),
            done => done.map_err(Error::api("write a role that every cluster has")),
        }
    }

    async fn make(
        &self,
        client: &Client,
        (kind, cluster): (&Arc<Kind>, &ClusterName),
        wanted: &PolicyObject,
    ) -> Result<(), ApiError> {
        client.create(kind, cluster, &wanted.namespace, &wanted.value).await.map(drop)
    }

    async fn mend(
        &self,
        client: &Client,
        kind: &Arc<Kind>,
        there: &Stored,
        wanted: &PolicyObject,
    ) -> Result<(), ApiError> {
        let value = there.object.value()?;
        if reconcile::is_kept(&value) {
            return Ok(());
        }
        let step = |value: &Value| match wanted.kind.form {
            RbacForm::Role => reconcile::role(value, &wanted.value),
            RbacForm::Binding => reconcile::binding(value, &wanted.value),
        };
        match step(&value) {
            Step::Keep => Ok(()),
            Step::Write(_) => {
                let change = |value: Value| match step(&value) {
                    Step::Write(new) => Ok(new),
                    Step::Keep | Step::Replace => Ok(value),
                };
                client.modify_this(kind, there, None, change).await.map(drop)
            }
            Step::Replace => {
                let uid = &there.object.header.uid;
                client.delete(kind, &there.key, uid, Propagation::Background).await?;
                self.make(client, (kind, &there.key.cluster), wanted).await
            }
        }
    }
}

#[async_trait]
impl Controller for BootstrapPolicy {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.clusters), everywhere(&self.namespaces)]
    }

    fn first(&self) -> Vec<Key> {
        vec![self.key_for("root")]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(now) = &event.now else { return Vec::new() };
        let (key, before) = (&now.key, event.before.as_ref());
        if key.resource == *self.clusters.storage() {
            let was = before.is_some_and(|before| is_accepted(before));
            return if was { Vec::new() } else { vec![self.key_for(&key.name)] };
        }
        let is_home = before.is_none() && NAMESPACES.contains(&&*key.name);
        if is_home { vec![self.key_for(key.cluster.as_str())] } else { Vec::new() }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let cluster =
            ClusterName::try_from(&*key.name).map_err(|error| Error::Refused(error.to_string()))?;
        let found = self.client.snapshot().get(key);
        let client = match found.filter(|cluster| is_accepted(cluster)) {
            Some(accepted) => self.client.while_there(&accepted),
            None if cluster.is_root() => self.client.clone(),
            None => return Ok(None),
        };
        let all: Vec<_> = policy::of(cluster.is_root())
            .map(|wanted| self.ensure(&client, &cluster, wanted))
            .collect();
        futures::stream::iter(all).buffer_unordered(WRITES_AT_ONCE).try_collect::<()>().await?;
        Ok(None)
    }
}
