//! What the agent of a cluster may do at the hub, with the names and rules of Open Cluster Management: a ClusterRole of the
//! cluster's own, bound to its group, and in its namespace two bindings of roles that all agents share.
//!
//! ```text
//! accepted      ─▶ ClusterRole and binding …:managedcluster:NAME; RoleBindings …:NAME:registration, …:NAME:work in NAME
//! taken back    ─▶ the ClusterRole shrinks to a look at the cluster's own ManagedCluster; the RoleBindings go
//! being deleted ─▶ nothing is repaired any more; what is left goes with the cluster ([`crate::cluster_cleanup`])
//! ```
//!
//! A device speaks over its link and needs none of them; tools look for them, and who has a spoke's certificate may do as
//! much at the API. The finalizer that upstream puts on the binding for works is left out: the hub removes works itself.
//!
//! Guarantees:
//! - they are there while a cluster is accepted, are set right when somebody changes or deletes them, and go with the
//!   acceptance and with the cluster (`what_an_agent_may_do_follows_its_acceptance`), of which nothing is written any more
//!   when it is gone (`nothing_is_written_of_a_cluster_that_is_gone`);
//! - the roles that all agents share are no cluster's own, whatever that is called
//!   (`a_cluster_that_is_called_as_a_shared_role_has_none`);
//! - a role that is given anew is the same for the same cluster, whatever others have added to its metadata
//!   (`what_others_add_to_a_role_is_metadata_alone`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::kinds::managed_cluster::{CLUSTER_NAME_LABEL, is_reserved};
use freewheel_hub_objects::Propagation;
use freewheel_hub_rbac::GROUP;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use freewheel_link::identities::AGENT_PREFIX;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::api_group::CLUSTER_GROUP;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::node::is_accepted;

/// How the names of all of them begin.
const PREFIX: &str = "open-cluster-management:managedcluster:";
/// Roles that all agents share, each bound in the namespace of the cluster.
const SHARED: [&str; 2] = ["registration", "work"];
/// The parts of an object that are the hub's.
const OWN_PARTS: [&str; 3] = ["rules", "roleRef", "subjects"];

/// The controller.
pub struct ClusterRoles {
    client: Client,
    clusters: Arc<Kind>,
    namespaces: Arc<Kind>,
    kinds: RoleKinds,
}

/// The kinds of what a cluster has.
pub(crate) struct RoleKinds {
    roles: Arc<Kind>,
    cluster_bindings: Arc<Kind>,
    bindings: Arc<Kind>,
}

impl RoleKinds {
    pub(crate) fn new() -> Result<Self, Error> {
        Ok(Self {
            roles: kind(GROUP, "v1", "clusterroles")?,
            cluster_bindings: kind(GROUP, "v1", "clusterrolebindings")?,
            bindings: kind(GROUP, "v1", "rolebindings")?,
        })
    }

    fn role(&self, cluster: &str) -> Key {
        key_of(&self.roles, &ClusterName::root(), "", &role_name(cluster))
    }

    fn cluster_binding(&self, cluster: &str) -> Key {
        key_of(&self.cluster_bindings, &ClusterName::root(), "", &role_name(cluster))
    }

    fn binding(&self, cluster: &str, shared: &str) -> Key {
        let name = format!("{}:{shared}", role_name(cluster));
        key_of(&self.bindings, &ClusterName::root(), cluster, &name)
    }

    /// Where everything is that a cluster may have. One that was called as a shared role before such names were reserved
    /// takes that along with nothing.
    pub(crate) fn all(&self, cluster: &str) -> Vec<(&Arc<Kind>, Key)> {
        let bindings = SHARED.map(|shared| (&self.bindings, self.binding(cluster, shared)));
        let role = (!SHARED.contains(&cluster)).then(|| (&self.roles, self.role(cluster)));
        let binding = (&self.cluster_bindings, self.cluster_binding(cluster));
        role.into_iter().chain([binding]).chain(bindings).collect()
    }
}

