//! The topics of the history: the events of one part of the key space, and who waits for them.
//!
//! Guarantees:
//! - a cluster's topic keeps its number while it holds an event or a watcher, so that a watcher finds it without a
//!   look-up; one that is idle is used again (`an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use freewheel_hub_schema::object::Resource;
use freewheel_link::names::ClusterName;

use crate::waker::WatchWaker;
use crate::{Event, Revision};

#[derive(Clone)]
pub(super) struct NumberedEvent {
    pub(super) number: u64,
    pub(super) event: Event,
}

/// The events of one part of the key space.
#[derive(Default)]
pub(super) struct Topic {
    pub(super) events: VecDeque<NumberedEvent>,
    /// Revision of the newest event that was dropped from here.
    pub(super) dropped: Revision,
    pub(super) watchers: TopicWatchers,
    /// What the events of a resource hold.
    bytes: usize,
}

/// Watchers by ascending number. Shared with the calls that are under way, so that calling a
/// thousand costs one count; who comes or goes meanwhile copies the list.
pub(super) type TopicWatchers = Arc<Vec<(u64, Arc<WatchWaker>)>>;

/// Watchers that have something to read. Dropping it calls them, so that none waits on because
/// whoever was to call them went away.
#[must_use]
pub(crate) struct Wakeups(pub(super) Vec<TopicWatchers>);

impl Wakeups {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Wakeups {
    fn drop(&mut self) {
        for (_, waker) in self.0.iter().flat_map(|waiters| waiters.iter()) {
            waker.wake();
        }
    }
}

impl Topic {
    pub(super) fn add_wakeups(&self, wakeups: &mut Vec<TopicWatchers>) {
        if !self.watchers.is_empty() {
            wakeups.push(Arc::clone(&self.watchers));
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

/// What a topic holds the events of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum TopicKey {
    Resource(Resource),
    Cluster(Resource, ClusterName),
}

impl TopicKey {
    pub(super) fn resource(&self) -> &Resource {
        match self {
            Self::Resource(resource) | Self::Cluster(resource, _) => resource,
        }
    }
}

/// All topics.
#[derive(Default)]
pub(super) struct Topics {
    topics: Vec<Topic>,
    free: Vec<usize>,
    resources: HashMap<Resource, usize>,
    clusters: HashMap<TopicKey, usize>,
    /// Shelves of resources, in the order in which they came: those of API objects, and the others.
    api: Vec<usize>,
    internal: Vec<usize>,
    /// Of all of them.
    bytes: usize,
    /// Where the store stood at first.
    base: Revision,
}

impl Topics {
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

    pub(super) fn get(&self, topic: usize) -> Option<&Topic> {
        self.topics.get(topic)
    }

    pub(super) fn get_mut(&mut self, topic: usize) -> Option<&mut Topic> {
        self.topics.get_mut(topic)
    }

    /// The resource's topic, if there is one yet.
    pub(super) fn look_up(&self, resource: &Resource) -> Option<&Topic> {
        self.get(*self.resources.get(resource)?)
    }

    /// The oldest revision that is kept of the resource, or of all API objects.
    pub(super) fn oldest(&self, of: Option<&Resource>) -> Revision {
        let dropped = match of {
            Some(resource) => self.look_up(resource).map(|topic| topic.dropped),
            None => self.api.iter().filter_map(|at| Some(self.get(*at)?.dropped)).max(),
        };
        self.base.max(dropped.unwrap_or_default())
    }

    /// The resource's topic. It stays: there are as many as kinds, and it knows how far back it goes.
    pub(super) fn of_resource(&mut self, resource: &Resource) -> usize {
        if let Some(topic) = self.resources.get(resource) {
            return *topic;
        }
        let topic = self.new_topic();
        self.resources.insert(resource.clone(), topic);
        let list = if resource.is_internal() { &mut self.internal } else { &mut self.api };
        list.push(topic);
        topic
    }

    /// The place's topic, a new one if need be.
    pub(super) fn find(&mut self, topic_key: &TopicKey) -> usize {
        if let TopicKey::Resource(resource) = topic_key {
            return self.of_resource(resource);
        }
        if let Some(topic) = self.clusters.get(topic_key) {
            return *topic;
        }
        let topic = self.new_topic();
        self.clusters.insert(topic_key.clone(), topic);
        topic
    }

    fn new_topic(&mut self) -> usize {
        let topic = self.free.pop().unwrap_or(self.topics.len());
        if topic == self.topics.len() {
            self.topics.push(Topic::default());
        }
        topic
    }

    /// What all events hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The topic of a resource holds so much more.
    pub(super) fn weigh(&mut self, topic: usize, bytes: usize) {
        self.bytes += bytes;
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.bytes += bytes;
        }
    }

    /// The topic of a resource holds so much less.
    pub(super) fn lighten(&mut self, topic: usize, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.bytes = topic.bytes.saturating_sub(bytes);
        }
    }

    /// Of the topics of resources that are `wanted`, the one that holds most.
    pub(super) fn heaviest(&self, wanted: impl Fn(&Topic) -> bool) -> Option<usize> {
        let all = self.api.iter().chain(&self.internal).copied();
        let bytes = |at: &usize| self.get(*at).map_or(0, |topic| topic.bytes);
        let wanted = |at: &usize| self.get(*at).is_some_and(|s| !s.events.is_empty() && wanted(s));
        all.filter(wanted).max_by_key(bytes)
    }

    /// Gives back room that topics do not need any more.
    pub(super) fn shrink(&mut self) {
        for topic in &mut self.topics {
            if topic.events.len() < topic.events.capacity() / 4 {
                topic.events.shrink_to_fit();
            }
        }
    }

    /// Lets go of a cluster's topic when it is idle.
    pub(super) fn free_idle(&mut self, topic_key: &TopicKey) {
        let Some(topic) = self.clusters.get(topic_key).copied() else { return };
        if let Some(idle) = self.topics.get_mut(topic).filter(|topic| topic.is_idle()) {
            *idle = Topic::default();
            self.clusters.remove(topic_key);
            self.free.push(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number() {
        let pods = Resource::new("", "pods");
        let topic_key =
            |name| TopicKey::Cluster(pods.clone(), ClusterName::try_from(name).unwrap());
        let mut topics = Topics::new(7);
        let (one, two) = (topics.find(&topic_key("pi-1")), topics.find(&topic_key("pi-2")));
        let watchers = Arc::new(vec![(1, Arc::new(WatchWaker::default()))]);
        topics.get_mut(two).unwrap().watchers = watchers;
        topics.get_mut(one).unwrap().dropped = 5;
        topics.free_idle(&topic_key("pi-1"));
        topics.free_idle(&topic_key("pi-2"));
        assert_eq!(topics.find(&topic_key("pi-3")), one);
        assert_eq!(topics.get(one).unwrap().dropped, 0, "as new");
        assert_eq!(topics.find(&topic_key("pi-2")), two);
        assert_ne!(topics.find(&topic_key("pi-1")), one);
        let all = TopicKey::Resource(pods.clone());
        let at = topics.find(&all);
        topics.get_mut(at).unwrap().dropped = 9;
        topics.free_idle(&all);
        assert_eq!((topics.find(&all), topics.oldest(Some(&pods))), (at, 9), "it has a past");
        assert_eq!(topics.oldest(Some(&Resource::new("", "nodes"))), 7);
    }
}
