//! The ManifestWork that the agent of an add-on comes to.

use std::sync::Arc;

use freewheel_hub_api::conditions::{Condition, find};
use freewheel_hub_fleet::add_on::agent::{deployed, hashes};
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Expect, Stored};
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::agent::Agent;
use super::instances::AddOnInstances;
use super::manifest_works::{HASHES, NAME_LABEL, applied};
use crate::engine::Error;
use crate::engine::client::key as key_of;

impl AddOnInstances {
    /// The work that the agent comes to, and what it says.
    pub(super) async fn deploy(
        &self,
        stored: &Arc<Stored>,
        agent: &Agent,
    ) -> Result<(Option<Value>, Option<Condition<'static>>), Error> {
        let key = self.work_key(stored);
        let Some(spec) = deployed(&agent.manifests, &agent.template) else {
            self.undeploy(&key).await?;
            let text = "no manifest need to apply";
            return Ok((None, Some(applied(true, "AddonManifestApplied", text))));
        };
        let work = match self.apply(stored, &key, spec, hashes(&agent.references)).await {
            Ok(work) => work,
            Err(Error::Api { source, .. }) if [403, 422].contains(&source.code) => {
                let text = format!("failed to apply manifestWork: {}", source.message);
                return Ok((None, Some(applied(false, "ManifestWorkApplyFailed", text))));
            }
            Err(other) => return Err(other),
        };
        let work = work.object.value().map_err(Error::api("read a ManifestWork"))?;
        let told = find(&work["status"]["conditions"], "Applied").map(|it| it["status"] == "True");
        let told = told.map(|is| {
            if is {
                applied(true, "AddonManifestApplied", "manifests of addon are applied successfully")
            } else {
                applied(
                    false,
                    "AddonManifestAppliedFailed",
                    "failed to apply the manifests of addon",
                )
            }
        });
        Ok((Some(work), told))
    }

    async fn undeploy(&self, key: &Key) -> Result<(), Error> {
        let Some(work) = self.client.snapshot().get(key) else { return Ok(()) };
        self.remove(&work).await
    }

    /// Deletes a work.
    pub(super) async fn remove(&self, work: &Stored) -> Result<(), Error> {
        let (key, uid) = (&work.key, &work.object.header.uid);
        let deleted = self.client.delete(&self.works, key, uid, Propagation::Background).await;
        deleted.map(drop).map_err(Error::api("delete the ManifestWork of an add-on"))
    }

    fn work_key(&self, instance: &Stored) -> Key {
        let name = format!("addon-{}-deploy-0", instance.key.name);
        key_of(&self.works, &ClusterName::root(), &instance.key.namespace, &name)
    }

    /// Makes a work of an instance what it is to be.
    pub(super) async fn apply(
        &self,
        instance: &Arc<Stored>,
        key: &Key,
        spec: Value,
        hashes: Option<String>,
    ) -> Result<Arc<Stored>, Error> {
        let owner = json!({
            "apiVersion": "addon.open-cluster-management.io/v1beta1", "kind": self.instances.kind(),
            "name": &*instance.key.name, "uid": instance.object.header.uid.as_str(),
            "controller": true, "blockOwnerDeletion": true,
        });
        let change = |old: Option<Value>| {
            let mut value = old.unwrap_or_else(|| json!({"metadata": {}}));
            value["metadata"]["labels"][NAME_LABEL] = json!(&*instance.key.name);
            if let Some(hashes) = &hashes {
                value["metadata"]["annotations"][HASHES] = json!(hashes);
            }
            value["metadata"]["ownerReferences"] = json!([owner]);
            value["spec"] = spec.clone();
            Ok(value)
        };
        let client = self.client.while_holds(Expect::still(instance));
        let written = client.create_or_modify(&self.works, key, change).await;
        Ok(written.map_err(Error::api("write the ManifestWork of an add-on"))?.stored)
    }
}
