//! Collects what has no owner any more.
//!
//! ```text
//! owner gone ─▶ dependents deleted            owner deleting, foreground ─▶ dependents first, then it
//!                                             owner deleting, orphan ─▶ references dropped, then it
//! ```
//!
//! Guarantees:
//! - an object goes only when every owner it names is absent (`fates`,
//!   `a_dependent_with_another_owner_stays_and_lets_the_first_one_go`);
//! - an owner of a kind that the hub does not know, or of one that cannot be where the object is, is never taken
//!   for absent (`fates`, `what_lives_in_no_namespace_cannot_miss_an_owner_that_lives_in_one`);
//! - owners that wait for each other do not wait for ever (`owners_of_each_other_do_not_wait_for_ever`).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_objects::{DeleteOptions, Propagation};
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::{Key, Owner};
use freewheel_hub_schema::registry::{Registries, Registry};
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use serde_json::{Value, json};

use crate::engine::client::object_ref;
use crate::engine::{Client, Controller, Error, Faults};
use crate::index::{IndexTerm, Indexes, with_owners};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The controller.
pub struct GarbageCollector {
    client: Client,
    indexes: Indexes,
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GcAction {
    /// Nothing.
    Keep,
    /// Forget these owners, which are gone; others are there.
    Drop(Vec<Uid>),
    /// No owner is left.
    Delete,
    /// Its owner waits for it, and it has dependents of its own.
    DeleteForeground,
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    /// It is there.
    Solid,
    /// It is there and waits for its dependents to go.
    Waiting,
    /// It is not there.
    Absent,
    /// Its kind is not known here.
    Unknown,
    /// It lives in namespaces, and the object that names it in none: nothing says which is meant.
    Elsewhere,
}

/// Decides over an object from how its owners stand.
#[must_use]
pub fn fate(owners: &[(OwnerState, &Owner)], has_dependents: bool) -> GcAction {
    let stands = |what: OwnerState| owners.iter().any(|(s, _)| *s == what);
    if owners.is_empty() {
        return GcAction::Keep;
    }
    let unclear = stands(OwnerState::Unknown) || stands(OwnerState::Elsewhere);
    if stands(OwnerState::Solid) || unclear {
        let gone = owners
            .iter()
            .filter(|(s, _)| matches!(s, OwnerState::Absent | OwnerState::Waiting))
            .map(|(_, o)| o.uid.clone());
        let gone: Vec<Uid> = gone.collect();
        return if gone.is_empty() || !stands(OwnerState::Solid) {
            GcAction::Keep
        } else {
            GcAction::Drop(gone)
        };
    }
    if stands(OwnerState::Waiting) && has_dependents {
        return GcAction::DeleteForeground;
    }
    GcAction::Delete
}

impl GarbageCollector {
    /// Deletes through this client.
    #[must_use]
    pub fn new(client: Client, indexes: Indexes) -> Self {
        Self { client, indexes }
    }

    /// Who names this object as an owner, from where it can be one.
    fn dependents_of(&self, owner: &Stored) -> Vec<Arc<Stored>> {
        let key = &owner.key;
        let found = self.indexes.dependents.find(IndexTerm::Owner(&owner.object.header.uid));
        let all = found.iter().map(|dependent| &dependent.stored);
        let here = all.filter(|d| {
            d.key.cluster == key.cluster
                && (key.namespace.is_empty() || d.key.namespace == key.namespace)
        });
        here.cloned().collect()
    }

    async fn before_owner(&self, owner: &Stored, snapshot: &dyn Snapshot) -> Result<(), Error> {
        let uid = &owner.object.header.uid;
        let dependents = self.dependents_of(owner);
        let blocks =
            |s: &Stored| s.object.header.owners.iter().any(|o| o.uid == *uid && o.block_deletion);
        if !dependents.iter().any(|d| blocks(d)) {
            return self.drop_finalizer(owner, FOREGROUND).await;
        }
        let mut faults = Faults::default();
        for dependent in dependents.iter().filter(|d| !d.object.header.deleting) {
            faults.note(self.judge(dependent, snapshot).await);
        }
        faults.end()
    }

    async fn orphan(&self, owner: &Stored) -> Result<(), Error> {
        let uid = owner.object.header.uid.clone();
        let mut faults = Faults::default();
        for dependent in self.dependents_of(owner) {
            faults.note(self.drop_owners(&dependent, std::slice::from_ref(&uid)).await);
        }
        faults.end()?;
        self.drop_finalizer(owner, ORPHAN).await
    }

