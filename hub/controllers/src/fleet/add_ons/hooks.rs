//! What is done before an add-on goes: Jobs and Pods of its template that say so are applied when it is deleted, and it
//! waits until they are through.
//!
//! Guarantees:
//! - an add-on goes after its hooks are done (`an_add_on_goes_after_its_hooks`), as its template has them then, whatever is
//!   on its way (`an_add_on_goes_after_its_hooks_while_its_template_changes`);
//! - hooks are of this very add-on: what one of its name has left behind goes first (`an_add_on_runs_its_own_hooks`);
//! - hooks that cannot be made are told of and waited for (`hooks_that_cannot_be_made_are_told_of_and_waited_for`);
//! - one whose cluster or template goes waits for nobody (`an_add_on_of_a_cluster_that_goes_waits_for_nobody`,
//!   `an_add_on_without_its_template_waits_for_nobody`).

use std::sync::Arc;
use std::time::Duration;

use freewheel_hub_api::conditions::{ADD_ON_HOOKS_COMPLETED, Condition};
use freewheel_hub_fleet::add_on::agent::{hooks, hooks_are_done};
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::Stored;
use freewheel_link::names::ClusterName;
use serde_json::{Value, json};

use super::agent::{Agent, Made, NoAgent};
use super::instances::AddOnInstances;
use crate::engine::Error;
use crate::engine::client::key as key_of;
use crate::engine::clock::rfc3339;

const FINALIZER: &str = "addon.open-cluster-management.io/addon-pre-delete";

/// Between two looks at what hooks are made of: nobody tells of that when it changes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What is to be done before an add-on goes.
enum Hook {
    Work(Arc<Stored>),
    Nothing,
    /// There may be something, and it cannot be made.
    Wrong(String),
}

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
        of: (&Value, &Value),
    ) -> Result<Option<Duration>, Error> {
        if !is_held(stored) {
            return Ok(None);
        }
        let key = self.hook_key(stored);
        let work = match self.hook_work(stored, &key, of).await? {
            Hook::Work(work) => work,
            Hook::Nothing => return self.put_finalizer(stored, false).await.map(|()| None),
            Hook::Wrong(why) => {
                let text = format!("cannot make hook manifestWork {}: {why}", key.name);
                self.tell_of_hooks(stored, false, text).await?;
                return Ok(Some(LOOK_EVERY));
            }
        };
        let object = work.object.value().map_err(Error::api("read a ManifestWork"))?;
        let is_done = hooks_are_done(&object);
        let verb = if is_done { "is completed" } else { "is not completed" };
        let text = format!("hook manifestWork {} {verb}.", key.name);
        self.tell_of_hooks(stored, is_done, text).await?;
        if is_done {
            self.put_finalizer(stored, false).await?;
        }
        // The work tells when it is done.
        Ok(None)
    }

    /// The work that is there, or that is made of the template as it is now: a rollout does not go on to who goes.
    async fn hook_work(
        &self,
        stored: &Arc<Stored>,
        key: &Key,
        of: (&Value, &Value),
    ) -> Result<Hook, Error> {
        let now = self.client.snapshot();
        if let Some(work) = now.get(key) {
            return self.own_work(stored, work).await;
        }
        let agent = match Agent::of(of, Made::AsItIs, (&self.configs, &*now)) {
            Ok(agent) => agent,
            Err(NoAgent::NoTemplate(_)) => return Ok(Hook::Nothing),
            Err(wrong) => return Ok(Hook::Wrong(wrong.to_string())),
        };
        let Some(spec) = hooks(&agent.manifests) else { return Ok(Hook::Nothing) };
        match self.apply(stored, key, spec, None).await {
            Ok(work) => Ok(Hook::Work(work)),
            Err(Error::Api { source, .. }) if [403, 422].contains(&source.code) => {
                Ok(Hook::Wrong(source.message))
            }
            Err(other) => Err(other),
        }
    }

    /// A work of the hooks' name, if it is this add-on's and stays. Another one's says nothing of these hooks, whatever is
    /// done of it: it goes, and then they are made.
    async fn own_work(&self, stored: &Stored, work: Arc<Stored>) -> Result<Hook, Error> {
        let (header, uid) = (&work.object.header, &stored.object.header.uid);
        if !header.deleting && header.owners.iter().any(|owner| owner.uid == *uid) {
            return Ok(Hook::Work(work));
        }
        if !header.deleting {
            self.remove(&work).await?;
        }
        Ok(Hook::Wrong("another one of its name has yet to go".to_owned()))
    }

    async fn tell_of_hooks(
        &self,
        stored: &Arc<Stored>,
        is_done: bool,
        text: String,
    ) -> Result<(), Error> {
        let reason = if is_done { "HookManifestIsCompleted" } else { "HookManifestIsNotCompleted" };
        let condition = Condition::new(&ADD_ON_HOOKS_COMPLETED, is_done, reason, text);
        let now = rfc3339(self.client.clock.now());
        let change = |mut value: Value| {
            condition.put(&mut value["status"]["conditions"], &now);
            Ok(value)
        };
        let said = self.client.modify_this(&self.instances, stored, Some("status"), change).await;
        said.map(drop).map_err(Error::api("tell of the hooks of an add-on"))
    }

    fn hook_key(&self, instance: &Stored) -> Key {
        let name = format!("addon-{}-pre-delete", instance.key.name);
        key_of(&self.works, &ClusterName::root(), &instance.key.namespace, &name)
    }
}
