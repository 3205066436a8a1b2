//! Everything that is stored at one revision: a persistent map, so that keeping a state is O(1).
//!
//! Per resource one ordered set of the stored objects themselves, which know their keys: nodes hold
//! one pointer per object, and copying a path never copies a key. Beside them is what each cluster has in bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Resource};
use imbl::{OrdMap, OrdSet};

use crate::stored_bytes::{StoredBytes, bytes_of};
use crate::{CommitError, Event, Revision, Scope, Snapshot, Stored, counter};

/// The objects of one resource in key order.
type Table = OrdSet<Entry>;

#[derive(Clone)]
struct Entry(Arc<Stored>);

impl Borrow<Key> for Entry {
    fn borrow(&self) -> &Key {
        &self.0.key
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

/// The store at one revision.
#[derive(Clone, Default)]
pub(crate) struct StoreState {
    pub(crate) revision: Revision,
    tables: OrdMap<Resource, Table>,
    bytes: StoredBytes,
}

impl StoreState {
    /// How many bytes each cluster has.
    pub(crate) fn bytes(&self) -> &StoredBytes {
        &self.bytes
    }

    /// What is under the key.
    pub(crate) fn find(&self, key: &Key) -> Option<&Arc<Stored>> {
        self.tables.get(&key.resource)?.get(key).map(|entry| &entry.0)
    }

    /// The counter under the key. What is there and is no counter is a mistake of whoever asks.
    pub(crate) fn counter_at(&self, key: &Key) -> Result<u64, CommitError> {
        let is_none = || {
            let (resource, name) = (&key.resource, &key.name);
            CommitError::Malformed(format!("there is no counter at {resource} {name:?}"))
        };
        if !key.resource.is_internal() {
            return Err(is_none());
        }
        self.find(key).map_or(Ok(0), |stored| counter::read(&stored.object).ok_or_else(is_none))
    }

    /// One resource as it was at this revision, and nobody's bytes: what has happened since is undone.
    pub(crate) fn rebuilt(
        &self,
        resource: &Resource,
        revision: Revision,
        since: impl IntoIterator<Item = Event>,
    ) -> Self {
        let tables = self.tables.get_key_value(resource);
        let tables = tables.map(|(name, table)| (name.clone(), table.clone()));
        let tables = tables.into_iter().collect();
        let mut past = Self { revision, tables, bytes: StoredBytes::default() };
        for event in since {
            match (event.before, event.now) {
                (Some(before), _) => drop(past.insert(before)),
                (None, Some(now)) => drop(past.remove(&now.key)),
                (None, None) => {}
            }
        }
        Self { bytes: StoredBytes::default(), ..past }
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.tables.values().map(OrdSet::len).sum()
    }

    /// Puts it there; answers what was there.
    pub(crate) fn insert(&mut self, stored: Arc<Stored>) -> Option<Arc<Stored>> {
        let come = bytes_of(&stored.key, &stored.object);
        let cluster = stored.key.cluster.clone();
        let before = match self.tables.get_mut(&stored.key.resource) {
            Some(table) => table.insert(Entry(stored)).map(|entry| entry.0),
            None => {
                let resource = stored.key.resource.clone();
                self.tables.insert(resource, Table::unit(Entry(stored)));
                None
            }
        };
        let go = before.as_ref().map_or(0, |before| bytes_of(&before.key, &before.object));
        self.bytes.change(&cluster, come, go);
        before
    }

    /// Takes it away; answers what was there.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Stored>> {
        let table = self.tables.get_mut(&key.resource)?;
        let gone = table.remove(key).map(|entry| entry.0);
        if table.is_empty() {
            self.tables.remove(&key.resource);
        }
        if let Some(gone) = &gone {
            self.bytes.change(&key.cluster, 0, bytes_of(key, &gone.object));
        }
        gone
    }

    /// The resource's name as it is already in memory, so that a million keys share one.
    pub(crate) fn shared_resource(&self, resource: &Resource) -> Option<Resource> {
        self.tables.get_key_value(resource).map(|(shared, _)| shared.clone())
    }

    /// Does what the event says; its revision becomes the state's.
    pub(crate) fn apply(&mut self, event: &Event) {
        match (&event.now, &event.before) {
            (Some(now), _) => drop(self.insert(Arc::clone(now))),
            (None, Some(before)) => drop(self.remove(&before.key)),
            (None, None) => {}
        }
        self.revision = event.revision;
    }
}

impl Snapshot for StoreState {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.find(key).cloned()
    }

    fn range<'a>(
        &'a self,
        scope: &Scope,
        after: Option<&Key>,
    ) -> Box<dyn Iterator<Item = Arc<Stored>> + Send + 'a> {
        let Some(table) = self.tables.get(&scope.resource) else {
            return Box::new(std::iter::empty());
        };
        let first = scope.cluster.as_ref().map(|cluster| {
            let namespace = scope.namespace.as_deref().unwrap_or_default();
            Key::new(&scope.resource, cluster, namespace, "")
        });
        let start = match (after, first) {
            (Some(after), Some(first)) if *after < first => Bound::Included(first),
            (Some(after), _) => Bound::Excluded(after.clone()),
            (None, Some(first)) => Bound::Included(first),
            (None, None) => Bound::Unbounded,
        };
        let scope = scope.clone();
        let rest = table.range::<_, Key>((start, Bound::Unbounded));
        Box::new(
            rest.take_while(move |entry| scope.contains(&entry.0.key)).map(|e| Arc::clone(&e.0)),
        )
    }

    fn stored_bytes(&self) -> StoredBytes {
        self.bytes.clone()
    }

    fn count(&self, scope: &Scope) -> usize {
        match (&scope.cluster, self.tables.get(&scope.resource)) {
            (_, None) => 0,
            (None, Some(table)) => table.len(),
            (Some(_), Some(_)) => self.range(scope, None).count(),
        }
    }
}
