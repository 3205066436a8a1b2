//! Keeps what the tags of images stood for: at what has a template when its first pod is made, at a pod of its own when
//! it has a node.
//!
//! ```text
//! ReplicaSet, ControllerRevision, Job ─first pod─▶ its annotation ─▶ each of its pods
//! pod without one ─bound─▶ its own annotation ─adopted─▶ its set's, or the set takes over the pod's
//! not in the registry yet ─▶ waits ─a tag changed─▶ looked up again
//! ```
//!
//! Guarantees:
//! - all pods of a ReplicaSet get what its tags stood for when it made its first one
//!   (`a_set_looks_its_images_up_once_and_its_pods_get_that`), also when somebody takes the annotation off or writes
//!   another one (`what_somebody_takes_off_or_writes_over_stays`), and those that it adopts get it too, or had it
//!   before the set (`a_set_and_the_pods_that_it_adopts_run_one_build`);
//! - so do all pods of one revision of a StatefulSet (`each_revision_of_a_stateful_set_runs_what_its_tags_stood_for`,
//!   `a_push_in_the_middle_of_a_rollout_by_parts_mixes_nothing`) or of a DaemonSet
//!   (`each_revision_of_a_daemon_set_runs_what_its_tags_stood_for`), and all pods of one Job
//!   (`all_pods_of_a_job_run_one_build_and_the_next_job_the_next_one`);
//! - what came with a copied object counts for nothing (`what_a_copied_object_says_is_looked_up_anew`);
//! - nothing is kept of images that are gone (`what_is_no_image_any_more_is_kept_no_longer`), and what is kept has room
//!   beside all annotations that people may write (`annotations_up_to_the_limit_leave_room_for_what_is_kept`); a pod
//!   that is as large as a pod may be says that it has none (`a_pod_that_has_no_room_for_it_says_so`);
//! - however many pods run a template, those that know nothing of its images are not read for them
//!   (`who_knows_an_image_is_found_unread`);
//! - what was not in the registry is looked up when it comes, once for the whole set
//!   (`what_comes_later_is_looked_up_once_for_all_pods_of_a_set`,
//!   `what_comes_later_is_looked_up_once_for_a_revision_and_for_a_job`);
//! - a pod without a set keeps what its tag stood for when it got its node
//!   (`a_pod_of_its_own_is_looked_up_when_it_has_a_node`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::images::Images;
use freewheel_hub_api::pins::{Pins, images_in};
use freewheel_hub_schema::error::ApiError;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Header, Key};
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::control::is_a;
use crate::engine::client::{everywhere, key as key_of, kind};
use crate::engine::{Client, Controller, Error};
use crate::history::revision_label::{REVISION_LABEL, revision_of};
use crate::index::Indexes;
use crate::pods::is_active;

/// What the pods of one template are to run. What nobody has looked up before is what these of them run that are there;
/// the rest is looked up, and kept first with what has the template. Nobody gathers its pods for what is kept already.
///
/// # Errors
/// When that cannot be written.
pub(crate) async fn of_template(
    client: &Client,
    kind: &Arc<Kind>,
    images: &dyn Images,
    holder: &Stored,
    pods: impl FnOnce() -> Vec<Arc<Stored>>,
) -> Result<Pins, ApiError> {
    let value = holder.object.value()?;
    let wanted = images_in(&value);
    let mut pins = Pins::of(&value);
    pins.keep_only(&wanted);
    if !pins.lack(&wanted) {
        return Ok(pins);
    }
    let mut found = of_pods(&wanted, &pins, pods())?;
    found.look_up(&wanted, images);
    if !pins.take_over(&wanted, &found) {
        return Ok(pins);
    }
    let change = |mut newest: Value| {
        if newest["metadata"]["uid"] == holder.object.header.uid {
            let mut pins = Pins::of(&newest);
            pins.take_over(&wanted, &found);
            pins.write(&mut newest);
        }
        Ok(newest)
    };
    match client.modify(kind, &holder.key, None, change).await {
        Ok(written) => Ok(Pins::of(&written.stored.object.value()?)),
        // Gone: what is made of it goes with it.
        Err(gone) if gone.code == 404 => Ok(pins),
        Err(error) => Err(error),
    }
}

/// What these run of the images that are not kept yet: of the oldest one that says so.
fn of_pods(
    wanted: &BTreeSet<String>,
    kept: &Pins,
    mut pods: Vec<Arc<Stored>>,
) -> Result<Pins, ApiError> {
    pods.sort_by_key(|pod| pod.created);
    let mut found = kept.clone();
    for pod in pods {
        if !found.lack(wanted) {
            break;
        }
        if found.may_learn(wanted, &pod.object.body) {
            found.take_over(wanted, &Pins::of(&pod.object.value()?));
        }
    }
    Ok(found)
}

/// The controller of pods.
pub struct ImagePins {
    client: Client,
    indexes: Indexes,
    images: Arc<dyn Images>,
    changed: tokio::sync::Mutex<watch::Receiver<u64>>,
    /// Pods with an image that is not in the registry.
    waiting: Mutex<BTreeSet<Key>>,
    pods: Arc<Kind>,
    /// What makes pods of one template.
    of_one_template: [Arc<Kind>; 3],
    /// What has had several, and keeps them in revisions.
    of_revisions: [Arc<Kind>; 2],
    revisions: Arc<Kind>,
}

