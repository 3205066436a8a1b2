//! What happened, where `kubectl describe` shows it.
//!
//! ```text
//! controller ─say─▶ bounded channel ─▶ correlate: counts, combines, bounds ─▶ writer ─▶ core/v1 Events
//! ```
//!
//! Guarantees:
//! - what repeats counts up in one Event (`what_repeats_counts`);
//! - what is similar is combined (`a_thousand_similar_ones_are_combined`);
//! - one object cannot be talked about without bound (`a_chatterbox_has_to_wait`).
//!
//! Events are a help, not a record: saying one never waits, and they are dropped when the channel is full.

mod correlate;
mod expiry;
mod recent;
mod writer;

use freewheel_hub_api::kind::Kind;
use freewheel_hub_api::object::Key;
use freewheel_hub_store::Stored;
use tokio::sync::mpsc;

pub use expiry::{EVENT_LIFE, Expiry};
pub use writer::Writer;

/// Events that may wait for the writer.
const WAITING: usize = 4096;

/// Something worth telling.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    /// The kind of the object it is about.
    pub(crate) kind: &'static Kind,
    /// Its key.
    pub(crate) key: Key,
    /// Its UID.
    pub(crate) uid: String,
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
}

/// Where controllers tell what they did. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Said>,
}

impl Recorder {
    /// A recorder and the receiving end for a [`Writer`].
    pub(crate) fn channel() -> (Self, mpsc::Receiver<Said>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, receiver)
    }

    /// A recorder that nobody listens to.
    #[must_use]
    pub fn discarding() -> Self {
        Self::channel().0
    }

    /// Something went as it should.
    pub fn normal(
        &self,
        kind: &'static Kind,
        about: &Stored,
        component: &'static str,
        reason: &'static str,
        message: String,
    ) {
        self.say(kind, about, component, "Normal", reason, message);
    }

    /// Something a user should look at.
    pub fn warning(
        &self,
        kind: &'static Kind,
        about: &Stored,
        component: &'static str,
        reason: &'static str,
        message: String,
    ) {
        self.say(kind, about, component, "Warning", reason, message);
    }

    fn say(
        &self,
        kind: &'static Kind,
        about: &Stored,
        component: &'static str,
        severity: &'static str,
        reason: &'static str,
        message: String,
    ) {
        let said = Said {
            kind,
            key: about.key.clone(),
            uid: about.object.header.uid.clone(),
            revision: about.revision,
            component,
            severity,
            reason,
            message,
        };
        // Full or closed: an event is worth less than the work it tells about.
        let _ = self.sender.try_send(said);
    }
}
