//! Who registers agents of add-ons at the hub: what of theirs there is, and what goes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use freewheel_hub_fleet::add_on::registration::{AgentOf, Registration, Signer};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Stored};
use freewheel_link::names::ClusterName;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::super::api_group::CLUSTER_GROUP;
use super::grant::Whose;
use super::last_writes::LastWrites;
use super::signing_cas::SigningCas;
use crate::engine::client::{key as key_of, kind};
use crate::engine::{Client, Error};
use crate::index::{IndexTerm, Indexes, granted_to};
use crate::rights::Rights;
use crate::signing::Authority;

/// Between two tries of what was not allowed: nobody tells of it when it is.
pub(super) const TRY_AGAIN: Duration = Duration::from_mins(1);

/// The hub, as agents of add-ons are told of it, and who signs and decides for it.
#[derive(Clone)]
pub struct HubAccess {
    /// `https://HOST:PORT`, as devices reach it.
    pub url: String,
    /// Its CA.
    pub ca_pem: String,
    /// Signs certificates.
    pub authority: Arc<dyn Authority>,
    /// Knows what callers may do.
    pub rights: Arc<dyn Rights>,
}

/// Registers agents.
pub(super) struct Registrar {
    pub client: Client,
    indexes: Indexes,
    pub secrets: Arc<Kind>,
    pub namespaces: Arc<Kind>,
    pub bindings: Arc<Kind>,
    pub clusters: Arc<Kind>,
    pub hub: HubAccess,
    /// How agents reach the hub, in base64: key and certificate are files beside it.
    pub kubeconfig: String,
    /// When a Secret was written last.
    pub written: Mutex<LastWrites>,
    signing: Mutex<SigningCas>,
}

/// Whose agent an instance is about.
pub(super) fn agent_of(instance: &Key) -> AgentOf<'_> {
    AgentOf { add_on: &instance.name, cluster: &instance.namespace }
}

impl Registrar {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, hub: HubAccess) -> Result<Self, Error> {
        let kubeconfig = STANDARD.encode(kubeconfig(&hub).to_string());
        Ok(Self {
            client,
            indexes,
            secrets: kind("", "v1", "secrets")?,
            namespaces: kind("", "v1", "namespaces")?,
            bindings: kind("rbac.authorization.k8s.io", "v1", "rolebindings")?,
            clusters: kind(CLUSTER_GROUP, "v1", "managedclusters")?,
            hub,
            kubeconfig,
            written: Mutex::default(),
            signing: Mutex::default(),
        })
    }

    /// Whether the hub accepts the cluster of an instance: of others nobody is registered.
    pub fn accepts(&self, instance: &Key) -> Result<bool, Error> {
        let cluster = key_of(&self.clusters, &ClusterName::root(), "", &instance.namespace);
        let Some(cluster) = self.client.snapshot().get(&cluster) else { return Ok(false) };
        let cluster = cluster.object.value().map_err(Error::api("read a ManagedCluster"))?;
        Ok(cluster["spec"]["hubAcceptsClient"] == true)
    }

    /// That an instance is signed for by the CAs of these, and by no others.
    pub fn note_signers(&self, instance: &Key, registrations: &[Registration]) {
        let root = ClusterName::root();
        let ca = |it: &Registration| match &it.signer {
            Signer::Custom { ca, .. } => {
                Some(key_of(&self.secrets, &root, &ca.namespace, &ca.name))
            }
            Signer::Hub(_) => None,
        };
        let cas: BTreeSet<Key> = registrations.iter().filter_map(ca).collect();
        self.signing.lock().set(instance, cas);
    }

    /// For whom a CA signs that is another one now.
    pub fn signed_by(&self, event: &Event) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let signed = self.signing.lock().signed(key);
        let data = |side: &Option<Arc<Stored>>| {
            side.as_ref().and_then(|it| it.object.value().ok()).map(|mut it| it["data"].take())
        };
        if signed.is_empty() || data(&event.before) == data(&event.now) {
            return Vec::new();
        }
        signed
    }

    /// Takes away what an agent was given and what is not among these.
    pub async fn keep_only(&self, of: AgentOf<'_>, kept: &[Key]) -> Result<(), Error> {
        let (root, own) = (ClusterName::root(), ClusterName::try_from(of.cluster).ok());
        for cluster in own.iter().chain([&root]) {
            let term = IndexTerm::Granted(cluster, of.cluster, of.add_on);
            for granted in self.indexes.grants.find(term) {
                let stored = &granted.stored;
                if !kept.contains(&stored.key) && self.is_granted(stored) {
                    self.remove(stored).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether this is of the hub's making, where it is: what a cluster writes speaks of its own agents alone.
    pub fn is_granted(&self, stored: &Stored) -> bool {
        let key = &stored.key;
        let Some((cluster, add_on)) = granted_to(stored) else { return false };
        if Whose::stored(AgentOf { add_on, cluster }, stored) != Whose::Agents {
            return false;
        }
        let (is_secret, is_binding) =
            (key.resource == *self.secrets.storage(), key.resource == *self.bindings.storage());
        is_secret && key.cluster.as_str() == cluster || is_binding && key.cluster.is_root()
    }

    async fn remove(&self, stored: &Stored) -> Result<(), Error> {
        let (key, uid) = (&stored.key, &stored.object.header.uid);
        let kind =
            if key.resource == *self.secrets.storage() { &self.secrets } else { &self.bindings };
        self.written.lock().forget(key);
        let gone = self.client.delete(kind, key, uid, Propagation::Background).await;
        gone.map(drop).map_err(Error::api("take away what the agent of an add-on was given"))
    }
}

fn kubeconfig(hub: &HubAccess) -> Value {
    let cluster =
        json!({"server": hub.url, "certificate-authority-data": STANDARD.encode(&hub.ca_pem)});
    let user = json!({"client-certificate": "tls.crt", "client-key": "tls.key"});
    let context = json!({"cluster": "hub", "user": "default-auth", "namespace": "configuration"});
    json!({
        "apiVersion": "v1", "kind": "Config",
        "clusters": [{"name": "hub", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": user}],
        "contexts": [{"name": "default-context", "context": context}],
        "current-context": "default-context",
    })
}