impl ImagePins {
    /// Writes through this client.
    pub fn new(client: Client, indexes: Indexes, images: Arc<dyn Images>) -> Result<Self, Error> {
        let of_one_template = [
            kind("apps", "v1", "replicasets")?,
            kind("", "v1", "replicationcontrollers")?,
            kind("batch", "v1", "jobs")?,
        ];
        Ok(Self {
            pods: kind("", "v1", "pods")?,
            of_one_template,
            of_revisions: [kind("apps", "v1", "statefulsets")?, kind("apps", "v1", "daemonsets")?],
            revisions: kind("apps", "v1", "controllerrevisions")?,
            changed: tokio::sync::Mutex::new(images.changed()),
            waiting: Mutex::default(),
            client,
            indexes,
            images,
        })
    }

    /// What has the template that a pod was made of, if it is still there, and its kind.
    fn holder_of(&self, pod: &Stored) -> Option<(&Arc<Kind>, Arc<Stored>)> {
        let owner = pod.object.header.owners.iter().find(|owner| owner.controller)?;
        if self.of_revisions.iter().any(|sets| is_a(owner, sets)) {
            return Some((&self.revisions, revision_of(&self.indexes, pod)?));
        }
        let kind = self.of_one_template.iter().find(|kind| is_a(owner, kind))?;
        let key = key_of(kind, &pod.key.cluster, &pod.key.namespace, &owner.name);
        let holder = self.client.snapshot().get(&key)?;
        (holder.object.header.uid == owner.uid).then_some((kind, holder))
    }

    async fn pin(&self, pod: &Bound) -> Result<Pins, ApiError> {
        let Bound { stored, images, own } = pod;
        let of_template = match self.holder_of(stored) {
            Some((kind, holder)) => {
                let pods = || vec![stored.clone()];
                of_template(&self.client, kind, &*self.images, &holder, pods).await?
            }
            None => Pins::default(),
        };
        // What its template does not name is the pod's own: somebody has changed its image.
        let settle = |own: &Pins| {
            let mut pins = Pins::default();
            pins.take_over(images, &of_template);
            pins.take_over(images, own);
            pins
        };
        let pins = settle(own);
        if pins == *own && !pins.lack(images) {
            return Ok(pins);
        }
        let change = |mut value: Value| {
            if value["metadata"]["uid"] == stored.object.header.uid {
                let mut pins = settle(&Pins::of(&value));
                pins.look_up(images, &*self.images);
                pins.write(&mut value);
            }
            Ok(value)
        };
        let written = self.client.modify(&self.pods, &stored.key, None, change).await?;
        Ok(Pins::of(&written.stored.object.value()?))
    }
}

/// A pod that has a node and is to run there, its images, and what they stand for as far as it says so.
struct Bound {
    stored: Arc<Stored>,
    images: BTreeSet<String>,
    own: Pins,
}

impl Bound {
    fn of(stored: Arc<Stored>) -> Option<Self> {
        if node(&stored.object.header).is_none_or(String::is_empty) || !is_active(&stored) {
            return None;
        }
        let value = stored.object.value().ok()?;
        Some(Self { images: images_in(&value), own: Pins::of(&value), stored })
    }
}

fn node(of: &Header) -> Option<&String> {
    of.fields.get("spec.nodeName")
}

fn revision(of: &Header) -> Option<&String> {
    of.labels.get(REVISION_LABEL)
}

#[async_trait]
impl Controller for ImagePins {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(&self.pods)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(pod) = &event.now else {
            event.key().map(|key| self.waiting.lock().remove(key));
            return Vec::new();
        };
        // A report changes neither generation, node, owner nor revision; nobody is asked to look at its body.
        let same = |before: &Arc<Stored>| {
            let (now, before) = (&pod.object.header, &before.object.header);
            now.uid == before.uid
                && now.generation == before.generation
                && now.owners == before.owners
                && node(now) == node(before)
                && revision(now) == revision(before)
        };
        if event.before.as_ref().is_some_and(same) { Vec::new() } else { vec![pod.key.clone()] }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let Some(pod) = self.client.snapshot().get(key).and_then(Bound::of) else {
            self.waiting.lock().remove(key);
            return Ok(None);
        };
        // First, so that what is pushed from here on brings it back.
        self.waiting.lock().insert(key.clone());
        match self.pin(&pod).await {
            Ok(pins) if pins.lack(&pod.images) => {}
            Ok(_) => {
                self.waiting.lock().remove(key);
            }
            Err(gone) if gone.code == 404 => {
                self.waiting.lock().remove(key);
            }
            Err(error) if error.code == 413 => {
                // A change of it brings it back; another try without one would end the same.
                self.waiting.lock().remove(key);
                let text = format!(
                    "what its images stand for has no room in the pod ({error}): whenever a tag is pushed again, its \
                     containers go over to that"
                );
                let (recorder, name) = (&self.client.recorder, self.client.name());
                recorder.warning(&self.pods, &pod.stored, name, "ImageNotKept", text);
            }
            Err(error) => return Err(Error::api("keep what a pod's images stand for")(error)),
        }
        Ok(None)
    }

    async fn outside(&self) -> Vec<Key> {
        if self.changed.lock().await.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        std::mem::take(&mut *self.waiting.lock()).into_iter().collect()
    }
}
