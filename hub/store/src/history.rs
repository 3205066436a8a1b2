//! Recent events, kept once for all watchers: a history for each resource.
//!
//! ```text
//! publish ─▶ topic of the resource ─▶ watchers of all clusters
//!        └─▶ topic of (resource, cluster) ─▶ that cluster's watchers
//! ```
//!
//! A cluster's past is its own. Beyond the limit the resource that holds most drops its oldest event, whosever that is,
//! and its cluster keeps it for itself: in a quarter of the room, where the cluster that keeps most gives first. So
//! nobody's past is shorter than that of all clusters together, and who writes much shortens its own.
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
//! - the resource that holds most gives first (`a_busy_resource_takes_nobody_elses_past`), and the cluster that keeps
//!   most of what all have no more (`a_busy_cluster_takes_no_other_cluster_s_past`);
//! - what has just been published is there for those who are called for it, however much it is: whoever has read all
//!   before it misses nothing (`one_large_publication_leaves_nobody_behind_who_had_read_all`);
//! - internal records take nobody's past and keep none that was read
//!   (`internal_records_wait_for_their_followers_only`);
//! - what is left of it after a storm of writes is given back (`the_past_is_given_back_when_it_is_old`);
//! - nobody goes on from before a skip (`nobody_goes_on_from_revisions_that_were_skipped`), and who watches is told
//!   (`who_watches_is_told_of_a_skip`);
//! - a state of long ago is not made again, however little was written since, as etcd's is not that was compacted
//!   (`a_state_has_its_time_and_a_watcher_goes_on`).
//!
//! Watchers are woken after publishing ([`Wakeups`]), which their number does not make slower.

mod cursor;
mod topic;

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use freewheel_hub_schema::object::Key;

use crate::waker::WatchWaker;
use crate::{Compacted, Event, Revision, Stored};

pub(crate) use cursor::{Cursor, Subscription};
use topic::{NumberedEvent, Topic, TopicWatchers, Topics};
pub(crate) use topic::{TopicKey, Wakeups};

/// How much of the past is kept for watchers and older snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most events of one resource.
    pub events: usize,
    /// Most bytes of memory that all of them hold beside the objects that are there, and beside what was published
    /// last.
    pub bytes: usize,
}

impl Limits {
    /// Of the bytes, what is for clusters alone, of what all clusters together have no more.
    const fn kept(&self) -> usize {
        self.bytes / 4
    }

    /// The rest.
    const fn shared(&self) -> usize {
        self.bytes - self.kept()
    }
}

/// What an event takes by itself, on its topics.
const EVENT_BYTES: usize = 256;

/// Of the bytes that the past may hold, what it keeps when nobody has written for a while.
const IDLE_HISTORY_DIVISOR: usize = 8;

/// Dropped from one topic before it is asked again which is the heaviest.
const EVENTS_DROPPED_AT_ONCE: usize = 64;

impl Default for Limits {
    /// A list in pages survives some ten thousand writes to its resource.
    fn default() -> Self {
        Self { events: 32_768, bytes: 32 << 20 }
    }
}

/// Most events that one read hands out, unless one revision alone has more.
const READ_EVENTS_MAX: usize = 1_024;
/// The same in bytes of their objects: whoever takes long over what was read holds them, also when they are of the past
/// no more.
const READ_BYTES_MAX: usize = 256 << 10;

/// Events that one watcher gets, and how far it has come with them.
pub(crate) struct ReadEvents {
    pub(crate) events: Vec<Event>,
    pub(crate) upto: Revision,
}

/// What one read has taken so far.
#[derive(Default)]
struct ReadBatch {
    events: Vec<Event>,
    /// Of their objects.
    bytes: usize,
}

impl ReadBatch {
    /// One more; or, when there is enough and its revision is another, the one that was read to its end.
    fn take(&mut self, event: &Event) -> Option<Revision> {
        let is_much = READ_EVENTS_MAX <= self.events.len() || READ_BYTES_MAX <= self.bytes;
        let last = self.events.last().filter(|_| is_much).map(|last| last.revision);
        if last.is_some_and(|last| last < event.revision) {
            return last;
        }
        self.bytes += [&event.before, &event.now].into_iter().flatten().map(body).sum::<usize>();
        self.events.push(event.clone());
        None
    }
}

/// The history.
pub(crate) struct History {
    limits: Limits,
    published: Revision,
    /// Revisions up to this one are to be skipped.
    beyond: Revision,
    /// Nobody goes on from a revision before this one, as they were skipped: a hub that has started from an older copy
    /// learns late of the future that is lost, and has used some of its revisions again by then.
    begun: Revision,
    /// Revisions that were left out when this life began: who has seen one of them has seen another life's.
    left_out: Range<Revision>,
    numbers: u64,
    /// The last number when the past was thinned, and the revision then.
    trimmed: (u64, Revision),
    /// States before this revision are not made again: it was there when the past was thinned the time before.
    oldest_state: Revision,
    topics: Topics,
    /// Who watches everything, or waits for a revision.
    everybody: TopicWatchers,
    next_watcher: u64,
}

