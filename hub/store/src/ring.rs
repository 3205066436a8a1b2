//! Recent events, kept once for all watchers.
//!
//! ```text
//! publish ─▶ all ┬─▶ shelf of the resource ─▶ watchers of all clusters
//!                └─▶ shelf of (resource, cluster) ─▶ that cluster's watchers
//! ```
//!
//! Guarantees: a watcher wakes for events of its own shelves only; it misses nothing or learns that
//! events it never saw were dropped; memory is bounded by [`Limits`] however slow a watcher is. What
//! publishing costs does not grow with the number of watchers: they are woken after it ([`Calls`]).

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use freewheel_hub_api::object::{Key, Resource};
use freewheel_link::names::ClusterName;

use crate::bell::Bell;
use crate::{Compacted, Event, Revision, Scope};

/// How much of the past is kept for watchers and older snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events.
    pub events: usize,
    /// Most bytes of object bodies in them.
    pub bytes: usize,
}

impl Default for Limits {
    /// A list in pages survives some ten thousand writes; the bodies are those of old objects, so
    /// this bounds what the past costs in memory.
    fn default() -> Self {
        Self { events: 32_768, bytes: 32 << 20 }
    }
}

/// Most events that one read hands out, unless one revision alone has more.
const READ_AT_MOST: usize = 1_024;

#[derive(Clone)]
struct Numbered {
    number: u64,
    event: Event,
}

/// The events of one part of the key space.
#[derive(Default)]
struct Shelf {
    events: VecDeque<Numbered>,
    /// Revision of the newest event that was dropped from here.
    dropped: Revision,
    watchers: Waiters,
}

/// Watchers by ascending number. Shared with the calls that are under way, so that calling a
/// thousand costs one count; who comes or goes meanwhile copies the list.
type Waiters = Arc<Vec<(u64, Arc<Bell>)>>;

/// Watchers that have something to read. Dropping it calls them, so that none waits on because
/// whoever was to call them went away.
#[must_use]
pub(crate) struct Calls(Vec<Waiters>);

impl Calls {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        for (_, bell) in self.0.iter().flat_map(|waiters| waiters.iter()) {
            bell.ring();
        }
    }
}

impl Shelf {
    fn call_into(&self, calls: &mut Vec<Waiters>) {
        if !self.watchers.is_empty() {
            calls.push(Arc::clone(&self.watchers));
        }
    }

    fn drop_oldest(&mut self) -> Option<Event> {
        let oldest = self.events.pop_front()?.event;
        self.dropped = oldest.revision;
        Some(oldest)
    }

    fn first_after(&self, revision: Revision) -> usize {
        self.events.partition_point(|numbered| numbered.event.revision <= revision)
    }

    /// Nobody reads it and it holds nothing: a new one would be the same to everybody.
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.watchers.is_empty()
    }
}

/// Which shelf a scope reads, and what it leaves out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    All,
    Resource(Resource),
    Cluster { place: (Resource, ClusterName), namespace: Option<Arc<str>> },
}

impl From<Scope> for Reading {
    fn from(scope: Scope) -> Self {
        match scope.cluster {
            None => Self::Resource(scope.resource),
            Some(cluster) => {
                Self::Cluster { place: (scope.resource, cluster), namespace: scope.namespace }
            }
        }
    }
}

impl Reading {
    fn wants(&self, event: &Event) -> bool {
        match self {
            Self::Cluster { namespace: Some(namespace), .. } => {
                event.key().is_some_and(|key| key.namespace == *namespace)
            }
            _ => true,
        }
    }
}

/// Events that one watcher gets, and how far it has come with them.
pub(crate) struct Read {
    pub(crate) events: Vec<Event>,
    pub(crate) upto: Revision,
}

/// The ring.
pub(crate) struct Ring {
    limits: Limits,
    published: Revision,
    numbers: u64,
    bytes: usize,
    all: Shelf,
    resources: HashMap<Resource, Shelf>,
    clusters: HashMap<(Resource, ClusterName), Shelf>,
    next_watcher: u64,
}

impl Ring {
    /// An empty ring of a store that stands at `published`.
    pub(crate) fn new(published: Revision, limits: Limits) -> Self {
        let all = Shelf { dropped: published, ..Shelf::default() };
        Self {
            limits,
            published,
            numbers: 0,
            bytes: 0,
            all,
            resources: HashMap::new(),
            clusters: HashMap::new(),
            next_watcher: 0,
        }
    }

    /// The revision up to which everything was published.
    pub(crate) fn published(&self) -> Revision {
        self.published
    }

    /// The oldest revision that can be watched from.
    pub(crate) fn oldest(&self) -> Revision {
        self.all.dropped
    }

