//! Recent events, kept once for all watchers.
//!
//! ```text
//! publish ─▶ all ┬─▶ shelf of the resource ─▶ watchers of all clusters
//!                └─▶ shelf of (resource, cluster) ─▶ that cluster's watchers
//! ```
//!
//! Guarantees:
//! - a watcher hears of its own scopes only (`a_scope_sees_its_own_events_only`);
//! - it misses nothing (`every_watcher_sees_every_revision_under_load`);
//! - or learns that events it never saw were dropped (`a_watcher_that_fell_behind_is_told`);
//! - who reads slowly holds little of what it has forgotten meanwhile (`a_read_of_large_objects_is_short`);
//! - the past counts with what it holds (`former_bodies_count_however_small_what_replaced_them_is`);
//! - what is left of it after a storm of writes is given back (`the_past_is_given_back_when_it_is_old`).
//!
//! Watchers are woken after publishing ([`Calls`]), which their number does not make slower.

mod shelf;

use std::collections::HashSet;
use std::sync::Arc;

use crate::bell::Bell;
use crate::{Compacted, Event, Revision, Scope, Stored};

pub(crate) use shelf::Calls;
use shelf::{ALL, Numbered, Place, Shelf, Shelves, places};

/// How much of the past is kept for watchers and older snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events.
    pub events: usize,
    /// Most bytes of memory that they hold beside the objects that are there.
    pub bytes: usize,
}

/// What an event takes by itself, on its shelves.
const EVENT_BYTES: usize = 256;

/// Of the bytes that the past may hold, what it keeps when nobody has written for a while.
const QUIET_SHARE: usize = 8;

impl Default for Limits {
    /// A list in pages survives some ten thousand writes.
    fn default() -> Self {
        Self { events: 32_768, bytes: 32 << 20 }
    }
}

/// Most events that one read hands out, unless one revision alone has more.
const READ_AT_MOST: usize = 1_024;
/// The same in bytes of their objects: whoever takes long over what was read holds them, also when they are of the past
/// no more.
const READ_BYTES: usize = 256 << 10;

/// Which shelf a scope reads, and what it leaves out of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// None: the shelf of everything.
    place: Option<Place>,
    namespace: Option<Arc<str>>,
}

impl Reading {
    /// Everything.
    pub(crate) const ALL: Self = Self { place: None, namespace: None };
}

impl From<Scope> for Reading {
    fn from(scope: Scope) -> Self {
        match scope.cluster {
            None => Self { place: Some(Place::Resource(scope.resource)), namespace: None },
            Some(cluster) => {
                let place = Some(Place::Cluster(scope.resource, cluster));
                Self { place, namespace: scope.namespace }
            }
        }
    }
}

/// A reading of a watcher that has joined. Its shelf stays where it is until the watcher leaves, so
/// that reading looks nothing up.
pub(crate) struct Stand {
    reading: Reading,
    shelf: usize,
}

impl Stand {
    fn wants(&self, event: &Event) -> bool {
        let Some(namespace) = &self.reading.namespace else { return true };
        event.key().is_some_and(|key| key.namespace == *namespace)
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
    /// Revisions between these were skipped: whoever has seen one saw it in a future that is lost.
    skipped: (Revision, Revision),
    numbers: u64,
    /// The last number when the past was thinned.
    thinned: u64,
    bytes: usize,
    shelves: Shelves,
    next_watcher: u64,
}

impl Ring {
    /// An empty ring of a store that stands at `published`.
    pub(crate) fn new(published: Revision, limits: Limits) -> Self {
        Self {
            limits,
            published,
            skipped: (published, published),
            numbers: 0,
            thinned: 0,
            bytes: 0,
            shelves: Shelves::new(published),
            next_watcher: 0,
        }
    }

    /// The revision up to which everything was published.
    pub(crate) fn published(&self) -> Revision {
        self.published
    }

    /// The oldest revision that can be watched from.
    pub(crate) fn oldest(&self) -> Revision {
        self.shelves.all().dropped
    }

    const fn is_lost(&self, revision: Revision) -> bool {
        self.skipped.0 < revision && revision < self.skipped.1
    }