    async fn judge(&self, stored: &Stored, snapshot: &dyn Snapshot) -> Result<(), Error> {
        let header = &stored.object.header;
        let registry = self.client.registry(&stored.key.cluster);
        let owners: Vec<(OwnerState, &Owner)> =
            header.owners.iter().map(|o| (standing(&registry, o, stored, snapshot), o)).collect();
        for (_, owner) in owners.iter().filter(|(s, _)| *s == OwnerState::Elsewhere) {
            self.complain(stored, owner);
        }
        let dependents = self.dependents_of(stored);
        let how = match fate(&owners, !dependents.is_empty()) {
            GcAction::Keep => return Ok(()),
            GcAction::Drop(gone) => return self.drop_owners(stored, &gone).await,
            GcAction::DeleteForeground => {
                let circle = dependents.iter().any(|d| waits(d));
                if circle && header.owners.iter().any(|o| o.block_deletion) {
                    // Its owner may wait for it while it would wait for its owner; the change that
                    // ends this brings it back here.
                    return self.unblock(stored).await;
                }
                Propagation::Foreground
            }
            GcAction::Delete if header.finalizers.iter().any(|f| f == ORPHAN) => {
                Propagation::Orphan
            }
            GcAction::Delete if header.finalizers.iter().any(|f| f == FOREGROUND) => {
                Propagation::Foreground
            }
            GcAction::Delete => Propagation::Background,
        };
        self.delete(stored, how).await
    }

    /// Deletes it as it was judged: who was adopted meanwhile is judged again.
    async fn delete(&self, stored: &Stored, how: Propagation) -> Result<(), Error> {
        let Some(kind) = self.kind_of(stored) else { return Ok(()) };
        let options = DeleteOptions {
            uid: Some(stored.object.header.uid.clone()),
            revision: Some(stored.revision),
            propagation: Some(how),
            ..DeleteOptions::default()
        };
        let place = object_ref(&kind, &stored.key);
        if let Err(error) = self.client.objects().delete(self.client.how(), &place, &options).await
            && error.code != 404
        {
            return Err(Error::api("delete what has no owner")(error));
        }
        Ok(())
    }

    fn complain(&self, stored: &Stored, owner: &Owner) {
        let Some(kind) = self.kind_of(stored) else { return };
        let Owner { api_version, kind: owners_kind, name, uid, .. } = owner;
        let namespace = &stored.key.namespace;
        let text = format!(
            "ownerRef [{api_version}/{owners_kind}, namespace: {namespace}, name: {name}, uid: {uid}] \
             does not exist in namespace \"{namespace}\""
        );
        let (recorder, writer) = (&self.client.recorder, self.client.name());
        recorder.warning(&kind, stored, writer, "OwnerRefInvalidNamespace", text);
    }

    /// The kind under which a stored object is written: that of its own body.
    fn kind_of(&self, stored: &Stored) -> Option<Arc<Kind>> {
        self.client.registry(&stored.key.cluster).by_storage(&stored.key.resource).cloned()
    }

    async fn unblock(&self, stored: &Stored) -> Result<(), Error> {
        let open = |list: &mut Vec<Value>| {
            list.iter_mut().for_each(|owner| owner["blockOwnerDeletion"] = json!(false));
        };
        self.edit(stored, "ownerReferences", open).await
    }

    async fn drop_owners(&self, stored: &Stored, gone: &[Uid]) -> Result<(), Error> {
        let without = |list: &mut Vec<Value>| {
            list.retain(|o| !gone.iter().any(|uid| o["uid"] == *uid));
        };
        self.edit(stored, "ownerReferences", without).await
    }

    async fn drop_finalizer(&self, stored: &Stored, name: &str) -> Result<(), Error> {
        self.edit(stored, "finalizers", |list| list.retain(|f| f.as_str() != Some(name))).await
    }

