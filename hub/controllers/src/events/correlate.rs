//! What of all that is said becomes an Event, as client-go's correlator decides it. No I/O.
//!
//! ```text
//! said ─▶ same reason, ten different messages ─▶ combined into one Event
//!      ─▶ same message ─▶ one Event that counts
//!      ─▶ too much about one object ─▶ dropped
//! ```
//!
//! Guarantees:
//! - one object has at most ten Events of one reason in a while (`a_thousand_similar_ones_are_combined`);
//! - it is written about at most [`EVENT_BURST`] times at once by one component (`a_chatterbox_has_to_wait`);
//! - memory is bounded (`what_is_used_stays_and_the_rest_is_bounded`).

use std::collections::BTreeSet;
use std::time::Duration;

use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use tokio::time::Instant;

use super::EventDraft;
use super::lru::LruMap;

/// Writes about one object from one component before it has to wait (client-go's spam filter).
const EVENT_BURST: u32 = 25;
/// One more after so long.
const EVENT_REFILL_EVERY: Duration = Duration::from_secs(300);
/// Different messages with one reason about one object: from the tenth on they are combined.
const AGGREGATE_FROM_MESSAGES: usize = 10;
/// Different events, and objects talked about, that are remembered.
const REMEMBERED_EVENTS_MAX: usize = 4096;
/// What was not said for so long is news again.
const AGGREGATE_FOR: Duration = Duration::from_secs(600);
/// What a combined message begins with.
const COMBINED: &str = "(combined from similar events): ";

/// An Event to write.
#[derive(Debug)]
pub(super) struct PendingEvent {
    /// Its key.
    pub(super) event: Key,
    /// What it says.
    pub(super) said: EventDraft,
    /// How often that was said now.
    pub(super) count: u32,
    /// It was not written before.
    pub(super) new: bool,
}

/// Who says what kind of thing about which object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct AggregateKey {
    component: &'static str,
    uid: Uid,
    about: Key,
    reason: &'static str,
    severity: &'static str,
}

/// What makes two things said the same one; combined ones have no message.
type EventKey = (AggregateKey, Option<String>);

#[derive(Debug)]
struct Messages {
    different: BTreeSet<String>,
    last: Instant,
}

#[derive(Debug)]
struct SeenEvent {
    event: Option<Key>,
    last: Instant,
}

#[derive(Debug)]
struct TokenBucket {
    left: u32,
    filled: Instant,
}

impl TokenBucket {
    fn take(&mut self, now: Instant) -> bool {
        while self.left < EVENT_BURST && self.filled + EVENT_REFILL_EVERY <= now {
            self.left += 1;
            self.filled += EVENT_REFILL_EVERY;
        }
        if self.left == EVENT_BURST {
            self.filled = now;
        }
        self.left.checked_sub(1).inspect(|left| self.left = *left).is_some()
    }
}

/// Remembers what was said.
#[derive(Debug)]
pub(super) struct Correlator {
    topics: LruMap<AggregateKey, Messages>,
    seen: LruMap<EventKey, SeenEvent>,
    buckets: LruMap<(&'static str, Uid, Key), TokenBucket>,
}

impl Default for Correlator {
    fn default() -> Self {
        Self {
            topics: LruMap::new(REMEMBERED_EVENTS_MAX),
            seen: LruMap::new(REMEMBERED_EVENTS_MAX),
            buckets: LruMap::new(REMEMBERED_EVENTS_MAX),
        }
    }
}

impl Correlator {
    /// What of a batch is to be written; `name` makes the key of a new Event.
    pub(super) fn correlate(
        &mut self,
        batch: impl Iterator<Item = EventDraft>,
        mut name: impl FnMut(&EventDraft) -> Key,
    ) -> Vec<PendingEvent> {
        let now = Instant::now();
        let mut together: Vec<(EventKey, EventDraft, u32)> = Vec::new();
        for mut said in batch {
            let same = self.combine(&mut said, now);
            match together.iter_mut().find(|(known, ..)| *known == same) {
                Some((_, latest, count)) => {
                    *latest = said;
                    *count += 1;
                }
                None => together.push((same, said, 1)),
            }
        }
        let mut tellings = Vec::new();
        for (same, said, count) in together {
            let who = (said.component, said.uid.clone(), said.key.clone());
            let full = || TokenBucket { left: EVENT_BURST, filled: now };
            if !self.buckets.entry(who, full).take(now) {
                continue;
            }
            let known = self.seen.entry(same, || SeenEvent { event: None, last: now });
            let before = known.event.take().filter(|_| now < known.last + AGGREGATE_FOR);
            let new = before.is_none();
            let event = before.unwrap_or_else(|| name(&said));
            *known = SeenEvent { event: Some(event.clone()), last: now };
            tellings.push(PendingEvent { event, said, count, new });
        }
        tellings
    }