    /// Takes in the events of whole revisions, in order. Who wants them is still to be called.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Event]) -> Calls {
        let mut resources: HashSet<&Resource> = HashSet::new();
        let mut places: HashSet<(&Resource, &ClusterName)> = HashSet::new();
        let mut calls = Vec::new();
        for event in events {
            let Some(key) = event.key() else { continue };
            self.numbers += 1;
            self.bytes += cost(event);
            let numbered = Numbered { number: self.numbers, event: event.clone() };
            // Each shelf once per batch, however many of its events are in it.
            let firsts = [
                places.is_empty(),
                resources.insert(&key.resource),
                places.insert((&key.resource, &key.cluster)),
            ];
            for (shelf, first) in self.shelves_of(key).into_iter().zip(firsts) {
                shelf.events.push_back(numbered.clone());
                if first {
                    shelf.call_into(&mut calls);
                }
            }
        }
        self.published = revision;
        while self.limits.events < self.all.events.len() || self.limits.bytes < self.bytes {
            self.drop_oldest();
        }
        Calls(calls)
    }

    fn shelves_of(&mut self, key: &Key) -> [&mut Shelf; 3] {
        let of_resource = self.resources.entry(key.resource.clone()).or_default();
        let of_cluster =
            self.clusters.entry((key.resource.clone(), key.cluster.clone())).or_default();
        [&mut self.all, of_resource, of_cluster]
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.all.drop_oldest() else { return };
        self.bytes = self.bytes.saturating_sub(cost(&event));
        let Some(key) = event.key() else { return };
        // Every shelf holds its events in the same order, so the oldest of all is the oldest there.
        if let Some(shelf) = self.resources.get_mut(&key.resource) {
            shelf.drop_oldest();
            if shelf.is_idle() {
                self.resources.remove(&key.resource);
            }
        }
        let place = (key.resource.clone(), key.cluster.clone());
        if let Some(shelf) = self.clusters.get_mut(&place) {
            shelf.drop_oldest();
            if shelf.is_idle() {
                self.clusters.remove(&place);
            }
        }
    }

    fn shelf(&self, reading: &Reading) -> Option<&Shelf> {
        match reading {
            Reading::All => Some(&self.all),
            Reading::Resource(resource) => self.resources.get(resource),
            Reading::Cluster { place, .. } => self.clusters.get(place),
        }
    }

    fn shelf_mut(&mut self, reading: &Reading) -> &mut Shelf {
        match reading {
            Reading::All => &mut self.all,
            Reading::Resource(resource) => self.resources.entry(resource.clone()).or_default(),
            Reading::Cluster { place, .. } => self.clusters.entry(place.clone()).or_default(),
        }
    }

    /// Puts a watcher on its shelves; answers its number for [`Ring::leave`].
    pub(crate) fn join(
        &mut self,
        readings: &[Reading],
        after: Revision,
        bell: &Arc<Bell>,
    ) -> Result<u64, Compacted> {
        if after < self.oldest() {
            return Err(Compacted { asked: after, oldest: self.oldest() });
        }
        self.next_watcher += 1;
        let number = self.next_watcher;
        for reading in readings {
            let waiters = Arc::make_mut(&mut self.shelf_mut(reading).watchers);
            // Two readings may be of one shelf.
            if waiters.last().is_none_or(|(last, _)| *last != number) {
                waiters.push((number, Arc::clone(bell)));
            }
        }
        Ok(number)
    }

    /// Takes a watcher off.
    pub(crate) fn leave(&mut self, readings: &[Reading], watcher: u64) {
        for reading in readings {
            let shelf = self.shelf_mut(reading);
            if let Ok(at) = shelf.watchers.binary_search_by_key(&watcher, |(number, _)| *number) {
                Arc::make_mut(&mut shelf.watchers).remove(at);
            }
            let idle = shelf.is_idle();
            match reading {
                Reading::Resource(resource) if idle => {
                    self.resources.remove(resource);
                }
                Reading::Cluster { place, .. } if idle => {
                    self.clusters.remove(place);
                }
                _ => {}
            }
        }
    }

    /// The events after `after` that any of the readings wants, in order, whole revisions only.
    pub(crate) fn read(&self, readings: &[Reading], after: Revision) -> Result<Read, Compacted> {
        let mut heads = Vec::with_capacity(readings.len());
        for reading in readings {
            let Some(shelf) = self.shelf(reading) else { continue };
            if after < shelf.dropped {
                return Err(Compacted { asked: after, oldest: self.oldest() });
            }
            heads.push((reading, shelf.events.range(shelf.first_after(after)..).peekable()));
        }
        let mut events: Vec<Event> = Vec::new();
        // Merges the shelves by number; an event on several shelves is taken once.
        loop {
            let numbers = heads.iter_mut().filter_map(|(_, head)| Some(head.peek()?.number));
            let Some(number) = numbers.min() else { break };
            let mut taken: Option<&Event> = None;
            for (reading, head) in &mut heads {
                let next = head.next_if(|numbered| numbered.number == number);
                let wanted = next.filter(|numbered| reading.wants(&numbered.event));
                taken = taken.or(wanted.map(|numbered| &numbered.event));
            }
            let Some(event) = taken else { continue };
            let last = events.last().map(|last| last.revision);
            if let Some(upto) =
                last.filter(|last| READ_AT_MOST <= events.len() && *last < event.revision)
            {
                return Ok(Read { events, upto });
            }
            events.push(event.clone());
        }
        Ok(Read { events, upto: self.published.max(after) })
    }

    /// Whether anything after `after` waits for the readings.
    pub(crate) fn waits(&self, readings: &[Reading], after: Revision) -> bool {
        readings.iter().any(|reading| {
            self.shelf(reading).is_some_and(|shelf| {
                let mut rest = shelf.events.range(shelf.first_after(after)..);
                after < shelf.dropped || rest.any(|numbered| reading.wants(&numbered.event))
            })
        })
    }

    /// Every event after `after`, newest first.
    pub(crate) fn undo(&self, after: Revision) -> Result<Vec<Event>, Compacted> {
        if after < self.oldest() || self.published < after {
            return Err(Compacted { asked: after, oldest: self.oldest() });
        }
        let rest = self.all.events.range(self.all.first_after(after)..);
        Ok(rest.rev().map(|numbered| numbered.event.clone()).collect())
    }
}

fn cost(event: &Event) -> usize {
    event.now.as_ref().or(event.before.as_ref()).map_or(0, |stored| stored.object.body.len())
}
