//! Who runs a build of a module: what the registry tells those who push another one.
//!
//! Guarantees:
//! - only pods that run or are to run this build under this name count, and who has a Deployment is called by it
//!   (`who_runs_a_build_is_counted_and_called_by_its_deployment`).

use std::collections::BTreeSet;
use std::sync::Arc;

use freewheel_hub_api::images::{Running, Users};
use freewheel_hub_api::object::{Key, Owner, Resource};
use freewheel_hub_api::pins::Pins;
use freewheel_hub_store::objects::Objects;
use freewheel_hub_store::{Scope, Snapshot, Stored};
use freewheel_link::digest::Digest;

use crate::pods::is_active;

/// Deployments that are named; more would not be read.
const MOST_NAMED: usize = 5;

/// The pods of a hub.
pub struct Pods(Objects);

impl Pods {
    /// Those in this store.
    #[must_use]
    pub fn new(objects: Objects) -> Self {
        Self(objects)
    }
}

impl Running for Pods {
    fn users(&self, manifest: &Digest, names: &dyn Fn(&str) -> bool) -> Users {
        let snapshot = self.0.store().snapshot();
        let scope = Scope { resource: Resource::new("", "pods"), cluster: None, namespace: None };
        let (mut users, mut restarts) = (Users::default(), BTreeSet::new());
        for pod in snapshot.range(&scope, None).filter(|pod| is_active(pod)) {
            if !runs(&pod, manifest, names) {
                continue;
            }
            users.pods += 1;
            match deployment_of(&*snapshot, &pod) {
                Some(name) => {
                    restarts.insert(restart(&pod.key, &name));
                }
                None => users.loose += 1,
            }
        }
        let more = restarts.len().saturating_sub(MOST_NAMED);
        users.restarts = restarts.into_iter().take(MOST_NAMED).collect();
        if 0 < more {
            users.restarts.push(format!("and {more} Deployments more"));
        }
        users
    }
}

fn runs(pod: &Stored, manifest: &Digest, names: &dyn Fn(&str) -> bool) -> bool {
    // Most pods run something else, and their bodies need not be parsed to see it.
    let is_there = |body: &str| body.contains(&manifest.hex());
    if !std::str::from_utf8(&pod.object.body).is_ok_and(is_there) {
        return false;
    }
    let Ok(value) = pod.object.value() else { return false };
    Pins::of(&value).iter().any(|(image, pinned)| pinned == manifest && names(image))
}

/// The Deployment behind the ReplicaSet behind a pod.
fn deployment_of(snapshot: &dyn Snapshot, pod: &Stored) -> Option<String> {
    let set = controller(pod, "ReplicaSet")?;
    let Key { cluster, namespace, .. } = &pod.key;
    let key = Key::new(&Resource::new("apps", "replicasets"), cluster, namespace, &set.name);
    let set: Arc<Stored> = snapshot.get(&key).filter(|it| it.object.header.uid == set.uid)?;
    Some(controller(&set, "Deployment")?.name.clone())
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
