//! Rolls each Deployment's pods from one template to the next.
//!
//! ```text
//! apply       what a run writes
//! observe     the Deployment and its ReplicaSets of one moment
//! revision    new sets, revisions, history
//! rolling     the next step of a rollout
//! proportion  a change of size in the middle of one
//! status      counts and conditions
//! ```
//!
//! Guarantees:
//! - during a rolling update at most `replicas + maxSurge` pods are asked for and at least `replicas -
//!   maxUnavailable` available ones are kept (`bounds_hold_on_every_way_through_a_rollout`,
//!   `a_rolling_update_never_falls_below_what_was_asked_and_can_be_undone`);
//! - a name that another template has taken leads to another one
//!   (`a_name_that_is_taken_by_another_template_leads_to_another_hash`);
//! - a paused Deployment scales but does not roll (`scaling_and_pausing`).

mod apply;
pub mod observe;
pub mod proportion;
pub mod revision;
pub mod rolling;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::Propagation;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use k8s_openapi::api::apps::v1::Deployment;

use crate::control::{any, claimed};
use crate::engine::client::{everywhere, key as key_of, kind, typed};
use crate::engine::{Client, Controller, Error};
use crate::index::{IndexTerm, Indexes};
use crate::selector::Selector;
use observe::{Scale, Set, Sets, Strategy, Wanted};

/// The controller.
pub struct Deployments {
    client: Client,
    indexes: Indexes,
    deployments: Arc<Kind>,
    sets: Arc<Kind>,
    pods: Arc<Kind>,
}

/// One run: the Deployment with its sets.
struct Rollout<'a> {
    stored: &'a Stored,
    wanted: Wanted,
    sets: Sets,
}

