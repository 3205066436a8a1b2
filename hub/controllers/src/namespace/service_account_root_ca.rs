//! Gives every namespace of every cluster its ServiceAccount `default` and its copy of the hub's CA.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

/// ConfigMap with the CA that guests verify the hub by.
pub const ROOT_CA: &str = "kube-root-ca.crt";
const DEFAULT_SERVICE_ACCOUNT: &str = "default";
const ROOT_CA_DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
                         endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
                         guaranteed across distributions of Kubernetes clusters.";

/// The controller.
pub struct ServiceAccountRootCa {
    client: Client,
    namespaces: Arc<Kind>,
    accounts: Arc<Kind>,
    configs: Arc<Kind>,
    ca_pem: String,
}

impl ServiceAccountRootCa {
    /// Hands out this CA.
    pub fn new(client: Client, ca_pem: String) -> Result<Self, Error> {
        Ok(Self {
            client,
            namespaces: kind("", "v1", "namespaces")?,
            accounts: kind("", "v1", "serviceaccounts")?,
            configs: kind("", "v1", "configmaps")?,
            ca_pem,
        })
    }
}

#[async_trait]
impl Controller for ServiceAccountRootCa {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.namespaces), everywhere(&self.accounts), everywhere(&self.configs)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let namespace = if key.resource == *self.namespaces.storage() {
            if event.before.is_some() {
                return Vec::new();
            }
            &*key.name
        } else if *key.name == *DEFAULT_SERVICE_ACCOUNT && key.resource == *self.accounts.storage()
            || *key.name == *ROOT_CA && key.resource == *self.configs.storage()
        {
            &*key.namespace
        } else {
            return Vec::new();
        };
        vec![key_of(&self.namespaces, &key.cluster, "", namespace)]
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(namespace) = snapshot.get(key) else { return Ok(None) };
        if namespace.object.header.deleting {
            return Ok(None);
        }
        let (cluster, name) = (&key.cluster, &*key.name);
        if snapshot.get(&key_of(&self.accounts, cluster, name, DEFAULT_SERVICE_ACCOUNT)).is_none() {
            let account = json!({"metadata": {"name": DEFAULT_SERVICE_ACCOUNT, "namespace": name}});
            let made = self.client.create(&self.accounts, cluster, name, &account).await;
            if let Err(error) = made
                && error.reason != "AlreadyExists"
            {
                return Err(Error::api("create the default ServiceAccount")(error));
            }
        }
        let config = key_of(&self.configs, cluster, name, ROOT_CA);
        let data = json!({"ca.crt": self.ca_pem});
        let is_right = |stored: &Stored| stored.object.value().is_ok_and(|v| v["data"] == data);
        if snapshot.get(&config).is_some_and(|stored| is_right(&stored)) {
            return Ok(None);
        }
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(
                || json!({"metadata": {"annotations": {"kubernetes.io/description": ROOT_CA_DESCRIPTION}}}),
            );
            value["data"] = data.clone();
            Ok(value)
        };
        let written = self.client.insist(&self.configs, &config, change).await;
        written.map_err(Error::api("write the root CA's ConfigMap"))?;
        Ok(None)
    }
}
