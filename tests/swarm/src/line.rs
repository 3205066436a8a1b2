//! The connections of one spoke, one after the other: made over the socket that it shares, cut when it flaps, counted by
//! what they carry.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;
use freewheel_link::message::{Reason, WelcomeV1};
use freewheel_link::meter::{Carried, Class};
use freewheel_link::quic::Dialer;
use freewheel_link::transport::{Dial, DialError, Transport, code};
use parking_lot::Mutex;

use crate::seen::{Counts, Seen};

/// Classes, and how they are called in figures.
pub(crate) const CLASSES: [(Class, &str); 5] = [
    (Class::Session, "session"),
    (Class::Datagrams, "datagrams"),
    (Class::Logs, "logs"),
    (Class::Tunnels, "tunnels"),
    (Class::Modules, "modules"),
];

/// What was carried, by class in the order of [`CLASSES`].
pub(crate) type ByClass = [Carried; CLASSES.len()];

/// A spoke's way to its hub.
pub(crate) struct Line {
    dialer: Dialer,
    seen: Arc<Seen>,
    counts: Arc<Counts>,
    connections: Mutex<Connections>,
}

#[derive(Default)]
struct Connections {
    newest: Option<Arc<dyn Transport>>,
    /// What those before it have carried.
    before: ByClass,
}

impl Connections {
    fn carried(&self) -> ByClass {
        let mut all = self.before;
        if let Some(newest) = &self.newest {
            for (sum, (class, _)) in all.iter_mut().zip(CLASSES) {
                add(sum, newest.carried(class));
            }
        }
        all
    }
}

pub(crate) const fn add(sum: &mut Carried, more: Carried) {
    sum.sent += more.sent;
    sum.received += more.received;
}

impl Line {
    pub(crate) fn new(dialer: Dialer, seen: Arc<Seen>, counts: Arc<Counts>) -> Self {
        Self { dialer, seen, counts, connections: Mutex::default() }
    }

    /// Ends the newest connection, as a network does that comes and goes.
    pub(crate) fn cut(&self) {
        let newest = self.connections.lock().newest.clone();
        if let Some(newest) = newest {
            newest.close(code::STOPPING, "the line flaps");
        }
    }

    /// What all connections have carried.
    pub(crate) fn carried(&self) -> ByClass {
        self.connections.lock().carried()
    }
}

#[async_trait]
impl Dial for Line {
    async fn dial(&self) -> Result<Arc<dyn Transport>, DialError> {
        let link = self.dialer.dial().await?;
        let mut connections = self.connections.lock();
        connections.before = connections.carried();
        connections.newest = Some(link.clone());
        Ok(link)
    }

    fn welcomed(&self, _: &WelcomeV1) {
        self.seen.greet();
        self.counts.greetings.fetch_add(1, Relaxed);
    }

    fn turned_away(&self, _: &Reason) {
        self.counts.turned_away.fetch_add(1, Relaxed);
    }
}
