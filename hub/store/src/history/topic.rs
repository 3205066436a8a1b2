//! The topics of the history: the events of one part of the key space, and who waits for them.
//!
//! Guarantees:
//! - a cluster's topic keeps its number while it holds an event or a watcher, so that a watcher finds it without a
//!   look-up; one that is idle is used again (`an_idle_shelf_is_used_again_and_one_in_use_keeps_its_number`);
//! - how far back one goes is known for as long as that is less than what is known of all clusters
//!   (`how_far_back_an_idle_topic_goes_is_known_until_all_go_no_further`).

use std::collections::{BTreeSet, HashMap, VecDeque, vec_deque};
use std::sync::Arc;

use freewheel_hub_schema::object::Resource;
use freewheel_link::names::ClusterName;

use crate::waker::WatchWaker;
use crate::{Event, Revision, Scope};

/// So many of the newest events are looked at one by one, from the last: it is where most readers stand.
const FEW_EVENTS: usize = 4;

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
    /// What the events of a resource hold; of a cluster: those of them that are kept for it alone.
    bytes: usize,
    /// How many of a cluster's events, the first of them, are kept for it alone: the topic of the resource has them no
    /// more.
    kept: usize,
    /// Of a resource: clusters without a topic go back to here.
    floor: Revision,
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

    /// Its events after this revision. Who has read all but the newest few, as watchers have, does not search for them.
    pub(super) fn after(&self, revision: Revision) -> vec_deque::Iter<'_, NumberedEvent> {
        let is_read = |at: usize| {
            self.events.get(at).is_none_or(|numbered| numbered.event.revision <= revision)
        };
        let few = self.events.len().saturating_sub(FEW_EVENTS);
        let first = match (few..self.events.len()).rfind(|at| is_read(*at)) {
            Some(read) => read + 1,
            None => self.events.partition_point(|numbered| numbered.event.revision <= revision),
        };
        self.events.range(first..)
    }

    /// Nobody reads it and it holds nothing: a new one would be the same to everybody.
    fn is_idle(&self) -> bool {
        self.events.is_empty() && self.watchers.is_empty()
    }
}

/// What a topic holds the events of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TopicKey {
    Resource(Resource),
    Cluster(Resource, ClusterName),
}

impl TopicKey {
    pub(crate) fn resource(&self) -> &Resource {
        match self {
            Self::Resource(resource) | Self::Cluster(resource, _) => resource,
        }
    }
}

