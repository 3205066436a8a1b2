//! Who runs a build of a module: what the registry tells those who push another one.
//!
//! Guarantees:
//! - only pods that run or are to run this build under this name count, and who has a Deployment is called by it
//!   (`who_runs_a_build_is_counted_and_called_by_its_deployment`);
//! - ReplicaSets that have no such pod and will run it again are counted too
//!   (`who_will_run_a_build_again_is_counted_too`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_api::images::{Running, Users};
use freewheel_hub_api::pins::{Pins, images_in};
use freewheel_hub_objects::Objects;
use freewheel_hub_schema::object::{Key, Owner, Resource};
use freewheel_hub_store::{Scope, Snapshot, Stored};
use freewheel_link::digest::Digest;

use crate::deployment::observe::REVISION_ANNOTATION;
use crate::pods::is_active;

/// Deployments that are named; more would not be read.
const DEPLOYMENTS_NAMED_MAX: usize = 5;

/// The pods and ReplicaSets of a hub.
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
        let all = |group, plural| Scope {
            resource: Resource::new(group, plural),
            cluster: None,
            namespace: None,
        };
        let (mut users, mut restarts) = (Users::default(), BTreeSet::new());
        let mut seen = BTreeSet::new();
        for pod in snapshot.range(&all("", "pods"), None).filter(|pod| is_active(pod)) {
            if !runs(&pod, manifest, names) {
                continue;
            }
            users.pods += 1;
            let set = set_of(&*snapshot, &pod);
            match set.as_deref().and_then(|set| controller(set, "Deployment")) {
                Some(owner) => drop(restarts.insert(restart(&pod.key, &owner.name))),
                None => users.loose += 1,
            }
            seen.extend(set.map(|set| set.object.header.uid.clone()));
        }
        let sets = [all("apps", "replicasets"), all("", "replicationcontrollers")];
        for set in sets.iter().flat_map(|scope| snapshot.range(scope, None)) {
            if seen.contains(&set.object.header.uid) || !runs(&set, manifest, names) {
                continue;
            }
            users.sets += 1;
            // An old one keeps it for a roll-back, which a restart does not change.
            restarts.extend(newest_of(&*snapshot, &set).map(|name| restart(&set.key, &name)));
        }
        let more = restarts.len().saturating_sub(DEPLOYMENTS_NAMED_MAX);
        users.restarts = restarts.into_iter().take(DEPLOYMENTS_NAMED_MAX).collect();
        if 0 < more {
            users.restarts.push(format!("and {more} Deployments more"));
        }
        users
    }
}

/// Whether a pod, or the pods of a set, run this.
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

/// The ReplicaSet behind a pod.
fn set_of(snapshot: &dyn Snapshot, pod: &Stored) -> Option<Arc<Stored>> {
    let set = controller(pod, "ReplicaSet")?;
    let Key { cluster, namespace, .. } = &pod.key;
    let key = Key::new(&Resource::new("apps", "replicasets"), cluster, namespace, &set.name);
    snapshot.get(&key).filter(|it| it.object.header.uid == set.uid)
}

/// The Deployment whose newest ReplicaSet this is.
fn newest_of(snapshot: &dyn Snapshot, set: &Stored) -> Option<String> {
    let owner = controller(set, "Deployment")?;
    let Key { cluster, namespace, .. } = &set.key;
    let key = Key::new(&Resource::new("apps", "deployments"), cluster, namespace, &owner.name);
    let deployment = snapshot.get(&key).filter(|it| it.object.header.uid == owner.uid)?;
    let revision = |of: &Stored| {
        Some(
            of.object.value().ok()?["metadata"]["annotations"][REVISION_ANNOTATION]
                .as_str()?
                .to_owned(),
        )
    };
    (revision(&deployment)? == revision(set)?).then(|| owner.name.clone())
}

fn controller<'a>(of: &'a Stored, kind: &str) -> Option<&'a Owner> {
    of.object.header.owners.iter().find(|owner| owner.controller && owner.kind == kind)
}

/// What to type.
fn restart(pod: &Key, deployment: &str) -> String {
    let Key { cluster, namespace, .. } = pod;
    let whose = if cluster.is_root() { String::new() } else { format!(" (in cluster {cluster})") };
    format!("kubectl -n {namespace} rollout restart deployment/{deployment}{whose}")
}