impl History {
    /// An empty history of a store that stands at `published`.
    pub(crate) fn new(published: Revision, limits: Limits) -> Self {
        Self {
            limits,
            published,
            beyond: published,
            begun: 0,
            left_out: 0..0,
            numbers: 0,
            trimmed: (0, published),
            oldest_state: published,
            topics: Topics::new(published),
            everybody: TopicWatchers::default(),
            next_watcher: 0,
        }
    }

    /// The revision up to which everything was published.
    pub(crate) fn published(&self) -> Revision {
        self.published
    }

    /// The oldest revision of this part of the key space that can be watched from; `None`: of all API objects.
    pub(crate) fn oldest(&self, of: Option<&TopicKey>) -> Revision {
        self.topics.oldest(of).max(self.begun)
    }

    /// The oldest revision at which this part of the key space can be read. Who watches goes on with what was written since,
    /// which is as much as it is; to make a state again costs all that was written since, and its reader a list of a time
    /// that is over.
    pub(crate) fn oldest_state(&self, of: &TopicKey) -> Revision {
        self.oldest(Some(of)).max(self.oldest_state)
    }

    /// What is published next is beyond this revision, and nobody goes on from an earlier one.
    pub(crate) fn skip_to(&mut self, beyond: Revision) {
        self.beyond = self.beyond.max(beyond);
    }

    /// What is published next is beyond this revision. Who watches goes on: nothing is lost in between.
    pub(crate) fn leave_out(&mut self, beyond: Revision) {
        self.left_out = self.published + 1..beyond + 1;
    }

    pub(crate) fn left_out(&self) -> Range<Revision> {
        self.left_out.clone()
    }

    /// The oldest revision from which somebody may go on who has seen this one.
    fn oldest_after(&self, seen: Revision, oldest: Revision) -> Revision {
        if self.left_out.contains(&seen) { oldest.max(self.left_out.end) } else { oldest }
    }

    /// Begins anew with the first revision beyond those that are skipped: what had been on its way before is not. Who
    /// watches is told, whatever he watches.
    fn note_skip(&mut self, revision: Revision, wakeups: &mut Vec<TopicWatchers>) {
        if self.published < self.beyond && self.beyond < revision {
            self.begun = self.beyond + 1;
            self.topics.add_all_wakeups(wakeups);
        }
    }

    /// Takes in the events of whole revisions, in order. Who wants them is still to be called.
    pub(crate) fn publish(&mut self, revision: Revision, events: &[Event]) -> Wakeups {
        // Each topic once per batch, however many of its events are in it.
        let mut called = HashSet::new();
        let mut wakeups = Vec::new();
        // What comes now, nobody can have read yet.
        let before = self.numbers;
        let is_old = |topic: &Topic| topic.events.front().is_some_and(|it| it.number <= before);
        for event in events {
            let Some(key) = event.key() else { continue };
            self.numbers += 1;
            let of_resource = self.topics.of_resource(&key.resource);
            let internal = key.resource.is_internal();
            if internal && !self.keeps_internal(of_resource, event.revision) {
                continue;
            }
            let of_cluster = (!internal).then(|| self.topics.find(&topic_key_of(key)));
            self.topics.weigh(of_resource, cost(event));
            let numbered = NumberedEvent { number: self.numbers, event: event.clone() };
            for at in of_cluster.into_iter().chain([of_resource]) {
                let Some(topic) = self.topics.get_mut(at) else { continue };
                topic.events.push_back(numbered.clone());
                if called.insert(at) {
                    topic.add_wakeups(&mut wakeups);
                }
            }
            let most = self.limits.events;
            let is_over = |topic: &Topic| most < topic.events.len() && is_old(topic);
            while self.topics.get(of_resource).is_some_and(is_over) {
                self.drop_oldest(of_resource);
            }
        }
        if !self.everybody.is_empty() {
            wakeups.push(Arc::clone(&self.everybody));
        }
        self.note_skip(revision, &mut wakeups);
        self.published = revision;
        while self.limits.shared() < self.topics.bytes() {
            let Some(heaviest) = self.topics.heaviest(is_old) else { break };
            self.drop_oldest(heaviest);
        }
        Wakeups(wakeups)
    }

