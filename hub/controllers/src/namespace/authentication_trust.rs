//! Tells servers that stand beside the hub's API by what its clients are known: ConfigMap
//! `kube-system/extension-apiserver-authentication` of every cluster, which metrics-server and whoever is built as
//! sample-apiserver reads when it starts.
//!
//! The CA of clients is in it. Headers in which somebody in front says who asks are not: the hub hands on nobody's
//! requests that way. What another one has put there for a front of its own stays.
//!
//! Guarantees:
//! - it is there in every cluster, and again when somebody has changed or deleted it, also into what cannot be changed
//!   again (`servers_beside_the_api_are_told_how_its_clients_are_known`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use serde_json::{Value, json};

use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};

const HOME: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const CLIENT_CA: &str = "client-ca-file";

/// The controller.
pub struct AuthenticationTrust {
    client: Client,
    namespaces: Arc<Kind>,
    configs: Arc<Kind>,
    ca_pem: String,
}

impl AuthenticationTrust {
    /// Clients are known by certificates of this CA.
    pub fn new(client: Client, ca_pem: String) -> Result<Self, Error> {
        let (namespaces, configs) = (kind("", "v1", "namespaces")?, kind("", "v1", "configmaps")?);
        Ok(Self { client, namespaces, configs, ca_pem })
    }

    fn is_right(&self, stored: &Stored) -> bool {
        stored.object.value().is_ok_and(|value| value["data"][CLIENT_CA] == self.ca_pem)
    }
}

#[async_trait]
impl Controller for AuthenticationTrust {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.namespaces), everywhere(&self.configs)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        let is_home = key.resource == *self.namespaces.storage() && *key.name == *HOME;
        let is_config = *key.namespace == *HOME && *key.name == *NAME;
        if is_home && event.before.is_none() || is_config {
            vec![key_of(&self.configs, &key.cluster, HOME, NAME)]
        } else {
            Vec::new()
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let home = snapshot.get(&key_of(&self.namespaces, &key.cluster, "", HOME));
        let is_there = home.is_some_and(|home| !home.object.header.deleting);
        if !is_there || snapshot.get(key).is_some_and(|stored| self.is_right(&stored)) {
            return Ok(None);
        }
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({}));
            value["data"][CLIENT_CA] = json!(self.ca_pem);
            Ok(value)
        };
        let written = self.client.insist(&self.configs, key, change).await;
        written.map_err(Error::api("write by what clients are known"))?;
        Ok(None)
    }
}