impl Deployments {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes) -> Result<Self, Error> {
        Ok(Self {
            client,
            indexes,
            deployments: kind("apps", "v1", "deployments")?,
            sets: kind("apps", "v1", "replicasets")?,
            pods: kind("", "v1", "pods")?,
        })
    }

    fn owners_of_set(&self, set: &Stored) -> Vec<Key> {
        if let Some(owner) = set.object.header.owners.iter().find(|o| o.controller) {
            if owner.kind != self.deployments.kind() || !owner.api_version.starts_with("apps/") {
                return Vec::new();
            }
            let (cluster, namespace) = (&set.key.cluster, &set.key.namespace);
            return vec![key_of(&self.deployments, cluster, namespace, &owner.name)];
        }
        self.indexes.selector_owners_of(&self.deployments, set)
    }

    /// A pod that goes may let a Recreate rollout go on.
    fn owner_of_pod(&self, pod: &Stored, now: &dyn Snapshot) -> Vec<Key> {
        let Some(owner) = pod.object.header.owners.iter().find(|o| o.controller) else {
            return Vec::new();
        };
        let key = key_of(&self.sets, &pod.key.cluster, &pod.key.namespace, &owner.name);
        now.get(&key).map(|set| self.owners_of_set(&set)).unwrap_or_default()
    }

    /// The Deployment's own sets, after adopting and releasing.
    async fn claimed(&self, stored: &Stored, selector: &Selector) -> Result<Vec<Set>, Error> {
        let (owner, sets) = ((&*self.deployments, stored), (&self.sets, &*self.indexes.sets));
        let mine = claimed(&self.client, owner, sets, selector, any).await?;
        mine.iter().map(|set| Set::read(set.stored.clone())).collect()
    }

    async fn read<'a>(
        &self,
        stored: &'a Stored,
        selector: &Selector,
    ) -> Result<Rollout<'a>, Error> {
        let wanted = Wanted::read(stored)?;
        let sets = Sets::split(self.claimed(stored, selector).await?, &wanted.template);
        Ok(Rollout { stored, wanted, sets })
    }

    async fn roll(&self, run: &mut Rollout<'_>) -> Result<Option<Duration>, Error> {
        if run.wanted.strategy == Strategy::Recreate {
            self.sync_revision(run, false).await?;
            let stops = rolling::stop_old(&run.sets);
            if self.scale(run, &stops).await? || self.old_pods_run(run) {
                return self.finish(run, false).await;
            }
        }
        self.sync_revision(run, true).await?;
        let scales = match run.wanted.strategy {
            Strategy::Rolling { .. } => rolling::rolling(&run.wanted, &run.sets),
            Strategy::Recreate => {
                let size = run.wanted.replicas;
                run.sets.new.iter().map(|s| Scale { set: s.name.clone(), to: size }).collect()
            }
        };
        let moved = self.scale(run, &scales).await?;
        self.finish(run, !moved).await
    }

    /// Writes the status; tidies up what history does not cover once the rollout is through.
    async fn finish(&self, run: &Rollout<'_>, tidy: bool) -> Result<Option<Duration>, Error> {
        let now = self.client.clock.now();
        let outcome = status::rollout(&run.wanted, &run.sets, now);
        if tidy && status::is_complete(&run.wanted, &outcome.status) {
            self.tidy(run).await?;
        }
        self.write_status(run, &outcome.status).await?;
        Ok(outcome.look_again)
    }

    async fn tidy(&self, run: &Rollout<'_>) -> Result<(), Error> {
        for set in revision::beyond_history(&run.wanted, &run.sets) {
            let uid = &set.stored.object.header.uid;
            self.client
                .delete(&self.sets, &set.stored.key, uid, Propagation::Background)
                .await
                .map_err(Error::api("delete an old ReplicaSet"))?;
        }
        Ok(())
    }

    fn old_pods_run(&self, run: &Rollout<'_>) -> bool {
        let old = run.sets.old.iter().map(|set| IndexTerm::controlled_by(&set.stored));
        let mut pods = old.flat_map(|term| self.indexes.pods.find(term));
        pods.any(|pod| !matches!(pod.phase(), "Succeeded" | "Failed"))
    }

    /// Scaling and pausing: sizes and status, no new template.
    async fn resize(&self, run: &mut Rollout<'_>) -> Result<Option<Duration>, Error> {
        self.sync_revision(run, false).await?;
        let scales = proportion::scale(&run.wanted, &run.sets);
        self.scale(run, &scales).await?;
        if run.wanted.paused {
            self.tidy(run).await?;
        }
        let status = status::calculate(&run.wanted, &run.sets, self.client.clock.now());
        self.write_status(run, &status).await?;
        Ok(None)
    }
}

fn selector(stored: &Stored) -> Result<Option<Selector>, Error> {
    let deployment: Deployment = typed(stored)?;
    Ok(deployment.spec.and_then(|s| Selector::of_workload(&s.selector)))
}

#[async_trait]
impl Controller for Deployments {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.deployments), everywhere(&self.sets), everywhere(&self.pods)]
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, now: &dyn Snapshot) -> Vec<Key> {
        let Some(key) = event.key() else { return Vec::new() };
        if key.resource == *self.deployments.storage() {
            return vec![key.clone()];
        }
        if key.resource == *self.pods.storage() {
            let gone = event.before.as_ref().filter(|_| event.now.is_none());
            return gone.map(|pod| self.owner_of_pod(pod, now)).unwrap_or_default();
        }
        let sides = event.now.iter().chain(event.before.iter());
        let mut keys: Vec<Key> = sides.flat_map(|set| self.owners_of_set(set)).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(stored) = self.client.snapshot().get(key) else { return Ok(None) };
        let Some(selector) = selector(&stored)? else {
            return Err(Error::Refused("the selector is empty or unknown".into()));
        };
        let mut run = self.read(&stored, &selector).await?;
        if stored.object.header.deleting {
            let status = status::calculate(&run.wanted, &run.sets, self.client.clock.now());
            return self.write_status(&run, &status).await.map(|()| None);
        }
        if let Some(said) = status::paused(&run.wanted) {
            self.write_condition(&mut run, said).await?;
        }
        if run.wanted.paused || proportion::is_scaling(&run.wanted, &run.sets) {
            return self.resize(&mut run).await;
        }
        self.roll(&mut run).await
    }
}
