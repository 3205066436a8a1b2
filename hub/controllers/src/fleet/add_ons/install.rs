//! A ManagedClusterAddOn for each cluster that is chosen.

use std::collections::BTreeMap;
use std::sync::Arc;

use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::api_group::ADD_ON_GROUP;
use super::catalogue::AddOns;
use super::known::{Known, Touched};
use super::progression::Placement;
use super::waits::note;
use crate::engine::Error;
use crate::engine::client::key as key_of;

impl AddOns {
    /// Puts it on clusters that are chosen, and takes it off others.
    pub(super) async fn install(
        &self,
        add_on: &Arc<Stored>,
        placements: &[Placement],
        known: &mut Known,
        (touched, now): (&Touched, Instant),
    ) {
        let chosen = |cluster: &str| placements.iter().any(|it| it.chooses(cluster));
        let mut looked_at = touched.clusters.clone();
        looked_at.extend(known.waits.due(now).cloned());
        if touched.everything || touched.choice {
            let groups = placements.iter().flat_map(|placement| &*placement.groups);
            looked_at.extend(groups.flat_map(|group| &group.clusters).cloned());
            looked_at.extend(known.members.keys().cloned());
        }
        for cluster in &looked_at {
            let done = match known.members.get(cluster).map(|member| member.deleting) {
                None if chosen(cluster) => self.put_on(add_on, cluster).await,
                Some(false) if !chosen(cluster) => self.take_off(add_on, cluster).await,
                None => {
                    known.waits.end(cluster);
                    continue;
                }
                Some(_) => continue,
            };
            note(&mut known.waits, (add_on, cluster), done, now);
        }
    }

    async fn take_off(&self, add_on: &Stored, cluster: &str) -> Result<(), Error> {
        let key = self.instance_key(&add_on.key.name, cluster);
        let Some(instance) = self.client.snapshot().get(&key) else { return Ok(()) };
        let uid = &instance.object.header.uid;
        let deleted = self.client.delete(&self.instances, &key, uid, Propagation::Background).await;
        deleted.map(drop).map_err(Error::api("take an add-on off a cluster"))
    }

    async fn put_on(&self, add_on: &Arc<Stored>, cluster: &str) -> Result<(), Error> {
        let root = ClusterName::root();
        let key = key_of(&self.clusters, &root, "", cluster);
        // Whoever decides may choose who is not there yet, or will be again.
        let managed = self.client.snapshot().get(&key).filter(|it| !it.object.header.deleting);
        let managed = managed.ok_or_else(|| {
            let why =
                format!("managedclusters.cluster.open-cluster-management.io {cluster:?} not found");
            Error::api("read a ManagedCluster")(ApiError::new(404, "NotFound", why))
        })?;
        let object = managed.object.value().map_err(Error::api("read a ManagedCluster"))?;
        let notes = object["metadata"]["annotations"].as_object().into_iter().flatten();
        let notes: BTreeMap<&String, &Value> =
            notes.filter(|(name, _)| name.starts_with(ADD_ON_GROUP)).collect();
        let mut meta = json!({"name": &*add_on.key.name, "ownerReferences": [self.owner(add_on)]});
        if !notes.is_empty() {
            meta["annotations"] = json!(notes);
        }
        let instance = json!({"metadata": meta, "spec": {}});
        let client = self.client.while_there(add_on);
        match client.create(&self.instances, &root, cluster, &instance).await {
            Err(taken) if taken.reason == "AlreadyExists" => Ok(()),
            made => made.map(drop).map_err(Error::api("put an add-on on a cluster")),
        }
    }

    fn owner(&self, add_on: &Stored) -> Value {
        json!({
            "apiVersion": "addon.open-cluster-management.io/v1beta1", "kind": self.add_ons.kind(),
            "name": &*add_on.key.name, "uid": add_on.object.header.uid.as_str(),
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    /// It goes with the add-on.
    pub(super) async fn own(&self, instance: &Arc<Stored>, add_on: &Stored) -> Result<(), Error> {
        let uid = &add_on.object.header.uid;
        if instance.object.header.owners.iter().any(|owner| owner.uid == *uid) {
            return Ok(());
        }
        let owner = self.owner(add_on);
        let change = |mut value: Value| {
            let owners = &mut value["metadata"]["ownerReferences"];
            let mut all = owners.as_array().cloned().unwrap_or_default();
            all.retain(|it| it["controller"] != true);
            all.push(owner.clone());
            *owners = json!(all);
            Ok(value)
        };
        let owned = self.client.modify_this(&self.instances, instance, None, change).await;
        owned.map(drop).map_err(Error::api("own a ManagedClusterAddOn"))
    }
}
