//! The agent of an add-on on a cluster, as long as it is one.

use freewheel_hub_pki::AddOnSubject;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_store::{Scope, Snapshot};
use freewheel_link::names::ClusterName;
use serde_json::Value;

/// The signer of certificates for the hub.
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const ADD_ONS: (&str, &str) = ("addon.open-cluster-management.io", "managedclusteraddons");
const CLUSTERS: (&str, &str) = ("cluster.open-cluster-management.io", "managedclusters");

/// Whom a certificate names as an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// By which it is known.
    pub name: String,
    /// The add-on and the cluster that it was given for.
    pub of: AddOnSubject,
}

impl Agent {
    /// Whether it is known now: what was given to one is nothing to the next one of its name, nor on the next cluster of its
    /// cluster's name.
    pub(crate) fn is_known(&self, now: &dyn Snapshot) -> bool {
        let (root, of, cluster) = (ClusterName::root(), &self.of, self.of.cluster.as_str());
        let find = |(group, plural): (&str, &str), namespace: &str, name: &str, uid: &str| {
            let found = now.get(&Key::new(&Resource::new(group, plural), &root, namespace, name));
            let found = found.filter(|it| *it.object.header.uid == *uid);
            found.map(|it| (it.object.header.deleting, it.object.value().unwrap_or_default()))
        };
        let add_on = find(ADD_ONS, cluster, &of.add_on, &of.uid);
        let is_named = add_on.is_some_and(|(_, add_on)| names(&add_on["status"], &self.name));
        let cluster = find(CLUSTERS, "", cluster, &of.cluster_uid);
        let is_accepted = cluster.is_some_and(|(deleting, cluster)| {
            !deleting && cluster["spec"]["hubAcceptsClient"] == true
        });
        is_named && is_accepted
    }

    /// By what that may change.
    pub(crate) fn scopes() -> Vec<Scope> {
        let scope = |(group, plural): (&str, &str)| {
            let cluster = Some(ClusterName::root());
            Scope { resource: Resource::new(group, plural), cluster, namespace: None }
        };
        vec![scope(ADD_ONS), scope(CLUSTERS)]
    }
}

/// Whether an add-on is registered at the hub as this agent; its status as it is stored.
fn names(status: &Value, agent: &str) -> bool {
    let mut registrations = status["registrations"].as_array().into_iter().flatten();
    registrations.any(|it| it["signerName"] == CLIENT_SIGNER && it["subject"]["user"] == agent)
}