    /// Takes in the events of whole revisions, in order. Who wants them is still to be called.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Event]) -> Calls {
        // Each shelf once per batch, however many of its events are in it.
        let mut called = HashSet::new();
        let mut calls = Vec::new();
        for event in events {
            let Some(key) = event.key() else { continue };
            self.numbers += 1;
            self.bytes += cost(event);
            let numbered = Numbered { number: self.numbers, event: event.clone() };
            let [resource, cluster] = places(key).map(|place| self.shelves.find(&place));
            for at in [ALL, resource, cluster] {
                let Some(shelf) = self.shelves.get_mut(at) else { continue };
                shelf.events.push_back(numbered.clone());
                if called.insert(at) {
                    shelf.call_into(&mut calls);
                }
            }
        }
        let first = events.first().map_or(revision, |event| event.revision);
        if self.published + 1 < first {
            self.skipped = (self.published, first);
        }
        self.published = revision;
        let Limits { events, bytes } = self.limits;
        while events < self.shelves.all().events.len() || bytes < self.bytes {
            self.drop_oldest();
        }
        Calls(calls)
    }

    /// Drops what was there when this was called last, down to a share of the limit. Called every few minutes, it
    /// gives back what a storm of writes has left, and the newest past stays.
    pub(crate) fn thin(&mut self) {
        let keep = self.limits.bytes / QUIET_SHARE;
        let is_old = |ring: &Self| {
            ring.shelves.all().events.front().is_some_and(|oldest| oldest.number <= ring.thinned)
        };
        while keep < self.bytes && is_old(self) {
            self.drop_oldest();
        }
        self.shelves.shrink();
        self.thinned = self.numbers;
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.shelves.get_mut(ALL).and_then(Shelf::drop_oldest) else { return };
        self.bytes = self.bytes.saturating_sub(cost(&event));
        let Some(key) = event.key() else { return };
        // Every shelf holds its events in the same order, so the oldest of all is the oldest there.
        for place in places(key) {
            let shelf = self.shelves.find(&place);
            self.shelves.get_mut(shelf).and_then(Shelf::drop_oldest);
            self.shelves.tidy(&place);
        }
    }

    /// Puts a watcher on its shelves; answers its number and where it stands, for [`Ring::leave`].
    pub(crate) fn join(
        &mut self,
        readings: Vec<Reading>,
        after: Revision,
        bell: &Arc<Bell>,
    ) -> Result<(u64, Vec<Stand>), Compacted> {
        if after < self.oldest() || self.is_lost(after) {
            return Err(Compacted { asked: after, oldest: self.oldest() });
        }
        self.next_watcher += 1;
        let number = self.next_watcher;
        let mut stands = Vec::with_capacity(readings.len());
        for reading in readings {
            let shelf = reading.place.as_ref().map_or(ALL, |place| self.shelves.find(place));
            stands.push(Stand { reading, shelf });
            let Some(shelf) = self.shelves.get_mut(shelf) else { continue };
            let waiters = Arc::make_mut(&mut shelf.watchers);
            // Two readings may be of one shelf.
            if waiters.last().is_none_or(|(last, _)| *last != number) {
                waiters.push((number, Arc::clone(bell)));
            }
        }
        Ok((number, stands))
    }

    /// Takes a watcher off.
    pub(crate) fn leave(&mut self, stands: &[Stand], watcher: u64) {
        for stand in stands {
            let Some(shelf) = self.shelves.get_mut(stand.shelf) else { continue };
            if let Ok(at) = shelf.watchers.binary_search_by_key(&watcher, |(number, _)| *number) {
                Arc::make_mut(&mut shelf.watchers).remove(at);
            }
        }
        for place in stands.iter().filter_map(|stand| stand.reading.place.as_ref()) {
            self.shelves.tidy(place);
        }
    }

    /// The events after `after` that any of the readings wants, in order, whole revisions only.
    pub(crate) fn read(&self, stands: &[Stand], after: Revision) -> Result<Read, Compacted> {
        let mut heads = Vec::with_capacity(stands.len());
        for stand in stands {
            let Some(shelf) = self.shelves.get(stand.shelf) else { continue };
            if after < shelf.dropped {
                return Err(Compacted { asked: after, oldest: self.oldest() });
            }
            heads.push((stand, shelf.events.range(shelf.first_after(after)..).peekable()));
        }
        let (mut events, mut bytes) = (Vec::<Event>::new(), 0);
        // Merges the shelves by number; an event on several shelves is taken once.
        loop {
            let numbers = heads.iter_mut().filter_map(|(_, head)| Some(head.peek()?.number));
            let Some(number) = numbers.min() else { break };
            let mut taken: Option<&Event> = None;
            for (stand, head) in &mut heads {
                let next = head.next_if(|numbered| numbered.number == number);
                let wanted = next.filter(|numbered| stand.wants(&numbered.event));
                taken = taken.or(wanted.map(|numbered| &numbered.event));
            }
            let Some(event) = taken else { continue };
            let is_much = READ_AT_MOST <= events.len() || READ_BYTES <= bytes;
            let last = events.last().map(|last| last.revision);
            if let Some(upto) = last.filter(|last| is_much && *last < event.revision) {
                return Ok(Read { events, upto });
            }
            bytes += [&event.before, &event.now].into_iter().flatten().map(body).sum::<usize>();
            events.push(event.clone());
        }
        Ok(Read { events, upto: self.published.max(after) })
    }

