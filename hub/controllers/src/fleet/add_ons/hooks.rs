//! What is done before an add-on goes: Jobs and Pods of its template that say so are applied when it is deleted, and it
//! waits until they are through.
//!
//! Guarantees:
//! - an add-on goes after its hooks are done (`an_add_on_goes_after_its_hooks`);
//! - one whose cluster goes, or of whose template nothing is left, waits for nobody
//!   (`an_add_on_of_a_cluster_that_goes_waits_for_nobody`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{ADD_ON_HOOKS_COMPLETED, Condition};
use freewheel_hub_fleet::add_on::agent::{hooks, hooks_are_done};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::agent::Agent;
use super::instances::AddOnInstances;
use crate::engine::Error;
use crate::engine::client::key as key_of;
use crate::engine::clock::rfc3339;

const FINALIZER: &str = "addon.open-cluster-management.io/addon-pre-delete";

pub(super) fn is_held(instance: &Stored) -> bool {
    instance.object.header.finalizers.iter().any(|it| it == FINALIZER)
}

impl AddOnInstances {
    /// Holds an add-on whose template has hooks, and none else; whether it was so already.
    pub(super) async fn hold(&self, stored: &Arc<Stored>, agent: &Agent) -> Result<bool, Error> {
        let is_wanted = hooks(&agent.manifests).is_some();
        if is_wanted == is_held(stored) {
            return Ok(true);
        }
        self.put_finalizer(stored, is_wanted).await.map(|()| false)
    }

    async fn put_finalizer(&self, stored: &Arc<Stored>, is_wanted: bool) -> Result<(), Error> {
        let change = |mut value: Value| {
            let list = &mut value["metadata"]["finalizers"];
            let mut all = list.as_array().cloned().unwrap_or_default();
            all.retain(|it| it != FINALIZER);
            all.extend(is_wanted.then(|| json!(FINALIZER)));
            *list = json!(all);
            Ok(value)
        };
        let put = self.client.modify_this(&self.instances, stored, None, change).await;
        put.map(drop).map_err(Error::api("hold a ManagedClusterAddOn"))
    }

    /// An add-on that is on its way out with its cluster.
    pub(super) async fn let_go(&self, stored: &Arc<Stored>) -> Result<Option<Duration>, Error> {
        if is_held(stored) {
            self.put_finalizer(stored, false).await?;
        }
        Ok(None)
    }

    /// An add-on that is on its way out.
    pub(super) async fn end(
        &self,
        stored: &Arc<Stored>,
        agent: Option<&Agent>,
    ) -> Result<Option<Duration>, Error> {
        if !is_held(stored) {
            return Ok(None);
        }
        let key = self.hook_key(stored);
        let mut work = self.client.snapshot().get(&key);
        if work.is_none() {
            let Some(spec) = agent.and_then(|agent| hooks(&agent.manifests)) else {
                return self.put_finalizer(stored, false).await.map(|()| None);
            };
            work = Some(self.apply(stored, &key, spec, None).await?);
        }
        let Some(work) = work else { return Ok(None) };
        let object = work.object.value().map_err(Error::api("read a ManifestWork"))?;
        let is_done = hooks_are_done(&object);
        let (reason, verb) = if is_done {
            ("HookManifestIsCompleted", "is completed")
        } else {
            ("HookManifestIsNotCompleted", "is not completed")
        };
        let text = format!("hook manifestWork {} {verb}.", key.name);
        let condition = Condition::new(&ADD_ON_HOOKS_COMPLETED, is_done, reason, text);
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            condition.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.instances, stored, Some("status"), change).await;
        said.map_err(Error::api("tell of the hooks of an add-on"))?;
        if is_done {
            self.put_finalizer(stored, false).await?;
        }
        // The work tells when it is done.
        Ok(None)
    }

    fn hook_key(&self, instance: &Stored) -> Key {
        let name = format!("addon-{}-pre-delete", instance.key.name);
        key_of(&self.works, &ClusterName::root(), &instance.key.namespace, &name)
    }
}