impl ClusterRoles {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        let clusters = kind(CLUSTER_GROUP, "v1", "managedclusters")?;
        let namespaces = kind("", "v1", "namespaces")?;
        Ok(Self { client, clusters, namespaces, kinds: RoleKinds::new()? })
    }

    async fn grant(&self, stored: &Stored, cluster: &ClusterName) -> Result<(), Error> {
        // Nothing of a cluster that goes meanwhile is left for the next one of its name.
        let client = self.client.while_there(stored);
        let (kinds, name) = (&self.kinds, cluster.as_str());
        keep(&client, &kinds.roles, &kinds.role(name), &role(cluster, true)).await?;
        let key = kinds.cluster_binding(name);
        let wanted = binding(cluster, &key.name, &role_name(name));
        keep(&client, &kinds.cluster_bindings, &key, &wanted).await?;
        let namespace = key_of(&self.namespaces, &ClusterName::root(), "", name);
        let namespace = client.snapshot().get(&namespace);
        // Its coming brings this again.
        if namespace.is_none_or(|it| it.object.header.deleting) {
            return Ok(());
        }
        for shared in SHARED {
            let key = kinds.binding(name, shared);
            let wanted = binding(cluster, &key.name, &format!("{PREFIX}{shared}"));
            keep(&client, &kinds.bindings, &key, &wanted).await?;
        }
        Ok(())
    }

    async fn take_back(
        &self,
        stored: &Stored,
        cluster: &ClusterName,
        now: &dyn Snapshot,
    ) -> Result<(), Error> {
        let client = self.client.while_there(stored);
        let (kinds, name) = (&self.kinds, cluster.as_str());
        // Nobody was ever let in as this.
        if kinds.all(name).iter().all(|(_, key)| now.get(key).is_none()) {
            return Ok(());
        }
        keep(&client, &kinds.roles, &kinds.role(name), &role(cluster, false)).await?;
        for key in SHARED.map(|shared| kinds.binding(name, shared)) {
            let Some(there) = now.get(&key) else { continue };
            let uid = &there.object.header.uid;
            let gone = self.client.delete(&kinds.bindings, &key, uid, Propagation::Background);
            gone.await.map_err(Error::api("take back what the agent of a cluster may do"))?;
        }
        Ok(())
    }
}

/// Has one object be as it is to be, but for what others add to its metadata. A binding of another role is made anew: no
/// write changes that.
async fn keep(client: &Client, kind: &Arc<Kind>, key: &Key, wanted: &Value) -> Result<(), Error> {
    if let Some(there) = client.snapshot().get(key) {
        let reading = Error::api("read what the agent of a cluster may do");
        let value = there.object.value().map_err(reading)?;
        if set_right(value.clone(), wanted) == value {
            return Ok(());
        }
        if value["roleRef"] != wanted["roleRef"] {
            let uid = &there.object.header.uid;
            let gone = client.delete(kind, key, uid, Propagation::Background).await;
            gone.map_err(Error::api("replace a binding of the agent of a cluster"))?;
        }
    }
    let change =
        |old: Option<Value>| Ok(old.map_or_else(|| wanted.clone(), |old| set_right(old, wanted)));
    let written = client.create_or_modify(kind, key, change).await;
    written.map(drop).map_err(Error::api("write what the agent of a cluster may do"))
}

/// What is there, with the parts that are the hub's as they are to be.
fn set_right(mut there: Value, wanted: &Value) -> Value {
    let label = &wanted["metadata"]["labels"][CLUSTER_NAME_LABEL];
    there["metadata"]["labels"][CLUSTER_NAME_LABEL] = label.clone();
    for part in OWN_PARTS {
        if let Some(wanted) = wanted.get(part) {
            there[part] = wanted.clone();
        }
    }
    if let Some(role) = there.as_object_mut() {
        // It would have the rules made of others'.
        role.remove("aggregationRule");
    }
    there
}

fn role_name(cluster: &str) -> String {
    format!("{PREFIX}{cluster}")
}

fn metadata(name: &str, cluster: &ClusterName) -> Value {
    json!({"name": name, "labels": {CLUSTER_NAME_LABEL: cluster.as_str()}})
}

/// What an agent may do outside of its namespace.
fn role(cluster: &ClusterName, accepted: bool) -> Value {
    let name = cluster.as_str();
    let own = |resource: &str, verbs: &[&str]| {
        json!({"apiGroups": [CLUSTER_GROUP], "resources": [resource], "resourceNames": [name],
            "verbs": verbs})
    };
    let rules = if accepted {
        json!([
            {"apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests"],
                "verbs": ["create", "get", "list", "watch"]},
            {"apiGroups": ["register.open-cluster-management.io"],
                "resources": ["managedclusters/clientcertificates"], "verbs": ["renew"]},
            own("managedclusters", &["get", "list", "update", "watch"]),
            own("managedclusters/status", &["patch", "update"]),
        ])
    } else {
        json!([own("managedclusters", &["get", "list", "watch"])])
    };
    json!({"metadata": metadata(&role_name(name), cluster), "rules": rules})
}

/// Gives a ClusterRole to the agent of a cluster.
fn binding(cluster: &ClusterName, name: &str, role: &str) -> Value {
    let group = format!("{AGENT_PREFIX}{cluster}");
    json!({
        "metadata": metadata(name, cluster),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": GROUP, "kind": "Group", "name": group}],
    })
}

