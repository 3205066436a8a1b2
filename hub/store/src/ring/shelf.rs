//! The shelves of the ring: the events of one part of the key space, and who waits for them.
//!
//! Guarantees:
//! - a cluster's shelf keeps its number while it holds an event or a watcher, so that a watcher finds it without a
//!   look-up; one that is idle is used again (`an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use freewheel_hub_schema::object::Resource;
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
    /// What the events of a resource hold.
    bytes: usize,
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

impl Place {
    pub(super) fn resource(&self) -> &Resource {
        match self {
            Self::Resource(resource) | Self::Cluster(resource, _) => resource,
        }
    }
}

/// All shelves.
#[derive(Default)]
pub(super) struct Shelves {
    shelves: Vec<Shelf>,
    free: Vec<usize>,
    resources: HashMap<Resource, usize>,
    clusters: HashMap<Place, usize>,
    /// Shelves of resources, in the order in which they came: those of API objects, and the others.
    api: Vec<usize>,
    internal: Vec<usize>,
    /// Of all of them.
    bytes: usize,
    /// Where the store stood at first.
    base: Revision,
}

impl Shelves {
    pub(super) fn new(base: Revision) -> Self {
        Self { base, ..Self::default() }
    }

    /// Shelves of the resources of API objects.
    pub(super) fn of_api(&self) -> &[usize] {
        &self.api
    }

    /// Shelves of other resources.
    pub(super) fn of_internal(&self) -> Vec<usize> {
        self.internal.clone()
    }

    pub(super) fn get(&self, shelf: usize) -> Option<&Shelf> {
        self.shelves.get(shelf)
    }

    pub(super) fn get_mut(&mut self, shelf: usize) -> Option<&mut Shelf> {
        self.shelves.get_mut(shelf)
    }

    /// The resource's shelf, if there is one yet.
    pub(super) fn look_up(&self, resource: &Resource) -> Option<&Shelf> {
        self.get(*self.resources.get(resource)?)
    }

    /// The oldest revision that is kept of the resource, or of all API objects.
    pub(super) fn oldest(&self, of: Option<&Resource>) -> Revision {
        let dropped = match of {
            Some(resource) => self.look_up(resource).map(|shelf| shelf.dropped),
            None => self.api.iter().filter_map(|at| Some(self.get(*at)?.dropped)).max(),
        };
        self.base.max(dropped.unwrap_or_default())
    }

    /// The resource's shelf. It stays: there are as many as kinds, and it knows how far back it goes.
    pub(super) fn of_resource(&mut self, resource: &Resource) -> usize {
        if let Some(shelf) = self.resources.get(resource) {
            return *shelf;
        }
        let shelf = self.new_shelf();
        self.resources.insert(resource.clone(), shelf);
        let list = if resource.is_internal() { &mut self.internal } else { &mut self.api };
        list.push(shelf);
        shelf
    }

    /// The place's shelf, a new one if need be.
    pub(super) fn find(&mut self, place: &Place) -> usize {
        if let Place::Resource(resource) = place {
            return self.of_resource(resource);
        }
        if let Some(shelf) = self.clusters.get(place) {
            return *shelf;
        }
        let shelf = self.new_shelf();
        self.clusters.insert(place.clone(), shelf);
        shelf
    }

    fn new_shelf(&mut self) -> usize {
        let shelf = self.free.pop().unwrap_or(self.shelves.len());
        if shelf == self.shelves.len() {
            self.shelves.push(Shelf::default());
        }
        shelf
    }

    /// What all events hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The shelf of a resource holds so much more.
    pub(super) fn weigh(&mut self, shelf: usize, bytes: usize) {
        self.bytes += bytes;
        if let Some(shelf) = self.shelves.get_mut(shelf) {
            shelf.bytes += bytes;
        }
    }

    /// The shelf of a resource holds so much less.
    pub(super) fn lighten(&mut self, shelf: usize, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(shelf) = self.shelves.get_mut(shelf) {
            shelf.bytes = shelf.bytes.saturating_sub(bytes);
        }
    }

    /// Of the shelves of resources that are `wanted`, the one that holds most.
    pub(super) fn heaviest(&self, wanted: impl Fn(&Shelf) -> bool) -> Option<usize> {
        let all = self.api.iter().chain(&self.internal).copied();
        let bytes = |at: &usize| self.get(*at).map_or(0, |shelf| shelf.bytes);
        let wanted = |at: &usize| self.get(*at).is_some_and(|s| !s.events.is_empty() && wanted(s));
        all.filter(wanted).max_by_key(bytes)
    }

    /// Gives back room that shelves do not need any more.
    pub(super) fn shrink(&mut self) {
        for shelf in &mut self.shelves {
            if shelf.events.len() < shelf.events.capacity() / 4 {
                shelf.events.shrink_to_fit();
            }
        }
    }

    /// Lets go of a cluster's shelf when it is idle.
    pub(super) fn tidy(&mut self, place: &Place) {
        let Some(shelf) = self.clusters.get(place).copied() else { return };
        if let Some(idle) = self.shelves.get_mut(shelf).filter(|shelf| shelf.is_idle()) {
            *idle = Shelf::default();
            self.clusters.remove(place);
            self.free.push(shelf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number() {
        let pods = Resource::new("", "pods");
        let place = |name| Place::Cluster(pods.clone(), ClusterName::try_from(name).unwrap());
        let mut shelves = Shelves::new(7);
        let (one, two) = (shelves.find(&place("pi-1")), shelves.find(&place("pi-2")));
        let watchers = Arc::new(vec![(1, Arc::new(Bell::default()))]);
        shelves.get_mut(two).unwrap().watchers = watchers;
        shelves.get_mut(one).unwrap().dropped = 5;
        shelves.tidy(&place("pi-1"));
        shelves.tidy(&place("pi-2"));
        assert_eq!(shelves.find(&place("pi-3")), one);
        assert_eq!(shelves.get(one).unwrap().dropped, 0, "as new");
        assert_eq!(shelves.find(&place("pi-2")), two);
        assert_ne!(shelves.find(&place("pi-1")), one);
        let all = Place::Resource(pods.clone());
        let at = shelves.find(&all);
        shelves.get_mut(at).unwrap().dropped = 9;
        shelves.tidy(&all);
        assert_eq!((shelves.find(&all), shelves.oldest(Some(&pods))), (at, 9), "it has a past");
        assert_eq!(shelves.oldest(Some(&Resource::new("", "nodes"))), 7);
    }
}
