//! Collects what has no owner any more.
//!
//! ```text
//! owner gone ─▶ dependents deleted            owner deleting, foreground ─▶ dependents first, then it
//!                                             owner deleting, orphan ─▶ references dropped, then it
//! ```
//!
//! Guarantees: an object goes only when every owner it names is absent by UID in the same snapshot;
//! an owner of a kind that the hub does not know is never taken for absent.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use freewheel_hub_api::error::ApiError;
use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::kinds;
use freewheel_hub_api::object::{Key, Owner};
use freewheel_hub_store::objects::Propagation;
use freewheel_hub_store::{Event, Scope, Snapshot, Stored};
use parking_lot::Mutex;
use serde_json::Value;

use crate::engine::desk::everywhere;
use crate::engine::{Controller, Desk, Error};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// The controller.
pub struct Garbage {
    desk: Desk,
    /// Who names this UID as an owner. Filled from every event; it may name too many, for the store
    /// has the last word.
    dependents: Mutex<HashMap<String, BTreeSet<Key>>>,
}

/// What to do about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Keep,
    /// Forget these owners, which are gone; others are there.
    Drop(Vec<String>),
    /// No owner is left.
    Delete,
    /// Its owner waits for it, and it has dependents of its own.
    DeleteForeground,
}

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is there.
    Solid,
    /// It is there and waits for its dependents to go.
    Waiting,
    /// It is not there.
    Absent,
    /// Its kind is not known here.
    Unknown,
}

/// Decides over an object from how its owners stand.
#[must_use]
pub fn fate(owners: &[(Standing, &Owner)], has_dependents: bool) -> Fate {
    let stands = |what: Standing| owners.iter().any(|(s, _)| *s == what);
    if owners.is_empty() {
        return Fate::Keep;
    }
    if stands(Standing::Solid) || stands(Standing::Unknown) {
        let gone = owners
            .iter()
            .filter(|(s, _)| matches!(s, Standing::Absent | Standing::Waiting))
            .map(|(_, o)| o.uid.clone());
        let gone: Vec<String> = gone.collect();
        return if gone.is_empty() || !stands(Standing::Solid) {
            Fate::Keep
        } else {
            Fate::Drop(gone)
        };
    }
    if stands(Standing::Waiting) && has_dependents {
        return Fate::DeleteForeground;
    }
    Fate::Delete
}

impl Garbage {
    /// Deletes through this desk.
    #[must_use]
    pub fn new(desk: Desk) -> Self {
        Self { desk, dependents: Mutex::default() }
    }

    fn note(&self, event: &Event) {
        let mut index = self.dependents.lock();
        for before in event.before.iter() {
            for owner in &before.object.header.owners {
                if let Some(set) = index.get_mut(&owner.uid) {
                    set.remove(&before.key);
                    if set.is_empty() {
                        index.remove(&owner.uid);
                    }
                }
            }
        }
        for now in event.now.iter() {
            for owner in &now.object.header.owners {
                index.entry(owner.uid.clone()).or_default().insert(now.key.clone());
            }
        }
    }

    fn dependents_of(&self, uid: &str, snapshot: &dyn Snapshot) -> Vec<Arc<Stored>> {
        let keys: Vec<Key> =
            self.dependents.lock().get(uid).into_iter().flatten().cloned().collect();
        let stored = keys.iter().filter_map(|key| snapshot.get(key));
        stored.filter(|s| s.object.header.owners.iter().any(|o| o.uid == uid)).collect()
    }

    async fn before_owner(&self, owner: &Stored, snapshot: &dyn Snapshot) -> Result<(), Error> {
        let uid = &owner.object.header.uid;
        let dependents = self.dependents_of(uid, snapshot);
        let blocks =
            |s: &Stored| s.object.header.owners.iter().any(|o| o.uid == *uid && o.block_deletion);
        if !dependents.iter().any(|d| blocks(d)) {
            return self.drop_finalizer(owner, FOREGROUND).await;
        }
        for dependent in dependents.iter().filter(|d| !d.object.header.deleting) {
            self.judge(dependent, snapshot).await?;
        }
        Ok(())
    }

    async fn orphan(&self, owner: &Stored, snapshot: &dyn Snapshot) -> Result<(), Error> {
        let uid = owner.object.header.uid.clone();
        for dependent in self.dependents_of(&uid, snapshot) {
            self.drop_owners(&dependent, std::slice::from_ref(&uid)).await?;
        }
        self.drop_finalizer(owner, ORPHAN).await
    }

    async fn judge(&self, stored: &Stored, snapshot: &dyn Snapshot) -> Result<(), Error> {
        let header = &stored.object.header;
        let owners: Vec<(Standing, &Owner)> =
            header.owners.iter().map(|o| (standing(o, stored, snapshot), o)).collect();
        let has_dependents = !self.dependents_of(&header.uid, snapshot).is_empty();
        let how = match fate(&owners, has_dependents) {
            Fate::Keep => return Ok(()),
            Fate::Drop(gone) => return self.drop_owners(stored, &gone).await,
            Fate::DeleteForeground => Propagation::Foreground,
            Fate::Delete if header.finalizers.iter().any(|f| f == ORPHAN) => Propagation::Orphan,
            Fate::Delete if header.finalizers.iter().any(|f| f == FOREGROUND) => {
                Propagation::Foreground
            }
            Fate::Delete => Propagation::Background,
        };
        let Some(kind) = kind_of(stored) else { return Ok(()) };
        self.desk
            .delete(kind, &stored.key, &header.uid, how)
            .await
            .map_err(Error::api("delete what has no owner"))?;
        Ok(())
    }