#[async_trait]
impl Controller for ClusterRoles {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let RoleKinds { roles, cluster_bindings, bindings } = &self.kinds;
        [&self.clusters, &self.namespaces, roles, cluster_bindings, bindings]
            .map(|kind| everywhere(kind))
            .to_vec()
    }

    fn keys(&self, event: &Event, _: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key().filter(|key| key.cluster.is_root()) else { return Vec::new() };
        let by_name = [&self.clusters, &self.namespaces];
        let cluster = if by_name.iter().any(|kind| *kind.storage() == key.resource) {
            Some(&*key.name)
        } else if key.resource == *self.kinds.bindings.storage() {
            key.name.starts_with(PREFIX).then_some(&*key.namespace)
        } else {
            key.name.strip_prefix(PREFIX)
        };
        let key = |name| key_of(&self.clusters, &ClusterName::root(), "", name);
        cluster.map(key).into_iter().collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let stored = now.get(key).filter(|stored| !stored.object.header.deleting);
        let (Some(stored), Ok(cluster)) = (stored, ClusterName::try_from(&*key.name)) else {
            return Ok(None);
        };
        // Its role would be one that all share.
        if is_reserved(cluster.as_str()) {
            return Ok(None);
        }
        if is_accepted(&stored) {
            self.grant(&stored, &cluster).await?;
        } else {
            self.take_back(&stored, &cluster, &*now).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use freewheel_hub_objects::Objects;
    use freewheel_hub_store::memory::MemoryStore;
    use freewheel_hub_store::{Operation, Txn};

    use super::*;
    use crate::events::Recorder;

    #[test]
    fn a_cluster_that_is_called_as_a_shared_role_has_none() {
        let kinds = RoleKinds::new().unwrap();
        let roles = |cluster: &str| {
            let all = kinds.all(cluster).into_iter();
            all.filter(|(kind, _)| Arc::ptr_eq(kind, &kinds.roles)).count()
        };
        assert_eq!((roles("pi-7"), roles("work"), roles("registration")), (1, 0, 0));
    }

    #[tokio::test]
    async fn nothing_is_written_of_a_cluster_that_is_gone() {
        let objects = Objects::new(Arc::new(MemoryStore::new()));
        let (recorder, _said) = Recorder::channel(&objects);
        let roles = ClusterRoles::new(Client::new(objects.clone(), "roles", recorder)).unwrap();
        let (cluster, root) = (ClusterName::try_from("pi-7").unwrap(), ClusterName::root());
        let made = json!({"metadata": {"name": "pi-7"}});
        roles.client.create(&roles.clusters, &root, "", &made).await.unwrap();
        let place = key_of(&roles.clusters, &root, "", "pi-7");
        let stored = objects.store().snapshot().get(&place).unwrap();
        roles.grant(&stored, &cluster).await.unwrap();
        let before = objects.store().snapshot();
        // It is cleaned up between the look at it and what follows from that.
        let role = roles.kinds.role("pi-7");
        let operations = vec![Operation::Delete(place), Operation::Delete(role.clone())];
        objects.store().commit(Txn { expect: Vec::new(), operations }).await.unwrap();
        assert!(roles.take_back(&stored, &cluster, &*before).await.is_err());
        assert!(roles.grant(&stored, &cluster).await.is_err());
        assert!(objects.store().snapshot().get(&role).is_none());
    }

    #[test]
    fn what_others_add_to_a_role_is_metadata_alone() {
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let wanted = role(&cluster, true);
        let mut there = wanted.clone();
        there["metadata"]["annotations"]["mine"] = json!("a");
        assert_eq!(set_right(there.clone(), &wanted), there, "nothing is to be written");
        let mut changed = there.clone();
        changed["rules"] = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        changed["aggregationRule"] = json!({"clusterRoleSelectors": [{}]});
        changed["metadata"]["labels"][CLUSTER_NAME_LABEL] = json!("pi-8");
        assert_eq!(set_right(changed, &wanted), there);
    }

    #[test]
    fn who_is_taken_back_may_look_at_its_own_cluster_and_nothing_else() {
        let cluster = ClusterName::try_from("pi-7").unwrap();
        let left = role(&cluster, false);
        assert_eq!(left["rules"].as_array().unwrap().len(), 1);
        assert_eq!(left["rules"][0]["resourceNames"], json!(["pi-7"]));
        assert_eq!(left["rules"][0]["verbs"], json!(["get", "list", "watch"]));
    }
}
