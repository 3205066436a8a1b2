//! Keeps what the tags of images stood for: at a ReplicaSet when it makes its first pod, at a pod of its own when it
//! has a node.
//!
//! ```text
//! ReplicaSet ─first pod─▶ its annotation ─▶ each of its pods
//! pod without a set ─bound─▶ its own annotation
//! not in the registry yet ─▶ waits ─a tag changed─▶ looked up again
//! ```
//!
//! Guarantees:
//! - all pods of a ReplicaSet get what its tags stood for when it made its first one
//!   (`a_set_looks_its_images_up_once_and_its_pods_get_that`);
//! - what was not in the registry is looked up when it comes, once for the whole set
//!   (`what_comes_later_is_looked_up_once_for_all_pods_of_a_set`);
//! - a pod without a set keeps what its tag stood for when it got its node
//!   (`a_pod_of_its_own_is_looked_up_when_it_has_a_node`).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::images::Images;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_api::pins::{Pins, images_of};
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::engine::desk::{everywhere, key as key_of, kind};
use crate::engine::{Controller, Desk, Error};
use crate::pods::is_active;

/// What a ReplicaSet's pods are to run. What nobody has looked up before is looked up and kept first.
///
/// # Errors
/// When the set cannot be written.
pub(crate) async fn of_set(
    desk: &Desk,
    sets: &'static Kind,
    images: &dyn Images,
    set: &Stored,
) -> Result<Pins, ApiError> {
    let value = set.object.value()?;
    let wanted = images_of(&value["spec"]["template"]["spec"]);
    let mut pins = Pins::of(&value);
    if !pins.look_up(&wanted, images) {
        return Ok(pins);
    }
    let change = |mut newest: Value| {
        if newest["metadata"]["uid"] == set.object.header.uid {
            let mut pins = Pins::of(&newest);
            pins.look_up(&wanted, images);
            pins.write(&mut newest);
        }
        Ok(newest)
    };
    match desk.modify(sets, &set.key, None, change).await {
        Ok(written) => Ok(Pins::of(&written.stored.object.value()?)),
        // Gone: what it would have made goes with it.
        Err(gone) if gone.code == 404 => Ok(pins),
        Err(error) => Err(error),
    }
}

/// The controller of pods.
pub struct ImagePins {
    desk: Desk,
    images: Arc<dyn Images>,
    changed: tokio::sync::Mutex<watch::Receiver<u64>>,
    /// Pods with an image that is not in the registry.
    waiting: Mutex<BTreeSet<Key>>,
    pods: &'static Kind,
    sets: &'static Kind,
}

impl ImagePins {
    /// Writes through this desk.
    pub fn new(desk: Desk, images: Arc<dyn Images>) -> Result<Self, Error> {
        let (pods, sets) = (kind("", "v1", "pods")?, kind("apps", "v1", "replicasets")?);
        let changed = tokio::sync::Mutex::new(images.changed());
        Ok(Self { desk, images, changed, waiting: Mutex::default(), pods, sets })
    }

    /// The ReplicaSet that made a pod, if it is still there.
    fn set_of(&self, pod: &Stored) -> Option<Arc<Stored>> {
        let owner = pod.object.header.owners.iter().find(|owner| owner.controller)?;
        if owner.kind != self.sets.kind || !owner.api_version.starts_with("apps/") {
            return None;
        }
        let key = key_of(self.sets, &pod.key.cluster, &pod.key.namespace, &owner.name);
        self.desk.snapshot().get(&key).filter(|set| set.object.header.uid == owner.uid)
    }

    async fn pin(&self, pod: &Stored, wanted: &BTreeSet<String>) -> Result<Pins, ApiError> {
        let of_set = match self.set_of(pod) {
            Some(set) => of_set(&self.desk, self.sets, &*self.images, &set).await?,
            None => Pins::default(),
        };
        let change = |mut value: Value| {
            if value["metadata"]["uid"] == pod.object.header.uid {
                let mut pins = Pins::of(&value);
                pins.take_over(wanted, &of_set);
                // What its set does not name is the pod's own: somebody has changed its image.
                pins.look_up(wanted, &*self.images);
                pins.write(&mut value);
            }
            Ok(value)
        };
        let written = self.desk.modify(self.pods, &pod.key, None, change).await?;
        Ok(Pins::of(&written.stored.object.value()?))
    }
}

/// The images of a pod that has a node, if one of them is not looked up.
fn lacking(pod: &Stored) -> Option<BTreeSet<String>> {
    let bound = pod.object.header.fields.get("spec.nodeName").is_some_and(|node| !node.is_empty());
    if !bound || !is_active(pod) {
        return None;
    }
    let value = pod.object.value().ok()?;
    let images = images_of(&value["spec"]);
    Pins::of(&value).lack(&images).then_some(images)
}

#[async_trait]
impl Controller for ImagePins {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        vec![everywhere(self.pods)]
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let Some(pod) = &event.now else {
            event.key().map(|key| self.waiting.lock().remove(key));
            return Vec::new();
        };
        // A report changes neither generation nor node; nobody is asked to look at its body.
        let same = |before: &Arc<Stored>| {
            let (now, before) = (&pod.object.header, &before.object.header);
            let node = |header: &freewheel_hub_api::object::Header| {
                header.fields.get("spec.nodeName").cloned()
            };
            now.uid == before.uid
                && now.generation == before.generation
                && node(now) == node(before)
        };
        if event.before.as_ref().is_some_and(same) { Vec::new() } else { vec![pod.key.clone()] }
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let pod = self.desk.snapshot().get(key);
        let lacks = pod.and_then(|pod| lacking(&pod).map(|wanted| (pod, wanted)));
        let Some((pod, wanted)) = lacks else {
            self.waiting.lock().remove(key);
            return Ok(None);
        };
        // First, so that what is pushed from here on brings it back.
        self.waiting.lock().insert(key.clone());
        match self.pin(&pod, &wanted).await {
            Ok(pins) if pins.lack(&wanted) => {}
            Ok(_) => {
                self.waiting.lock().remove(key);
            }
            Err(gone) if gone.code == 404 => {
                self.waiting.lock().remove(key);
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