    async fn edit(
        &self,
        stored: &Stored,
        field: &str,
        change: impl Fn(&mut Vec<Value>) + Send + Sync,
    ) -> Result<(), Error> {
        let Some(kind) = self.kind_of(stored) else { return Ok(()) };
        let edited = self
            .client
            .modify_this(&kind, stored, None, |mut value| {
                if let Some(list) = value["metadata"][field].as_array_mut() {
                    change(list);
                }
                Ok(value)
            })
            .await;
        match edited {
            Err(gone) if gone.code == 404 => Ok(()),
            other => other.map(|_| ()).map_err(Error::api("release an object")),
        }
    }
}

fn standing(
    registry: &Registry,
    owner: &Owner,
    dependent: &Stored,
    snapshot: &dyn Snapshot,
) -> OwnerState {
    let Some(kind) = registry.by_kind(&owner.api_version, &owner.kind) else {
        return OwnerState::Unknown;
    };
    if kind.namespaced && dependent.key.namespace.is_empty() {
        return OwnerState::Elsewhere;
    }
    let found = snapshot.get(&key_of_owner(kind, owner, dependent));
    match found.filter(|found| found.object.header.uid == owner.uid) {
        Some(found) if waits(&found) => OwnerState::Waiting,
        Some(_) => OwnerState::Solid,
        None => OwnerState::Absent,
    }
}

fn key_of_owner(kind: &Kind, owner: &Owner, dependent: &Stored) -> Key {
    let namespace = if kind.namespaced { &*dependent.key.namespace } else { "" };
    Key::new(kind.storage(), &dependent.key.cluster, namespace, &owner.name)
}

/// Is deleted once its dependents are.
fn waits(stored: &Stored) -> bool {
    let header = &stored.object.header;
    header.deleting && header.finalizers.iter().any(|f| f == FOREGROUND)
}

/// Owners that this version of an object held up, or may have: all, or those that `now` lets go.
fn released(registry: &Registry, before: &Stored, now: Option<&Stored>) -> Vec<Key> {
    let holds = |owner: &Owner| {
        let owners = now.map(|now| now.object.header.owners.as_slice()).unwrap_or_default();
        owners.iter().any(|o| o.uid == owner.uid && (o.block_deletion || !owner.block_deletion))
    };
    let gone = before.object.header.owners.iter().filter(|owner| !holds(owner));
    gone.filter_map(|owner| {
        let kind = registry.by_kind(&owner.api_version, &owner.kind)?;
        Some(key_of_owner(kind, owner, before))
    })
    .collect()
}

#[async_trait]
impl Controller for GarbageCollector {
    fn name(&self) -> &'static str {
        self.client.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        with_owners(self.client.objects().kinds())
    }

    fn kinds(&self) -> Option<&Registries> {
        Some(self.client.objects().kinds())
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        let (now, before) = (event.now.as_deref(), event.before.as_deref());
        let mut keys = before
            .filter(|before| !before.object.header.owners.is_empty())
            .map(|before| released(&self.client.registry(&before.key.cluster), before, now))
            .unwrap_or_default();
        let dependents = |owner: &Stored| {
            let all = self.dependents_of(owner).into_iter();
            all.map(|dependent| dependent.key.clone()).collect::<Vec<_>>()
        };
        let Some(now) = now else {
            keys.extend(before.map(dependents).unwrap_or_default());
            return keys;
        };
        let header = &now.object.header;
        let same = before.map(|b| &b.object.header).is_some_and(|before| {
            before.owners == header.owners
                && before.deleting == header.deleting
                && before.finalizers == header.finalizers
        });
        if !same && (!header.owners.is_empty() || header.deleting) {
            keys.push(now.key.clone());
        }
        if header.deleting && before.is_none_or(|before| !before.object.header.deleting) {
            keys.extend(dependents(now));
        }
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.client.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let header = &stored.object.header;
        if header.deleting {
            if header.finalizers.iter().any(|f| f == ORPHAN) {
                self.orphan(&stored).await?;
            } else if header.finalizers.iter().any(|f| f == FOREGROUND) {
                self.before_owner(&stored, &*snapshot).await?;
            }
            return Ok(None);
        }
        self.judge(&stored, &*snapshot).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: &str) -> Owner {
        Owner {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            name: uid.into(),
            uid: uid.into(),
            controller: false,
            block_deletion: true,
        }
    }

    #[test]
    fn fates() {
        let (a, b) = (owner("a"), owner("b"));
        let decide = |first: OwnerState, second: OwnerState, dependents: bool| {
            fate(&[(first, &a), (second, &b)], dependents)
        };
        use OwnerState::{Absent, Elsewhere, Solid, Unknown, Waiting};
        assert_eq!(fate(&[], true), GcAction::Keep);
        assert_eq!(decide(Solid, Solid, false), GcAction::Keep);
        assert_eq!(decide(Solid, Absent, false), GcAction::Drop(vec!["b".into()]));
        assert_eq!(decide(Waiting, Solid, false), GcAction::Drop(vec!["a".into()]));
        assert_eq!(decide(Absent, Absent, true), GcAction::Delete);
        assert_eq!(decide(Absent, Unknown, false), GcAction::Keep, "unknown is not absent");
        assert_eq!(decide(Absent, Elsewhere, false), GcAction::Keep, "nor is what may be anywhere");
        assert_eq!(decide(Waiting, Absent, true), GcAction::DeleteForeground);
        assert_eq!(decide(Waiting, Absent, false), GcAction::Delete);
    }
}