    /// What this is the same as; combined when its topic has too many messages.
    fn combine(&mut self, said: &mut EventDraft, now: Instant) -> EventKey {
        let aggregate_key = AggregateKey {
            component: said.component,
            uid: said.uid.clone(),
            about: said.key.clone(),
            reason: said.reason,
            severity: said.severity,
        };
        let none = || Messages { different: BTreeSet::new(), last: now };
        let messages = self.topics.entry(aggregate_key.clone(), none);
        if messages.last + AGGREGATE_FOR < now {
            messages.different.clear();
        }
        messages.last = now;
        if !messages.different.contains(&said.message) {
            if AGGREGATE_FROM_MESSAGES <= messages.different.len() + 1 {
                said.message.insert_str(0, COMBINED);
                return (aggregate_key, None);
            }
            messages.different.insert(said.message.clone());
        }
        (aggregate_key, Some(said.message.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::client::kind;
    use freewheel_hub_schema::object::Resource;
    use freewheel_link::names::ClusterName;

    fn said(about: &str, reason: &'static str, message: &str) -> EventDraft {
        let kind = kind("", "v1", "pods").unwrap();
        let key = Key::new(kind.storage(), &ClusterName::root(), "default", about);
        EventDraft {
            kind,
            key,
            uid: format!("uid-{about}").into(),
            revision: 1,
            component: "test",
            severity: "Normal",
            reason,
            message: message.to_owned(),
            at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    struct Fixture {
        correlator: Correlator,
        made: u32,
    }

    impl Fixture {
        fn new() -> Self {
            Self { correlator: Correlator::default(), made: 0 }
        }

        fn tell(&mut self, batch: Vec<EventDraft>) -> Vec<PendingEvent> {
            let name = |said: &EventDraft| {
                self.made += 1;
                let name = format!("{}.{}", said.key.name, self.made);
                Key::new(&Resource::new("", "events"), &ClusterName::root(), "default", &name)
            };
            self.correlator.correlate(batch.into_iter(), name)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_repeats_counts() {
        let mut told = Fixture::new();
        let first = told.tell(vec![said("a", "R", "m"), said("a", "R", "m"), said("b", "R", "m")]);
        let counts: Vec<(u32, bool)> = first.iter().map(|t| (t.count, t.new)).collect();
        assert_eq!(counts, [(2, true), (1, true)]);
        let again = told.tell(vec![said("a", "R", "m")]);
        assert_eq!((again[0].new, &again[0].event), (false, &first[0].event));
        tokio::time::advance(AGGREGATE_FOR).await;
        assert!(told.tell(vec![said("a", "R", "m")])[0].new, "after a while it is news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_similar_ones_are_combined() {
        let mut told = Fixture::new();
        let mut written = Vec::new();
        for n in 0..1_000 {
            written.extend(told.tell(vec![said("set", "Created", &format!("pod {n}"))]));
        }
        let events: BTreeSet<&Key> = written.iter().map(|t| &t.event).collect();
        assert_eq!(
            events.len(),
            AGGREGATE_FROM_MESSAGES,
            "nine of their own and one for the others"
        );
        assert_eq!(
            written.len(),
            EVENT_BURST as usize,
            "the combined one counts until it is too much"
        );
        assert_eq!(written[8].said.message, "pod 8");
        assert_eq!(written[9].said.message, format!("{COMBINED}pod 9"));
        assert!(!written[10].new && written[10].said.message.ends_with("pod 10"));
        tokio::time::advance(AGGREGATE_FOR * 2).await;
        let later = told.tell(vec![said("set", "Created", "pod 2000")]);
        assert_eq!(later[0].said.message, "pod 2000");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_of_similar_ones_is_one_write() {
        let mut told = Fixture::new();
        let batch = (0..64).map(|n| said("set", "Created", &format!("pod {n}"))).collect();
        let written = told.tell(batch);
        assert_eq!(written.len(), AGGREGATE_FROM_MESSAGES);
        assert_eq!(written[9].count, 55);
        assert_eq!(written[9].said.message, format!("{COMBINED}pod 63"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_chatterbox_has_to_wait() {
        let mut bucket = TokenBucket { left: EVENT_BURST, filled: Instant::now() };
        let passed = (0..100).filter(|_| bucket.take(Instant::now())).count();
        assert_eq!(passed, 25);
        tokio::time::advance(EVENT_REFILL_EVERY).await;
        assert!(bucket.take(Instant::now()));
        assert!(!bucket.take(Instant::now()));
    }
}