    /// Drops what was there when this was called last, down to a share of the limit. Called every few minutes, it
    /// gives back what a storm of writes has left, and the newest past stays. States end then as well, of all that was
    /// written before the call before.
    pub(crate) fn trim(&mut self) {
        let (keep, (trimmed, then)) = (self.limits.shared() / IDLE_HISTORY_DIVISOR, self.trimmed);
        let is_old =
            |topic: &Topic| topic.events.front().is_some_and(|oldest| oldest.number <= trimmed);
        while keep < self.topics.bytes() {
            let Some(heaviest) = self.topics.heaviest(is_old) else { break };
            for _ in 0..EVENTS_DROPPED_AT_ONCE {
                let more = keep < self.topics.bytes();
                if !more || !self.topics.get(heaviest).is_some_and(is_old) {
                    break;
                }
                self.drop_oldest(heaviest);
            }
        }
        let keep = self.limits.kept() / IDLE_HISTORY_DIVISOR;
        while keep < self.topics.kept_bytes()
            && self.topics.heaviest_kept().is_some_and(|oldest| oldest.number <= trimmed)
        {
            self.drop_kept();
        }
        for topic in self.topics.of_internal() {
            self.drop_read(topic);
        }
        self.topics.forget_idle(then);
        self.topics.shrink();
        self.oldest_state = then;
        self.trimmed = (self.numbers, self.published);
    }

    /// Drops the oldest event of a resource: its cluster keeps it while there is room.
    fn drop_oldest(&mut self, of_resource: usize) {
        let dropped = self.topics.get_mut(of_resource).and_then(Topic::drop_oldest);
        let Some(event) = dropped else { return };
        self.topics.lighten(of_resource, cost(&event));
        let Some(key) = event.key().filter(|key| !key.resource.is_internal()) else { return };
        // Both topics hold its events in the same order, so the oldest here is the first there that is not kept yet.
        let topic = self.topics.find(&topic_key_of(key));
        self.topics.keep(topic, cost(&event));
        while self.limits.kept() < self.topics.kept_bytes() {
            self.drop_kept();
        }
    }

    /// Drops the oldest event that is kept for the cluster for which most is.
    fn drop_kept(&mut self) {
        let event = self.topics.drop_kept(cost);
        if let Some(key) = event.as_ref().and_then(Event::key) {
            self.topics.free_idle(&topic_key_of(key));
        }
    }

    /// Whether anybody follows these internal records; what all of them have read goes.
    fn keeps_internal(&mut self, of_resource: usize, revision: Revision) -> bool {
        self.drop_read(of_resource);
        let Some(topic) = self.topics.get_mut(of_resource) else { return false };
        if topic.watchers.is_empty() {
            topic.dropped = revision;
        }
        !topic.watchers.is_empty()
    }

    /// Drops the events of a topic that all its watchers have read.
    fn drop_read(&mut self, of_resource: usize) {
        let Some(topic) = self.topics.get(of_resource) else { return };
        let seen = topic.watchers.iter().map(|(_, waker)| waker.seen());
        let read = seen.min().unwrap_or(Revision::MAX);
        let is_read = |topic: &Topic| {
            topic.events.front().is_some_and(|oldest| oldest.event.revision <= read)
        };
        while self.topics.get(of_resource).is_some_and(is_read) {
            self.drop_oldest(of_resource);
        }
    }

    /// Puts a watcher on its topics; no readings: on those of all API objects. Answers its number and where it
    /// stands, for [`History::leave`].
    pub(crate) fn join(
        &mut self,
        subscriptions: Vec<Subscription>,
        after: Revision,
        waker: &Arc<WatchWaker>,
    ) -> Result<(u64, Vec<Cursor>), Compacted> {
        let each = subscriptions.iter().map(|one| self.oldest(Some(&one.topic_key)));
        let oldest = each.max().unwrap_or_else(|| self.oldest(None));
        let oldest = self.oldest_after(after, oldest);
        if after < oldest {
            return Err(Compacted { asked: after, oldest });
        }
        if subscriptions.is_empty() {
            waker.set_seen(after);
            return Ok((self.join_all_topics(waker), vec![Cursor::All]));
        }
        waker.set_seen(after);
        self.next_watcher += 1;
        let number = self.next_watcher;
        let mut cursors = Vec::with_capacity(subscriptions.len());
        for subscription in subscriptions {
            let at = self.topics.find(&subscription.topic_key);
            cursors.push(Cursor::Topic(subscription, at));
            let Some(topic) = self.topics.get_mut(at) else { continue };
            let waiters = Arc::make_mut(&mut topic.watchers);
            // Two readings may be of one topic.
            if waiters.last().is_none_or(|(last, _)| *last != number) {
                waiters.push((number, Arc::clone(waker)));
            }
        }
        Ok((number, cursors))
    }

    /// Calls at every publication.
    pub(crate) fn join_all_topics(&mut self, waker: &Arc<WatchWaker>) -> u64 {
        self.next_watcher += 1;
        Arc::make_mut(&mut self.everybody).push((self.next_watcher, Arc::clone(waker)));
        self.next_watcher
    }

