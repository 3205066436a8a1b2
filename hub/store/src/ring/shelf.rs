//! The shelves of the ring: the events of one part of the key space, and who waits for them.
//!
//! Guarantees:
//! - a shelf keeps its number while it holds an event or a watcher, so that a watcher finds it without a look-up;
//!   one that is idle is used again (`an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use freewheel_hub_api::object::{Key, Resource};
use freewheel_link::names::ClusterName;

use crate::bell::Bell;
use crate::{Event, Revision};

#[derive(Clone)]
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) event: Event,
}

/// The events of one part of the key space.
#[derive(Default)]
pub(super) struct Shelf {
    pub(super) events: VecDeque<Numbered>,
    /// Revision of the newest event that was dropped from here.
    pub(super) dropped: Revision,
    pub(super) watchers: Waiters,
}

/// Watchers by ascending number. Shared with the calls that are under way, so that calling a
/// thousand costs one count; who comes or goes meanwhile copies the list.
pub(super) type Waiters = Arc<Vec<(u64, Arc<Bell>)>>;

/// Watchers that have something to read. Dropping it calls them, so that none waits on because
/// whoever was to call them went away.
#[must_use]
pub(crate) struct Calls(pub(super) Vec<Waiters>);

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
    pub(super) fn call_into(&self, calls: &mut Vec<Waiters>) {
        if !self.watchers.is_empty() {
            calls.push(Arc::clone(&self.watchers));
        }
    }

    pub(super) fn drop_oldest(&mut self) -> Option<Event> {
        let oldest = self.events.pop_front()?.event;
        self.dropped = oldest.revision;
        Some(oldest)
    }

    pub(super) fn first_after(&self, revision: Revision) -> usize {
        self.events.partition_point(|numbered| numbered.event.revision <= revision)
    }

    /// Nobody reads it and it holds nothing: a new one would be the same to everybody.
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.watchers.is_empty()
    }
}

/// What a shelf holds the events of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Resource(Resource),
    Cluster(Resource, ClusterName),
}

/// All shelves; the first is that of everything.
pub(super) struct Shelves {
    shelves: Vec<Shelf>,
    free: Vec<usize>,
    places: HashMap<Place, usize>,
}

/// The shelf of everything.
pub(super) const ALL: usize = 0;

impl Shelves {
    pub(super) fn new(published: Revision) -> Self {
        let all = Shelf { dropped: published, ..Shelf::default() };
        Self { shelves: vec![all], free: Vec::new(), places: HashMap::new() }
    }

    pub(super) fn all(&self) -> &Shelf {
        // Made with the shelves, and none is ever taken out of the list.
        &self.shelves[ALL]
    }

    pub(super) fn get(&self, shelf: usize) -> Option<&Shelf> {
        self.shelves.get(shelf)
    }

    pub(super) fn get_mut(&mut self, shelf: usize) -> Option<&mut Shelf> {
        self.shelves.get_mut(shelf)
    }

    /// The place's shelf, a new one if need be.
    pub(super) fn find(&mut self, place: &Place) -> usize {
        if let Some(shelf) = self.places.get(place) {
            return *shelf;
        }
        let shelf = self.free.pop().unwrap_or(self.shelves.len());
        if shelf == self.shelves.len() {
            self.shelves.push(Shelf::default());
        }
        self.places.insert(place.clone(), shelf);
        shelf
    }

    /// Gives back room that shelves do not need any more.
    pub(super) fn shrink(&mut self) {
        for shelf in &mut self.shelves {
            if shelf.events.len() < shelf.events.capacity() / 4 {
                shelf.events.shrink_to_fit();
            }
        }
    }

    /// Lets go of the place's shelf when it is idle.
    pub(super) fn tidy(&mut self, place: &Place) {
        let Some(shelf) = self.places.get(place).copied() else { return };
        if let Some(idle) = self.shelves.get_mut(shelf).filter(|shelf| shelf.is_idle()) {
            *idle = Shelf::default();
            self.places.remove(place);
            self.free.push(shelf);
        }
    }
}

/// The shelves of a key's events beside [`ALL`].
pub(super) fn places(key: &Key) -> [Place; 2] {
    let resource = || key.resource.clone();
    [Place::Resource(resource()), Place::Cluster(resource(), key.cluster.clone())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number() {
        let place = |name| Place::Resource(Resource::new("", name));
        let mut shelves = Shelves::new(7);
        let (pods, nodes) = (shelves.find(&place("pods")), shelves.find(&place("nodes")));
        let watchers = Arc::new(vec![(1, Arc::new(Bell::default()))]);
        shelves.get_mut(nodes).unwrap().watchers = watchers;
        shelves.get_mut(pods).unwrap().dropped = 5;
        shelves.tidy(&place("pods"));
        shelves.tidy(&place("nodes"));
        assert_eq!(shelves.find(&place("secrets")), pods);
        assert_eq!(shelves.get(pods).unwrap().dropped, 0, "as new");
        assert_eq!(shelves.find(&place("nodes")), nodes);
        assert_ne!(shelves.find(&place("pods")), pods);
        assert_eq!(shelves.all().dropped, 7);
    }
}
