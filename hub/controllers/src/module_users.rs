//! Who runs a build of a module: what the registry tells those who push another one.
//!
//! Guarantees:
//! - only pods that run or are to run this build under this name count, and who can be rolled out anew is named
//!   (`who_runs_a_build_is_counted_and_called_by_its_deployment`,
//!   `stateful_sets_daemon_sets_and_jobs_that_run_a_build_are_known`);
//! - what has no such pod and will run it again is counted too (`who_will_run_a_build_again_is_counted_too`), which a
//!   Job that is over does not (`stateful_sets_daemon_sets_and_jobs_that_run_a_build_are_known`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_api::images::{Running, Users};
use freewheel_hub_api::pins::{Pins, images_in};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::object::{Key, Resource};
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Snapshot, Stored};
use freewheel_link::digest::Digest;
use serde_json::Value;

use crate::deployment::observe::REVISION_ANNOTATION;
use crate::engine::client::all_of;
use crate::history::revision_label::REVISION_LABEL;
use crate::job::observe::Wanted;
use crate::pods::{controller_of, is_active};

/// Rollouts that are named; more would not be read.
const RESTARTS_NAMED_MAX: usize = 5;
/// What has a template beside pods and keeps what its images stand for: group and plural.
const HOLDERS: [(&str, &str); 4] = [
    ("apps", "replicasets"),
    ("", "replicationcontrollers"),
    ("apps", "controllerrevisions"),
    ("batch", "jobs"),
];
/// What is rolled out, or made for that, by kind: all of apps.
const ROLLED_OUT: [(&str, &str); 4] = [
    ("Deployment", "deployments"),
    ("StatefulSet", "statefulsets"),
    ("DaemonSet", "daemonsets"),
    ("ReplicaSet", "replicasets"),
];

/// The pods of a hub, and what makes them.
pub struct RunningPods(Objects);

impl RunningPods {
    /// Those in this store.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        Self(objects)
    }
}

impl Running for RunningPods {
    fn users(&self, manifest: &Digest, names: &dyn Fn(&str) -> bool) -> Users {
        let snapshot = self.0.store().snapshot();
        let all =
            |group: &str, plural: &str| snapshot.range(&all_of(Resource::new(group, plural)), None);
        let mut census = Census::default();
        for pod in all("", "pods").filter(|pod| is_active(pod)) {
            if runs(&pod, manifest, names) {
                census.take_pod(&*snapshot, &pod);
            }
        }
        for holder in HOLDERS.into_iter().flat_map(|(group, plural)| all(group, plural)) {
            if !census.has_pods_of(&holder) && runs(&holder, manifest, names) {
                census.take_holder(&*snapshot, &holder);
            }
        }
        census.users()
    }
}

/// Who was found so far.
#[derive(Default)]
struct Census {
    users: Users,
    restarts: BTreeSet<String>,
    /// The controllers of the pods, with the revision that a pod says it is of.
    controllers: BTreeSet<(Uid, Option<String>)>,
}

impl Census {
    fn take_pod(&mut self, snapshot: &dyn Snapshot, pod: &Stored) {
        self.users.pods += 1;
        match rolled_out(snapshot, pod) {
            Some(owner) => drop(self.restarts.insert(restart(&owner.key))),
            None => self.users.loose += 1,
        }
        if let Some(uid) = controller_of(pod) {
            let revision = pod.object.header.labels.get(REVISION_LABEL);
            self.controllers.insert((uid.clone(), None));
            self.controllers.extend(revision.map(|revision| (uid.clone(), Some(revision.clone()))));
        }
    }

    /// Whether a pod of this template was found.
    fn has_pods_of(&self, holder: &Stored) -> bool {
        let header = &holder.object.header;
        if holder.key.resource.plural() != "controllerrevisions" {
            return self.controllers.contains(&(header.uid.clone(), None));
        }
        let Some(owner) = controller_of(holder) else { return false };
        let hash = header.labels.get(REVISION_LABEL).cloned();
        let mut called = [Some(holder.key.name.to_string()), hash].into_iter().flatten();
        called.any(|name| self.controllers.contains(&(owner.clone(), Some(name))))
    }

