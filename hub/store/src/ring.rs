//! Recent events, kept once for all watchers: a history for each resource.
//!
//! ```text
//! publish ─▶ shelf of the resource ─▶ watchers of all clusters
//!        └─▶ shelf of (resource, cluster) ─▶ that cluster's watchers
//! ```
//!
//! Records of `internal` resources have no history: their events wait for those who follow them, and for nobody else.
//!
//! Guarantees:
//! - a watcher hears of its own scopes only (`a_scope_sees_its_own_events_only`);
//! - it misses nothing (`every_watcher_sees_every_revision_under_load`);
//! - or learns that events it never saw were dropped (`a_watcher_that_fell_behind_is_told`);
//! - who reads slowly holds little of what it has forgotten meanwhile (`a_read_of_large_objects_is_short`);
//! - the past counts with all that it holds, texts of keys included
//!   (`former_bodies_count_however_small_what_replaced_them_is`, `long_names_count_as_well`);
//! - the resource that holds most gives first (`a_busy_resource_takes_nobody_elses_past`);
//! - internal records take nobody's past and keep none that was read
//!   (`internal_records_wait_for_their_followers_only`);
//! - what is left of it after a storm of writes is given back (`the_past_is_given_back_when_it_is_old`).
//!
//! Watchers are woken after publishing ([`Calls`]), which their number does not make slower.

mod reading;
mod shelf;

use std::collections::HashSet;
use std::sync::Arc;

use freewheel_hub_schema::object::{Key, Resource};

use crate::bell::Bell;
use crate::{Compacted, Event, Revision, Stored};

pub(crate) use reading::{Reading, Stand};
pub(crate) use shelf::Calls;
use shelf::{Numbered, Place, Shelf, Shelves, Waiters};

/// How much of the past is kept for watchers and older snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events of one resource.
    pub events: usize,
    /// Most bytes of memory that all of them hold beside the objects that are there.
    pub bytes: usize,
}

/// What an event takes by itself, on its shelves.
const EVENT_BYTES: usize = 256;

/// Of the bytes that the past may hold, what it keeps when nobody has written for a while.
const QUIET_SHARE: usize = 8;

/// Dropped from one shelf before it is asked again which is the heaviest.
const DROPPED_AT_ONCE: usize = 64;

impl Default for Limits {
    /// A list in pages survives some ten thousand writes to its resource.
    fn default() -> Self {
        Self { events: 32_768, bytes: 32 << 20 }
    }
}

/// Most events that one read hands out, unless one revision alone has more.
const READ_AT_MOST: usize = 1_024;
/// The same in bytes of their objects: whoever takes long over what was read holds them, also when they are of the past
/// no more.
const READ_BYTES: usize = 256 << 10;

/// Events that one watcher gets, and how far it has come with them.
pub(crate) struct Read {
    pub(crate) events: Vec<Event>,
    pub(crate) upto: Revision,
}

/// The ring.
pub(crate) struct Ring {
    limits: Limits,
    published: Revision,
    /// Revisions up to this one are to be skipped.
    beyond: Revision,
    /// Revisions after the first and up to the second were, each time: whoever has seen one saw it in a future that is
    /// lost. A hub learns of that once, when it has started from an older copy.
    skipped: Vec<(Revision, Revision)>,
    numbers: u64,
    /// The last number when the past was thinned.
    thinned: u64,
    shelves: Shelves,
    /// Who watches everything, or waits for a revision.
    everybody: Waiters,
    next_watcher: u64,
}

impl Ring {
    /// An empty ring of a store that stands at `published`.
    pub(crate) fn new(published: Revision, limits: Limits) -> Self {
        Self {
            limits,
            published,
            beyond: published,
            skipped: Vec::new(),
            numbers: 0,
            thinned: 0,
            shelves: Shelves::new(published),
            everybody: Waiters::default(),
            next_watcher: 0,
        }
    }

    /// The revision up to which everything was published.
    pub(crate) fn published(&self) -> Revision {
        self.published
    }

    /// The oldest revision of the resource that can be watched from; `None`: of all API objects.
    pub(crate) fn oldest(&self, of: Option<&Resource>) -> Revision {
        self.shelves.oldest(of)
    }

    /// What is published next is beyond this revision, and nobody goes on from those in between.
    pub(crate) fn skip_to(&mut self, beyond: Revision) {
        self.beyond = self.beyond.max(beyond);
    }

    fn is_lost(&self, revision: Revision) -> bool {
        self.skipped.iter().any(|(from, upto)| *from < revision && revision <= *upto)
    }

    /// What had been on its way when it was told to skip is not beyond.
    fn note_skip(&mut self, revision: Revision, events: &[Event]) {
        if self.beyond <= self.published || revision <= self.beyond {
            return;
        }
        let before = events.iter().map(|event| event.revision).rfind(|at| *at <= self.beyond);
        self.skipped.push((before.unwrap_or(self.published), self.beyond));
    }