    /// Takes a watcher off.
    pub(crate) fn leave(&mut self, cursors: &[Cursor], watcher: u64) {
        let take_off = |waiters: &mut TopicWatchers| {
            if let Ok(at) = waiters.binary_search_by_key(&watcher, |(number, _)| *number) {
                Arc::make_mut(waiters).remove(at);
            }
        };
        take_off(&mut self.everybody);
        for cursor in cursors {
            let Cursor::Topic(subscription, at) = cursor else { continue };
            if let Some(topic) = self.topics.get_mut(*at) {
                take_off(&mut topic.watchers);
            }
            if subscription.topic_key.resource().is_internal() {
                self.drop_read(*at);
            }
            self.topics.free_idle(&subscription.topic_key);
        }
    }

    /// The events after `after` that any of the stands wants, in order, whole revisions only.
    pub(crate) fn read(
        &self,
        cursors: &[Cursor],
        after: Revision,
    ) -> Result<ReadEvents, Compacted> {
        if after < self.begun {
            return Err(Compacted { asked: after, oldest: self.begun });
        }
        for (subscription, topic) in self.topics_of(cursors) {
            if after < topic.dropped {
                let of = subscription.map(|subscription| &subscription.topic_key);
                return Err(Compacted { asked: after, oldest: self.oldest(of) });
            }
        }
        let mut reading = ReadBatch::default();
        // Most watchers read one topic, which is in order as it is.
        let upto = match cursors {
            [Cursor::Topic(subscription, at)] => {
                let topic = self.topics.get(*at);
                let rest = topic.map(|topic| topic.after(after));
                let mut rest = rest.into_iter().flatten().map(|numbered| &numbered.event);
                rest.find_map(|event| subscription.wants(event).then(|| reading.take(event))?)
            }
            several => self.merge(several, after, &mut reading),
        };
        let upto = upto.unwrap_or_else(|| self.published.max(after));
        Ok(ReadEvents { events: reading.events, upto })
    }

    /// Reads several topics by number; an event on several of them is taken once. Answers how far that went, when it is
    /// not all there is.
    fn merge(
        &self,
        cursors: &[Cursor],
        after: Revision,
        reading: &mut ReadBatch,
    ) -> Option<Revision> {
        let mut heads = Vec::with_capacity(cursors.len());
        for (subscription, topic) in self.topics_of(cursors) {
            heads.push((subscription, topic.after(after).peekable()));
        }
        loop {
            let numbers = heads.iter_mut().filter_map(|(_, head)| Some(head.peek()?.number));
            let number = numbers.min()?;
            let mut taken: Option<&Event> = None;
            for (subscription, head) in &mut heads {
                let next = head.next_if(|numbered| numbered.number == number);
                let wanted = next.filter(|numbered| {
                    subscription.is_none_or(|subscription| subscription.wants(&numbered.event))
                });
                taken = taken.or(wanted.map(|numbered| &numbered.event));
            }
            if let Some(event) = taken
                && let Some(upto) = reading.take(event)
            {
                return Some(upto);
            }
        }
    }

    /// Whether anything after `after` waits for the stands.
    pub(crate) fn waits(&self, cursors: &[Cursor], after: Revision) -> bool {
        let mut topics = self.topics_of(cursors);
        after < self.begun
            || topics.any(|(subscription, topic)| {
                let mut rest = topic.after(after);
                let wants = |numbered: &NumberedEvent| {
                    subscription.is_none_or(|subscription| subscription.wants(&numbered.event))
                };
                after < topic.dropped || rest.any(wants)
            })
    }

    fn topics_of<'a>(
        &'a self,
        cursors: &'a [Cursor],
    ) -> impl Iterator<Item = (Option<&'a Subscription>, &'a Topic)> {
        cursors.iter().flat_map(move |cursor| {
            let (subscription, all, one) = match cursor {
                Cursor::Topic(subscription, at) => (Some(subscription), &[][..], Some(*at)),
                Cursor::All => (None, self.topics.of_api(), None),
            };
            let at = one.into_iter().chain(all.iter().copied());
            at.filter_map(move |at| Some((subscription, self.topics.get(at)?)))
        })
    }

    /// Every event of this part of the key space after `after`, newest first.
    pub(crate) fn undo(&self, of: &TopicKey, after: Revision) -> Result<Vec<Event>, Compacted> {
        let oldest = self.oldest_after(after, self.oldest_state(of));
        if after < oldest || self.published < after {
            return Err(Compacted { asked: after, oldest });
        }
        let topic = self.topics.peek(of);
        let rest = topic.into_iter().flat_map(|topic| topic.after(after).rev());
        Ok(rest.map(|numbered| numbered.event.clone()).collect())
    }
}

/// The topic of a key's events beside that of its resource.
fn topic_key_of(key: &Key) -> TopicKey {
    TopicKey::Cluster(key.resource.clone(), key.cluster.clone())
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