    fn take_holder(&mut self, snapshot: &dyn Snapshot, holder: &Stored) {
        if is_over(holder) {
            return;
        }
        self.users.without_pods += 1;
        // An old one keeps it for a roll-back, which a restart does not change.
        self.restarts.extend(newest_of(snapshot, holder).map(|owner| restart(&owner.key)));
    }

    fn users(mut self) -> Users {
        let more = self.restarts.len().saturating_sub(RESTARTS_NAMED_MAX);
        self.users.restarts = self.restarts.into_iter().take(RESTARTS_NAMED_MAX).collect();
        if 0 < more {
            self.users.restarts.push(format!("and {more} more"));
        }
        self.users
    }
}

/// Whether a pod, or the pods of a template, run this.
fn runs(object: &Stored, manifest: &Digest, names: &dyn Fn(&str) -> bool) -> bool {
    // Most run something else, and their bodies need not be parsed to see it.
    let is_there = |body: &str| body.contains(&manifest.hex());
    if !std::str::from_utf8(&object.object.body).is_ok_and(is_there) {
        return false;
    }
    let Ok(value) = object.object.value() else { return false };
    let pins = Pins::of(&value);
    images_in(&value).iter().any(|image| pins.stands_for(image, manifest) && names(image))
}

/// Whether it is a Job that makes no pods any more.
fn is_over(holder: &Stored) -> bool {
    holder.key.resource.plural() == "jobs"
        && Wanted::read(holder).is_ok_and(|job| job.deleting || job.is_finished())
}

/// What `kubectl rollout` knows of the pod: its Deployment, StatefulSet or DaemonSet.
fn rolled_out(snapshot: &dyn Snapshot, pod: &Stored) -> Option<Arc<Stored>> {
    let owner = controller(snapshot, pod)?;
    if owner.key.resource.plural() == "replicasets" {
        controller(snapshot, &owner)
    } else {
        Some(owner)
    }
}

/// What has this template now, where it has had others: the Deployment of a ReplicaSet, the set of a revision.
fn newest_of(snapshot: &dyn Snapshot, holder: &Stored) -> Option<Arc<Stored>> {
    let owner = controller(snapshot, holder)?;
    let (kept, now) = (holder.object.value().ok()?, owner.object.value().ok()?);
    let is_newest = match kept.pointer("/data/spec/template") {
        Some(template) => is_same(template, &now["spec"]["template"]),
        None => {
            let revision = |of: &Value| {
                let revision = of["metadata"]["annotations"][REVISION_ANNOTATION].as_str();
                revision.map(str::to_owned)
            };
            revision(&kept)? == revision(&now)?
        }
    };
    is_newest.then_some(owner)
}

/// Whether a revision's template, which is a patch, makes a set's of it.
fn is_same(patch: &Value, template: &Value) -> bool {
    let mut patched = patch.clone();
    if let Some(fields) = patched.as_object_mut() {
        fields.remove("$patch");
    }
    patched == *template
}

/// What controls it, if that is rolled out or made for it, and still there.
fn controller(snapshot: &dyn Snapshot, of: &Stored) -> Option<Arc<Stored>> {
    let owner = of.object.header.owners.iter().find(|owner| owner.controller)?;
    let (_, plural) = ROLLED_OUT.iter().find(|(kind, _)| owner.kind == *kind)?;
    let Key { cluster, namespace, .. } = &of.key;
    let key = Key::new(&Resource::new("apps", plural), cluster, namespace, &owner.name);
    snapshot.get(&key).filter(|it| it.object.header.uid == owner.uid)
}

/// What to type.
fn restart(rolled_out: &Key) -> String {
    let Key { resource, cluster, namespace, name } = rolled_out;
    let whose = if cluster.is_root() { String::new() } else { format!(" (in cluster {cluster})") };
    let kind = resource.plural().trim_end_matches('s');
    format!("kubectl -n {namespace} rollout restart {kind}/{name}{whose}")
}