    /// Takes in the events of whole revisions, in order. Who wants them is still to be called.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Event]) -> Calls {
        // Each shelf once per batch, however many of its events are in it.
        let mut called = HashSet::new();
        let mut calls = Vec::new();
        for event in events {
            let Some(key) = event.key() else { continue };
            self.numbers += 1;
            let of_resource = self.shelves.of_resource(&key.resource);
            let internal = key.resource.is_internal();
            if internal && !self.keeps_internal(of_resource, event.revision) {
                continue;
            }
            let of_cluster = (!internal).then(|| self.shelves.find(&place_of(key)));
            self.shelves.weigh(of_resource, cost(event));
            let numbered = Numbered { number: self.numbers, event: event.clone() };
            for at in of_cluster.into_iter().chain([of_resource]) {
                let Some(shelf) = self.shelves.get_mut(at) else { continue };
                shelf.events.push_back(numbered.clone());
                if called.insert(at) {
                    shelf.call_into(&mut calls);
                }
            }
            while self.limits.events
                < self.shelves.get(of_resource).map_or(0, |shelf| shelf.events.len())
            {
                self.drop_oldest(of_resource);
            }
        }
        if !self.everybody.is_empty() {
            calls.push(Arc::clone(&self.everybody));
        }
        self.note_skip(revision, events);
        self.published = revision;
        while self.limits.bytes < self.shelves.bytes() {
            let Some(heaviest) = self.shelves.heaviest(|_| true) else { break };
            self.drop_oldest(heaviest);
        }
        Calls(calls)
    }

    /// Drops what was there when this was called last, down to a share of the limit. Called every few minutes, it
    /// gives back what a storm of writes has left, and the newest past stays.
    pub(crate) fn thin(&mut self) {
        let (keep, thinned) = (self.limits.bytes / QUIET_SHARE, self.thinned);
        let is_old =
            |shelf: &Shelf| shelf.events.front().is_some_and(|oldest| oldest.number <= thinned);
        while keep < self.shelves.bytes() {
            let Some(heaviest) = self.shelves.heaviest(is_old) else { break };
            for _ in 0..DROPPED_AT_ONCE {
                let more = keep < self.shelves.bytes();
                if !more || !self.shelves.get(heaviest).is_some_and(is_old) {
                    break;
                }
                self.drop_oldest(heaviest);
            }
        }
        for shelf in self.shelves.of_internal() {
            self.let_go_of_read(shelf);
        }
        self.shelves.shrink();
        self.thinned = self.numbers;
    }

    /// Drops the oldest event of a resource.
    fn drop_oldest(&mut self, of_resource: usize) {
        let dropped = self.shelves.get_mut(of_resource).and_then(Shelf::drop_oldest);
        let Some(event) = dropped else { return };
        self.shelves.lighten(of_resource, cost(&event));
        let Some(key) = event.key().filter(|key| !key.resource.is_internal()) else { return };
        // Both shelves hold its events in the same order, so the oldest here is the oldest there.
        let place = place_of(key);
        let shelf = self.shelves.find(&place);
        self.shelves.get_mut(shelf).and_then(Shelf::drop_oldest);
        self.shelves.tidy(&place);
    }

    /// Whether anybody follows these internal records; what all of them have read goes.
    fn keeps_internal(&mut self, of_resource: usize, revision: Revision) -> bool {
        self.let_go_of_read(of_resource);
        let Some(shelf) = self.shelves.get_mut(of_resource) else { return false };
        if shelf.watchers.is_empty() {
            shelf.dropped = revision;
        }
        !shelf.watchers.is_empty()
    }

    /// Drops the events of a shelf that all its watchers have read.
    fn let_go_of_read(&mut self, of_resource: usize) {
        let Some(shelf) = self.shelves.get(of_resource) else { return };
        let seen = shelf.watchers.iter().map(|(_, bell)| bell.seen());
        let read = seen.min().unwrap_or(Revision::MAX);
        let is_read = |shelf: &Shelf| {
            shelf.events.front().is_some_and(|oldest| oldest.event.revision <= read)
        };
        while self.shelves.get(of_resource).is_some_and(is_read) {
            self.drop_oldest(of_resource);
        }
    }

    /// Puts a watcher on its shelves; no readings: on those of all API objects. Answers its number and where it
    /// stands, for [`Ring::leave`].
    pub(crate) fn join(
        &mut self,
        readings: Vec<Reading>,
        after: Revision,
        bell: &Arc<Bell>,
    ) -> Result<(u64, Vec<Stand>), Compacted> {
        let resources = readings.iter().map(|reading| self.oldest(Some(reading.place.resource())));
        let oldest = resources.max().unwrap_or_else(|| self.oldest(None));
        if after < oldest || self.is_lost(after) {
            return Err(Compacted { asked: after, oldest });
        }
        if readings.is_empty() {
            bell.saw(after);
            return Ok((self.join_everybody(bell), vec![Stand::All]));
        }
        bell.saw(after);
        self.next_watcher += 1;
        let number = self.next_watcher;
        let mut stands = Vec::with_capacity(readings.len());
        for reading in readings {
            let at = self.shelves.find(&reading.place);
            stands.push(Stand::Shelf(reading, at));
            let Some(shelf) = self.shelves.get_mut(at) else { continue };
            let waiters = Arc::make_mut(&mut shelf.watchers);
            // Two readings may be of one shelf.
            if waiters.last().is_none_or(|(last, _)| *last != number) {
                waiters.push((number, Arc::clone(bell)));
            }
        }
        Ok((number, stands))
    }

    /// Calls at every publication.
    pub(crate) fn join_everybody(&mut self, bell: &Arc<Bell>) -> u64 {
        self.next_watcher += 1;
        Arc::make_mut(&mut self.everybody).push((self.next_watcher, Arc::clone(bell)));
        self.next_watcher
    }

    /// Takes a watcher off.
    pub(crate) fn leave(&mut self, stands: &[Stand], watcher: u64) {
        let take_off = |waiters: &mut Waiters| {
            if let Ok(at) = waiters.binary_search_by_key(&watcher, |(number, _)| *number) {
                Arc::make_mut(waiters).remove(at);
            }
        };
        take_off(&mut self.everybody);
        for stand in stands {
            let Stand::Shelf(reading, at) = stand else { continue };
            if let Some(shelf) = self.shelves.get_mut(*at) {
                take_off(&mut shelf.watchers);
            }
            if reading.place.resource().is_internal() {
                self.let_go_of_read(*at);
            }
            self.shelves.tidy(&reading.place);
        }
    }

    /// The events after `after` that any of the stands wants, in order, whole revisions only.
    pub(crate) fn read(&self, stands: &[Stand], after: Revision) -> Result<Read, Compacted> {
        let mut heads = Vec::with_capacity(stands.len());
        for (reading, shelf) in self.shelves_of(stands) {
            if after < shelf.dropped {
                let of = reading.map(|reading| reading.place.resource());
                return Err(Compacted { asked: after, oldest: self.oldest(of) });
            }
            heads.push((reading, shelf.events.range(shelf.first_after(after)..).peekable()));
        }
        let (mut events, mut bytes) = (Vec::<Event>::new(), 0);
        // Merges the shelves by number; an event on several shelves is taken once.
        loop {
            let numbers = heads.iter_mut().filter_map(|(_, head)| Some(head.peek()?.number));
            let Some(number) = numbers.min() else { break };
            let mut taken: Option<&Event> = None;
            for (reading, head) in &mut heads {
                let next = head.next_if(|numbered| numbered.number == number);
                let wanted = next.filter(|numbered| {
                    reading.is_none_or(|reading| reading.wants(&numbered.event))
                });
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

    /// Whether anything after `after` waits for the stands.
    pub(crate) fn waits(&self, stands: &[Stand], after: Revision) -> bool {
        self.shelves_of(stands).any(|(reading, shelf)| {
            let mut rest = shelf.events.range(shelf.first_after(after)..);
            let wants =
                |numbered: &Numbered| reading.is_none_or(|reading| reading.wants(&numbered.event));
            after < shelf.dropped || rest.any(wants)
        })
    }

    fn shelves_of<'a>(
        &'a self,
        stands: &'a [Stand],
    ) -> impl Iterator<Item = (Option<&'a Reading>, &'a Shelf)> {
        stands.iter().flat_map(move |stand| {
            let (reading, all, one) = match stand {
                Stand::Shelf(reading, at) => (Some(reading), &[][..], Some(*at)),
                Stand::All => (None, self.shelves.of_api(), None),
            };
            let at = one.into_iter().chain(all.iter().copied());
            at.filter_map(move |at| Some((reading, self.shelves.get(at)?)))
        })
    }

    /// Every event of the resource after `after`, newest first.
    pub(crate) fn undo(&self, of: &Resource, after: Revision) -> Result<Vec<Event>, Compacted> {
        let oldest = self.oldest(Some(of));
        if after < oldest || self.published < after || self.is_lost(after) {
            return Err(Compacted { asked: after, oldest });
        }
        let shelf = self.shelves.look_up(of);
        let rest = shelf.into_iter().flat_map(|s| s.events.range(s.first_after(after)..).rev());
        Ok(rest.map(|numbered| numbered.event.clone()).collect())
    }
}

/// The shelf of a key's events beside that of its resource.
fn place_of(key: &Key) -> Place {
    Place::Cluster(key.resource.clone(), key.cluster.clone())
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
mod tests;
