//! The agent of a cluster, or of an add-on on one, as long as it is that.

use freewheel_hub_api::device_orders::{self, NAMESPACE, Order};
use freewheel_hub_api::kinds::managed_cluster::AGENT_KEY_ANNOTATION;
use freewheel_hub_pki::{AddOnSubject, SpokeSubject};
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Scope, Snapshot};
use freewheel_link::digest::Digest;
use freewheel_link::names::ClusterName;
use serde_json::Value;

/// The signer of certificates for the hub.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const ADD_ONS: (&str, &str) = ("addon.open-cluster-management.io", "managedclusteraddons");
const CLUSTERS: (&str, &str) = ("cluster.open-cluster-management.io", "managedclusters");
/// What devices are to do.
pub(super) const ORDERS: (&str, &str) = ("", "configmaps");

/// Whom a certificate names as an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// By which it is known.
    pub name: String,
    /// What it was given for.
    pub of: AgentOf,
}

/// What the certificate of an agent was given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentOf {
    /// An add-on on a cluster.
    AddOn(AddOnSubject),
    /// A cluster, and which key that has.
    Cluster(SpokeSubject, Digest),
}

impl Agent {
    /// Whether it is known now: what was given to one is nothing to the next one of its name, nor on the next cluster of its
    /// cluster's name, nor when its cluster's device has given its place to another board or is to be wiped. The agent of a
    /// cluster that is not accepted is known, and may do little.
    pub(crate) fn is_known(&self, now: &dyn Snapshot) -> bool {
        match &self.of {
            AgentOf::AddOn(of) => {
                let cluster = of.cluster.as_str();
                let add_on = find(now, ADD_ONS, (cluster, &of.add_on), &of.uid);
                let is_named = add_on.is_some_and(|(_, it)| names(&it["status"], &self.name));
                let cluster = find(now, CLUSTERS, ("", cluster), &of.cluster_uid);
                is_named
                    && cluster.is_some_and(|cluster| {
                        is_accepted(&cluster) && has_key(&cluster.1, &of.agent_key, now)
                    })
            }
            AgentOf::Cluster(of, key) => {
                let cluster = find(now, CLUSTERS, ("", of.cluster.as_str()), &of.uid);
                cluster.is_some_and(|(deleting, cluster)| {
                    !deleting && has_key(&cluster, &key.to_string(), now)
                })
            }
        }
    }

    /// Whether what it has begun may go on.
    pub(crate) fn may_go_on(&self, now: &dyn Snapshot) -> bool {
        let accepted = match &self.of {
            // It is known no more then.
            AgentOf::AddOn(_) => true,
            AgentOf::Cluster(of, _) => {
                let cluster = find(now, CLUSTERS, ("", of.cluster.as_str()), &of.uid);
                cluster.is_some_and(|cluster| is_accepted(&cluster))
            }
        };
        accepted && self.is_known(now)
    }

    /// The cluster and the add-on that it is an agent of; the agent of a cluster is one of no add-on.
    pub(crate) fn place(&self) -> (String, String) {
        match &self.of {
            AgentOf::AddOn(of) => (of.cluster.to_string(), of.add_on.clone()),
            AgentOf::Cluster(of, _) => (of.cluster.to_string(), String::new()),
        }
    }

    /// By what that may change.
    pub(crate) fn scopes() -> Vec<Scope> {
        let scope = |(group, plural): (&str, &str)| {
            let cluster = Some(ClusterName::root());
            Scope { resource: Resource::new(group, plural), cluster, namespace: None }
        };
        let orders = Scope { namespace: Some(NAMESPACE.into()), ..scope(ORDERS) };
        vec![scope(ADD_ONS), scope(CLUSTERS), orders]
    }
}

/// The object of this name and UID: whether it is being deleted, and what it says.
fn find(
    now: &dyn Snapshot,
    (group, plural): (&str, &str),
    (namespace, name): (&str, &str),
    uid: &str,
) -> Option<(bool, Value)> {
    let key = Key::new(&Resource::new(group, plural), &ClusterName::root(), namespace, name);
    let found = now.get(&key).filter(|it| *it.object.header.uid == *uid)?;
    Some((found.object.header.deleting, found.object.value().unwrap_or_default()))
}

fn is_accepted((deleting, cluster): &(bool, Value)) -> bool {
    !deleting && cluster["spec"]["hubAcceptsClient"] == true
}

/// Whether this is the key of a cluster's device, and opens anything; none where no device has come.
fn has_key(cluster: &Value, key: &str, now: &dyn Snapshot) -> bool {
    let own = cluster["metadata"]["annotations"][AGENT_KEY_ANNOTATION].as_str();
    own.unwrap_or_default() == key && !is_barred(key, now)
}

/// Whether a device is decommissioned, also while its cluster is still there.
fn is_barred(key: &str, now: &dyn Snapshot) -> bool {
    let (group, plural) = ORDERS;
    let name = device_orders::name(key);
    let at = Key::new(&Resource::new(group, plural), &ClusterName::root(), NAMESPACE, &name);
    let order = now.get(&at).and_then(|stored| stored.object.value().ok());
    matches!(order.as_ref().and_then(Order::read), Some(Order::Wipe(_)))
}

/// Whether an add-on is registered at the hub as this agent; its status as it is stored.
fn names(status: &Value, agent: &str) -> bool {
    let mut registrations = status["registrations"].as_array().into_iter().flatten();
    registrations.any(|it| it["signerName"] == CLIENT_SIGNER && it["subject"]["user"] == agent)
}