    /// Whether anything after `after` waits for the readings.
    pub(crate) fn waits(&self, stands: &[Stand], after: Revision) -> bool {
        stands.iter().any(|stand| {
            self.shelves.get(stand.shelf).is_some_and(|shelf| {
                let mut rest = shelf.events.range(shelf.first_after(after)..);
                after < shelf.dropped || rest.any(|numbered| stand.wants(&numbered.event))
            })
        })
    }

    /// Every event after `after`, newest first.
    pub(crate) fn undo(&self, after: Revision) -> Result<Vec<Event>, Compacted> {
        if after < self.oldest() || self.published < after || self.is_lost(after) {
            return Err(Compacted { asked: after, oldest: self.oldest() });
        }
        let all = self.shelves.all();
        let rest = all.events.range(all.first_after(after)..);
        Ok(rest.rev().map(|numbered| numbered.event.clone()).collect())
    }
}

/// What an event holds that nothing else does: the object as it was before. What it became is in the store, or is
/// the former object of a later event.
fn cost(event: &Event) -> usize {
    EVENT_BYTES + event.before.as_ref().map_or(0, |before| before.held())
}

fn body(stored: &Arc<Stored>) -> usize {
    stored.object.body.len()
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use freewheel_hub_api::object::{Header, Key, Object, Resource};
    use freewheel_link::names::ClusterName;

    use super::*;

    const LIMITS: Limits = Limits { events: 10_000, bytes: 1_000_000 };

    /// Objects that are large at first and small ever after, as those whose trouble was told and is over.
    fn shrink(ring: &mut Ring, objects: u64) -> Vec<Weak<Stored>> {
        let stored = |number: u64, revision, body: Vec<u8>| {
            let resource = Resource::new("", "configmaps");
            let key = Key::new(&resource, &ClusterName::root(), "d", &format!("c{number}"));
            let object = Object { header: Header::default(), body: body.into() };
            Arc::new(Stored { key, object, revision, created: revision })
        };
        let mut before = Vec::new();
        for number in 0..objects {
            let revision = ring.published() + 1;
            let large = stored(number, revision, vec![b'x'; 100_000]);
            before.push(Arc::downgrade(&large));
            let made = Event { revision, now: Some(large.clone()), before: None };
            drop(ring.publish(revision, &[made]));
            let small = stored(number, revision + 1, b"{}".to_vec());
            let event = Event { revision: revision + 1, now: Some(small), before: Some(large) };
            drop(ring.publish(revision + 1, &[event]));
        }
        before
    }

    fn alive(before: &[Weak<Stored>]) -> usize {
        before.iter().filter(|old| old.strong_count() != 0).count()
    }

    #[test]
    fn former_bodies_count_however_small_what_replaced_them_is() {
        let mut ring = Ring::new(0, LIMITS);
        let before = shrink(&mut ring, 60);
        assert!((5..=10).contains(&alive(&before)), "{} of 100 kB are held", alive(&before));
        assert!(ring.undo(ring.published() - 4).is_ok(), "the newest past is there");
    }

    #[test]
    fn the_past_is_given_back_when_it_is_old() {
        let mut ring = Ring::new(0, LIMITS);
        let before = shrink(&mut ring, 8);
        ring.thin();
        assert!(alive(&before) == 8, "it is not old yet");
        ring.thin();
        assert!(alive(&before) <= 1, "{} are held", alive(&before));
        let newest = shrink(&mut ring, 3);
        ring.thin();
        assert_eq!(alive(&newest), 3, "the newest is kept");
    }

    #[test]
    fn a_read_of_large_objects_is_short() {
        let mut ring = Ring::new(0, Limits { events: 10_000, bytes: 100 << 20 });
        let (_, stands) = ring.join(vec![Reading::ALL], 0, &Arc::default()).unwrap();
        drop(shrink(&mut ring, 20));
        let (mut seen, mut events) = (0, 0);
        while seen < ring.published() {
            let read = ring.read(&stands, seen).unwrap();
            assert!(read.events.len() <= 3, "{} events of 100 kB", read.events.len());
            (seen, events) = (read.upto, events + read.events.len());
        }
        assert_eq!(events, 40, "nothing is left out");
    }
}