    async fn drop_owners(&self, stored: &Stored, gone: &[String]) -> Result<(), Error> {
        let without = |list: &mut Vec<Value>| {
            list.retain(|o| !gone.iter().any(|uid| o["uid"].as_str() == Some(uid)));
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
        let Some(kind) = kind_of(stored) else { return Ok(()) };
        let uid = stored.object.header.uid.as_str();
        let edited = self
            .desk
            .modify(kind, &stored.key, None, |mut value| {
                if value["metadata"]["uid"].as_str() != Some(uid) {
                    return Err(ApiError::not_found(kind.group, kind.plural, &stored.key.name));
                }
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

/// The kind under which a stored object is written: that of its own body.
fn kind_of(stored: &Stored) -> Option<&'static Kind> {
    let storage = &stored.key.resource;
    kinds::all().iter().copied().find(|k| k.storage() == *storage)
}

fn standing(owner: &Owner, dependent: &Stored, snapshot: &dyn Snapshot) -> Standing {
    let Some(kind) = kinds::by_kind(&owner.api_version, &owner.kind) else {
        return Standing::Unknown;
    };
    let namespace = if kind.namespaced { &*dependent.key.namespace } else { "" };
    let key = Key::new(&kind.storage(), &dependent.key.cluster, namespace, &owner.name);
    match snapshot.get(&key) {
        Some(found) if found.object.header.uid == owner.uid => {
            let header = &found.object.header;
            if header.deleting && header.finalizers.iter().any(|f| f == FOREGROUND) {
                Standing::Waiting
            } else {
                Standing::Solid
            }
        }
        _ => Standing::Absent,
    }
}

#[async_trait]
impl Controller for Garbage {
    fn name(&self) -> &'static str {
        self.desk.name()
    }

    fn scopes(&self) -> Vec<Scope> {
        let mut kinds: Vec<&'static Kind> = kinds::all().to_vec();
        kinds.sort_by_key(|k| k.storage());
        kinds.dedup_by_key(|k| k.storage());
        // Events own nothing and are owned by nothing; there are more of them than of all else.
        kinds.into_iter().filter(|k| k.plural != "events").map(everywhere).collect()
    }

    fn workers(&self) -> usize {
        4
    }

    fn keys(&self, event: &Event, _now: &dyn Snapshot) -> Vec<Key> {
        self.note(event);
        let mut keys = Vec::new();
        match (&event.now, &event.before) {
            (Some(now), before) => {
                let header = &now.object.header;
                let same = before.as_ref().is_some_and(|b| {
                    let before = &b.object.header;
                    before.owners == header.owners
                        && before.deleting == header.deleting
                        && before.finalizers == header.finalizers
                });
                let interesting = !header.owners.is_empty() || header.deleting;
                if interesting && !same {
                    keys.push(now.key.clone());
                }
                if header.deleting && before.as_ref().is_none_or(|b| !b.object.header.deleting) {
                    let index = self.dependents.lock();
                    keys.extend(index.get(&header.uid).into_iter().flatten().cloned());
                }
            }
            (None, Some(gone)) => {
                let index = self.dependents.lock();
                keys.extend(index.get(&gone.object.header.uid).into_iter().flatten().cloned());
                // An owner may have waited for this one.
                for owner in &gone.object.header.owners {
                    if let Some(kind) = kinds::by_kind(&owner.api_version, &owner.kind) {
                        let namespace = if kind.namespaced { &*gone.key.namespace } else { "" };
                        let cluster = &gone.key.cluster;
                        keys.push(Key::new(&kind.storage(), cluster, namespace, &owner.name));
                    }
                }
            }
            (None, None) => {}
        }
        keys
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>, Error> {
        let snapshot = self.desk.snapshot();
        let Some(stored) = snapshot.get(key) else { return Ok(None) };
        let header = &stored.object.header;
        if header.deleting {
            if header.finalizers.iter().any(|f| f == ORPHAN) {
                self.orphan(&stored, &*snapshot).await?;
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
        let decide = |first: Standing, second: Standing, dependents: bool| {
            fate(&[(first, &a), (second, &b)], dependents)
        };
        use Standing::{Absent, Solid, Unknown, Waiting};
        assert_eq!(fate(&[], true), Fate::Keep);
        assert_eq!(decide(Solid, Solid, false), Fate::Keep);
        assert_eq!(decide(Solid, Absent, false), Fate::Drop(vec!["b".into()]));
        assert_eq!(decide(Waiting, Solid, false), Fate::Drop(vec!["a".into()]));
        assert_eq!(decide(Absent, Absent, true), Fate::Delete);
        assert_eq!(decide(Absent, Unknown, false), Fate::Keep, "unknown is not absent");
        assert_eq!(decide(Waiting, Absent, true), Fate::DeleteForeground);
        assert_eq!(decide(Waiting, Absent, false), Fate::Delete);
    }
}
