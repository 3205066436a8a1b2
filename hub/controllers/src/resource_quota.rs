//! Says of each ResourceQuota what is used of it, and sets right what admission counts.
//!
//! ```text
//! used    what the objects of the namespace come to, at one revision
//! counted what admission has counted at that revision; the difference is added to it, whatever is counted meanwhile
//! status  what is used, and the names that admission holds to from now on
//! ```
//!
//! Guarantees:
//! - what was there before the quota counts, and what is gone counts no more
//!   (`a_quota_counts_what_was_there_and_what_comes_and_goes`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::quota;
use freewheel_hub_schema::kind::{Kind, Trait};
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::quantity::Quantity;
use freewheel_hub_schema::registry::{Registries, Registry};
use freewheel_hub_store::{Event, Expect, Operation, Scope, Snapshot, Stored, Txn};
use serde_json::{Value, json};

use crate::engine::client::{all_of, in_namespace, kind};
use crate::engine::{Client, Controller, Error};

/// Amounts by the names of a quota.
type Amounts = BTreeMap<String, Quantity>;

/// The controller.
pub struct ResourceQuotas {
    client: Client,
    quotas: Arc<Kind>,
}

impl ResourceQuotas {
    /// Writes through this client.
    pub fn new(client: Client) -> Result<Self, Error> {
        Ok(Self { client, quotas: kind("", "v1", "resourcequotas")? })
    }

    async fn set_right(
        &self,
        stored: &Stored,
        used: &Amounts,
        then: &dyn Snapshot,
    ) -> Result<(), Error> {
        let (key, uid) = (&stored.key, stored.object.header.uid.as_str());
        let mut operations = Vec::new();
        for (name, used) in used {
            let counter = quota::counter(&key.cluster, &key.namespace, uid, name);
            let counted = i64::try_from(then.counter(&counter)).unwrap_or(i64::MAX);
            let by = used.milli_value().saturating_sub(counted);
            if by != 0 {
                operations.push(Operation::Add(counter, by));
            }
        }
        if operations.is_empty() {
            return Ok(());
        }
        let txn = Txn { expect: vec![Expect::still(stored)], operations };
        let committed = self.client.objects().store().commit(txn).await;
        let doing = "count what is used of a quota";
        committed.map(drop).map_err(|source| Error::Commit { doing, source })
    }
}

/// What a quota allows.
fn hard(quota: &Value) -> Amounts {
    let hard = quota["spec"]["hard"].as_object().into_iter().flatten();
    hard.filter_map(|(name, amount)| Some((name.clone(), amount.as_str()?.parse().ok()?))).collect()
}

/// What an object takes of it.
fn share(quota: &Value, hard: &Amounts, kind: Option<&Kind>, object: &Stored) -> Amounts {
    let Ok(value) = object.object.value() else { return Amounts::new() };
    if !quota::matches(quota, kind, &value) {
        return Amounts::new();
    }
    let all = quota::usage(&object.key.resource, kind, &value).into_iter();
    all.filter(|(name, _)| hard.contains_key(name)).collect()
}

/// What all objects of its namespace take of it.
fn used(quota: &Value, key: &Key, registry: &Registry, now: &dyn Snapshot) -> Amounts {
    let hard = hard(quota);
    let (mut used, mut resources) = (Amounts::new(), BTreeSet::new());
    for (name, most) in &hard {
        let Some(resource) = quota::counted(name, registry) else { continue };
        used.insert(name.clone(), Quantity::of_milli(0, most.format()));
        resources.insert(resource);
    }
    for resource in resources {
        let kind = registry.by_storage(&resource).map(|kind| &**kind);
        let (cluster, namespace) = (Some(key.cluster.clone()), Some(key.namespace.clone()));
        let scope = Scope { resource, cluster, namespace };
        for object in now.range(&scope, None) {
            for (name, amount) in share(quota, &hard, kind, &object) {
                if let Some(sum) = used.get_mut(&name) {
                    let milli = sum.milli_value().saturating_add(amount.milli_value());
                    *sum = Quantity::of_milli(milli, sum.format());
                }
            }
        }
    }
    used
}

fn texts(amounts: &Amounts) -> BTreeMap<&String, String> {
    amounts.iter().map(|(name, amount)| (name, amount.to_string())).collect()
}

#[async_trait]
impl Controller for ResourceQuotas {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    /// All that lies in namespaces may be counted.
    fn scopes(&self) -> Vec<Scope> {
        let kinds = self.client.objects().kinds().stored();
        let counted = kinds.storages(|kind| kind.namespaced && !kind.has(Trait::CountsInNoQuota));
        counted.into_iter().map(all_of).collect()
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(self.client.objects().kinds())
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key().filter(|key| !key.namespace.is_empty()) else {
            return Vec::new();
        };
        let registry = self.client.registry(&key.cluster);
        let kind = registry.by_storage(&key.resource).map(|kind| &**kind);
        let quotas = in_namespace(&self.quotas, &key.cluster, &key.namespace);
        let concerned = now.range(&quotas, None).filter(|stored| {
            if stored.key == *key {
                return true;
            }
            let Ok(quota) = stored.object.value() else { return false };
            let hard = hard(&quota);
            let counts = hard.keys().any(|name| quota::is_about(name, &key.resource, kind));
            let taken = |object: &Option<Arc<Stored>>| {
                object.as_ref().map(|object| share(&quota, &hard, kind, object)).unwrap_or_default()
            };
            counts && taken(&event.before) != taken(&event.now)
        });
        concerned.map(|stored| stored.key.clone()).collect()
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let now = self.client.snapshot();
        let Some(stored) = now.get(key) else { return Ok(None) };
        let quota = stored.object.value().map_err(Error::api("read a quota"))?;
        let used = used(&quota, key, &self.client.registry(&key.cluster), &*now);
        self.set_right(&stored, &used, &*now).await?;
        let status = json!({"hard": texts(&hard(&quota)), "used": texts(&used)});
        // As it was read: a name that is new meanwhile was not counted.
        let with_status = |mut value: Value| {
            value["status"] = status.clone();
            Ok(value)
        };
        let written =
            self.client.modify_at(&self.quotas, &stored, Some("status"), with_status).await;
        written.map_err(Error::api("say what is used of a quota"))?;
        Ok(None)
    }
}
