//! What happened, where `kubectl describe` shows it.
//!
//! ```text
//! controller ─say─▶ bounded channel ─▶ correlate: counts, combines, bounds ─▶ writer ─▶ core/v1 Events
//! ```
//!
//! Guarantees:
//! - what repeats counts up in one Event (`what_repeats_counts`);
//! - what is similar is combined (`a_thousand_similar_ones_are_combined`);
//! - one object cannot be talked about without bound (`a_chatterbox_has_to_wait`);
//! - an Event has the time of what it tells, however late it is written
//!   (`an_event_has_the_time_of_what_it_tells`).
//!
//! Events are a help, not a record: saying one never waits, and they are dropped when the channel is full.

mod correlate;
mod expiry;
mod lru;
mod writer;

use std::sync::Arc;

use freewheel_hub_objects::Objects;
use freewheel_hub_schema::kind::Kind;
use freewheel_hub_schema::object::Key;
use freewheel_hub_schema::uid::Uid;
use freewheel_hub_store::Stored;
use jiff::Timestamp;
use tokio::sync::mpsc;

pub use expiry::{EVENT_TTL, Expiry};
pub use writer::Writer;

use crate::engine::Clock;

/// Events that may wait for the writer.
const WAITING_EVENTS_MAX: usize = 4096;

/// Something worth telling.
#[derive(Clone, Debug)]
pub struct EventDraft {
    /// The kind of the object it is about.
    pub(crate) kind: Arc<Kind>,
    /// Its key.
    pub(crate) key: Key,
    /// Its UID.
    pub(crate) uid: Uid,
    /// Its revision then.
    pub(crate) revision: u64,
    /// Who says it.
    pub(crate) component: &'static str,
    /// `Normal` or `Warning`.
    pub(crate) severity: &'static str,
    /// In one word.
    pub(crate) reason: &'static str,
    /// For people.
    pub(crate) message: String,
    /// When it happened.
    pub(crate) at: Timestamp,
}

/// Where controllers tell what they did. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<EventDraft>,
    clock: Clock,
}

impl Recorder {
    /// A recorder and the receiving end for a [`Writer`]; without one nothing is written.
    #[must_use]
    pub fn channel(objects: &Objects) -> (Self, mpsc::Receiver<EventDraft>) {
        let (sender, receiver) = mpsc::channel(WAITING_EVENTS_MAX);
        (Self { sender, clock: Clock::new(objects.clock().clone()) }, receiver)
    }

    /// Something went as it should.
    pub fn normal(
        &self,
        kind: &Arc<Kind>,
        about: &Stored,
        component: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let at = self.clock.now();
        self.record((kind, about), component, ("Normal", reason), message, at);
    }

    /// Something went as it should, and what others tell of it has a time of its own: this one's is `at`.
    pub(crate) fn normal_at(
        &self,
        at: Timestamp,
        about: (&Arc<Kind>, &Stored),
        component: &'static str,
        reason: &'static str,
        message: String,
    ) {
        self.record(about, component, ("Normal", reason), message, at);
    }

    /// Something a user should look at.
    pub fn warning(
        &self,
        kind: &Arc<Kind>,
        about: &Stored,
        component: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let at = self.clock.now();
        self.record((kind, about), component, ("Warning", reason), message, at);
    }

    fn record(
        &self,
        (kind, about): (&Arc<Kind>, &Stored),
        component: &'static str,
        (severity, reason): (&'static str, &'static str),
        message: String,
        at: Timestamp,
    ) {
        let said = EventDraft {
            kind: kind.clone(),
            key: about.key.clone(),
            uid: about.object.header.uid.clone(),
            revision: about.revision,
            component,
            severity,
            reason,
            message,
            at,
        };
        // Full or closed: an event is worth less than the work it tells about.
        let _ = self.sender.try_send(said);
    }
}