impl From<&Scope> for TopicKey {
    fn from(scope: &Scope) -> Self {
        let resource = scope.resource.clone();
        match &scope.cluster {
            // Internal records are on one topic.
            Some(cluster) if !resource.is_internal() => Self::Cluster(resource, cluster.clone()),
            _ => Self::Resource(resource),
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
    /// Topics of clusters by what they keep for them alone, and all of that.
    keep: BTreeSet<(usize, usize)>,
    kept_bytes: usize,
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

    /// All who watch some of it.
    pub(super) fn add_all_wakeups(&self, wakeups: &mut Vec<TopicWatchers>) {
        self.topics.iter().for_each(|topic| topic.add_wakeups(wakeups));
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

    /// The oldest revision that is kept of this part of the key space, or of all API objects.
    pub(super) fn oldest(&self, of: Option<&TopicKey>) -> Revision {
        let dropped = match of {
            Some(TopicKey::Resource(resource)) => self.look_up(resource).map(|it| it.dropped),
            Some(of @ TopicKey::Cluster(resource, _)) => {
                let topic = self.clusters.get(of).and_then(|at| self.get(*at));
                topic.map(|topic| topic.dropped).or_else(|| Some(self.look_up(resource)?.floor))
            }
            None => self.api.iter().filter_map(|at| Some(self.get(*at)?.dropped)).max(),
        };
        self.base.max(dropped.unwrap_or_default())
    }

    /// The topic, if there is one.
    pub(super) fn peek(&self, of: &TopicKey) -> Option<&Topic> {
        match of {
            TopicKey::Resource(resource) => self.look_up(resource),
            TopicKey::Cluster(..) => self.get(*self.clusters.get(of)?),
        }
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
        let floor = self.look_up(topic_key.resource()).map_or(0, |of_all| of_all.floor);
        let topic = self.new_topic();
        if let Some(new) = self.topics.get_mut(topic) {
            new.dropped = floor;
        }
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

    /// The topic of the resource has dropped the oldest of this cluster's events that it had: now that is kept for the
    /// cluster alone.
    pub(super) fn keep(&mut self, topic: usize, bytes: usize) {
        let Some(its) = self.topics.get_mut(topic) else { return };
        self.keep.remove(&(its.bytes, topic));
        (its.kept, its.bytes) = (its.kept + 1, its.bytes + bytes);
        self.keep.insert((its.bytes, topic));
        self.kept_bytes += bytes;
    }

    /// What is kept for clusters alone.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept_bytes
    }

    /// The oldest event of the cluster for which most is kept.
    pub(super) fn heaviest_kept(&self) -> Option<&NumberedEvent> {
        let (_, topic) = self.keep.last()?;
        self.get(*topic)?.events.front()
    }

    /// Drops that one.
    pub(super) fn drop_kept(&mut self, cost: impl Fn(&Event) -> usize) -> Option<Event> {
        let (_, at) = self.keep.pop_last()?;
        let topic = self.topics.get_mut(at)?;
        let event = topic.drop_oldest()?;
        let bytes = cost(&event);
        (topic.kept, topic.bytes) = (topic.kept - 1, topic.bytes.saturating_sub(bytes));
        if 0 < topic.kept {
            self.keep.insert((topic.bytes, at));
        }
        self.kept_bytes = self.kept_bytes.saturating_sub(bytes);
        Some(event)
    }

    /// Lets go of a cluster's topic when it is idle and goes back as far as all.
    pub(super) fn free_idle(&mut self, topic_key: &TopicKey) {
        let Some(topic) = self.clusters.get(topic_key).copied() else { return };
        let floor = self.look_up(topic_key.resource()).map_or(0, |of_all| of_all.floor);
        let is_idle = |topic: &&mut Topic| topic.is_idle() && topic.dropped <= floor;
        if let Some(idle) = self.topics.get_mut(topic).filter(is_idle) {
            *idle = Topic::default();
            self.clusters.remove(topic_key);
            self.free.push(topic);
        }
    }

    /// Of clusters whose topics are idle nobody remembers what they dropped up to this revision: all that have none go
    /// back to there.
    pub(super) fn forget_idle(&mut self, upto: Revision) {
        let idle = self.clusters.iter().filter_map(|(topic_key, at)| {
            let topic = self.get(*at).filter(|it| it.is_idle() && it.dropped <= upto)?;
            Some((topic_key.clone(), topic.dropped))
        });
        for (topic_key, dropped) in idle.collect::<Vec<_>>() {
            let of_all = self.of_resource(topic_key.resource());
            if let Some(of_all) = self.topics.get_mut(of_all) {
                of_all.floor = of_all.floor.max(dropped);
            }
            self.free_idle(&topic_key);
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
        assert_eq!((topics.find(&all), topics.oldest(Some(&all))), (at, 9), "it has a past");
        let nodes = TopicKey::Resource(Resource::new("", "nodes"));
        assert_eq!(topics.oldest(Some(&nodes)), 7);
    }

    #[test]
    fn how_far_back_an_idle_topic_goes_is_known_until_all_go_no_further() {
        let pods = Resource::new("", "pods");
        let topic_key =
            |name| TopicKey::Cluster(pods.clone(), ClusterName::try_from(name).unwrap());
        let [one, two] = ["pi-1", "pi-2"].map(topic_key);
        let mut topics = Topics::new(7);
        topics.of_resource(&pods);
        let at = topics.find(&one);
        topics.get_mut(at).unwrap().dropped = 20;
        topics.free_idle(&one);
        let oldest = |topics: &Topics| [&one, &two].map(|of| topics.oldest(Some(of)));
        assert_eq!(oldest(&topics), [20, 7]);
        topics.forget_idle(19);
        assert_eq!(oldest(&topics), [20, 7]);
        topics.forget_idle(20);
        assert_eq!((oldest(&topics), topics.clusters.len()), ([20, 20], 0));
    }
}
